"""The values of a profile's variables are in the pod, and nowhere else.

Every test has the word `canary` in each value, and the root logger at DEBUG with a handler that keeps all that any
formatter could show of a record, the local variables of its traceback included.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import logging
import re
import traceback
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from pathlib import Path
from typing import Any

import kubernetes_asyncio.client.rest
import pytest
from jupyterhub import orm
from kubernetes_asyncio.client import ApiClient, Configuration, CoreV1Api, V1EnvVar, V1Pod
from kubespawner import KubeSpawner
from traitlets.config import Config

from profiled_spawner.command.main import main
from profiled_spawner.errors import SourceError
from profiled_spawner.hub.spawner import ProfilesUnavailableError
from profiled_spawner.pod.redaction import withhold_response_bodies
from profiled_spawner.sources.configmap import ConfigMapSource
from sandbox.api import EmbeddedAPI, Fault
from sandbox.inprocess import InProcessHub
from sandbox.paperkubelet import PaperKubelet
from sandbox.status import StatusError, forbidden
from sandbox.waiting import HANG_SECONDS, SHORT_SECONDS, Clock, until

from ..conftest import API_SERVERS, CONFIGMAP, KEY, NAMESPACE, MakeSpawner, WriteProfiles, make_api_server
from ..hub.test_hub import progress, started, stopped
from ..hub.test_spawner import env_of

GOOD = """
profiles:
- name: mapping
  env:
    PLAIN: canary-plain
    BRACES: '{"a": "canary-braces"} ${HOME} {} <&>'
    LINES: "canary-first\\ncanary-second"
    REFERRING: $(PLAIN) canary
  resources: {mem_limit: 512Mi, mem_guarantee: 1Gi}
- name: list
  env:
  - {name: LISTED, value: canary-listed}
  - {name: SECRET, valueFrom: {secretKeyRef: {name: tokens, key: token, optional: true}}}
  - {name: BESIDE_A_SECRET, value: canary-beside}
- name: aliased
  env: &shared {ALIASED: canary-aliased}
- env: *shared
- env: {<<: *shared, MERGED: canary}
"""
VALUES = 8

# Values in every place where a document may hold one by mistake; what each is told of is the parser's test.
MALFORMED = [
    "profiles: [{env: {A: canary}, nmae: x}]",
    "profiles: [{enviroment: {A: canary}}]",
    "profiles: [{env: {A: canary}}, {A: canary}]",
    "env: {A: canary}",
    "profiles: {env: {A: canary}}",
    "profiles: [{env: canary}]",
    "profiles: [{env: [canary]}]",
    "profiles: [{env: [A=canary]}]",
    "profiles: [{env: {A=canary: x}}]",
    "profiles: [{env: {A: [canary]}}]",
    "profiles: [{env: {A: {canary: canary}}}]",
    "profiles: [{env: {A: canary, A: canary}}]",
    "profiles: [{env: {A: canary}, env: {A: canary}}]",
    "profiles: [{env: [{name: A, value: canary}, {name: A, value: canary}]}]",
    "profiles: [{env: [{name: A, valeu: canary}]}]",
    "profiles: [{env: [{name: A, value: canary, valueFrom: {secretKeyRef: {name: s, key: k}}}]}]",
    "profiles: [{env: [{name: A, valueFrom: {secretKeyRef: {name: s, kye: canary}}}]}]",
    "profiles: [{env: {A: {valueFrom: canary}}}]",
    "profiles: [{env: {A: &v canary}, users: *v}]",
    "profiles: [{env: &e {A: canary}, resources: *e}]",
    "profiles: [{env: {A: *canary}}]",
    "profiles: [{env: {A: !canary canary}}]",
    "profiles: [{env: {A: 'canary}}]",
    'profiles: [{env: {A: "canary\\q"}}]',
    'profiles: [{env: {A: "canary\\0"}}]',
    "profiles: [{env: {A: canary\x07}}]",
    "profiles:\n- env:\n    A: canary: canary",
    "profiles:\n- env:\n    A: |\n     canary\n   canary",
    "profiles:\n- env:\n   A: canary\n  B: canary\n",
    "profiles: [{env: {JUPYTERHUB_API_TOKEN: canary}}]",
    f"profiles: [{{env: {{A: {'canary' * 30_000}}}}}]",
    "profiles: [" * 60 + "{env: {A: canary}}",
    "{env: {A: canary}",
    "canary",
]

MakeHub = Callable[[Config], Awaitable[InProcessHub]]


class Witness(logging.Handler):
    """Keeps what is logged, anywhere and at any level, in the most talkative form."""

    def __init__(self) -> None:
        super().__init__()
        self.text = ""
        self.local_variables = True

    def emit(self, record: logging.LogRecord) -> None:
        if record.name == "aiohttp.server":
            # The far side of the wire.
            return
        self.text += f"{record.name} {record.levelname} {record.getMessage()} {record.args!r}\n"
        if record.exc_info and record.exc_info[1]:
            self.text += told_by(record.exc_info[1], local_variables=self.local_variables)


def told_by(error: BaseException, *, local_variables: bool = True) -> str:
    """All that can be told of an exception: its text and repr, its traceback with each frame's local variables."""
    lines = traceback.TracebackException.from_exception(error, capture_locals=local_variables).format()
    return "".join([str(error), repr(error), repr(vars(error)), *lines])


