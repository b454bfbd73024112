"""The figures that are to be reached, each beside its baseline."""

from __future__ import annotations

import gc
import os
import resource
import subprocess
import sys
import tempfile
import time
import tracemalloc
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path

import yaml
from kubespawner import KubeSpawner

from bench import wholehub
from bench.documents import make_choices, make_document, make_subject
from bench.farside import LABEL, FarSide
from bench.measuring import Figure, Runs, cpu_seconds, in_turn, in_turn_async, turns
from bench.scale import Scale
from bench.spawning import (
    BlockingKubeSpawner,
    configure_stock,
    cpu_and_stall_of_spawns,
    cpu_of_choosing,
    cpu_of_spawns,
    get_configmap,
    list_configmaps,
    make_manifests,
    make_spawner,
    read_profiles,
    stall_of_spawns,
)
from profiled_spawner import ProfiledKubeSpawner
from profiled_spawner.decide.choices import OPTIONS_KEY, find_offer
from profiled_spawner.decide.matching import match_profiles, matches, order_profiles
from profiled_spawner.decide.merging import merge_profiles
from profiled_spawner.document.model import Document
from profiled_spawner.document.parser import parse_document
from profiled_spawner.hub.spawn_form import format_form


async def measure(far_side: FarSide, scale: Scale) -> AsyncIterator[Figure]:
    """Measures every figure but those that take minutes."""
    for figure in (
        *measure_matching(scale),
        *measure_parsing(scale),
        measure_command(scale),
        *[figure async for figure in measure_form(scale)],
        await measure_memory(far_side, scale),
    ):
        yield figure
    for measure_spawns in (
        measure_choosing,
        measure_latency,
        measure_selected,
        measure_stall,
        measure_cpu,
        measure_burst,
        measure_growth,
        measure_requests,
    ):
        async for figure in measure_spawns(far_side, scale):
            yield figure


async def measure_long(far_side: FarSide, scale: Scale) -> AsyncIterator[Figure]:
    """Measures the others."""
    for measure_spawns in (measure_hub, measure_blocking):
        async for figure in measure_spawns(far_side, scale):
            yield figure


def measure_matching(scale: Scale) -> Iterator[Figure]:
    """Finding and merging the profiles of one subject, over looking at every profile."""
    document = parse_document(make_document(scale.profiles[-1]))
    runs = in_turn(scale.runs, {"index": partial(match_cost, document), "scan": partial(scan_cost, document)})
    name = f"matching and merging one subject, {scale.profiles[-1]:,} profiles"
    yield Figure(name, "µs", runs["index"], "looking at every profile", runs["scan"], "value", 100)


def match_cost(document: Document) -> float:
    """Microseconds for one subject."""
    subjects = [make_subject(number) for number in range(200)]
    return cpu_seconds(lambda: [merge_profiles(match_profiles(document, each)) for each in subjects]) / 200 * 1e6


def scan_cost(document: Document) -> float:
    """The same without an index."""
    subjects = [make_subject(number) for number in range(10)]

    def scan() -> None:
        for subject in subjects:
            merge_profiles(order_profiles(profile for profile in document.profiles if matches(profile, subject)))

    return cpu_seconds(scan) / 10 * 1e6


def measure_parsing(scale: Scale) -> Iterator[Figure]:
    """From text to a document, over building nothing but lists and dictionaries of it."""
    text = make_document(scale.profiles[-1])
    runs = in_turn(scale.runs, parse_costs(text))
    name, baseline = f"text to document, {len(text) / 2**20:.2f} MiB", "CSafeLoader"
    yield Figure(name, "ms", runs["ours"], baseline, runs["CSafeLoader"], "ratio", 0.8)
    with _collector_off():
        runs = in_turn(scale.runs, parse_costs(text))
    yield Figure(f"{name}, both without garbage collection", "ms", runs["ours"], baseline, runs["CSafeLoader"], "ratio")


