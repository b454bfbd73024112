"""``python -m fuzz.worst``: searches for the document that costs a hub most.

Each family writes documents of one kind, by a few numbers. A search climbs from several places towards what costs most,
for each thing that costs: reading a document (time, memory), a start of a server, also of one that the API server
refuses, and a spawn page's form. Documents that are not valid count for what reading them takes.

Times are the processor's, so that what else the machine does matters little.
"""

from __future__ import annotations

import argparse
import asyncio
import random
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from types import MappingProxyType

from profiled_spawner.decide.choices import find_offer
from profiled_spawner.decide.matching import Subject
from profiled_spawner.document.model import Document, combine_documents
from profiled_spawner.document.parser import parse_document
from profiled_spawner.errors import DocumentError
from profiled_spawner.hub.spawn_form import format_form
from profiled_spawner.sources.threads import low_latency

from .limits import BeyondBoundsError, call_within, forget_peak_rss, peak_rss_bytes
from .starting import measure_start

__all__ = ["BOUNDS", "FAMILIES", "MEASURES", "Case", "find_worst", "measure_case"]

MEASURES = ("parse", "memory", "hold", "loop", "refusal", "form")
"""What is searched for: seconds, but for ``memory``, which is bytes. ``hold`` is how much longer a step of a start
keeps the event loop at a time than stock KubeSpawner's, which is given the pod; ``loop`` how much longer all of it
does; and ``refusal`` is as ``hold``, where the API server refuses the pod."""

BOUNDS: Mapping[str, float] = MappingProxyType(
    {"parse": 2, "memory": 300 * 2**20, "hold": 0.005, "refusal": 0.005, "form": 0.02}
)
"""What each may cost at most, for whatever document."""

_MAX_BYTES = 2**20
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
    subject: Subject = field(default=Subject("ada", _GROUPS, "quay.io/example/notebook:1", 0))


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
    entries = (f"'{'*a' * stars}*{number}*'" for number in range(count))
    case = _profiles("{images: [" + ", ".join(entries) + "]}")
    return Case(case.texts, Subject("ada", _GROUPS, "a" * max(1, length) + "b", 0))


def infixes(count: int, length: int, image: int) -> Case:
    """Different patterns of all kinds of ends."""
    entries = (
        f"'{'a' * (number % max(1, length))}*{number}*{'a' * (number // max(1, length) % 100)}'"
        for number in range(count)
    )
    case = _profiles("{images: [" + ", ".join(entries) + "]}")
    return Case(case.texts, Subject("ada", _GROUPS, "a" * max(1, image), 0))


def groups(profiles: int, each: int, kind: int) -> Case:
    """Profiles for the same groups, and images."""
    listed = ", ".join(f"g{number}" for number in range(max(1, min(each, 250))))
    images = ", images: ['*/example/*', 'quay*', '*1']" if kind % 2 else ""
    return _profiles(f"{{groups: &g [{listed}]{images}}}", *[f"{{groups: *g{images}}}"] * profiles)


def everybody(profiles: int, values: int, kind: int) -> Case:
    """One profile over and over, which matches everybody."""
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


def filters(profiles: int, names: int, kind: int) -> Case:
    """Profiles that name very many, all different or all the same."""
    number = iter(range(10**9))
    each = ("u%d", "g%d", "a%d", "a%d*")[kind % 4]
    key = ("users", "groups", "images", "images")[kind % 4]
    listed = (", ".join(repr(each % next(number)) for _ in range(names)) for _ in range(max(1, profiles)))
    return _profiles(*(f"{{{key}: [{names}]}}" for names in listed))


def matching(configmaps: int, patterns: int, length: int) -> Case:
    """Selected ConfigMaps with patterns that nearly match a long image."""
    number = iter(range(10**9))
    length = max(1, min(length, 1_024))
    entries = (
        ", ".join(f"'{'*a' * 3}*{next(number)}*'" for _ in range(max(1, patterns)))
        for _ in range(max(1, min(configmaps, 100)))
    )
    return Case(
        tuple(f"profiles:\n- {{images: [{each}]}}\n" for each in entries), Subject("ada", _GROUPS, "a" * length, 0)
    )


_ODD = ("{", "}", "\\\\", '\\"', "$", "\\n", "\\u0001", "\\\\u0041", "\\U0001F600", "\u4e2d", "😀", "$$(a)", "'", " ")


def odd_values(variables: int, length: int, kind: int) -> Case:
    """Values full of what has a meaning to somebody."""
    text = _ODD[kind % len(_ODD)] * length
    return _profiles("{env: {" + ", ".join(f'A{number}: "{number}{text}"' for number in range(variables)) + "}}")


