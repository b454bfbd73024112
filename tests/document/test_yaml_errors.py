"""Why a text is not YAML is told alike, whichever parser PyYAML has, in words of ours and without the text's own."""

from __future__ import annotations

import ast
import re
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from profiled_spawner.document import yaml_errors, yaml_tree
from profiled_spawner.errors import DocumentError

from .test_examples import INVALID, check, write

HERE = Path(__file__).parents[1]
TEXTS = [
    path.read_text(encoding="utf-8", errors="replace")
    for folder in ("examples", "invalid-examples")
    for path in sorted((HERE / folder).glob("*.yaml"))
    if path.stat().st_size < 5_000
]

# What the parser in Python makes of these is another matter.
_EMPTY = "inside brackets it finds a missing value right after the colon, libyaml at what follows"
OTHERWISE_IN_PYTHON = {
    "env-value-from": _EMPTY,
    "nodes": _EMPTY,
    "sizes": _EMPTY,
    "tab-inside-a-line": "it takes no tab between two words",
}


@pytest.fixture(params=["libyaml", "python"])
def parser(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    use(request.param, monkeypatch)
    return str(request.param)


def use(parser: str, monkeypatch: pytest.MonkeyPatch) -> None:
    loader: Any = getattr(yaml, "CSafeLoader", None) if parser == "libyaml" else yaml_tree.PythonLoader
    if loader is None:
        pytest.skip("PyYAML is built without libyaml")
    monkeypatch.setattr(yaml_tree, "Loader", loader)


def refuse(text: str, **offsets: int) -> str:
    """What is said of a text; empty if it is read."""
    try:
        yaml_tree.read_tree(text, **offsets)
    except DocumentError as refusal:
        (diagnostic,) = refusal.diagnostics
        return f"{diagnostic.line}:{diagnostic.column}: {diagnostic.what}"
    return ""


INSIDE_DOUBLE = r'text after a closing "; put all of it inside the quotes, and write \" for each " there'
INSIDE_SINGLE = "text after a closing '; put all of it inside the quotes, and write '' for each ' there"
NO_CHARACTER = r"an invalid escape: \x needs 2 hexadecimal digits, \u 4, \U 8; for a backslash, write \\"
DIRECTIVE = "a line that begins with % is a directive; leave it out, or quote the text that begins with it"
TAG = "a tag (!), and only !!str is allowed; a text that begins with ! needs quotes"
BLOCK = (
    "only -, + or a digit from 1 to 9 may follow {0}, whose text begins on the next line; "
    "a text that begins with {0} needs quotes"
)
ADD_COLON = "no ': ' after this key; add it, or indent the line more if it continues the text above"
ENDED = "the document ended before this; put everything in one mapping, and leave out '...'"


@pytest.mark.parametrize(
    ("text", "said"),
    [
        pytest.param("a:\n\tb: c\n", "2:1: a tab in the indentation; indent with spaces, not tabs", id="tab"),
        pytest.param("a: @b", "1:4: a text that begins with @ needs quotes", id="at"),
        pytest.param("a: `b`", "1:4: a text that begins with ` needs quotes", id="backtick"),
        pytest.param("a: %b", "1:4: a text that begins with % needs quotes", id="percent"),
        pytest.param("[|\n a]", "1:2: a text that begins with | needs quotes", id="block-in-brackets"),
        pytest.param("a: |x\n", f"1:5: {BLOCK.format('|')}", id="block-with-text"),
        pytest.param("a: >0\n b\n", f"1:5: {BLOCK.format('>')}", id="block-indented-by-nothing"),
        pytest.param("a: !<x y", f"1:4: {TAG}", id="tag-cut-short"),
        pytest.param("a: !e!foo x", f"1:4: {TAG}", id="tag-with-a-handle"),
        pytest.param(
            "a: *.example.org",
            '1:5: an alias (*) needs a name of letters, digits, - and _; a text that begins with * needs quotes: "*"',
            id="pattern",
        ),
        pytest.param(
            "a: &. b",
            "1:5: an anchor (&) needs a name of letters, digits, - and _; a text that begins with & needs quotes",
            id="anchor",
        ),
        pytest.param("a: &x &y b", "1:7: a text that begins with & needs quotes", id="second-anchor"),
        pytest.param("%YAML 1.1\na: b\n", f"1:1: {DIRECTIVE}", id="directive-without-a-marker"),
        pytest.param("%YAML 1.1\n%YAML 1.1\n---\na", f"1:1: {DIRECTIVE}", id="directive-twice"),
        pytest.param("%YAML 2.0\n---\na", f"1:1: {DIRECTIVE}", id="another-yaml"),
        pytest.param("a: b\n%c\n", f"2:1: {DIRECTIVE}", id="directive-amid-the-document"),
    ],
)
def test_what_a_word_begins_with_is_told(parser: str, text: str, said: str) -> None:
    assert refuse(text) == said


@pytest.mark.parametrize(
    ("text", "said"),
    [
        pytest.param(
            'a: "b\n  c: d\n',
            r'3:1: the " opened at line 1, column 4 is never closed; close it, and write \" for each " inside',
            id="double",
        ),
        pytest.param(
            "a:\n- 'b",
            "2:5: the ' opened at line 2, column 3 is never closed; close it, and write '' for each ' inside",
            id="single",
        ),
        pytest.param(
            'a: "b\n---\nc: "d"',
            r'2:1: the " opened at line 1, column 4 is never closed; close it, and write \" for each " inside',
            id="before-a-marker",
        ),
        pytest.param("a: 'it's'", f"1:8: {INSIDE_SINGLE}", id="apostrophe"),
        pytest.param("- 'it's'b: c", f"1:7: {INSIDE_SINGLE}", id="apostrophe-in-a-key"),
        pytest.param('a: "x" y', f"1:8: {INSIDE_DOUBLE}", id="text"),
        pytest.param('{a: "x" y}', f"1:9: {INSIDE_DOUBLE}", id="text-inside-brackets"),
        pytest.param('a: b\n"x" y: z', f"2:5: {INSIDE_DOUBLE}", id="key"),
        pytest.param('a: &b "x" y', f"1:11: {INSIDE_DOUBLE}", id="anchored"),
        pytest.param('a: "x", "y"', "1:7: a ',' after a closing quote; write [ and ] around a list", id="comma"),
        pytest.param(
            r'a: "\d"',
            r"1:5: an unknown escape; write \\ for a backslash, or use single quotes",
            id="escape",
        ),
        pytest.param(r'a: "\xZ"', f"1:7: {NO_CHARACTER}", id="no-digits"),
        pytest.param(r'a: "\u12"', f"1:7: {NO_CHARACTER}", id="too-few-digits"),
        pytest.param(r'a: "\U99999999"', f"1:7: {NO_CHARACTER}", id="beyond-unicode"),
        pytest.param(
            r'a: "\U0000DC00"',
            "1:7: half of a surrogate pair, which is not a character; write the character itself",
            id="surrogate",
        ),
    ],
)
def test_what_is_wrong_with_quotes_is_told(parser: str, text: str, said: str) -> None:
    assert refuse(text) == said


@pytest.mark.parametrize(
    ("text", "said"),
    [
        pytest.param("a: [b", "1:6: the [ opened at line 1, column 4 is never closed; close it with ]", id="open"),
        pytest.param(
            "a: &x [b,\n---\nc", "2:1: the [ opened at line 1, column 7 is never closed; close it with ]", id="anchored"
        ),
        pytest.param(
            "[a: b", "1:6: the [ opened at line 1, column 1 is never closed; close it with ]", id="pair-in-a-list"
        ),
        pytest.param("[a}", "1:3: a } cannot close the [ opened at line 1, column 1; write ]", id="brace"),
        pytest.param("{a]", "1:3: a ] cannot close the { opened at line 1, column 1; write }", id="bracket"),
        pytest.param(
            "a: [b]]", "1:7: a ] that closes nothing; leave it out, or quote the text that it belongs to", id="too-many"
        ),
        pytest.param("[a, , b]", "1:5: a ',' with nothing before it; leave it out", id="two-commas"),
        pytest.param(
            "a: ,b", "1:4: a text that begins with , needs quotes; write [ and ] around a list", id="leading-comma"
        ),
        pytest.param(
            '{"a": 1 "b": 2}',
            "1:12: a ',' is missing before this, or the } for the { opened at line 1, column 1; "
            "a text that holds ': ' needs quotes",
            id="no-comma",
        ),
        pytest.param(
            '["a" "b"]', "1:6: a ',' is missing before this, or the ] for the [ opened at line 1, column 1", id="quotes"
        ),
        pytest.param("{a: b-{c}, d: e}", "1:7: a text with { in it needs quotes inside brackets", id="template"),
        pytest.param("{a: {b}-c}", "1:8: text after a closing }; a text that begins with { needs quotes", id="first"),
        pytest.param("[a] b", "1:5: text after a closing ]; a text that begins with [ needs quotes", id="root"),
        pytest.param("a: {b}/c", "1:7: text after a closing }; a text that begins with { needs quotes", id="path"),
        pytest.param(
            "a: [b,\n - c",
            "2:2: a list item ('- ') inside brackets; leave out the '-', or close the [ opened at line 1, column 4",
            id="item",
        ),
        pytest.param(
            "- &x a\n- *x y", "2:6: text after an alias (*); a text that begins with * needs quotes", id="alias"
        ),
    ],
)
def test_what_is_wrong_with_brackets_is_told(parser: str, text: str, said: str) -> None:
    assert refuse(text) == said


@pytest.mark.parametrize(
    ("text", "said"),
    [
        pytest.param("a: b: c", "1:5: a second ': ' in this line; a text that holds ': ' needs quotes", id="colon"),
        pytest.param("a: b\nc\nd: e", f"2:1: {ADD_COLON}", id="no-colon"),
        pytest.param("a: b\n{c: d}\n", f"2:1: {ADD_COLON}", id="brackets-for-a-key"),
        pytest.param("a: b\nc:d\n", "2:1: no ': ' after this key; write a space after the ':'", id="no-space"),
        pytest.param("a:\n  b:c\n  d: e", "2:3: no ': ' after this key; write a space after the ':'", id="first-key"),
        pytest.param("a: b\nc=d\n", "2:1: no ': ' after this key; write ': ' in place of '='", id="equals-sign"),
        pytest.param(
            "a: http://b\n  c: d",
            "2:3: a key within the text that began at line 1; indent it less, or add the ':' that is missing there",
            id="below-a-text",
        ),
        pytest.param(
            "a\n  b: c",
            "2:3: a key within the text that began at line 1; indent it less, or add the ':' that is missing there",
            id="below-a-key-without-a-colon",
        ),
        *(
            pytest.param(
                f"a: b\n{long}\n",
                "2:1: no ': ' within 1,024 characters; a key, or a text in its place, must not be longer",
                id=name,
            )
            for name, long in {"long-key": "x" * 1025 + ": c", "long-text": "x" * 1025}.items()
        ),
        pytest.param("a: b\n: c", "2:1: no key before this ':'; write one, or quote the text", id="no-key"),
        pytest.param(
            "a: - b",
            "1:4: a list must begin on a line of its own; a text that begins with '- ' needs quotes",
            id="list",
        ),
        pytest.param("a: ? b", "1:4: a text that begins with '? ' needs quotes", id="question-mark"),
    ],
)
def test_what_is_wrong_with_a_key_is_told(parser: str, text: str, said: str) -> None:
    assert refuse(text) == said


@pytest.mark.parametrize(
    ("text", "said"),
    [
        pytest.param(
            "a:\n  b:\n    c: d\n   e: f",
            "4:4: wrong indentation; begin this line in column 3, like line 2, or in column 5, like line 3",
            id="between-two",
        ),
        pytest.param('a: "b"\n c: d', "2:2: wrong indentation; begin this line in column 1, like line 1", id="more"),
        pytest.param("  a: b\nc: d", "2:1: wrong indentation; begin this line in column 3, like line 1", id="less"),
        pytest.param(
            "- b: c\n  d: e\n f: g", "3:2: wrong indentation; begin this line in column 3, like line 2", id="a-key"
        ),
        pytest.param(
            "a: &x\n    - b\n  - c", "3:3: wrong indentation; begin this line in column 5, like line 2", id="an-item"
        ),
        pytest.param(
            "- 'a'\n  b: c",
            "2:3: a second value for line 1; leave one out, or correct the indentation",
            id="below-an-item",
        ),
        pytest.param(
            "- a: b\nc: d",
            "2:1: '- ' is missing: line 1 begins a list item in this column; add it, "
            "or begin this line in column 3, like line 1",
            id="key-in-a-list",
        ),
        pytest.param(
            "a: 'b'\n- c",
            "2:1: a list item ('- ') where a key belongs, like that in line 1; indent a list more than its key",
            id="item-in-a-mapping",
        ),
        pytest.param("a: b\n...\nc: d", f"3:1: {ENDED}", id="after-the-end"),
        pytest.param("{a: b}\nc: d", f"2:1: {ENDED}", id="after-brackets"),
    ],
)
def test_what_is_wrong_with_the_indentation_is_told(parser: str, text: str, said: str) -> None:
    assert refuse(text) == said


def test_places_within_a_message_are_the_files(parser: str) -> None:
    assert refuse("a: [b", line_offset=10, column_offset=4).endswith(
        "the [ opened at line 11, column 8 is never closed; close it with ]"
    )
    assert refuse("a: 'b'\n c: d", line_offset=10, column_offset=4).endswith("in column 5, like line 11")


@pytest.mark.parametrize(
    ("text", "place"),
    [
        pytest.param("[" * 51 + "@", "1:51", id="a-mark-behind-the-brackets"),
        pytest.param("a:\n- " + "[" * 1200, "2:51", id="below-others"),
        pytest.param(
            "[ # [[[\n" + "'[', \"[\", it's\n, a: '[[', " * 3 + "[" * 50 + "@", "5:61", id="not-those-in-texts"
        ),
    ],
)
def test_our_bound_on_depth_comes_before_the_parsers_own(parser: str, text: str, place: str) -> None:
    assert refuse(text) == f"{place}: nested more than 50 levels deep"


def test_brackets_in_a_text_are_not_nested(parser: str) -> None:
    assert (
        refuse("a: b [" + "[" * 60 + ": @") == "1:67: a second ': ' in this line; a text that holds ': ' needs quotes"
    )


@pytest.mark.parametrize("path", INVALID)
def test_both_parsers_say_the_same_of_an_invalid_example(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    said = []
    for parser in ("libyaml", "python"):
        use(parser, monkeypatch)
        said.append(write(check(path).errors))

    assert (said[0] == said[1]) == (path.stem not in OTHERWISE_IN_PYTHON)


def find_words(module: Any) -> list[str]:
    """What the module's messages are made of."""
    nodes = ast.walk(ast.parse(Path(module.__file__).read_text(encoding="utf-8")))
    return [node.value for node in nodes if isinstance(node, ast.Constant) and isinstance(node.value, str)]


WORDS = "\n".join([*find_words(yaml_errors), *find_words(yaml_tree)])


def find_quoted(text: str, said: str) -> list[str]:
    """Runs of four characters of a message that the text has and our own words have not."""
    # Numbers and single marks are told as they are.
    parts = re.split(r"\d+|[^\w\s:;,.()-]", said.partition(": ")[2])
    runs = [part[start : start + 4] for part in parts for start in range(len(part) - 3)]
    return [run for run in runs if run in text and run not in WORDS]


def test_what_is_quoted_is_found() -> None:
    assert find_quoted("a: canary", "1:4: a text (canary) that begins with @") == ["cana", "anar", "nary"]


damage = st.lists(
    st.tuples(
        st.integers(0, 5_000),
        st.integers(0, 3),
        st.sampled_from(
            [*"\"'[]{},:#-?*&!|>%@`\\ \t\n", ": ", "- ", "\n ", "&a ", "*a", "!x ", "---\n", "\\x", "[" * 60]
        ),
    ),
    min_size=1,
    max_size=4,
)


@pytest.mark.parametrize("name", ["libyaml", "python"])
@given(text=st.sampled_from(TEXTS), changes=damage)
@example(text="a: &canary", changes=[(3, 1, "*")])
@settings(deadline=None, max_examples=300, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_no_message_quotes_a_damaged_document(
    name: str, text: str, changes: list[tuple[int, int, str]], monkeypatch: pytest.MonkeyPatch
) -> None:
    use(name, monkeypatch)
    for position, removed, added in changes:
        start = position % (len(text) + 1)
        text = text[:start] + added + text[start + removed :]

    assert find_quoted(text, refuse(text)) == []
