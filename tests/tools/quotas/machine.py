"""Starts, stops and breaks servers on a real hub in any order, and asks the model what should have come of it.

The hub, its handlers, users, database and spawners are the real ones; only the API server and the servers' answers are
stood in for. The clock is put forward, so no timeout takes time.
"""

from __future__ import annotations

import asyncio
import os
import tempfile
from collections.abc import Coroutine, Mapping, Sequence
from contextlib import ExitStack, suppress
from pathlib import Path
from types import SimpleNamespace
from typing import Any, TypeVar
from unittest import mock

import jupyterhub
import yaml
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, precondition, rule
from jupyterhub import orm
from jupyterhub.handlers import BaseHandler
from jupyterhub.objects import Server
from kubespawner import KubeSpawner
from kubespawner import spawner as kubespawner_spawner
from tornado import web
from tornado.httputil import HTTPHeaders, HTTPServerRequest, RequestStartLine
from traitlets.config import Config

from profiled_spawner.document.parser import parse_document
from profiled_spawner.hub.kubespawner import SpawnException
from profiled_spawner.hub.reservations import get_reservations
from profiled_spawner.hub.spawner import ProfiledKubeSpawner
from profiled_spawner.sources.extract import Text
from profiled_spawner.sources.source import Revision
from sandbox.inprocess import InProcessHub
from sandbox.waiting import Clock

from .cluster import Cluster
from .model import SIZES, Counted, Model

__all__ = ["QuotaMachine"]

T = TypeVar("T")
Key = tuple[str, str]

NAMESPACE = "jhub"
USERS, GROUPS, NAMES = ("ada", "bob", "cai", "dot"), ("g", "h"), ("", "lab")
KEYS = [(user, name) for user in USERS for name in NAMES]
START_SECONDS = 1_000_000
# Longer than any wait between two looks of KubeSpawner at its pod.
LOOK_SECONDS = 10
DOCUMENT: Mapping[str, Any] = {
    "profiles": [{"resources": {"mem_limit": "1Gi", "mem_guarantee": "512Mi"}}],
    "sizes": [
        {"name": "GPU", "gpu": 1, "resources": {"mem_limit": "2Gi", "mem_guarantee": None}},
        {"name": "GPUs", "gpu": 2, "resources": {"mem_limit": "4Gi", "mem_guarantee": "3Gi"}},
        {"name": "Endless", "resources": {"mem_limit": None}},
    ],
}
AMOUNTS = {
    "pods": st.integers(0, 5),
    "requests.nvidia.com/gpu": st.integers(0, 4),
    "limits.memory": st.integers(0, 9).map("{}Gi".format),
    "requests.memory": st.integers(0, 7).map("{}Gi".format),
}
PICK = st.integers(0, 7)
HOW = ("run", "run", "pend", "hold", "refuse", "break")
QUOTAS = st.lists(
    st.fixed_dictionaries(
        {
            "hard": st.lists(st.sampled_from(sorted(AMOUNTS)), min_size=1, max_size=2, unique=True).flatmap(
                lambda names: st.fixed_dictionaries({name: AMOUNTS[name] for name in names})
            )
        },
        optional={
            "per": st.sampled_from(["all", "user"]),
            "users": st.lists(st.sampled_from(USERS), max_size=2, unique=True),
            "groups": st.lists(st.sampled_from(GROUPS), max_size=2, unique=True),
        },
    ),
    max_size=3,
)


class MemorySource:
    """The document, in memory."""

    name, key = "memory", ""

    def __init__(self) -> None:
        self.text = ""

    async def fetch(self) -> bytes:
        return self.text.encode()

    def extract(self, raw: bytes) -> Revision:
        return Revision(raw, "memory", Text(raw.decode()))