def odd_annotations(annotations: int, length: int, kind: int) -> Case:
    """Annotations, likewise."""
    text = _ODD[kind % len(_ODD)] * length
    listed = ", ".join(f'a{number}: "{number}{text}"' for number in range(annotations))
    return _profiles(f"{{annotations: {{{listed}}}}}")


def long_names(variables: int, length: int, kind: int) -> Case:
    """Long names of variables, of profiles and of what else has one."""
    if kind % 3 == 1:
        return _profiles(*(f"{{name: '{number}{'中' * min(length, 990)}'}}" for number in range(variables)))
    if kind % 3 == 2:
        return _profiles(*(f"{{name: '{number}{' ' * min(length, 990)}'}}" for number in range(variables)))
    return _profiles("{env: {" + ", ".join(f"A{'a' * length}{number}: b" for number in range(variables)) + "}}")


def everything(percent: int, length: int, profiles: int) -> Case:
    """One profile with as much of everything as a server can have, or some percent of that."""

    def give(most: int, section: str, item: str) -> str:
        count = min(percent, 100) * most // 100
        return section.replace("%", ", ".join(item.replace("%", str(number)) for number in range(count)))

    text = "x" * length
    volume = "{name: a%, mountPath: '/m%/{username}', nfs: {server: s, path: '/{username}/%'}}"
    term = "{matchExpressions: [{key: a%, operator: Exists}]}"
    required = "requiredDuringSchedulingIgnoredDuringExecution"
    terms = f"[{term.replace('%', 'x')}, %]"
    sections = (
        give(300, "env: {%}", f"A%: $(A0){text}"),
        give(50, "env_from: [%]", "{secretRef: {name: 'a%-{username}'}}"),
        f"resources: {{{give(20, 'limits: {%}', 'a.b/c%: 1')}, {give(20, 'requests: {%}', 'a.b/d%: 1')}}}",
        give(100, "node_selector: {%}", "a%: b"),
        give(50, "node_tolerations: [%]", "{key: a%, operator: Exists}"),
        give(60, "volumes: [%]", volume),
        give(100, "labels: {%}", "a%: b"),
        give(100, "annotations: {%}", f"a%: b{text}"),
        f"node_affinity: {{{required}: {{nodeSelectorTerms: {give(40, terms, term)}}}}}",
    )
    return _profiles("&a {" + ", ".join(sections) + "}", *["*a"] * profiles)


def many_sizes(length: int, resources: int, kind: int) -> Case:
    """As many sizes as there can be, with long texts."""
    text = ("<", "中", "x", "&")[kind % 4] * max(1, min(length, 990))
    amounts = ", ".join(f"{'a' * max(1, min(200, length))}.b/c{number}: 1" for number in range(min(resources, 20)))
    first = f"description: &d '{text}', resources: &r {{limits: &l {{{amounts}}}, requests: *l}}"
    listed = "".join(
        f"- {{name: '{n}{text}', {'description: *d, resources: *r' if n else first}}}\n" for n in range(100)
    )
    return Case((f"profiles: []\nsizes:\n{listed}",))


def nodes(count: int, width: int, kind: int) -> Case:
    """Very many nodes, of every kind that a few characters make."""
    unit = ("{}", "[]", "{name: a}", "{a: b}", "a", "{env: {A: b}}", "{users: [a]}", "{labels: {a: b}}")[kind % 8]
    first = f"- &a {{users: [{', '.join('a' * max(1, width))}]}}\n"
    return Case((f"profiles:\n{first}" + f"- {unit}\n" * count,))


def mistakes(count: int, length: int, kind: int) -> Case:
    """Documents with errors, of which each is the costliest of its kind to tell."""
    text = "x" * length
    unit = (
        "{%d: a}",
        "{env: {1A%d: a}}",
        "{resources: {limits: {m%d: 1}}}",
        "{resources: {mem_limit: %dQ}}",
        "{volumes: [{name: A%d, mountPath: a}]}",
        "{labels: {-a%d: b}}",
        "{images: ['**************%d']}",
        "{env: [{name: A%d}]}",
        "{enviroment%d: a}",
        "{volumes: [{name: a, mountPath: /a, nfs: {server: s, path: '/{user%d}'}}]}",
    )[kind % 10]
    lines = "".join(f"- {unit % number}\n" for number in range(count))
    return Case((f"profiles:\n- {{env: {{A: '{text}'}}}}\n{lines}",))


