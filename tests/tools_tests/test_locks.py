"""A release anywhere changes nothing here: what the targets of make install is locked, and the locks are up to date."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path
from typing import Any

import pytest
import yaml
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name
from packaging.version import Version

from locks import LOCKS, installed_by, read
from locks.latest import describe

ROOT = Path(__file__).parents[2]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())
RUNTIME = PROJECT["project"]["dependencies"]
EXTRAS = PROJECT["project"]["optional-dependencies"]
GROUPS = PROJECT["dependency-groups"]
OLDEST = [line for line in (LOCKS / "oldest.in").read_text().splitlines() if not line.startswith("#")]
PYTHONS = [
    classifier.rpartition(" ")[2]
    for classifier in PROJECT["project"]["classifiers"]
    if re.search(r"Python :: 3\.\d+$", classifier)
]

# What each lock file has to satisfy.
DEMANDS: dict[str, list[str]] = {
    "runtime": RUNTIME,
    "oldest-runtime": RUNTIME + OLDEST,
    "oldest": RUNTIME + EXTRAS["test"] + GROUPS["build"] + OLDEST,
    "lock": GROUPS["lock"],
} | {extra: RUNTIME + requirements for extra, requirements in EXTRAS.items()}
DEMANDS["test"] += GROUPS["build"] + PROJECT["build-system"]["requires"]
DEMANDS["bench"] += GROUPS["build"]

# What shares an environment, or is compared: a package has one version in all of them.
TOGETHER = [
    ["test", "runtime", "docs", "lint", "release", "fuzz", "mutants", "bench"],
    ["oldest", "oldest-runtime"],
]


def test_every_lock_file_is_of_this_table() -> None:
    assert {path.stem for path in LOCKS.glob("*.txt")} == DEMANDS.keys()


@pytest.mark.parametrize("python", PYTHONS)
@pytest.mark.parametrize("lock", DEMANDS)
def test_a_lock_has_what_the_project_needs_in_a_version_that_it_allows(lock: str, python: str) -> None:
    installed = installed_by(LOCKS / f"{lock}.txt", python)
    for requirement in map(Requirement, DEMANDS[lock]):
        if requirement.marker is None or requirement.marker.evaluate({"python_version": python, "extra": ""}):
            name = canonicalize_name(requirement.name)
            assert name in installed, f"{lock}.txt has no {name} for Python {python}: run `make lock UPGRADE=`"
            assert requirement.specifier.contains(installed[name], prereleases=True), f"{lock}.txt: {requirement}"


@pytest.mark.parametrize("lock", DEMANDS)
def test_every_pin_of_a_lock_has_hashes_and_no_address(lock: str) -> None:
    pins = list(read(LOCKS / f"{lock}.txt"))
    assert pins
    for pin in pins:
        assert pin.version, pin
        assert pin.requirement.url is None
        assert pin.hashes, f"{pin.name} has no hash"
        assert all(re.fullmatch(r"sha256:[0-9a-f]{64}", digest) for digest in pin.hashes), pin.name
    assert "://" not in (LOCKS / f"{lock}.txt").read_text()


@pytest.mark.parametrize("python", PYTHONS)
@pytest.mark.parametrize("locks", TOGETHER, ids=" ".join)
def test_what_shares_an_environment_moves_nothing_in_it(locks: list[str], python: str) -> None:
    together: dict[str, Version] = {}
    for lock in locks:
        installed = installed_by(LOCKS / f"{lock}.txt", python)
        assert {name: together[name] for name in installed.keys() & together} == {
            name: installed[name] for name in installed.keys() & together
        }, lock
        together |= installed


def test_the_oldest_are_the_lower_bounds_where_there_is_a_wheel_of_them() -> None:
    bounds = {canonicalize_name(each.name): each.specifier for each in map(Requirement, RUNTIME)}
    oldest = installed_by(LOCKS / "oldest.txt", PYTHONS[0])
    for name, specifier in bounds.items():
        (bound,) = specifier
        assert bound.operator == ">="
        assert oldest[name] == Version(bound.version)


class TestReport:
    LOCKED = {"aiohttp": Version("3.14.5"), "overrides": Version("7.7"), "pyyaml": Version("6.0.4")}  # noqa: RUF012

    def test_it_says_what_fails_and_what_differs(self) -> None:
        installed = {"aiohttp": Version("3.15"), "new": Version("1"), "pyyaml": Version("6.0.4"), "pip": Version("26")}
        assert describe(["tests/test_a.py::test_b"], 1, installed, self.LOCKED).splitlines()[1:] == [
            "Failed: 1",
            "  tests/test_a.py::test_b",
            "Other than in tests/tools/locks/test.txt: 3",
            "  aiohttp  3.14.5 -> 3.15",
            "  new  not locked -> 1",
            "  overrides  7.7 -> not installed",
        ]

    @pytest.mark.parametrize(("code", "told"), [(0, "Failed: nothing"), (2, "No test failed, but pytest ended with 2")])
    def test_it_says_so_where_there_is_nothing(self, code: int, told: str) -> None:
        report = describe([], code, self.LOCKED, self.LOCKED).splitlines()
        assert report[1:] == [told, "Other than in tests/tools/locks/test.txt: nothing"]


@pytest.mark.parametrize("path", sorted((ROOT / ".github" / "workflows").glob("*")), ids=lambda path: path.name)
def test_an_example_of_a_workflow_runs_what_there_is(path: Path) -> None:
    workflow: dict[Any, Any] = yaml.safe_load(path.read_text())
    # YAML 1.1 takes `on` for true.
    assert workflow.keys() == {"name", True, "permissions", "jobs"}
    steps = [step for job in workflow["jobs"].values() for step in job["steps"]]
    assert all(re.fullmatch(r"[\w-]+/[\w-]+@v\d+", step["uses"]) for step in steps if "uses" in step)
    commands = [step["run"] for step in steps if "run" in step]
    assert commands
    targets = set(re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(), flags=re.MULTILINE))
    for command in commands:
        program, *arguments = command.split()
        if program == "make":
            assert targets.issuperset(arguments)
        else:
            assert (ROOT / program).is_file()


def test_the_weekly_example_has_every_interpreter_that_the_project_names() -> None:
    workflow = yaml.safe_load((ROOT / ".github" / "workflows" / "latest.yml").read_text())
    assert workflow["jobs"]["latest"]["strategy"]["matrix"]["python"] == PYTHONS
