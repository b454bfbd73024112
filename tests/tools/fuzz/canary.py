"""``python -m fuzz.canary``: damages documents, and searches all that is told of them for values of variables.

Exits with 1 if a value was found. Each finding stands under ``build/fuzz/findings/canary``, as the smallest document
that shows it, and ``--input`` tells where it shows.
"""

from __future__ import annotations

import argparse
import asyncio
import hashlib
import os
import random
import re
import shlex
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, field
from functools import partial
from itertools import islice
from pathlib import Path

from profiled_spawner.document.model import Document

from .canaries import find_canaries, make_bases
from .damage import damage, damages
from .outputs import Told, find_leaks, parse, read_as_hub, run_command, run_render, tell

__all__ = ["Finding", "Tally", "make_documents", "search"]

_TOOLS = Path(__file__).parents[1]
_FOLDER = Path(__file__).parents[3] / "build" / "fuzz" / "findings" / "canary"

# Of so many documents one is shown to the command and to a hub, and one is made a pod of.
_COSTLY_EVERY, _RENDER_EVERY = 200, 5000
_PROGRESS_SECONDS = 10
# Of those at random, how many have one damage alone.
_ONE_DAMAGE = 0.3


_PLACE = re.compile(r"^\S+:\d+:\d+: ")
# A step of a diagnostic's path.
_QUOTING_STEP = re.compile(r"""\["[^]]*§.*?"\]|\.[\w…]*§[\w…]*""")


@dataclass(frozen=True, slots=True)
class Finding:
    """A value where none may be.

    Attributes:
        base: The document that was damaged.
        text: What it was made into.
        output: Where the value was found.
        line: What was said there.
    """

    base: str
    text: str
    output: str
    line: str

    @property
    def kind(self) -> str:
        """What findings of the same message have in common."""
        line = _PLACE.sub("", re.sub("§+", "§", _without_canaries(self.line)))
        return re.sub(r"\d+", "0", _QUOTING_STEP.sub(".§", line))

    @property
    def is_costly(self) -> bool:
        """Whether it takes more than `tell` to show it."""
        return "command" in self.output or "read" in self.output


@dataclass(slots=True)
class Tally:
    """What came of a search.

    Attributes:
        documents: How many were searched, and of those how many were valid.
        searched: How many documents' each output was.
        excused: By output, documents in which a value had become something public.
        findings: The first of each kind.
        counts: How many documents show each kind.
        seconds: How long it took.
    """

    documents: int = 0
    valid: int = 0
    searched: Counter[str] = field(default_factory=Counter)
    excused: Counter[str] = field(default_factory=Counter)
    findings: dict[str, Finding] = field(default_factory=dict)
    counts: Counter[str] = field(default_factory=Counter)
    seconds: float = 0

    def add(self, other: Tally) -> None:
        """Adds what came of another search at the same time."""
        self.documents += other.documents
        self.valid += other.valid
        self.searched += other.searched
        self.excused += other.excused
        self.findings = other.findings | self.findings
        self.counts += other.counts
        self.seconds = max(self.seconds, other.seconds)


def make_documents(count: int, seed: int, *, systematic: bool = False) -> Iterator[tuple[str, str]]:
    """Damaged documents, each with the name of what it was made from, and each once; the same for a seed.

    Args:
        count: How many.
        seed: What they are made from at random.
        systematic: Whether every second one has the next of all damages at all positions, as long as there are any;
            else all have one or two at random.
    """
    randomness = random.Random(seed)
    bases = make_bases(seed)
    names = list(bases)
    each_once = ((name, damaged) for name, text in bases.items() for damaged in damages(text))
    known: set[int] = set()
    while len(known) < count:
        made = next(each_once, None) if systematic and len(known) % 2 == 0 else None
        if made is None:
            name = randomness.choice(names)
            damaged = damage(bases[name], randomness)
            made = name, damaged if randomness.random() < _ONE_DAMAGE else damage(damaged, randomness)
        if hash(made[1]) not in known:
            known.add(hash(made[1]))
            yield made


def search(
    documents: Iterable[tuple[str, str]],
    *,
    costly_every: int = _COSTLY_EVERY,
    render_every: int = _RENDER_EVERY,
    progress: Callable[[Tally], None] = lambda _: None,
) -> Tally:
    """Searches all that is told of documents.

    Args:
        documents: Each with the name of what it was made from.
        costly_every: Of how many documents one is shown to the command and to a hub.
        render_every: Of how many one is made a pod of.
        progress: Called after each document.
    """
    tally = Tally()
    began = time.monotonic()
    with tempfile.TemporaryDirectory() as folder, asyncio.Runner() as runner:
        path = Path(folder) / "profiles.yaml"
        for number, (base, text) in enumerate(documents, start=1):
            checked = parse(text)
            told = list(tell(checked))
            if number % costly_every == 0:
                path.write_text(text)
                told += [*run_command(path), *read_as_hub(path, runner)]
            if number % render_every == 0:
                path.write_text(text)
                told += run_render(path)
            # A random name may look like a part of a canary.
            told = [(output, said.replace(folder, "")) for output, said in told]
            _consider(tally, base, text, getattr(checked, "document", None), told)
            tally.seconds = time.monotonic() - began
            progress(tally)
    return tally


