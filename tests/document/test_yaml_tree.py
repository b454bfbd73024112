"""YAML becomes a tree of texts that know where they stand, within bounds that hold before anything grows."""

from contextlib import suppress
from itertools import pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from profiled_spawner.document.limits import MAX_BYTES, MAX_DEPTH, MAX_EXPANDED_CHARACTERS, MAX_NODES
from profiled_spawner.document.yaml_errors import EXPLICIT_TAG
from profiled_spawner.document.yaml_tree import Mapping, Node, Scalar, Sequence, locate, read_tree
from profiled_spawner.errors import DocumentError

LETTERS = "abcdefghijklmnopqrstuvwxyz"

LINE_ENDS = {
    "line-feed": "\n",
    "carriage-return": "\r",
    "both": "\r\n",
    "next-line": "\x85",
    "line-separator": "\u2028",
    "paragraph-separator": "\u2029",
}


def read_scalar(text: str) -> Scalar:
    node = read_tree(text)
    assert isinstance(node, Scalar)
    return node


def read_items(text: str) -> list[Node]:
    node = read_tree(text)
    assert isinstance(node, Mapping | Sequence)
    return node.items


def refuse(text: str) -> str:
    """What is said of a text that is not read."""
    with pytest.raises(DocumentError) as refusal:
        read_tree(text)
    (diagnostic,) = refusal.value.diagnostics
    return str(diagnostic)


@pytest.mark.parametrize(
    "text",
    ["80", "1.10", "0755", "0x1F", "1_000", "yes", "on", "null", "~", "2024-01-31", "12:30:45", ".inf", "=", "500m"],
)
def test_a_plain_scalar_is_its_own_characters(text: str) -> None:
    assert read_scalar(text).value == text


@pytest.mark.parametrize(
    ("text", "value", "plain", "literal"),
    [
        pytest.param("a b", "a b", True, False, id="plain"),
        pytest.param("a\n b", "a b", True, False, id="plain-over-lines"),
        pytest.param("'it''s'", "it's", False, False, id="single-quoted"),
        pytest.param(r'"a\tb\u00e9"', "a\tbé", False, False, id="double-quoted"),
        pytest.param("|\n a\n  b\n", "a\n b\n", False, True, id="literal"),
        pytest.param(">\n a\n b\n", "a b\n", False, False, id="folded"),
        pytest.param("!!str null", "null", False, False, id="tagged"),
    ],
)
def test_a_scalar_knows_how_it_was_written(text: str, value: str, plain: bool, literal: bool) -> None:
    scalar = read_scalar(text)

    assert (scalar.value, scalar.plain, scalar.literal) == (value, plain, literal)


@pytest.mark.parametrize(
    ("text", "is_null", "is_empty"),
    [
        pytest.param("[null]", True, False, id="null"),
        pytest.param("[~]", True, False, id="tilde"),
        pytest.param("[Null]", False, False, id="capitalized"),
        pytest.param("[NULL]", False, False, id="capitals"),
        pytest.param("['null']", False, False, id="quoted"),
        pytest.param("[!!str null]", False, False, id="tagged"),
        pytest.param("- |-\n  null", False, False, id="block"),
        pytest.param("-", False, True, id="nothing"),
        pytest.param("['']", False, False, id="quoted-nothing"),
        pytest.param("[!!str ]", False, False, id="tagged-nothing"),
    ],
)
def test_only_a_plain_null_is_null_and_only_nothing_is_empty(text: str, is_null: bool, is_empty: bool) -> None:
    (scalar,) = read_items(text)

    assert isinstance(scalar, Scalar)
    assert (scalar.is_null, scalar.is_empty) == (is_null, is_empty)


@pytest.mark.parametrize(
    ("text", "places"),
    [
        pytest.param("a: b", [(1, 1), (1, 4)], id="one-line"),
        pytest.param("\n\n  a:\n    b", [(3, 3), (4, 5)], id="indented"),
        pytest.param("a: |\n  b\nc: d", [(1, 1), (1, 4), (3, 1), (3, 4)], id="block"),
        pytest.param("ü東🐘: b", [(1, 1), (1, 6)], id="columns-are-characters"),
        pytest.param("\ufeffa: b", [(1, 1), (1, 4)], id="byte-order-mark"),
        pytest.param("a: b\r\nc: d", [(1, 1), (1, 4), (2, 1), (2, 4)], id="windows-line-ends"),
        pytest.param("a:\nc: d", [(1, 1), (1, 3), (2, 1), (2, 4)], id="nothing-stands-behind-its-colon"),
    ],
)
def test_a_node_knows_its_place(text: str, places: list[tuple[int, int]]) -> None:
    assert [(node.line, node.column) for node in read_items(text)] == places


