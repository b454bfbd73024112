"""What must hold of any input: a document or diagnostics, never another exception.

A target takes bytes and raises where something is wrong with us. How long it takes and how much memory is for who
runs it to watch.
"""

# ruff: noqa: PT017  these assertions are about what an error says, whoever raised it

from __future__ import annotations

import re
from collections.abc import Callable
from decimal import ROUND_CEILING, Context, Decimal
from types import MappingProxyType
from typing import TypeAlias

from kubernetes.utils import parse_quantity as parse_independently

from profiled_spawner.decide.matching import Subject, explain_match, match_profiles
from profiled_spawner.decide.merging import merge_profiles, reconcile_resources
from profiled_spawner.document.limits import MAX_BYTES
from profiled_spawner.document.model import Document
from profiled_spawner.document.parser import MAX_DIAGNOSTICS, parse_document, validate_document
from profiled_spawner.document.quantity import (
    check_resource,
    format_amount,
    format_bytes,
    format_cores,
    parse_quantity,
)
from profiled_spawner.errors import Diagnostic, DocumentError, QuantityError, SourceError
from profiled_spawner.sources.configmap import ConfigMapSource, SelectedConfigMapsSource
from profiled_spawner.sources.extract import decode_text, find_document
from profiled_spawner.sources.source import Revision

__all__ = ["KEY", "MARK", "TARGETS", "Target", "configmap", "document", "large", "manifest", "quantity"]

Target: TypeAlias = Callable[[bytes], None]

KEY = "jupyterhub-singleuser-profiles.yaml"

MARK = b"\xff"
"""Stands between the parts of an input of `large`; no UTF-8 has it."""

_SUBJECT = Subject("ada", frozenset({"forecasters"}), "quay.io/example/notebook:1")

# YAML ends a line with any of these.
_LINE_END = re.compile("\r\n|[\r\n\x85\u2028\u2029]")

# As the documentation of Kubernetes has it, without a sign: <number><suffix> or <number><exponent>.
_PLAIN_QUANTITY = re.compile(r"(\d{1,18}(\.\d{0,9})?|\.\d{1,9})([numkMGTPE]|[KMGTPE]i|[eE][+-]?\d{1,2})?", re.ASCII)
_LARGEST = 2**63 - 1
_BILLIONTH = Decimal("1e-9")


def document(data: bytes) -> None:
    """Parsing and checking say the same, and what they say can be used."""
    text = _decode(data)
    checked = validate_document(text)
    _consider_diagnostics((*checked.errors, *checked.warnings), text)
    try:
        parsed = parse_document(text)
    except DocumentError as error:
        assert checked.document is None
        assert (error.diagnostics, error.omitted) == (checked.errors, checked.omitted)
        assert 0 < len(error.diagnostics) <= MAX_DIAGNOSTICS
        assert str(error)
    else:
        assert parsed == checked.document
        assert not checked.errors
        _consider_document(parsed)


def manifest(data: bytes) -> None:
    """A file's bytes have a document, or say why not."""
    try:
        text = decode_text(data)
        found = find_document(text, KEY)
    except DocumentError as error:
        _consider_diagnostics(error.diagnostics, data.decode("utf-8", "replace"))
        return
    except SourceError as error:
        assert error.outcome == "missing"
        assert str(error)
        return
    try:
        parsed = parse_document(found.text, line_offset=found.line_offset, column_offset=found.column_offset)
    except DocumentError as error:
        # Told in the file's lines where the document's are lines of it. An empty line of it has no indentation.
        _consider_diagnostics(
            error.diagnostics, text if found.line_offset else found.text, column_offset=found.column_offset
        )
    else:
        _consider_document(parsed)


def configmap(data: bytes) -> None:
    """An API server's answer has a document, or says why not; and so has each object of a list."""
    source = ConfigMapSource("jhub", "profiles", KEY, api=None, timeout_seconds=1)
    selected = SelectedConfigMapsSource("jhub", "team=yes", KEY, None, api=None, timeout_seconds=1)
    _consider_answer(lambda: source.extract(data))
    try:
        objects = selected.extract(data)
    except SourceError as error:
        assert str(error).isprintable()
    else:
        assert len({each.name for each in objects}) == len(objects)
        for each in objects:
            _consider_answer(each.extract)


