"""``python -m fuzz.canary``: damages documents, and searches all that is told of them for values of variables.

Exits with 1 if a value was found. Each finding stands under ``build/fuzz/findings/canary``, as the smallest document
that shows it, and ``--input`` tells where it shows.
"""

from __future__ import annotations

import argparse
import asyncio
import hashlib
import random
import re
import shlex
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

from .canaries import find_canaries, make_bases
from .damage import damage, damages
from .outputs import Told, find_leaks, parse, read_as_hub, run_command, tell

__all__ = ["Finding", "Tally", "make_documents", "search"]

_TESTS = Path(__file__).parent.parent
_FOLDER = _TESTS.parent / "build" / "fuzz" / "findings" / "canary"

# Of so many documents one is shown to the command and to a hub.
_COSTLY_EVERY = 200
_PROGRESS_SECONDS = 10


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


def make_documents(count: int, seed: int) -> Iterator[tuple[str, str]]:
    """Damaged documents, each with the name of what it was made from, and each once; the same for a seed.

    One half has one damage: every damage at every position, in random order, for as long as there are any. The rest
    has two.
    """
    randomness = random.Random(seed)
    bases = make_bases(seed)
    once = [(name, damaged) for name, text in bases.items() for damaged in damages(text)]
    randomness.shuffle(once)
    names = list(bases)
    known: set[int] = set()

    def twice() -> Iterator[tuple[str, str]]:
        while True:
            name = randomness.choice(names)
            yield name, damage(damage(bases[name], randomness), randomness)

    def new(documents: Iterable[tuple[str, str]]) -> Iterator[tuple[str, str]]:
        for name, text in documents:
            if hash(text) not in known:
                known.add(hash(text))
                yield name, text

    made = 0
    for documents, most in ((once, count // 2), (twice(), count)):
        if made < most:
            for document in new(documents):
                yield document
                made += 1
                if made == most:
                    break


def search(
    documents: Iterable[tuple[str, str]],
    *,
    costly_every: int = _COSTLY_EVERY,
    progress: Callable[[Tally], None] = lambda _: None,
) -> Tally:
    """Searches all that is told of documents.

    Args:
        documents: Each with the name of what it was made from.
        costly_every: Of how many documents one is shown to the command and to a hub.
        progress: Called after each document.
    """
    tally = Tally()
    began = time.monotonic()
    with tempfile.TemporaryDirectory() as folder, asyncio.Runner() as runner:
        for number, (base, text) in enumerate(documents):
            costly = Path(folder) / "profiles.yaml" if number % costly_every == 0 else None
            _consider(tally, base, text, costly, runner)
            tally.seconds = time.monotonic() - began
            progress(tally)
    return tally


def _consider(tally: Tally, base: str, text: str, costly: Path | None, runner: asyncio.Runner) -> None:
    checked = parse(text)
    document = getattr(checked, "document", None)
    tally.documents += 1
    tally.valid += document is not None
    told: list[Told] = list(tell(checked))
    if costly is not None:
        costly.write_text(text)
        told += [*run_command(costly), *read_as_hub(costly, runner)]
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
    lines = finding.text.splitlines(keepends=True)
    smallest = finding
    position = 0
    while position < len(lines):
        without = lines[:position] + lines[position + 1 :]
        shown = search([(finding.base, "".join(without))], costly_every=2).findings.get(finding.kind)
        if shown:
            lines, smallest = without, shown
        else:
            position += 1
    return smallest


def main() -> int:
    arguments = _parse_arguments()
    if arguments.input:
        tally = search([(arguments.input.name, arguments.input.read_text())], costly_every=1)
        _report(tally)
        return 1 if tally.findings else 0
    progress = _Progress()
    tally = search(make_documents(arguments.documents, arguments.seed), progress=progress)
    _report(tally)
    return 1 if tally.findings else 0


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
    parser.add_argument("--input", type=Path, help="searches what is told of this file alone")
    return parser.parse_args()


def _write(finding: Finding) -> Path:
    _FOLDER.mkdir(parents=True, exist_ok=True)
    file = _FOLDER / f"{hashlib.sha256(finding.kind.encode()).hexdigest()[:12]}.yaml"
    file.write_text(finding.text)
    command = f"PYTHONPATH={shlex.quote(str(_TESTS))} python -m fuzz.canary --input {shlex.quote(str(file))}"
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
