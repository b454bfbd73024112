"""Finds the profile document in the text of a file or a ConfigMap.

A file holds either the document itself, or a ConfigMap manifest that holds it under a key, in the form that ``kubectl``
reads and writes. If the document's lines are lines of the file, errors show the file's line numbers.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field

from ..document.limits import MAX_BYTES
from ..document.yaml_tree import Mapping, Node, Scalar, locate, read_tree
from ..errors import Diagnostic, DocumentError, SourceError

__all__ = ["MAX_MANIFEST_BYTES", "Text", "decode_text", "explain_missing_key", "find_document"]

# `kubectl apply` stores the document a second time, in an annotation.
MAX_MANIFEST_BYTES = 4 * MAX_BYTES

# Only a file with such a line can be a manifest. The check spares a bare document from being parsed twice.
# The second alternative is anchored to the start: a search from each line would take quadratic time.
_KIND = re.compile(r"""^\ufeff?["']?kind["']?[ \t]*:|\A\ufeff?\s*\{[^\0]*?"kind"\s*:""", re.MULTILINE)

# Messages quote only what matches these. Anything else may be a part of the document.
_KIND_NAME = re.compile(r"[A-Z][A-Za-z0-9]{0,62}")
_CONFIGMAP_KEY = re.compile(r"[-._a-zA-Z0-9]{1,253}")
_MOST_KEYS = 10


@dataclass(frozen=True, slots=True)
class Text:
    """A document's text, and its place in the file.

    Attributes:
        text: The document.
        line_offset: The number of lines before it in the file.
        column_offset: The number of columns before each of its lines.
    """

    # Not in the repr, which may be logged: it holds values of environment variables.
    text: str = field(repr=False)
    line_offset: int = 0
    column_offset: int = 0


def decode_text(raw: bytes, *, source: str = "") -> str:
    """Decodes a file.

    Raises:
        DocumentError: It is not UTF-8, or larger than any manifest may be.
    """
    if len(raw) > MAX_MANIFEST_BYTES:
        raise DocumentError([Diagnostic(f"larger than {MAX_MANIFEST_BYTES:,} bytes")], source=source)
    try:
        return raw.decode("utf-8")
    except UnicodeDecodeError as error:
        before = raw[: error.start].decode("utf-8")
        line, column = locate(before, len(before))
    raise DocumentError([Diagnostic("not UTF-8 text; save it as UTF-8", line=line, column=column)], source=source)


def find_document(text: str, key: str, *, source: str = "") -> Text:
    """Returns the document in a file: the whole file, or the text that a ConfigMap manifest holds under `key`.

    Raises:
        DocumentError: The file looks like a manifest but is not YAML, or the value under the key is not text.
        SourceError: It is a manifest without that key, or of another kind. The message lists the keys it has.
    """
    if not _KIND.search(text):
        return Text(text)
    root = read_tree(text, source=source, max_bytes=MAX_MANIFEST_BYTES)
    manifest = _members(root)
    kind = manifest.get("kind")
    if not isinstance(kind, Scalar) or "apiVersion" not in manifest:
        return Text(text)
    if kind.value != "ConfigMap":
        what = f"is of kind {kind.value!r}" if _KIND_NAME.fullmatch(kind.value) else "is of another kind"
        raise SourceError(
            f"{source or 'the manifest'} {what}, not ConfigMap; give the ConfigMap alone, or the document itself",
            outcome="missing",
        )
    data = _members(manifest.get("data"))
    document = data.get(key)
    if document is None:
        raise explain_missing_key(key, data, _members(manifest.get("binaryData")), source or "the ConfigMap")
    if not isinstance(document, Scalar):
        what = f"must be text; write '{key}: |' and indent the document below it"
        raise DocumentError([Diagnostic(what, line=document.line, column=document.column)], source=source)
    if not document.literal:
        return Text(document.value)
    if not document.value:
        # A block without lines. The file may end with the block's indicator.
        return Text("", document.line - 1, document.column - 1)
    # The block's first line is the line after its indicator.
    return Text(document.value, document.line, _indent(text, document))


def explain_missing_key(key: str, data: object, binary_data: object, source: str) -> SourceError:
    """Returns the error for a ConfigMap without the key. It lists the keys that the ConfigMap has.

    Args:
        key: The key.
        data: The ConfigMap's ``data``.
        binary_data: Its ``binaryData``.
        source: The ConfigMap's name in messages.
    """
    names = sorted(data) if isinstance(data, dict) else []
    binary_names = sorted(binary_data) if isinstance(binary_data, dict) else []
    if key in binary_names:
        return SourceError(
            f"{source} has {key!r} under binaryData, so it is not UTF-8 text; put the document under data",
            outcome="missing",
        )
    there = f"it has {_list_keys(names)}" if names else "it has no keys under data"
    if binary_names:
        there += f", and under binaryData {_list_keys(binary_names)}"
    return SourceError(f"{source} has no key {key!r}; {there}", outcome="missing")


def _list_keys(names: list[str]) -> str:
    # A name that is no valid key may be a line of a document whose indentation was lost, and so contain a value.
    keys = [repr(name) for name in names if _CONFIGMAP_KEY.fullmatch(name)]
    if len(keys) == len(names) <= _MOST_KEYS:
        return ", ".join(keys)
    shown, more = keys[:_MOST_KEYS], len(names) - len(keys[:_MOST_KEYS])
    if not shown:
        return "1 other" if more == 1 else f"{more} others"
    return ", ".join([*shown, f"and {more} more"])


def _members(node: Node | None) -> dict[str, Node]:
    if not isinstance(node, Mapping):
        return {}
    return {key.value: value for key, value in node.pairs() if isinstance(key, Scalar)}


def _indent(text: str, block: Scalar) -> int:
    """Returns the number of columns that YAML removed from each line of a literal block."""
    lines = text.splitlines()[block.line :]
    for line, content in zip(lines, block.value.splitlines(), strict=False):
        if content.strip():
            return len(line) - len(content)
    return 0
