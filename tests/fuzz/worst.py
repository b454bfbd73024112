"""``python -m fuzz.worst``: searches for the valid document that costs a hub most.

Each family writes documents of one kind, by a few numbers. A search climbs from several places towards what costs most,
for each thing that costs: reading a document (time, memory), matching, merging and injecting its profiles at a start,
and a spawn page's form. Documents that are refused count for what reading them takes.
"""

from __future__ import annotations

import argparse
import random
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Any

from kubernetes_asyncio.client import V1Container, V1ObjectMeta, V1Pod, V1PodSpec

from profiled_spawner.document import Document, combine_documents
from profiled_spawner.errors import DocumentError, PodError
from profiled_spawner.injection import inject_profile
from profiled_spawner.limits import MAX_BYTES
from profiled_spawner.matching import Subject, match_profiles
from profiled_spawner.merging import check_applied, merge_profiles
from profiled_spawner.parsing import parse_document
from profiled_spawner.sizes import find_sizes, format_form

from .limits import BeyondBoundsError, call_within, forget_peak_rss, peak_rss_bytes

__all__ = ["FAMILIES", "MEASURES", "Case", "find_worst", "measure_case"]

MEASURES = ("parse", "memory", "match", "merge", "inject", "start", "form")
"""What is searched for: seconds, but for ``memory``, which is bytes; a start is matching, merging and injecting."""

_CPU_SECONDS = 20
_RUNS = 3
_MEMORY_BYTES = 3 * 2**30

_GROUPS = frozenset(f"g{number}" for number in range(250))


@dataclass(frozen=True, slots=True)
class Case:
    """Documents, and whose server is started with what image.

    Attributes:
        texts: The main document, and those of selected ConfigMaps.
        subject: Whose server it is.
    """

    texts: tuple[str, ...]
    subject: Subject = field(default=Subject("ada", _GROUPS, "quay.io/example/notebook:1"))


Family = Callable[[int, int, int], Case]


def _profiles(*profiles: str) -> Case:
    return Case(("profiles:\n" + "".join(f"- {each}\n" for each in profiles),))


def _require(terms: int, values: int, name: str) -> str:
    term = "{matchExpressions: [{key: %s, operator: In, values: [%s]}]}"
    listed = ", ".join(f"v{number}" for number in range(max(1, values)))
    joined = ", ".join(term % (f"{name}{number}", listed) for number in range(max(1, terms)))
    return f"{{node_affinity: {{requiredDuringSchedulingIgnoredDuringExecution: {{nodeSelectorTerms: [{joined}]}}}}}}"


def affinity(profiles: int, terms: int, values: int) -> Case:
    """Profiles of one term each behind one of several."""
    return _profiles(_require(terms, values, "a"), *(_require(1, values, f"b{number}x") for number in range(profiles)))


def references(variables: int, length: int, kind: int) -> Case:
    """References, and what looks like the beginning of one."""
    unit = ("$(", "$(A0)", "$", "$$(", "$()", "$$a")[kind % 6]
    value = (unit * length)[:131_000]
    return _profiles("{env: {" + ", ".join(f"A{number}: '{value}'" for number in range(variables)) + "}}")


def long_text(times: int, length: int, kind: int) -> Case:
    """A long text that an alias puts into many places."""
    heads = (
        "{name: %s}",
        "{env: {A: %s}}",
        "{annotations: {a: %s}}",
        "{images: [%s]}",
        "{users: [%s]}",
        "{volumes: [{name: a, emptyDir: {}, mountPath: %s}]}",
        "{volumes: [{name: a, emptyDir: {}, mountPath: /a, subPath: %s}]}",
        "{volumes: [{name: a, csi: {driver: d, volumeAttributes: {a: %s}}, mountPath: /a}]}",
    )
    head = heads[kind % len(heads)]
    text = "/" + "x" * length
    return _profiles(head % f"&a {text}", *[head % "*a"] * times)


