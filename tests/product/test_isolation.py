"""Everybody gets what the specification gives them, and nothing of anybody else.

What is expected comes from an oracle of its own, which is written from the specification as plainly as can be and
shares no code with the package. Every value that a profile gives is a token that tells its hub, its version of the
document and its profile, so that one that strays is known by its name.

``ISOLATION_SPAWNS=10000 pytest tests/product/test_isolation.py`` is the long run; without it, the thousand spawns of a
short one.
"""

from __future__ import annotations

import asyncio
import contextlib
import copy
import dataclasses
import json
import os
import random
import re
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from decimal import Decimal
from fractions import Fraction
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st
from kubernetes_asyncio.client import V1Pod
from kubespawner import KubeSpawner
from kubespawner.objects import make_pod
from traitlets.config import Config

from profiled_spawner import ProfiledKubeSpawner
from profiled_spawner.decide.matching import Subject, match_profiles
from profiled_spawner.decide.merging import merge_profiles
from profiled_spawner.document.parser import parse_document
from profiled_spawner.hub.spawner import ProfilesUnavailableError
from profiled_spawner.pod.patch import find_image, inject_profile
from sandbox.api import EmbeddedAPI, Fault
from sandbox.status import StatusError

from ..conftest import CONFIGMAP, NAMESPACE, MakeSpawner, WriteProfiles

SPAWNS = int(os.environ.get("ISOLATION_SPAWNS", "1000"))
HUBS = 5

USERS = ["ada", "Ada", "grace", "alan"]
GROUPS = ["forecasters", "teachers", "*"]
IMAGES = [
    "quay.io/x/nb",
    "quay.io/x/nb:latest",
    "quay.io/x/nb:1",
    "x/nb:1",
    "docker.io/x/nb:1",
    "nb",
    "localhost:5000/nb",
    "localhost:5000/nb:latest",
    "quay.io/x/nb@sha256:0a",
    "quay.io/x/nb:1@sha256:0a",
]
PATTERNS = [
    "*",
    "**",
    "quay.io/x/*",
    "*nb:1",
    "quay.io/*/nb",
    "*:latest",
    "*nb",
    "x/nb:*",
    "*@sha256:*",
    "*:*:*",
    "n*b",
]
VARIABLES = ["A", "B", "C", "SHARED", "HUB_OWN"]
AMOUNTS: dict[str, dict[str, Fraction]] = {
    "memory": {"512Mi": Fraction(2**29), "1Gi": Fraction(2**30), "2G": Fraction(2 * 10**9), "3e9": Fraction(3 * 10**9)},
    "cpu": {"500m": Fraction(1, 2), "1": Fraction(1), "1.5": Fraction(3, 2), "2": Fraction(2)},
    "nvidia.com/gpu": {"1": Fraction(1), "2": Fraction(2)},
}
SHORT = {
    ("limits", "memory"): "mem_limit",
    ("limits", "cpu"): "cpu_limit",
    ("requests", "memory"): "mem_guarantee",
    ("requests", "cpu"): "cpu_guarantee",
}
HUB_VARIABLES = {
    ("limits", "memory"): "MEM_LIMIT",
    ("limits", "cpu"): "CPU_LIMIT",
    ("requests", "memory"): "MEM_GUARANTEE",
    ("requests", "cpu"): "CPU_GUARANTEE",
}
TOKEN = re.compile(r"\bt(?:[0-9]+\.){3}[0-9]+\b")

Json = dict[str, Any]
Amounts = dict[tuple[str, str], Fraction]


# What an author may write.


def invent_document(rng: random.Random, stamp: str) -> list[Json]:
    """Profiles as an author writes them; the stamp makes their names and values unique."""
    return [invent_profile(rng, f"{stamp}.{index}") for index in range(rng.randrange(6))]


def invent_profile(rng: random.Random, stamp: str) -> Json:
    profile: Json = {"name": stamp}
    if rng.random() < 0.5:
        profile["users"] = rng.sample([*USERS, "*"], rng.randrange(4))
    if rng.random() < 0.4:
        profile["groups"] = rng.sample(GROUPS, rng.randrange(3))
    if rng.random() < 0.5:
        profile["images"] = rng.sample([*IMAGES, *PATTERNS, "*"], rng.randrange(6))
    if rng.random() < 0.8:
        profile["env"] = {
            name: invent_value(rng, f"{stamp}.{number}")
            for number, name in enumerate(rng.sample(VARIABLES, rng.randrange(5)))
        }
    if rng.random() < 0.7:
        profile["resources"] = invent_resources(rng)
    return profile


