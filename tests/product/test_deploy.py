"""What `deploy/` gives to admins is what the chart, Kubernetes, GitHub and pre-commit make of it as documented."""

from __future__ import annotations

import os
import re
import shlex
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path
from typing import Any

import jsonschema
import pytest
import yaml
from jupyterhub.app import JupyterHub
from packaging.requirements import Requirement
from packaging.specifiers import SpecifierSet
from packaging.utils import canonicalize_name
from packaging.version import Version
from traitlets.config import Config

from cluster.apiserver import ControlPlane
from cluster.assets import find_tool
from cluster.monitoring import add_prometheus_kinds
from profiled_spawner import ProfiledKubeSpawner, __version__
from profiled_spawner.command.main import main
from profiled_spawner.document.parser import validate_document
from sandbox.waiting import HANG_SECONDS

ROOT = Path(__file__).parents[2]
DEPLOY = ROOT / "deploy"
EXAMPLE = ROOT / "docs" / "example.yaml"
VALUES = yaml.safe_load((DEPLOY / "chart" / "values.yaml").read_text())
RELEASE = Version(__version__).base_version
PIN = f"jupyterhub-profiled-spawner=={RELEASE}"

FORECAST = "quay.io/example/forecast-notebook:3.6"
GRACE = ["--user", "grace", "--group", "forecasters", "--image", FORECAST]


def objects(path: Path) -> list[dict[str, Any]]:
    return [manifest for manifest in yaml.safe_load_all(path.read_text()) if manifest]


