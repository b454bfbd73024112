"""How the costs grow."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable
from statistics import median

from kubespawner import KubeSpawner

from bench.documents import make_document, make_subject
from bench.farside import FarSide
from bench.figures import added_cost, match_cost, parse_costs, scan_cost, stalls
from bench.measuring import Curve, in_turn, in_turn_async
from bench.scale import Scale
from bench.spawning import cpu_of_spawns, get_configmap, make_spawner, read_profiles, stall_of_spawns
from profiled_spawner import ProfiledKubeSpawner
from profiled_spawner.document.parser import parse_document

_PROFILES = "profiles"
_OURS, _STOCK = ProfiledKubeSpawner.__name__, KubeSpawner.__name__
_PARSER = "this package, with line numbers"
_SPAWN_CPU = "CPU per spawn (ms)"


async def measure(far_side: FarSide, scale: Scale) -> AsyncIterator[Curve]:
    """Measures every curve."""
    for measure_curves in (by_profiles, by_users, by_spawns, by_latency):
        async for curve in measure_curves(far_side, scale):
            yield curve


async def by_profiles(far_side: FarSide, scale: Scale) -> AsyncIterator[Curve]:
    """With the profiles of a document, of which at most ten match."""
    sizes, runs = scale.profiles_curve, scale.curve_runs
    added, stalled = [], []
    match: dict[str, list[float]] = {"with the index (in use)": [], "checking every profile": []}
    parse: dict[str, list[float]] = {_PARSER: [], "PyYAML CSafeLoader": []}
    stalled_by: dict[str, list[float]] = {"document changed": [], "document unchanged": []}
    for size in sizes:
        text = make_document(size)
        document = parse_document(text)
        added.append(await added_cost(far_side, size, scale))
        cost = in_turn(runs, {"index": lambda d=document: match_cost(d), "scan": lambda d=document: scan_cost(d)})
        for values, key in zip(match.values(), ("index", "scan"), strict=True):
            values.append(median(cost[key]))
        cost = in_turn(runs, parse_costs(text))
        for values, key in zip(parse.values(), ("ours", "CSafeLoader"), strict=True):
            values.append(median(cost[key]))
        # In a few runs, another process of the machine would be seen.
        stalled = await stalls(far_side, size, scale.runs)
        for values, key in zip(stalled_by.values(), ("changed", "unchanged"), strict=True):
            values.append(median(stalled[key]))
    x = [float(size) for size in sizes]
    yield Curve("added-by-profiles", _PROFILES, "extra CPU per spawn (ms)", x, {"vs. KubeSpawner": added})
    yield Curve("match-by-profiles", _PROFILES, "matching and merging (µs)", x, match)
    yield Curve("parse-by-profiles", _PROFILES, "CPU of parsing (ms)", x, parse)
    yield Curve("stall-by-profiles", _PROFILES, "longest event loop stall (ms)", x, stalled_by)


async def by_users(far_side: FarSide, scale: Scale) -> AsyncIterator[Curve]:
    """With the users that one profile names."""
    added = []
    parse: dict[str, list[float]] = {_PARSER: [], "PyYAML CSafeLoader": []}
    for users in scale.users_curve:
        added.append(await added_cost(far_side, 1, scale, users=users))
        cost = in_turn(scale.curve_runs, parse_costs(make_document(1, users=users)))
        for values, key in zip(parse.values(), ("ours", "CSafeLoader"), strict=True):
            values.append(median(cost[key]))
    x = [float(users) for users in scale.users_curve]
    name = "users in one profile"
    yield Curve("added-by-users", name, "extra CPU per spawn (ms)", x, {"vs. KubeSpawner": added})
    yield Curve("parse-by-users", name, "CPU of parsing (ms)", x, parse)


async def by_spawns(far_side: FarSide, scale: Scale) -> AsyncIterator[Curve]:
    """With the spawns at once."""
    await far_side.write(make_document(scale.profiles[-1]))
    await read_profiles(make_spawner(ProfiledKubeSpawner, make_subject(0)))
    cpu: dict[str, list[float]] = {_OURS: [], _STOCK: []}
    stall: dict[str, list[float]] = {_OURS: [], _STOCK: []}
    requests = []
    for spawns in scale.spawns_curve:
        # Each point of a large burst is the mean of many spawns already.
        runs = max(1, min(scale.curve_runs, 300 // spawns))
        await far_side.count_reads()
        for kind, measured in (
            (cpu, await in_turn_async(runs, _variants(cpu_of_spawns, far_side, spawns))),
            (stall, await in_turn_async(runs, _variants(stall_of_spawns, far_side, spawns))),
        ):
            for name, values in kind.items():
                values.append(median(measured[name]))
        requests.append(await far_side.count_reads() / (2 * runs))
    x = [float(spawns) for spawns in scale.spawns_curve]
    name = "concurrent spawns"
    yield Curve("cpu-by-spawns", name, _SPAWN_CPU, x, cpu, is_logarithmic=True)
    yield Curve("stall-by-spawns", name, "longest event loop stall (ms)", x, stall)
    yield Curve("requests-by-spawns", name, "ConfigMap requests per burst", x, {_OURS: requests}, is_logarithmic=True)


def _variants(
    measure_spawns: Callable[[FarSide, type[KubeSpawner], int], Awaitable[float]], far_side: FarSide, spawns: int
) -> dict[str, Callable[[], Awaitable[float]]]:
    return {
        _OURS: lambda: measure_spawns(far_side, ProfiledKubeSpawner, spawns),
        _STOCK: lambda: measure_spawns(far_side, KubeSpawner, spawns),
    }


async def by_latency(far_side: FarSide, scale: Scale) -> AsyncIterator[Curve]:
    """With the latency of the API server."""
    await far_side.write(make_document(scale.blocked_profiles))
    spawner = make_spawner(ProfiledKubeSpawner, make_subject(0))
    await read_profiles(spawner)
    waited: dict[str, list[float]] = {"reading the profiles": [], "one GET request": []}
    for latency in scale.latency_curve:
        await far_side.delay(latency / 1e3)
        runs = await in_turn_async(
            scale.curve_runs * 2, {"read": lambda: read_profiles(spawner), "get": lambda: get_configmap(spawner)}
        )
        for values, key in zip(waited.values(), ("read", "get"), strict=True):
            values.append(median(runs[key]) * 1e3)
    await far_side.delay(0)
    x = [float(latency) for latency in scale.latency_curve]
    yield Curve("latency-by-latency", "API server latency (ms)", "wait of a single spawn (ms)", x, waited)
