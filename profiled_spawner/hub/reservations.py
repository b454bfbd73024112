"""Counts the servers of a hub towards quotas: from before they are created until they have stopped.

JupyterHub decides what counts: a server that it regards as starting, running or stopping. What such a server uses is
kept in its spawner's state, so a hub that restarts goes on counting. Everything here runs on the hub's event loop, and
checking and reserving is one step without an ``await``, so two starts never get the same room.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterable, Iterator, Mapping
from typing import Any, Protocol, TypeAlias
from weakref import ReferenceType, WeakKeyDictionary, WeakSet, ref

from .. import metrics
from ..decide.quotas import Amounts, Ledger, Server, Shortage, find_shortage
from ..document.model import Quota
from ..document.quantity import BILLION, format_billionths, parse_billionths
from ..errors import QuantityError
from ..pod.amounts import measure_pod

__all__ = ["CountedSpawner", "Reservations", "all_reservations", "from_state", "get_reservations", "to_state"]


class CountedSpawner(Protocol):
    """What this module asks of a spawner."""

    @property
    def shown_name(self) -> str: ...

    @property
    def is_counted(self) -> bool:
        """Whether JupyterHub regards the server as starting, running or stopping."""

    def describe_server(self, amounts: Amounts) -> Server: ...

    async def find_pod(self) -> dict[str, Any] | None: ...


_Key: TypeAlias = "ReferenceType[CountedSpawner]"


class Reservations:
    """The servers of one hub that count. Get it with `get_reservations`."""

    def __init__(self) -> None:
        # By weak references: a spawner that JupyterHub has dropped has no server.
        self._ledger: Ledger[_Key] = Ledger()
        self._unmeasured: WeakSet[CountedSpawner] = WeakSet()
        self.quotas: tuple[Quota, ...] = ()

    def find(self, spawner: CountedSpawner) -> Server | None:
        """Returns what counts for a spawner; None if nothing does."""
        return self._ledger.servers.get(ref(spawner))

    def put(self, spawner: CountedSpawner, server: Server) -> None:
        """Counts a server, whether it fits or not."""
        self._ledger.put(ref(spawner, self._ledger.remove), server)

    def put_unmeasured(self, spawner: CountedSpawner) -> None:
        """Counts a running server of which nothing is known yet: an earlier version of this package started it."""
        self._unmeasured.add(spawner)

    def release(self, spawner: CountedSpawner) -> None:
        """Stops counting a server. Does nothing if it does not count."""
        self._ledger.remove(ref(spawner))
        self._unmeasured.discard(spawner)

    async def measure_pods(self) -> None:
        """Measures the pods of servers of which nothing is known yet. Sends no request if the hub knows its pods."""
        for spawner in list(self._unmeasured):
            pod = await spawner.find_pod() if spawner.is_counted else None
            # It may have stopped meanwhile.
            if spawner in self._unmeasured:
                self._unmeasured.discard(spawner)
                if pod is not None and spawner.is_counted:
                    self.put(spawner, spawner.describe_server(measure_pod(pod)))

    def reserve(
        self,
        spawner: CountedSpawner,
        server: Server,
        quotas: tuple[Quota, ...],
        covering: tuple[Quota, ...],
        *,
        reserved: Server | None = None,
    ) -> Shortage | None:
        """Counts a server if it fits, or if it needs no more than the same start has reserved before.

        The document may have changed since: then others may have been given more than the quotas of this start allow.

        Args:
            spawner: Its spawner.
            server: What it needs.
            quotas: All quotas of the document.
            covering: Those that cover its owner now.
            reserved: What this start has reserved before; None if it has not.

        Returns:
            Why it does not fit; None if it does.
        """
        if reserved is not None and all(
            amount <= reserved.amounts.get(name, 0) for name, amount in server.amounts.items()
        ):
            self.put(spawner, server)
            return None
        self.release(spawner)
        shortage = self.find_shortage(server, quotas, covering)
        if shortage is not None and self._release_stopped():
            shortage = self.find_shortage(server, quotas, covering)
        if shortage is None:
            self.put(spawner, server)
        return shortage

    def find_shortage(self, server: Server, quotas: tuple[Quota, ...], covering: tuple[Quota, ...]) -> Shortage | None:
        """Returns why a server does not fit now; None if it does. It counts nothing."""
        return find_shortage(covering, self.add_up(quotas, covering, server.user), server.amounts)

    def add_up(self, quotas: tuple[Quota, ...], covering: tuple[Quota, ...], user: str) -> list[Amounts]:
        """Returns what is used of some quotas now, in their order."""
        return self._ledger.add_up(quotas, covering, user)

    def list_servers(self, quota: Quota, user: str) -> list[Server]:
        """Returns the servers that count towards a quota; towards one per user, those of this user."""
        return self._ledger.list_servers(quota, user)

    def find_use(self) -> Iterator[metrics.QuotaUse]:
        """Returns how much of each quota is used, of those that apply now."""
        now = time.time()
        for quota, used in zip(self.quotas, self._ledger.find_most_used(self.quotas), strict=True):
            if quota.period.covers(now):
                for name, hard in quota.hard.items():
                    yield metrics.QuotaUse(quota.shown_name, name, used.get(name, 0) / BILLION, float(hard.amount))

    def _release_stopped(self) -> bool:
        """Stops counting servers whose stop went unnoticed, and returns whether there were any.

        JupyterHub clears the state of a server that has stopped, unless its database fails just then. Looking at every
        spawner takes long, so it is done only before a start is refused.
        """
        stopped = [key for key in self._ledger.servers if (spawner := key()) is None or not spawner.is_counted]
        for key in stopped:
            self._ledger.remove(key)
        return bool(stopped)


def to_state(server: Server) -> dict[str, Any]:
    """Returns a server in the form of a spawner's state, which JupyterHub keeps as JSON."""
    amounts = {name: format_billionths(amount) for name, amount in server.amounts.items()}
    return {"groups": sorted(server.groups), "amounts": amounts}


def from_state(state: object, name: str, user: str) -> Server | None:
    """Returns the server that a spawner's state describes; None if it describes none."""
    if not isinstance(state, Mapping):
        return None
    groups, amounts = state.get("groups"), state.get("amounts")
    if not isinstance(groups, list) or not isinstance(amounts, Mapping):
        return None
    try:
        counted = {str(each): parse_billionths(str(amount)) for each, amount in amounts.items()}
    except QuantityError:
        return None
    return Server(name, user, frozenset(map(str, groups)), counted)


all_reservations: WeakKeyDictionary[Any, Reservations] = WeakKeyDictionary()


def get_reservations(hub: object) -> Reservations:
    """Returns the reservations of a hub; without one, as in tests, those of the running event loop."""
    key = asyncio.get_running_loop() if hub is None else hub
    found = all_reservations.get(key)
    if found is None:
        found = all_reservations[key] = Reservations()
    return found


def _find_all_use() -> Iterable[metrics.QuotaUse]:
    for reservations in all_reservations.values():
        yield from reservations.find_use()


metrics.QUOTAS.find = _find_all_use