def no_yaml(count: int, length: int, kind: int) -> Case:
    """Texts in which YAML ends before the text does."""
    end = ("\t- a", "- {a: b", "- 'a", "- *a", "- !a b", "- a: b: c", "%TAG ! a", "\0", "- " + "[" * 60, "]")[kind % 10]
    return Case((f"profiles:\n- {{env: {{A: '{'x' * length}'}}}}\n" + "- {name: a}\n" * count + end + "\n",))


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
            filters,
            matching,
            odd_values,
            odd_annotations,
            long_names,
            everything,
            many_sizes,
            nodes,
            mistakes,
            no_yaml,
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
        "patterns": (8_000, 10, 10_000_000),
    }
)
"""What held a hub for very long, or took all its memory, before there were limits, by its family."""

_COSTLIEST: Mapping[str, tuple[int, int, int]] = MappingProxyType(
    {
        "placeholders": (8_000, 1, 2),
        "overriding": (30, 300, 90),
        "matching": (100, 300, 1_024),
        "odd_values": (10, 40_000, 2),
        "everything": (100, 100, 0),
        "many_sizes": (990, 20, 0),
        "nodes": (60_000, 2, 6),
        "mistakes": (20_000, 2, 2),
    }
)
"""What costs most now, as far as it is known."""


def measure_case(case: Case, runs: int = 1) -> dict[str, float]:
    """What reading and using documents takes, by the names of `MEASURES`: the least of some runs.

    Beside these, ``bytes`` is the documents' size, ``pod`` the pod's, and ``stock`` what stock KubeSpawner takes.
    ``refused`` is there where there is no such document, or no such start.
    """
    costs: dict[str, float] = {"bytes": sum(len(text.encode()) for text in case.texts)}
    forget_peak_rss()
    before = peak_rss_bytes()
    documents: list[Document] = []
    for _ in range(runs):
        documents.clear()
        slowest = 0.0
        for text in case.texts:
            # As a hub reads it.
            with low_latency(len(text)):
                began = time.thread_time()
                try:
                    documents.append(parse_document(text))
                except DocumentError as error:
                    costs["refused"] = 1
                    str(error)
                slowest = max(slowest, time.thread_time() - began)
        costs["parse"] = min(slowest, costs.get("parse", slowest))
    costs["memory"] = peak_rss_bytes() - before
    if len(documents) < len(case.texts):
        return costs
    document = combine_documents(documents[0], documents[1:]).document if documents[1:] else documents[0]
    for name, refuses in (("hold", False), ("refusal", True)):
        size = document.sizes[-1].name if document.sizes else None
        ours, stock = asyncio.run(measure_start(document, case.subject, size=size, refuses=refuses, runs=3 * runs))
        costs[name] = max(mine - its for mine, its in zip(ours.longest, stock.longest, strict=False))
        if ours.is_refused:
            costs["refused"] = 1
        if not refuses:
            costs |= {"loop": ours.total - stock.total, "stock": stock.total, "pod": ours.pod_bytes}
    for _ in range(runs + 2):
        began = time.thread_time()
        format_form(find_offer(document, case.subject), None, document.timezone, case.subject.at)
        took = time.thread_time() - began
        costs["form"] = min(took, costs.get("form", took))
    return costs


def measure_stall(case: Case, runs: int = 3) -> float:
    """The longest that an event loop stands still while the documents are read in a thread: the least of some runs.

    These seconds are the clock's: what else the machine does is in them.
    """

    def parse() -> None:
        with low_latency(sum(map(len, case.texts))):
            for text in case.texts:
                try:
                    parse_document(text)
                except DocumentError as error:
                    str(error)

    async def watch() -> float:
        thread = threading.Thread(target=parse)
        longest, last = 0.0, time.perf_counter()
        thread.start()
        while thread.is_alive():
            await asyncio.sleep(0.001)
            now = time.perf_counter()
            longest, last = max(longest, now - last - 0.001), now
        return longest

    return min(asyncio.run(watch()) for _ in range(runs))


@dataclass(slots=True)
class Worst:
    """The costliest that was found of something.

    Attributes:
        cost: As `MEASURES` has it.
        size: The documents' bytes.
        numbers: The family's.
        said: What else there is to say: ``refused``, or what ended it.
    """

    cost: float = 0
    size: int = 0
    numbers: tuple[int, int, int] = (0, 0, 0)
    said: str = ""


