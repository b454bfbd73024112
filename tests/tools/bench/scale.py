"""How large and how often everything is measured."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Scale:
    """The sizes of one go.

    Attributes:
        runs: How often each figure is measured.
        long_runs: How often what takes minutes is.
        profiles: Sizes of the document for the figures, the last one the largest there can be.
        choices: Entries of a form; for a start, as many images and as many sizes.
        blocked_profiles: The size of the document that the blocking reference reads.
        burst: How many spawns a burst is.
        large_burst: How many a large one is.
        selected: How many ConfigMaps a label selector selects, each with the same document.
        selected_profiles: How many profiles each has.
        selected_other_bytes: How much of something else each has.
        hub_spawns: How many spawns go through a whole hub.
        profiles_curve: Sizes of the document.
        users_curve: Users in one profile.
        spawns_curve: Spawns at once.
        latency_curve: Latencies of the API server, in milliseconds.
        curve_runs: How often each point of a curve is measured.
        added_runs: How often, for each of these, manifests are made with profiles and without.
    """

    runs: int
    long_runs: int
    profiles: tuple[int, ...]
    choices: int
    blocked_profiles: int
    burst: int
    large_burst: int
    selected: int
    selected_profiles: int
    selected_other_bytes: int
    hub_spawns: int
    profiles_curve: tuple[int, ...]
    users_curve: tuple[int, ...]
    spawns_curve: tuple[int, ...]
    latency_curve: tuple[int, ...]
    curve_runs: int
    added_runs: int


FULL = Scale(
    runs=7,
    long_runs=3,
    profiles=(10, 100, 1000, 3000),
    choices=100,
    blocked_profiles=1000,
    burst=200,
    large_burst=1000,
    # 4 MiB of documents in a list of 16 MiB, which are the most there can be.
    selected=40,
    selected_profiles=300,
    selected_other_bytes=300_000,
    hub_spawns=500,
    profiles_curve=(1, 10, 100, 300, 1000, 2000, 3000),
    users_curve=(1, 10, 100, 1000, 5000, 20_000),
    spawns_curve=(1, 10, 30, 100, 300, 1000),
    latency_curve=(0, 5, 10, 20, 50, 100, 200),
    curve_runs=3,
    added_runs=5,
)

#: Says nothing of any cost: only that everything runs.
SHORT = Scale(
    runs=2,
    long_runs=1,
    profiles=(10, 50),
    choices=4,
    blocked_profiles=20,
    burst=5,
    large_burst=10,
    selected=2,
    selected_profiles=10,
    selected_other_bytes=1_000,
    hub_spawns=5,
    profiles_curve=(1, 20),
    users_curve=(1, 20),
    spawns_curve=(1, 5),
    latency_curve=(0, 5),
    curve_runs=2,
    added_runs=1,
)
