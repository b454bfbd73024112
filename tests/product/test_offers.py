"""No server runs an image that its owner was not offered, whatever was asked for.

Hypothesis makes a document, a hub and a person, and then some requests, one after the other: options of any JSON shape
through the REST API, bodies of forms, queries of links, and options that were stored before. Meanwhile the document,
the person's groups and the time change. What runs is compared with what the specification says; that is written here
anew, and shares no code with the package. Where the specification leaves the image to the hub's settings, stock
KubeSpawner is asked for its pod.

``OFFER_REQUESTS=10000 pytest tests/product/test_offers.py`` is the long run. Then faults are planted, to see that each
is found.
"""

from __future__ import annotations

import asyncio
import copy
import json
import logging
import os
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from types import SimpleNamespace
from typing import Any
from urllib.parse import quote_plus
from zoneinfo import ZoneInfo

import pytest
from hypothesis import HealthCheck, Phase, given, seed, settings
from hypothesis import strategies as st
from kubespawner import KubeSpawner
from tornado.escape import parse_qs_bytes
from tornado.httputil import HTTPHeaders, parse_body_arguments
from traitlets.config import Config

from profiled_spawner import ProfiledKubeSpawner
from profiled_spawner.decide import choices
from profiled_spawner.document.model import ImageChoice
from profiled_spawner.document.parser import parse_document
from profiled_spawner.document.times import ALWAYS
from profiled_spawner.errors import ChoiceError
from profiled_spawner.hub import spawner as spawner_module
from profiled_spawner.hub.kubespawner import HostSpawner, no_kubeconfig
from profiled_spawner.hub.spawner import StartRefusedError
from profiled_spawner.pod.patch import find_image
from profiled_spawner.sources.cache import Snapshot

REQUESTS = int(os.environ.get("OFFER_REQUESTS", "500"))
EACH = 5
"""Requests of one person, one after the other."""

HUBS = "quay.io/example/hub:1"
USERS = ["ada", "Ada"]
GROUPS = ["forecasters", "Forecasters", "staff"]
# Alike in one way or another: capitals, accents, or what JSON could have as something else.
NAMES = ["Lab", "lab", "caf\u00e9", "cafe\u0301", "7", "default"]
PICTURES = ["quay.io/example/lab:1", "quay.io/example/lab:2", "lab", "lab:latest", HUBS]
ZONES = ["UTC", "Asia/Kolkata"]
LOCAL = datetime(2026, 12, 1, 14)
# Each is the beginning or the end of some entry, or near to it.
MOMENTS = [LOCAL + step for step in (timedelta(days=-1), timedelta(hours=-14), timedelta(), timedelta(hours=10))]

Document = dict[str, Any]

# Who an entry is for, and when: often for everyone, and always.
who = st.fixed_dictionaries(
    {},
    optional={
        "users": st.lists(st.sampled_from([*USERS, "*"]), max_size=2),
        "groups": st.lists(st.sampled_from(GROUPS), max_size=2),
    },
)
times = st.sampled_from(
    [
        {},
        {},
        {"from": "2026-12-01"},
        {"from": "2026-12-01T14:00"},
        {"from": "2026-12-01T14:00:00+00:00"},
        {"until": "2026-11-30"},
        {"until": "2026-12-01T14:00"},
        {"until": "2026-12-01T14:00Z"},
        {"from": "2026-11-30", "until": "2026-12-01"},
        {"from": "2026-12-02"},
    ]
)
entries = st.builds(
    lambda name, image, who, when: {"name": name, **image, **who, **when},
    st.sampled_from(NAMES),
    st.sampled_from([{"image": image} for image in PICTURES] + [{}]),
    who,
    times,
)
documents = st.builds(
    lambda images, zone: {"profiles": [], "timezone": zone, "images": images},
    st.lists(entries, max_size=len(NAMES), unique_by=lambda entry: entry["name"]),
    st.sampled_from(ZONES),
)


def override(**traits: Any) -> list[dict[str, Any]]:
    return [
        {"display_name": "Lab", "slug": "lab", "kubespawner_override": traits},
        {"display_name": "Plain", "slug": "plain"},
    ]


IMAGE_OPTION = {
    "display_name": "Image",
    "choices": {
        "Lab": {"display_name": "Lab", "kubespawner_override": {"image": "choice:1"}},
        "plain": {"display_name": "Plain", "kubespawner_override": {}},
    },
    "unlisted_choice": {"enabled": True, "display_name": "Other", "kubespawner_override": {"image": "{value}"}},
}
PROFILE_LISTS: list[Any] = [
    [],
    override(image="override:1"),
    override(image="override:1", extra_container_config={"image": "config:1"}),
    [{"display_name": "Lab", "slug": "lab", "profile_options": {"image": IMAGE_OPTION}}],
    [
        {"display_name": "Plain", "slug": "plain"},
        {"display_name": "Lab", "slug": "lab", "profile_options": {"image": IMAGE_OPTION, "size": IMAGE_OPTION}},
    ],
    lambda _: override(image=lambda _: "callable:1"),
]

