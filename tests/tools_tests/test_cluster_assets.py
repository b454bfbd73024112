"""Where the binaries of the control plane are looked for, and how they are built."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from cluster import assets
from cluster.assets import Assets, AssetsUnavailableError, build_assets, cache_directory, find_assets, pinned_version

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
    return cache_directory()


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


def place(directory: Path, *names: str) -> None:
    directory.mkdir(parents=True, exist_ok=True)
    for name in names:
        (directory / name).write_text("#!/bin/sh\n")
        (directory / name).chmod(0o755)


def test_the_directory_that_is_given_comes_before_the_cache(
    cache: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    place(cache, *NAMES)
    place(tmp_path / "given", *NAMES)
    assert find_assets() == Assets(cache / "etcd", cache / "kube-apiserver")
    monkeypatch.setenv("KUBEBUILDER_ASSETS", str(tmp_path / "given"))
    assert find_assets() == Assets(tmp_path / "given" / "etcd", tmp_path / "given" / "kube-apiserver")


def test_a_given_directory_that_lacks_one_is_an_error_and_not_passed_over(
    cache: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    place(cache, *NAMES)
    place(tmp_path / "given", "etcd")
    monkeypatch.setenv("KUBEBUILDER_ASSETS", str(tmp_path / "given"))
    with pytest.raises(AssetsUnavailableError, match="given, where etcd or kube-apiserver is missing"):
        find_assets()


@pytest.mark.parametrize("there", [[], ["etcd"]], ids=["none", "one"])
def test_where_there_are_none_it_is_said_how_to_get_them(cache: Path, there: list[str]) -> None:
    place(cache, *there)
    with pytest.raises(AssetsUnavailableError, match=r"make cluster-assets.* or set KUBEBUILDER_ASSETS") as refusal:
        find_assets()
    page = Path(__file__).parents[2] / "docs" / "contributing.md"
    assert str(refusal.value) in " ".join(page.read_text().replace("\n>", "\n").split())


def test_other_versions_have_another_place_in_the_cache(
    cache: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    text = (assets._MODULE / "go.mod").read_text()
    (tmp_path / "go.mod").write_text(text.replace(pinned_version("k8s.io/kubernetes"), "v1.99.0"))
    monkeypatch.setattr(assets, "_MODULE", tmp_path)
    assert cache_directory() != cache
    assert "v1.99.0" in cache_directory().name


def test_all_staging_modules_are_of_the_release_of_kubernetes() -> None:
    release = pinned_version("k8s.io/kubernetes").replace("v1.", "v0.", 1)
    replaced = re.findall(r"^\t(\S+) => (\S+) (\S+)$", (assets._MODULE / "go.mod").read_text(), re.MULTILINE)
    assert len(replaced) > 20
    assert {(old == new, version) for old, new, version in replaced} == {(True, release)}


def test_a_build_is_made_once(cache: Path, go: FakeGo) -> None:
    built = build_assets()
    assert built == find_assets() == Assets(cache / "etcd", cache / "kube-apiserver")
    assert [call[-1] for call in go.builds()] == ["go.etcd.io/etcd/server/v3", "k8s.io/kubernetes/cmd/kube-apiserver"]
    build_assets()
    assert len(go.builds()) == 2
    assert sorted(path.name for path in cache.iterdir()) == ["etcd", "kube-apiserver", "lock"]


def test_the_release_is_stamped_into_the_binary(go: FakeGo) -> None:
    build_assets()
    stamp = f"-X k8s.io/component-base/version.gitVersion={pinned_version('k8s.io/kubernetes')}"
    assert stamp in " ".join(go.builds()[1])


def test_a_failed_build_shows_its_end_and_leaves_nothing(
    cache: Path, go: FakeGo, capsys: pytest.CaptureFixture[str]
) -> None:
    go.behave(end="echo 'missing go.sum entry' >&2; exit 1")
    with pytest.raises(subprocess.CalledProcessError, match="exit status 1"):
        build_assets()
    assert "missing go.sum entry" in capsys.readouterr().out
    assert [path.name for path in cache.iterdir()] == ["lock"]


def test_two_builds_at_once_are_one(cache: Path, go: FakeGo) -> None:
    go.behave(seconds=0.3)
    command = [sys.executable, "-m", "cluster.assets"]
    where = Path(assets.__file__).parents[1]
    builds = [subprocess.Popen(command, cwd=where, stdout=subprocess.PIPE, text=True) for _ in range(2)]
    outputs = [build.communicate()[0] for build in builds]
    assert [build.returncode for build in builds] == [0, 0]
    assert all(output.endswith(f"{cache}/etcd\n{cache}/kube-apiserver\n") for output in outputs)
    assert len(go.builds()) == 2


def test_without_go_the_command_says_so(
    cache: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(shutil, "which", lambda *args, **kwargs: None)
    monkeypatch.setattr(sys, "argv", ["assets"])
    assert assets.main() == 2
    assert "Go is needed to build etcd and kube-apiserver" in capsys.readouterr().err


@pytest.mark.cluster
def test_the_binaries_run_and_know_their_release(assets: Assets) -> None:
    said = subprocess.run([assets.kube_apiserver, "--version"], capture_output=True, text=True, check=True)
    assert re.fullmatch(r"Kubernetes v1\.\d+\.\d+\n", said.stdout)
