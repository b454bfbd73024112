"""The lock files, read: which version of what each of them installs, on which interpreter."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name
from packaging.version import Version

LOCKS = Path(__file__).parent


@dataclass(frozen=True)
class Pin:
    """One version of one package."""

    requirement: Requirement
    hashes: tuple[str, ...]

    @property
    def name(self) -> str:
        """The package, spelled as PEP 503 spells it."""
        return canonicalize_name(self.requirement.name)

    @property
    def version(self) -> Version:
        """The one version that may be installed."""
        (specifier,) = self.requirement.specifier
        assert specifier.operator == "==", self.requirement
        return Version(specifier.version)


def read(path: Path) -> Iterator[Pin]:
    """Each pin of a lock file; what is neither a pin nor a comment is a `ValueError`."""
    text = re.sub(r"^\s*#.*\n", "", path.read_text(encoding="utf-8"), flags=re.MULTILINE)
    for line in text.replace("\\\n", " ").splitlines():
        requirement, *hashes = re.split(r"\s+--hash=", line.strip())
        yield Pin(Requirement(requirement), tuple(hashes))


def installed_by(path: Path, python: str | None = None) -> dict[str, Version]:
    """What a lock file installs on Linux, by name.

    Args:
        path: The lock file.
        python: The interpreter's version, such as ``3.12``; without, it is the one that runs.
    """
    environment = {"sys_platform": "linux", "os_name": "posix", "implementation_name": "cpython"}
    if python is not None:
        environment |= {"python_version": python, "python_full_version": f"{python}.20"}
    pins = [pin for pin in read(path) if pin.requirement.marker is None or pin.requirement.marker.evaluate(environment)]
    versions = {pin.name: pin.version for pin in pins}
    if len(versions) < len(pins):
        raise ValueError(f"{path.name}: one package is pinned twice for one interpreter")
    return versions
