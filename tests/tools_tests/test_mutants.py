"""Mutation testing finds what no test would notice, and says so."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

pytest.importorskip("mutmut", reason="mutmut is installed by `make mutants` alone")

import mutants
from mutants.finding import Change, find_mutants
from mutants.listing import Entry, ListError, draw, find_listed, read_list, write_list
from mutants.reporting import make_report
from mutants.running import Outcome

MODULE = '''"""What the planted tests are of."""

from typing import TypeVar

__all__ = ["double", "count_down"]

T = TypeVar("T")

LIMIT = 3


def double(number: "int" = 1) -> int:
    return number * 2


class Counter:
    first = True

    @property
    def last(self) -> int:
        return LIMIT - 1


def count_down(number: int) -> None:
    while number > 0:
        number -= 1
'''

TESTS = """from profiled_spawner.decide import sums


def test_counting_ends():
    sums.count_down(1)


def test_double():
    assert sums.double(3) == 6
"""

DOUBLE = Change("decide.sums", "double", "swap_op", "return number * 2", "return number / 2")
LAST = Change("decide.sums", "Counter.last", "swap_op", "return LIMIT - 1", "return LIMIT + 1")
ENDLESS = Change("decide.sums", "count_down", "swap_op", "number -= 1", "number += 1")
GONE = Change("decide.sums", "halve", "swap_op", "return number / 2", "return number * 2")


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    """A project with one module and its tests, which look at two of its three functions."""
    root = tmp_path / "checkout"
    for path, text in {
        "pyproject.toml": "[tool.pytest.ini_options]\naddopts = '--import-mode=importlib'\n",
        "profiled_spawner/__init__.py": "",
        "profiled_spawner/decide/__init__.py": "",
        "profiled_spawner/decide/sums.py": MODULE,
        "tests/decide/test_sums.py": TESTS,
    }.items():
        (root / path).parent.mkdir(parents=True, exist_ok=True)
        (root / path).write_text(text)
    return root


def read_all(root: Path) -> dict[Path, bytes]:
    """Each file of a folder."""
    return {path: path.read_bytes() for path in root.rglob("*") if path.is_file()}


def run(root: Path, entries: list[Entry], *arguments: str) -> subprocess.CompletedProcess[str]:
    """Runs the tool on a list."""
    path = root.parent / "list.txt"
    write_list(path, "A list.", entries)
    command = [sys.executable, "-m", "mutants", "--list", str(path), "--jobs", "1", "--cpu-seconds", "1", *arguments]
    # The checkout has no tools of its own, and a relative path would look for them there.
    environment = {**os.environ, "PYTHONPATH": str(Path(mutants.__file__).parents[1])}
    return subprocess.run(command, cwd=root, env=environment, capture_output=True, text=True, check=False)


def test_a_mutant_is_killed_by_its_test_and_survives_without(checkout: Path) -> None:
    before = read_all(checkout)
    done = run(checkout, [Entry(DOUBLE), Entry(ENDLESS)])
    assert done.returncode == 0, done.stdout + done.stderr
    assert "killed     decide.sums: double (swap_op)  tests/decide/test_sums.py::test_double\n" in done.stdout
    assert "timed out  decide.sums: count_down (swap_op)\n" in done.stdout
    assert "Killed: 2 of 2, 100.0 % (at least 90 %), 1 of them by tests" in done.stdout
    assert read_all(checkout) == before

    tests = checkout / "tests" / "decide" / "test_sums.py"
    tests.write_text(TESTS.replace("assert sums.double(3) == 6", "pass"))
    done = run(checkout, [Entry(DOUBLE)])
    assert done.returncode == 1, done.stdout + done.stderr
    assert "survived   decide.sums: double (swap_op)\n" in done.stdout
    assert "Killed: 0 of 1" in done.stdout

    # Another test of the package may see what its own do not.
    tests.with_name("test_others.py").write_text(TESTS)
    assert "test_others.py::test_double" in run(checkout, [Entry(DOUBLE)]).stdout


def test_tests_that_fail_without_a_mutant_tell_nothing_of_one(checkout: Path) -> None:
    (checkout / "tests" / "decide" / "test_sums.py").write_text(TESTS.replace("6", "7"))
    done = run(checkout, [Entry(DOUBLE)])
    assert done.returncode == 2
    assert done.stderr.startswith("The tests fail without a mutant:\n")
    assert "assert 6 == 7" in done.stderr


SURVIVED, KILLED = Outcome.SURVIVED, Outcome.KILLED


@pytest.mark.parametrize(
    ("entries", "outcomes", "least", "is_good"),
    [
        pytest.param([Entry(DOUBLE)], {DOUBLE: KILLED}, 100, True, id="all-killed"),
        pytest.param([Entry(DOUBLE)], {DOUBLE: Outcome.TIMED_OUT}, 100, True, id="tests-without-end"),
        pytest.param([Entry(DOUBLE), Entry(LAST)], {DOUBLE: KILLED, LAST: SURVIVED}, 50, False, id="unexplained"),
        pytest.param([Entry(DOUBLE), Entry(LAST, "why")], {DOUBLE: KILLED, LAST: SURVIVED}, 50, True, id="explained"),
        pytest.param([Entry(DOUBLE), Entry(LAST, "why")], {DOUBLE: KILLED, LAST: SURVIVED}, 51, False, id="too-few"),
        pytest.param([Entry(DOUBLE), Entry(GONE)], {DOUBLE: KILLED}, 50, True, id="gone"),
        pytest.param([Entry(DOUBLE), Entry(GONE)], {DOUBLE: KILLED}, 51, False, id="too-many-gone"),
        pytest.param([Entry(GONE)], {}, 90, False, id="nothing-run"),
    ],
)
def test_too_few_killed_or_none_to_say_why_is_a_failure(
    entries: list[Entry], outcomes: dict[Change, Outcome], least: float, is_good: bool
) -> None:
    assert make_report(entries, outcomes, least).is_good is is_good


def test_the_report_shows_each_survivor_and_what_is_gone() -> None:
    entries = [Entry(DOUBLE, "no longer true"), Entry(LAST, "nobody asks"), Entry(ENDLESS), Entry(GONE)]
    report = make_report(entries, {DOUBLE: KILLED, LAST: SURVIVED, ENDLESS: SURVIVED}, 90)
    assert [part.splitlines()[0] for part in report.text.split("\n\n")] == [
        "Gone, since no such text stands there now; draw again, as the list's head says:",
        "decide.sums: halve (swap_op)",
        "Killed in spite of an explanation; take that out:",
        "decide.sums: double (swap_op)",
        "Survived, as explained:",
        "decide.sums: Counter.last (swap_op)",
        "Survived without an explanation; write a test, or say in the list why there is none:",
        "decide.sums: count_down (swap_op)",
        "Killed: 1 of 3, 33.3 % (at least 90 %), 0 of them by tests that went on without end. Survived: 2, 1 of them "
        "without an explanation. Gone: 1.",
    ]
    assert "- return LIMIT - 1\n+ return LIMIT + 1\nsurvives: nobody asks" in report.text


def test_mutants_are_of_functions_and_of_what_stands_outside(checkout: Path) -> None:
    changes = [mutant.change for mutant in find_mutants(checkout, "decide.sums")]
    assert {(change.unit, change.operator, change.now) for change in changes} == {
        ("LIMIT", "assignment", "LIMIT = None"),
        ("LIMIT", "number", "LIMIT = 4"),
        ("double", "number", 'def double(number: "int" = 2) -> int:'),
        ("double", "number", "return number * 3"),
        ("double", "swap_op", "return number / 2"),
        ("Counter.first", "assignment", "first = None"),
        ("Counter.first", "name", "first = False"),
        ("Counter.last", "number", "return LIMIT - 2"),
        ("Counter.last", "swap_op", "return LIMIT + 1"),
        ("count_down", "augmented_assignment", "number = 1"),
        ("count_down", "number", "while number > 1:"),
        ("count_down", "number", "number -= 2"),
        ("count_down", "swap_op", "number += 1"),
        ("count_down", "swap_op", "while number >= 0:"),
    }


def test_a_mutant_is_the_module_with_one_change(checkout: Path) -> None:
    found = find_listed(checkout, [DOUBLE, GONE, Change("decide.none", "a", "number", "1", "2")])
    assert found.keys() == {DOUBLE}
    assert found[DOUBLE].source() == MODULE.replace("number * 2", "number / 2")


def test_a_mutant_is_found_again_where_lines_have_moved(checkout: Path) -> None:
    path = checkout / "profiled_spawner" / "decide" / "sums.py"
    moved = MODULE.replace("LIMIT = 3", 'LIMIT = 3\nOTHER = "text"').replace(
        "    return number", "    # Why.\n    return number"
    )
    path.write_text(moved)
    assert find_listed(checkout, [DOUBLE])[DOUBLE].source() == moved.replace("number * 2", "number / 2")


def test_mutants_that_read_alike_are_told_apart(checkout: Path) -> None:
    path = checkout / "profiled_spawner" / "decide" / "sums.py"
    path.write_text("def both(a, b):\n    print(a)\n    if b:\n        print(a)\n")
    changes = [mutant.change for mutant in find_mutants(checkout, "decide.sums")]
    assert changes == [
        Change("decide.sums", "both", "arg_removal", "print(a)", "print(None)", number) for number in (1, 2)
    ]
    assert find_listed(checkout, changes)[changes[1]].source().endswith("print(a)\n    if b:\n        print(None)\n")


SEVERAL_LINES = Change("pod.patch", "(module)", "match", "case 1:\n    return\n\ncase 2:", "", 2)


def test_a_list_is_read_as_it_was_written(tmp_path: Path) -> None:
    entries = [Entry(DOUBLE), Entry(LAST, "nobody asks"), Entry(SEVERAL_LINES)]
    path = tmp_path / "list.txt"
    write_list(path, "Two lines\nat its head.", entries)
    assert read_list(path) == entries
    assert path.read_text().startswith(
        "# Two lines\n# at its head.\n\ndecide.sums: double (swap_op)\n- return number * 2\n+ return number / 2\n\n"
    )


def test_an_explanation_may_have_several_lines(tmp_path: Path) -> None:
    path = tmp_path / "list.txt"
    path.write_text("decide.sums: double (swap_op)\n- a\n+ b\nsurvives: one\n  two\n")
    (entry,) = read_list(path)
    assert entry.explanation == "one two"


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("decide.sums double\n- a", r"list.txt: 'decide.sums double' does not begin a mutant"),
        ("decide.sums: double (swap_op)\na", r"list.txt: in 'decide.sums: double \(swap_op\)', begin each line with"),
    ],
)
def test_what_is_no_list_is_an_error(tmp_path: Path, text: str, told: str) -> None:
    path = tmp_path / "list.txt"
    path.write_text(text)
    with pytest.raises(ListError, match=told):
        read_list(path)


def test_drawing_again_keeps_what_is_still_there() -> None:
    changes = [Change("decide.sums", "double", "number", str(number), "") for number in range(100)]
    drawn = draw(changes, 20, seed=1)
    assert len(drawn) == 20
    assert drawn == [change for change in changes if change in drawn]
    assert draw(changes, 20, seed=2) != drawn
    fewer = [change for change in changes if change != drawn[0]]
    assert set(drawn[1:]) < set(draw(fewer, 20, seed=1))


def test_a_drawn_list_keeps_its_explanations(checkout: Path) -> None:
    path = checkout.parent / "list.txt"
    assert run(checkout, [Entry(LAST, "nobody asks")], "--draw", "9").returncode == 0
    assert "9 of 14, drawn at random with the seed 1" in path.read_text()
    drawn = read_list(path)
    assert len(drawn) == 9
    assert run(checkout, [Entry(drawn[4].change, "nobody asks")], "--draw", "9").returncode == 0
    assert read_list(path)[4].explanation == "nobody asks"


def test_the_mutants_of_a_function_are_shown_as_a_list_has_them(checkout: Path) -> None:
    shown = run(checkout, [], "--show", "decide.sums:Counter.last").stdout
    assert shown == (
        "decide.sums: Counter.last (swap_op)\n- return LIMIT - 1\n+ return LIMIT + 1\n\n"
        "decide.sums: Counter.last (number)\n- return LIMIT - 1\n+ return LIMIT - 2\n\n"
    )
