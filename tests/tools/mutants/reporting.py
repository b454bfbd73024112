"""What came of a whole list of mutants."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from .finding import Change
from .listing import Entry, describe
from .running import Outcome


@dataclass(frozen=True, slots=True)
class Report:
    """What came of a list.

    Attributes:
        text: For people: the mutants that someone has to do something about, the explained survivors, and the sums.
        is_good: Whether enough are killed, every survivor is explained, and enough of the list can still be made.
    """

    text: str
    is_good: bool


def make_report(entries: Sequence[Entry], outcomes: Mapping[Change, Outcome], least: float) -> Report:
    """Sums up a list.

    Args:
        entries: The list.
        outcomes: What came of each; what is not among them is gone.
        least: How many in a hundred must be killed; no more than the others may be gone.
    """
    gone = [entry for entry in entries if entry.change not in outcomes]
    survivors = [entry for entry in entries if outcomes.get(entry.change) is Outcome.SURVIVED]
    unexplained = [entry for entry in survivors if not entry.explanation]
    killed = [entry for entry in entries if entry.change in outcomes and entry not in survivors]
    share = 100 * len(killed) / max(1, len(outcomes))
    timed_out = sum(outcome is Outcome.TIMED_OUT for outcome in outcomes.values())
    parts = [
        *_list("Gone, since no such text stands there now; draw again, as the list's head says", gone),
        *_list("Killed in spite of an explanation; take that out", [each for each in killed if each.explanation]),
        *_list("Survived, as explained", [each for each in survivors if each.explanation]),
        *_list("Survived without an explanation; write a test, or say in the list why there is none", unexplained),
        f"Killed: {len(killed)} of {len(outcomes)}, {share:.1f} % (at least {least:g} %), {timed_out} of them by tests "
        f"that went on without end. Survived: {len(survivors)}, {len(unexplained)} of them without an explanation. "
        f"Gone: {len(gone)}.",
    ]
    few_are_gone = 100 * len(gone) <= (100 - least) * len(entries)
    return Report("\n\n".join(parts), share >= least and not unexplained and few_are_gone)


def _list(title: str, entries: Iterable[Entry]) -> list[str]:
    described = [describe(entry).rstrip() for entry in entries]
    return [f"{title}:", *described] if described else []