def parse_costs(text: str) -> dict[str, Callable[[], float]]:
    """How to measure the milliseconds that reading a text takes."""
    return {
        "ours": lambda: cpu_seconds(lambda: parse_document(text)) * 1e3,
        "CSafeLoader": lambda: cpu_seconds(lambda: yaml.load(text, yaml.CSafeLoader)) * 1e3,
    }


@contextmanager
def _collector_off() -> Iterator[None]:
    gc.disable()
    yield
    gc.enable()


def measure_command(scale: Scale) -> Figure:
    """``profiled-spawner validate`` of a small file, from start to end."""
    with tempfile.TemporaryDirectory() as directory:
        file = Path(directory) / "profiles.yaml"
        file.write_text(make_document(3))
        runs = in_turn(
            scale.runs,
            {
                "validate": lambda: _command_cost("-m", "profiled_spawner", "validate", str(file)),
                "import yaml": lambda: _command_cost("-c", "import yaml"),
            },
        )
    name = "profiled-spawner validate of a small file, CPU of the whole process"
    return Figure(name, "ms", runs["validate"], 'python -c "import yaml"', runs["import yaml"], "ratio", 6)


def _command_cost(*arguments: str) -> float:
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    # As installed: with compiled modules.
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONDONTWRITEBYTECODE"}
    subprocess.run([sys.executable, *arguments], check=True, stdout=subprocess.DEVNULL, env=environment)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return (after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime) * 1e3


async def measure_form(scale: Scale) -> AsyncIterator[Figure]:
    """The images and sizes of the spawn page, over as many entries of KubeSpawner's own list."""
    half, subject = scale.choices // 2, make_subject(0)
    mixed, sizes = parse_document(make_choices(half, half)), parse_document(make_choices(0, scale.choices))
    spawner = make_spawner(KubeSpawner, subject)
    entries = [
        {"display_name": f"Course {each}", "slug": f"course-{each}", "description": "For the exercises of a course."}
        for each in range(scale.choices)
    ]
    # KubeSpawner makes the form of a function's list for every page, and that of a list once.
    spawner.profile_list = lambda _: entries

    async def ours(document: Document) -> float:
        return cpu_seconds(lambda: format_form(find_offer(document, subject), None, document.timezone, 0)) * 1e3

    async def stock() -> float:
        began = time.process_time()
        await spawner.get_options_form()
        return (time.process_time() - began) * 1e3

    runs = await in_turn_async(
        scale.runs * 3, {"mixed": lambda: ours(mixed), "sizes": lambda: ours(sizes), "stock": stock}
    )
    baseline = "KubeSpawner's own, of as many entries"
    for kind, name in (
        ("mixed", f"a form of {half} images and {half} sizes"),
        ("sizes", f"a form of {scale.choices} sizes"),
    ):
        yield Figure(name, "ms", runs[kind], baseline, runs["stock"], "ratio", 0.25)
        yield Figure(name, "ms", runs[kind], baseline, runs["stock"], "value", 2)


async def measure_choosing(far_side: FarSide, scale: Scale) -> AsyncIterator[Figure]:
    """A start from the snapshot to the manifest, with many images and sizes, over the same start with few or none."""
    snapshots = {}
    for number in (0, 1, scale.choices):
        await far_side.write(make_choices(number, number, year=9999))
        snapshots[number] = await make_spawner(ProfiledKubeSpawner, make_subject(0)).read_profiles()

    def start(number: int, *, choose: bool) -> Callable[[], Awaitable[float]]:
        last = {"image": f"Image {number - 1}", "size": f"Size {number - 1}"}
        return lambda: cpu_of_choosing(snapshots[number], {OPTIONS_KEY: last} if choose else {}, scale.burst)

    starts = {
        "none": start(0, choose=False),
        "unchosen": start(scale.choices, choose=False),
        "only": start(1, choose=True),
        "last": start(scale.choices, choose=True),
    }
    runs = await in_turn_async(scale.runs * 3, starts)
    name = f"from document to pod, {scale.choices} images and {scale.choices} sizes with times"
    none, only = "without any", "the only one of each"
    yield Figure(f"{name}, nothing chosen", "ms", runs["unchosen"], none, runs["none"], "difference", 0.05)
    yield Figure(f"{name}, the last chosen", "ms", runs["last"], only, runs["only"], "difference", 0.05)
    # Most of this is the size's memory, CPU and GPU, as of any profile.
    yield Figure(f"{name}, the last chosen", "ms", runs["last"], none, runs["none"], "difference")


