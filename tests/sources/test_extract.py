"""A file is the document itself or a ConfigMap manifest that holds it, and its lines are told as the file's."""

import json
from contextlib import suppress

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from profiled_spawner.document.parser import validate_document
from profiled_spawner.errors import DocumentError, SourceError
from profiled_spawner.sources.extract import MAX_MANIFEST_BYTES, Text, decode_text, find_document

KEY = "profiles.yaml"
DOCUMENT = "profiles:\n  - name: a\n"


def configmap(data: str) -> str:
    return f"apiVersion: v1\nkind: ConfigMap\ndata:\n  {KEY}: {data}"


@pytest.mark.parametrize(
    "text",
    [
        pytest.param(DOCUMENT, id="document"),
        pytest.param("", id="empty"),
        pytest.param("kind: ConfigMap\n" + DOCUMENT, id="kind-alone"),
        pytest.param("apiVersion: v1\n" + DOCUMENT, id="api-version-alone"),
        pytest.param(
            "profiles:\n- env:\n    M: |\n      kind: ConfigMap\n      apiVersion: v1\n", id="kind-in-a-value"
        ),
        pytest.param("apiVersion: v1\nkind: [ConfigMap]\n", id="kind-that-is-no-text"),
        pytest.param("- kind: ConfigMap\n", id="list"),
        pytest.param('{"profiles": [{"env": {"kind": "x"}}]}', id="kind-in-json"),
    ],
)
def test_what_is_no_manifest_is_the_document(text: str) -> None:
    assert find_document(text, KEY) == Text(text)


@pytest.mark.parametrize(
    ("file", "text"),
    [
        pytest.param(configmap("|\n    profiles:\n      - name: a\n"), Text(DOCUMENT, 4, 4), id="literal"),
        pytest.param(configmap("|-\n    profiles:\n      - name: a\n"), Text(DOCUMENT[:-1], 4, 4), id="stripped"),
        pytest.param(configmap("|+\n    profiles:\n      - name: a\n\n"), Text(DOCUMENT + "\n", 4, 4), id="kept"),
        pytest.param(
            configmap("|  # the document\n\n\n    profiles: []\n"), Text("\n\nprofiles: []\n", 4, 4), id="blank-lines"
        ),
        pytest.param(configmap("|2\n      profiles: []\n"), Text("  profiles: []\n", 4, 4), id="indentation-told"),
        pytest.param(configmap("|\n   profiles: []\n"), Text("profiles: []\n", 4, 3), id="indented-by-three"),
        pytest.param(
            configmap("|\n    profiles: []\n").replace("\n", "\r\n"), Text("profiles: []\n", 4, 4), id="windows"
        ),
        pytest.param("\ufeff" + configmap("|\n    profiles: []\n"), Text("profiles: []\n", 4, 4), id="byte-order-mark"),
        pytest.param(
            "# a comment\n---\n" + configmap("|\n    profiles: []"), Text("profiles: []", 6, 4), id="preamble"
        ),
        pytest.param(
            "data:\n  other: |\n    x\n    y\n  profiles.yaml: |\n    profiles: []\nkind: ConfigMap\napiVersion: v1\n",
            Text("profiles: []\n", 5, 4),
            id="behind-another-key",
        ),
        pytest.param(
            configmap(">\n    profiles:\n\n      - name: a\n"), Text(DOCUMENT.replace("\n", "\n\n", 1)), id="folded"
        ),
        pytest.param(configmap(r'"profiles:\n  - name: a\n"'), Text(DOCUMENT), id="double-quoted"),
        pytest.param(configmap("'profiles: []'"), Text("profiles: []"), id="single-quoted"),
        pytest.param(configmap(""), Text(""), id="nothing"),
        pytest.param(configmap("|"), Text("", 3, 17), id="indicator-at-the-end"),
        pytest.param(configmap("|\n\n"), Text("", 3, 17), id="literal-without-text"),
        pytest.param(
            json.dumps({"apiVersion": "v1", "kind": "ConfigMap", "data": {KEY: DOCUMENT}}), Text(DOCUMENT), id="json"
        ),
        pytest.param(
            "\ufeff" + json.dumps({"data": {KEY: DOCUMENT}, "kind": "ConfigMap", "apiVersion": "v1"}, indent=2),
            Text(DOCUMENT),
            id="json-over-lines",
        ),
        pytest.param(
            f"'kind': ConfigMap\n\"apiVersion\": v1\ndata: {{{KEY}: 'profiles: []'}}\n",
            Text("profiles: []"),
            id="quoted-keys",
        ),
    ],
)
def test_a_manifest_holds_the_document_under_its_key(file: str, text: Text) -> None:
    assert find_document(file, KEY) == text


