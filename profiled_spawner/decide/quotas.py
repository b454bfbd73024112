"""Which quotas a server counts towards, how much of them is used, and whether one more server fits.

Amounts are whole numbers of billionths, by the names of a ResourceQuota: sums are exact, and fast.
"""

from __future__ import annotations

from collections.abc import Hashable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from decimal import Decimal
from functools import reduce
from itertools import count
from operator import or_
from typing import Generic, TypeAlias, TypeVar

from ..document.hard import split_name
from ..document.model import Document, Quota, Size
from ..document.quantity import BILLION, Quantity, format_billionths, is_whole_and_equal, to_billionths
from .choices import describe_hard
from .matching import Subject, matches_person

__all__ = [
    "Amounts",
    "Ledger",
    "Server",
    "Shortage",
    "describe_amount",
    "find_quotas",
    "find_shortage",
    "measure_size",
]

K = TypeVar("K", bound=Hashable)

Amounts: TypeAlias = Mapping[str, int]
"""Amounts in billionths, by the names of a ResourceQuota, such as ``limits.memory``."""

_NOBODY = Quota(-1, groups=frozenset())
_COUNT_BYTES = ("memory", "ephemeral-storage")
_UNITS = ("", "Ki", "Mi", "Gi", "Ti", "Pi", "Ei")
# Kubernetes refuses a pod without one of these if a ResourceQuota counts it.
_REQUIRED_REQUESTS = frozenset({"requests.cpu", "requests.memory"})


@dataclass(frozen=True, slots=True, eq=False)
class Server:
    """A server that counts.

    Attributes:
        name: What the hub's log calls it: ``ada``, or ``ada:lab``.
        user: Whose it is.
        groups: The owner's groups when it started.
        amounts: What it uses.
    """

    name: str
    user: str
    groups: frozenset[str]
    amounts: Amounts


@dataclass(frozen=True, slots=True)
class Shortage:
    """Why a server does not fit.

    Attributes:
        quota: The quota.
        name: Of what there is too little.
        hard: How much there may be.
        used: How much is used.
        needed: How much the server needs; None if it needs what has no bound, because it sets no limit.
    """

    quota: Quota
    name: str
    hard: int
    used: int
    needed: int | None

    @property
    def is_hopeless(self) -> bool:
        """Whether it would not fit even if nothing was used."""
        return self.needed is None or self.needed > self.hard

    def __str__(self) -> str:
        """The reason, as the end of a sentence for the server's owner. It names nobody."""
        quota, hard = f'the quota "{self.quota.shown_name}"', describe_amount(self.name, self.hard)
        if self.needed is None:
            nothing = describe_amount(self.name, 0)
            return f"it has {nothing}{' limit' if self.name.startswith('limits.') else ''}, and {quota} counts that"
        needed = describe_amount(self.name, self.needed)
        each = " for each person" if self.quota.per == "user" else ""
        if self.needed > self.hard:
            return f"it needs {needed}, and {quota} allows {hard}{each}"
        if self.used < self.hard:
            used = describe_amount(self.name, self.used)
            return f"it needs {needed}, and {quota} allows {hard}{each}, with {used} in use already"
        if self.hard == BILLION:
            return f"the only {hard.removeprefix('1 ')} that {quota} allows{each} is in use"
        return f"all {hard} that {quota} allows{each} are in use"


def find_quotas(document: Document, subject: Subject) -> tuple[Quota, ...]:
    """Returns the quotas that cover this person at this moment; the image has no say."""
    return tuple([quota for quota in document.quotas if matches_person(quota, subject)])


def find_shortage(
    quotas: Sequence[Quota], used: Sequence[Amounts], needed: Amounts, *, is_part: bool = False
) -> Shortage | None:
    """Returns why a server does not fit; None if it fits.

    As in Kubernetes, what the server does not need cannot be short, even if more is used than a lowered quota allows.

    Args:
        quotas: The quotas that cover its owner.
        used: What is used of each.
        needed: What the server needs.
        is_part: Whether that is only a part of it, so that nothing is missing.

    Returns:
        A shortage that no stop of another server can end, if there is one; otherwise the first in the document.
    """
    shortages = []
    for quota, amounts in zip(quotas, used, strict=True):
        for name, quantity in quota.hard.items():
            hard, now, more = to_billionths(quantity), amounts.get(name, 0), needed.get(name)
            is_missing = more is None and (name.startswith("limits.") or name in _REQUIRED_REQUESTS) and not is_part
            if is_missing or (more and now + more > hard):
                shortages.append(Shortage(quota, name, hard, now, more))
    return min(shortages, key=lambda each: not each.is_hopeless, default=None)


