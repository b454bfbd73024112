"""The directives ``document-format`` and ``test-format``: a table of keys for every part of a document or a test file.

They are made from its JSON Schema.

What it says of a key stands once, with the document's models; the schema and these tables are made from it.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

from docutils import nodes
from sphinx.application import Sphinx
from sphinx.util.docutils import SphinxDirective
from sphinx.util.typing import ExtensionMetadata

from profiled_spawner.command.assertions import make_test_schema
from profiled_spawner.document.json_schema import make_schema

Schema = dict[str, Any]


class DocumentFormat(SphinxDirective):
    """Describes every part of the document that has keys of its own, outermost first."""

    def run(self) -> list[nodes.Node]:
        return self.parse_text_to_nodes("\n".join(describe(make_schema(), "The document")), allow_section_headings=True)


class TestFormat(SphinxDirective):
    """Describes every part of a test file, likewise."""

    def run(self) -> list[nodes.Node]:
        return self.parse_text_to_nodes(
            "\n".join(describe(make_test_schema(), "The test file")), allow_section_headings=True
        )


def describe(schema: Schema, title: str) -> Iterator[str]:
    """Makes Markdown of a schema: a heading, a sentence and a table for each mapping that has keys.

    Args:
        schema: The schema.
        title: What the whole is called.
    """
    definitions: dict[str, Schema] = schema["$defs"]
    for path, part in _find_mappings("", schema, definitions, set()):
        yield f"## {_title(path) or title}\n"
        yield f"{part.get('description', '')}\n"
        if path:
            yield f"Its place is `{path}`.\n"
        yield "| key | is | meaning |"
        yield "|---|---|---|"
        for key, child in part["properties"].items():
            child = _resolve(child, definitions)
            required = " (required)" if key in part.get("required", ()) else ""
            meaning = child.get("description", "").replace("|", r"\|")
            yield f"| `{key}`{required} | {_kind(child, definitions)} | {meaning} |"
        for example in part.get("examples", ()):
            yield f"\n```json\n{json.dumps(example, indent=2)}\n```"
        yield ""


def _find_mappings(
    path: str, part: Schema, definitions: dict[str, Schema], seen: set[str]
) -> Iterator[tuple[str, Schema]]:
    """Yields what has keys of ours, by its path such as ``profiles[].env.NAME``, each definition where it first stands.

    An object of Kubernetes says that it is one, and Kubernetes describes its keys.
    """
    if name := _reference(part):
        if name in seen:
            return
        seen.add(name)
        part = _resolve(part, definitions)
    if part.get("description", "").startswith("Kubernetes' "):
        return
    kinds = _kinds(part)
    if "object" in kinds:
        if any("description" in _resolve(child, definitions) for child in part.get("properties", {}).values()):
            yield path, part
        for key, child in part.get("properties", {}).items():
            yield from _find_mappings(f"{path}.{key}".lstrip("."), child, definitions, seen)
        if isinstance(part.get("additionalProperties"), dict):
            yield from _find_mappings(f"{path}.NAME", part["additionalProperties"], definitions, seen)
    if "array" in kinds and isinstance(part.get("items"), dict):
        yield from _find_mappings(f"{path}[]", part["items"], definitions, seen)


def _title(path: str) -> str:
    key = path.removesuffix("[]").removesuffix(".NAME").rpartition(".")[2].removesuffix("[]")
    if path.endswith("[]"):
        return f"An item of `{key}`"
    if path.endswith(".NAME"):
        return f"A value of `{key}`"
    return f"`{key}`" if key else ""


def _kind(part: Schema, definitions: dict[str, Schema]) -> str:
    if "const" in part:
        return f"`{part['const']}`"
    if "enum" in part:
        # A boolean stands there as text too, which is the same.
        texts = (value if isinstance(value, str) else json.dumps(value) for value in part["enum"])
        return " or ".join(f"`{text}`" for text in dict.fromkeys(texts))
    kinds = _kinds(part)
    words = []
    if "boolean" in kinds and "string" not in kinds:
        words.append("`true` or `false`")
    elif kinds & {"string", "number", "integer"}:
        # Where text is wanted, an editor may have made a boolean of it; no quantity looks like one.
        words.append("quantity" if "number" in kinds and "boolean" not in kinds else "text")
    if "object" in kinds:
        words.append("mapping")
    if "array" in kinds:
        items = _resolve(part["items"], definitions) if isinstance(part.get("items"), dict) else {}
        words.append({frozenset({"object"}): "list of mappings"}.get(frozenset(_kinds(items)), "list"))
    if "null" in kinds:
        words.append("`null`")
    return " or ".join(words)


def _kinds(part: Schema) -> set[str]:
    kinds = part.get("type", ())
    return {kinds} if isinstance(kinds, str) else set(kinds)


def _reference(part: Schema) -> str:
    reference: str = part.get("$ref", "")
    return reference.removeprefix("#/$defs/")


def _resolve(part: Schema, definitions: dict[str, Schema]) -> Schema:
    name = _reference(part)
    # What stands beside a reference is said of this use of it.
    beside = {key: value for key, value in part.items() if key != "$ref"}
    return {**_resolve(definitions[name], definitions), **beside} if name else part


def setup(app: Sphinx) -> ExtensionMetadata:
    """Registers the directive."""
    app.add_directive("document-format", DocumentFormat)
    app.add_directive("test-format", TestFormat)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
