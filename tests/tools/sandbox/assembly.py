"""The whole sandbox: an embedded API, a kubelet and a hub, with a document in the ConfigMap between them."""

import contextlib
import json
import secrets
import tempfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from kubernetes_asyncio.client import V1Pod

from profiled_spawner.document.model import EVERYONE
from profiled_spawner.document.parser import validate_document
from sandbox.api import EmbeddedAPI
from sandbox.client import HubClient
from sandbox.hub import SandboxHub
from sandbox.kubelet import ProcessKubelet

NAMESPACE = "jhub"
CONFIGMAP = "jupyter-singleuser-profiles"
KEY = "jupyterhub-singleuser-profiles.yaml"
#: A document to begin with, and who is in the groups that it names.
EXAMPLE = Path(__file__).with_name("example.yaml")
EXAMPLE_GROUPS = {"forecasters": ["grace"]}
#: What is offered besides the images that the document names.
ANY_IMAGE = "example/notebook:latest"


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
        port: The port of the hub; 0 for any.
        groups: The users of each JupyterHub group.
        traits: More configuration of the hub, by class and trait name.
        container_started: Called with each pod whose container has been started.
        api: The API server, which has not been started; a new embedded one by default.

    Raises:
        PortInUseError: The port is taken; nothing has been started.
        HubDiedError: The hub did not come up.

    Attributes:
        directory: Where everything of it is on disk.
    """

    def __init__(
        self,
        document: str,
        *,
        port: int = 0,
        groups: Mapping[str, Sequence[str]] | None = None,
        traits: Mapping[str, Mapping[str, Any]] | None = None,
        container_started: Callable[[V1Pod], None] = lambda pod: None,
        api: EmbeddedAPI | None = None,
    ) -> None:
        # Whoever may create pods runs commands as this user, and the machine may have others.
        self.api = api or EmbeddedAPI(namespaces=(NAMESPACE,), token=secrets.token_hex(16))
        self._document = document
        self._images = [ANY_IMAGE]
        self._port = port
        self._groups = groups
        self._traits = traits
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
            )
            await stack.enter_async_context(self.api)
            kubeconfig.write_text(self.api.kubeconfig())
            self.kubelet = await stack.enter_async_context(
                ProcessKubelet(
                    self.api.url, self.directory, token=self.api.token, container_started=self._container_started
                )
            )
            await stack.enter_async_context(self.hub)
            self.write_document(self._document)
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

    def write_document(self, document: str) -> str:
        """Write the ConfigMap, as ``kubectl apply`` would.

        Returns:
            Its ``resourceVersion``.
        """
        written = self.api.put(
            {
                "apiVersion": "v1",
                "kind": "ConfigMap",
                "metadata": {"name": CONFIGMAP, "namespace": NAMESPACE},
                "data": {KEY: document},
            }
        )
        # The hub goes on with the last good document, and so does the list.
        self._images = images_of(document) or self._images
        self.hub.offer_images(self._images)
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


def images_of(document: str) -> list[str]:
    """Return the images to choose from: those that a document names, patterns left out; none if it is invalid.

    The one that it does not name stays on the list, because KubeSpawner 7.1 shows an empty box to whoever had an image
    that is gone, and starts the first of the list then.
    """
    checked = validate_document(document)
    if checked.document is None:
        return []
    images = (image for profile in checked.document.profiles for image in profile.images or ())
    return list(dict.fromkeys([*(image for image in images if EVERYONE not in image), ANY_IMAGE]))