# Anything that JSON has; and what is near to an option that counts.
scalars = st.none() | st.booleans() | st.integers(-2, 10) | st.floats(allow_nan=False) | st.text(max_size=4)
names = st.sampled_from([*NAMES, *NAMES, *PICTURES[:2], 7, True, "", None])
anything = st.recursive(
    scalars | names,
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(
            st.sampled_from(["image", "size", "name", "profiled", ""]) | st.text(max_size=3), inner, max_size=3
        )
    ),
    max_leaves=6,
)
deep = st.integers(1, 400).map(lambda depth: json.loads("[" * depth + "]" * depth))
sizes = st.sampled_from(["", "default", "x"])
choice = st.fixed_dictionaries({"image": names | names | anything}, optional={"size": sizes})
others = {
    "profile": st.sampled_from(["plain", "lab", "", "gone"]),
    "image": names | anything,
    "size": st.sampled_from(["Lab", "plain", ""]),
    "image--unlisted-choice": st.sampled_from(PICTURES),
    "size--unlisted-choice": st.sampled_from(PICTURES),
    "profiled-image": names,
    "Profiled": choice,
}
options = st.fixed_dictionaries({}, optional={**others, "profiled": choice | choice | choice | anything | deep})
fields = st.lists(
    st.tuples(
        st.sampled_from(
            [
                "profiled-image",
                "profiled-image",
                "profiled-image",
                "profiled-size",
                "profiled",
                "image",
                "profile",
                "profile-option-lab--image",
                "profile-option-lab--image--unlisted-choice",
                "profile-option-lab--profiled-image",
                "Profiled-Image",
                "profiled-image[]",
                "profiled-image_file",
            ]
        ),
        st.sampled_from([*NAMES, *PICTURES, "", "plain", "lab", '{"image": "Lab"}']),
    ),
    max_size=4,
)


@dataclass(frozen=True)
class Request:
    """A start that is asked for.

    Attributes:
        through: How.
        options: Of the REST API.
        fields: Of a form or a link.
        document: The document at that moment; None: as before.
        groups: The person's groups then.
        at: When the start begins.
        stays: Whether it is the spawner that started before; JupyterHub may keep it.
    """

    through: str
    options: dict[str, Any]
    fields: list[tuple[str, str]]
    document: Document | None
    groups: frozenset[str]
    at: float
    stays: bool


requests = st.builds(
    Request,
    st.sampled_from(["rest", "rest", "form", "query", "stored"]),
    options,
    fields,
    st.none() | documents,
    st.frozensets(st.sampled_from(GROUPS), max_size=2),
    st.builds(
        lambda moment, zone, seconds: moment.replace(tzinfo=zone).timestamp() + seconds,
        st.sampled_from(MOMENTS),
        st.sampled_from([ZoneInfo(zone) for zone in ZONES]),
        st.sampled_from([-0.001, 0, 0.001]),
    ),
    st.booleans(),
)


# What the specification says.

REFUSED = object()
THE_HUBS = object()


def to_moment(text: str, zone: str, *, is_end: bool) -> float:
    """When a `from` or an `until` is."""
    if "T" not in text:
        day = datetime.fromisoformat(text) + timedelta(days=int(is_end))
        return day.replace(tzinfo=ZoneInfo(zone)).timestamp()
    moment = datetime.fromisoformat(text)
    return (moment if moment.tzinfo else moment.replace(tzinfo=ZoneInfo(zone))).timestamp()


def may_choose(entry: Mapping[str, Any], user: str, groups: frozenset[str], at: float, zone: str) -> bool:
    is_for = "users" not in entry and "groups" not in entry
    is_for = is_for or user in entry.get("users", []) or "*" in entry.get("users", [])
    is_for = is_for or any(group in groups for group in entry.get("groups", []))
    has_begun = "from" not in entry or to_moment(entry["from"], zone, is_end=False) <= at
    has_ended = "until" in entry and to_moment(entry["until"], zone, is_end=True) <= at
    return is_for and has_begun and not has_ended


def offer(document: Document, user: str, groups: frozenset[str], at: float) -> dict[str, Any]:
    """The images that a person may choose, by name, in the document's order."""
    return {
        entry["name"]: entry.get("image", THE_HUBS)
        for entry in document["images"]
        if may_choose(entry, user, groups, at, document["timezone"])
    }