def placeholders(volumes: int, fields: int, kind: int) -> Case:
    """Templates with many fields, in many volumes."""
    unit = ("{{", "{username}", "{userid}{username}-")[kind % 3]
    volume = "{name: a%d, nfs: {server: s, path: '/%s'}, mountPath: /m%d, subPath: '%s'}"
    first = "{name: a, emptyDir: {}, mountPath: /a, subPath: &a '%s'}" % ("{username}/" + unit * fields)
    rest = (f"{{name: a{n}, emptyDir: {{}}, mountPath: /m{n}, subPath: *a}}" for n in range(volumes))
    distinct = (volume % (n, f"{unit * fields}{n}", n, f"{n}{unit * fields}") for n in range(volumes))
    return _profiles("{volumes: [" + ", ".join([first, *(rest if kind % 2 else distinct)]) + "]}")


def several(configmaps: int, profiles: int, kind: int) -> Case:
    """Selected ConfigMaps, of some kilobytes each."""
    text = ("{env: {A%d: b}}", "{node_selector: {a%d: b}}", "{images: ['*a*%d*']}", "{users: [ada], labels: {a%d: b}}")
    one = text[kind % 4]
    number = iter(range(10**9))
    return Case(
        tuple(
            "profiles:\n" + "".join(f"- {one % next(number)}\n" for _ in range(profiles))
            for _ in range(max(1, min(configmaps, 300)))
        )
    )


def patterns(count: int, stars: int, length: int) -> Case:
    """Images with stars, against a long one that a person sent."""
    entries = (f"'{'*a' * stars}*{number % 10}*'" for number in range(count))
    case = _profiles("{images: [" + ", ".join(entries) + "]}")
    return Case(case.texts, Subject("ada", _GROUPS, "a" * max(1, length) + "b"))


def infixes(count: int, length: int, image: int) -> Case:
    """Different patterns of all kinds of ends."""
    entries = (
        f"'{'a' * (number % max(1, length))}*{number}*{'a' * (number // max(1, length) % 100)}'"
        for number in range(count)
    )
    case = _profiles("{images: [" + ", ".join(entries) + "]}")
    return Case(case.texts, Subject("ada", _GROUPS, "a" * max(1, image)))


def groups(profiles: int, each: int, kind: int) -> Case:
    """Profiles for the same groups, and images."""
    listed = ", ".join(f"g{number}" for number in range(max(1, min(each, 250))))
    images = ", images: ['*/example/*', 'quay*', '*1']" if kind % 2 else ""
    return _profiles(f"{{groups: &g [{listed}]{images}}}", *[f"{{groups: *g{images}}}"] * profiles)


def everybody(profiles: int, values: int, kind: int) -> Case:
    """One profile over and over, which fits everybody."""
    heads = (
        ("env", "{%s}", "A%d: b"),
        ("labels", "{%s}", "a%d: b"),
        ("node_tolerations", "[%s]", "{key: a%d, operator: Exists}"),
        ("env_from", "[%s]", "{secretRef: {name: a%d}}"),
        ("volumes", "[%s]", "{name: a%d, emptyDir: {}, mountPath: /m%d}"),
        ("annotations", "{%s}", "a%d: b"),
        ("resources", "{limits: {%s}}", "a.b/c%d: 1"),
        (
            "volumes",
            "[%s]",
            "{name: a%d, mountPath: /m%d, configMap: {name: 'a-{username}', items: [{key: a, path: b}]}}",
        ),
    )
    section, around, item = heads[kind % len(heads)]
    listed = ", ".join(item.replace("%d", str(number)) for number in range(values))
    return _profiles(f"&a {{{section}: {around % listed}}}", *["*a"] * profiles)


def overriding(profiles: int, values: int, length: int) -> Case:
    """Profiles that each give all variables anew."""
    value = "x" * length
    return _profiles(
        *(
            "{env: {" + ", ".join(f"A{name}: {number}{value}" for name in range(values)) + "}}"
            for number in range(profiles)
        )
    )


