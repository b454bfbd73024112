"""Asks the package and the oracle about random documents of teams, and reports where they disagree."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from fractions import Fraction
from itertools import product
from typing import Any

from profiled_spawner.decide.choices import find_offer
from profiled_spawner.decide.matching import Subject, match_profiles
from profiled_spawner.decide.merging import merge_profiles, reconcile_resources
from profiled_spawner.decide.teams import map_teams
from profiled_spawner.document.model import Document, EnvVarSource, Profile, combine_documents
from profiled_spawner.document.parser import parse_document
from profiled_spawner.errors import DocumentError
from profiled_spawner.sources.bounds import bound_document
from profiled_spawner.sources.extract import Text

from .answer import Start, find_entries, is_member, may_refer, merge, read_amount, why_not
from .world import IMAGES, USERS, Case, make_case

__all__ = ["STARTS", "Finding", "Tally", "run"]

_GROUPS: tuple[tuple[str, ...], ...] = ((), ("forecasters",), ("staff",), ("forecasters", "staff"), ("*",))
STARTS = tuple(Start(user, frozenset(groups), image) for user, groups, image in product(USERS, _GROUPS, IMAGES))


@dataclass(frozen=True, slots=True)
class Finding:
    """Where the package and the oracle disagree."""

    case: Case
    what: str

    def describe(self, seed: int) -> str:
        """All of it, for people, and how to have it again."""
        return (
            f"document {self.case.number}: {self.what}\n"
            f"again: python -m teams --documents 1 --first {self.case.number} --seed {seed}\n"
            f"--- main\n{self.case.main_text}--- team\n{self.case.own_text}"
        )


@dataclass(slots=True)
class Tally:
    """How it went: how many documents keep to their bounds, how many do not, and how many starts were compared."""

    kept: int = 0
    refused: int = 0
    starts: int = 0


def run(
    documents: int,
    seed: int,
    *,
    first: int = 0,
    tally: Tally | None = None,
    on_finding: Callable[[Finding], None] | None = None,
) -> list[Finding]:
    """Checks random documents of teams, and returns where the package is wrong: at most one finding of each.

    Args:
        documents: How many.
        seed: Of the random numbers; the document of a number depends on nothing else.
        first: The number of the first one.
        tally: Where to count.
        on_finding: What to do with each finding at once.
    """
    tally = Tally() if tally is None else tally
    findings = []
    for number in range(first, first + documents):
        case = make_case(number, seed)
        what = next(check(case, tally), None)
        if what is not None:
            findings.append(Finding(case, what))
            if on_finding:
                on_finding(findings[-1])
    return findings


def check(case: Case, tally: Tally) -> Iterator[str]:
    """Says what is wrong with what the package makes of a case."""
    main = parse_document(case.main_text)
    own = parse_document(case.own_text, is_selected=True)
    refused = why_not(case.team, case.own)
    team = (map_teams(main) or {})["team"]
    try:
        bounded = bound_document(own, "team", team, Text(case.own_text))
    except DocumentError as error:
        tally.refused += 1
        if refused is None:
            yield f"is refused, and may be had: {error}"
        if any(not each.line for each in error.diagnostics):
            yield f"an error has no place: {error}"
        return
    if refused is not None:
        tally.refused += 1
        yield f"may not be had, because it {refused}, and is not refused"
        return
    tally.kept += 1
    document = combine_documents(main, [bounded]).document
    for start in STARTS:
        tally.starts += 1
        for what in check_start(case, document, start):
            yield f"{start}: {what}"


def check_start(case: Case, document: Document, start: Start) -> Iterator[str]:
    subject = Subject(start.user, start.groups, start.image, 0)
    offer = find_offer(document, subject)
    applied = match_profiles(document, subject)
    found: dict[str, Any] = {"profiles": applied, "sizes": offer.sizes, "images": offer.images}
    wanted = {key: find_entries(case.team, case.main, case.own, key, start) for key in found}
    for key, entries in found.items():
        got = [("main" if entry.configmap is None else "own", entry.name) for entry in entries]
        want = [(whose, entry["name"]) for whose, entry in wanted[key]]
        if got != want:
            yield f"gets {key} {got}, and should get {want}"
        if not is_member(case.team, start) and any(entry.configmap for entry in entries):
            yield f"gets {key} of a team without being a member"
    for place, size in enumerate([None, *offer.sizes]):
        chosen: tuple[Profile, ...] = applied if size is None else (*applied, size)
        expected = merge([*wanted["profiles"], *(wanted["sizes"][place - 1 : place] if size else [])])
        yield from check_result(case, chosen, expected)


def check_result(case: Case, applied: tuple[Profile, ...], expected: dict[Any, Any]) -> Iterator[str]:
    effective = merge_profiles(applied)
    got: dict[Any, Any] = {}
    for name, value in effective.env.items():
        plain = value.value.to_kubernetes() if isinstance(value.value, EnvVarSource) else value.value
        got["env", name] = _whose(value.profile), {"valueFrom": plain} if isinstance(plain, dict) else plain
    for kind in ("limits", "requests"):
        for resource, setting in getattr(effective, kind).items():
            amount = None if setting.value is None else Fraction(setting.value.amount)
            got[kind, resource] = _whose(setting.profile), amount
    if got != expected:
        yield f"has {got}, and should have {expected}"
    yield from check_amounts(case, effective)
    for profile in applied:
        if profile.configmap is None:
            continue
        for source in profile.env_from:
            names = [each["name"] for kind, each in source.items() if kind != "prefix"]
            if not all(may_refer(case.team, name) for name in names):
                yield f"has variables of {names}"


def check_amounts(case: Case, effective: Any) -> Iterator[str]:
    """Says what a server has, or reserves, that is from the team and beyond its bounds."""
    hard = {name: read_amount(amount) for name, amount in case.team.get("hard", {}).items()}
    resources = reconcile_resources(effective)
    for resource in {*resources.limits, *resources.requests}:
        limit, request = resources.limits.get(resource), resources.requests.get(resource)
        reserved = request or limit
        is_whole = "/" in resource or resource.startswith("hugepages-")
        if limit and _whose(limit.profile) == "own":
            bound = hard.get(f"{'requests' if is_whole else 'limits'}.{resource}")
            if bound is None or limit.value.amount > bound:
                yield f"has {limit.value} of {resource}, and may have {bound}"
        # What the main document takes away, it takes away: the limit is then reserved.
        is_taken = resource in effective.requests and effective.requests[resource].value is None
        if reserved and _whose(reserved.profile) == "own" and not is_taken:
            bound = hard.get(f"requests.{resource}")
            if bound is not None and reserved.value.amount > bound:
                yield f"reserves {reserved.value} of {resource}, and may reserve {bound}"


def _whose(profile: Profile | None) -> str:
    return "own" if profile is not None and profile.configmap else "main"
