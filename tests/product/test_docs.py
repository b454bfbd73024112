"""What README and docs/ show is what happens: YAML is what it says, and commands print what stands below them."""

from __future__ import annotations

import ast
import asyncio
import importlib
import io
import os
import re
import shlex
import subprocess
import tomllib
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import yaml
from jupyterhub.app import JupyterHub
from kubespawner import KubeSpawner
from traitlets.config import Config

import profiled_spawner
from cluster.apiserver import ControlPlane
from cluster.assets import find_tool
from cluster.monitoring import add_prometheus_kinds
from hatch_build import ReadmeHook
from profiled_spawner import ProfiledKubeSpawner
from profiled_spawner.command.assertions import parse_test_file
from profiled_spawner.command.main import main
from profiled_spawner.document.parser import validate_document

ROOT = Path(__file__).parents[2]
PAGES = [*sorted(ROOT.glob("*.md")), *sorted((ROOT / "docs").rglob("*.md"))]

# What a reader of the console blocks has from elsewhere.
OTHERS = {"cd", "docker", "git", "helm", "kubectl", "pip", "source", "twine"}


@dataclass(frozen=True)
class Block:
    """A block of code on a page, and the last profile document and test file that the page shows before it."""

    page: Path
    text: str
    document: str
    test_file: str

    @property
    def commands(self) -> list[tuple[list[str], str]]:
        """Each command's words, and what is shown below it."""
        found = []
        for block in re.split(r"^\$ ", self.text, flags=re.MULTILINE)[1:]:
            line, _, shown = block.replace("\\\n", " ").partition("\n")
            found.append((shlex.split(line, comments=True), shown))
        return found


def blocks_of(page: Path, language: str) -> list[Block]:
    found = []
    document = test_file = ""
    for indent, name, text in re.findall(r"^( *)```(\w+)\n(.*?)^ *```", page.read_text(), re.DOTALL | re.MULTILINE):
        body = re.sub(rf"^{indent}", "", text, flags=re.MULTILINE)
        if name == language:
            found.append(Block(page, body, document, test_file))
        if name == "yaml" and re.search("^profiles:", body, re.MULTILINE):
            document = body
        if name == "yaml" and re.search("^assertions:", body, re.MULTILINE):
            test_file = body
    return found


def blocks(language: str) -> list[Any]:
    return [
        pytest.param(block, id=f"{page.relative_to(ROOT)}-{number}")
        for page in PAGES
        for number, block in enumerate(blocks_of(page, language))
    ]


