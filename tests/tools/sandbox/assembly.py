"""The whole sandbox: an embedded API, a kubelet and a hub, with a document in the ConfigMap between them."""

import contextlib
import json
import secrets
import tempfile
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from kubernetes_asyncio.client import V1Pod

from profiled_spawner.document.model import EVERYONE, Document
from profiled_spawner.document.parser import validate_document
from sandbox.api import EmbeddedAPI
from sandbox.client import HubClient
from sandbox.hub import ANY_IMAGE, SandboxHub
from sandbox.kubelet import ProcessKubelet

NAMESPACE = "jhub"
CONFIGMAP = "jupyter-singleuser-profiles"
KEY = "jupyterhub-singleuser-profiles.yaml"
#: A document to begin with, and who is in the groups that it names.
EXAMPLE = Path(__file__).with_name("example.yaml")
EXAMPLE_GROUPS = {"forecasters": ["grace"]}
#: The label of ConfigMaps beside the main one, by which the hub selects them.
SELECTED = "jupyterhub=singleuser-profiles"


@dataclass(frozen=True)
class RunningServer:
    """What a user's server was given, as its pod and its kernel have it.

    Attributes:
        image: The image of the pod's notebook container.
        profiles: The names of the profiles that were applied, least specific first.
        limits: The container's limits, by resource.
        environment: The environment of a kernel on the server.
    """

    image: str
    profiles: list[str]
    limits: Mapping[str, str]
    environment: Mapping[str, str]


class Sandbox:
    """Runs everything for as long as its context lasts; nothing is left of it afterwards.

    Args:
        document: The profile document to begin with.
        selected: Further documents to begin with, by the names of their ConfigMaps.
        port: The port of the hub; 0 for any.
        groups: The users of each JupyterHub group.
        traits: More configuration of the hub, by class and trait name.
        config: A configuration file of one's own for the hub.
        container_started: Called with each pod whose container has been started.
        api: The API server, which has not been started; a new embedded one by default.

    Raises:
        PortInUseError: The port is taken; nothing has been started.
        HubConfigError: The configuration file of one's own has an error.
        HubDiedError: The hub did not come up.

    Attributes:
        directory: Where everything of it is on disk.
    """

    def __init__(
        self,
        document: str,
        *,
        selected: Mapping[str, str] | None = None,
        port: int = 0,
        groups: Mapping[str, Sequence[str]] | None = None,
        traits: Mapping[str, Mapping[str, Any]] | None = None,
        config: Path | None = None,
        container_started: Callable[[V1Pod], None] = lambda pod: None,
        api: EmbeddedAPI | None = None,
    ) -> None:
        # Whoever may create pods runs commands as this user, and the machine may have others.
        self.api = api or EmbeddedAPI(namespaces=(NAMESPACE,), token=secrets.token_hex(16))
        self._texts = {CONFIGMAP: document, **(selected or {})}
        self._last_good: dict[str, Document] = {}
        self._port = port
        self._groups = groups
        self._traits = traits
        self._config = config
        self._container_started = container_started

    async def __aenter__(self) -> Self:
        async with contextlib.AsyncExitStack() as stack:
            temporary = tempfile.TemporaryDirectory(prefix="profiled-spawner-", ignore_cleanup_errors=True)
            self.directory = Path(stack.enter_context(temporary))
            kubeconfig = self.directory / "kubeconfig"
            self.hub = SandboxHub(
                kubeconfig,
                self.directory / "hub",
                namespace=NAMESPACE,
                port=self._port,
                groups=self._groups,
                traits=self._traits,
                label_selector=SELECTED if len(self._texts) > 1 else "",
                config=self._config,
            )
            await stack.enter_async_context(self.api)
            kubeconfig.write_text(self.api.kubeconfig())
            self.kubelet = await stack.enter_async_context(
                ProcessKubelet(
                    self.api.url, self.directory, token=self.api.token, container_started=self._container_started
                )
            )
            await stack.enter_async_context(self.hub)
            for name, text in self._texts.items():
                self.write_document(text, name)
            self.client = await stack.enter_async_context(HubClient(self.hub.url, self.hub.settings.api_token))
            self._stack = stack.pop_all()
        return self

    async def __aexit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        await self._stack.aclose()

    def write_document(self, document: str, name: str = CONFIGMAP) -> str:
        """Write the main ConfigMap or a further one, as ``kubectl apply`` would.

        Returns:
            Its ``resourceVersion``.
        """
        written = self.api.put(
            {
                "apiVersion": "v1",
                "kind": "ConfigMap",
                "metadata": {
                    "name": name,
                    "namespace": NAMESPACE,
                    "labels": {} if name == CONFIGMAP else dict([SELECTED.split("=")]),
                },
                "data": {KEY: document},
            }
        )
        # The hub goes on with the last good document, and so does the list.
        self._last_good[name] = validate_document(document).document or self._last_good.get(name, Document())
        self.hub.offer_images(images_of(self._last_good.values()))
        version: str = written["metadata"]["resourceVersion"]
        return version

    async def look_into(self, user: str) -> RunningServer:
        """Look into the pod of a user's running server, and ask its kernel for its environment."""
        pods = self.api.list("pods", NAMESPACE)
        pod = next(p for p in pods if p["metadata"]["annotations"]["hub.jupyter.org/username"] == user)
        container = pod["spec"]["containers"][0]
        return RunningServer(
            image=container["image"],
            profiles=json.loads(pod["metadata"]["annotations"]["profiled-spawner/applied"]),
            limits=container["resources"].get("limits", {}),
            environment=await self.client.kernel_environment(user),
        )


def images_of(documents: Iterable[Document]) -> list[str]:
    """Return the images to choose from on KubeSpawner's part of the page.

    They are those that the profiles name, patterns left out, and one more. That one stays on the list, because
    KubeSpawner 7.1 shows an empty box if somebody's last image is gone, and starts the first of the list then. If a
    document has a list of images to choose from, there are none: two lists on one page would contradict each other.
    """
    documents = list(documents)
    if any(document.images for document in documents):
        return []
    images = (image for document in documents for profile in document.profiles for image in profile.images or ())
    return list(dict.fromkeys([*(image for image in images if EVERYONE not in image), ANY_IMAGE]))