async def measure_memory(far_side: FarSide, scale: Scale) -> Figure:
    """What the hub keeps of a document: itself, its text, and the answer that it came in."""
    text = make_document(scale.profiles[-1])
    spawner = make_spawner(ProfiledKubeSpawner, make_subject(0))
    await far_side.write("profiles: []")
    await read_profiles(spawner)
    tracemalloc.start()
    gc.collect()
    before, _ = tracemalloc.get_traced_memory()
    await far_side.write(text)
    await read_profiles(spawner)
    gc.collect()
    after, _ = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    name = f"memory that a document of {len(text) / 2**20:.2f} MiB keeps"
    return Figure(name, "KiB", [(after - before) / 1024], "its text", [len(text) / 1024], "ratio", 20)


async def measure_latency(far_side: FarSide, scale: Scale) -> AsyncIterator[Figure]:
    """What a single spawn waits for its profiles."""
    spawner = make_spawner(ProfiledKubeSpawner, make_subject(0))
    await far_side.write(make_document(scale.blocked_profiles))
    await read_profiles(spawner)
    await far_side.delay(0.02)
    runs = await in_turn_async(
        scale.runs * 3, {"read": lambda: read_profiles(spawner), "get": lambda: get_configmap(spawner)}
    )
    await far_side.delay(0)
    name = f"latency of reading for a single spawn, API latency 20 ms, {scale.blocked_profiles:,} profiles"
    yield Figure(name, "ms", _times(runs["read"], 1e3), "one GET", _times(runs["get"], 1e3), "ratio", 1.2)


async def measure_selected(far_side: FarSide, scale: Scale) -> AsyncIterator[Figure]:
    """What a single spawn waits for its profiles if selected ConfigMaps are unchanged, over reading their bytes."""
    spawner = make_spawner(ProfiledKubeSpawner, make_subject(0))
    spawner.configmap_label_selector = LABEL
    await far_side.write(make_document(scale.profiles[0]))
    # Without patterns: all selected ConfigMaps together may have 600, and some would be left out.
    document = make_document(scale.selected_profiles).replace(":*'", ":latest'")
    await far_side.write_selected(scale.selected, document, scale.selected_other_bytes)
    await read_profiles(spawner)
    runs = await in_turn_async(
        scale.runs * 3, {"read": lambda: read_profiles(spawner), "list": lambda: list_configmaps(spawner)}
    )
    size = scale.selected * (len(document) + scale.selected_other_bytes) / 2**20
    name = f"reading for a single spawn, {scale.selected} selected ConfigMaps of {size:.1f} MiB, unchanged"
    yield Figure(name, "ms", _times(runs["read"], 1e3), "one LIST", _times(runs["list"], 1e3), "ratio", 1.5)


async def measure_stall(far_side: FarSide, scale: Scale) -> AsyncIterator[Figure]:
    """What a changed document holds the event loop up, over the same spawn without a change."""
    runs = await stalls(far_side, scale.profiles[-1], scale.runs)
    name = f"longest stall of the event loop, {scale.profiles[-1]:,} profiles that changed"
    yield Figure(name, "ms", runs["changed"], "the same spawn, unchanged", runs["unchanged"], "difference", 15)


