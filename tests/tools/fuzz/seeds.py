"""What the fuzzer begins with: the example files, in each target's form."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator
from pathlib import Path
from types import MappingProxyType

from .targets import KEY, MARK

__all__ = ["DICTIONARY", "make_seeds", "write_seeds"]

DICTIONARY = Path(__file__).with_name("yaml.dict")

_TESTS = Path(__file__).parents[2]

# What costs most when there is much of it, besides lines of the examples.
_REPETITIVE = [
    *("[", "[a, ", "{", "{a, ", "{a: ", "- ", "? ", "a: ", ":", "users: [", "env: &a\n"),
    *("&a ", "*a, ", "- *a\n", "<<: *a\n", "- {<<: *a}\n", "<<: {a: b}\n"),
    *("!!str ", "%TAG !a! a\n", "%YAML 1.1\n", "---\n", "...\n", "# \n", "|\n", ">\n"),
    *(" ", "\t", "\n", "\r", "\u2028", "\ufeff", '"', "'", "''", "\\x41", "a", "é", "𝄞", "0"),
    *("kind: ", '"kind"', '{"kind" ', "A: b\n", "- {}\n"),
    *("- {env: {A: b}}\n", "- {users: [a]}\n", "- {name: A, value: b}\n"),
]
_HEADS = [
    *("profiles: [{env: {", "profiles:\n", "profiles: [", "a: &a [b, c]\nprofiles: [", "profiles:\n- env:\n  - "),
    *('profiles:\n- env: {A: "', "profiles:\n- name: |\n   ", "profiles:\n- &a {env: {A: b}}\n"),
    "apiVersion: v1\nkind: ConfigMap\n",
]


def make_seeds(target: str) -> Iterator[bytes]:
    """A target's seeds, always the same."""
    return _SEEDS[target]()


def write_seeds(target: str, folder: Path) -> None:
    """Writes a target's seeds into a folder, a file each."""
    for number, seed in enumerate(make_seeds(target)):
        (folder / f"seed-{number:04}").write_bytes(seed)


def _examples() -> list[bytes]:
    folders = (_TESTS / "examples", _TESTS / "invalid-examples")
    return [path.read_bytes() for folder in folders for path in sorted(folder.glob("*.yaml"))]


def _documents() -> Iterator[bytes]:
    yield from _examples()


def _manifests() -> Iterator[bytes]:
    for example in _examples():
        yield example
        indented = b"".join(b"    " + line for line in example.splitlines(keepends=True))
        yield b"apiVersion: v1\nkind: ConfigMap\ndata:\n  " + KEY.encode() + b": |\n" + indented


def _configmaps() -> Iterator[bytes]:
    metadata = {"name": "profiles", "namespace": "jhub", "uid": "0f0f", "resourceVersion": "1"}
    for example in _examples():
        manifest = {
            "kind": "ConfigMap",
            "apiVersion": "v1",
            "metadata": metadata,
            "data": {KEY: example.decode("utf-8", "replace")},
        }
        yield json.dumps(manifest).encode()
        yield json.dumps({"kind": "ConfigMapList", "metadata": {}, "items": [manifest]}).encode()
    yield json.dumps({"kind": "ConfigMapList", "metadata": {"continue": "more"}, "items": [manifest]}).encode()
    yield json.dumps({"metadata": metadata, "binaryData": {KEY: "eA=="}}).encode()
    yield json.dumps({"kind": "Status", "message": "not found", "code": 404}).encode()


def _quantities() -> Iterator[bytes]:
    words: set[bytes] = set()
    for example in _examples():
        words |= {word for word in re.split(rb"[^-+.\w]+", example) if re.match(rb"[-+.]?\d", word) and len(word) < 30}
    yield from sorted(words)


def _large() -> Iterator[bytes]:
    for position, body in enumerate(_REPETITIVE):
        for head in ("", _HEADS[position % len(_HEADS)]):
            yield MARK.join([head.encode(), body.encode()])
    for example in _examples():
        head, line_end, body = example.replace(MARK, b"").partition(b"\n")
        yield MARK.join([head + line_end, body])


_SEEDS: MappingProxyType[str, Callable[[], Iterator[bytes]]] = MappingProxyType(
    {
        "document": _documents,
        "manifest": _manifests,
        "configmap": _configmaps,
        "quantity": _quantities,
        "large": _large,
    }
)
