"""The manifest that `render` shows is the one that a hub would send."""

from __future__ import annotations

import json
import re
import traceback
from pathlib import Path
from typing import Any

import kubespawner.spawner
import pytest
from jupyterhub.spawner import Spawner
from kubernetes_asyncio.config import kube_config
from kubespawner.clients import load_config
from traitlets.config import Config
from traitlets.config.loader import PyFileConfigLoader

from profiled_spawner.command.rendering import RenderingError, render_pod
from profiled_spawner.decide.matching import Subject
from profiled_spawner.document.parser import parse_document
from profiled_spawner.document.quantity import Quantity, parse_quantity
from profiled_spawner.errors import PodError
from profiled_spawner.sources.cache import Snapshot
from sandbox.api import EmbeddedAPI
from sandbox.inprocess import InProcessHub
from sandbox.paperkubelet import PaperKubelet

from ..conftest import API_SERVERS, NAMESPACE, WriteProfiles, make_api_server

TOKEN = "(generated at each start)"
HIDDEN = "(the message may contain values; --show-values shows it)"

IMAGE = "quay.io/example/forecast-notebook:3.6"

DOCUMENT = """
profiles:
  - name: forecasting
    images: ['quay.io/example/forecast-notebook:*']
    groups: [forecasters]
    env:
      BUCKET: CANARY-bucket
      S3_KEY: {valueFrom: {secretKeyRef: {name: team-s3, key: access-key}}}
    resources: {mem_limit: 2Gi}
  - name: globals
    env: {BUCKET: CANARY-globals, PORT: 80}
    resources: {mem_limit: 1Gi, cpu_limit: 500m}
"""

CONFIG = """
c = get_config()
c.KubeSpawner.environment = {"FROM_SETTINGS": "CANARY-settings {username}"}
c.KubeSpawner.mem_guarantee = "1G"
c.KubeSpawner.extra_annotations = {"who": "{username} {servername}"}
c.KubeSpawner.node_selector = {"disk": "ssd"}
c.KubeSpawner.init_containers = [{"name": "first", "image": "busybox", "env": [{"name": "A", "value": "CANARY-init"}]}]
c.KubeSpawner.extra_containers = [{"name": "side", "image": "busybox", "env": [{"name": "A", "value": "CANARY-side"}]}]
c.Spawner.group_overrides = {
    "forecasters": {"groups": ["forecasters"], "spawner_override": {"environment": {"OVERRIDE": "CANARY-override"}}}
}
"""


