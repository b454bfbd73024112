"""``python -m bench.quotas``: what it costs to check a start against quotas, beside JupyterHub's own count of servers.

JupyterHub counts the active servers of all users at each start. It prints times of one run and their ratio.
"""

from __future__ import annotations

import argparse
import asyncio
import time
from collections.abc import Callable
from functools import partial
from random import Random
from types import SimpleNamespace
from typing import Any, TypeVar

import yaml
from jupyterhub.user import UserDict

from profiled_spawner.decide.quotas import Server
from profiled_spawner.document.model import Quota
from profiled_spawner.document.parser import parse_document
from profiled_spawner.hub.kubespawner import no_kubeconfig
from profiled_spawner.hub.reservations import Reservations
from profiled_spawner.hub.spawner import ProfiledKubeSpawner

T = TypeVar("T")

_GIB = 2**30 * 10**9
_GROUPS = 50


def main() -> None:
    """Measures, and prints."""
    parser = argparse.ArgumentParser(prog="python -m bench.quotas", description=__doc__)
    parser.add_argument("--servers", type=int, default=5000)
    parser.add_argument("--quotas", type=int, default=50)
    arguments = parser.parse_args()
    asyncio.run(_measure_all(arguments.servers, arguments.quotas))


async def _measure_all(servers: int, quotas: int) -> None:
    print(f"{quotas} quotas, half of them for everyone, all of which cover whoever starts")
    found = make_quotas(quotas)
    for number in (servers // 4, servers // 2, servers):
        random = Random(1)
        users = [_make_user(random, position) for position in range(number)]
        reservations = Reservations()
        for user in users:
            server = Server(user.name, user.name, user.groups, _use(random.randrange(4)))
            reservations.put(user.spawners[""], server)
        new = _make_user(random, number)
        server = Server(new.name, new.name, frozenset(f"g{each}" for each in range(_GROUPS)), _use(1))
        check = partial(reservations.reserve, new.spawners[""], server, found, found)
        baseline = _measure(partial(UserDict.count_active_users, dict(enumerate(users))))
        again = _measure(check)
        # Without quotas, the sums are forgotten.
        first = _measure(check, partial(reservations.add_up, (), (), ""))
        print(
            f"{number:6,} servers: JupyterHub's count {baseline * 1e3:6.2f} ms; a check {again * 1e3:5.2f} ms, "
            f"x {again / baseline:.3f}; the first check after an edit {first * 1e3:6.2f} ms, x {first / baseline:.2f}"
        )


def make_quotas(number: int) -> tuple[Quota, ...]:
    """Quotas with room for everything."""
    quotas = [
        {
            "name": f"q{position}",
            "hard": {"pods": 10**6, "limits.memory": "1Pi", "requests.nvidia.com/gpu": 10**6},
            **({"groups": [f"g{position % _GROUPS}"]} if position % 2 else {}),
            **({"per": "user"} if position % 10 == 0 else {}),
        }
        for position in range(number)
    ]
    return parse_document(yaml.safe_dump({"profiles": [], "quotas": quotas})).quotas


def _make_user(random: Random, number: int) -> Any:
    """A user with a server, as far as counting looks at it: its spawner is a real one."""
    user = SimpleNamespace(name=f"user{number}", id=number, url="/", escaped_name=f"user{number}")
    user.groups = frozenset(f"g{random.randrange(_GROUPS)}" for _ in range(3))
    with no_kubeconfig():
        user.spawners = {"": ProfiledKubeSpawner(_mock=True, user=user)}
    return user


def _use(gpus: int) -> dict[str, int]:
    return {
        "pods": 10**9,
        "limits.memory": 2 * _GIB,
        "requests.memory": _GIB,
        "requests.nvidia.com/gpu": gpus * 10**9,
    }


def _measure(work: Callable[[], T], before: Callable[[], object] = lambda: None) -> float:
    """The shortest of several times, in seconds."""
    times = []
    for _ in range(9):
        before()
        began = time.perf_counter()
        work()
        times.append(time.perf_counter() - began)
    return min(times)


if __name__ == "__main__":
    main()