def expect(offered: Mapping[str, Any], options: Mapping[str, Any]) -> object:
    """What a server with these options runs: an image, `THE_HUBS`, or nothing, as it is `REFUSED`."""
    chosen = options.get("profiled")
    chosen = {} if chosen is None else chosen
    if type(chosen) is not dict or set(chosen) - {"image", "size"}:
        return REFUSED
    image, size = chosen.get("image"), chosen.get("size")
    # There are no sizes.
    if not (size is None or (type(size) is str and size in ("", "default"))):
        return REFUSED
    if image is None or (type(image) is str and image == ""):
        return next(iter(offered.values()), THE_HUBS)
    return offered[image] if type(image) is str and image in offered else REFUSED


# The hub.


class Moments:
    """The time of day, as the spawner is told."""

    now = 0.0

    def time(self) -> float:
        return self.now


@dataclass
class World:
    """A person's server: what is read, and which pods are made."""

    document: Document
    pods: list[Any]
    moments: Moments


def make_spawner(kind: type[KubeSpawner], user: str, profile_list: Any) -> Any:
    config = Config()
    config.KubeSpawner.update(namespace="jhub", image=HUBS, profile_list=copy.deepcopy(profile_list))
    someone = SimpleNamespace(name=user, id=1, url=f"/user/{user}/", escaped_name=user, groups=[])
    with no_kubeconfig():
        spawner = kind(_mock=True, config=config, user=someone)
    spawner.log = logging.getLogger("offers")
    return spawner


@contextmanager
def hub(world: World) -> Iterator[None]:
    """KubeSpawner makes each pod and sends it nowhere; documents are at hand; the time is ours."""

    async def read(*_: Any, **__: Any) -> Snapshot:
        return Snapshot(parse_document(json.dumps(world.document)), "file/profiles.yaml")

    async def begin(spawner: KubeSpawner) -> None:
        # As KubeSpawner does, without what it creates.
        await spawner.load_user_options()
        world.pods.append(await spawner.get_pod_manifest())

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(spawner_module, "read_documents", read)
        patch.setattr(spawner_module, "time", world.moments)
        patch.setattr(KubeSpawner, "_start", begin)
        yield


def parse_fields(request: Request) -> dict[str, list[str]]:
    """The fields as JupyterHub takes them from a body or from a link."""
    text = "&".join(f"{quote_plus(name)}={quote_plus(value)}" for name, value in request.fields)
    if request.through == "form":
        found: dict[str, list[bytes]] = {}
        parse_body_arguments("application/x-www-form-urlencoded", text.encode(), found, {}, HTTPHeaders())
    else:
        found = parse_qs_bytes(text, keep_blank_values=True)
    return {name: [value.decode() for value in values] for name, values in found.items()}


async def read_options(spawner: KubeSpawner, request: Request, stored: dict[str, Any]) -> dict[str, Any]:
    """The options that JupyterHub gives to the spawner, and stores."""
    if request.through == "rest":
        return copy.deepcopy(request.options)
    if request.through == "stored":
        return stored
    data = parse_fields(request)
    of = spawner.run_options_from_form if request.through == "form" else spawner.options_from_query
    found: dict[str, Any] = json.loads(json.dumps(await of(data)))
    sent = {
        key: values[-1]
        for key, field in (("image", "profiled-image"), ("size", "profiled-size"))
        if (values := data.get(field))
    }
    assert found.get("profiled", {}) == sent
    return found


async def find_stock_image(spawner: KubeSpawner) -> str:
    """What stock KubeSpawner would run."""
    await spawner.load_user_options()
    return find_image(await spawner.get_pod_manifest())


async def play(user: str, profile_list: Any, document: Document, asked: list[Request], seen: Counter[str]) -> None:
    """Starts one person's servers, and compares each with what is expected."""
    world = World(document, [], Moments())
    stored: dict[str, Any] = {}
    spawner, stock = (
        make_spawner(ProfiledKubeSpawner, user, profile_list),
        make_spawner(KubeSpawner, user, profile_list),
    )
    with hub(world):
        for request in asked:
            world.document = request.document or world.document
            world.moments.now = request.at
            if not request.stays:
                spawner = make_spawner(ProfiledKubeSpawner, user, profile_list)
                stock = make_spawner(KubeSpawner, user, profile_list)
            spawner.user.groups = [SimpleNamespace(name=group) for group in request.groups]
            stored = await read_options(spawner, request, stored)
            spawner.user_options, stock.user_options = copy.deepcopy(stored), copy.deepcopy(stored)
            offered = offer(world.document, user, request.groups, request.at)
            expected = expect(offered, stored)
            (theirs,) = await asyncio.gather(find_stock_image(stock), return_exceptions=True)
            world.pods.clear()
            (ended,) = await asyncio.gather(spawner.start(), return_exceptions=True)
            if isinstance(ended, StartRefusedError):
                assert expected is REFUSED, f"{ended} {stored} {offered}"
                assert ended.status_code == 400
                seen["refused"] += 1
            elif isinstance(ended, BaseException):
                # Whatever KubeSpawner says of such options.
                if type(ended) is not type(theirs):
                    raise ended
                seen["refused by KubeSpawner"] += 1
            else:
                (pod,) = world.pods
                image = find_image(pod)
                # The weak form first: it must hold, whatever was chosen.
                may_run = {theirs if each is THE_HUBS else each for each in offered.values()} or {theirs}
                assert image in may_run, f"{image} was not offered: {stored} {offered}"
                assert expected is not REFUSED, f"{image} runs for {stored}, of {offered}"
                assert image == (theirs if expected is THE_HUBS else expected), f"{stored} {offered}"
                container = pod.spec.containers[0]
                env = {each.name: each.value for each in container.env}
                if expected is not THE_HUBS:
                    assert env["JUPYTER_IMAGE"] == env["JUPYTER_IMAGE_SPEC"] == image
                seen["the hub's" if expected is THE_HUBS else "offered"] += 1
            assert spawner.image == stock.image
            seen[request.through] += 1