async def stalls(far_side: FarSide, profiles: int, runs: int) -> Runs:
    """The longest stalls, in milliseconds, of one spawn with and without a change of the document before it."""
    await far_side.write(make_document(profiles))
    await read_profiles(make_spawner(ProfiledKubeSpawner, make_subject(0)))
    versions = iter(range(runs))

    async def unchanged() -> float:
        return await stall_of_spawns(far_side, ProfiledKubeSpawner, 1)

    async def changed() -> float:
        await far_side.write(make_document(profiles, salt=f"changed {next(versions)}"))
        return await unchanged()

    return await in_turn_async(runs, {"unchanged": unchanged, "changed": changed})


async def measure_cpu(far_side: FarSide, scale: Scale) -> AsyncIterator[Figure]:
    """Whole spawns in a burst, at every size of the document."""
    await cpu_of_spawns(far_side, KubeSpawner, scale.burst)
    classes = {"stock": KubeSpawner, "ours": ProfiledKubeSpawner}
    measured: dict[int, Runs] = {profiles: {"stock": [], "ours": []} for profiles in scale.profiles}
    for run in range(scale.runs):
        for profiles, runs in measured.items():
            await far_side.write(make_document(profiles))
            await read_profiles(make_spawner(ProfiledKubeSpawner, make_subject(0)))
            for name in sorted(classes, reverse=run % 2 == 1):
                runs[name].append(await cpu_of_spawns(far_side, classes[name], scale.burst))
    for profiles, runs in measured.items():
        name = f"hub CPU of a spawn in a burst of {scale.burst}, {profiles:,} profiles, unchanged"
        yield Figure(name, "ms", runs["ours"], "stock KubeSpawner", runs["stock"], "difference", 1)


async def measure_burst(far_side: FarSide, scale: Scale) -> AsyncIterator[Figure]:
    """What a burst costs over one of stock KubeSpawner's: CPU, and how long the loop stands still."""
    profiles = scale.blocked_profiles
    name = f"a burst of {scale.burst}, {profiles:,} profiles{', on a real API server' if far_side.is_real else ''}"
    share = [await added_cost(far_side, profiles, scale) for _ in range(scale.runs)]
    yield Figure(f"{name}: our share of a spawn", "ms", share, target=0.25)
    classes = {
        "stock": KubeSpawner,
        "configured": await configure_stock(make_subject(0)),
        "ours": ProfiledKubeSpawner,
    }
    for each in classes.values():
        await cpu_of_spawns(far_side, each, scale.burst)
    # Not of the same bursts: watching costs CPU at every turn of the loop, and ours takes more of them.
    cpu = await in_turn_async(
        scale.runs * 3, {kind: partial(cpu_of_spawns, far_side, each, scale.burst) for kind, each in classes.items()}
    )
    for kind, baseline, target in (
        ("configured", "stock KubeSpawner whose own settings give the same", 0.25),
        ("stock", "stock KubeSpawner", None),
    ):
        yield Figure(f"{name}: hub CPU of a spawn", "ms", cpu["ours"], baseline, cpu[kind], "difference", target)
    stall = await in_turn_async(
        scale.runs, {kind: partial(stall_of_spawns, far_side, classes[kind], scale.burst) for kind in ("stock", "ours")}
    )
    yield Figure(f"{name}: longest stall", "ms", stall["ours"], "stock KubeSpawner", stall["stock"], "difference", 5)


async def measure_growth(far_side: FarSide, scale: Scale) -> AsyncIterator[Figure]:
    """What of a spawn is ours (reading, matching, merging, injecting, telling), at the largest over the smallest."""
    added: dict[int, list[float]] = {scale.profiles[0]: [], scale.profiles[-1]: []}
    for _ in range(scale.runs):
        for profiles, values in added.items():
            values.append(await added_cost(far_side, profiles, scale))
    smallest, largest = added.values()
    name = f"our share, {scale.profiles[-1]:,} profiles"
    yield Figure(name, "ms", largest, f"{scale.profiles[0]:,} profiles", smallest, "ratio", 1.3)


