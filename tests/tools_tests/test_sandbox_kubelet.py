"""The sandbox's kubelet runs pods as processes, and tells the API server of them what a kubelet tells."""

import asyncio
import os
import socket
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import pytest
from kubernetes_asyncio.client import V1Pod

from sandbox.api import EmbeddedAPI
from sandbox.kubelet import ProcessKubelet
from sandbox.shim import children
from sandbox.waiting import HANG_SECONDS, until

from ..conftest import API_SERVERS, make_api_server

Pod = dict[str, Any]
Condition = Callable[[Pod], bool]

NAMESPACE = "jhub"
#: Ends at once on SIGTERM.
SLEEP = ["sleep", "3600"]
POD_IP = {"name": "POD_IP", "valueFrom": {"fieldRef": {"fieldPath": "status.podIP"}}}


class Node:
    """An API server and a kubelet, with what the tests do to them."""

    def __init__(self, api: EmbeddedAPI, kubelet: ProcessKubelet) -> None:
        self.api = api
        self.kubelet = kubelet
        self._children_before = set(children(os.getpid()))

    def create(self, name: str = "jupyter-ada", spec: dict[str, Any] | None = None, **container: Any) -> None:
        """Create a pod with one container."""
        self.api.put(
            {
                "kind": "Pod",
                "metadata": {"name": name, "namespace": NAMESPACE},
                "spec": {
                    # Its volume would be one more thing that the kubelet cannot do.
                    "automountServiceAccountToken": False,
                    "restartPolicy": "OnFailure",
                    "containers": [{"name": "notebook", "image": "lab/nb:1", "args": SLEEP, **container}],
                    **(spec or {}),
                },
            }
        )

    async def until(self, condition: Condition, name: str = "jupyter-ada") -> Pod:
        """Wait until a pod is as described."""
        async with asyncio.timeout(HANG_SECONDS):
            while not condition(pod := self.api.get("pods", NAMESPACE, name)):
                await asyncio.sleep(0.01)
            return pod

    async def until_gone(self, name: str = "jupyter-ada") -> None:
        await until(lambda: all(pod["metadata"]["name"] != name for pod in self.api.list("pods")))

    def processes(self) -> set[int]:
        """Return the processes that run for pods."""
        return set(children(os.getpid())) - self._children_before

    async def until_no_process(self) -> None:
        await until(lambda: not self.processes())

    def log(self, name: str = "jupyter-ada") -> str:
        """Return what a pod's container has written."""
        return self.kubelet.node.log_file(NAMESPACE, name).read_text()

    def events(self, name: str = "jupyter-ada") -> list[tuple[str, str]]:
        """Return a pod's events in order: their reasons and messages."""
        events = [e for e in self.api.list("events") if e["involvedObject"]["name"] == name]
        return [(event["reason"], event["message"]) for event in events]


@pytest.fixture(params=API_SERVERS)
def api_server(request: pytest.FixtureRequest) -> EmbeddedAPI:
    return make_api_server(request)


@pytest.fixture
async def node(api_server: EmbeddedAPI, tmp_path: Path) -> AsyncIterator[Node]:
    async with api_server as api:
        async with ProcessKubelet(api.url, tmp_path, retry_seconds=0.05) as kubelet:
            node = Node(api, kubelet)
            yield node
        assert not node.processes()


def state(pod: Pod) -> dict[str, Any]:
    """Return the state of a pod's container."""
    statuses = pod["status"].get("containerStatuses") or [{"state": {}}]
    found: dict[str, Any] = statuses[0]["state"]
    return found


def is_running(pod: Pod) -> bool:
    return "running" in state(pod)


def has_phase(phase: str) -> Condition:
    return lambda pod: pod["status"].get("phase") == phase


def waits_for(reason: str) -> Condition:
    return lambda pod: state(pod).get("waiting", {}).get("reason") == reason


async def test_a_running_pod_has_a_node_an_address_and_is_ready(node: Node) -> None:
    node.create()
    pod = await node.until(is_running)

    assert pod["spec"]["nodeName"] == "sandbox"
    assert pod["status"]["phase"] == "Running"
    assert pod["status"]["hostIP"] == "127.0.0.1"
    assert pod["status"]["podIP"].startswith("127.")
    assert pod["status"]["podIPs"] == [{"ip": pod["status"]["podIP"]}]
    assert pod["status"]["containerStatuses"][0]["ready"] is True
    assert {c["type"]: c["status"] for c in pod["status"]["conditions"]}["Ready"] == "True"


