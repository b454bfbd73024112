"""Asks the package and the oracle about random pairs of documents, and reports where they disagree."""

from __future__ import annotations

import time
import traceback
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from random import Random
from typing import Any, Protocol

from .answer import Subject, result
from .subjects import find_difference
from .world import Pair, make_pair, split

FOLDER = Path(__file__).parents[3] / "build" / "oracle"


class Comparison(Protocol):
    """What the package says of two documents."""

    @property
    def equal(self) -> bool: ...

    @property
    def changes(self) -> Any: ...


Compare = Callable[..., Comparison]
"""As `profiled_spawner.decide.comparison.compare_documents`."""


@dataclass(frozen=True, slots=True)
class Finding:
    """Where the package and the oracle disagree.

    Attributes:
        number: The pair's number.
        what: What is wrong.
        pair: The documents.
        subject: For whom; None if it is about nobody in particular.
    """

    number: int
    what: str
    pair: Pair
    subject: Subject | None = None

    def describe(self, seed: int) -> str:
        """All of it, for people, and how to have it again."""
        pair, subject = self.pair, self.subject
        if subject and len(subject.image) > 100:
            subject = subject._replace(image=f"{subject.image[:10]}… ({len(subject.image):,} characters)")
        return (
            f"pair {self.number}: {self.what}\n"
            f"subject: {subject}\n"
            f"merge order: {pair.order}; at: {pair.at}; since: {pair.since}\n"
            f"edits: {', '.join(pair.edits) or 'none'}\n"
            f"again: python -m oracle --pairs 1 --first {self.number} --seed {seed}\n"
            f"--- old\n{pair.old_text}--- new\n{pair.new_text}"
        )


@dataclass(slots=True)
class Tally:
    """How it went.

    Attributes:
        equal: Pairs that are equal for everybody, by brute force.
        different: The others.
        beyond: Pairs of which only the package found the difference, rightly: on an image that the oracle does not try.
        examples: The examples of the package that were checked.
        oracle_seconds: How long the oracle took.
        package_seconds: How long the package took, parsing included.
    """

    equal: int = 0
    different: int = 0
    beyond: int = 0
    examples: int = 0
    oracle_seconds: float = 0
    package_seconds: float = 0

    @property
    def pairs(self) -> int:
        return self.equal + self.different


def run(
    pairs: int,
    seed: int,
    compare: Compare | None = None,
    *,
    first: int = 0,
    pieces: int = 4,
    tally: Tally | None = None,
    on_finding: Callable[[Finding], None] | None = None,
) -> list[Finding]:
    """Compares random pairs, and returns where the package is wrong.

    Args:
        pairs: How many.
        seed: Of the random numbers; the pair of a number depends on nothing else.
        compare: What is checked; the package's `compare_documents` by default.
        first: The number of the first pair.
        pieces: Of how many pieces the images are that are tried on all filters: see `subjects.PIECES`.
        tally: Where to count.
        on_finding: What to do with each finding at once.
    """
    compare = compare or find_compare()
    tally = Tally() if tally is None else tally
    findings: list[Finding] = []
    for number in range(first, first + pairs):
        pair = make_pair(Random(f"{seed}/{number}"))
        for finding in check_pair(number, pair, compare, pieces, tally):
            findings.append(finding)
            if on_finding:
                on_finding(finding)
    return findings


def run_alone(pairs: int, seed: int, *, first: int = 0, pieces: int = 4, tally: Tally) -> None:
    """Asks the oracle alone, about the same pairs as `run`."""
    for number in range(first, first + pairs):
        ask_oracle(make_pair(Random(f"{seed}/{number}")), pieces, tally)


def ask_oracle(pair: Pair, pieces: int, tally: Tally) -> Subject | None:
    """A subject that gets something else, by brute force; None if nobody does."""
    began = time.perf_counter()
    subject = find_difference(pair.old, pair.new, pair.order, at=pair.at, since=pair.since, pieces=pieces)
    tally.oracle_seconds += time.perf_counter() - began
    tally.equal += subject is None
    tally.different += subject is not None
    return subject


def find_compare() -> Compare:
    """What the package compares documents with."""
    from profiled_spawner.decide.comparison import compare_documents

    return compare_documents


def check_pair(number: int, pair: Pair, compare: Compare, pieces: int, tally: Tally) -> list[Finding]:
    """Returns what is wrong with the package's answer to one pair."""
    subject = ask_oracle(pair, pieces, tally)
    asked = time.perf_counter()
    try:
        comparison = _compare(pair, compare)
    except Exception:  # noqa: BLE001  a defect is a finding too
        return [Finding(number, f"a defect:\n{traceback.format_exc()}", pair, subject)]
    finally:
        tally.package_seconds += time.perf_counter() - asked

    changes = tuple(comparison.changes)
    if comparison.equal != (not changes):
        return [Finding(number, f"equal is {comparison.equal}, and there are {len(changes)} changes", pair, subject)]
    if comparison.equal:
        return [] if subject is None else [Finding(number, "missed: somebody gets something else", pair, subject)]
    tally.examples += len(changes)
    findings = [
        Finding(number, f"{what}: {change}", pair, _to_subject(change.example))
        for change in changes
        if (what := _explain_example(pair, change.example))
    ]
    tally.beyond += subject is None and not findings
    return findings


def _compare(pair: Pair, compare: Compare) -> Comparison:
    old, new = parse(pair.old_text), parse(pair.new_text)
    moment = {"since": pair.since} if pair.at is None else {"at": pair.at}
    return compare(old, new, pair.order, **moment)


def parse(text: str) -> Any:
    """Reads a document with the package, and those of its teams, as `world.to_text` writes them."""
    from profiled_spawner.document.model import combine_documents
    from profiled_spawner.document.parser import parse_document

    main_text, others = split(text)
    main = parse_document(main_text)
    teams = {name: team for team in main.teams or () for name in team.configmaps}
    theirs = [parse_document(each, is_selected=True).of_configmap(name, teams[name]) for name, each in others.items()]
    return combine_documents(main, theirs).document


def _to_subject(example: Any) -> Subject:
    return Subject(
        example.user, frozenset(example.groups), example.image, example.image_choice, example.size, example.at
    )


def _explain_example(pair: Pair, example: Any) -> str:
    """Says what is wrong with an example of a change; empty if nothing is."""
    subject = _to_subject(example)
    if subject.at != pair.at if pair.at is not None else subject.at < pair.since:
        return "the example is at a moment that does not count"
    if not subject.image or not subject.user:
        return "the example has no user or no image"
    if result(pair.old, subject, pair.order) == result(pair.new, subject, pair.order):
        return "invented: the example gets the same"
    return ""