def nested_merge_keys(levels: int, keys: int, aliases: int) -> Case:
    """Merge keys within merge keys."""
    inner = "{" + ", ".join(f"A{number}: b" for number in range(keys)) + "}"
    for _ in range(min(levels, 44)):
        inner = f"{{<<: {inner}}}"
    return _profiles(f"&a {{env: {inner}}}", *["*a"] * aliases)


def sizes(count: int, values: int, length: int) -> Case:
    """Sizes on a form."""
    limits = ", ".join(f"a.b/c{number}: 1" for number in range(values))
    listed = "".join(
        f"- {{name: s{number}, description: '{'<' * length}', resources: {{limits: {{{limits}}}}}}}\n"
        for number in range(max(1, count))
    )
    return Case((f"profiles: []\nsizes:\n{listed}",))


def preferences(count: int, expressions: int, values: int) -> Case:
    """Preferences of nodes, large ones."""
    listed = ", ".join(f"v{number}" for number in range(max(1, values)))
    terms = ", ".join(f"{{key: a{number}, operator: In, values: [{listed}]}}" for number in range(max(1, expressions)))
    each = f"{{weight: 1, preference: {{matchExpressions: [{terms}]}}}}"
    listed = ", ".join([f"&a {each}", *["*a"] * count])
    return _profiles(f"{{node_affinity: {{preferredDuringSchedulingIgnoredDuringExecution: [{listed}]}}}}")


FAMILIES: Mapping[str, Family] = MappingProxyType(
    {
        each.__name__: each
        for each in (
            affinity,
            references,
            long_text,
            placeholders,
            several,
            patterns,
            infixes,
            groups,
            everybody,
            overriding,
            nested_merge_keys,
            sizes,
            preferences,
        )
    }
)

KNOWN: Mapping[str, tuple[int, int, int]] = MappingProxyType(
    {
        "affinity": (300, 100, 1),
        "references": (1, 65_000, 0),
        "long_text": (4_000, 500_000, 0),
        "placeholders": (300, 50_000, 1),
        "several": (100, 600, 0),
        "patterns": (200, 10, 10_000_000),
    }
)
"""Where the search begins, besides at random: what a review found, by its family."""


def _expand(template: str) -> str:
    fields = {"username": "ada", "user_server": "ada", "servername": "", "userid": 1}
    return template.format(**fields).rstrip("-")


def measure_case(case: Case) -> dict[str, float]:
    """What reading and using documents takes, by the names of `MEASURES`, and the ``bytes`` of the documents."""
    forget_peak_rss()
    before = peak_rss_bytes()
    costs: dict[str, float] = {"bytes": sum(len(text.encode()) for text in case.texts)}
    began = time.perf_counter()
    documents: list[Document] = []
    slowest = 0.0
    for text in case.texts:
        began = time.perf_counter()
        try:
            documents.append(parse_document(text))
        except DocumentError as error:
            costs["refused"] = 1
            str(error)
        slowest = max(slowest, time.perf_counter() - began)
    costs["parse"], costs["memory"] = slowest, peak_rss_bytes() - before
    if len(documents) < len(case.texts):
        return costs
    document = combine_documents(documents[0], documents[1:]).document if documents[1:] else documents[0]
    own: Any = V1Pod(metadata=V1ObjectMeta(), spec=V1PodSpec(containers=[V1Container(name="notebook")]))
    # The least of several: what other processes take is none of ours.
    for _ in range(_RUNS):
        began = last = time.perf_counter()

        def pass_by(name: str) -> None:
            nonlocal last
            now = time.perf_counter()
            costs[name] = min(now - last, costs.get(name, now))
            last = now

        try:
            applied = match_profiles(document, case.subject)
            pass_by("match")
            check_applied(applied)
            effective = merge_profiles(applied)
            pass_by("merge")
            inject_profile(own, effective, "source", _expand)
            pass_by("inject")
        except PodError as error:
            str(error)
            pass_by("refusal")
        costs["start"] = min(last - began, costs.get("start", last))
        began = time.perf_counter()
        format_form(find_sizes(document, case.subject))
        costs["form"] = min(time.perf_counter() - began, costs.get("form", began))
    return costs


