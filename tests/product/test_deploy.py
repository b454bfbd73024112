"""What `deploy/` gives to admins is what the chart, Kubernetes, GitHub and pre-commit make of it as documented."""

from __future__ import annotations

import os
import re
import shlex
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml
from jupyterhub.app import JupyterHub
from packaging.version import Version
from traitlets.config import Config

from cluster.apiserver import ControlPlane
from profiled_spawner import ProfiledKubeSpawner, __version__
from profiled_spawner.command.main import main
from sandbox.waiting import HANG_SECONDS

ROOT = Path(__file__).parents[2]
DEPLOY = ROOT / "deploy"
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
    if shutil.which("kubectl") is None:
        pytest.skip("no kubectl, which has Kustomize in it")
    manifest: dict[str, Any] = yaml.safe_load(run("kubectl", "kustomize", DEPLOY / "gitops"))
    return manifest


def test_the_values_alone_configure_a_hub() -> None:
    hub = JupyterHub(config=Config(VALUES["hub"]["config"]))
    assert hub.spawner_class is ProfiledKubeSpawner


def test_the_values_name_settings_and_their_defaults() -> None:
    stated = VALUES["hub"]["config"]["ProfiledKubeSpawner"]
    traits = ProfiledKubeSpawner.class_own_traits(config=True)
    assert stated == {name: traits[name].default_value for name in stated}


@pytest.mark.parametrize("trait", ["configmap_name", "configmap_key"])
def test_the_configmap_is_the_one_that_the_values_name(trait: str) -> None:
    (configmap,) = objects(DEPLOY / "configmap.yaml")
    wanted = VALUES["hub"]["config"]["ProfiledKubeSpawner"][trait]
    found = {"configmap_name": configmap["metadata"]["name"], "configmap_key": next(iter(configmap["data"]))}
    assert found[trait] == wanted


def test_the_image_is_the_charts_with_this_release_pinned() -> None:
    dockerfile = (DEPLOY / "chart" / "Dockerfile").read_text()
    (chart_version,) = re.findall(r"^ARG CHART_VERSION=(.*)$", dockerfile, re.MULTILINE)
    assert "FROM quay.io/jupyterhub/k8s-hub:${CHART_VERSION}\n" in dockerfile
    assert f" {PIN} " in dockerfile
    assert VALUES["hub"]["image"]["tag"] == f"{chart_version}-{RELEASE}"
    guide = (ROOT / "docs" / "howto" / "zero-to-jupyterhub.md").read_text()
    assert set(re.findall(r"k8s-hub-profiled:(\S+)", guide)) == {f"{chart_version}-{RELEASE}"}
    assert set(re.findall(r"(?:--version |CHART_VERSION=)(\S+)", guide)) == {chart_version}


CHART = os.environ.get("CHART_CHECKOUT")

# Where the chart mounts its values and names in the hub's pod.
MOUNT = "/usr/local/etc/jupyterhub"


@pytest.fixture
def chart_config(tmp_path: Path) -> Path:
    """The chart's own jupyterhub_config.py, over the chart's default values and ours, in a directory of the test's."""
    if CHART is None:
        pytest.skip("CHART_CHECKOUT names no checkout of zero-to-jupyterhub-k8s")
    chart = Path(CHART) / "jupyterhub"
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
print(spawner.__name__, hub.config.ProfiledKubeSpawner.configmap_name, hub.config.KubeSpawner.namespace)
"""


def test_the_charts_own_configuration_takes_the_spawner(chart_config: Path, hub_environment: dict[str, str]) -> None:
    printed = run(sys.executable, "-c", LOAD, chart_config, env=hub_environment)
    assert printed.splitlines()[-1] == "ProfiledKubeSpawner jupyter-singleuser-profiles jhub"


def test_the_charts_own_configuration_makes_servers_with_profiles(
    chart_config: Path, hub_environment: dict[str, str]
) -> None:
    rendered = run(
        *[sys.executable, "-m", "profiled_spawner", "render", DEPLOY / "configmap.yaml", *GRACE],
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


@pytest.mark.parametrize("path", sorted(DEPLOY.glob("*.yaml")), ids=lambda path: path.name)
def test_a_manifest_to_apply_says_what_it_is(path: Path) -> None:
    for manifest in objects(path):
        assert {"apiVersion", "kind", "metadata"} <= manifest.keys()


@pytest.mark.cluster
@pytest.mark.parametrize("path", sorted(DEPLOY.glob("*.yaml")), ids=lambda path: path.name)
def test_a_manifest_to_apply_is_accepted(path: Path, control_plane: ControlPlane) -> None:
    control_plane.create_namespace("jhub")
    for manifest in objects(path):
        stored = control_plane.put(manifest)
        assert stored["metadata"]["namespace"] == "jhub"


@pytest.mark.cluster
def test_kustomize_makes_a_configmap_that_is_accepted(control_plane: ControlPlane) -> None:
    control_plane.create_namespace("jhub")
    assert control_plane.put(kustomization())["metadata"]["name"] == "jupyter-singleuser-profiles"


def test_kustomize_makes_the_configmap_that_the_values_name(tmp_path: Path) -> None:
    settings = VALUES["hub"]["config"]["ProfiledKubeSpawner"]
    manifest = kustomization()
    assert manifest["metadata"] == {"name": settings["configmap_name"], "namespace": "jhub"}
    assert list(manifest["data"]) == [settings["configmap_key"]]
    (tmp_path / "configmap.yaml").write_text(yaml.safe_dump(manifest))
    assert main(["validate", "--strict", str(tmp_path / "configmap.yaml")]) == os.EX_OK


def test_the_workflow_installs_this_release_and_checks_the_document(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(DEPLOY / "gitops")
    workflow = yaml.safe_load(Path("github-workflow.yaml").read_text())
    (job,) = workflow["jobs"].values()
    install, check = (step["run"] for step in job["steps"] if "run" in step)
    assert install == f"pip install {PIN}"
    command, *arguments = shlex.split(check)
    assert command == "profiled-spawner"
    assert main(arguments) == os.EX_OK
    assert capsys.readouterr().out == "2 profiles, no errors\n"


@pytest.fixture
def hook() -> dict[str, Any]:
    (hook,) = yaml.safe_load((ROOT / ".pre-commit-hooks.yaml").read_text())
    found: dict[str, Any] = hook
    return found


def test_the_hook_is_the_one_of_the_example(hook: dict[str, Any]) -> None:
    (repository,) = yaml.safe_load((DEPLOY / "gitops" / "pre-commit-config.yaml").read_text())["repos"]
    (used,) = repository["hooks"]
    assert used["id"] == hook["id"]
    assert repository["rev"] == f"v{RELEASE}"
    for pattern in (hook["files"], used["files"]):
        assert re.search(pattern, "jupyterhub-singleuser-profiles.yaml")
        assert not re.search(pattern, "values.yaml")


def test_the_hook_checks_every_file_that_it_is_given(hook: dict[str, Any], tmp_path: Path) -> None:
    (tmp_path / "bad.yaml").write_text("profiles:\n- nmae: x\n")
    (tmp_path / "good one.yaml").write_text("profiles: []\n")
    done = subprocess.run(
        [*shlex.split(hook["entry"]), "bad.yaml", "good one.yaml"],
        cwd=tmp_path,
        env={**os.environ, "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}"},
        check=False,
        text=True,
        capture_output=True,
    )
    assert done.returncode == 1
    assert "bad.yaml:2:3: error: profiles[0].nmae: unknown key; did you mean 'name'?" in done.stdout
    assert "✔ good one.yaml: no profiles, no errors" in done.stdout