class QuotaMachine(RuleBasedStateMachine):
    """Every step is one thing that happens to a hub; after each, hub and model agree on what counts.

    Attributes:
        steps: How many steps all machines have made.
        starts_asked: How many starts somebody asked for.
        starts_refused: How many of these did not fit into a quota.
    """

    steps = starts_asked = starts_refused = 0

    def __init__(self) -> None:
        super().__init__()
        self.loop = asyncio.new_event_loop()
        asyncio.set_event_loop(self.loop)
        self.stack = ExitStack()
        # In memory, where there is such a place: a database on a disk takes most of the time.
        place = "/dev/shm" if os.access("/dev/shm", os.W_OK) else None
        self.directory = Path(self.stack.enter_context(tempfile.TemporaryDirectory(dir=place)))
        self.cluster, self.model, self.source = Cluster(), Model(), MemorySource()
        self.groups: dict[str, set[str]] = {user: set() for user in USERS}
        self.starts: dict[Key, asyncio.Task[Any]] = {}
        self.stops: dict[Key, asyncio.Task[Any]] = {}
        # Creations that nobody waits for any more: their start has timed out.
        self.late: set[Key] = set()
        # A restart takes as long as dozens of other steps.
        self.since_restart = 0
        replaced: list[tuple[object, str, object]] = [
            (kubespawner_spawner, "shared_client", lambda _: self.cluster),
            (kubespawner_spawner, "load_config", lambda **_: None),
            (KubeSpawner, "_start_watching_pods", _nothing),
            (KubeSpawner, "pod_reflector", SimpleNamespace(pods=self.cluster.pods)),
            (ProfiledKubeSpawner, "make_source", lambda _: self.source),
            (Server, "wait_up", _answer),
        ]
        for owner, name, value in replaced:
            self.stack.enter_context(mock.patch.object(owner, name, value))
        self._write([])
        self._run(self._begin())

    @precondition(lambda self: self._list_free())
    @rule(pick=PICK, size=st.sampled_from(sorted(SIZES)), how=st.sampled_from(HOW))
    def start(self, pick: int, size: str, how: str) -> None:
        """Somebody starts a server."""
        self._start_one(_pick(self._list_free(), pick), size, how)

    @precondition(lambda self: self._list_free())
    @rule(pick=PICK, size=st.sampled_from(("GPU", "GPUs")))
    def start_with_gpus(self, pick: int, size: str) -> None:
        """Somebody starts a server with what is scarce."""
        self._start_one(_pick(self._list_free(), pick), size, "run")

    def _start_one(self, key: Key, size: str, how: str) -> None:
        user, _ = key
        groups, uses = frozenset(self.groups[user]), SIZES[size]
        fits = self.model.fits(user, groups, uses)
        if fits:
            self.model.servers[key] = Counted(user, groups, uses)
        self._run(self._start(key, size, how))
        task = self.starts[key]
        QuotaMachine.starts_asked += 1
        if not fits:
            QuotaMachine.starts_refused += 1
            error = task.exception()
            assert isinstance(error, SpawnException or web.HTTPError), error
            assert error.status_code == 429, error
            assert not any(name in str(error) for name in USERS)
        elif how in ("refuse", "break"):
            assert task.exception() is not None
            del self.model.servers[key]
        elif how == "run":
            task.result()
        else:
            assert not task.done(), task

    @rule(wishes=st.dictionaries(st.sampled_from(KEYS), st.sampled_from(sorted(SIZES)), min_size=2, max_size=6))
    def start_together(self, wishes: dict[Key, str]) -> None:
        """Several people start servers at the same time."""
        before = {key: size for key, size in wishes.items() if key not in self.model.servers}
        groups = {key: frozenset(self.groups[key[0]]) for key in before}
        room = Model(dict(self.model.servers), self.model.quotas)
        self._run(self._start_all(before))
        refused = [key for key in before if self.starts[key].exception() is not None]
        QuotaMachine.starts_asked += len(before)
        QuotaMachine.starts_refused += len(refused)
        for key, size in before.items():
            if key not in refused:
                self.model.servers[key] = Counted(key[0], groups[key], SIZES[size])
        admitted = [key for key in before if key not in refused]
        # In some order, each that was admitted found room. As all are left, any order will do for the last.
        for key in _order(room, {key: (key[0], groups[key], SIZES[before[key]]) for key in admitted}):
            room.servers[key] = self.model.servers[key]
        for key in refused:
            error = self.starts[key].exception()
            assert getattr(error, "status_code", None) == 429, error
            assert not self.model.fits(key[0], groups[key], SIZES[before[key]]), (
                f"{key} was refused while there is room"
            )

    @precondition(lambda self: self._list_waiting())
    @rule(pick=PICK)
    def let_go(self, pick: int) -> None:
        """A creation or a deletion that waits goes on; a pod that is pending runs."""
        key = _pick(self._list_waiting(), pick)
        name, path = self._pod_name(key), f"{NAMESPACE}/{self._pod_name(key)}"
        if name in self.cluster.held:
            self.cluster.let_go(name)
        elif path in self.cluster.pods:
            self.cluster.run(NAMESPACE, name)
        self._run(self._settle())
        if key in self.late or key in self.stops:
            # Cleaning up has ended, or the stop has.
            self.late.discard(key)
            if name not in self.cluster.held:
                self.stops.pop(key, None)
                self.model.servers.pop(key, None)

    @precondition(lambda self: self._list_ready())
    @rule(pick=PICK, holds=st.booleans())
    def stop(self, pick: int, holds: bool) -> None:
        """Somebody stops a server that is ready."""
        key = _pick(self._list_ready(), pick)
        spawner = self._spawner(key)
        is_there = f"{NAMESPACE}/{spawner.pod_name}" in self.cluster.pods
        self._run(self._stop(key, holds))
        if not (holds and is_there):
            self.stops.pop(key)
            del self.model.servers[key]

    @precondition(lambda self: {*self._list_starting()} - self.late and not self.stops)
    @rule()
    def time_out(self) -> None:
        """Every start that has not succeeded by now fails."""
        waiting = [key for key in self._list_starting() if key not in self.late]
        held = {key for key in waiting if self._pod_name(key) in self.cluster.held}
        if held and SpawnException is None:
            return  # JupyterHub 5 forgets such a start, and a new one would meet it
        self._run(self._forward(2 * START_SECONDS))
        for key in waiting:
            if key in held:
                self.late.add(key)
            else:
                assert self.starts[key].exception() is not None
                del self.model.servers[key]

    @precondition(lambda self: self._list_ready())
    @rule(pick=PICK)
    def lose(self, pick: int) -> None:
        """Somebody deletes a pod behind the hub's back, and the hub notices."""
        key = _pick(self._list_ready(), pick)
        spawner = self._spawner(key)
        self.cluster.pods.pop(f"{NAMESPACE}/{spawner.pod_name}", None)
        self._check()
        self._run(spawner.poll_and_notify())
        self._run(self._settle())
        del self.model.servers[key]

    @rule(user=st.sampled_from(USERS), group=st.sampled_from(GROUPS))
    def join_or_leave(self, user: str, group: str) -> None:
        """Somebody joins a group, or leaves it. Servers that run do not notice."""
        self.groups[user] ^= {group}
        database = self.hub.app.db
        row = orm.User.find(database, user)
        row.groups = [_find_group(database, name) for name in sorted(self.groups[user])]
        database.commit()

    @rule(quotas=QUOTAS)
    def edit(self, quotas: list[dict[str, Any]]) -> None:
        """An admin edits the quotas."""
        self._write(quotas)
        self._run(self._read())

    @precondition(lambda self: self.model.servers and not self.late and self.since_restart >= 80)
    @rule()
    def kill_the_hub(self) -> None:
        """The hub is killed, and starts again."""
        self.since_restart = 0
        starting = self._list_starting()
        self._run(self._restart())
        for key in starting:
            server = self.model.servers[key]
            if f"{NAMESPACE}/{self._pod_name(key)}" in self.cluster.pods:
                # Its pod is all that the new hub knows of it.
                server.groups = frozenset(self.groups[server.user])
            else:
                del self.model.servers[key]
        self.starts.clear()
        self.stops.clear()

    def check_invariants(self, *args: Any, **kwargs: Any) -> None:
        """Called by hypothesis after each step."""
        super().check_invariants(*args, **kwargs)
        QuotaMachine.steps += 1
        if QuotaMachine.steps % 1000 == 0:
            print(f"{QuotaMachine.steps:,} steps", flush=True)
        self.since_restart += 1
        self._check()

    def teardown(self) -> None:
        self._run(self._end())
        self.loop.close()
        asyncio.set_event_loop(None)
        self.stack.close()

    def _check(self) -> None:
        """Hub and model count the same servers, and the same use; nothing runs that does not count."""
        active = {
            (user, name) for user, its in self.users.items() for name, each in its.spawners.items() if each.active
        }
        assert active | self.late == set(self.model.servers), (active, self.late, set(self.model.servers))
        assert {self._pod_name(key) for key in self.model.servers} >= {
            path.rpartition("/")[2] for path in self.cluster.pods
        }
        reservations = get_reservations(self.hub.app.hub)
        self._run(reservations.measure_pods())
        for user in USERS:
            used = reservations.add_up(self.quotas, self.quotas, user)
            for raw, its in zip(self.model.quotas, used, strict=True):
                for name in raw["hard"]:
                    expected = self.model.find_used(raw, user, name)
                    assert its.get(name, 0) == expected * 10**9, (raw, user, name, its, expected)

    def _write(self, quotas: Sequence[Mapping[str, Any]]) -> None:
        named = [{"name": f"quota {number}", **quota} for number, quota in enumerate(quotas)]
        self.model.quotas = named
        self.source.text = yaml.safe_dump({**DOCUMENT, "quotas": named})
        self.quotas = parse_document(self.source.text).quotas

    def _list_free(self) -> list[Key]:
        """The servers that do not count."""
        return [key for key in KEYS if key not in self.model.servers]

    def _list_starting(self) -> list[Key]:
        return [key for key, task in self.starts.items() if not task.done()]

    def _list_ready(self) -> list[Key]:
        return [key for key in KEYS if (spawner := self._spawner(key)) is not None and spawner.ready]

    def _list_waiting(self) -> list[Key]:
        """The servers that wait for `let_go`."""
        return [key for key in KEYS if self._pod_name(key) in self.cluster.held or self._is_pending(key)]

    def _is_pending(self, key: Key) -> bool:
        pod = self.cluster.pods.get(f"{NAMESPACE}/{self._pod_name(key)}", {})
        return pod.get("status") == {"phase": "Pending"}

    def _run(self, coroutine: Coroutine[Any, Any, T]) -> T:
        return self.loop.run_until_complete(coroutine)

    async def _begin(self) -> None:
        self.clock = Clock()
        await self._start_hub()
        for user in USERS:
            await self.hub.add_user(user)
            owner = orm.User.find(self.hub.app.db, user)
            self.hub.app.db.add_all(orm.Spawner(name=name, user=owner) for name in NAMES if name)
        self.hub.app.db.commit()
        self._find_users()
        await self._read()

    async def _read(self) -> None:
        # Parsing takes a thread, which would be given up if the clock was put forward meanwhile.
        await self.users[USERS[0]].spawner.read_profiles()

    def _find_users(self) -> None:
        # Once for each hub, because it asks the database.
        self.users = {user: self.hub.app.users[user] for user in USERS}

    async def _start_hub(self) -> None:
        config = Config()
        config.JupyterHub.update(
            db_url=f"sqlite:///{self.directory}/hub.sqlite", allow_named_servers=True, log_level=50
        )
        # Whatever the clock is put forward by, a request that waits is not given up.
        seconds = 10**6 * START_SECONDS
        config.KubeSpawner.update(
            namespace=NAMESPACE,
            start_timeout=START_SECONDS,
            http_timeout=START_SECONDS,
            k8s_api_request_timeout=seconds,
            k8s_api_request_retry_timeout=seconds,
            events_enabled=False,
            storage_pvc_ensure=False,
            poll_interval=0,
            consecutive_failure_limit=0,
        )
        config.JupyterHub.tornado_settings = {"slow_spawn_timeout": seconds, "slow_stop_timeout": seconds}
        self.hub = InProcessHub(self.directory, config)
        await self.hub.__aenter__()
        request = HTTPServerRequest(
            connection=mock.MagicMock(),
            headers=HTTPHeaders({"Host": "127.0.0.1"}),
            start_line=RequestStartLine("POST", "/hub/api", "HTTP/1.1"),
        )
        self.handler = BaseHandler(self.hub.app.tornado_application, request)

    async def _restart(self) -> None:
        # A process that is killed cleans up nothing, while tasks that are cancelled do.
        database = self.directory / "hub.sqlite"
        stored, pods = database.read_bytes(), dict(self.cluster.pods)
        await self._kill()
        database.write_bytes(stored)
        self.cluster.pods.clear()
        self.cluster.pods.update(pods)
        await self._start_hub()
        self._find_users()
        await self._settle()

    async def _kill(self) -> None:
        """Ends everything that the hub does, as if its process had been killed."""
        self.cluster.held.clear()
        tasks = asyncio.all_tasks() - {asyncio.current_task()}
        # More than once, because some clean up when they are cancelled.
        for _ in range(3):
            for task in tasks:
                task.cancel()
            await asyncio.sleep(0)
        await asyncio.gather(*tasks, return_exceptions=True)
        await self.hub.__aexit__(None, None, None)

    async def _end(self) -> None:
        await self._kill()
        with suppress(RuntimeError):
            await self.loop.shutdown_asyncgens()

    async def _start(self, key: Key, size: str, how: str) -> None:
        self.cluster.behaviour[self._pod_name(key)] = how
        self._begin_start(key, size)
        await self._settle()

    async def _start_all(self, wishes: Mapping[Key, str]) -> None:
        for key, size in wishes.items():
            self.cluster.behaviour[self._pod_name(key)] = "run"
            self._begin_start(key, size)
        await self._settle()

    def _begin_start(self, key: Key, size: str) -> None:
        user = self.users[key[0]]
        options = {"profiled": {"size": size}}
        arguments = {"options": options}
        self.starts[key] = asyncio.ensure_future(self.handler.spawn_single_user(user, key[1], **arguments))

    async def _stop(self, key: Key, holds: bool) -> None:
        self.cluster.holds_deletions = holds
        user = self.users[key[0]]
        self.stops[key] = asyncio.ensure_future(self.handler.stop_single_user(user, key[1]))
        await self._settle()
        self.cluster.holds_deletions = False

    async def _forward(self, seconds: float) -> None:
        self.clock.forward(seconds)
        await self._settle()

    async def _settle(self) -> None:
        """Waits until everything that goes on waits for a step of this machine."""
        for _ in range(10_000):
            self.clock.forward(LOOK_SECONDS)
            for _ in range(20):
                await asyncio.sleep(0)
            if all(self._waits(key, task) for tasks in (self.starts, self.stops) for key, task in tasks.items()):
                return
            await asyncio.sleep(0.0005)
        raise TimeoutError("something goes on for ever")

    def _waits(self, key: Key, task: asyncio.Task[Any]) -> bool:
        return task.done() or self._pod_name(key) in self.cluster.held or self._is_pending(key)

    def _pod_name(self, key: Key) -> str:
        user, name = key
        return f"jupyter-{user}--{name}" if name else f"jupyter-{user}"

    def _spawner(self, key: Key) -> ProfiledKubeSpawner | None:
        user = self.users[key[0]]
        spawner: ProfiledKubeSpawner | None = user.spawners.get(key[1])
        return spawner


def _pick(keys: Sequence[Key], pick: int) -> Key:
    return keys[pick % len(keys)]


def _order(room: Model, wishes: dict[Key, tuple[str, frozenset[str], dict[str, Any]]]) -> list[Key]:
    """An order in which each finds room; the quotas only ever fill up, so any order will do."""
    ordered = []
    trial = Model(dict(room.servers), room.quotas)
    for key, (user, groups, uses) in wishes.items():
        assert trial.fits(user, groups, uses), f"{key} was started without room"
        trial.servers[key] = Counted(user, groups, uses)
        ordered.append(key)
    return ordered


def _find_group(database: Any, name: str) -> orm.Group:
    group = orm.Group.find(database, name)
    if group is None:
        group = orm.Group(name=name)
        database.add(group)
    return group


async def _nothing(*_: Any, **__: Any) -> None:
    pass


async def _answer(*_: Any, **__: Any) -> SimpleNamespace:
    """What a single-user server answers when the hub looks whether it is up."""
    return SimpleNamespace(headers={"X-JupyterHub-Version": jupyterhub.__version__})
