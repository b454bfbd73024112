"""Which text of a file or a ConfigMap is the profile document.

A file holds either the document itself or a ConfigMap manifest that holds it under a key, as ``kubectl`` writes
and reads one. Where the document's own lines are lines of the file, errors are to be told in the file's.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field

from .errors import Diagnostic, DocumentError, SourceError
from .limits import MAX_BYTES
from .tree import Mapping, Node, Scalar, locate, read_tree

__all__ = ["MAX_MANIFEST_BYTES", "Text", "decode_text", "find_document"]

# A manifest that was applied holds the document once more, in an annotation.
MAX_MANIFEST_BYTES = 4 * MAX_BYTES

# Only a file with such a line can be a manifest; looking spares a bare document a second reading.
# The second alternative may begin at the start alone: a search from each line would be quadratic.
_KIND = re.compile(r"""^\ufeff?["']?kind["']?[ \t]*:|\A\ufeff?\s*\{[^\0]*?"kind"\s*:""", re.MULTILINE)

# What a message may quote, which everything else is kept out of.
_KIND_NAME = re.compile(r"[A-Z][A-Za-z0-9]{0,62}")
_CONFIGMAP_KEY = re.compile(r"[-._a-zA-Z0-9]{1,253}")
_MOST_KEYS = 10


@dataclass(frozen=True, slots=True)
class Text:
    """A document's text, and where it stands in the file that it was found in.

    Attributes:
        text: The document.
        line_offset: Lines of the file before it.
        column_offset: Columns before each of its lines.
    """

    # Holds values of environment variables, which a repr in a log would show.
    text: str = field(repr=False)
    line_offset: int = 0
    column_offset: int = 0


def decode_text(raw: bytes, *, source: str = "") -> str:
    """Reads bytes as UTF-8.

    Raises:
        DocumentError: They are not UTF-8, or more than a manifest can be.
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
    """Finds the document in a file: all of it, or what a ConfigMap manifest holds under `key`.

    Raises:
        DocumentError: The file looks like a manifest and cannot be read as YAML, or what it holds is not text.
        SourceError: It is a manifest without that key. The message lists the keys there are.
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
        raise missing_key(key, data, _members(manifest.get("binaryData")), source or "the ConfigMap")
    if not isinstance(document, Scalar):
        what = f"must be text; write '{key}: |' and indent the document below it"
        raise DocumentError([Diagnostic(what, line=document.line, column=document.column)], source=source)
    if not document.literal:
        return Text(document.value)
    if not document.value:
        # A block without lines; a file may end with its indicator.
        return Text("", document.line - 1, document.column - 1)
    # The block's first line is the line after its indicator.
    return Text(document.value, document.line, _indent(text, document))


def missing_key(key: str, data: object, binary_data: object, source: str) -> SourceError:
    """Says that a ConfigMap does not have the key, and which it has.

    Args:
        key: The key that was looked for.
        data: The keys of the ConfigMap's ``data``.
        binary_data: Those of its ``binaryData``.
        source: What people know the ConfigMap by.
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
    # What cannot be a key may be a part of the document, whose indentation is lost, and hold a value.
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
    """How many columns YAML took off each line of a literal block."""
    lines = text.splitlines()[block.line :]
    for line, content in zip(lines, block.value.splitlines(), strict=False):
        if content.strip():
            return len(line) - len(content)
    return 0