@pytest.mark.parametrize(
    ("file", "message"),
    [
        pytest.param(
            configmap("''").replace(KEY, "other.yaml"),
            "cm.yaml has no key 'profiles.yaml'; it has 'other.yaml'",
            id="another-key",
        ),
        pytest.param(
            "apiVersion: v1\nkind: ConfigMap\ndata: {b: x, a: y}\n",
            "cm.yaml has no key 'profiles.yaml'; it has 'a', 'b'",
            id="other-keys-in-order",
        ),
        pytest.param(
            "apiVersion: v1\nkind: ConfigMap\ndata: {b: x, 'profiles: [{env: {A: secret}}]': }\n",
            "cm.yaml has no key 'profiles.yaml'; it has 'b', and 1 more",
            id="document-as-key",
        ),
        pytest.param(
            "apiVersion: v1\nkind: ConfigMap\ndata: {'profiles: [{env: {A: secret}}]': }\n",
            "cm.yaml has no key 'profiles.yaml'; it has 1 other",
            id="nothing-but-a-document-as-key",
        ),
        pytest.param(
            f"apiVersion: v1\nkind: ConfigMap\ndata: {{{', '.join(f'k{number}: x' for number in range(1000))}}}\n",
            "cm.yaml has no key 'profiles.yaml'; it has 'k0', 'k1', 'k10', 'k100', 'k101', 'k102', 'k103', 'k104', "
            "'k105', 'k106', and 990 more",
            id="very-many-keys",
        ),
        pytest.param(
            "apiVersion: v1\nkind: 'my secret'\n",
            "cm.yaml is of another kind, not ConfigMap; give the ConfigMap alone, or the document itself",
            id="text-as-kind",
        ),
        pytest.param(
            "apiVersion: v1\nkind: ConfigMap\n",
            "cm.yaml has no key 'profiles.yaml'; it has no keys under data",
            id="no-data",
        ),
        pytest.param(
            "apiVersion: v1\nkind: ConfigMap\ndata:\n",
            "cm.yaml has no key 'profiles.yaml'; it has no keys under data",
            id="nothing-behind-data",
        ),
        pytest.param(
            "apiVersion: v1\nkind: ConfigMap\nbinaryData: {profiles.yaml: cHJvZmlsZXM6IFtd}\n",
            "cm.yaml has 'profiles.yaml' under binaryData, so it is not UTF-8 text; put the document under data",
            id="binary",
        ),
        pytest.param(
            "apiVersion: v1\nkind: ConfigMap\nbinaryData: {other: eA==}\n",
            "cm.yaml has no key 'profiles.yaml'; it has no keys under data, and under binaryData 'other'",
            id="other-binary",
        ),
        pytest.param(
            configmap("''").replace("ConfigMap", "Secret"),
            "cm.yaml is of kind 'Secret', not ConfigMap; give the ConfigMap alone, or the document itself",
            id="secret",
        ),
        pytest.param(
            "apiVersion: v1\nkind: List\nitems: []\n",
            "cm.yaml is of kind 'List', not ConfigMap; give the ConfigMap alone, or the document itself",
            id="list",
        ),
    ],
)
def test_a_manifest_without_the_document_is_told_with_what_there_is(file: str, message: str) -> None:
    with pytest.raises(SourceError) as refusal:
        find_document(file, KEY, source="cm.yaml")

    assert str(refusal.value) == message
    assert refusal.value.outcome == "missing"
    assert not refusal.value.transient


@pytest.mark.parametrize(
    ("file", "message"),
    [
        pytest.param(
            configmap("\n    profiles: []\n"),
            "cm.yaml has 1 error:\n"
            "  line 5, column 5: must be text; write 'profiles.yaml: |' and indent the document below it",
            id="block-indicator-forgotten",
        ),
        pytest.param(
            "kind: ConfigMap\napiVersion: [\n",
            "cm.yaml has 1 error:\n"
            "  line 3, column 1: the [ opened at line 2, column 13 is never closed; close it with ]",
            id="not-yaml",
        ),
        pytest.param(
            "kind: ConfigMap\napiVersion: " + "[" * 30_000,
            "cm.yaml has 1 error:\n  line 2, column 62: nested more than 50 levels deep",
            id="hostile",
        ),
        pytest.param(
            "kind: ConfigMap\napiVersion: v1\n---\nkind: Secret\n",
            "cm.yaml has 1 error:\n  line 3, column 1: a second YAML document begins here; keep everything in one",
            id="several-objects",
        ),
    ],
)
def test_a_manifest_that_cannot_be_read_is_told_with_its_place(file: str, message: str) -> None:
    with pytest.raises(DocumentError) as refusal:
        find_document(file, KEY, source="cm.yaml")

    assert str(refusal.value) == message