def leaks(*texts: str) -> list[str]:
    return [line[:500] for text in texts for line in text.splitlines() if "canary" in line]


@pytest.fixture
def witness() -> Iterator[Witness]:
    root, witness = logging.getLogger(), Witness()
    level = root.level
    root.addHandler(witness)
    root.setLevel(logging.DEBUG)
    yield witness
    root.setLevel(level)
    root.removeHandler(witness)


@pytest.fixture(params=API_SERVERS)
def api_server(request: pytest.FixtureRequest) -> EmbeddedAPI:
    return make_api_server(request)


@pytest.fixture
async def make_hub(
    api: EmbeddedAPI, kubelet: PaperKubelet, tmp_path: Path, write_profiles: WriteProfiles, witness: Witness
) -> AsyncIterator[MakeHub]:
    """Makes a hub with the good document, and a user."""
    async with contextlib.AsyncExitStack() as hubs:

        async def make(config: Config) -> InProcessHub:
            write_profiles(GOOD)
            settings = Config()
            settings.Application.log_level = logging.DEBUG
            settings.KubeSpawner.namespace = NAMESPACE
            settings.KubeSpawner.image = "quay.io/example/notebook:1"
            settings.KubeSpawner.k8s_api_request_timeout = SHORT_SECONDS
            settings.KubeSpawner.k8s_api_request_retry_timeout = SHORT_SECONDS
            settings.ProfiledKubeSpawner.configmap_namespace = NAMESPACE
            settings.merge(config)
            hub = await hubs.enter_async_context(InProcessHub(tmp_path, settings))
            await hub.add_user("ada")
            return hub

        yield make


async def seen(hub: InProcessHub, api: EmbeddedAPI) -> list[str]:
    """What people, programs and the database are told beside the log."""
    texts = [await (await hub.api("GET", path)).text() for path in ("/users/ada", "/users", "/../metrics")]
    rows = [repr(row) for table in orm.Base.metadata.sorted_tables for row in hub.app.db.execute(table.select())]
    events = [json.dumps(event) for event in api.list("events")]
    annotations = [json.dumps(pod["metadata"]) for pod in api.list("pods")]
    return [*texts, *rows, *events, *annotations]


async def start_through_each_door(hub: InProcessHub) -> list[str]:
    """Tries to start a server by the REST API, the progress and the page, and returns what each shows."""
    shown = [await (await hub.api("POST", "/users/ada/server")).text()]
    shown += [json.dumps(event) for event in await progress(hub, "ada")]
    # Where the server did start, the page leads to it, and nothing proxies here.
    async with hub.browser("ada") as browser, browser.get(f"{hub.url}/hub/spawn", allow_redirects=False) as page:
        shown.append(await page.text())
    return shown


