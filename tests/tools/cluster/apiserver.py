"""A control plane of one etcd and one kube-apiserver, as processes on the loopback interface.

TLS and RBAC are on, and the admission plugins are those of a default installation. No controllers run: what they would
do in a cluster (create a namespace's default service account, empty a namespace that is deleted) is up to the tests.
"""

from __future__ import annotations

import asyncio
import base64
import contextlib
import functools
import http.client
import json
import secrets
import socket
import ssl
import tempfile
from collections.abc import Iterator
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

from cluster.assets import Assets
from sandbox.process import Process
from sandbox.status import Object, StatusError
from sandbox.waiting import HANG_SECONDS


class ControlPlaneError(Exception):
    """The control plane did not start; the text has the end of its logs."""


class ControlPlane:
    """A control plane for as long as its context lasts.

    It ends with this process, however that ends. Its methods are for whoever administers it, and block: the server is
    a process of its own, so that a test may call them from its event loop.

    Args:
        assets: The binaries.
    """

    def __init__(self, assets: Assets) -> None:
        self._assets = assets
        self._token = secrets.token_urlsafe()
        self._plurals: dict[str, dict[str, tuple[str, bool]]] = {}

    async def __aenter__(self) -> Self:
        async with contextlib.AsyncExitStack() as stack:
            # The names of Unix sockets must be short: not every temporary directory would do.
            scratch = stack.enter_context(tempfile.TemporaryDirectory(prefix="cluster-"))
            self._directory = Path(scratch)
            self._signing_key, self._tokens = self._directory / "service-accounts.key", self._directory / "tokens.csv"
            # Bound, but not listening: nobody else is given the port, and kube-apiserver may share it.
            reservation = stack.enter_context(socket.socket())
            reservation.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
            reservation.bind(("127.0.0.1", 0))
            self._port = reservation.getsockname()[1]
            self._write_secrets()
            stack.push_async_callback(self._stop_etcd)
            await self._start_etcd()
            stack.push_async_callback(self._stop_apiserver)
            await self._start_apiserver()
            stack.callback(self._connection.close)
            self._stack = stack.pop_all()
        return self

    async def __aexit__(
        self, exc_type: type[BaseException] | None, exc: BaseException | None, traceback: TracebackType | None
    ) -> None:
        await self._stack.aclose()

    async def forget_history(self) -> None:
        """Make all but the present versions of objects expire, and end all watches.

        In a cluster, that comes with time: etcd is compacted, and the API server is restarted.
        """
        await self._stop_apiserver()
        await self._start_apiserver()
        revision = self.request("GET", self.path("v1", "ConfigMap"))["metadata"]["resourceVersion"]
        self._compact(int(revision))

    @property
    def url(self) -> str:
        return f"https://127.0.0.1:{self._port}"

    @property
    def ca_file(self) -> Path:
        """The certificates that a client is to trust, in PEM; kube-apiserver makes them when it starts."""
        return self._directory / "certificates" / "apiserver.crt"

    @functools.cached_property
    def trust(self) -> ssl.SSLContext:
        """What a client of this process trusts."""
        return ssl.create_default_context(cafile=self.ca_file)

    @property
    def admin_token(self) -> str:
        """The bearer token of an administrator, to whom everything is allowed."""
        return self._token

    def kubeconfig(self, *, token: str | None = None, namespace: str = "default") -> str:
        """Return a kubeconfig as YAML.

        Args:
            token: Whose; without one, an administrator's.
            namespace: That of its context.
        """
        authority = base64.b64encode(self.ca_file.read_bytes()).decode()
        cluster = {"server": self.url, "certificate-authority-data": authority}
        context = {"cluster": "cluster", "user": "user", "namespace": namespace}
        return json.dumps(
            {
                "apiVersion": "v1",
                "kind": "Config",
                "clusters": [{"name": "cluster", "cluster": cluster}],
                "users": [{"name": "user", "user": {"token": token or self._token}}],
                "contexts": [{"name": "context", "context": context}],
                "current-context": "context",
            },
            indent=2,
        )

    def request(self, method: str, path: str, body: Object | None = None, *, token: str | None = None) -> Any:
        """Send one request.

        Args:
            method: The HTTP method.
            path: From `/api` or `/apis` on, with its query.
            body: Sent as JSON.
            token: Whose; without one, an administrator's.

        Returns:
            The body of the answer: an object, or the text of what is not JSON.

        Raises:
            StatusError: The answer was a failure.
            OSError: There was none.
        """
        headers = {"Authorization": f"Bearer {token or self._token}", "Content-Type": "application/json"}
        text = json.dumps(body) if body is not None else None
        try:
            response = self._exchange(method, path, text, headers)
        except (ConnectionError, http.client.HTTPException):
            # An idle connection is closed by the server in time.
            response = self._exchange(method, path, text, headers)
        text = response.read().decode()
        is_json = response.getheader("Content-Type", "").startswith("application/json")
        answer = json.loads(text) if is_json else text
        if response.status >= 400:
            status = answer if is_json else {"message": text}
            raise StatusError(response.status, status.get("reason", ""), status["message"], status.get("details"))
        return answer

    @functools.cached_property
    def _connection(self) -> http.client.HTTPSConnection:
        return http.client.HTTPSConnection("127.0.0.1", self._port, timeout=HANG_SECONDS, context=self.trust)

    def _exchange(self, *request: Any) -> http.client.HTTPResponse:
        try:
            self._connection.request(*request)
            return self._connection.getresponse()
        except BaseException:
            self._connection.close()
            raise

    def path(self, api_version: str, kind: str, namespace: str = "", name: str = "") -> str:
        """Return the path of an object, or of the objects of a kind.

        Args:
            api_version: Such as `v1` or `rbac.authorization.k8s.io/v1`.
            kind: Such as `ConfigMap`, or the name of the resource, such as `configmaps`.
            namespace: Ignored for what is in none; empty for all of them.
            name: The object's; empty for a list or a creation.
        """
        root = f"/apis/{api_version}" if "/" in api_version else f"/api/{api_version}"
        if api_version not in self._plurals:
            served = self.request("GET", root)["resources"]
            self._plurals[api_version] = {
                known: (each["name"], each["namespaced"])
                for each in served
                if "/" not in each["name"]
                for known in (each["kind"], each["name"])
            }
        plural, namespaced = self._plurals[api_version][kind]
        place = f"/namespaces/{namespace}" if namespaced and namespace else ""
        return f"{root}{place}/{plural}" + (f"/{name}" if name else "")

    def put(self, obj: Object, *, namespace: str = "default") -> Object:
        """Create an object, or replace the one of its name.

        Args:
            obj: Of any kind.
            namespace: Where it belongs if it does not say so itself.

        Raises:
            StatusError: It was refused.
        """
        metadata = obj["metadata"]
        place = (obj["apiVersion"], obj["kind"], metadata.get("namespace", namespace))
        try:
            return self.request("PUT", self.path(*place, metadata["name"]), obj)
        except StatusError as exc:
            if exc.code != 404:
                raise
        return self.request("POST", self.path(*place), obj)

    def create_namespace(self, name: str) -> None:
        """Create a namespace with the service account that pods run as if they name none.

        Without it the admission of a pod fails. In a cluster, the controller manager creates it.
        """
        self.put({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name}})
        self.put({"apiVersion": "v1", "kind": "ServiceAccount", "metadata": {"name": "default", "namespace": name}})

    def service_account_token(self, namespace: str, name: str) -> str:
        """Issue a token for a service account.

        Raises:
            StatusError: There is no such service account.
        """
        body = {"apiVersion": "authentication.k8s.io/v1", "kind": "TokenRequest", "spec": {}}
        path = self.path("v1", "ServiceAccount", namespace, name)
        token: str = self.request("POST", f"{path}/token", body)["status"]["token"]
        return token

    def allows(self, user: str, verb: str, resource: str, *, name: str = "", namespace: str = "") -> bool:
        """Whether a user may do something; a new Role is in force only after a moment.

        Args:
            user: Such as `system:serviceaccount:jhub:hub`.
            verb: As in a Role.
            resource: Of the core group; with a subresource as in a Role, `pods/status`.
            name: The object's; empty for any.
            namespace: Empty for all.
        """
        resource, _, subresource = resource.partition("/")
        attributes = {"verb": verb, "resource": resource, "name": name, "namespace": namespace}
        api_version, kind = "authorization.k8s.io/v1", "SubjectAccessReview"
        spec = {"user": user, "resourceAttributes": {**attributes, "subresource": subresource}}
        review = {"apiVersion": api_version, "kind": kind, "spec": spec}
        allowed: bool = self.request("POST", self.path(api_version, kind), review)["status"]["allowed"]
        return allowed

    async def _start(self, name: str, command: list[str]) -> Process:
        return await Process.start(command, env={}, cwd=self._directory, log=self._directory / f"{name}.log")

    async def _start_etcd(self) -> None:
        self._etcd = await self._start("etcd", self._etcd_command())

    async def _stop_etcd(self) -> None:
        await self._etcd.stop(10)

    async def _start_apiserver(self) -> None:
        self._apiserver = await self._start("kube-apiserver", self._apiserver_command())
        await self._wait_until_ready(self._etcd, self._apiserver)

    async def _stop_apiserver(self) -> None:
        await self._apiserver.stop(10)

    @contextlib.contextmanager
    def _connect_to_etcd(self) -> Iterator[http.client.HTTPConnection]:
        with contextlib.closing(http.client.HTTPConnection("localhost")) as connection:
            connection.sock = socket.socket(socket.AF_UNIX)
            connection.sock.connect(f"{self._directory}/client.socket")
            yield connection

    def _compact(self, revision: int) -> None:
        with self._connect_to_etcd() as connection:
            connection.request("POST", "/v3/kv/compaction", json.dumps({"revision": revision, "physical": True}))
            assert connection.getresponse().status == 200

    def _write_secrets(self) -> None:
        key = ec.generate_private_key(ec.SECP256R1())
        pem = key.private_bytes(Encoding.PEM, PrivateFormat.TraditionalOpenSSL, NoEncryption())
        self._signing_key.write_bytes(pem)
        self._tokens.write_text(f"{self._token},admin,admin,system:masters\n")

    def _etcd_command(self) -> list[str]:
        client, peer = (f"unix://{self._directory}/{name}.socket" for name in ("client", "peer"))
        return [
            str(self._assets.etcd),
            f"--data-dir={self._directory}/etcd",
            f"--listen-client-urls={client}",
            f"--advertise-client-urls={client}",
            f"--listen-peer-urls={peer}",
            "--unsafe-no-fsync",  # nothing of it is to outlive the machine
            "--log-level=warn",
        ]

    def _apiserver_command(self) -> list[str]:
        return [
            str(self._assets.kube_apiserver),
            f"--etcd-servers=unix://{self._directory}/client.socket",
            "--bind-address=127.0.0.1",
            "--advertise-address=127.0.0.1",
            f"--secure-port={self._port}",
            "--permit-port-sharing",
            f"--cert-dir={self.ca_file.parent}",  # where it puts the certificate that it makes for itself
            f"--token-auth-file={self._tokens}",
            "--authorization-mode=RBAC",
            "--service-account-issuer=https://kubernetes.default.svc",
            f"--service-account-key-file={self._signing_key}",
            f"--service-account-signing-key-file={self._signing_key}",
            "--service-cluster-ip-range=10.96.0.0/16",
            "--endpoint-reconciler-type=none",  # a loopback address is no valid endpoint
            "--allow-privileged",  # as kubeadm sets it
        ]

    async def _wait_until_ready(self, *processes: Process) -> None:
        ready = asyncio.create_task(self._poll())
        ends = [asyncio.create_task(process.wait()) for process in processes]
        done, pending = await asyncio.wait([ready, *ends], timeout=HANG_SECONDS, return_when=asyncio.FIRST_COMPLETED)
        for task in pending:
            task.cancel()
        await asyncio.gather(*pending, return_exceptions=True)
        if ready not in done:
            logs = "\n".join(self._log_tail(name) for name in ("etcd", "kube-apiserver"))
            what = "ended" if done else f"was not ready within {HANG_SECONDS} s"
            raise ControlPlaneError(f"the control plane {what}\n{logs}")
        ready.result()

    async def _poll(self) -> None:
        while True:
            with contextlib.suppress(OSError, StatusError):
                await asyncio.to_thread(self.request, "GET", "/readyz")
                return
            await asyncio.sleep(0.1)

    def _log_tail(self, name: str, lines: int = 15) -> str:
        log = (self._directory / f"{name}.log").read_text(errors="replace").splitlines()
        return "\n".join([f"--- {name} ---", *log[-lines:]])