@pytest.fixture
def desk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The directory that readers are in: the checkout, with what a page has them write."""
    for directory in ("deploy", "docs"):
        (tmp_path / directory).symlink_to(ROOT / directory)
    for name in ("secret-key", "registry-password"):
        (tmp_path / name).write_text("a-secret")
    monkeypatch.chdir(tmp_path)
    return tmp_path


def check_profiles(text: str) -> None:
    checked = validate_document(text)
    assert checked.errors == ()
    assert checked.warnings == ()


def check_values(values: dict[str, Any]) -> None:
    """Values of the Zero to JupyterHub chart."""
    config = values.get("hub", {}).get("config", {})
    hub = JupyterHub(config=Config(config))
    if "JupyterHub" in config:
        assert issubclass(hub.spawner_class, KubeSpawner)
    assert config.get("ProfiledKubeSpawner", {}).keys() <= ProfiledKubeSpawner.class_own_traits(config=True).keys()


@pytest.mark.parametrize("block", blocks("yaml"))
def test_yaml_of_the_docs_is_what_it_is_shown_as(block: Block) -> None:
    shown = yaml.safe_load(block.text)
    if "profiles" in shown:
        check_profiles(block.text)
    elif "assertions" in shown:
        assert parse_test_file(block.text).errors == ()
    else:
        assert shown.keys() <= {"hub", "imagePullSecrets", "singleuser"}
        check_values(shown)


def options_of(command: str, capsys: pytest.CaptureFixture[str]) -> set[str]:
    with pytest.raises(SystemExit):
        main([command, "--help"])
    return set(re.findall(r"--[a-z-]+", capsys.readouterr().out))


def make_targets() -> list[str]:
    return re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(), re.MULTILINE)


@pytest.mark.parametrize("block", blocks("console"))
def test_a_command_of_the_docs_prints_what_is_shown(
    block: Block, desk: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("NO_COLOR", "1")
    (desk / "profiles.yaml").write_text(block.document)
    (desk / "profiles.test.yaml").write_text(block.test_file)
    for (program, *arguments), shown in block.commands:
        if program == "kubectl" and "profiled_spawner" in arguments:
            # In the hub's pod: python3 -m profiled_spawner …
            program, arguments = "profiled-spawner", arguments[arguments.index("profiled_spawner") + 1 :]
        if program == "make":
            assert arguments[0] in make_targets()
        elif program == "sed":
            *words, _, file = arguments
            Path(file).write_bytes(subprocess.run(["sed", *words], check=True, capture_output=True).stdout)
        elif program != "profiled-spawner":
            assert program in OTHERS
            files = [word for word in arguments if word.startswith(("deploy/", "docs/"))]
            assert [file for file in files if not Path(file).exists()] == []
        elif any(word in ("--configmap", "--hub") or word.startswith(("git:", "configmap:")) for word in arguments):
            # On a cluster, or in a repository: the tests of the command do that.
            given = {word for word in arguments if word.startswith("--")}
            assert given <= options_of(arguments[0], capsys)
            assert shown == ""
        else:
            arguments = arguments[: arguments.index(">")] if ">" in arguments else arguments
            if "<" in arguments:
                *arguments, _, file = arguments
                monkeypatch.setattr("sys.stdin", io.TextIOWrapper(io.BytesIO(Path(file).read_bytes())))
            # An assertion that fails, and an edit that changes something, are shown too.
            assert main(arguments) == (1 if ": fails: " in shown or arguments[0] == "diff" else os.EX_OK)
            printed = capsys.readouterr().out
            assert shown in ("", printed)


POD = {
    "apiVersion": "v1",
    "kind": "Pod",
    "metadata": {
        "name": "jupyter-grace",
        "namespace": "jhub",
        "labels": {"component": "singleuser-server"},
        "annotations": {
            "hub.jupyter.org/username": "grace",
            "profiled-spawner/applied": '["globals", "forecasting"]',
            "profiled-spawner/source": "configmap/jhub/jupyter-singleuser-profiles@1",
            # Of a hub that only observes; no pod has all three.
            "profiled-spawner/observed": '{"applied": ["globals", "forecasting"], "source": "configmap/jhub/it@1"}',
        },
    },
    "spec": {"containers": [{"name": "notebook", "image": "quay.io/example/forecast-notebook:3.6"}]},
}


@pytest.mark.needs("kubectl")
@pytest.mark.parametrize(
    "page", [page for page in PAGES if "$ kubectl" in page.read_text()], ids=lambda page: page.stem
)
def test_kubectl_does_what_a_page_has_it_do(
    page: Path, desk: Path, control_plane: ControlPlane, monkeypatch: pytest.MonkeyPatch
) -> None:
    (desk / "kubeconfig").write_text(control_plane.kubeconfig(namespace="jhub"))
    monkeypatch.setenv("KUBECONFIG", str(desk / "kubeconfig"))
    monkeypatch.setenv("PATH", f"{find_tool('kubectl').parent}:{os.environ['PATH']}")
    control_plane.create_namespace("jhub")
    asyncio.run(add_prometheus_kinds(control_plane))
    made = "pod/jupyter-grace secret/team-s3 secret/example-registry"
    subprocess.run(f"kubectl delete --ignore-not-found {made} --now", shell=True, check=True)
    control_plane.put(POD)
    for block in blocks_of(page, "console"):
        (desk / "profiles.yaml").write_text(block.document)
        for line in re.findall(r"^\$ (kubectl (?:\\\n|.)*)$", block.text, re.MULTILINE):
            if line.startswith(("kubectl exec", "kubectl logs", "kubectl rollout")):
                continue  # there is no kubelet, and no hub
            done = subprocess.run(line, shell=True, capture_output=True, text=True, check=False)
            while "can-i" in line and done.stdout == "no\n":
                # A new Role is in force only after a moment.
                done = subprocess.run(line, shell=True, capture_output=True, text=True, check=False)
            assert done.returncode == os.EX_OK, done.stderr
            if "get pods" in line and "annotations" in line:
                assert "grace" in done.stdout
                assert '["globals", "forecasting"]' in done.stdout


@cache
def constants() -> list[str]:
    """Every text in the package's modules, those between the fields of f-strings included."""
    modules = (ROOT / "profiled_spawner").rglob("*.py")
    nodes = (node for module in modules for node in ast.walk(ast.parse(module.read_text())))
    return [node.value for node in nodes if isinstance(node, ast.Constant) and isinstance(node.value, str)]