@dataclass(slots=True)
class _Worst:
    cost: float = 0
    size: int = 0
    numbers: tuple[int, int, int] = (0, 0, 0)
    said: str = ""


def find_worst(family: Family, name: str, seconds: float, seed: int = 0) -> dict[str, _Worst]:
    """Climbs for so long, and gives the worst found of each of `MEASURES`."""
    chance = random.Random(seed)
    found = {measure: _Worst() for measure in MEASURES}
    ends = time.monotonic() + seconds
    tries: list[tuple[int, int, int]] = [KNOWN[name]] if name in KNOWN else []
    tries += [(20, 10, 9), (100, 10, 1), (1_000, 10, 2), (10_000, 2, 3), (10, 1_000, 4)]
    while tries or time.monotonic() < ends:
        if tries:
            numbers = tries.pop(0)
        else:
            best = chance.choice([worst for worst in found.values() if worst.size] or [_Worst(numbers=(10, 10, 1))])
            numbers = _step(best.numbers, chance)
        case = family(*numbers)
        if max(len(text) for text in case.texts) > MAX_BYTES:
            continue
        try:
            costs = call_within(lambda: measure_case(case), cpu_seconds=_CPU_SECONDS, memory_bytes=_MEMORY_BYTES)  # noqa: B023
        except BeyondBoundsError as fault:
            size = sum(len(text.encode()) for text in case.texts)
            costs = {"bytes": size, "start" if str(fault) == "cpu" else "memory": float("inf"), "fault": str(fault)}
        for measure, worst in found.items():
            if costs.get(measure, 0) > worst.cost:
                said = costs.get("fault") or ("refused" if "refused" in costs or "refusal" in costs else "")
                found[measure] = _Worst(costs[measure], int(costs["bytes"]), numbers, str(said))
        if time.monotonic() > ends:
            break
    return found


def _step(numbers: tuple[int, int, int], chance: random.Random) -> tuple[int, int, int]:
    changed = list(numbers)
    place = chance.randrange(3)
    changed[place] = max(0, int(changed[place] * chance.choice((0.5, 0.8, 1.25, 2, 4))) + chance.choice((-1, 0, 1)))
    return changed[0], changed[1], changed[2]


def _show(measure: str, worst: _Worst) -> str:
    if worst.cost == float("inf"):
        return f"> {_CPU_SECONDS} s" if measure != "memory" else "all"
    return f"{worst.cost / 2**20:.0f} MiB" if measure == "memory" else f"{worst.cost * 1e3:.1f} ms"


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m fuzz.worst", description=__doc__)
    parser.add_argument("--seconds", type=float, default=300, help="how long, all families together (default: 300)")
    parser.add_argument("--family", action="append", choices=list(FAMILIES), help="all of them by default")
    arguments = parser.parse_args()
    names = arguments.family or list(FAMILIES)
    overall: dict[str, tuple[str, _Worst]] = {}
    for name in names:
        found = find_worst(FAMILIES[name], name, arguments.seconds / len(names))
        shown = ", ".join(f"{measure} {_show(measure, worst)}" for measure, worst in found.items() if worst.size)
        print(f"{name:18} {shown}", flush=True)
        for measure, worst in found.items():
            if measure not in overall or worst.cost > overall[measure][1].cost:
                overall[measure] = name, worst
    print(f"\n{'worst of':8} {'cost':>10} {'bytes':>10}  family and its numbers")
    for measure, (name, worst) in overall.items():
        print(f"{measure:8} {_show(measure, worst):>10} {worst.size:10,}  {name}{worst.numbers} {worst.said}")


if __name__ == "__main__":
    main()