@pytest.fixture(autouse=True)
def plugin_trace(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A file that is there as soon as somebody has read the kubeconfig, which names a plugin."""
    path, trace = tmp_path / "kubeconfig-with-plugin", tmp_path / "plugin-was-run"
    path.write_text(
        f"""
apiVersion: v1
kind: Config
current-context: here
contexts: [{{name: here, context: {{cluster: here, user: plugin}}}}]
clusters: [{{name: here, cluster: {{server: 'http://127.0.0.1:1'}}}}]
users:
  - name: plugin
    user: {{exec: {{apiVersion: client.authentication.k8s.io/v1, command: touch, args: ['{trace}']}}}}
"""
    )
    monkeypatch.delenv("KUBERNETES_SERVICE_HOST", raising=False)
    monkeypatch.setattr(kube_config, "KUBE_CONFIG_DEFAULT_LOCATION", str(path))
    load_config.cache_clear()
    return trace


async def render(
    *,
    document: str = DOCUMENT,
    groups: tuple[str, ...] = ("forecasters",),
    image: str = IMAGE,
    server: str = "",
    config: Path | None = None,
    show_values: bool = True,
) -> dict[str, Any]:
    return await render_pod(
        Snapshot(parse_document(document), "file/profiles.yaml"),
        Subject("ada", frozenset(groups), image),
        server=server,
        config_file=config,
        show_values=show_values,
    )


def env_of(pod: dict[str, Any]) -> dict[str, Any]:
    variables = pod["spec"]["containers"][0]["env"]
    # An API server leaves out an empty value.
    return {variable["name"]: variable.get("value") or variable.get("valueFrom") or "" for variable in variables}


def quantities(container: dict[str, Any], kind: str) -> dict[str, Quantity]:
    amounts = container["resources"].get(kind, {})
    return {resource: parse_quantity(str(amount)) for resource, amount in amounts.items()}


@pytest.fixture(params=API_SERVERS)
def api_server(request: pytest.FixtureRequest) -> EmbeddedAPI:
    return make_api_server(request)


@pytest.fixture
def config_file(tmp_path: Path) -> Path:
    path = tmp_path / "jupyterhub_config.py"
    path.write_text(CONFIG)
    return path


async def test_a_hub_sends_the_manifest_that_was_rendered(
    api: EmbeddedAPI, kubelet: PaperKubelet, write_profiles: WriteProfiles, tmp_path: Path
) -> None:
    write_profiles(DOCUMENT)
    path = tmp_path / "settings.py"
    path.write_text(CONFIG + f"c.KubeSpawner.namespace = {NAMESPACE!r}\nc.KubeSpawner.image = {IMAGE!r}\n")
    settings: Config = PyFileConfigLoader(str(path)).load_config()
    settings.ProfiledKubeSpawner.configmap_namespace = NAMESPACE
    async with InProcessHub(tmp_path, settings) as hub:
        await hub.add_user("ada", "forecasters")
        (await hub.api("POST", "/users/ada/server")).raise_for_status()
        (sent,) = api.list("pods", NAMESPACE)
        with path.open("a") as file:
            file.write(f"c.JupyterHub.hub_bind_url = {hub.app.hub_bind_url!r}\n")
            file.write(f"c.KubeSpawner.port = {hub.app.config.KubeSpawner.port}\n")

    rendered = await render(config=path)

    tokens = {"JPY_API_TOKEN": TOKEN, "JUPYTERHUB_API_TOKEN": TOKEN}
    assert list(env_of(rendered)) == list(env_of(sent))
    assert env_of(rendered) == env_of(sent) | tokens
    annotations = rendered["metadata"]["annotations"]
    assert annotations.pop("profiled-spawner/source") == "file/profiles.yaml"
    assert sent["metadata"]["annotations"].pop("profiled-spawner/source").startswith("configmap/")
    assert annotations == sent["metadata"]["annotations"]
    for part in ("name", "labels"):
        assert rendered["metadata"][part] == sent["metadata"][part]
    for part in ("nodeSelector", "restartPolicy", "automountServiceAccountToken"):
        assert rendered["spec"].get(part) == sent["spec"].get(part)
    ours, theirs = rendered["spec"]["containers"][0], sent["spec"]["containers"][0]
    for part in ("name", "image", "securityContext"):
        assert ours[part] == theirs[part]
    assert quantities(ours, "limits") == quantities(theirs, "limits")
    # An API server adds what is missing.
    assert quantities(ours, "requests").items() <= quantities(theirs, "requests").items()


async def test_a_hub_that_only_observes_has_rendered_what_it_would_send(config_file: Path) -> None:
    real = await render(config=config_file)
    with config_file.open("a") as file:
        file.write("c.ProfiledKubeSpawner.observe_only = True\n")
    assert await render(config=config_file) == real
    assert "profiled-spawner/applied" in real["metadata"]["annotations"]


async def test_a_server_without_a_configuration_has_what_profiles_and_the_hub_give() -> None:
    pod = await render()

    assert list(pod) == ["apiVersion", "kind", "metadata", "spec"]
    assert pod["metadata"]["name"] == "jupyter-ada"
    assert env_of(pod)["BUCKET"] == "CANARY-bucket"
    assert env_of(pod)["S3_KEY"] == {"secretKeyRef": {"name": "team-s3", "key": "access-key"}}
    assert env_of(pod)["JUPYTERHUB_USER"] == "ada"
    assert pod["spec"]["containers"][0]["image"] == IMAGE
    assert pod["spec"]["containers"][0]["resources"]["limits"] == {"cpu": "500m", "memory": "2Gi"}


async def test_no_gpu_is_none_in_the_pod_either(config_file: Path) -> None:
    config_file.write_text("c.KubeSpawner.extra_resource_limits = {'nvidia.com/gpu': 1}\n")

    pod = await render(document="profiles: [{gpu: 0, resources: {cpu_limit: 1}}]", config=config_file)

    assert pod["spec"]["containers"][0]["resources"] == {"limits": {"cpu": "1"}, "requests": {}}


async def test_groups_and_image_decide_as_they_do_for_a_hub() -> None:
    applied = [
        (await render(groups=groups, image=image))["metadata"]["annotations"]["profiled-spawner/applied"]
        for groups, image in [(("forecasters", "others"), IMAGE), (("others",), IMAGE), (("forecasters",), "other:1")]
    ]

    assert applied == ['["globals", "forecasting"]', '["globals"]', '["globals"]']


async def test_a_named_server_has_its_name_in_templates_and_addresses(config_file: Path) -> None:
    pod = await render(server="gpu", config=config_file)

    assert pod["metadata"]["name"] == "jupyter-ada--gpu"
    assert pod["metadata"]["annotations"]["who"] == "ada gpu"
    assert env_of(pod)["JUPYTERHUB_SERVER_NAME"] == "gpu"
    assert env_of(pod)["JUPYTERHUB_SERVICE_PREFIX"] == "/user/ada/gpu/"


async def test_the_configuration_decides_what_the_hub_itself_gives(config_file: Path) -> None:
    with config_file.open("a") as file:
        file.write(
            "c.JupyterHub.hub_connect_url = 'http://hub.example.org:8081'\n"
            "c.JupyterHub.base_url = '/lab/'\n"
            "c.ProfiledKubeSpawner.merge_order = 'document'\n"
        )

    pod = await render(config=config_file)

    env = env_of(pod)
    assert env["JUPYTERHUB_API_URL"] == "http://hub.example.org:8081/lab/hub/api"
    assert env["JUPYTERHUB_SERVICE_PREFIX"] == "/lab/user/ada/"
    assert env["FROM_SETTINGS"] == "CANARY-settings ada"
    assert env["BUCKET"] == "CANARY-globals"


@pytest.mark.skipif(not hasattr(Spawner, "apply_group_overrides"), reason="this JupyterHub has no group_overrides")
async def test_group_overrides_are_applied_before_the_image_is_set(config_file: Path) -> None:
    with config_file.open("a") as file:
        file.write("c.Spawner.group_overrides['forecasters']['spawner_override']['image'] = 'overridden:1'\n")

    with_override, without = await render(config=config_file), await render(groups=(), config=config_file)

    assert env_of(with_override)["OVERRIDE"] == "CANARY-override"
    assert with_override["spec"]["containers"][0]["image"] == IMAGE
    assert "OVERRIDE" not in env_of(without)


async def test_no_hook_and_no_profile_list_is_run(config_file: Path) -> None:
    with config_file.open("a") as file:
        for hook in ("pre_spawn_hook", "modify_pod_hook", "profile_list", "auth_state_hook", "after_pod_created_hook"):
            file.write(f"c.ProfiledKubeSpawner.{hook} = lambda *_: 1 / 0\n")

    assert env_of(await render(config=config_file))["BUCKET"] == "CANARY-bucket"


async def test_a_spawner_class_of_ones_own_is_used(config_file: Path) -> None:
    with config_file.open("a") as file:
        file.write(
            "from profiled_spawner import ProfiledKubeSpawner\n"
            "class OurSpawner(ProfiledKubeSpawner):\n"
            "    def get_env(self):\n"
            "        return super().get_env() | {'OURS': 'yes'}\n"
            "c.JupyterHub.spawner_class = OurSpawner\n"
        )

    assert env_of(await render(config=config_file))["OURS"] == "yes"


@pytest.mark.parametrize(
    "setting",
    [
        "JupyterHub.spawner_class = 'kubespawner.KubeSpawner'",
        "JupyterHub.authenticator_class = 'a.package.that.is.not.here'",
        "JupyterHub.proxy_class = 'a.package.that.is.not.here'",
        "JupyterHub.subdomain_host = 'https://hub.example.org'",
        "JupyterHub.internal_ssl = True",
        "JupyterHub.log_level = 'DEBUG'",
        "JupyterHub.tornado_settings = {'cookie_options': {'samesite': 'None'}}",
    ],
)
async def test_what_else_a_hub_may_have_does_no_harm(
    config_file: Path, capfd: pytest.CaptureFixture[str], setting: str
) -> None:
    config_file.write_text(f"c = get_config()\nc.{setting}\n")

    assert env_of(await render(config=config_file))["BUCKET"] == "CANARY-bucket"
    assert capfd.readouterr() == ("", "")


async def test_no_kubeconfig_is_read(plugin_trace: Path) -> None:
    await render()

    assert not plugin_trace.exists()
    assert kubespawner.spawner.load_config is load_config


async def test_values_are_only_shown_on_request(config_file: Path) -> None:
    shown, hidden = await render(config=config_file), await render(config=config_file, show_values=False)

    assert {"bucket", "settings", "init", "side"} <= set(re.findall(r"CANARY-(\w+)", json.dumps(shown)))
    assert "CANARY" not in json.dumps(hidden)
    assert list(env_of(hidden)) == list(env_of(shown))
    values = env_of(hidden)
    assert values.pop("S3_KEY") == {"secretKeyRef": {"name": "team-s3", "key": "access-key"}}
    assert set(values.values()) == {"***"}


async def test_warnings_are_told_and_prints_of_the_configuration_kept_apart(
    config_file: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    config_file.write_text("print('loading')\nget_config().KubeSpawner.nonsense = 3\n")
    document = "profiles: [{name: a, resources: {limits: {memory: 1Gi}, requests: {memory: 2Gi}}}]"

    await render(document=document, config=config_file)

    out, err = capfd.readouterr()
    assert out == ""
    assert err.splitlines() == [
        "loading",
        "profiled-spawner: WARNING: Config option `nonsense` not recognized by `ProfiledKubeSpawner`.",
        "profiled-spawner: WARNING: For ada, memory: the guarantee of 2Gi (a) is above the limit of 1Gi (a); "
        "the limit is used for both",
    ]


@pytest.mark.parametrize(
    ("code", "message"),
    [
        pytest.param(
            "import nothing_like_it", ":2: ModuleNotFoundError: No module named 'nothing_like_it'", id="import"
        ),
        pytest.param("cc.x = 1", ":2: NameError: name 'cc' is not defined", id="name"),
        pytest.param("if True\n 'CANARY'", ":2: SyntaxError: expected ':'", id="syntax"),
        pytest.param(
            "open('/no/such/file')", ":2: FileNotFoundError: No such file or directory: /no/such/file", id="file"
        ),
        pytest.param("raise ValueError('CANARY')", f":2: ValueError {HIDDEN}", id="exception"),
        pytest.param("import sys; sys.exit('CANARY')", f":2: SystemExit {HIDDEN}", id="exit"),
        pytest.param("c.KubeSpawner.uid = lambda spawner: {}['CANARY']", f":2: KeyError {HIDDEN}", id="callable"),
        pytest.param(
            "c.KubeSpawner.environment = 'CANARY'",
            f" (kubespawner.spawner.__init__): TraitError: 'environment' cannot have this value {HIDDEN}",
            id="wrong type",
        ),
        pytest.param(
            "c.KubeSpawner.environment = {'A': '{CANARY}'}",
            f" (kubespawner.spawner._expand_user_properties): KeyError {HIDDEN}",
            id="braces",
        ),
    ],
)
async def test_what_is_wrong_with_a_configuration_is_told_without_values(
    config_file: Path, code: str, message: str
) -> None:
    config_file.write_text(f"c = get_config()\n{code}\n")

    with pytest.raises(RenderingError) as caught:
        await render(config=config_file, show_values=False)

    assert str(caught.value).removeprefix("cannot make the pod with ") == f"{config_file}{message}"
    assert "CANARY" not in "".join(traceback.format_exception(caught.value)).replace(str(config_file), "")


async def test_what_does_not_go_together_is_told(config_file: Path, capfd: pytest.CaptureFixture[str]) -> None:
    config_file.write_text("c.KubeSpawner.volumes = [{'name': 'home', 'emptyDir': {}}]\n")
    document = "profiles: [{name: team, volumes: [{name: home, mountPath: /team, emptyDir: {}}]}]"

    with pytest.raises(PodError, match=r"^team has a volume 'home', and so has the pod already; give it another name$"):
        await render(document=document, config=config_file, show_values=False)

    assert capfd.readouterr() == ("", "")


async def test_an_error_of_this_package_is_told_for_it_holds_no_value(config_file: Path) -> None:
    config_file.write_text("from profiled_spawner.document.quantity import parse_quantity\nparse_quantity('2GB')\n")

    with pytest.raises(RenderingError, match=r"jupyterhub_config.py:2: QuantityError: 2GB is not a Kubernetes quant"):
        await render(config=config_file, show_values=False)


async def test_the_whole_message_is_told_on_request(config_file: Path) -> None:
    config_file.write_text("raise ValueError('CANARY\\nand more')\n")

    with pytest.raises(RenderingError, match=r"jupyterhub_config.py:1: ValueError: CANARY and more$"):
        await render(config=config_file)


async def test_a_configuration_that_is_not_there_is_told(tmp_path: Path) -> None:
    with pytest.raises(RenderingError, match=r"^there is no file .*/nowhere.py$"):
        await render(config=tmp_path / "nowhere.py")
