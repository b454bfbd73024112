"""Nothing piles up, however many servers are started: no task, no socket, no memory.

``make soak`` is the long run of 20,000 spawns, and prints how it went; the suite has a few hundred. The API server and
the kubelet run in the same process, so what they need is in the figures as well.
"""

from __future__ import annotations

import asyncio
import contextlib
import gc
import logging
import os
import random
import time
from collections import Counter
from collections.abc import Iterator
from dataclasses import astuple, dataclass
from pathlib import Path

import pytest
from traitlets.config import Config

from profiled_spawner import ProfiledKubeSpawner
from profiled_spawner.hub.spawner import ProfilesUnavailableError
from sandbox.api import EmbeddedAPI, Fault
from sandbox.waiting import until

from ..conftest import NAMESPACE, MakeSpawner, WriteProfiles

SPAWNS = int(os.environ.get("SOAK_SPAWNS", "300"))
ROWS = 10
AT_ONCE = 20

FAULTS = [
    Fault("status", status=503, resource="configmaps", times=2),
    Fault("status", status=403, resource="configmaps"),
    Fault("close", resource="configmaps"),
    Fault("truncate", resource="configmaps"),
    Fault("hang", resource="configmaps"),
]


@dataclass(frozen=True)
class Row:
    """What the process has, when so many spawns have ended and none is under way.

    Attributes:
        objects: Of the package's own classes.
    """

    spawns: int
    seconds: int
    tasks: int
    sockets: int
    files: int
    objects: int
    rss_mib: float


def is_passing(task: asyncio.Task[object]) -> bool:
    return task.get_name().startswith("read ") or task.get_coro().__qualname__ == "PaperKubelet._report"


def take_row(spawns: int, seconds: float) -> Row:
    gc.collect()
    descriptors = []
    for descriptor in Path("/proc/self/fd").iterdir():
        # One is that of the listing.
        with contextlib.suppress(FileNotFoundError):
            descriptors.append(str(descriptor.readlink()))
    sockets = sum(each.startswith("socket:") for each in descriptors)
    # The API server has a task for each connection; they are among the sockets.
    tasks = [task for task in asyncio.all_tasks() if task.get_coro().__qualname__ != "RequestHandler.start"]
    own = sum(str(type(each).__module__).startswith("profiled_spawner.") for each in gc.get_objects())
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    rss_mib = pages * os.sysconf("SC_PAGE_SIZE") / 2**20
    return Row(spawns, round(seconds), len(tasks), sockets, len(descriptors) - sockets, own, round(rss_mib, 1))


class Soak:
    """Users who start and stop servers, while the ConfigMap is edited and the API server has its faults."""

    def __init__(self, api: EmbeddedAPI, make_spawner: MakeSpawner, write_profiles: WriteProfiles) -> None:
        self.api = api
        self.make_spawner = make_spawner
        self.write_profiles = write_profiles
        self.rng = random.Random(5)
        self.outcomes: Counter[str] = Counter()
        self.left = 0
        self.config = Config()
        self.config.KubeSpawner.update(k8s_api_request_timeout=2, events_enabled=False)

    def edit(self) -> None:
        if self.rng.random() < 0.1:
            self.write_profiles("profiles: [{nmae: a}]")
        else:
            version = self.outcomes.total()
            self.write_profiles(f"profiles: [{{name: a, env: {{A: v{version}}}, resources: {{mem_limit: 1Gi}}}}]")
        if self.rng.random() < 0.2:
            self.api.faults.append(Fault(**vars(self.rng.choice(FAULTS))))

    async def run(self, spawns: int) -> None:
        self.left = spawns
        await asyncio.gather(*(self.start_servers() for _ in range(AT_ONCE)))
        # A read that everybody has left ends by itself, and the kubelet may be telling of pods that are gone.
        await until(lambda: not any(is_passing(task) for task in asyncio.all_tasks()))

    async def start_servers(self) -> None:
        while self.left > 0:
            self.left -= 1
            if self.left % 20 == 0:
                self.edit()
                # Tests count them.
                self.api.requests.clear()
            policy = self.rng.choice(["last-good", "fail", "ignore"])
            spawner = self.make_spawner(f"user-{self.left % 200}", config=self.config, failure_policy=policy)
            self.outcomes[await self.spawn(spawner)] += 1
            await spawner.stop(now=True)

    async def spawn(self, spawner: ProfiledKubeSpawner) -> str:
        task = spawner.start()
        if self.rng.random() < 0.1:
            asyncio.get_running_loop().call_later(self.rng.random() * 0.02, task.cancel)
        try:
            await task
        except asyncio.CancelledError:
            return "cancelled"
        except ProfilesUnavailableError:
            return "failed"
        return "started"


@pytest.fixture
def api_server() -> EmbeddedAPI:
    """One that remembers few changes, so that it soon has all the memory that it will."""
    return EmbeddedAPI(namespaces=(NAMESPACE,), history=200)


@pytest.fixture
def no_logging() -> Iterator[None]:
    """Pytest would keep every line."""
    logging.disable()
    yield
    logging.disable(logging.NOTSET)


# `make soak` too runs on the newest hosts alone; test_isolation.py and test_hanging.py are for both.
@pytest.mark.newest
@pytest.mark.usefixtures("kubelet", "no_logging")
async def test_nothing_piles_up(api: EmbeddedAPI, make_spawner: MakeSpawner, write_profiles: WriteProfiles) -> None:
    soak = Soak(api, make_spawner, write_profiles)
    soak.edit()
    # The first spawns of a KubeSpawner wait for one future, which is cancelled with any of them.
    await make_spawner()._start_watching_pods()

    print(f"\n{'spawns':>7} {'seconds':>8} {'tasks':>6} {'sockets':>8} {'files':>6} {'objects':>8} {'RSS, MiB':>9}")
    began = time.monotonic()
    rows = []
    for _ in range(ROWS):
        await soak.run(SPAWNS // ROWS)
        rows.append(row := take_row(soak.outcomes.total(), time.monotonic() - began))
        print("{:7,} {:8,} {:6} {:8} {:6} {:8} {:9.1f}".format(*astuple(row)), flush=True)
    print(", ".join(f"{count:,} {outcome}" for outcome, count in sorted(soak.outcomes.items())))

    first, middle, last = rows[0], rows[len(rows) // 2], rows[-1]
    assert last.spawns == SPAWNS // ROWS * ROWS
    # A watch that is being sent again has a task less for a moment.
    assert last.tasks <= max(row.tasks for row in rows[: len(rows) // 2])
    # The hub's client and the kubelet's each keep a pool of connections, and a connection is two sockets here.
    assert last.sockets <= 4 * AT_ONCE + 20
    assert last.files <= first.files + 2
    assert last.objects <= first.objects + 40
    assert last.rss_mib - middle.rss_mib < 16 + (last.spawns - middle.spawns) / 1024
