"""``python -m bench.foresee``: what it costs to compare a document with an edited copy, beside reading both.

It prints times of one run and their ratio, and the memory of the process.
"""

from __future__ import annotations

import argparse
import copy
import resource
import sys
import time
from collections.abc import Callable
from dataclasses import replace
from random import Random
from typing import Any, TypeVar

import yaml

from profiled_spawner.decide.comparison import compare_documents
from profiled_spawner.decide.holders import Thing, find_holders
from profiled_spawner.document.model import Document, Team
from profiled_spawner.document.parser import parse_document

T = TypeVar("T")

_NOW = 1_800_000_000


def main() -> None:
    """Measures, and prints."""
    parser = argparse.ArgumentParser(prog="python -m bench.foresee", description=__doc__)
    parser.add_argument("--profiles", type=int, default=3000)
    parser.add_argument("--groups", type=int, default=300)
    parser.add_argument("--patterns", type=int, default=200)
    parser.add_argument("--teams", type=int, default=0, help="of which each other profile is (default: 0)")
    arguments = parser.parse_args()
    document = make_document(Random(1), arguments.profiles, arguments.groups, arguments.patterns)
    texts = [yaml.dump(each, Dumper=yaml.CSafeDumper) for each in (document, edit(document))]
    reading, (old, new) = _measure(lambda: [parse_document(text) for text in texts])
    teams = make_teams(Random(2), arguments.teams, arguments.groups)
    old, new = give_to_teams(old, teams), give_to_teams(new, teams)
    print(
        f"{arguments.profiles:,} profiles, {arguments.groups} groups, {arguments.patterns} patterns of images, "
        f"{arguments.teams} teams"
    )
    print(f"reading both      {reading:7.3f} s")
    for what, work in (
        ("diff", lambda: compare_documents(old, new, since=_NOW).changes),
        ("diff of equals", lambda: compare_documents(old, old, since=_NOW).changes),
        ("who: a variable", lambda: find_holders(old, Thing("env", "V1"), since=_NOW)),
        ("who: a Secret", lambda: find_holders(old, Thing("secret", "s1"), since=_NOW)),
    ):
        seconds, found = _measure(work)
        print(f"{what:<16}  {seconds:7.3f} s, x {seconds / reading:.2f} of reading both; {len(found):,} changes")
    used = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    print(f"memory of the process: {used // (2**20 if sys.platform == 'darwin' else 2**10):,} MiB")


def make_document(random: Random, profiles: int, groups: int, patterns: int) -> dict[str, Any]:
    """A document in which groups, patterns, variables and times overlap."""
    teams, tools = patterns * 7 // 10, patterns * 2 // 10
    images = [
        *(f"registry.example.org/team-{number}/*" for number in range(teams)),
        *(f"*/tool-{number}:*" for number in range(tools)),
        *(f"*-gpu{number}*" for number in range(patterns - teams - tools)),
    ]
    return {"profiles": [_make_profile(random, number, groups, images) for number in range(profiles)]}


def _make_profile(random: Random, number: int, groups: int, images: list[str]) -> dict[str, Any]:
    profile: dict[str, Any] = {"name": f"p{number}"}
    kind = random.random()
    if kind < 0.6:
        profile["groups"] = random.sample([f"g{each}" for each in range(groups)], min(groups, random.randint(1, 3)))
    elif kind < 0.8:
        profile["users"] = [f"u{random.randrange(2000)}" for _ in range(5)]
    if random.random() < 0.5:
        profile["images"] = random.sample(images, random.randint(1, 2))
    profile["env"] = {f"V{random.randrange(50)}": str(random.randrange(3)) for _ in range(3)}
    if random.random() < 0.5:
        profile["resources"] = {"mem_limit": f"{random.randint(1, 8)}Gi", "cpu_limit": random.randint(1, 8)}
    if random.random() < 0.1:
        profile["env_from"] = [{"secretRef": {"name": f"s{random.randrange(20)}"}}]
    if random.random() < 0.1:
        profile["volumes"] = [{"name": f"v{number % 20}", "mountPath": f"/m{random.randrange(20)}", "emptyDir": {}}]
    if random.random() < 0.1:
        profile["from"] = f"20{random.randint(30, 38)}-01-0{random.randint(1, 8)}"
    return profile


def make_teams(random: Random, teams: int, groups: int) -> list[Team]:
    """Teams of a few groups and users."""
    return [
        Team(
            number,
            f"t{number}",
            frozenset(f"u{random.randrange(2000)}" for _ in range(5)),
            frozenset(f"g{random.randrange(groups)}" for _ in range(3)),
        )
        for number in range(teams)
    ]


def give_to_teams(document: Document, teams: list[Team]) -> Document:
    """The document, in which each other profile is from a team, if there are teams."""
    if not teams:
        return document
    numbers = [int(profile.shown_name.removeprefix("p")) for profile in document.profiles]
    return replace(
        document,
        profiles=tuple(
            replace(profile, team=teams[number // 2 % len(teams)]) if number % 2 else profile
            for number, profile in zip(numbers, document.profiles, strict=True)
        ),
    )


def edit(document: dict[str, Any]) -> dict[str, Any]:
    """A copy in which a few profiles are changed, one of them for everyone, and one is gone."""
    edited = copy.deepcopy(document)
    profiles = edited["profiles"]
    profiles[len(profiles) // 2]["groups"] = ["g1", "g2"]
    profiles[len(profiles) // 3]["resources"] = {"mem_limit": "1Gi"}
    for_everyone = next(each for each in profiles if not {"users", "groups", "images"} & each.keys())
    for_everyone["env"] = {"V1": "9", "V2": "8"}
    profiles.pop(len(profiles) // 4)
    return edited


def _measure(work: Callable[[], T]) -> tuple[float, T]:
    begin = time.perf_counter()
    result = work()
    return time.perf_counter() - begin, result


if __name__ == "__main__":
    main()