async def test_events_tell_a_start_in_its_order(node: Node) -> None:
    node.create()
    await node.until(is_running)

    assert node.events() == [
        ("Scheduled", "Assigned jhub/jupyter-ada to this machine"),
        ("Pulled", "Pulled nothing: lab/nb:1 is this machine's Python"),
        ("Created", "Created container notebook"),
        ("Started", "Started container notebook"),
    ]


async def test_a_process_has_the_pods_environment_and_the_images_and_nothing_of_ours(
    node: Node, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OURS", "must not be there")
    node.create(args=["env", "-0"], env=[POD_IP, {"name": "URL", "value": "http://$(POD_IP)/"}])
    pod = await node.until(has_phase("Succeeded"))
    found = dict(line.split("=", 1) for line in node.log().rstrip("\0").split("\0"))

    assert found.pop("POD_IP") == pod["status"]["podIP"]
    assert found.pop("URL") == f"http://{pod['status']['podIP']}/"
    assert set(found) == {"PATH", "LANG", "HOME", "TMPDIR"}


async def test_arguments_may_refer_to_the_pods_variables(node: Node) -> None:
    node.create(args=["echo", "$(POD_IP)", "$(HOME)", "$$(POD_IP)"], env=[POD_IP])
    pod = await node.until(has_phase("Succeeded"))

    assert node.log() == f"{pod['status']['podIP']} $(HOME) $(POD_IP)\n"


async def test_a_pods_variables_win_over_the_images(node: Node) -> None:
    node.create(args=["sh", "-c", "echo $LANG"], env=[{"name": "LANG", "value": "C"}])
    await node.until(has_phase("Succeeded"))

    assert node.log() == "C\n"


async def test_each_pod_has_an_address_of_its_own_and_a_freed_one_is_used_late(node: Node) -> None:
    addresses = []
    for name in ("a", "b"):
        node.create(name)
        addresses.append((await node.until(is_running, name))["status"]["podIP"])
    node.api.delete("pods", NAMESPACE, "a")
    await node.until_gone("a")
    node.create("c")
    addresses.append((await node.until(is_running, "c"))["status"]["podIP"])

    assert len(set(addresses)) == 3
    assert node.kubelet.node.addresses[-1] == addresses[0]


async def test_pods_of_two_api_servers_never_have_the_same_address(node: Node, tmp_path: Path) -> None:
    async with EmbeddedAPI() as api:
        other = ProcessKubelet(api.url, tmp_path)
        async with other:
            assert not set(other.node.addresses) & set(node.kubelet.node.addresses)


async def test_a_container_waits_for_the_secret_that_it_refers_to(node: Node) -> None:
    reference = {"secretKeyRef": {"name": "keys", "key": "password"}}
    node.create(args=["sh", "-c", "echo $A"], env=[{"name": "A", "valueFrom": reference}])
    pod = await node.until(waits_for("CreateContainerConfigError"))

    assert pod["status"]["phase"] == "Pending"
    assert state(pod)["waiting"]["message"] == 'secret "keys" not found'
    assert ("Failed", 'Error: secret "keys" not found') in node.events()

    node.api.put(
        {"kind": "Secret", "metadata": {"name": "keys", "namespace": NAMESPACE}, "stringData": {"password": "s3cret"}}
    )
    await node.until(has_phase("Succeeded"))

    assert node.log() == "s3cret\n"
    assert "s3cret" not in str(node.events())


@pytest.mark.parametrize(
    ("policy", "script", "phase", "exit_code"),
    [
        pytest.param("OnFailure", "exit 0", "Succeeded", 0, id="success"),
        pytest.param("Never", "exit 3", "Failed", 3, id="failure"),
        pytest.param("Never", "kill -KILL $$$$", "Failed", 137, id="signal"),
    ],
)
async def test_a_pod_ends_with_its_container(node: Node, policy: str, script: str, phase: str, exit_code: int) -> None:
    node.create(spec={"restartPolicy": policy}, args=["sh", "-c", script])
    pod = await node.until(has_phase(phase))

    assert state(pod)["terminated"]["exitCode"] == exit_code


async def test_a_container_that_fails_is_restarted(node: Node) -> None:
    script = 'echo $(( $(cat tries 2>/dev/null || echo 0) + 1 )) > tries; test "$(cat tries)" = 3'
    node.create(args=["sh", "-c", script])
    pod = await node.until(has_phase("Succeeded"))

    assert pod["status"]["containerStatuses"][0]["restartCount"] == 2
    assert pod["status"]["containerStatuses"][0]["lastState"]["terminated"]["exitCode"] == 1
    assert [reason for reason, _ in node.events()].count("BackOff") == 2


async def test_a_command_that_does_not_exist_is_told(node: Node) -> None:
    node.create(spec={"restartPolicy": "Never"}, args=["no-such-command"])
    pod = await node.until(has_phase("Failed"))

    assert state(pod)["terminated"]["exitCode"] == 128
    assert state(pod)["terminated"]["message"] == 'exec: "no-such-command": executable file not found in $PATH'


async def test_a_deleted_pod_is_gone_when_its_container_has_ended(node: Node) -> None:
    node.create(args=["sh", "-c", "trap 'echo ended; exit' TERM; echo up; while :; do sleep 0.05; done"])
    await node.until(lambda pod: is_running(pod) and "up" in node.log())
    node.api.delete("pods", NAMESPACE, "jupyter-ada", grace_period_seconds=HANG_SECONDS)
    await node.until_gone()

    assert node.log() == "up\nended\n"
    assert not node.processes()


async def test_a_container_that_does_not_end_is_killed_after_its_grace_period(node: Node) -> None:
    node.create(args=["sh", "-c", "trap '' TERM; echo up; while :; do sleep 0.05; done"])
    await node.until(lambda pod: is_running(pod) and "up" in node.log())
    node.api.delete("pods", NAMESPACE, "jupyter-ada", grace_period_seconds=1)
    await node.until_gone()

    assert not node.processes()


async def test_a_pod_that_is_deleted_by_force_leaves_no_process(node: Node) -> None:
    node.create()
    await node.until(is_running)
    node.api.delete("pods", NAMESPACE, "jupyter-ada", grace_period_seconds=0)

    assert node.api.list("pods") == []
    await node.until_no_process()


async def test_a_new_pod_of_the_same_name_is_another_pod(node: Node) -> None:
    node.create()
    first = await node.until(is_running)
    node.api.delete("pods", NAMESPACE, "jupyter-ada")
    await node.until_gone()
    node.create()
    second = await node.until(is_running)

    assert second["status"]["podIP"] != first["status"]["podIP"]
    assert second["status"]["containerStatuses"][0]["restartCount"] == 0


async def test_a_server_that_would_listen_on_every_address_is_refused(node: Node) -> None:
    node.create(env=[{"name": "JUPYTERHUB_SERVICE_URL", "value": "http://0.0.0.0:8888/user/ada/"}])
    pod = await node.until(has_phase("Failed"))
    message = (
        f"the server would listen on 0.0.0.0 and not on its pod's own {pod['status']['podIP']}; "
        "set KubeSpawner.ip to $(POD_IP), with POD_IP from fieldRef status.podIP"
    )

    assert pod["status"]["message"] == message
    assert node.events()[-1] == ("Failed", f"Refused by the sandbox: {message}")


@pytest.mark.parametrize("args", [["--ip=0.0.0.0"], ["--ServerApp.ip", "0.0.0.0"], ["--ip="]], ids=" ".join)
async def test_the_address_may_not_come_from_an_argument_either(node: Node, args: list[str]) -> None:
    node.create(args=["jupyterhub-singleuser", *args])
    pod = await node.until(has_phase("Failed"))

    assert "would listen on 0.0.0.0" in pod["status"]["message"]


async def test_a_port_that_a_program_of_this_machine_has_is_refused(node: Node) -> None:
    with socket.create_server(("0.0.0.0", 0)) as listener:
        port = listener.getsockname()[1]
        node.create(ports=[{"containerPort": port}])
        pod = await node.until(has_phase("Failed"))

    assert pod["status"]["message"] == (
        f"a program of this machine listens on port {port} of every address; "
        "stop that program, or set KubeSpawner.port to another port"
    )


@pytest.mark.parametrize(
    ("spec", "container", "message"),
    [
        pytest.param(
            {"initContainers": [{"name": "block", "image": "x"}]}, {}, "initContainers block", id="init-container"
        ),
        pytest.param({"hostNetwork": True}, {}, "hostNetwork", id="host-network"),
        pytest.param(
            {"volumes": [{"name": "v", "secret": {"secretName": "keys"}}]}, {}, "volumes v", id="secret-volume"
        ),
        pytest.param(
            {},
            {"lifecycle": {"postStart": {"exec": {"command": ["true"]}}}},
            "lifecycle of notebook",
            id="lifecycle",
        ),
        pytest.param({}, {"workingDir": "/srv"}, "workingDir of notebook", id="working-directory"),
    ],
)
async def test_what_cannot_be_done_is_refused_rather_than_left_out(
    node: Node, spec: dict[str, Any], container: dict[str, Any], message: str
) -> None:
    node.create(spec=spec, **container)
    pod = await node.until(has_phase("Failed"))

    assert pod["status"]["reason"] == "SandboxRefused"
    assert pod["status"]["message"] == f"it cannot do {message}"
    assert not node.processes()


async def test_what_is_to_be_ignored_is_not_refused(api_server: EmbeddedAPI, tmp_path: Path) -> None:
    async with (
        api_server as api,
        ProcessKubelet(api.url, tmp_path, ignored=frozenset({"initContainers"})) as kubelet,
    ):
        node = Node(api, kubelet)
        node.create(spec={"initContainers": [{"name": "block", "image": "x"}]})
        await node.until(is_running)


async def test_servers_with_the_same_claim_have_the_same_home(node: Node) -> None:
    volumes = [{"name": "home", "persistentVolumeClaim": {"claimName": "claim-ada"}}]
    for name, script in (("a", "echo kept > ~/file"), ("b", "cat ~/file")):
        node.create(name, spec={"volumes": volumes}, args=["sh", "-c", script])
        await node.until(has_phase("Succeeded"), name)

    assert node.log("b") == "kept\n"


async def test_whoever_asked_is_told_of_each_start(api_server: EmbeddedAPI, tmp_path: Path) -> None:
    started: list[V1Pod] = []
    async with (
        api_server as api,
        ProcessKubelet(api.url, tmp_path, container_started=started.append) as kubelet,
    ):
        node = Node(api, kubelet)
        node.create()
        await node.until(lambda _: bool(started))

    assert [pod.metadata.name for pod in started] == ["jupyter-ada"]


async def test_pods_go_on_after_the_watch_was_lost(node: Node) -> None:
    node.create("before")
    await node.until(is_running, "before")
    await node.api.stop()
    await node.api.start()
    node.create("after")
    await node.until(is_running, "after")
    node.api.delete("pods", NAMESPACE, "before")
    await node.until_gone("before")


async def test_a_pod_that_went_while_the_watch_was_lost_leaves_no_process(node: Node) -> None:
    node.create()
    await node.until(is_running)
    await node.api.stop()
    node.api.delete("pods", NAMESPACE, "jupyter-ada", grace_period_seconds=0)
    await node.api.start()

    await node.until_no_process()


async def test_nothing_runs_any_more_when_the_kubelet_has_gone(api_server: EmbeddedAPI, tmp_path: Path) -> None:
    async with api_server as api:
        async with ProcessKubelet(api.url, tmp_path) as kubelet:
            node = Node(api, kubelet)
            for name in ("a", "b"):
                node.create(name)
                await node.until(is_running, name)
            assert len(node.processes()) == 2
        assert not node.processes()
        assert len(api.list("pods")) == 2


async def test_what_a_container_writes_only_we_can_read(node: Node) -> None:
    node.create()
    await node.until(is_running)

    assert os.stat(node.kubelet.node.log_file(NAMESPACE, "jupyter-ada")).st_mode & 0o077 == 0