def quantity(data: bytes) -> None:
    """A quantity is what Kubernetes' own Python client takes it for, or an error."""
    text = data.decode("utf-8", "replace")
    plain = _PLAIN_QUANTITY.fullmatch(text)
    try:
        parsed = parse_quantity(text)
    except QuantityError as error:
        assert str(error)
        assert not plain or parse_independently(text) > _LARGEST, f"{text} is refused"
        return
    # That client rounds to 28 digits; with at most that many there is nothing to round.
    if plain or sum(character.isdigit() for character in text) <= 9:
        expected = parse_independently(text).quantize(_BILLIONTH, ROUND_CEILING, Context(prec=128))
        assert parsed.amount == expected, f"{text} is {expected} and not {parsed.amount}"
    assert parsed.text == text
    assert 0 <= parsed.amount <= _LARGEST
    assert int(format_bytes(parsed)) >= parsed.amount
    # Rounded up to thousandths, as the API server does it.
    assert 0 <= Decimal(format_cores(parsed)) - parsed.amount < Decimal("0.001")
    for resource in ("cpu", "memory", "nvidia.com/gpu"):
        assert format_amount(resource, parsed)
        for limit in (False, True):
            try:
                check_resource(resource, parsed, limit=limit)
            except QuantityError as error:
                assert str(error)


def large(data: bytes) -> None:
    """What holds of a text holds of one of 1 MiB, in which every second part is repeated to fill it."""
    text = _fill(data).decode("utf-8", "replace")
    try:
        found = find_document(text, KEY)
        checked = validate_document(found.text, line_offset=found.line_offset, column_offset=found.column_offset)
    except (DocumentError, SourceError) as error:
        assert str(error)
    else:
        assert (checked.document is None) == bool(checked.errors)
        assert len(checked.errors) <= MAX_DIAGNOSTICS


TARGETS: MappingProxyType[str, Target] = MappingProxyType(
    {each.__name__: each for each in (document, manifest, configmap, quantity, large)}
)


def _decode(data: bytes) -> str:
    try:
        # A ConfigMap's JSON may hold half a surrogate pair, which is how it gets into a text.
        return data.decode("utf-8", "surrogatepass")
    except UnicodeDecodeError:
        return data.decode("utf-8", "replace")


def _fill(data: bytes) -> bytes:
    parts = data.split(MARK)
    repeated = sum(map(len, parts[1::2]))
    times = (MAX_BYTES - len(data)) // repeated if repeated else 0
    return b"".join(part * (times if position % 2 else 1) for position, part in enumerate(parts))


def _consider_answer(extract: Callable[[], Revision]) -> None:
    try:
        revision = extract()
        assert revision.name.isprintable()
        assert revision == extract()
        parsed = parse_document(revision.text.text, source=revision.name)
    except SourceError as error:
        assert str(error).isprintable()
    except DocumentError as error:
        assert all(line.isprintable() for line in str(error).split("\n"))
    else:
        _consider_document(parsed)


def _consider_document(parsed: Document) -> None:
    for profile in parsed.profiles:
        assert all(explain_match(profile, _SUBJECT).reasons)
        assert profile.label.isprintable()
    for order in ("specificity", "document"):
        reconcile_resources(merge_profiles(match_profiles(parsed, _SUBJECT, order)))


def _consider_diagnostics(diagnostics: tuple[Diagnostic, ...], text: str, *, column_offset: int = 0) -> None:
    places = [(each.line, each.column) for each in diagnostics if each.severity == "error"]
    assert places == sorted(places)
    lines = _LINE_END.split(text.removeprefix("\ufeff"))
    for each in diagnostics:
        assert 0 <= each.line <= len(lines), f"line {each.line} of {len(lines)}"
        if each.line:
            columns = len(lines[each.line - 1]) + 1 + column_offset
            assert 1 <= each.column <= columns, f"column {each.column} of {columns} in line {each.line}"
        assert each.what
