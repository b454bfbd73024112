"""`start` keeps KubeSpawner's contract: the same tests pass with the stock class, with ours, and when ours observes."""

from __future__ import annotations

import asyncio
import gc
from collections.abc import Callable
from typing import Any, TypeAlias

import pytest
from kubespawner import KubeSpawner

from profiled_spawner import ProfiledKubeSpawner
from profiled_spawner.hub.spawner import ProfilesUnavailableError
from sandbox.api import EmbeddedAPI, Fault
from sandbox.paperkubelet import PaperKubelet
from sandbox.waiting import until

from ..conftest import CONFIGMAP, NAMESPACE, MakeSpawner, WriteProfiles
from .test_spawner import created

APPLIED = "Profiles applied: all. No memory limit, no CPU limit."
INVALID = "profiles: [{nmae: all}]"
NO_SUCH_PROFILE = {"profile": "none-such"}
PROFILE_LIST = [{"display_name": "Only", "slug": "only"}]

#: Makes a spawner of the class that the test is about.
Make: TypeAlias = Callable[..., KubeSpawner]


@pytest.fixture(autouse=True)
def running(kubelet: PaperKubelet, write_profiles: WriteProfiles) -> None:
    """Every test has a kubelet, and a document."""
    write_profiles("profiles: [{name: all}]")


@pytest.fixture(params=["stock", "ours", "observing"])
def make(request: pytest.FixtureRequest, make_spawner: MakeSpawner) -> Make:
    def make_one(**traits: Any) -> KubeSpawner:
        if request.param == "stock":
            return make_spawner(spawner_class=KubeSpawner, **traits)
        return make_spawner(observe_only=request.param == "observing", **traits)

    return make_one


def make_failing(make: Make) -> KubeSpawner:
    """Returns a spawner whose start fails in KubeSpawner's own part of it."""
    return make(events_enabled=False, profile_list=PROFILE_LIST, user_options=NO_SUCH_PROFILE)


async def list_messages(spawner: KubeSpawner) -> list[str]:
    return [event["message"] async for event in spawner.progress()]


def pods(api: EmbeddedAPI) -> list[str]:
    return [pod["metadata"]["name"] for pod in api.list("pods", NAMESPACE)]


@pytest.fixture
async def unretrieved() -> list[str]:
    """What asyncio says of futures whose exceptions nobody has asked for."""
    said: list[str] = []
    asyncio.get_running_loop().set_exception_handler(lambda _, context: said.append(context["message"]))
    return said


