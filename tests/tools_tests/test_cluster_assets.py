"""Where the binaries of the control plane are looked for, and how they are built."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from cluster import assets
from cluster.assets import PROGRAMS, Assets, AssetsUnavailableError, build, cached, find_assets, find_tool

NAMES = ("etcd", "kube-apiserver")
FAKE_GO = """#!/bin/sh
echo "$*" >> "{calls}"
case $1 in
list) echo one; echo two ;;
build)
    sleep {seconds}
    {end}
    while [ "$1" != -o ]; do shift; done
    echo "#!/bin/sh" > "$2"
    chmod +x "$2" ;;
esac
"""


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty cache of the test's own."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.delenv("KUBEBUILDER_ASSETS", raising=False)
    return tmp_path / "cache"


class FakeGo:
    """A `go` that builds nothing, first on the PATH."""

    def __init__(self, directory: Path) -> None:
        directory.mkdir()
        self._calls = directory / "calls"
        self._script = directory / "go"
        self.behave()

    def behave(self, *, seconds: float = 0, end: str = "") -> None:
        self._script.write_text(FAKE_GO.format(calls=self._calls, seconds=seconds, end=end))
        self._script.chmod(0o755)

    def builds(self) -> list[list[str]]:
        return [line.split() for line in self._calls.read_text().splitlines() if line.startswith("build")]


@pytest.fixture
def go(tmp_path: Path, cache: Path, monkeypatch: pytest.MonkeyPatch) -> FakeGo:
    go = FakeGo(tmp_path / "bin")
    monkeypatch.setenv("PATH", str(tmp_path / "bin"), prepend=":")
    return go


def place(*programs: Path) -> None:
    for program in programs:
        program.parent.mkdir(parents=True, exist_ok=True)
        program.write_text("#!/bin/sh\n")
        program.chmod(0o755)


@pytest.fixture
def given(cache: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty directory that KUBEBUILDER_ASSETS names."""
    monkeypatch.setenv("KUBEBUILDER_ASSETS", str(tmp_path / "given"))
    return tmp_path / "given"


def test_the_directory_that_is_given_comes_before_the_cache(given: Path) -> None:
    place(*map(cached, NAMES), *(given / name for name in NAMES))
    assert find_assets() == Assets(given / "etcd", given / "kube-apiserver")


def test_a_given_directory_that_lacks_one_is_an_error_and_not_passed_over(given: Path) -> None:
    place(*map(cached, NAMES), given / "etcd")
    with pytest.raises(AssetsUnavailableError, match="given, where etcd or kube-apiserver is missing"):
        find_assets()


def test_a_given_directory_need_not_have_other_tools(given: Path) -> None:
    place(*(given / name for name in (*NAMES, "kubectl")), cached("helm"))
    assert [find_tool(name) for name in ("kubectl", "helm")] == [given / "kubectl", cached("helm")]
    with pytest.raises(AssetsUnavailableError, match=r"^kwok is neither given nor built: run `make cluster-assets`"):
        find_tool("kwok")


@pytest.mark.parametrize("there", [[], ["etcd"]], ids=["none", "one"])
def test_where_there_are_none_it_is_said_how_to_get_them(cache: Path, there: list[str]) -> None:
    place(*map(cached, there))
    with pytest.raises(AssetsUnavailableError, match=r"make cluster-assets.* or set KUBEBUILDER_ASSETS") as refusal:
        find_assets()
    page = Path(__file__).parents[2] / "docs" / "contributing.md"
    assert str(refusal.value).partition(" ")[2] in " ".join(page.read_text().replace("\n>", "\n").split())