async def test_a_server_that_starts_and_stops(api: EmbeddedAPI, make_hub: MakeHub, witness: Witness) -> None:
    config = Config()
    # make_pod tells at INFO what these override.
    config.KubeSpawner.extra_container_config = {"env": [{"name": "PLAIN", "value": "the hub's"}]}
    hub = await make_hub(config)
    pod = await started(api, hub, "ada")
    env = env_of(pod)
    assert sum("canary" in str(value) for value in env.values()) == VALUES
    shown = await seen(hub, api)
    await stopped(hub, "ada")
    assert leaks(witness.text, *shown) == []
    assert "is overridden with" in witness.text
    assert "the guarantee of 1Gi (mapping) is above the limit of 512Mi (mapping)" in witness.text
    assert re.search(r"kubernetes_asyncio.client.rest DEBUG \d+ characters withheld", witness.text)
    assert "kubernetes_asyncio.client.rest DEBUG response body" not in witness.text


def quoting(pod: dict[str, Any]) -> StatusError:
    """The refusal of a policy that quotes what it does not like, as it is, as Go quotes it, and as JSON."""
    values = [variable["value"] for variable in pod["spec"]["containers"][0]["env"] if "value" in variable]
    said = f"{' '.join(values)} {json.dumps(values)} {json.dumps(json.dumps(values))}"
    return forbidden("pods", pod["metadata"]["name"], f'admission webhook "no.example.org" denied the request: {said}')


@contextlib.asynccontextmanager
async def time_is_up_once_asked(api: EmbeddedAPI, clock: Clock, verb: str, resource: str) -> AsyncIterator[None]:
    """Whoever sends such a request, has no time left for another."""

    async def watch() -> None:
        seen = 0
        while True:
            if (asked := sum((each.verb, each.resource) == (verb, resource) for each in api.requests)) > seen:
                seen = asked
                # KubeSpawner adds up to a tenth.
                clock.forward(SHORT_SECONDS * 1.2)
            await asyncio.sleep(0.01)

    watching = asyncio.create_task(watch())
    yield
    watching.cancel()


async def refuse(api: EmbeddedAPI, monkeypatch: pytest.MonkeyPatch, refusal: Callable[[Any], StatusError]) -> None:
    create = api._registry.create

    def admit(resource: Any, namespace: str, obj: Any, options: Any) -> Any:
        if resource.plural == "pods":
            raise refusal(obj)
        return create(resource, namespace, obj, options)

    monkeypatch.setattr(api._registry, "create", admit)