class TestAsKubeSpawners:
    async def test_it_returns_a_future_at_once_and_runs_without_anybody_waiting(
        self, api: EmbeddedAPI, make: Make
    ) -> None:
        spawner = make()
        future = spawner.start()
        assert asyncio.isfuture(future)
        assert spawner._start_future is future
        await until(future.done)
        assert pods(api) == [spawner.pod_name]
        assert future.result() == await future
        await spawner.stop(now=True)

    async def test_the_future_is_awaited_as_often_as_one_likes(self, make: Make) -> None:
        spawner = make()
        future = spawner.start()
        first, second = await asyncio.gather(future, asyncio.shield(future))
        assert first == second == await future
        await spawner.stop(now=True)

    @pytest.mark.parametrize("events_enabled", [True, False])
    @pytest.mark.parametrize("when", ["before", "beside", "after"])
    async def test_progress_ends_when_it_is_done_and_may_be_asked_for_twice(
        self, make: Make, when: str, events_enabled: bool
    ) -> None:
        spawner = make(events_enabled=events_enabled)
        told: list[asyncio.Future[list[str]]] = []
        if when == "before":
            told = [asyncio.ensure_future(list_messages(spawner)) for _ in range(2)]
            await asyncio.sleep(0)
        future = spawner.start()
        if when == "after":
            await future
        told = told or [asyncio.ensure_future(list_messages(spawner)) for _ in range(2)]
        messages = await asyncio.gather(*told)
        await future
        assert messages[0] == messages[1]
        is_telling = isinstance(spawner, ProfiledKubeSpawner) and not spawner.observe_only
        assert [message for message in messages[0] if message.startswith("Profiles")] == [APPLIED] * is_telling
        assert events_enabled or len(messages[0]) == is_telling
        await spawner.stop(now=True)

    async def test_a_failure_arrives_where_it_is_awaited_and_the_next_start_succeeds(
        self, api: EmbeddedAPI, make: Make, unretrieved: list[str]
    ) -> None:
        spawner = make_failing(make)
        for _ in range(2):
            future = spawner.start()
            assert await list_messages(spawner) == []
            with pytest.raises(ValueError, match="No such profile"):
                await future
        assert created(api) == []
        spawner.user_options = {}
        assert await spawner.start()
        assert pods(api) == [spawner.pod_name]
        await spawner.stop(now=True)
        gc.collect()
        assert unretrieved == []

    async def test_a_failure_that_nobody_asks_for_is_told_by_asyncio_once(
        self, make: Make, unretrieved: list[str]
    ) -> None:
        spawner = make_failing(make)
        future = spawner.start()
        await until(future.done)
        del spawner, future
        gc.collect()
        assert unretrieved == ["Task exception was never retrieved"]

    @pytest.mark.parametrize("has_begun", [False, True])
    async def test_it_can_be_cancelled_and_started_again(
        self, api: EmbeddedAPI, make: Make, unretrieved: list[str], has_begun: bool
    ) -> None:
        claim = {"storage_pvc_ensure": True, "pvc_name": "claim-ada", "storage_capacity": "1Gi"}
        spawner = make(events_enabled=False, **claim)
        waiting = Fault("hang", resource="persistentvolumeclaims")
        api.faults.append(waiting)
        future = spawner.start()
        if has_begun:
            await until(lambda: not waiting.times)
        future.cancel()
        with pytest.raises(asyncio.CancelledError):
            await future
        assert pods(api) == []
        api.faults.clear()
        future = spawner.start()
        await list_messages(spawner)
        assert await future
        assert pods(api) == [spawner.pod_name]
        await spawner.stop(now=True)
        gc.collect()
        assert unretrieved == []

    async def test_servers_of_one_user_start_beside_each_other(self, api: EmbeddedAPI, make: Make) -> None:
        spawners = [make(pod_name=f"jupyter-ada--{name}") for name in ("one", "two")]
        futures = [spawner.start() for spawner in spawners]
        for spawner in spawners:
            await list_messages(spawner)
        assert all(await asyncio.gather(*futures))
        assert pods(api) == [spawner.pod_name for spawner in spawners]
        for spawner in spawners:
            await spawner.stop(now=True)