def invent_value(rng: random.Random, token: str) -> Any:
    kind = rng.random()
    if kind < 0.1:
        return None
    if kind < 0.2:
        return {"valueFrom": {"secretKeyRef": {"name": token, "key": "password"}}}
    return token + rng.choice(["", "", ' {"a": 1} ${HOME}', *(f" $({name})" for name in VARIABLES)])


def invent_resources(rng: random.Random) -> Json:
    resources: Json = {}
    for kind in ("limits", "requests"):
        for resource, amounts in AMOUNTS.items():
            if rng.random() < 0.6:
                continue
            zero = ["0"] if kind == "requests" or "/" in resource else []
            amount = rng.choice([*amounts, *zero, None])
            short = SHORT.get((kind, resource))
            if short and rng.random() < 0.5:
                resources[short] = amount
            else:
                resources.setdefault(kind, {})[resource] = amount
    return resources


# What the specification says of it.


@dataclass
class Expected:
    applied: list[str] = field(default_factory=list)
    env: dict[str, Any] = field(default_factory=dict)
    amounts: Amounts = field(default_factory=dict)


def expect(
    profiles: list[Json], user: str, groups: list[str], image: str, own_env: dict[str, str], own: Amounts, order: str
) -> Expected:
    matching = [profile for profile in profiles if matches(profile, user, groups, image)]
    if order == "specificity":
        matching = [profile for names in (0, 1, 2) for profile in matching if count_named(profile) == names]
    expected = Expected([profile["name"] for profile in matching], dict(own_env), dict(own))
    for profile in matching:
        for name, value in profile.get("env", {}).items():
            expected.env[name] = value
        for place, amount in amounts_of(profile).items():
            expected.amounts[place] = amount
    expected.env = {name: value for name, value in expected.env.items() if value is not None}
    expected.amounts = {place: amount for place, amount in expected.amounts.items() if amount is not None}
    settle(expected.amounts)
    return expected


def matches(profile: Json, user: str, groups: list[str], image: str) -> bool:
    if "users" not in profile and "groups" not in profile:
        who = True
    else:
        users = profile.get("users", [])
        who = user in users or "*" in users or any(group in groups for group in profile.get("groups", []))
    what = "images" not in profile or any(matches_entry(entry, image) for entry in profile["images"])
    return who and what


def matches_entry(entry: str, image: str) -> bool:
    """`:latest` may stand on one of the two, or a tag beside the image's digest; `*` is any run."""
    spellings = {image}
    if "@" in image:
        spellings.add(re.sub(r":[^/:@]*@", "@", image))
    elif image.endswith(":latest"):
        spellings.add(image[: -len(":latest")])
    elif ":" not in image.split("/")[-1]:
        spellings.add(image + ":latest")
    pattern = ".*".join(re.escape(part) for part in entry.split("*"))
    return any(re.fullmatch(pattern, spelling) for spelling in spellings)


def count_named(profile: Json) -> int:
    who = ("users" in profile or "groups" in profile) and "*" not in profile.get("users", [])
    what = "images" in profile and "*" not in profile["images"]
    return int(who) + int(what)


def amounts_of(profile: Json) -> dict[tuple[str, str], Fraction | None]:
    said: dict[tuple[str, str], Fraction | None] = {}
    resources = profile.get("resources", {})
    for kind in ("limits", "requests"):
        for resource in AMOUNTS:
            for key, written in ((resource, resources.get(kind, {})), (SHORT.get((kind, resource)), resources)):
                if key in written:
                    said[kind, resource] = None if written[key] is None else amount_of(resource, written[key])
    return said


def amount_of(resource: str, text: str) -> Fraction:
    known = AMOUNTS[resource].get(text)
    # KubeSpawner's own amounts are plain numbers.
    return Fraction(text) if known is None else known


def settle(amounts: Amounts) -> None:
    """A limit wins over a guarantee; what cannot be overcommitted has both, and they are equal."""
    for resource in AMOUNTS:
        limit, request = amounts.get(("limits", resource)), amounts.get(("requests", resource))
        if "/" in resource and (limit is not None or request is not None):
            amount = request if limit is None else limit
            # Of a device, 0 is none at all.
            for kind in ("limits", "requests"):
                amounts[kind, resource] = amount
                if not amount:
                    del amounts[kind, resource]
        elif limit is not None and request is not None and request > limit:
            amounts["requests", resource] = limit