def measure_size(size: Size) -> Amounts:
    """Returns what a server needs for this size alone, without what profiles and the hub's settings give it."""
    limits, requests = (
        {each: to_billionths(quantity) for each, quantity in amounts.items() if quantity and quantity.amount}
        for amounts in (size.limits, size.requests)
    )
    found = {f"limits.{each}": amount for each, amount in limits.items() if not is_whole_and_equal(each)}
    for each in {**limits, **requests}:
        limit = limits.get(each)
        # Where both are given, the limit bounds the guarantee, and is the guarantee of a GPU.
        if each in requests and (limit is None or (requests[each] < limit and not is_whole_and_equal(each))):
            found[f"requests.{each}"] = requests[each]
        elif is_whole_and_equal(each) and limit is not None:
            found[f"requests.{each}"] = limit
    return found


def describe_amount(name: str, amount: int) -> str:
    """Returns an amount in words, such as ``4 GPUs``, ``256 GiB of memory`` or ``20 servers``.

    Args:
        name: The name in a ResourceQuota.
        amount: The amount, in billionths.
    """
    _, resource = split_name(name)
    is_bytes = resource in _COUNT_BYTES or resource.startswith("hugepages-")
    text = _format_bytes(amount) if is_bytes else format_billionths(amount)
    return describe_hard({name: Quantity(Decimal(amount).scaleb(-9), text)})


def _format_bytes(amount: int) -> str:
    """In the largest unit of which there is at least one, to two digits behind the point."""
    number = amount / BILLION
    unit = 0
    while number >= 1024 and unit < len(_UNITS) - 1:
        number /= 1024
        unit += 1
    return f"{number:.2f}".rstrip("0").rstrip(".") + _UNITS[unit]


