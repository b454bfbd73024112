"""What is said to be in vain can be left out, and nobody gets anything else."""

from __future__ import annotations

from dataclasses import replace
from random import Random

import pytest

from oracle.runner import parse
from oracle.world import make_pair
from profiled_spawner.decide.comparison import compare_documents
from profiled_spawner.decide.unused import find_unused
from profiled_spawner.document.model import Document, Profile
from profiled_spawner.document.parser import parse_document


def find(text: str) -> list[tuple[int, str | None, int | None]]:
    document = parse_document(text if text.startswith("profiles:") else f"profiles: [{text}]")
    return [
        (each.profile.index, each.variable, each.same_as and each.same_as.index)
        for each in find_unused(document, "specificity", 0)
    ]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        pytest.param("{env: {A: b}}, {groups: [g], env: {A: c}}", [], id="both count"),
        pytest.param("{groups: [g], env: {A: b}}, {groups: [g], env: {A: c}}", [(0, None, None)], id="never wins"),
        pytest.param("{env: {A: b, B: c}}, {env: {A: d}}", [(0, "A", None)], id="a variable"),
        pytest.param("{groups: [g], env: {A: b}}, {groups: [g], env: {A: b}}", [(0, None, 1)], id="the same"),
        pytest.param("{images: ['a*'], env: {A: b}}, {images: ['a*', b], env: {A: c}}", [(0, None, None)], id="images"),
        pytest.param("{images: ['a*'], env: {A: b}}, {images: ['ab*'], env: {A: c}}", [], id="some images"),
        pytest.param("{until: 2030-01-01, env: {A: b}}, {env: {A: c}}", [(0, None, None)], id="for a while"),
        pytest.param("{env: {A: b}}, {until: 2030-01-01, env: {A: c}}", [], id="after a while"),
        pytest.param("{users: [], groups: [], env: {A: b}}, {}", [], id="for nobody, and without settings"),
        pytest.param(
            "profiles: [{images: [j], env: {A: b}}]\nimages: [{name: I, image: i}]", [(0, None, None)], id="not offered"
        ),
    ],
)
def test_what_has_no_effect_is_found(text: str, expected: list[tuple[int, str | None, int | None]]) -> None:
    assert find(text) == expected


def test_what_a_team_gives_to_all_its_members_is_not_for_nobody() -> None:
    main = parse_document("profiles: []\nteams: [{name: t, configmaps: [t], groups: [f]}]")
    (team,) = main.teams or ()
    theirs = parse_document("profiles: [{env: {A: b}}, {groups: [f], env: {A: c}}, {groups: [g], env: {A: d}}]")
    (unused,) = find_unused(theirs.of_configmap("t", team), "specificity", 0)
    assert (unused.profile.index, unused.same_as) == (0, None)


@pytest.mark.parametrize("seed", range(80))
def test_without_it_nobody_gets_anything_else(seed: int) -> None:
    pair = make_pair(Random(f"unused/{seed}"))
    document = parse(pair.new_text)
    for unused in find_unused(document, pair.order, pair.since):
        at = document.profiles.index(unused.profile)
        without = [profile for place, profile in enumerate(document.profiles) if place != at]
        if unused.variable is not None:
            rest = {name: value for name, value in unused.profile.env.items() if name != unused.variable}
            without.insert(at, replace(unused.profile, env=rest))
        assert compare(document, without, pair.order, pair.since), unused


def compare(document: Document, profiles: list[Profile], order: str, since: float) -> bool:
    other = replace(document, profiles=tuple(profiles))
    return compare_documents(document, other, order, since=since).equal  # type: ignore[arg-type]