@pytest.mark.parametrize(
    ("text", "place"),
    [
        pytest.param("---", (1, 4), id="marker"),
        pytest.param("\n---", (2, 4), id="marker-on-the-second-line"),
        pytest.param("--- # c", (1, 8), id="comment"),
        pytest.param("---\n", (2, 1), id="line-end"),
        pytest.param("\ufeff---", (1, 4), id="byte-order-mark"),
        *(pytest.param(f"{end}---", (2, 4), id=name) for name, end in LINE_ENDS.items()),
    ],
)
def test_nothing_at_the_end_of_a_text_stands_within_it(text: str, place: tuple[int, int]) -> None:
    scalar = read_scalar(text)
    assert (scalar.line, scalar.column) == place


def test_a_key_left_without_a_value_at_the_end_stands_within_the_text() -> None:
    _, value = read_items("?  a")
    assert (value.line, value.column) == (1, 5)


@pytest.mark.parametrize("end", LINE_ENDS.values(), ids=LINE_ENDS)
@given(lines=st.lists(st.text("ab é\ufeff"), min_size=1))
def test_a_position_is_located_by_yamls_lines(end: str, lines: list[str]) -> None:
    text = end.join(lines)
    assert locate(text, len(text)) == (len(lines), len(lines[-1]) + 1)
    assert locate(text, 0) == (1, 1)


def test_duplicate_keys_are_all_there() -> None:
    root = read_tree("a: 1\nb: 2\na: 3")

    assert isinstance(root, Mapping)
    assert [(key.value, value.value) for key, value in root.pairs()] == [("a", "1"), ("b", "2"), ("a", "3")]


def test_an_alias_is_the_node_that_it_names() -> None:
    anchored, plain, alias = read_items("[&a {b: c}, {b: c}, *a]")

    assert alias is anchored
    assert alias is not plain


def test_an_alias_names_the_latest_anchor() -> None:
    items = read_items("[&a one, &a two, *a]")

    assert items[2] is items[1]


@pytest.mark.parametrize("text", ["", "\n", "# nothing\n", "\ufeff"])
def test_a_text_without_a_document_has_no_root(text: str) -> None:
    assert read_tree(text) is None


def nested(levels: int) -> str:
    return "[" * levels + "]" * levels


def chain(levels: int) -> str:
    """Mappings that hold each other through aliases, the innermost first."""
    anchors = ["a0: &a0 {x: y}\n", *(f"a{n}: &a{n} {{x: *a{n - 1}}}\n" for n in range(1, levels))]
    return "".join(anchors)


@pytest.mark.parametrize(
    "text",
    [
        pytest.param(nested(MAX_DEPTH), id="in-one-go"),
        # The root is one level more.
        pytest.param(chain(MAX_DEPTH - 1), id="through-aliases"),
    ],
)
def test_nesting_may_be_fifty_levels_deep(text: str) -> None:
    assert read_tree(text) is not None


@pytest.mark.parametrize(
    ("text", "place"),
    [
        pytest.param(nested(MAX_DEPTH + 1), "line 1, column 51", id="in-one-go"),
        pytest.param(chain(MAX_DEPTH), "line 50, column 15", id="through-aliases"),
        pytest.param("[" * 30_000, "line 1, column 51", id="thirty-thousand-brackets"),
        pytest.param("{" * 30_000, "line 1, column 51", id="thirty-thousand-braces"),
        pytest.param("{a: " * 30_000, "line 1, column 201", id="thirty-thousand-mappings"),
        pytest.param("- " * 30_000, "line 1, column 101", id="thirty-thousand-dashes"),
        pytest.param("? " * 30_000, "line 1, column 101", id="thirty-thousand-keys"),
        pytest.param("[" * MAX_BYTES, "line 1, column 51", id="a-mebibyte-of-brackets"),
    ],
)
def test_deeper_nesting_is_refused_where_it_goes_too_deep(text: str, place: str) -> None:
    assert refuse(text) == f"{place}: nested more than 50 levels deep"


