"""Where the binaries of the control plane come from: etcd and kube-apiserver.

They are found in the directory that ``KUBEBUILDER_ASSETS`` names, as the tools of the Kubernetes project have it, or
in a cache outside the checkout. ``python -m cluster.assets`` fills the cache: it builds both with Go from the modules
that ``go/go.mod`` pins, whose checksums are in ``go/go.sum``. Nothing else here builds: a test run must not take ten
minutes because it found no binaries.
"""

from __future__ import annotations

import argparse
import fcntl
import os
import re
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Self

_MODULE = Path(__file__).with_name("go")
_ETCD = "go.etcd.io/etcd/server/v3"
_KUBERNETES = "k8s.io/kubernetes"
_PACKAGES = {"etcd": _ETCD, "kube-apiserver": f"{_KUBERNETES}/cmd/kube-apiserver"}
_HOW_TO = (
    "run `make cluster-assets`, which builds them with Go once (about 10 minutes on two cores), or set "
    "KUBEBUILDER_ASSETS to a directory that has them"
)


class AssetsUnavailableError(Exception):
    """There are no binaries; the text says how to get them."""


@dataclass(frozen=True)
class Assets:
    """The binaries of one control plane."""

    etcd: Path
    kube_apiserver: Path

    @classmethod
    def in_directory(cls, directory: Path) -> Self | None:
        """Return the binaries of a directory that has both."""
        paths = [directory / name for name in _PACKAGES]
        return cls(*paths) if all(os.access(path, os.X_OK) for path in paths) else None


def find_assets() -> Assets:
    """Find the binaries.

    Raises:
        AssetsUnavailableError: There are none, or none in the directory that ``KUBEBUILDER_ASSETS`` names.
    """
    if given := os.environ.get("KUBEBUILDER_ASSETS"):
        if assets := Assets.in_directory(Path(given)):
            return assets
        raise AssetsUnavailableError(f"KUBEBUILDER_ASSETS is {given}, where etcd or kube-apiserver is missing")
    if assets := Assets.in_directory(cache_directory()):
        return assets
    raise AssetsUnavailableError(f"etcd and kube-apiserver are neither given nor built: {_HOW_TO}")


def pinned_version(module: str) -> str:
    """Return the version of a module in ``go.mod``, such as ``v1.37.2``."""
    found = re.search(rf"^\s*{re.escape(module)} (v\S+)", (_MODULE / "go.mod").read_text(), re.MULTILINE)
    assert found, module
    return found[1]


def cache_directory() -> Path:
    """Return where the binaries of the pinned versions are kept, once built."""
    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    versions = f"kubernetes-{pinned_version(_KUBERNETES)}-etcd-{pinned_version(_ETCD)}"
    return cache / "jupyterhub-profiled-spawner" / versions


def build_assets() -> Assets:
    """Build into the cache what is not there yet, and print how far it is.

    Two builds at once are safe: the second waits for the first, and finds its work done.

    Raises:
        AssetsUnavailableError: There is no Go.
        subprocess.CalledProcessError: The build failed; what Go said was printed.
    """
    directory = cache_directory()
    directory.mkdir(parents=True, exist_ok=True)
    with _locked(directory / "lock"):
        for name, package in _PACKAGES.items():
            if not os.access(directory / name, os.X_OK):
                _build(_find_go(), name, package, directory)
    assets = Assets.in_directory(directory)
    assert assets
    return assets


@contextmanager
def _locked(path: Path) -> Iterator[None]:
    with path.open("a") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            _report(f"another build is at work in {path.parent}; waiting for it")
            fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def _find_go() -> str:
    # The second is where Go's own instructions install it; not everyone puts that on the PATH.
    go = shutil.which("go") or shutil.which("go", path="/usr/local/go/bin")
    if go is None:
        raise AssetsUnavailableError(f"Go is needed to build etcd and kube-apiserver: install it, and {_HOW_TO}")
    return go


def _build(go: str, name: str, package: str, directory: Path) -> None:
    environment = {**os.environ, "CGO_ENABLED": "0"}
    listed = subprocess.run(
        [go, "list", "-deps", package], cwd=_MODULE, env=environment, stdout=subprocess.PIPE, text=True, check=True
    )
    total = len(listed.stdout.splitlines())
    with tempfile.TemporaryDirectory(dir=directory) as scratch:
        log, binary = Path(scratch, "log"), Path(scratch, name)
        # `-v` prints every package that is compiled, and none that Go's own cache has.
        command = [go, "build", "-v", "-trimpath", "-ldflags", _linker_flags(), "-o", str(binary), package]
        begun = time.monotonic()
        with (
            log.open("w") as output,
            subprocess.Popen(
                ["nice", "-n", "19", *command], cwd=_MODULE, env=environment, stdout=output, stderr=output
            ) as build,
        ):
            while True:
                try:
                    exit_code = build.wait(timeout=15)
                    break
                except subprocess.TimeoutExpired:
                    compiled = len(log.read_text().splitlines())
                    minutes, seconds = divmod(int(time.monotonic() - begun), 60)
                    _report(f"{name}: {compiled} of at most {total} packages compiled, {minutes}:{seconds:02} min")
        if exit_code != 0:
            _report("\n".join(log.read_text().splitlines()[-20:]))
            raise subprocess.CalledProcessError(exit_code, command)
        binary.rename(directory / name)


def _linker_flags() -> str:
    """No symbols; and the release, which Kubernetes' own build puts there likewise: clients ask for it."""
    version = pinned_version(_KUBERNETES)
    major, minor, _ = version.removeprefix("v").split(".", 2)
    stamps = {"gitVersion": version, "gitMajor": major, "gitMinor": minor}
    return " ".join(["-s -w", *(f"-X k8s.io/component-base/version.{name}={value}" for name, value in stamps.items())])


def _report(line: str) -> None:
    print(line, flush=True)


def main() -> int:
    """Find or build the binaries, and print where they are.

    Returns:
        0; 1 if the build failed; 2 if there is nothing to build them with.
    """
    parser = argparse.ArgumentParser(prog="python -m cluster.assets", description=main.__doc__.partition("\n")[0])
    parser.parse_args()
    try:
        given = os.environ.get("KUBEBUILDER_ASSETS")
        assets = find_assets() if given else build_assets()
    except AssetsUnavailableError as exc:
        print(exc, file=sys.stderr)
        return 2
    except subprocess.CalledProcessError as exc:
        print(f"{exc.cmd[0]} ended with {exc.returncode}", file=sys.stderr)
        return 1
    print(assets.etcd, assets.kube_apiserver, sep="\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