@pytest.mark.parametrize(
    "text",
    [
        pytest.param("\n" * 2**20, id="blank-lines"),
        pytest.param("{\n" * 2**19, id="braces"),
        pytest.param(" " * 2**20, id="spaces"),
        pytest.param("kind\n" * 2**17, id="kinds"),
        pytest.param('{"kind"\n' * 2**17, id="kinds-in-braces"),
    ],
)
def test_looking_for_a_manifest_takes_one_pass(text: str) -> None:
    assert find_document(text, KEY) == Text(text)


def test_a_manifest_may_hold_more_than_its_document_may_be() -> None:
    # What kubectl applied stands in an annotation once more.
    comment = "# " + "x" * 2**20
    file = configmap(f"|\n    profiles: []\n    {comment}\nmetadata: {{annotations: {{applied: '{comment}'}}}}\n")

    assert find_document(file, KEY).line_offset == 4


@pytest.mark.parametrize(
    ("raw", "text"),
    [
        pytest.param(b"profiles: []", "profiles: []", id="ascii"),
        pytest.param("für 東京 🐘".encode(), "für 東京 🐘", id="utf-8"),
        pytest.param(b"\xef\xbb\xbfa", "\ufeffa", id="byte-order-mark"),
        pytest.param(b"", "", id="nothing"),
        pytest.param(b"a\r\nb\r\n", "a\r\nb\r\n", id="windows-line-ends"),
    ],
)
def test_utf_8_is_read(raw: bytes, text: str) -> None:
    assert decode_text(raw) == text


@pytest.mark.parametrize(
    ("raw", "message"),
    [
        pytest.param(b"\xff\xfea\0", "line 1, column 1: not UTF-8 text; save it as UTF-8", id="utf-16"),
        pytest.param("a\nfür".encode("latin-1"), "line 2, column 2: not UTF-8 text; save it as UTF-8", id="latin-1"),
        pytest.param(
            "ü\xa0ü\n東🐘".encode() + b"\xff", "line 2, column 3: not UTF-8 text; save it as UTF-8", id="characters"
        ),
        pytest.param(b"a\xed\xa0\x80", "line 1, column 2: not UTF-8 text; save it as UTF-8", id="lone-surrogate"),
        pytest.param(b"a\xc0\x80", "line 1, column 2: not UTF-8 text; save it as UTF-8", id="overlong-nul"),
        pytest.param("🐘".encode()[:-1], "line 1, column 1: not UTF-8 text; save it as UTF-8", id="cut-short"),
        pytest.param(bytes(range(128, 256)), "line 1, column 1: not UTF-8 text; save it as UTF-8", id="garbage"),
        pytest.param(b"a" * (MAX_MANIFEST_BYTES + 1), "larger than 4,194,304 bytes", id="too-large"),
    ],
)
def test_what_is_not_utf_8_is_refused_with_its_place(raw: bytes, message: str) -> None:
    with pytest.raises(DocumentError) as refusal:
        decode_text(raw, source="p.yaml")

    assert str(refusal.value) == f"p.yaml has 1 error:\n  {message}"
    assert refusal.value.__context__ is None


@given(st.binary(max_size=200) | st.binary(max_size=100).map(lambda raw: b"kind: ConfigMap\napiVersion: v1\n" + raw))
@settings(deadline=None)
def test_any_bytes_are_a_document_or_told_why_not(raw: bytes) -> None:
    with suppress(DocumentError, SourceError):
        found = find_document(decode_text(raw), KEY)
        checked = validate_document(found.text)
        assert (checked.document is None) == bool(checked.errors)


def test_no_repr_holds_the_text() -> None:
    assert repr(Text("profiles: [{env: {FOO: canary}}]", 4, 2)) == "Text(line_offset=4, column_offset=2)"