def search(examples: int, *, is_short: bool = False) -> Counter[str]:
    """Asks for starts of so many people; raises if one was not as it should be."""
    seen: Counter[str] = Counter()

    @settings(
        max_examples=examples,
        deadline=None,
        database=None,
        suppress_health_check=list(HealthCheck),
        # The long run says what it has found as small as it can be; a planted fault need only be found.
        phases=[Phase.generate] if is_short else [Phase.generate, Phase.shrink],
    )
    @given(
        st.sampled_from(USERS),
        st.sampled_from(PROFILE_LISTS),
        documents,
        st.lists(requests, min_size=EACH, max_size=EACH),
    )
    def ask(user: str, profile_list: Any, document: Document, asked: list[Request]) -> None:
        runner.run(play(user, profile_list, document, asked, seen))

    # One event loop for all: KubeSpawner makes a client for each, which reads the machine's certificates.
    with asyncio.Runner() as runner:
        (seed(1)(ask) if is_short else ask)()
    return seen


def test_no_image_runs_that_was_not_offered(capsys: pytest.CaptureFixture[str]) -> None:
    seen = search(-(-REQUESTS // EACH))
    with capsys.disabled():
        print("\n" + ", ".join(f"{name}: {count:,}" for name, count in sorted(seen.items())))
    ways = ("rest", "form", "query", "stored")
    assert sum(seen[way] for way in ways) >= REQUESTS
    assert [name for name in (*ways, "refused", "offered", "the hub's") if not seen[name]] == []


def _find_in_any_case(entries: Any, noun: str, name: object, *_: object) -> Any:
    names = [] if name in (None, "") else [each for each in entries if each.name.lower() == str(name).lower()]
    if names or name in (None, ""):
        return next(iter(names), None)
    raise ChoiceError(f"there is no {noun}")


def _fits(change: Callable[[ImageChoice, Any], Any]) -> Callable[..., bool]:
    matches_person = choices.matches_person
    return lambda entry, subject: matches_person(*change(entry, subject))


@contextmanager
def _leave(self: HostSpawner, choice: ImageChoice | None) -> Iterator[None]:
    if choice and choice.image:
        self.image = choice.image
    yield


FAULTS: dict[str, tuple[Any, str, Callable[[], Any]]] = {
    "names are compared without capitals": (choices, "_find", lambda: _find_in_any_case),
    "a name that is not offered is none": (
        choices,
        "_find",
        lambda: lambda entries, noun, name, *_: next((each for each in entries if each.name == name), None),
    ),
    "from and until are ignored": (
        choices,
        "matches_person",
        lambda: _fits(lambda entry, subject: (replace(entry, period=ALWAYS), subject)),
    ),
    "until includes its time": (
        choices,
        "matches_person",
        lambda: _fits(lambda entry, subject: (entry, replace(subject, at=subject.at - 0.001))),
    ),
    "groups are ignored": (
        choices,
        "matches_person",
        lambda: _fits(lambda entry, subject: (replace(entry, groups=None), subject)),
    ),
    "names of users are compared without capitals": (
        choices,
        "matches_person",
        lambda: _fits(lambda entry, subject: (entry, replace(subject, user=subject.user.lower()))),
    ),
    "extra_container_config wins": (spawner_module, "set_image", lambda: lambda pod, image: pod),
    "the image remains for the next start": (HostSpawner, "running", lambda: _leave),
}


# Whether the search finds faults: `choices` and the search are the same on every host.
@pytest.mark.newest
@pytest.mark.parametrize("fault", FAULTS)
def test_a_planted_fault_is_found(fault: str, monkeypatch: pytest.MonkeyPatch) -> None:
    owner, name, make = FAULTS[fault]
    monkeypatch.setattr(owner, name, make())
    with pytest.raises(AssertionError):
        search(1000, is_short=True)
