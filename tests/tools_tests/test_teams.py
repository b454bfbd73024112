"""No start has anything from a team that the main document does not allow, and what it allows is not refused."""

from __future__ import annotations

import ast
from pathlib import Path
from random import Random

import pytest

import teams
from teams.answer import expand, may_refer, read_amount, why_not
from teams.planted import FAULTS, PACKAGE, is_found
from teams.runner import Tally, run

DOCUMENTS = 500


def test_random_documents_of_teams_keep_to_their_bounds() -> None:
    tally = Tally()
    seed = Random().randrange(10**6)
    assert [finding.describe(seed) for finding in run(DOCUMENTS, seed, tally=tally)] == []
    assert tally.kept + tally.refused == DOCUMENTS
    # Neither is a rarity, or the other would show nothing.
    assert min(tally.kept, tally.refused) > DOCUMENTS / 5


@pytest.mark.newest
@pytest.mark.parametrize("fault", FAULTS[::10], ids=lambda fault: fault.module)
def test_planted_faults_are_found(fault: object) -> None:
    assert is_found(fault, 2_000)  # type: ignore[arg-type]


def test_each_fault_can_be_planted() -> None:
    for module, text, replacement in FAULTS:
        source = (PACKAGE / f"{module}.py").read_text()
        assert source.count(text) == 1, text
        ast.parse(source.replace(text, replacement))


def test_the_oracle_shares_no_code_with_the_package() -> None:
    for name in ("answer", "world"):
        source = (Path(teams.__file__).parent / f"{name}.py").read_text()
        assert "profiled_spawner" not in source


@pytest.mark.parametrize(
    ("team", "document", "why"),
    [
        ({}, {"profiles": [{"env": {"A": "b"}}]}, None),
        ({}, {"sizes": [{"name": "x"}]}, "has sizes"),
        ({"may": []}, {"profiles": [{"env": {"A": None}}]}, "has env"),
        ({}, {"profiles": [{"labels": {"a": "b"}}]}, "has labels"),
        ({}, {"profiles": [{"gpu": 1}]}, "gives nvidia.com/gpu"),
        ({"hard": {"requests.nvidia.com/gpu": 1}}, {"profiles": [{"gpu": 2}]}, "gives too much nvidia.com/gpu"),
        ({"hard": {"limits.memory": "1Gi"}}, {"profiles": [{"resources": {"mem_limit": None}}]}, "takes memory away"),
        ({"hard": {"limits.memory": "1Gi"}}, {"profiles": [{"resources": {"mem_guarantee": "1024Mi"}}]}, None),
        (
            {"hard": {"limits.memory": "2Gi", "requests.memory": "1Gi"}},
            {"profiles": [{"resources": {"mem_limit": "2Gi"}}]},
            "reserves too much memory",
        ),
        (
            {"refers": ["t-*"]},
            {"profiles": [{"env": {"A": {"valueFrom": {"secretKeyRef": {"name": "s", "key": "k"}}}}}]},
            "refers to s",
        ),
    ],
)
def test_the_oracle_says_what_the_specification_says(team: dict, document: dict, why: str | None) -> None:  # type: ignore[type-arg]
    assert why_not(team, document) == why


def test_the_oracle_reads_amounts_and_names() -> None:
    assert [read_amount(each) for each in ("1Gi", "1e3", "500m", 2.5e9)] == [2**30, 1000, 0.5, 2_500_000_000]
    assert expand("t-{servername}", "ada", "") == "t"
    assert may_refer({"refers": ["t-*"]}, "t-{username}")
    assert not may_refer({"refers": ["t-*"]}, "t-{servername}")
    assert not may_refer({"refers": ["t-s3"]}, "t-{username}")
