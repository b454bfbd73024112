"""What a team's document may have, and what a start has of it, written from the specification as plainly as can be."""

from __future__ import annotations

import re
from collections.abc import Iterator
from fractions import Fraction
from typing import Any, NamedTuple

__all__ = ["Start", "find_entries", "is_member", "may_refer", "merge", "read_amount", "why_not"]

Said = dict[str, Any]

# Names that are in no pattern; a server that has no name; and names that patterns have.
PEOPLE = ("zq9", "ada", "t", "x", "s3")
SERVERS = ("", "zq8", "x", "t")


class Start(NamedTuple):
    """A person, and the image that their server runs."""

    user: str
    groups: frozenset[str]
    image: str


def read_amount(value: Any) -> Fraction | None:
    """An amount in bytes, cores or units."""
    if value is None:
        return None
    number, unit = re.fullmatch(r"([0-9.]+(?:[eE][+-]?[0-9]+)?)(.*)", str(value)).groups()  # type: ignore[union-attr]
    powers = {"": 1, "m": Fraction(1, 1000), "k": 10**3, "M": 10**6, "G": 10**9}
    powers |= {f"{letter}i": 1024**power for power, letter in enumerate("KMG", 1)}
    return Fraction(number) * powers[unit]


def list_amounts(entry: Said) -> list[tuple[str, str, Fraction | None]]:
    """Each amount of a profile or a size: its kind, its resource and how much."""
    found = []
    if "gpu" in entry:
        found.append(("limits", "nvidia.com/gpu", read_amount(entry["gpu"])))
    for key, value in entry.get("resources", {}).items():
        if key in ("limits", "requests"):
            found += [(key, resource, read_amount(amount)) for resource, amount in value.items()]
        else:
            resource = {"mem": "memory", "cpu": "cpu"}[key.partition("_")[0]]
            found.append(("limits" if key.endswith("limit") else "requests", resource, read_amount(value)))
    return found


def list_env(entry: Said) -> dict[str, Any]:
    env = entry.get("env", {})
    if isinstance(env, dict):
        return dict(env)
    return {each["name"]: {"valueFrom": each["valueFrom"]} if "valueFrom" in each else each["value"] for each in env}


def list_names(entry: Said) -> Iterator[str]:
    """Each Secret and ConfigMap to which an entry refers."""
    for value in list_env(entry).values():
        if isinstance(value, dict):
            for kind, reference in value["valueFrom"].items():
                if kind != "fieldRef":
                    yield reference["name"]
    for source in entry.get("env_from", []):
        yield from (reference["name"] for kind, reference in source.items() if kind != "prefix")
    yield from entry.get("image_pull_secrets", [])


def expand(name: str, user: str, server: str) -> str:
    """What KubeSpawner makes of a template."""
    if "{" not in name:
        return name
    user_server = f"{user}--{server}" if server else user
    return name.format(username=user, servername=server, user_server=user_server).rstrip("-")


def may_refer(team: Said, name: str) -> bool:
    patterns = ["".join(".*" if part == "*" else re.escape(part) for part in each) for each in team.get("refers", [])]
    names = {expand(name, user, server) for user in PEOPLE for server in SERVERS}
    return all(any(re.fullmatch(pattern, each) for pattern in patterns) for each in names)


def why_not(team: Said, document: dict[str, list[Said]]) -> str | None:
    """Why a team may not have a document; None if it may."""
    may = team.get("may", ["env", "resources"])
    for key in ("sizes", "images"):
        if document.get(key) and key not in may:
            return f"has {key}"
    for entry in [each for entries in document.values() for each in entries]:
        for key in ("volumes", "labels", "annotations", "node_selector", "node_tolerations"):
            if entry.get(key):
                return f"has {key}"
        if list_env(entry) and "env" not in may:
            return "has env"
        if entry.get("env_from") and "env_from" not in may:
            return "has env_from"
        amounts = list_amounts(entry)
        if amounts and "resources" not in may:
            return "has resources"
        what = why_not_amounts(team, amounts)
        if what:
            return what
        for name in list_names(entry):
            if not may_refer(team, name):
                return f"refers to {name}"
    return None


def why_not_amounts(team: Said, amounts: list[tuple[str, str, Fraction | None]]) -> str | None:
    hard = {name: read_amount(amount) for name, amount in team.get("hard", {}).items()}
    reserved = {resource for kind, resource, amount in amounts if kind == "requests"}
    for kind, resource, amount in amounts:
        if amount is None:
            return f"takes {resource} away"
        is_whole = "/" in resource or resource.startswith("hugepages-")
        bounds = []
        if is_whole or kind == "requests":
            bounds.append(f"requests.{resource}")
        if not is_whole:
            bounds.append(f"limits.{resource}")
        given = [hard[name] for name in bounds if name in hard]
        if not given:
            return f"gives {resource}"
        if any(amount > bound for bound in given if bound is not None):
            return f"gives too much {resource}"
        if not is_whole and kind == "limits" and resource not in reserved:
            bound = hard.get(f"requests.{resource}")
            if bound is not None and amount > bound:
                return f"reserves too much {resource}"
    return None


def is_for(entry: Said, start: Start) -> bool:
    users, groups = entry.get("users"), entry.get("groups")
    if users is None and groups is None:
        return True
    return start.user in (users or ()) or "*" in (users or ()) or bool(start.groups & set(groups or ()))


def is_member(team: Said, start: Start) -> bool:
    return is_for(team, start)


def is_for_image(entry: Said, start: Start) -> bool:
    if "images" not in entry:
        return True
    patterns = ["".join(".*" if part == "*" else re.escape(part) for part in each) for each in entry["images"]]
    names = [start.image, f"{start.image}:latest"] if ":" not in start.image else [start.image]
    return any(re.fullmatch(pattern, name) for pattern in patterns for name in names)


def find_entries(
    team: Said, main: dict[str, list[Said]], own: dict[str, list[Said]], key: str, start: Start
) -> list[tuple[str, Said]]:
    """The entries that a start gets or is offered, each with the document that it is from, in order."""
    found = [("main", entry) for entry in main.get(key, []) if is_for(entry, start)]
    if is_member(team, start):
        taken = {entry["name"] for entry in main.get(key, [])} if key != "profiles" else set()
        found += [("own", each) for each in own.get(key, []) if is_for(each, start) and each["name"] not in taken]
    if key != "profiles":
        return found

    def count(item: tuple[str, Said]) -> int:
        whose, entry = item
        names_who = whose == "own" or not (
            (entry.get("users") is None and entry.get("groups") is None) or "*" in entry.get("users", ())
        )
        return names_who + ("images" in entry and "*" not in entry["images"])

    return sorted((each for each in found if is_for_image(each[1], start)), key=count)


def merge(entries: list[tuple[str, Said]]) -> dict[tuple[str, str], tuple[str, Any]]:
    """What each variable and amount is in the end, and which document it is from."""
    found: dict[tuple[str, str], tuple[str, Any]] = {}
    for whose, entry in entries:
        for name, value in list_env(entry).items():
            found["env", name] = whose, value
        for kind, resource, amount in list_amounts(entry):
            found[kind, resource] = whose, amount
    return found
