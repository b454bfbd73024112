"""Where the programs of a cluster come from: the control plane, KWOK, and what an admin uses.

They are found in the directory that ``KUBEBUILDER_ASSETS`` names, as the tools of the Kubernetes project have it, or
in a cache outside the checkout. ``python -m cluster.assets`` fills the cache: it builds them with Go from the modules
that stand below ``go``, whose checksums are there too. Nothing else here builds: a test run must not take a quarter of
an hour because it found no programs.
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
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

_GO = Path(__file__).with_name("go")


@dataclass(frozen=True)
class _Program:
    """A program that is built with Go.

    Attributes:
        directory: Where its ``go.mod`` is, below ``go``.
        module: The module that it is in, whose version is its own.
        path: Its package in the module.
        stamp: The variable that holds its version; empty if nobody asks for it.
    """

    directory: str
    module: str
    path: str = ""
    stamp: str = ""

    @property
    def package(self) -> str:
        return f"{self.module}/{self.path}".rstrip("/")

    @property
    def version(self) -> str:
        """Such as ``v1.37.2``."""
        found = re.search(rf"^\s*{re.escape(self.module)} (v\S+)", self.go_mod.read_text(), re.MULTILINE)
        assert found, self.module
        return found[1]

    @property
    def go_mod(self) -> Path:
        return _GO / self.directory / "go.mod"


def _of_kubernetes(name: str) -> _Program:
    return _Program("kubernetes", "k8s.io/kubernetes", f"cmd/{name}", "k8s.io/component-base/version.gitVersion")


PROGRAMS = {
    "etcd": _Program("kubernetes", "go.etcd.io/etcd/server/v3"),
    "kube-apiserver": _of_kubernetes("kube-apiserver"),
    "kube-controller-manager": _of_kubernetes("kube-controller-manager"),
    "kube-scheduler": _of_kubernetes("kube-scheduler"),
    "kubectl": _of_kubernetes("kubectl"),
    "etcdutl": _Program("kubernetes", "go.etcd.io/etcd/etcdutl/v3"),
    "kwok": _Program("kwok", "sigs.k8s.io/kwok", "cmd/kwok"),
    "helm": _Program("helm", "helm.sh/helm/v4", "cmd/helm", "helm.sh/helm/v4/internal/version.version"),
    "promtool": _Program("promtool", "github.com/prometheus/prometheus", "cmd/promtool"),
}
# Without these two there is no control plane.
_CONTROL_PLANE = ("etcd", "kube-apiserver")
_HOW_TO = (
    "run `make cluster-assets`, which builds all of them with Go once (about 20 minutes on two cores), or set "
    "KUBEBUILDER_ASSETS to a directory that has etcd and kube-apiserver"
)


class AssetsUnavailableError(Exception):
    """A program is not there; the text says how to get it."""


@dataclass(frozen=True)
class Assets:
    """The programs of one control plane."""

    etcd: Path
    kube_apiserver: Path


def find_assets() -> Assets:
    """Find the programs of a control plane.

    Raises:
        AssetsUnavailableError: They are not there, or not in the directory that ``KUBEBUILDER_ASSETS`` names.
    """
    given = os.environ.get("KUBEBUILDER_ASSETS")
    if given and not all(_is_program(Path(given, name)) for name in _CONTROL_PLANE):
        raise AssetsUnavailableError(f"KUBEBUILDER_ASSETS is {given}, where etcd or kube-apiserver is missing")
    return Assets(*map(find_tool, _CONTROL_PLANE))


def find_tool(name: str) -> Path:
    """Find one program.

    Args:
        name: One of `PROGRAMS`.

    Raises:
        AssetsUnavailableError: It is not there.
    """
    if given := os.environ.get("KUBEBUILDER_ASSETS"):
        path = Path(given, name)
        if _is_program(path):
            return path
    path = cached(name)
    if _is_program(path):
        return path
    raise AssetsUnavailableError(f"{name} is neither given nor built: {_HOW_TO}")


def cached(name: str) -> Path:
    """Return where a program is kept once it is built; another version is kept elsewhere."""
    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    return cache / "jupyterhub-profiled-spawner" / f"{name}-{PROGRAMS[name].version}" / name


def build(names: Iterable[str] = PROGRAMS) -> list[Path]:
    """Build into the cache what is not there yet, and print how far it is.

    Two builds at once are safe: the second waits for the first, and finds its work done.

    Returns:
        The programs.

    Raises:
        AssetsUnavailableError: There is no Go.
        subprocess.CalledProcessError: The build failed; what Go said was printed.
    """
    programs = [cached(name) for name in names]
    for path in programs:
        path.parent.mkdir(parents=True, exist_ok=True)
        with _locked(path.with_name("lock")):
            if not _is_program(path):
                _build(_find_go(), path)
    return programs


def _is_program(path: Path) -> bool:
    return path.is_file() and os.access(path, os.X_OK)


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
        raise AssetsUnavailableError(f"Go is needed to build the programs of a cluster: install it, and {_HOW_TO}")
    return go


def _build(go: str, path: Path) -> None:
    name, program = path.name, PROGRAMS[path.name]
    where, environment = program.go_mod.parent, {**os.environ, "CGO_ENABLED": "0"}
    listed = subprocess.run(
        [go, "list", "-deps", program.package],
        cwd=where,
        env=environment,
        stdout=subprocess.PIPE,
        text=True,
        check=True,
    )
    total = len(listed.stdout.splitlines())
    with tempfile.TemporaryDirectory(dir=path.parent) as scratch:
        log, binary = Path(scratch, "log"), Path(scratch, name)
        # `-v` prints every package that is compiled, and none that Go's own cache has.
        command = [
            go,
            "build",
            "-v",
            "-trimpath",
            "-ldflags",
            _linker_flags(program),
            "-o",
            str(binary),
            program.package,
        ]
        begun = time.monotonic()
        with (
            log.open("w") as output,
            subprocess.Popen(
                ["nice", "-n", "19", *command], cwd=where, env=environment, stdout=output, stderr=output
            ) as building,
        ):
            while True:
                try:
                    exit_code = building.wait(timeout=15)
                    break
                except subprocess.TimeoutExpired:
                    compiled = len(log.read_text().splitlines())
                    minutes, seconds = divmod(int(time.monotonic() - begun), 60)
                    _report(f"{name}: {compiled} of at most {total} packages compiled, {minutes}:{seconds:02} min")
        if exit_code != 0:
            _report("\n".join(log.read_text().splitlines()[-20:]))
            raise subprocess.CalledProcessError(exit_code, command)
        binary.rename(path)


def _linker_flags(program: _Program) -> str:
    """No symbols; and the release, which the project's own build puts there likewise: clients ask for it."""
    if not program.stamp:
        return "-s -w"
    stamps = {program.stamp: program.version}
    if program.directory == "kubernetes":
        major, minor, _ = program.version.removeprefix("v").split(".", 2)
        stamps |= {f"k8s.io/component-base/version.{name}": n for name, n in (("gitMajor", major), ("gitMinor", minor))}
    return " ".join(["-s -w", *(f"-X {variable}={value}" for variable, value in stamps.items())])


def _report(line: str) -> None:
    print(line, flush=True)


def main() -> int:
    """Find or build the programs, and print where they are.

    Returns:
        0; 1 if a build failed; 2 if there is nothing to build them with.
    """
    parser = argparse.ArgumentParser(prog="python -m cluster.assets", description=main.__doc__.partition("\n")[0])
    parser.add_argument("names", nargs="*", metavar="NAME", help=f"of {', '.join(PROGRAMS)}; default: all")
    names = parser.parse_args().names or list(PROGRAMS)
    if unknown := sorted(set(names) - set(PROGRAMS)):
        parser.error(f"{', '.join(unknown)}: not one of {', '.join(PROGRAMS)}")
    try:
        if os.environ.get("KUBEBUILDER_ASSETS"):
            find_assets()
            paths = [find_tool(name) for name in names]
        else:
            paths = build(names)
    except AssetsUnavailableError as exc:
        print(exc, file=sys.stderr)
        return 2
    except subprocess.CalledProcessError as exc:
        print(f"{exc.cmd[0]} ended with {exc.returncode}", file=sys.stderr)
        return 1
    print(*paths, sep="\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