def _measure(case: Case, runs: int) -> dict[str, float | str]:
    try:
        costs: dict[str, float | str] = call_within(
            lambda: measure_case(case, runs), cpu_seconds=_CPU_SECONDS * runs, memory_bytes=_MEMORY_BYTES
        )
    except BeyondBoundsError as fault:
        ended = str(fault)
        size = sum(len(text.encode()) for text in case.texts)
        return {"bytes": size, "memory" if ended == "memory" else "hold": float("inf"), "said": ended}
    if "refused" in costs:
        costs["said"] = "refused"
    return costs


def find_worst(family: Family, name: str, seconds: float, seed: int = 0) -> dict[str, Worst]:
    """Climbs for so long, and gives the worst found of each of `MEASURES`."""
    chance = random.Random(seed)
    found = {measure: Worst() for measure in MEASURES}
    ends = time.monotonic() + seconds
    tries = [known[name] for known in (KNOWN, _COSTLIEST) if name in known]
    tries += [(20, 10, 9), (100, 10, 1), (1_000, 10, 2), (10_000, 2, 3), (10, 1_000, 4)]
    tries += [(200, 200, kind) for kind in range(15)]
    while tries or time.monotonic() < ends:
        if tries:
            numbers = tries.pop(0)
        else:
            best = chance.choice([worst for worst in found.values() if worst.size] or [Worst(numbers=(10, 10, 1))])
            numbers = _step(best.numbers, chance)
        case = family(*numbers)
        if max(len(text.encode()) for text in case.texts) > _MAX_BYTES:
            continue
        costs = _measure(case, 1)
        for measure, worst in found.items():
            cost = float(costs.get(measure, 0))
            if cost > worst.cost:
                found[measure] = Worst(cost, int(costs["bytes"]), numbers, str(costs.get("said", "")))
        if time.monotonic() > ends:
            break
    return found


def _step(numbers: tuple[int, int, int], chance: random.Random) -> tuple[int, int, int]:
    changed = list(numbers)
    place = chance.randrange(3)
    changed[place] = max(0, int(changed[place] * chance.choice((0.5, 0.8, 1.25, 2, 4))) + chance.choice((-1, 0, 1)))
    return changed[0], changed[1], changed[2]


def _show(measure: str, cost: float) -> str:
    if cost == float("inf"):
        return "all" if measure == "memory" else f"> {_CPU_SECONDS} s"
    return f"{cost / 2**20:.0f} MiB" if measure == "memory" else f"{cost * 1e3:.1f} ms"


def _confirm(family: Family, found: dict[str, Worst]) -> None:
    """Measures again, with care, what a search has found in one run each."""
    costly = [worst for worst in found.values() if worst.size and worst.cost < float("inf")]
    again = {numbers: _measure(family(*numbers), 3) for numbers in {worst.numbers for worst in costly}}
    for measure, worst in found.items():
        if worst in costly:
            worst.cost = float(again[worst.numbers].get(measure, 0))


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m fuzz.worst", description=__doc__)
    parser.add_argument("--seconds", type=float, default=300, help="how long, all families together (default: 300)")
    parser.add_argument("--family", action="append", choices=list(FAMILIES), help="all of them by default")
    arguments = parser.parse_args()
    names = arguments.family or list(FAMILIES)
    overall = {measure: ("", Worst()) for measure in MEASURES}
    print(f"{'family':18}" + "".join(f"{measure:>11}" for measure in MEASURES))
    for name in names:
        found = find_worst(FAMILIES[name], name, arguments.seconds / len(names))
        _confirm(FAMILIES[name], found)
        print(
            f"{name:18}" + "".join(f"{_show(*each):>11}" for each in ((m, w.cost) for m, w in found.items())),
            flush=True,
        )
        for measure, worst in found.items():
            if worst.cost > overall[measure][1].cost:
                overall[measure] = name, worst
    print(f"\n{'worst of':8} {'cost':>11} {'at most':>11} {'bytes':>10}  family and its numbers")
    for measure, (name, worst) in overall.items():
        shown, most = _show(measure, worst.cost), _show(measure, BOUNDS[measure]) if measure in BOUNDS else ""
        print(f"{measure:8} {shown:>11} {most:>11} {worst.size:10,}  {name}{worst.numbers} {worst.said}")
    name, worst = overall["parse"]
    if worst.size:
        case = FAMILIES[name](*worst.numbers)
        stall = call_within(lambda: measure_stall(case), cpu_seconds=_CPU_SECONDS * 3, memory_bytes=_MEMORY_BYTES)
        print(f"While that one is parsed in a thread, an event loop stands still for {stall * 1e3:.0f} ms at most.")


if __name__ == "__main__":
    main()