def run(*command: str | Path, **settings: Any) -> str:
    """Runs a command of the package, or another, and returns what it prints."""
    done = subprocess.run(
        [str(part) for part in command], check=False, text=True, capture_output=True, timeout=HANG_SECONDS, **settings
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def kustomization() -> dict[str, Any]:
    manifest: dict[str, Any] = yaml.safe_load(run(find_tool("kubectl"), "kustomize", DEPLOY / "gitops"))
    return manifest


def test_the_values_alone_configure_a_hub() -> None:
    hub = JupyterHub(config=Config(VALUES["hub"]["config"]))
    assert hub.spawner_class is ProfiledKubeSpawner


def setting(name: str) -> object:
    """What a setting of the spawner is unless the admin sets it."""
    return ProfiledKubeSpawner.class_own_traits(config=True)[name].default_value


def test_the_configmap_is_the_one_that_the_hub_reads() -> None:
    (configmap,) = objects(DEPLOY / "configmap.yaml")
    assert configmap["metadata"]["name"] == setting("configmap_name")
    assert list(configmap["data"]) == [setting("configmap_key")]


def deployed_document() -> str:
    (configmap,) = objects(DEPLOY / "configmap.yaml")
    (document,) = configmap["data"].values()
    return str(document)


def test_the_configmap_to_begin_with_changes_nothing_for_anybody() -> None:
    result = validate_document(deployed_document())
    assert result.document is not None
    assert (result.document.profiles, result.warnings) == ((), ())


def test_the_example_in_the_configmap_works_as_its_comment_says() -> None:
    before, _, example = deployed_document().partition("profiles: []\n")
    explained, _, commented = example.partition("\n")
    assert explained == "# An example. To use it, delete the line above, and the '# ' of each line below."
    result = validate_document(before + re.sub("^# ", "", commented, flags=re.MULTILINE))
    assert result.document is not None
    (profile,) = result.document.profiles
    assert (profile.name, result.warnings) == ("forecasting", ())
    # It is for one group alone, and needs nothing that no step of the guide creates.
    assert profile.groups == {"forecasters"}
    assert "valueFrom" not in commented


def test_the_values_and_the_image_have_this_release_and_one_version_of_the_chart() -> None:
    dockerfile = (DEPLOY / "chart" / "Dockerfile").read_text()
    (chart_version,) = re.findall(r"^ARG CHART_VERSION=(.*)$", dockerfile, re.MULTILINE)
    assert "FROM quay.io/jupyterhub/k8s-hub:${CHART_VERSION}\n" in dockerfile
    assert f" {PIN} " in dockerfile
    (installer,) = VALUES["hub"]["initContainers"]
    assert installer["image"] == f"quay.io/jupyterhub/k8s-hub:{chart_version}"
    assert installer["command"][-1] == PIN
    guides = "".join(page.read_text() for page in (ROOT / "docs" / "howto").glob("*.md"))
    assert set(re.findall(r"k8s-hub-profiled:(\S+)", guides)) == {f"{chart_version}-{RELEASE}"}
    assert set(re.findall(r"tag: (\S+-\S+)", guides)) == {f"{chart_version}-{RELEASE}"}
    assert set(re.findall(r"(?:--version |CHART_VERSION=)(\S+)", guides)) == {chart_version}


@pytest.mark.newest
def test_the_package_that_the_init_container_installs_is_the_one_that_the_hub_imports(tmp_path: Path) -> None:
    pytest.importorskip("hatchling", reason="builds the wheel")
    hub = VALUES["hub"]
    (installer,) = hub["initContainers"]
    (volume,) = hub["extraVolumes"]
    (written,), (read,) = installer["volumeMounts"], hub["extraVolumeMounts"]
    assert volume["name"] == written["name"] == read["name"]
    assert written["mountPath"] == read["mountPath"] == hub["extraEnv"]["PYTHONPATH"]
    assert f"--target={written['mountPath']}" in installer["command"]
    # The command that the init container runs, with a wheel of this checkout in place of PyPI's.
    run(
        *[sys.executable, "-m", "pip", "wheel", "--quiet", "--no-deps", "--no-build-isolation", ROOT],
        *["--wheel-dir", tmp_path / "index"],
    )
    offline = {**os.environ, "PIP_NO_INDEX": "1", "PIP_FIND_LINKS": str(tmp_path / "index")}
    target = tmp_path / "target"
    command = " ".join(installer["command"])
    assert command.startswith("pip install ")
    command = command.replace(written["mountPath"], str(target)).replace(PIN, f"{PIN.split('==')[0]}=={__version__}")
    for _ in range(2):  # a node that starts again runs it again, over what is there
        run(sys.executable, "-m", *command.split(), env=offline)
    environment = {**os.environ, "PYTHONPATH": str(target)}
    assert run(sys.executable, "-c", FOUND, env=environment, cwd=tmp_path).splitlines() == [str(target)] * 2
    help_text = run(sys.executable, "-m", "profiled_spawner", "--help", env=environment, cwd=tmp_path)
    assert help_text.startswith("usage: profiled-spawner")


# Where a hub that is given the spawner's short name finds that name, and where the spawner.
FOUND = """
from importlib.metadata import distribution
from inspect import getfile
from pathlib import Path
from jupyterhub.app import JupyterHub
from traitlets.config import Config
package = distribution("jupyterhub-profiled-spawner")
assert "profiled-kubespawner" in package.entry_points.names
print(package.locate_file(""))
spawner = JupyterHub(config=Config({"JupyterHub": {"spawner_class": "profiled-kubespawner"}})).spawner_class
print(Path(getfile(spawner)).parents[2])
"""


CHART = os.environ.get("CHART_CHECKOUT")

# Where the chart mounts its values and names in the hub's pod.
MOUNT = "/usr/local/etc/jupyterhub"


@pytest.fixture
def checkout() -> Path:
    if CHART is None:
        pytest.skip("CHART_CHECKOUT names no checkout of zero-to-jupyterhub-k8s")
    return Path(CHART)


@pytest.fixture
def chart_config(checkout: Path, tmp_path: Path) -> Path:
    """The chart's own jupyterhub_config.py, over the chart's default values and ours, in a directory of the test's."""
    chart = checkout / "jupyterhub"
    for source in (chart / "files" / "hub").glob("*.py"):
        text = source.read_text().replace(MOUNT, str(tmp_path))
        # pycurl is in the hub's image, and not here.
        text = text.replace(
            "tornado.curl_httpclient.CurlAsyncHTTPClient", "tornado.simple_httpclient.SimpleAsyncHTTPClient"
        )
        (tmp_path / source.name).write_text(text)
    for directory in ("config", "existing-secret", "secret"):
        (tmp_path / directory).mkdir()
    # Helm would put one merged file there; the chart merges a second, and the second wins.
    (tmp_path / "secret" / "values.yaml").write_text((chart / "values.yaml").read_text())
    (tmp_path / "existing-secret" / "values.yaml").write_text(yaml.safe_dump(VALUES))
    (tmp_path / "secret" / "hub.config.JupyterHub.cookie_secret").write_text("00" * 32)
    (tmp_path / "secret" / "hub.config.CryptKeeper.keys").write_text("00" * 32)
    for name in ("hub", "proxy-api", "proxy-public", "user-scheduler", "priority", "image-pull-secret", "singleuser"):
        (tmp_path / "config" / name).write_text(name)
    return tmp_path / "jupyterhub_config.py"


@pytest.fixture
def hub_environment() -> dict[str, str]:
    """What Kubernetes and the chart put into the environment of the hub's container."""
    services = {f"{name}_SERVICE_PORT": "8081" for name in ("HUB", "PROXY_API", "PROXY_PUBLIC")}
    return {**os.environ, **services, "POD_NAMESPACE": "jhub"}


LOAD = """
import sys
from jupyterhub.app import JupyterHub
hub = JupyterHub()
hub.load_config_file(sys.argv[1])
spawner = hub.spawner_class
print(spawner.__name__, hub.config.KubeSpawner.namespace)
"""


def test_the_charts_own_configuration_takes_the_spawner(chart_config: Path, hub_environment: dict[str, str]) -> None:
    printed = run(sys.executable, "-c", LOAD, chart_config, env=hub_environment)
    assert printed.splitlines()[-1] == "ProfiledKubeSpawner jhub"


def test_the_charts_own_configuration_makes_servers_with_profiles(
    chart_config: Path, hub_environment: dict[str, str]
) -> None:
    rendered = run(
        *[sys.executable, "-m", "profiled_spawner", "render", EXAMPLE, *GRACE],
        *["--config", chart_config, "--show-values"],
        env=hub_environment,
    )
    pod = yaml.safe_load(rendered)
    (container,) = pod["spec"]["containers"]
    variables = {variable["name"]: variable.get("value") for variable in container["env"]}
    assert pod["metadata"]["annotations"]["profiled-spawner/applied"] == '["globals", "forecasting"]'
    assert (variables["BUCKET_PREFIX"], variables["MEM_LIMIT"]) == ("data/forecast", str(2 * 2**30))
    assert container["resources"]["limits"] == {"memory": "2Gi", "cpu": "1"}
    # What the chart's defaults give stays.
    assert container["resources"]["requests"]["memory"] == 2**30
    assert [mount["mountPath"] for mount in container["volumeMounts"]] == ["/home/jovyan"]


def test_the_charts_schema_accepts_the_values(checkout: Path) -> None:
    schema = yaml.safe_load((checkout / "jupyterhub" / "values.schema.yaml").read_text())
    defaults = yaml.safe_load((checkout / "jupyterhub" / "values.yaml").read_text())
    jsonschema.validate(defaults | {"hub": defaults["hub"] | VALUES["hub"]}, schema)
    with pytest.raises(jsonschema.ValidationError):
        jsonschema.validate(defaults | {"hub": defaults["hub"] | {"initContainer": []}}, schema)


def test_all_that_the_package_depends_on_is_in_the_charts_hub_image(checkout: Path) -> None:
    frozen = (checkout / "images" / "hub" / "requirements.txt").read_text()
    image = dict(re.findall(r"^([\w-]+)(?:\[.*\])?==(\S+)", frozen, re.MULTILINE))
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    for requirement in map(Requirement, project["dependencies"]):
        assert image[canonicalize_name(requirement.name)] in requirement.specifier
    dockerfile = (checkout / "images" / "hub" / "Dockerfile").read_text()
    (python,) = set(re.findall(r"^FROM python:(3\.\d+)-", dockerfile, re.MULTILINE))
    assert python in SpecifierSet(project["requires-python"])


@pytest.mark.parametrize("path", sorted(DEPLOY.glob("*.yaml")), ids=lambda path: path.name)
def test_a_manifest_to_apply_says_what_it_is(path: Path) -> None:
    for manifest in objects(path):
        assert {"apiVersion", "kind", "metadata"} <= manifest.keys()


@pytest.mark.cluster
@pytest.mark.parametrize("path", sorted(DEPLOY.glob("*.yaml")), ids=lambda path: path.name)
async def test_a_manifest_to_apply_is_accepted(path: Path, control_plane: ControlPlane, namespace: str) -> None:
    await add_prometheus_kinds(control_plane)
    for manifest in objects(path):
        assert manifest["metadata"].pop("namespace") == "jhub"
        place = control_plane.path(manifest["apiVersion"], manifest["kind"], namespace)
        control_plane.request("POST", f"{place}?fieldValidation=Strict", manifest)


@pytest.mark.needs("kubectl")
def test_kustomize_makes_a_configmap_that_is_accepted(control_plane: ControlPlane) -> None:
    control_plane.create_namespace("jhub")
    assert control_plane.put(kustomization())["metadata"]["name"] == "jupyter-singleuser-profiles"


@pytest.mark.needs("kubectl")
def test_kustomize_makes_the_configmap_that_the_hub_reads(tmp_path: Path) -> None:
    manifest = kustomization()
    assert manifest["metadata"] == {"name": setting("configmap_name"), "namespace": "jhub"}
    assert list(manifest["data"]) == [setting("configmap_key")]
    (tmp_path / "configmap.yaml").write_text(yaml.safe_dump(manifest))
    assert main(["validate", "--strict", str(tmp_path / "configmap.yaml")]) == os.EX_OK


DOCUMENT, TESTS = "jupyterhub-singleuser-profiles.yaml", "jupyterhub-singleuser-profiles.test.yaml"


class Repository:
    """A repository that holds the profiles, as a job of GitHub Actions or pre-commit finds it."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.summary = directory.with_name("summary.md")
        for name in (DOCUMENT, TESTS):
            shutil.copy(DEPLOY / "gitops" / name, directory)
        # The command of this checkout, whatever is installed.
        self.commands = directory.with_name("bin")
        self.commands.mkdir()
        command = self.commands / "profiled-spawner"
        command.write_text(f'#!/bin/sh\nPYTHONPATH={ROOT} exec {sys.executable} -m profiled_spawner "$@"\n')
        command.chmod(0o755)
        self.run("git", "init", "--quiet")
        self.commit()

    def run(self, *command: str, code: int = os.EX_OK) -> str:
        """Runs a command, and returns what it prints."""
        path = f"{self.commands}:{os.environ['PATH']}"
        settings = {"PATH": path, "GITHUB_STEP_SUMMARY": str(self.summary), "GITHUB_WORKSPACE": str(self.directory)}
        done = subprocess.run(
            command,
            cwd=self.directory,
            env={**os.environ, **settings},
            check=False,
            text=True,
            capture_output=True,
            timeout=HANG_SECONDS,
        )
        assert done.returncode == code, done.stdout + done.stderr
        return done.stdout

    def commit(self) -> None:
        self.run("git", "add", "--all")
        who = ["-c", "user.name=ada", "-c", "user.email=ada@example.org"]
        self.run("git", *who, "commit", "--quiet", "--message", "Edit", "--allow-empty")

    def edit(self, old: str, new: str) -> None:
        """Commits an edit of the document."""
        path = self.directory / DOCUMENT
        text = path.read_text()
        assert old in text
        path.write_text(text.replace(old, new))
        self.commit()


@pytest.fixture
def repository(tmp_path: Path) -> Repository:
    (tmp_path / "profiles").mkdir()
    return Repository(tmp_path / "profiles")


def workflow_steps() -> dict[str, str]:
    """The commands of the workflow, by the subcommand that they run."""
    workflow = yaml.safe_load((DEPLOY / "gitops" / "github-workflow.yaml").read_text())
    (job,) = workflow["jobs"].values()
    # What git:HEAD^ names is there, and not only the last commit.
    assert [step["with"] for step in job["steps"] if "checkout" in step.get("uses", "")] == [{"fetch-depth": 2}]
    steps = [step["run"].strip() for step in job["steps"] if "run" in step]
    return {step.split()[1]: step for step in steps}


def test_the_workflow_installs_this_release_and_runs_these_steps() -> None:
    steps = workflow_steps()
    assert list(steps) == ["install", "validate", "diff", "test"]
    assert steps["install"] == f"pip install {PIN}"


def test_the_workflow_passes_what_is_as_it_should_be(repository: Repository) -> None:
    steps = workflow_steps()
    repository.commit()
    # As GitHub runs a step.
    assert repository.run("bash", "-e", "-c", steps["validate"]) == "2 profiles, no errors\n"
    assert repository.run("bash", "-e", "-c", steps["diff"]) == ""
    assert repository.summary.read_text() == "**nothing changes for anybody**\n"
    assert repository.run("bash", "-e", "-c", steps["test"]) == f"{TESTS}: 5 assertions hold\n"


def test_the_workflow_shows_what_an_edit_changes_and_which_assertions_it_breaks(repository: Repository) -> None:
    steps = workflow_steps()
    repository.edit("groups: [forecasters]", "groups: [forecasters, students]")
    assert repository.run("bash", "-e", "-c", steps["validate"]) == "2 profiles, no errors\n"
    assert repository.run("bash", "-e", "-c", steps["diff"]) == ""
    assert "- gained: variable S3\\_KEY" in repository.summary.read_text()
    annotations = repository.run("bash", "-e", "-c", steps["test"], code=1)
    assert annotations.startswith(f"::error file={TESTS},line=20,col=5,title=Assertion fails::nobody but forecasters")
    # A document that cannot be compared is a failure.
    repository.edit("profiles:", "profile:")
    repository.run("bash", "-e", "-c", steps["diff"], code=1)


@pytest.fixture
def hooks() -> dict[str, dict[str, Any]]:
    return {hook["id"]: hook for hook in yaml.safe_load((ROOT / ".pre-commit-hooks.yaml").read_text())}


def test_the_hooks_are_those_of_the_example(hooks: dict[str, dict[str, Any]]) -> None:
    (repository,) = yaml.safe_load((DEPLOY / "gitops" / "pre-commit-config.yaml").read_text())["repos"]
    assert [used["id"] for used in repository["hooks"]] == list(hooks)
    assert repository["rev"] == f"v{RELEASE}"
    for used in repository["hooks"]:
        hook = hooks[used["id"]]
        assert used.get("args") == hook.get("args")
        for pattern in (hook["files"], used["files"]):
            assert re.search(pattern, DOCUMENT)
            assert bool(re.search(pattern, TESTS)) == (used["id"] == "profiled-spawner-test")
            assert not re.search(pattern, "values.yaml")


def test_the_hook_checks_every_file_that_it_is_given(hooks: dict[str, dict[str, Any]], repository: Repository) -> None:
    entry = shlex.split(hooks["profiled-spawner-validate"]["entry"])
    (repository.directory / "bad.yaml").write_text("profiles:\n- nmae: x\n")
    (repository.directory / "good one.yaml").write_text("profiles: []\n")
    printed = repository.run(*entry, "bad.yaml", "good one.yaml", code=1)
    assert "bad.yaml:2:3: error: profiles[0].nmae: unknown key; did you mean 'name'?" in printed
    assert "✔ good one.yaml: no profiles, no errors" in printed


def test_the_hook_tests_the_document_whichever_file_changed(
    hooks: dict[str, dict[str, Any]], repository: Repository
) -> None:
    hook = hooks["profiled-spawner-test"]
    assert hook["pass_filenames"] is False
    command = [*shlex.split(hook["entry"]), *hook["args"]]
    assert repository.run(*command) == f"✔ {TESTS}: 5 assertions hold\n"
    repository.edit("2Gi", "4Gi")
    assert "  found     4Gi, from forecasting\n" in repository.run(*command, code=1)
