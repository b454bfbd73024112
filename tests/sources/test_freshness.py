"""A spawn sees the ConfigMap as it was when it began, or later: edited, made anew, or immutable."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from sandbox.api import EmbeddedAPI, Fault
from sandbox.paperkubelet import PaperKubelet
from sandbox.status import StatusError
from sandbox.waiting import HANG_SECONDS

from ..conftest import API_SERVERS, CONFIGMAP, KEY, NAMESPACE, MakeSpawner, WriteProfiles, make_api_server

ROUNDS = 200


@pytest.fixture(params=API_SERVERS)
def api_server(request: pytest.FixtureRequest) -> EmbeddedAPI:
    return make_api_server(request)


def profiles(value: str) -> str:
    return f"profiles: [{{env: {{ROUND: {value}}}}}]"


def round_of(pod: dict[str, Any]) -> str:
    """What the profiles gave to a pod."""
    env = {variable["name"]: variable.get("value") for variable in pod["spec"]["containers"][0]["env"]}
    return str(env["ROUND"])


async def created(api: EmbeddedAPI, name: str) -> dict[str, Any]:
    async with asyncio.timeout(HANG_SECONDS):
        while True:
            try:
                return api.get("pods", NAMESPACE, name)
            except StatusError:
                await asyncio.sleep(0.001)


@pytest.fixture(autouse=True)
def running(kubelet: PaperKubelet) -> None:
    """Every test has a kubelet."""


async def test_every_edit_counts_at_the_next_spawn_with_others_in_flight(
    api: EmbeddedAPI, make_spawner: MakeSpawner, write_profiles: WriteProfiles
) -> None:
    held, may_run = 20, asyncio.Event()
    api.faults.append(Fault(gate=may_run, verb="patch", resource="pods", times=held))
    spawns = []
    in_flight = []
    for number in range(ROUNDS):
        write_profiles(profiles(f"r{number}"))
        spawner = make_spawner(f"user{number}")
        spawns.append(spawner.start())
        # The next edit comes when the pod is there; its server starts meanwhile.
        assert round_of(await created(api, spawner.pod_name)) == f"r{number}"
        in_flight.append(sum(not spawn.done() for spawn in spawns))
    may_run.set()
    await asyncio.gather(*spawns)
    assert max(in_flight) >= held


async def test_a_configmap_that_was_deleted_and_made_anew_is_seen(
    api: EmbeddedAPI, make_spawner: MakeSpawner, write_profiles: WriteProfiles
) -> None:
    uids = set()
    for value in ("first", "second", "third"):
        uids.add(write_profiles(profiles(value))["metadata"]["uid"])
        spawner = make_spawner("ada")
        await spawner.start()
        assert round_of(api.get("pods", NAMESPACE, spawner.pod_name)) == value
        await spawner.stop(now=True)
        api.delete("configmaps", NAMESPACE, CONFIGMAP)
    assert len(uids) == 3


async def test_an_immutable_configmap_is_read_and_its_successor_is_seen(
    api: EmbeddedAPI, make_spawner: MakeSpawner, write_profiles: WriteProfiles
) -> None:
    for value in ("first", "second"):
        api.put(
            {
                "apiVersion": "v1",
                "kind": "ConfigMap",
                "metadata": {"name": CONFIGMAP, "namespace": NAMESPACE},
                "data": {KEY: profiles(value)},
                "immutable": True,
            }
        )
        with pytest.raises(StatusError, match="field is immutable when `immutable` is set"):
            write_profiles(profiles("another"))
        spawner = make_spawner("ada")
        await spawner.start()
        assert round_of(api.get("pods", NAMESPACE, spawner.pod_name)) == value
        await spawner.stop(now=True)
        api.delete("configmaps", NAMESPACE, CONFIGMAP)