def _consider(tally: Tally, base: str, text: str, document: Document | None, told: list[Told]) -> None:
    tally.documents += 1
    tally.valid += document is not None
    tally.searched.update({output for output, _ in told})
    kinds: set[str] = set()
    for output, said in told:
        leaked, excused = find_leaks(said, document)
        tally.excused.update([output] if excused else [])
        for line in _lines_with(said, leaked) if leaked else ():
            finding = Finding(base, text, output, line)
            # What one output says, others say in their form.
            if not kinds or finding.kind in kinds or output == "validate":
                kinds.add(finding.kind)
                tally.findings.setdefault(finding.kind, finding)
    tally.counts.update(kinds)


def _lines_with(said: str, leaked: set[str]) -> Iterator[str]:
    for line in said.splitlines():
        if find_canaries(line) & leaked:
            yield line if len(line) < 300 else _cut(line, leaked)


def _cut(line: str, leaked: set[str]) -> str:
    first = min(line.upper().find(each) for each in leaked if each in line.upper())
    return f"…{line[max(0, first - 80) : first + 80]}…"


def _without_canaries(line: str) -> str:
    for found in sorted(find_canaries(line), key=len, reverse=True):
        line = re.sub(re.escape(found), "§", line, flags=re.IGNORECASE)
    return line


def shrink(finding: Finding) -> Finding:
    """The same with as few lines as still show it."""
    every = 1 if finding.is_costly else sys.maxsize
    lines = finding.text.splitlines(keepends=True)
    smallest = finding
    position = 0
    while position < len(lines):
        without = lines[:position] + lines[position + 1 :]
        tally = search([(finding.base, "".join(without))], costly_every=every, render_every=every)
        shown = tally.findings.get(finding.kind)
        if shown:
            lines, smallest = without, shown
        else:
            position += 1
    return smallest


def main() -> int:
    arguments = _parse_arguments()
    if arguments.input:
        tally = search([(arguments.input.name, arguments.input.read_text())], costly_every=1, render_every=1)
        _report(tally)
        return 1 if tally.findings else 0
    with ProcessPoolExecutor(arguments.jobs) as pool:
        parts = range(arguments.jobs)
        search_part = partial(_search_part, jobs=arguments.jobs, count=arguments.documents, seed=arguments.seed)
        tally = Tally()
        for part in pool.map(search_part, parts):
            tally.add(part)
    _report(tally)
    return 1 if tally.findings else 0


def _search_part(part: int, *, jobs: int, count: int, seed: int) -> Tally:
    documents = make_documents(count, seed, systematic=True)
    return search(islice(documents, part, None, jobs), progress=_Progress())


class _Progress:
    """Prints each finding when it is there, and now and then how far the search is."""

    def __init__(self) -> None:
        self._printed_at = time.monotonic()
        self._shown = 0

    def __call__(self, tally: Tally) -> None:
        for finding in list(tally.findings.values())[self._shown :]:
            self._shown += 1
            print(f"{finding.output}: {finding.line}\n  {_write(shrink(finding))}", flush=True)
        if time.monotonic() - self._printed_at > _PROGRESS_SECONDS:
            self._printed_at = time.monotonic()
            print(_summarize(tally), flush=True)


def _parse_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m fuzz.canary", description=__doc__)
    parser.add_argument("--documents", type=int, default=300_000, help="how many (default: 300,000)")
    parser.add_argument("--seed", type=int, default=1, help="what they are made from at random (default: 1)")
    parser.add_argument("--jobs", type=int, default=os.cpu_count(), help="processes (default: one for each processor)")
    parser.add_argument("--input", type=Path, help="searches what is told of this file alone")
    return parser.parse_args()


def _write(finding: Finding) -> Path:
    _FOLDER.mkdir(parents=True, exist_ok=True)
    file = _FOLDER / f"{hashlib.sha256(finding.kind.encode()).hexdigest()[:12]}.yaml"
    file.write_text(finding.text)
    command = f"PYTHONPATH={shlex.quote(str(_TOOLS))} python -m fuzz.canary --input {shlex.quote(str(file))}"
    said = f"{finding.output}: {finding.line}\nMade from: {finding.base}\nTo reproduce it:\n\n    {command}\n"
    file.with_suffix(".txt").write_text(said)
    return file


def _summarize(tally: Tally) -> str:
    return (
        f"{tally.documents:9,} documents in {tally.seconds:4,.0f} s, {tally.valid:,} valid, "
        f"{len(tally.findings)} kinds of findings in {sum(tally.counts.values()):,} documents"
    )


def _report(tally: Tally) -> None:
    print(_summarize(tally))
    print("  searched    public  output")
    for output, searched in tally.searched.most_common():
        print(f"{searched:10,} {tally.excused[output]:9,}  {output}")
    for kind, documents in tally.counts.most_common():
        print(f"{documents:10,} documents with {tally.findings[kind].output}: {tally.findings[kind].line}")


if __name__ == "__main__":
    sys.exit(main())