# What a pod has.


def assert_pod_is(pod: V1Pod, expected: Expected) -> None:
    container = pod.spec.containers[0]
    env = {variable.name: value_of(variable) for variable in container.env}
    assert len(env) == len(container.env)
    hub_variables = {name: Fraction(env[name]) for name in HUB_VARIABLES.values() if name in env}
    assert hub_variables == {
        name: expected.amounts[place] for place, name in HUB_VARIABLES.items() if place in expected.amounts
    }
    assert {name: env[name] for name in env.keys() & {*VARIABLES}} == expected.env
    amounts = {
        (kind, resource): amount_of(resource, str(amount))
        for kind in ("limits", "requests")
        for resource, amount in (getattr(container.resources, kind) or {}).items()
    }
    assert amounts == expected.amounts
    assert json.loads(pod.metadata.annotations["profiled-spawner/applied"]) == expected.applied
    assert set(TOKEN.findall(str(pod.spec.to_dict()))) == set(TOKEN.findall(str(expected.env)))
    assert_references_can_be_expanded(env)


def value_of(variable: Any) -> Any:
    if variable.value_from is None:
        return variable.value
    selector = variable.value_from.secret_key_ref
    return {"valueFrom": {"secretKeyRef": {"name": selector.name, "key": selector.key}}}


def assert_references_can_be_expanded(env: dict[str, Any]) -> None:
    """What is referred to comes first, but in a circle."""
    refers = {name: re.findall(r"\$\((\w+)\)", value) for name, value in env.items() if isinstance(value, str)}
    position = {name: number for number, name in enumerate(env)}

    def reach(name: str, seen: frozenset[str] = frozenset()) -> frozenset[str]:
        for other in refers.get(name, ()):
            if other not in seen:
                seen = reach(other, seen | {other})
        return seen

    for name in env:
        for other in refers.get(name, ()):
            if other in env and name not in reach(other):
                assert position[other] < position[name], f"{name} refers to {other}, which comes later"


def deface(pod: V1Pod) -> None:
    """What a hook may do to a pod: all of it is that pod's own."""
    container = pod.spec.containers[0]
    for variable in container.env:
        variable.value = "defaced"
        if variable.value_from:
            variable.value_from.secret_key_ref.name = "defaced"
    container.env.clear()
    for amounts in (container.resources.limits, container.resources.requests):
        amounts.update(dict.fromkeys(amounts, "defaced"))
    pod.metadata.annotations.clear()


def anatomy(value: Any) -> Any:
    """A value and whatever is in it, with types and order, as something that compares."""
    if dataclasses.is_dataclass(value):
        fields = [(each.name, anatomy(getattr(value, each.name))) for each in dataclasses.fields(value)]
        return (type(value), fields)
    if isinstance(value, Mapping):
        return (type(value), [(key, anatomy(item)) for key, item in value.items()])
    if isinstance(value, Decimal):
        return (Decimal, value.as_tuple())
    if isinstance(value, frozenset):
        return (frozenset, sorted(value))
    if isinstance(value, tuple):
        return (tuple, [anatomy(item) for item in value])
    return (type(value), value)


OWN_ENV = {"HUB_OWN": "hub", "SHARED": "hub"}


def make_own_pod(image: str, own: Amounts) -> V1Pod:
    """A pod as KubeSpawner makes it of the hub's settings."""
    variables = {HUB_VARIABLES[place]: str(float(amount)) for place, amount in own.items()}
    numbers = {SHORT[place]: float(amount) for place, amount in own.items()}
    return make_pod(
        name="jupyter-ada", cmd=["jupyterhub-singleuser"], port=8888, image=image, env=OWN_ENV | variables, **numbers
    )


def invent_own(rng: random.Random) -> Amounts:
    own = {
        ("limits", "memory"): Fraction(2**30),
        ("limits", "cpu"): Fraction(2),
        ("requests", "memory"): Fraction(2**29),
        ("requests", "cpu"): Fraction(1, 2),
    }
    return {place: amount for place, amount in own.items() if rng.random() < 0.5}


