"""A list of mutants, as text that people read and explain survivors in."""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path

from .finding import Change, Mutant, find_mutants, module_path

_HEAD = re.compile(r"(?P<module>\S+): (?P<unit>\S+) \((?P<operator>\w+)(?:, no\. (?P<number>\d+))?\)")
_EXPLANATION = "survives: "


class ListError(Exception):
    """A list is not written as one."""


@dataclass(frozen=True, slots=True)
class Entry:
    """One mutant of a list.

    Attributes:
        change: What it changes.
        explanation: Why no test has to kill it; empty where there is no reason.
    """

    change: Change
    explanation: str = ""


def draw(changes: Collection[Change], number: int, seed: int) -> list[Change]:
    """So many of the changes, at random, in the order of the modules.

    Those are drawn whose hash, with the seed, is least. So an edit of the package exchanges few of them, and the
    explanations of the others stay true.
    """
    drawn = set(sorted(changes, key=lambda change: sha256(f"{seed} {change}".encode()).digest())[:number])
    return [change for change in changes if change in drawn]


def read_list(path: Path) -> list[Entry]:
    """The entries of a file.

    Raises:
        ListError: Some lines of it are no entry.
    """
    text = "\n".join(line for line in path.read_text(encoding="utf-8").splitlines() if not line.startswith("#"))
    return [_parse(path.name, block) for block in re.split(r"\n\s*\n", text.strip())] if text.strip() else []


def write_list(path: Path, comment: str, entries: Iterable[Entry]) -> None:
    """Writes a file that `read_list` reads, with the comment at its head."""
    head = "".join(f"# {line}\n" for line in comment.splitlines())
    path.write_text("\n".join([head, *map(describe, entries)]), encoding="utf-8")


def find_listed(root: Path, changes: Iterable[Change]) -> dict[Change, Mutant]:
    """The mutants that make these changes. A change that can no longer be made is not among them."""
    wanted = set(changes)
    found = {}
    for module in sorted({change.module for change in wanted if (root / module_path(change.module)).is_file()}):
        only = {(change.unit, change.operator) for change in wanted if change.module == module}
        found.update({mutant.change: mutant for mutant in find_mutants(root, module, only) if mutant.change in wanted})
    return found


def describe(entry: Entry) -> str:
    """An entry in a few lines, as a list has it."""
    change = entry.change
    number = f", no. {change.number}" if change.number > 1 else ""
    lines = [f"{change.module}: {change.unit} ({change.operator}{number})"]
    lines += [f"- {line}".rstrip() for line in change.was.splitlines()]
    lines += [f"+ {line}".rstrip() for line in change.now.splitlines()]
    if entry.explanation:
        lines.append(f"{_EXPLANATION}{entry.explanation}")
    return "\n".join(lines) + "\n"


def _parse(file: str, block: str) -> Entry:
    head, *lines = block.splitlines()
    found = _HEAD.fullmatch(head)
    if found is None:
        raise ListError(f"{file}: {head!r} does not begin a mutant; write: module: function (operator)")
    was = [line[2:] for line in lines if line.startswith("-")]
    now = [line[2:] for line in lines if line.startswith("+")]
    explanation = [line.removeprefix(_EXPLANATION).strip() for line in lines if line.startswith((_EXPLANATION, "  "))]
    if len(was) + len(now) + len(explanation) < len(lines):
        raise ListError(f"{file}: in {head!r}, begin each line with '- ', '+ ' or {_EXPLANATION!r}")
    change = Change(
        found["module"], found["unit"], found["operator"], "\n".join(was), "\n".join(now), int(found["number"] or 1)
    )
    return Entry(change, " ".join(explanation))