class TestReading:
    """Reading the profiles is a part of the start."""

    @pytest.fixture
    def reading(self, api: EmbeddedAPI) -> Fault:
        """A request for the document that is answered when the test says so."""
        fault = Fault(gate=asyncio.Event(), verb="get", resource="configmaps")
        api.faults.append(fault)
        return fault

    @staticmethod
    def answer(reading: Fault) -> None:
        assert reading.gate is not None
        reading.gate.set()

    async def test_the_server_counts_from_the_call_on_and_nothing_is_left_of_an_earlier_start(
        self, make_spawner: MakeSpawner, write_profiles: WriteProfiles
    ) -> None:
        spawner = make_spawner("ada")
        await spawner.start()
        await spawner.stop(now=True)
        assert spawner.summary is not None
        assert not spawner.is_counted
        write_profiles("profiles: [{name: second}]")
        future = spawner.start()
        assert spawner.is_counted
        assert spawner.summary is None
        assert (await list_messages(spawner))[0].startswith("Profiles applied: second.")
        await future
        assert not spawner.is_counted
        await spawner.stop(now=True)

    async def test_nobody_waits_for_longer_than_it_takes(
        self, api: EmbeddedAPI, make_spawner: MakeSpawner, reading: Fault
    ) -> None:
        spawner = make_spawner("ada")
        future = spawner.start()
        told = asyncio.ensure_future(list_messages(spawner))
        await until(lambda: not reading.times)
        assert created(api) == []
        assert not told.done()
        self.answer(reading)
        assert await future
        assert (await told)[0] == APPLIED
        await spawner.stop(now=True)

    @pytest.mark.parametrize("events_enabled", [True, False])
    async def test_if_it_fails_progress_ends_and_the_next_start_reads_again(
        self, api: EmbeddedAPI, make_spawner: MakeSpawner, write_profiles: WriteProfiles, events_enabled: bool
    ) -> None:
        write_profiles(INVALID)
        spawner = make_spawner("ada", events_enabled=events_enabled)
        future = spawner.start()
        assert await list_messages(spawner) == []
        with pytest.raises(ProfilesUnavailableError):
            await future
        assert created(api) == []
        write_profiles("profiles: [{name: all}]")
        future = spawner.start()
        assert (await list_messages(spawner))[0] == APPLIED
        assert await future
        await spawner.stop(now=True)

    async def test_a_start_right_after_one_that_failed_counts(
        self, api: EmbeddedAPI, make_spawner: MakeSpawner
    ) -> None:
        configmap = api.get("configmaps", NAMESPACE, CONFIGMAP)
        api.delete("configmaps", NAMESPACE, CONFIGMAP)
        spawner = make_spawner("ada")
        first = spawner.start()
        while not first.done():
            await asyncio.sleep(0)
        # What the event loop does at the end of the first comes now.
        second = spawner.start()
        await asyncio.sleep(0)
        assert spawner.is_counted
        api.put({key: configmap[key] for key in ("apiVersion", "kind", "data")} | {"metadata": metadata(configmap)})
        with pytest.raises(ProfilesUnavailableError):
            await first
        assert (await list_messages(spawner))[0] == APPLIED
        assert await second
        await spawner.stop(now=True)

    @pytest.mark.parametrize("ends", ["cancelled-at-once", "cancelled", "given-up"])
    async def test_one_that_ends_early_keeps_no_room_and_creates_nothing(
        self, api: EmbeddedAPI, make_spawner: MakeSpawner, write_profiles: WriteProfiles, reading: Fault, ends: str
    ) -> None:
        write_profiles("{profiles: [{name: all}], quotas: [{name: one, hard: {pods: 1}}]}")
        spawner = make_spawner("ada")
        future = spawner.start()
        if ends != "cancelled-at-once":
            await until(lambda: not reading.times)
        if ends == "given-up":
            # JupyterHub 5 cleans up, and lets it run.
            spawner.clear_state()
            self.answer(reading)
            with pytest.raises(TimeoutError, match="JupyterHub has given up this start"):
                await future
        else:
            future.cancel()
            with pytest.raises(asyncio.CancelledError):
                await future
            spawner.clear_state()
        self.answer(reading)
        assert not spawner.is_counted
        assert spawner.reservations.find(spawner) is None
        assert created(api) == []
        # So there is room for another.
        another = make_spawner("grace")
        assert await another.start()
        await another.stop(now=True)
        another.clear_state()

    async def test_a_hook_may_ask_for_the_options_before_and_the_start_reads_what_is_there_then(
        self, api: EmbeddedAPI, make_spawner: MakeSpawner, write_profiles: WriteProfiles
    ) -> None:
        spawner = make_spawner("ada")
        await spawner.load_user_options()
        write_profiles("profiles: [{name: second}]")
        await spawner.start()
        pod = api.get("pods", NAMESPACE, spawner.pod_name)
        assert pod["metadata"]["annotations"]["profiled-spawner/applied"] == '["second"]'
        await spawner.stop(now=True)

    async def test_a_start_reads_once(self, api: EmbeddedAPI, make_spawner: MakeSpawner) -> None:
        spawner = make_spawner("ada")
        await spawner.start()
        reads = [request for request in api.requests if request.resource == "configmaps"]
        assert len(reads) == 1
        await spawner.stop(now=True)

    async def test_a_spawner_between_ours_and_kubespawner_may_have_a_coroutine(
        self, api: EmbeddedAPI, make_spawner: MakeSpawner
    ) -> None:
        class Between(KubeSpawner):  # type: ignore[misc]  # KubeSpawner has no types
            async def start(self) -> Any:
                return await super().start()

        class Theirs(ProfiledKubeSpawner, Between):
            pass

        spawner = make_spawner(spawner_class=Theirs)
        future = spawner.start()
        assert asyncio.isfuture(future)
        assert (await list_messages(spawner))[0] == APPLIED
        assert await future
        await spawner.stop(now=True)


def metadata(configmap: dict[str, Any]) -> dict[str, Any]:
    """Returns what names an object."""
    return {key: configmap["metadata"][key] for key in ("name", "namespace")}
