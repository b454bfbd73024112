"""Plants faults in the comparison, one at a time, and says which of them the oracle finds: it must find all.

A check that finds nothing may be blind. Each fault is one that somebody could make.
"""

from __future__ import annotations

import argparse
import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import NamedTuple

PACKAGE = Path(__file__).parents[3] / "profiled_spawner"
TOOLS = Path(__file__).parents[1]


class Fault(NamedTuple):
    """A fault: in a module of `decide`, a text that stands there once is replaced."""

    module: str
    text: str
    replacement: str


FAULTS = (
    # For whom
    Fault("deciders", ", *self._needs]", "]"),
    Fault("deciders", "self._bars.on(()))", "0)"),
    Fault("deciders", "if rule.period.covers(moment))", "if True)"),
    Fault("deciders", "yield from (rule.period.start, rule.period.end)", "yield rule.period.start"),
    Fault("deciders", "for name in names if not blockers.has_group(name)", "for name in names"),
    Fault("deciders", "for name in self.users if not blockers.has_user(name)", "for name in self.users"),
    Fault("deciders", "for user in (None, *users):", "for user in (None,):"),
    Fault("deciders", "if not rule.who:", "if not rule.who and not rule.images:"),
    # Of teams
    Fault("rules", "found = *own, *find_who(entry.team)", "found = own"),
    Fault("rules", "if one.users <= other.users and one.groups <= other.groups:", "if one.groups <= other.groups:"),
    Fault("deciders", "bool(first & other_second | second & other_first)", "bool(first & other_second)"),
    Fault("deciders", "first << len(each.rules) | one & rules", "one & rules"),
    Fault("deciders", "_leave((None, name), others, blockers)", "others"),
    Fault("deciders", "missing if user is None else _leave((user, None), missing, blockers)", "missing"),
    Fault("deciders", "reduce(and_, names) for names", "reduce(or_, names) for names"),
    Fault("deciders", "if person not in found and not self.blockers.has_both(one, other):", "if person not in found:"),
    # Of quotas
    Fault("comparison", "frozenset(entry.hard.items()), find_who(entry)", "None, find_who(entry)"),
    Fault("comparison", 'find_who(entry) if entry.per == "all" else None', "find_who(entry)"),
    Fault("comparison", "quotas=keep(document.quotas)", "quotas=document.quotas"),
    # Which rules
    Fault("comparison", "for other in range(pairing[one]) if other not in back", "for other in ()"),
    Fault("comparison", "if back.get(other, old) > one", "if other not in back"),
    Fault("comparison", "is_for_all = not rule.who and rule.images is None", "is_for_all = not rule.who"),
    Fault("comparison", "if rule.period.end > self._since]", "if rule.period.covers(self._since)]"),
    Fault("comparison", "if positions[one] > positions[other]:", "if positions[one] < positions[other]:"),
    Fault("comparison", ", entry.image_pull_secrets, entry.default_url", ""),
    Fault("comparison", "if all(lists) or setting[0] != SOURCE_ORDER:", "if setting[0] != SOURCE_ORDER:"),
    Fault("comparison", "found.append(Deciding(image, at, *person.names, person))", "pass"),
    # On which images
    Fault("least_images", "if positions == implied:", "if True:"),
    Fault("image_automaton", " or state.tag == _LATEST):", "):"),
    Fault("image_automaton", "tag if tag and _LATEST.startswith(tag) else None", "None"),
    # What a document says
    Fault("rules", 'volume["mountPath"].rstrip("/")', 'volume["mountPath"]'),
    Fault("rules", "if entry.is_for_everyone else", "if entry.users is None and entry.groups is None else"),
    Fault("rules", "profiles.reverse()", "pass"),
)


def main() -> int:
    """Plants each fault, and tells for each whether it was found."""
    parser = argparse.ArgumentParser(prog="python -m oracle.planted", description=__doc__)
    parser.add_argument("--pairs", type=int, default=5_000, help="after how many pairs a fault counts as not found")
    arguments = parser.parse_args()
    missed = [fault for number, fault in enumerate(FAULTS, 1) if not _tell(number, fault, arguments.pairs)]
    print(f"{len(FAULTS) - len(missed)} of {len(FAULTS)} faults were found")
    return 1 if missed else 0


def _tell(number: int, fault: Fault, pairs: int) -> bool:
    found = is_found(fault, pairs)
    outcome = "found" if found else "NOT FOUND"
    print(f"{number:2} {outcome}: decide.{fault.module}: {fault.replacement.strip()!r}", flush=True)
    return found


def is_found(fault: Fault, pairs: int, *, first: int = 0) -> bool:
    """Whether the oracle finds a fault in at most so many pairs."""
    with tempfile.TemporaryDirectory() as folder:
        shutil.copytree(PACKAGE, Path(folder, PACKAGE.name), ignore=shutil.ignore_patterns("__pycache__"))
        path = Path(folder, PACKAGE.name, "decide", f"{fault.module}.py")
        source = path.read_text(encoding="utf-8")
        if source.count(fault.text) != 1:
            raise ValueError(f"stands {source.count(fault.text)} times in {fault.module}: {fault.text!r}")
        path.write_text(source.replace(fault.text, fault.replacement), encoding="utf-8")
        environment = {**os.environ, "PYTHONPATH": os.pathsep.join([folder, str(TOOLS)])}
        options = ["--most", "1", "--pairs", str(pairs), "--first", str(first), "--folder", folder]
        command = [sys.executable, "-m", "oracle", *options]
        done = subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, check=False)
        if done.returncode not in (0, 1):
            raise RuntimeError(done.stderr)
        return done.returncode == 1


if __name__ == "__main__":
    sys.exit(main())