async def added_cost(far_side: FarSide, profiles: int, scale: Scale, *, users: int = 5) -> float:
    """Milliseconds of CPU for each spawn of a burst, without what stock KubeSpawner takes for its manifest."""
    await far_side.write(make_document(profiles, users=users))
    await read_profiles(make_spawner(ProfiledKubeSpawner, make_subject(0)))
    runs = await in_turn_async(
        scale.added_runs,
        {
            "stock": lambda: make_manifests(KubeSpawner, scale.burst),
            "ours": lambda: make_manifests(ProfiledKubeSpawner, scale.burst),
        },
    )
    return Figure("", "", _times(runs["ours"], 1e3), "", _times(runs["stock"], 1e3), "difference").result


async def measure_requests(far_side: FarSide, scale: Scale) -> AsyncIterator[Figure]:
    """Requests for the ConfigMap in a large burst."""
    requests = []
    for _ in range(scale.long_runs):
        await far_side.count_reads()
        await cpu_of_spawns(far_side, ProfiledKubeSpawner, scale.large_burst)
        requests.append(float(await far_side.count_reads()))
    yield Figure(f"ConfigMap requests for a burst of {scale.large_burst:,} spawns", "", requests, target=3)


async def measure_blocking(far_side: FarSide, scale: Scale) -> AsyncIterator[Figure]:
    """The same burst as hooks do it that read and parse at every spawn, on the event loop."""
    await far_side.write(make_document(scale.blocked_profiles))
    classes = {"stock": KubeSpawner, "ours": ProfiledKubeSpawner, "blocking": BlockingKubeSpawner}
    await read_profiles(make_spawner(ProfiledKubeSpawner, make_subject(0)))
    cpu: Runs = {name: [] for name in classes}
    stall: Runs = {name: [] for name in classes}
    for name in turns(scale.long_runs, classes):
        burst = await cpu_and_stall_of_spawns(far_side, classes[name], scale.burst)
        cpu[name].append(burst[0])
        stall[name].append(burst[1])
    name = f"a burst of {scale.burst}, {scale.blocked_profiles:,} profiles"
    yield Figure(f"{name}: hub CPU of a spawn", "ms", cpu["ours"], "blocking", cpu["blocking"], "gain", 200)
    # Noise may make what is ours less than nothing.
    over = {
        kind: [max(value - base, 1e-3) for value, base in zip(cpu[kind], cpu["stock"], strict=True)]
        for kind in ("ours", "blocking")
    }
    yield Figure(f"{name}: extra CPU, vs. stock KubeSpawner", "ms", over["ours"], "blocking", over["blocking"], "gain")
    yield Figure(f"{name}: longest stall", "ms", stall["ours"], "blocking", stall["blocking"], "gain", 200)
    yield Figure(f"{name}: longest stall", "ms", stall["ours"], "stock KubeSpawner", stall["stock"], "ratio")


async def measure_hub(far_side: FarSide, scale: Scale) -> AsyncIterator[Figure]:
    """A whole hub, through its REST API."""
    await far_side.write(make_document(scale.profiles[-1]))
    runs: dict[str, list[wholehub.Load]] = {"ours": [], "stock": []}
    for _ in range(scale.long_runs):
        for kind, spawner in (("stock", "kubespawner.KubeSpawner"), ("ours", "profiled-kubespawner")):
            runs[kind].append(await wholehub.run(far_side.kubeconfig, spawner, scale.hub_spawns))
            await far_side.delete_pods()
    for name, field in (("hub CPU of a spawn", "cpu_seconds"), ("time for all of them", "wall_seconds")):
        factor, unit = (1e3 / scale.hub_spawns, "ms") if field == "cpu_seconds" else (1, "s")
        values = {kind: _times([getattr(load, field) for load in loads], factor) for kind, loads in runs.items()}
        what = f"a whole hub, {scale.hub_spawns} spawns through its REST API: {name}"
        yield Figure(what, unit, values["ours"], "stock KubeSpawner", values["stock"], "ratio")


def _times(values: list[float], factor: float) -> list[float]:
    return [value * factor for value in values]
