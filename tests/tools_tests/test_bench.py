"""What the benchmarks reckon with: medians over runs that stand side by side, and documents of which little fits."""

from __future__ import annotations

import importlib
from pathlib import Path

import pytest

from bench.documents import MOST_PROFILES, make_document, make_subject
from bench.measuring import Curve, Figure, StallWatch, in_turn
from profiled_spawner.decide.matching import match_profiles
from profiled_spawner.document.limits import MAX_BYTES
from profiled_spawner.document.parser import validate_document


def test_variants_are_measured_in_turn_there_and_back() -> None:
    order: list[str] = []

    def variant(name: str, value: float) -> float:
        order.append(name)
        return value

    measured = in_turn(2, {"ours": lambda: variant("ours", 1), "theirs": lambda: variant("theirs", 2)})

    assert order == ["ours", "theirs", "theirs", "ours"]
    assert measured == {"ours": [1, 1], "theirs": [2, 2]}


def test_a_curve_that_hardly_changes_is_drawn_below_the_upper_edge(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("matplotlib", reason="not installed: make .venv/bench-installed")
    report = importlib.import_module("bench.report")
    drawn = []
    monkeypatch.setattr(report.pyplot, "close", drawn.append)
    report.draw(Curve("added", "profiles", "ms", [1, 3000], {"extra": [0.24, 0.25]}), tmp_path / "added.svg")

    (figure,) = drawn
    assert figure.axes[0].get_ylim() == (0, pytest.approx(0.25 * 1.15))


@pytest.mark.parametrize(
    ("figure", "result", "reached"),
    [
        pytest.param(Figure("", "", [1, 9, 2], target=2), 2, True, id="value"),
        pytest.param(Figure("", "", [1, 9, 2], target=1.9), 2, False, id="value-too-large"),
        pytest.param(Figure("", "", [1, 80, 2], "", [2, 100, 1], "ratio", 0.8), 0.8, True, id="ratio"),
        pytest.param(Figure("", "", [3, 50, 7], "", [1, 49, 1], "difference", 1), 2, False, id="difference"),
        pytest.param(Figure("", "", [1, 2, 1], "", [200, 600, 900], "gain", 200), 300, True, id="gain"),
        pytest.param(Figure("", "", [1, 2, 1], "", [100, 200, 900], "gain", 200), 100, False, id="gain-too-small"),
        pytest.param(Figure("", "", [3.0]), 3, None, id="no-target"),
    ],
)
def test_a_figure_is_the_median_of_what_each_run_gives(figure: Figure, result: float, reached: bool | None) -> None:
    assert (figure.result, figure.is_reached) == (result, reached)


async def test_a_stall_of_the_event_loop_is_seen() -> None:
    async with StallWatch() as watch:
        sum(range(1_000_000))

    assert watch.longest > 0


@pytest.mark.parametrize("profiles", [1, 10, MOST_PROFILES])
def test_a_document_is_valid_and_of_its_profiles_a_few_match(profiles: int) -> None:
    text = make_document(profiles)
    document = validate_document(text).document

    assert document is not None
    assert len(document.profiles) == profiles
    fitting = [len(match_profiles(document, make_subject(number))) for number in range(profiles)]
    assert min(fitting) >= 1
    assert max(fitting) <= 10
    assert MAX_BYTES * 0.9 < len(make_document(MOST_PROFILES)) <= MAX_BYTES


def test_a_document_names_as_many_users_as_are_asked_for() -> None:
    document = validate_document(make_document(1, users=20_000)).document

    assert document is not None
    assert len(document.profiles[0].users or ()) == 20_000