@settings(max_examples=300, deadline=None)
@given(rng=st.randoms(use_true_random=False))
def test_everybody_gets_exactly_what_the_specification_says(rng: random.Random) -> None:
    profiles = invent_document(rng, "t0.0")
    document = parse_document(json.dumps({"profiles": profiles}))
    before = anatomy(document)

    for _ in range(3):
        user, image = rng.choice(USERS), rng.choice(IMAGES)
        groups = rng.sample(GROUPS, rng.randrange(3))
        order: Any = rng.choice(["specificity", "document"])
        own = invent_own(rng)
        own_pod = make_own_pod(image, own)
        untouched = copy.deepcopy(own_pod)

        applied = match_profiles(document, Subject(user, frozenset(groups), find_image(own_pod), 0), order)
        pod = inject_profile(own_pod, merge_profiles(applied), "file/profiles.yaml", str).pod

        assert_pod_is(pod, expect(profiles, user, groups, image, OWN_ENV, own, order))
        assert own_pod == untouched
        deface(pod)
        assert anatomy(document) == before


# Many spawns at once.


class PodMadeError(Exception):
    """Ends a spawn when its pod is made and nothing has been sent."""

    def __init__(self, pod: V1Pod) -> None:
        self.pod = pod


def end_spawn(spawner: ProfiledKubeSpawner, pod: V1Pod) -> V1Pod:
    raise PodMadeError(pod)


@dataclass
class Person:
    """A user, who starts one server after the other."""

    name: str
    groups: list[str] = field(default_factory=list)
    spawner: ProfiledKubeSpawner | None = None