def bomb(levels: int, item: str = "x") -> str:
    """A list of ten lists of ten lists, and so on: ten items' text to each level."""
    lists = [f"a: &a [{', '.join([item] * 10)}]"]
    lists += [f"{this}: &{this} [{', '.join([f'*{before}'] * 10)}]" for before, this in pairwise(LETTERS[:levels])]
    return "\n".join(lists)


def test_aliases_may_expand_within_bounds() -> None:
    assert read_tree(bomb(4)) is not None


@pytest.mark.parametrize(
    ("text", "line"),
    [
        pytest.param(bomb(9), 6, id="lists"),
        pytest.param(bomb(26), 6, id="more-than-the-universe-holds"),
        pytest.param(bomb(9, item="{k: v}"), 5, id="mappings"),
        pytest.param(bomb(9).replace("[", "{<<: [").replace("]", "]}"), 6, id="merge-keys"),
        pytest.param("[&a [" + "x," * 1000 + "]," + "*a," * 1000 + "]", 1, id="one-list-many-times"),
        pytest.param("[" + "x," * (MAX_NODES + 1) + "]", 1, id="without-aliases"),
    ],
)
def test_a_tree_that_grows_without_bound_is_refused_where_it_does(text: str, line: int) -> None:
    refusal = refuse(text)

    assert refusal.startswith(f"line {line}, column ")
    assert refusal.endswith(": more than 250,000 nodes with its aliases expanded")


LONG = 500_000


@pytest.mark.parametrize(
    ("text", "place"),
    [
        pytest.param(f"[&a {'x' * LONG}" + ", *a" * 8 + "]", f"1, column {LONG + 5 + 7 * 4 + 2}", id="a-text"),
        pytest.param(f"- &a [{'x' * LONG}]\n" + "- *a\n" * 8, "9, column 3", id="a-list"),
        pytest.param(f"- &a\n  k: {'x' * LONG}\n" + "- {<<: *a}\n" * 8, "10, column 8", id="merge-keys"),
        pytest.param(f"- &a {{{'x' * 1000}: y}}\n" + "- *a\n" * 9_000, "4191, column 3", id="a-key"),
    ],
)
def test_text_that_aliases_repeat_too_often_is_refused_where_it_is_too_much(text: str, place: str) -> None:
    assert refuse(text) == f"line {place}: more than {MAX_EXPANDED_CHARACTERS:,} characters with its aliases expanded"


def test_a_text_may_be_one_mebibyte() -> None:
    assert read_tree("a" * MAX_BYTES) is not None


