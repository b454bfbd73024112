"""An API server, a kubelet and KubeSpawner's way to them, for the tests of the spawner and of the hub."""

from __future__ import annotations

import signal
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from hypothesis import HealthCheck, settings
from kubespawner import KubeSpawner
from traitlets.config import Config

from cluster.api import ClusterAPI
from profiled_spawner import ProfiledKubeSpawner
from sandbox.api import EmbeddedAPI
from sandbox.inprocess import found_by_kubespawner
from sandbox.paperkubelet import PaperKubelet
from sandbox.waiting import PATIENCE, Clock

pytest_plugins = ["cluster.fixtures"]

# How long an example takes, or to think of one, is the machine's affair.
settings.register_profile("any machine", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("any machine")

CONFIGMAP = "jupyter-singleuser-profiles"
KEY = "jupyterhub-singleuser-profiles.yaml"
NAMESPACE = "jhub"

WriteProfiles = Callable[..., dict[str, Any]]
MakeSpawner = Callable[..., ProfiledKubeSpawner]


API_SERVERS = ["embedded", pytest.param("real", marks=pytest.mark.cluster)]


def make_api_server(request: pytest.FixtureRequest, token: str = "") -> EmbeddedAPI:
    """The API server that the parameter of a fixture names, of `API_SERVERS`."""
    if request.param == "real":
        return ClusterAPI(request.getfixturevalue("control_plane"), token=token)
    return EmbeddedAPI(namespaces=(NAMESPACE,), token=token)


@pytest.fixture(scope="session", autouse=True)
def interruptible() -> None:
    """Lets Ctrl-C reach the processes that tests start: a shell ignores it for what runs in its background."""
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.fixture
def api_server() -> EmbeddedAPI:
    """The embedded one. A module whose tests are to run on the real one too has a fixture of this name, with both."""
    return EmbeddedAPI(namespaces=(NAMESPACE,))


@pytest.fixture
async def api(api_server: EmbeddedAPI, tmp_path: Path) -> AsyncIterator[EmbeddedAPI]:
    """An API server of the test's own, which KubeSpawner finds."""
    async with api_server as api, found_by_kubespawner(api.kubeconfig(), tmp_path):
        yield api


@pytest.fixture
def label_selectors(api: EmbeddedAPI) -> None:
    """The hub may list ConfigMaps."""
    if isinstance(api, ClusterAPI):
        api.allow_label_selectors()


@pytest.fixture
def user_namespaces(api: EmbeddedAPI) -> None:
    """The hub may create namespaces."""
    if isinstance(api, ClusterAPI):
        api.allow_user_namespaces()


@pytest.fixture
def write_profiles(api: EmbeddedAPI) -> WriteProfiles:
    """Puts a text into the ConfigMap, as it is, and returns the object."""

    def write(
        text: str, *, key: str = KEY, name: str = CONFIGMAP, labels: dict[str, str] | None = None
    ) -> dict[str, Any]:
        return api.put(
            {
                "apiVersion": "v1",
                "kind": "ConfigMap",
                "metadata": {"name": name, "namespace": NAMESPACE, **({"labels": labels} if labels else {})},
                "data": {key: text},
            }
        )

    return write


@pytest.fixture
async def clock() -> Clock:
    return Clock()


@pytest.fixture
async def kubelet(api: EmbeddedAPI) -> AsyncIterator[PaperKubelet]:
    async with PaperKubelet(api.url) as kubelet:
        yield kubelet


@pytest.fixture
def make_spawner(api: EmbeddedAPI, tmp_path: Path) -> MakeSpawner:
    """Makes a spawner of one's own, with `config` over what every test needs; a stock one with `spawner_class`."""

    def make(
        user: str = "ada",
        groups: tuple[str, ...] = (),
        config: Config | None = None,
        *,
        spawner_class: type[KubeSpawner] = ProfiledKubeSpawner,
        **traits: Any,
    ) -> ProfiledKubeSpawner:
        settings = Config()
        settings.KubeSpawner.update(PATIENCE, namespace=NAMESPACE)
        settings.ProfiledKubeSpawner.configmap_namespace = NAMESPACE
        settings.ProfiledKubeSpawner.last_good_path = str(tmp_path / "last-good.json")
        settings.KubeSpawner.image = "quay.io/example/notebook:1"
        settings.merge(config or Config())
        who = SimpleNamespace(
            name=user,
            id=1,
            url=f"/user/{user}/",
            escaped_name=user,
            groups=[SimpleNamespace(name=group) for group in groups],
        )
        spawner = spawner_class(_mock=True, config=settings, user=who)
        for name, value in traits.items():
            setattr(spawner, name, value)
        return spawner

    return make
