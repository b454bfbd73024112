"""``who`` tells who can get a thing, and through what; a roster adds names, to ``who`` and to ``diff``."""

from __future__ import annotations

import json
from datetime import UTC
from pathlib import Path
from random import Random
from typing import Any

import pytest

from oracle.answer import read, result
from oracle.runner import parse
from oracle.subjects import all_subjects, find_different_images
from oracle.world import make_pair
from profiled_spawner.command.differences import Strangers, count_who, find_differences
from profiled_spawner.command.main import main
from profiled_spawner.decide.comparison import Comparison, compare_documents
from profiled_spawner.decide.holders import Thing, find_holders
from profiled_spawner.document.parser import parse_document

DOCUMENT = """
profiles:
  - name: forecasting
    groups: [forecasters, interns]
    users: [ada]
    images: ['lab/*']
    env: {S3_KEY: {valueFrom: {secretKeyRef: {name: team-s3, key: k}}}}
  - name: no interns
    groups: [interns]
    images: ['lab/*']
    env: {S3_KEY: null}
  - name: home
    volumes:
      - {name: h, mountPath: /keys, secret: {secretName: 'keys-{username}'}}
      - {name: d, mountPath: /data, persistentVolumeClaim: {claimName: data}}
sizes:
  - {name: Large, groups: [forecasters], gpu: 1}
images:
  - {name: Lab, image: lab/a, users: [grace]}
"""
PEOPLE = {"ada": [], "bob": ["forecasters"], "eve": ["interns"], "zed": []}


TEAM = """
profiles: []
teams: [{name: t, configmaps: [t], groups: [f, h], users: [cy]}]
--- # t
profiles:
- {users: [ada, cy], groups: [s], env: {A: b}}
- {users: ['*'], env: {B: c}}
"""


@pytest.fixture
def document(tmp_path: Path) -> str:
    path = tmp_path / "profiles.yaml"
    path.write_text(DOCUMENT)
    return str(path)


@pytest.fixture
def roster(tmp_path: Path) -> str:
    path = tmp_path / "users.json"
    path.write_text(json.dumps([{"name": name, "groups": groups} for name, groups in PEOPLE.items()]))
    return str(path)


@pytest.mark.parametrize(
    ("thing", "lines"),
    [
        pytest.param(
            ["--secret", "team-s3"],
            [
                "1 group, 1 user and 1 combination of groups can get the secret team-s3; nobody else can",
                "",
                "members of forecasters and ada, on images that match lab/*",
                "  variable S3_KEY  from forecasting",
                "",
                "grace, if in forecasters, with the image Lab",
                "  variable S3_KEY  from forecasting",
            ],
            id="secret",
        ),
        pytest.param(
            ["--secret", "keys-ada"],
            [
                "everyone can get the secret keys-ada, but only where a name below becomes keys-ada",
                "",
                "everyone",
                "  volume h at /keys: secret keys-{username}  from home",
                "  only a server for which keys-{username} is keys-ada",
            ],
            id="template",
        ),
        pytest.param(
            ["--claim", "data"],
            [
                "everyone can get the claim data",
                "",
                "everyone",
                "  volume d at /data: persistentVolumeClaim data  from home",
                "",
                "grace, with the image Lab",
            ],
            id="claim",
        ),
        pytest.param(
            ["--resource", "nvidia.com/gpu"],
            [
                "1 group and 1 combination of groups can get the resource nvidia.com/gpu; nobody else can",
                "",
                "members of forecasters, with the size Large",
                "  limit of nvidia.com/gpu  from size Large",
            ],
            id="resource",
        ),
        pytest.param(
            ["--size", "Large"],
            ["1 group can get the size Large; nobody else can", "", "members of forecasters"],
            id="size",
        ),
        pytest.param(
            ["--image-choice", "Lab"], ["1 user can get the image Lab; nobody else can", "", "grace"], id="image"
        ),
        pytest.param(["--env", "NOPE"], ["nobody can get the variable NOPE"], id="nobody"),
    ],
)
def test_who_can_get_it_and_through_what(
    thing: list[str], lines: list[str], document: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["who", document, *thing]) == (1 if lines[0].startswith("nobody") else 0)
    found = capsys.readouterr().out.splitlines()
    assert found[0] == lines[0]
    assert [line for line in lines if line not in found] == []