class TestWhenThePodIsNotCreated:
    async def fails(self, api: EmbeddedAPI, hub: InProcessHub, witness: Witness) -> str:
        """Fails to start a server, leaks nothing, and returns all that was said."""
        shown = await start_through_each_door(hub)
        assert '"status": 500' in shown[0] or '"failed": true' in shown[1], shown
        assert leaks(witness.text, *shown, *await seen(hub, api)) == []
        return "\n".join([witness.text, *shown])

    async def test_a_role_refuses_it(self, api: EmbeddedAPI, make_hub: MakeHub, witness: Witness) -> None:
        api.deny("create", "pods")
        said = await self.fails(api, await make_hub(Config()), witness)
        assert 'cannot create resource \\"pods\\"' in said
        assert '"name": "PLAIN"' in said

    # On the real one the policy would have to be a webhook of the test's.
    @pytest.mark.parametrize("api_server", ["embedded"], indirect=True)
    async def test_a_policy_quotes_it(
        self, api: EmbeddedAPI, make_hub: MakeHub, witness: Witness, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        hub = await make_hub(Config())
        await refuse(api, monkeypatch, quoting)
        said = await self.fails(api, hub, witness)
        assert 'admission webhook \\"no.example.org\\" denied the request: ' in said

    async def test_it_is_no_pod(self, api: EmbeddedAPI, make_hub: MakeHub, witness: Witness) -> None:
        config = Config()
        config.KubeSpawner.extra_container_config = {"env": [{"name": "NUMBER", "value": 80}]}
        said = await self.fails(api, await make_hub(config), witness)
        assert "cannot unmarshal number" in said

    async def test_it_is_not_valid(self, api: EmbeddedAPI, make_hub: MakeHub, witness: Witness) -> None:
        config = Config()
        source = {"fieldRef": {"fieldPath": "no.such.field"}}
        config.KubeSpawner.extra_container_config = {"env": [{"name": "FIELD", "valueFrom": source}]}
        said = await self.fails(api, await make_hub(config), witness)
        assert "422" in said
        assert "valueFrom.fieldRef" in said

    @pytest.mark.parametrize("effect", ["close", "lose", "cut", "hang", "status"])
    async def test_the_connection_or_the_server_fails(
        self, api: EmbeddedAPI, make_hub: MakeHub, witness: Witness, clock: Clock, effect: Any
    ) -> None:
        hub = await make_hub(Config())
        api.faults.append(Fault(effect, verb="create", resource="pods", times=None, status=500))
        async with time_is_up_once_asked(api, clock, "create", "pods"):
            await self.fails(api, hub, witness)

    async def test_the_hook_prints_it(self, api: EmbeddedAPI, make_hub: MakeHub, witness: Witness) -> None:
        def hook(spawner: KubeSpawner, pod: Any) -> Any:
            spawner.log.info("modifying %s", pod)
            pod.metadata.labels["seen"] = "yes"
            raise LookupError(f"nothing is known of {pod!r}")

        config = Config()
        config.KubeSpawner.modify_pod_hook = hook
        said = await self.fails(api, await make_hub(config), witness)
        assert 'nothing is known of {"apiVersion"' in said

    async def test_the_hook_makes_another(self, api: EmbeddedAPI, make_hub: MakeHub, witness: Witness) -> None:
        def hook(spawner: KubeSpawner, pod: Any) -> Any:
            pod.spec.containers[0].env.append(V1EnvVar(name="OF_THE_HOOK", value="canary-of-the-hook"))
            return V1Pod(api_version=pod.api_version, kind=pod.kind, metadata=pod.metadata, spec=pod.spec)

        api.deny("create", "pods")
        config = Config()
        config.KubeSpawner.modify_pod_hook = hook
        # What the hook made is a local variable of KubeSpawner's.
        witness.local_variables = False
        said = await self.fails(api, await make_hub(config), witness)
        assert '"name": "OF_THE_HOOK"' in said


class TestWhenThePodIsThere:
    async def test_it_is_in_the_way(self, api: EmbeddedAPI, make_hub: MakeHub, witness: Witness) -> None:
        hub = await make_hub(Config())
        env = [{"name": "OLD", "value": "canary-old"}]
        api.put(
            {
                "apiVersion": "v1",
                "kind": "Pod",
                "metadata": {"name": "jupyter-ada", "namespace": NAMESPACE},
                "spec": {"containers": [{"name": "notebook", "image": "old", "env": env}]},
            }
        )
        pod = await started(api, hub, "ada")
        assert "PLAIN" in env_of(pod)
        assert "Found existing pod jupyter-ada" in witness.text
        assert leaks(witness.text, *await seen(hub, api)) == []

    @pytest.mark.parametrize("effect", ["cut", "truncate"])
    @pytest.mark.parametrize("verb", ["list", "watch"])
    async def test_watching_it_fails(
        self, api: EmbeddedAPI, make_hub: MakeHub, witness: Witness, effect: Any, verb: str
    ) -> None:
        hub = await make_hub(Config())
        await started(api, hub, "ada")
        # KubeSpawner's reflector keeps pods as they come from the API server, and they are its local variables.
        witness.local_variables = False
        fault = Fault(effect, verb=verb, resource="pods", namespace=NAMESPACE)
        api.faults.append(fault)
        await api.stop()
        await api.start()
        await until(lambda: not fault.times)
        await hub.add_user("grace")
        await started(api, hub, "grace")
        assert "Error when watching resources" in witness.text
        assert leaks(witness.text, *await seen(hub, api)) == []


class TestWhenTheProfilesCannotBeRead:
    async def fails(self, api: EmbeddedAPI, hub: InProcessHub, witness: Witness) -> str:
        shown = await start_through_each_door(hub)
        assert '"status": 503' in shown[0], shown
        assert leaks(witness.text, *shown, *await seen(hub, api)) == []
        return witness.text

    @pytest.mark.parametrize("effect", ["cut", "truncate", "status"])
    async def test_reading_fails(
        self, api: EmbeddedAPI, make_hub: MakeHub, witness: Witness, clock: Clock, effect: Any
    ) -> None:
        hub = await make_hub(Config())
        api.faults.append(Fault(effect, resource="configmaps", times=None))
        async with time_is_up_once_asked(api, clock, "get", "configmaps"):
            assert "Starting no server, because" in await self.fails(api, hub, witness)

    async def test_the_document_is_malformed(
        self, api: EmbeddedAPI, make_hub: MakeHub, witness: Witness, write_profiles: WriteProfiles
    ) -> None:
        hub = await make_hub(Config())
        for document in MALFORMED:
            write_profiles(document)
            response = await hub.api("POST", "/users/ada/server")
            assert response.status == 503
            assert leaks(await response.text()) == []
        assert witness.text.count("Starting no server, because") == len(MALFORMED)
        assert leaks(witness.text, *await seen(hub, api)) == []

    async def test_a_broken_answer_is_not_quoted(self, witness: Witness) -> None:
        """The client's parser quotes what it stumbles over."""

        async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            await reader.readuntil(b"\r\n\r\n")
            writer.write(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\ncanary canary\r\n")
            await writer.drain()
            writer.close()

        async with await asyncio.start_server(answer, "127.0.0.1", 0) as server:
            port = server.sockets[0].getsockname()[1]
            async with ApiClient(Configuration(host=f"http://127.0.0.1:{port}")) as client:
                source = ConfigMapSource(NAMESPACE, CONFIGMAP, KEY, CoreV1Api(client), timeout_seconds=HANG_SECONDS)
                with pytest.raises(SourceError, match="could not be asked for") as caught:
                    await source.fetch()
        assert leaks(told_by(caught.value), witness.text) == []

    async def test_what_is_raised_leads_to_no_value(
        self, make_spawner: MakeSpawner, write_profiles: WriteProfiles, witness: Witness
    ) -> None:
        write_profiles(MALFORMED[0])
        with pytest.raises(ProfilesUnavailableError) as caught:
            await make_spawner().start()
        assert leaks(*map(told_by, chain_of(caught.value)), witness.text) == []


def chain_of(error: BaseException | None) -> Iterator[BaseException]:
    """An exception and all that it came from, what is hidden by `from None` too."""
    while error is not None:
        yield error
        error = error.__cause__ or error.__context__


class TestWhenThePodIsNotMade:
    """Between reading the profiles and asking for the pod."""

    async def fails(self, spawner: KubeSpawner, witness: Witness) -> None:
        with pytest.raises(Exception, match="on the way") as caught:
            await spawner.start()
        assert leaks(*map(told_by, chain_of(caught.value)), witness.text) == []

    async def test_by_kubespawner(
        self,
        make_spawner: MakeSpawner,
        write_profiles: WriteProfiles,
        witness: Witness,
        monkeypatch: pytest.MonkeyPatch,
    ) -> None:
        async def fail(self: KubeSpawner) -> None:
            raise LookupError("on the way")

        write_profiles(GOOD)
        monkeypatch.setattr(KubeSpawner, "get_pod_manifest", fail)
        await self.fails(make_spawner(), witness)

    @pytest.mark.parametrize("part", ["match_profiles", "merge_profiles", "inject_profile"])
    async def test_by_a_defect(
        self,
        make_spawner: MakeSpawner,
        write_profiles: WriteProfiles,
        witness: Witness,
        monkeypatch: pytest.MonkeyPatch,
        part: str,
    ) -> None:
        def fail(*_: object) -> None:
            raise LookupError("on the way")

        write_profiles(GOOD)
        monkeypatch.setattr(f"profiled_spawner.hub.spawner.{part}", fail)
        await self.fails(make_spawner(), witness)


@pytest.mark.parametrize("from_file", [False, True], ids=["configmap", "file"])
async def test_asyncio_in_debug_mode(
    kubelet: PaperKubelet,
    make_spawner: MakeSpawner,
    write_profiles: WriteProfiles,
    witness: Witness,
    tmp_path: Path,
    from_file: bool,
) -> None:
    """It logs the callbacks and futures of whatever takes long, each cut to its beginning and its end."""
    document = "profiles: [{env: {A: canary}}]"
    write_profiles(document)
    file = tmp_path / "profiles.yaml"
    file.write_text(document)
    loop = asyncio.get_running_loop()
    loop.set_debug(True)
    loop.slow_callback_duration = 0
    spawner = make_spawner(profiles_file=str(file) if from_file else "")
    await spawner.start()
    await spawner.stop(now=True)
    loop.set_debug(False)
    assert "asyncio WARNING Executing" in witness.text
    assert leaks(witness.text) == []


class TestTheClientsLog:
    def test_holds_the_length_of_an_answer_and_nothing_of_it(self, witness: Witness) -> None:
        kubernetes_asyncio.client.rest.logger.debug("response body: %s", b"canary")
        assert "kubernetes_asyncio.client.rest DEBUG 24 characters withheld" in witness.text
        assert leaks(witness.text) == []

    def test_is_the_only_one_that_is_changed(self, witness: Witness) -> None:
        withhold_response_bodies()
        (of_the_client,) = logging.getLogger("kubernetes_asyncio.client.rest").filters
        loggers = [logging.getLogger(), *map(logging.getLogger, logging.root.manager.loggerDict)]
        assert [logger.name for logger in loggers if of_the_client in logger.filters] == [
            "kubernetes_asyncio.client.rest"
        ]
        logging.getLogger("kubernetes_asyncio.client").debug("another line")
        assert "kubernetes_asyncio.client DEBUG another line" in witness.text

    async def test_is_where_the_client_logs_answers(
        self, api: EmbeddedAPI, write_profiles: WriteProfiles, monkeypatch: pytest.MonkeyPatch, witness: Witness
    ) -> None:
        """Fails when a release of the client logs them elsewhere."""
        write_profiles(GOOD)
        monkeypatch.setattr(kubernetes_asyncio.client.rest.logger, "filters", [])
        async with ApiClient(Configuration(host=api.url)) as client:
            await CoreV1Api(client).read_namespaced_config_map(CONFIGMAP, NAMESPACE)
        assert {line.split()[0] for line in leaks(witness.text)} == {"kubernetes_asyncio.client.rest"}


@pytest.mark.parametrize("document", [GOOD, *MALFORMED])
def test_the_command_shows_none_unasked(
    document: str, tmp_path: Path, capsys: pytest.CaptureFixture[str], witness: Witness
) -> None:
    path = tmp_path / "profiles.yaml"
    path.write_text(document)
    subject = [str(path), "--user", "ada", "--image", "nb:1"]
    for form in ("text", "json", "github"):
        main(["validate", str(path), "--format", form])
    for form in ("text", "json"):
        main(["explain", *subject, "--format", form])
    assert leaks(*capsys.readouterr(), witness.text) == []