def test_another_version_has_another_place_in_the_cache(
    cache: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    before, kubernetes = {name: cached(name) for name in PROGRAMS}, PROGRAMS["kubectl"]
    shutil.copytree(assets._GO, tmp_path / "go")
    monkeypatch.setattr(assets, "_GO", tmp_path / "go")
    kubernetes.go_mod.write_text(kubernetes.go_mod.read_text().replace(kubernetes.version, "v1.99.0"))
    moved = {name for name in PROGRAMS if cached(name) != before[name]}
    assert moved == {name for name, program in PROGRAMS.items() if program.module == "k8s.io/kubernetes"}
    assert cached("kubectl").parent.name == "kubectl-v1.99.0"


def test_all_staging_modules_are_of_the_release_of_kubernetes() -> None:
    kubernetes = PROGRAMS["kubectl"]
    release = kubernetes.version.replace("v1.", "v0.", 1)
    replaced = re.findall(r"^\t(\S+) => (\S+) (\S+)$", kubernetes.go_mod.read_text(), re.MULTILINE)
    assert len(replaced) > 20
    assert {(old == new, version) for old, new, version in replaced} == {(True, release)}


@pytest.mark.parametrize("name", PROGRAMS)
def test_each_program_is_a_tool_of_its_module(name: str) -> None:
    program = PROGRAMS[name]
    assert re.search(rf"^(tool |\t){re.escape(program.package)}$", program.go_mod.read_text(), re.MULTILINE)


def test_a_build_is_made_once(go: FakeGo) -> None:
    built = build()
    assert built == [cached(name) for name in PROGRAMS] == [find_tool(name) for name in PROGRAMS]
    assert find_assets() == Assets(*built[:2])
    assert [call[-1] for call in go.builds()] == [program.package for program in PROGRAMS.values()]
    build()
    assert len(go.builds()) == len(PROGRAMS)
    assert {path.name for program in built for path in program.parent.iterdir()} == {*PROGRAMS, "lock"}


@pytest.mark.parametrize(
    ("name", "stamp"),
    [
        ("kube-apiserver", "-X k8s.io/component-base/version.gitVersion={}"),
        ("helm", "-X helm.sh/helm/v4/internal/version.version={}"),
    ],
)
def test_the_release_is_stamped_into_the_program(name: str, stamp: str, go: FakeGo) -> None:
    build([name])
    assert stamp.format(PROGRAMS[name].version) in " ".join(go.builds()[0])


def test_a_failed_build_shows_its_end_and_leaves_nothing(go: FakeGo, capsys: pytest.CaptureFixture[str]) -> None:
    go.behave(end="echo 'missing go.sum entry' >&2; exit 1")
    with pytest.raises(subprocess.CalledProcessError, match="exit status 1"):
        build()
    assert "missing go.sum entry" in capsys.readouterr().out
    assert [path.name for path in cached("etcd").parent.iterdir()] == ["lock"]


def test_two_builds_at_once_are_one(go: FakeGo) -> None:
    go.behave(seconds=0.3)
    command = [sys.executable, "-m", "cluster.assets", *NAMES]
    where = Path(assets.__file__).parents[1]
    builds = [subprocess.Popen(command, cwd=where, stdout=subprocess.PIPE, text=True) for _ in range(2)]
    outputs = [build.communicate()[0] for build in builds]
    assert [build.returncode for build in builds] == [0, 0]
    ending = "".join(f"{cached(name)}\n" for name in NAMES)
    assert all(output.endswith(ending) for output in outputs)
    assert len(go.builds()) == 2


def test_without_go_the_command_says_so(
    cache: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(shutil, "which", lambda *args, **kwargs: None)
    monkeypatch.setattr(sys, "argv", ["assets"])
    assert assets.main() == 2
    assert "Go is needed to build the programs of a cluster" in capsys.readouterr().err


@pytest.mark.cluster
def test_the_binaries_run_and_know_their_release(assets: Assets) -> None:
    said = subprocess.run([assets.kube_apiserver, "--version"], capture_output=True, text=True, check=True)
    assert re.fullmatch(r"Kubernetes v1\.\d+\.\d+\n", said.stdout)


@pytest.mark.parametrize("name", [pytest.param(name, marks=pytest.mark.needs(name)) for name in PROGRAMS])
def test_each_program_runs(name: str) -> None:
    said = subprocess.run([find_tool(name), "--help"], capture_output=True, text=True, check=False)
    assert name.removesuffix("utl") in said.stdout + said.stderr