def test_who_is_named_by_a_team_needs_to_be_a_member(tmp_path: Path) -> None:
    document = parse(TEAM)
    found = Comparison(find_holders(document, Thing("env", "A")))
    holders = find_differences(found, UTC, 0)
    assert count_who(found) == "1 user and 4 combinations of groups"
    assert [each.who for each in holders] == ["cy", "members of s and ada, if in f", "members of s and ada, if in h"]
    assert Strangers.find([document], {"cy": frozenset("f")}).to_json() == {
        "unknown_users": ["ada"], "unknown_groups": ["h", "s"],
    }  # fmt: skip


def test_a_roster_adds_names_and_finds_who_is_missing(
    document: str, roster: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["who", document, "--secret", "team-s3", "--roster", roster, "--complete"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[1] == "on the roster: 2 of 4 people can get it"
    assert "  2 people on the roster: ada, bob" in lines
    assert lines[-1] == "not on the roster: grace"
    assert main(["who", document, "--env", "S3_KEY", "--format", "json", "--roster", roster, "--complete"]) == 0
    told = json.loads(capsys.readouterr().out)
    assert told["thing"] == {"kind": "env", "name": "S3_KEY"}
    assert told["anybody"] is True
    assert told["unknown_users"] == ["grace"]
    assert told["unknown_groups"] == []
    assert {name for each in told["holders"] for name in each["people"]} == {"ada", "bob"}


def test_diff_names_the_people_of_a_roster(
    document: str, roster: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    other = tmp_path / "other.yaml"
    other.write_text(DOCUMENT.replace("groups: [interns]", "groups: [guests]"))
    options = ["--roster", roster, "--complete"]
    assert main(["diff", document, str(other), *options]) == 1
    lines = capsys.readouterr().out.splitlines()
    assert lines[1] == "on the roster: 1 of 4 people affected"
    assert "  1 person on the roster: eve" in lines
    assert "nobody on the roster is in guests" in lines
    assert main(["diff", document, document, *options]) == 0
    main(["diff", document, str(other), "--format", "json", *options])
    told = json.loads(capsys.readouterr().out.partition("\n{")[2].join(["{", ""]))
    assert {name for each in told["changes"] for name in each["people"]} == {"eve"}
    assert told["unknown_groups"] == ["guests"]


@pytest.mark.parametrize("seed", range(60))
def test_exactly_those_are_named_who_get_something_else(seed: int) -> None:
    pair = make_pair(Random(f"roster/{seed}"))
    documents = [pair.old, pair.new]
    moment: dict[str, Any] = {"at": pair.at, "since": pair.since}
    subjects = list(all_subjects(documents, images=find_different_images(documents), **moment))
    people = sorted({(each.user, each.groups) for each in subjects}, key=str)
    chosen = dict(Random(seed).sample(people, min(4, len(people))))
    comparison = compare_documents(parse(pair.old_text), parse(pair.new_text), pair.order, roster=chosen, **moment)
    old, new = (read(each, pair.order) for each in documents)
    named = {name for change in comparison.changes for name in change.people}
    for user, groups in chosen.items():
        theirs = [each for each in subjects if (each.user, each.groups) == (user, groups)]
        differs = any(result(old, each, pair.order) != result(new, each, pair.order) for each in theirs)
        assert (user in named) == differs, (user, groups, pair.old_text, pair.new_text)


def test_nobody_stands_with_a_change_that_is_somebody_elses() -> None:
    old, new = (
        parse_document(f"profiles: [{first}{{name: b, groups: [h], until: 2027-01-31, env: {{A: c}}}}]")
        for first in ("{name: a, groups: [g, h], env: {A: b}}, ", "")
    )
    changes = compare_documents(
        old, new, since=1796000000, roster={"ada": {"g"}, "bo": {"h"}, "joe": {"g", "h"}, "zed": set()}
    ).changes
    assert [(each.groups, each.people) for each in changes] == [(("g",), ("ada",)), (("h",), ("bo", "joe"))]