def messages() -> list[str]:
    rows = re.findall(r"^\| (`.*?)(?<!\\) \|", (ROOT / "docs" / "reference" / "messages.md").read_text(), re.MULTILINE)
    return [message for row in rows for message in re.findall(r"`([^`]+)`", row)]


@pytest.mark.parametrize("message", messages())
def test_a_message_of_the_docs_is_one_that_there_is(message: str) -> None:
    for part in filter(None, re.split(r"…|; |\.$", message)):
        assert any(part.strip() in text for text in constants()), part


def test_the_readmes_document_is_the_example_that_its_commands_read() -> None:
    shown = blocks_of(ROOT / "README.md", "yaml")[0]
    assert yaml.safe_load(shown.text) == yaml.safe_load((ROOT / "docs" / "example.yaml").read_text())


@pytest.mark.parametrize("page", sorted(ROOT.glob("*.md")), ids=lambda page: page.name)
def test_a_page_outside_the_site_links_to_what_is_there(page: Path) -> None:
    # Those of the site are checked when it is built.
    links = re.findall(r"\]\((?!https?://|mailto:)([^)#]+)", page.read_text())
    assert [link for link in links if not (ROOT / link).exists()] == []


def test_the_readme_that_pypi_shows_has_links_into_the_repository_alone() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    ReadmeHook(str(ROOT), {}).update(project)
    text = project["readme"]["text"]
    source = project["urls"]["Source"]
    picture = "docs/images/choices-form.png"
    links = re.findall(r"\]\(([^)]*)", text)
    assert f"{source}/raw/main/{picture}" in links
    for link in links:
        assert re.match(rf"{source}/(raw|blob)/main/", link), link
        assert (ROOT / link.split("/main/")[1].partition("#")[0]).exists(), link

    pytest.importorskip("comrak", reason="not installed: make .venv/release-installed")
    renderer = importlib.import_module("readme_renderer.markdown")
    html = renderer.render(text)
    assert re.search(rf'<img [^>]*src="{source}/raw/main/{picture}"', html)
    assert "<table>" in html


def test_the_address_of_the_project_is_everywhere_the_one_of_its_metadata() -> None:
    urls = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["urls"]
    shown = [*PAGES, *(ROOT / "deploy").rglob("*.yaml"), ROOT / "pyproject.toml"]
    addresses = {
        address
        for path in shown
        for address in re.findall(r"https://[\w.]+/[\w-]+/jupyterhub-profiled-spawner", path.read_text())
    }
    assert addresses == {urls["Source"]}


def test_what_the_package_exports_is_what_the_reference_calls_public() -> None:
    page = (ROOT / "docs" / "reference.md").read_text()
    (row,) = re.findall(r"^\| Python \| what `profiled_spawner` exports: (.*) \|$", page, re.MULTILINE)
    assert sorted(re.findall(r"`(\w+)`", row)) == sorted(profiled_spawner.__all__)
    assert all(hasattr(profiled_spawner, name) for name in profiled_spawner.__all__)


def test_the_entry_point_that_the_reference_calls_public_is_the_spawner() -> None:
    page = (ROOT / "docs" / "reference.md").read_text()
    ((name, group),) = re.findall(r"^\| entry point \| `([\w-]+)`, in the group `([\w.]+)` \|$", page, re.MULTILINE)
    points = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["entry-points"]
    assert points == {group: {name: "profiled_spawner:ProfiledKubeSpawner"}}


def test_every_module_is_in_the_table_of_the_architecture() -> None:
    package = ROOT / "profiled_spawner"
    modules = {".".join(path.relative_to(package).with_suffix("").parts) for path in package.rglob("*.py")}
    rows = re.findall(r"^\| (`[a-z_.`, ]+`) \|", (ROOT / "docs" / "contributing.md").read_text(), re.MULTILINE)
    table = [module for row in rows for module in re.findall(r"[a-z_.]+", row)]
    assert {module for module in modules if "__" not in module} - set(table) == set()
    assert len(table) == len(set(table))