class World:
    """A cluster whose ConfigMap is edited all the time, and users who start servers all the time.

    The API server and the edits have one event loop; each hub has another, in a thread, and is gone when that ends.
    """

    def __init__(self, api: EmbeddedAPI, make_spawner: MakeSpawner, write_profiles: WriteProfiles) -> None:
        self.api = api
        self.make_spawner = make_spawner
        self.write_profiles = write_profiles
        self.rng = random.Random(4)
        # What each version says, None where it is not valid; dictionaries know their order.
        self.documents: dict[str, list[Json] | None] = {}
        self.outcomes: Counter[str] = Counter()
        self.spawns = 0

    def edit(self) -> None:
        kind = self.rng.random()
        if kind < 0.65:
            profiles = invent_document(self.rng, f"t{self.spawns}.{len(self.documents)}")
            written = self.write_profiles(json.dumps({"profiles": profiles}))
            self.documents[written["metadata"]["resourceVersion"]] = profiles
        elif kind < 0.75:
            written = self.write_profiles("profiles: [{env: {A: t0.0.0.0}, resorces: {}}]")
            self.documents[written["metadata"]["resourceVersion"]] = None
        elif kind < 0.8:
            with contextlib.suppress(StatusError):
                self.api.delete("configmaps", NAMESPACE, CONFIGMAP)
        else:
            self.api.faults.append(
                self.rng.choice(
                    [
                        Fault(delay=0.05, resource="configmaps", times=3),
                        Fault("status", status=503, resource="configmaps", times=2),
                        Fault("status", status=403, resource="configmaps"),
                        Fault("close", resource="configmaps"),
                        Fault("truncate", resource="configmaps"),
                        Fault("hang", resource="configmaps"),
                    ]
                )
            )

    async def keep_editing(self) -> None:
        seen = self.spawns
        while True:
            await asyncio.sleep(0.001)
            if self.spawns - seen > 10:
                seen = self.spawns
                self.edit()

    async def run_hub(self, spawns: int) -> None:
        """A hub's life, on an event loop of its own."""
        # The first spawns of a KubeSpawner wait for one future, which is cancelled with any of them.
        await self.make_own_spawner("ada")._start_watching_pods()
        people = [Person(name) for name in USERS * 15]
        idle = asyncio.Queue[Person]()
        self.rng.shuffle(people)
        for person in people:
            idle.put_nowait(person)
        self.had_a_good_one = False

        async def start_servers() -> None:
            while self.left > 0:
                self.left -= 1
                person = await idle.get()
                await self.spawn(person)
                idle.put_nowait(person)
                self.spawns += 1

        self.left = spawns
        await asyncio.gather(*(start_servers() for _ in range(40)))
        await KubeSpawner._stop_all_reflectors()

    async def spawn(self, person: Person) -> None:
        rng = self.rng
        if rng.random() < 0.5:
            person.groups = rng.sample(GROUPS, rng.randrange(3))
        if person.spawner is None or rng.random() < 0.5:
            person.spawner = self.make_own_spawner(person.name)
        spawner = person.spawner
        spawner.user.groups = self.make_own_spawner(person.name, *person.groups).user.groups
        spawner.image = rng.choice(IMAGES)
        must_not_fail = spawner.failure_policy == "ignore" or (
            spawner.failure_policy == "last-good" and self.had_a_good_one
        )
        latest = list(self.documents)[-1:]

        ending = rng.random()
        task = spawner.start()
        if ending < 0.1:
            asyncio.get_running_loop().call_later(rng.random() * 0.02, task.cancel)
        if ending > 0.95:
            # JupyterHub 5 lets a spawn that timed out go on, and its spawner be.
            await asyncio.wait([task], timeout=rng.random() * 0.01)
            if not task.done():
                task.add_done_callback(lambda task: task.cancelled() or task.exception())
                person.spawner = None
                self.outcomes["timed out"] += 1
                return
        try:
            async with asyncio.timeout(rng.random() * 0.01 if 0.9 < ending < 0.95 else None):
                await task
        except PodMadeError as made:
            self.outcomes[self.assert_pod_is_theirs(made.pod, person, latest)] += 1
        except asyncio.CancelledError:
            assert ending < 0.1
            self.outcomes["cancelled"] += 1
        except TimeoutError:
            assert 0.9 < ending < 0.95
            self.outcomes["timed out"] += 1
        except ProfilesUnavailableError:
            assert not must_not_fail
            self.outcomes["failed"] += 1

    def assert_pod_is_theirs(self, pod: V1Pod, person: Person, latest: list[str]) -> str:
        spawner = person.spawner
        assert spawner is not None
        source = pod.metadata.annotations.get("profiled-spawner/source")
        profiles: list[Json] | None = []
        outcome = "ignored"
        if source is None:
            assert spawner.failure_policy == "ignore"
        else:
            version = source.removeprefix(f"configmap/{NAMESPACE}/{CONFIGMAP}@")
            profiles = self.documents[version]
            self.had_a_good_one = True
            versions = list(self.documents)
            outcome = "current" if not latest or versions.index(version) >= versions.index(latest[0]) else "last good"
            assert outcome == "current" or spawner.failure_policy == "last-good"
        assert profiles is not None, "an invalid document was used"
        own = {
            ("requests", "memory"): Fraction(2**29),
            ("requests", "cpu"): Fraction(1, 2),
            ("limits", "cpu"): Fraction(2),
        }
        expected = expect(profiles, person.name, person.groups, spawner.image, OWN_ENV, own, spawner.merge_order)
        assert_pod_is(pod, expected)
        deface(pod)
        return outcome

    def make_own_spawner(self, name: str, *groups: str) -> ProfiledKubeSpawner:
        config = Config()
        config.KubeSpawner.update(
            environment=OWN_ENV,
            mem_guarantee="512M",
            cpu_guarantee=0.5,
            cpu_limit=2.0,
            events_enabled=False,
            modify_pod_hook=end_spawn,
            start_timeout=1,
        )
        config.ProfiledKubeSpawner.failure_policy = self.rng.choice(["last-good", "last-good", "fail", "ignore"])
        config.ProfiledKubeSpawner.merge_order = self.rng.choice(["specificity", "document"])
        return self.make_spawner(name, groups, config)


async def test_no_spawn_leaves_a_trace_in_another(
    api: EmbeddedAPI, make_spawner: MakeSpawner, write_profiles: WriteProfiles
) -> None:
    world = World(api, make_spawner, write_profiles)
    world.edit()
    editor = asyncio.create_task(world.keep_editing())
    for _ in range(HUBS):
        await asyncio.to_thread(asyncio.run, world.run_hub(SPAWNS // HUBS))
        assert not editor.done(), editor.exception()
    editor.cancel()

    print(f"\n{world.spawns:,} spawns on {HUBS} hubs, {len(world.documents)} documents: {dict(world.outcomes)}")
    assert world.outcomes.total() == SPAWNS
    assert world.outcomes.keys() == {"current", "last good", "ignored", "failed", "cancelled", "timed out"}