@pytest.mark.parametrize(
    "text",
    [
        pytest.param("a" * (MAX_BYTES + 1), id="letters"),
        pytest.param("東" * (MAX_BYTES // 3 + 1), id="bytes-not-characters"),
        pytest.param("\n" * (MAX_BYTES + 1), id="nothing-but-lines"),
        pytest.param("[" * (MAX_BYTES + 1), id="hostile"),
    ],
)
def test_a_larger_text_is_refused(text: str) -> None:
    assert refuse(text) == "larger than 1,048,576 bytes, which is more than a ConfigMap can hold"


def test_another_bound_on_the_size_can_be_given() -> None:
    with pytest.raises(DocumentError, match="larger than 3 bytes"):
        read_tree("four", max_bytes=3)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        pytest.param("a: \ud800", "line 1, column 4: half of a surrogate pair, which is not a character", id="lone"),
        pytest.param(
            "ü: b\nc: \udfff\n",
            "line 2, column 4: half of a surrogate pair, which is not a character",
            id="second-half",
        ),
        pytest.param(
            r'a: "\ud800"',
            "line 1, column 7: half of a surrogate pair, which is not a character; write the character itself",
            id="escaped",
        ),
        pytest.param(
            "ü: b\nc: \x07\n",
            "line 2, column 4: a control character, which YAML does not allow; write its escape in double quotes",
            id="control-character",
        ),
        pytest.param(
            "a: \0",
            "line 1, column 4: a control character, which YAML does not allow; write its escape in double quotes",
            id="nul",
        ),
        pytest.param(
            "&a [*a]",
            "line 1, column 5: an alias (*) to an anchor (&) that is not defined before it; "
            "a text that begins with * needs quotes",
            id="self-reference",
        ),
        pytest.param(
            "a: &a {b: {c: *a}}",
            "line 1, column 15: an alias (*) to an anchor (&) that is not defined before it; "
            "a text that begins with * needs quotes",
            id="self-reference-further-down",
        ),
        pytest.param(
            "--- a\n--- b",
            "line 2, column 1: a second YAML document begins here; keep everything in one",
            id="two-documents",
        ),
        pytest.param(
            "a:\n  \tb: c",
            "line 2, column 3: a tab in the indentation; indent with spaces, not tabs",
            id="tab",
        ),
        pytest.param(
            "[\n\t@b]",
            "line 2, column 2: a text that begins with @ needs quotes",
            id="mark-behind-a-tab",
        ),
        pytest.param(
            "a: !!int 1",
            f"line 1, column 4: {EXPLICIT_TAG}",
            id="tag",
        ),
        pytest.param(
            "a: !!map {}",
            f"line 1, column 4: {EXPLICIT_TAG}",
            id="tag-of-a-mapping",
        ),
        pytest.param(
            "a: !!seq []",
            f"line 1, column 4: {EXPLICIT_TAG}",
            id="tag-of-a-list",
        ),
        pytest.param(
            "a: ! b",
            f"line 1, column 4: {EXPLICIT_TAG}",
            id="tag-without-a-name",
        ),
        pytest.param(
            "a: !!python/object/apply:os.system [ls]",
            f"line 1, column 4: {EXPLICIT_TAG}",
            id="tag-of-python",
        ),
        pytest.param(
            "".join(f"%TAG !{one}{two}! x\n" for one in LETTERS for two in LETTERS) + "--- a",
            "line 1, column 1: a %TAG directive; only !!str is allowed, without one",
            id="tag-directives",
        ),
        pytest.param(
            "# first\r%TAG ! x\n--- a",
            "line 2, column 1: a %TAG directive; only !!str is allowed, without one",
            id="tag-directive-behind-an-old-line-end",
        ),
        pytest.param(
            "\ufeff%TAG ! x\n--- a",
            "line 1, column 1: a %TAG directive; only !!str is allowed, without one",
            id="tag-directive-behind-a-byte-order-mark",
        ),
        pytest.param(
            "a: [b",
            "line 1, column 6: the [ opened at line 1, column 4 is never closed; close it with ]",
            id="end-without-a-line-end",
        ),
        pytest.param(
            "a: [b\n",
            "line 2, column 1: the [ opened at line 1, column 4 is never closed; close it with ]",
            id="end-with-a-line-end",
        ),
        *(
            pytest.param(
                f"a: b{end}c: \x07",
                "line 2, column 4: a control character, which YAML does not allow; write its escape in double quotes",
                id=f"control-character-behind-{name}",
            )
            for name, end in LINE_ENDS.items()
        ),
    ],
)
def test_what_is_no_document_is_refused_with_its_place(text: str, said: str) -> None:
    assert refuse(text) == said


def test_a_percent_sign_in_a_text_is_no_directive() -> None:
    assert read_scalar("a %TAG in a text").value == "a %TAG in a text"


def test_the_source_is_told() -> None:
    with pytest.raises(DocumentError) as refusal:
        read_tree("[", source="profiles.yaml")

    assert refusal.value.source == "profiles.yaml"


@pytest.mark.parametrize(
    "text", [pytest.param("a: 'canary", id="parser"), pytest.param("canary: !x y", id="ours"), "canary: \x07"]
)
def test_no_traceback_leads_to_an_error_that_quotes_the_text(text: str) -> None:
    with pytest.raises(DocumentError) as refusal:
        read_tree(text)

    assert refusal.value.__context__ is None
    assert refusal.value.__cause__ is None


# What YAML is made of, so that more than the first character is read.
fragments = st.sampled_from(
    [
        *"a1é~,[]{}'\"\\#%\n\t\r\x85\x00\ufeff",
        "- ",
        "? ",
        ": ",
        "<<: ",
        " #",
        "\n ",
        "\n  ",
        "|\n",
        ">\n",
        "&a ",
        "*a",
        "!x ",
        "!!str ",
        "---\n",
        "...\n",
    ]
)


@given(st.text() | st.lists(fragments, max_size=40).map("".join))
@settings(deadline=None, max_examples=300)
def test_garbage_is_read_or_refused_and_nothing_else(text: str) -> None:
    with suppress(DocumentError):
        assert isinstance(read_tree(text), Scalar | Sequence | Mapping | None)