class Ledger(Generic[K]):
    """The servers that count, and what they use of the quotas of one document.

    Sums are kept: a check takes the same time however many servers there are. They are made anew, in time linear in the
    number of servers, when the document has other quotas than at the last call.
    """

    def __init__(self) -> None:
        self.servers: dict[K, Server] = {}
        self._by_user: dict[str, dict[K, Server]] = {}
        self._total: dict[str, int] = {}
        self._quotas: tuple[Quota, ...] = ()
        # Of the quotas that people share, and that are not for everyone.
        self._shared = _Index(())
        self._used: list[dict[str, int]] = []

    def put(self, key: K, server: Server) -> None:
        """Counts a server; whatever counted by this key counts no more."""
        self.remove(key)
        self.servers[key] = server
        self._by_user.setdefault(server.user, {})[key] = server
        self._count(server, 1)

    def remove(self, key: K) -> None:
        """Stops counting a server. Does nothing if it does not count."""
        server = self.servers.pop(key, None)
        if server is not None:
            its = self._by_user[server.user]
            del its[key]
            if not its:
                del self._by_user[server.user]
            self._count(server, -1)

    def add_up(self, quotas: tuple[Quota, ...], covering: Sequence[Quota], user: str) -> list[Amounts]:
        """Returns what is used of some quotas, in their order.

        Args:
            quotas: All quotas of the document.
            covering: Some of them.
            user: Whose servers count towards those per user.
        """
        self._use(quotas)
        positions = {id(quota): position for position, quota in enumerate(quotas)}
        own = list(self._by_user.get(user, {}).values())
        found: list[Amounts] = []
        for quota in covering:
            if quota.per != "all":
                index = _Index((quota,))
                found.append(_sum(server.amounts for server in own if index.find(server)))
            else:
                found.append(self._find_used(quota, positions[id(quota)]))
        return found

    def find_most_used(self, quotas: tuple[Quota, ...]) -> list[Amounts]:
        """Returns what is used of each quota; of one per user, the highest amounts that one person uses."""
        self._use(quotas)
        per_user = [quota for quota in quotas if quota.per != "all"]
        each = _Index(per_user)
        of_one: dict[int, dict[str, int]] = {}
        for its in self._by_user.values() if per_user else ():
            if len(its) == 1:
                (server,) = its.values()
                _raise(of_one.setdefault(each.find(server), {}), server.amounts)
                continue
            for position in _list_bits(reduce(or_, map(each.find, its.values()))):
                counted = (server.amounts for server in its.values() if each.find(server) >> position & 1)
                _raise(of_one.setdefault(1 << position, {}), _sum(counted))
        most: dict[int, dict[str, int]] = {}
        for found, amounts in of_one.items():
            for position in _list_bits(found):
                _raise(most.setdefault(position, {}), amounts)
        numbers = count()
        return [
            self._find_used(quota, position) if quota.per == "all" else most.get(next(numbers), {})
            for position, quota in enumerate(quotas)
        ]

    def list_servers(self, quota: Quota, user: str) -> list[Server]:
        """Returns the servers that count towards a quota; towards one per user, those of this user."""
        index = _Index((quota,))
        servers = self.servers if quota.per == "all" else self._by_user.get(user, {})
        return [server for server in servers.values() if index.find(server)]

    def _find_used(self, quota: Quota, position: int) -> Amounts:
        return self._total if quota.is_for_everyone else self._used[position]

    def _use(self, quotas: tuple[Quota, ...]) -> None:
        if quotas is self._quotas:
            return
        if quotas != self._quotas:
            self._shared = _Index(
                [quota if quota.per == "all" and not quota.is_for_everyone else _NOBODY for quota in quotas]
            )
            self._used = [{} for _ in quotas]
            # Servers of the same quotas are put together first.
            alike: dict[int, list[Amounts]] = {}
            for server in self.servers.values():
                found = self._shared.find(server)
                if found:
                    alike.setdefault(found, []).append(server.amounts)
            for found, amounts in alike.items():
                total = _sum(amounts)
                for position in _list_bits(found):
                    _add(self._used[position], total, 1)
        self._quotas = quotas

    def _count(self, server: Server, times: int) -> None:
        _add(self._total, server.amounts, times)
        for position in _list_bits(self._shared.find(server)):
            _add(self._used[position], server.amounts, times)


class _Index:
    """Finds the quotas that a server counts towards. A set of quotas is a number, with a bit for each position."""

    def __init__(self, quotas: Sequence[Quota]) -> None:
        self._everyone = 0
        self._users: dict[str, int] = {}
        self._groups: dict[str, int] = {}
        # Many people are in the same groups.
        self._of_groups: dict[frozenset[str], int] = {}
        for position, quota in enumerate(quotas):
            bit = 1 << position
            if quota.is_for_everyone:
                self._everyone |= bit
                continue
            for masks, names in ((self._users, quota.users), (self._groups, quota.groups)):
                for name in names or ():
                    masks[name] = masks.get(name, 0) | bit

    def find(self, server: Server) -> int:
        """Returns the quotas that the server counts towards, whenever they apply."""
        found = self._of_groups.get(server.groups)
        if found is None:
            found = self._everyone
            for name in server.groups:
                found |= self._groups.get(name, 0)
            self._of_groups[server.groups] = found
        return found | self._users.get(server.user, 0)


def _list_bits(bits: int) -> list[int]:
    found = []
    while bits:
        lowest = bits & -bits
        found.append(lowest.bit_length() - 1)
        bits ^= lowest
    return found


def _sum(amounts: Iterable[Amounts]) -> dict[str, int]:
    total: dict[str, int] = {}
    for each in amounts:
        _add(total, each, 1)
    return total


def _add(total: dict[str, int], amounts: Amounts, times: int) -> None:
    for name, amount in amounts.items():
        total[name] = total.get(name, 0) + amount * times


def _raise(most: dict[str, int], amounts: Amounts) -> None:
    for name, amount in amounts.items():
        most[name] = max(amount, most.get(name, 0))
