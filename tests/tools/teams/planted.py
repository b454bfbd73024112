"""Plants faults in what bounds teams, one at a time, and says which of them the oracle finds: it must find all.

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
    """A fault: in a module, a text that stands there once is replaced."""

    module: str
    text: str
    replacement: str


FAULTS = (
    # For whom
    Fault("decide/matching", "one_filter |= _subtract(positions, foreign)", "one_filter |= positions"),
    Fault("decide/matching", "union(*(_subtract(positions, foreign) for", "union(*(positions for"),
    Fault("decide/matching", "entry.team is None or _is_for(entry.team, subject)", "True"),
    Fault("document/index", "profile.team if profile.team is not None and profile.is_for_everyone else ", ""),
    Fault("document/model", "replace(profile, configmap=name, team=team)", "replace(profile, configmap=name)"),
    Fault("document/model", "replace(size, configmap=name, team=team)", "replace(size, configmap=name)"),
    Fault("document/model", "replace(image, configmap=name, team=team)", "replace(image, configmap=name)"),
    Fault("document/model", "self.team is not None or not self.is_for_everyone", "not self.is_for_everyone"),
    Fault("document/model", "sizes.setdefault(size.name, size)", "sizes[size.name] = size"),
    # Which sections
    Fault("decide/teams", "if choices and key not in self._team.may:", "if False:"),
    Fault("decide/teams", '("sizes", document.sizes), ("images"', '("sizes", ()), ("images"'),
    Fault("decide/teams", '"images", "description",', '"images", "description", "labels",'),
    Fault("decide/teams", 'elif name != "requests" or not getattr(entry, "limits", None):', 'elif name != "requests":'),
    Fault("decide/teams", "if name in _HARMLESS or not given:", "if name in _HARMLESS:"),
    Fault("sources/bounds", "if not violations:", "if len(violations) < 2:"),
    # How much
    Fault("decide/teams", "if amount > hard[name]:", "if amount >= hard[name]:"),
    Fault("decide/teams", "if amount > hard[name]:", "if str(amount) > str(hard[name]):"),
    Fault("decide/teams", "for name in known:", "for name in known[:1]:"),
    Fault("decide/teams", "if not known:", 'if not known and kind == "limits":'),
    Fault("decide/teams", "else [request, limit]", "else [request]"),
    Fault("decide/teams", "[request] if is_whole_and_equal(resource) else", "[request] if resource == 'gpu' else"),
    Fault("decide/teams", "is_alone and request in hard", "False and request in hard"),
    Fault("decide/teams", "profile.requests.get(resource) is None", "not profile.requests"),
    # Which Secrets and ConfigMaps
    Fault("decide/teams", "return all(any(", "return any(any("),
    Fault("decide/teams", "if is_template else [name]", "if False else [name]"),
    Fault("decide/teams", '_ANYTHING = "\\0"', '_ANYTHING = "t"'),
    Fault("decide/teams", 'if kind != "prefix":', 'if kind == "secretRef":'),
    Fault("decide/teams", "value.kind not in _OF_THE_POD", 'value.kind == "secretKeyRef"'),
    Fault("decide/teams", "enumerate(image.image_pull_secrets or ())", "enumerate(())"),
    Fault("document/templates", '[: last.start()].rstrip("-"))', "[: last.start()])"),
)


def main() -> int:
    """Plants each fault, and tells for each whether it was found."""
    parser = argparse.ArgumentParser(prog="python -m teams.planted", description=__doc__)
    parser.add_argument("--documents", type=int, default=5_000, help="after how many a fault counts as not found")
    arguments = parser.parse_args()
    missed = [fault for number, fault in enumerate(FAULTS, 1) if not _tell(number, fault, arguments.documents)]
    print(f"{len(FAULTS) - len(missed)} of {len(FAULTS)} faults were found")
    return 1 if missed else 0


def _tell(number: int, fault: Fault, documents: int) -> bool:
    found = is_found(fault, documents)
    outcome = "found" if found else "NOT FOUND"
    print(f"{number:2} {outcome}: {fault.module}: {fault.replacement or f'without {fault.text}'}", flush=True)
    return found


def is_found(fault: Fault, documents: int) -> bool:
    """Whether the oracle finds a fault in at most so many documents."""
    with tempfile.TemporaryDirectory() as folder:
        shutil.copytree(PACKAGE, Path(folder, PACKAGE.name), ignore=shutil.ignore_patterns("__pycache__"))
        path = Path(folder, PACKAGE.name, f"{fault.module}.py")
        source = path.read_text(encoding="utf-8")
        if source.count(fault.text) != 1:
            raise ValueError(f"stands {source.count(fault.text)} times in {fault.module}: {fault.text!r}")
        path.write_text(source.replace(fault.text, fault.replacement), encoding="utf-8")
        environment = {**os.environ, "PYTHONPATH": os.pathsep.join([folder, str(TOOLS)])}
        command = [sys.executable, "-m", "teams", "--most", "1", "--documents", str(documents)]
        done = subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, check=False)
        # What a fault makes crash, it shows too.
        if done.returncode not in (0, 1):
            raise RuntimeError(done.stderr)
        return done.returncode == 1


if __name__ == "__main__":
    sys.exit(main())
