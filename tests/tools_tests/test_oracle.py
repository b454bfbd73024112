"""The oracle says what the docs say, and what the package does to each start."""

from __future__ import annotations

import ast
import sys
from collections import Counter
from collections.abc import Callable
from fractions import Fraction
from pathlib import Path
from random import Random
from types import SimpleNamespace
from typing import Any

import pytest
import yaml

import oracle
from oracle import runner, subjects
from oracle.__main__ import main
from oracle.answer import (
    NO_NODE,
    Result,
    Subject,
    describe_image,
    describe_quota,
    fits_image,
    is_for,
    merge,
    names_who,
    read,
    read_term,
    result,
    to_text,
)
from oracle.planted import FAULTS, PACKAGE, is_found
from oracle.runner import Finding, Tally, parse, run, run_alone
from oracle.subjects import (
    all_subjects,
    find_difference,
    find_difference_simply,
    find_different_images,
    find_images,
    find_moments,
    find_parts,
    find_people,
    holders,
)
from oracle.world import GROUPS, USERS, Pair, load, make_pair
from profiled_spawner.decide.choices import choose, find_offer
from profiled_spawner.decide.matching import Subject as Start
from profiled_spawner.decide.matching import match_profiles
from profiled_spawner.decide.merging import EffectiveProfile, merge_profiles
from profiled_spawner.decide.quotas import find_quotas
from profiled_spawner.document.model import Document, EnvVarSource, Quota
from profiled_spawner.document.parser import parse_document
from profiled_spawner.errors import ChoiceError


def make_pairs(count: int, seed: str) -> list[Pair]:
    return [make_pair(Random(f"{seed}/{number}")) for number in range(count)]


# What the docs say


@pytest.mark.parametrize(
    ("old", "new", "different"),
    [
        pytest.param("[{env: {A: 1}}]", "[{name: x, env: {A: 1}}]", False, id="a-name"),
        pytest.param("[{env: {A: 1}}]", "[{env: {A: 2}}]", True, id="a-value"),
        pytest.param("[{env: {A: 1}}]", "[{env: {A: null}}]", True, id="null"),
        pytest.param("[{env: {A: null}}]", "[]", True, id="null-is-not-nothing"),
        pytest.param("[{env: {A: 1}}]", "[{env: [{name: A, value: 1}]}]", False, id="a-list"),
        pytest.param("[{groups: [g, h], env: {A: 1}}]", "[{groups: [g], env: {A: 1}}, {groups: [h], env: {A: 1}}]",
                     False, id="a-profile-for-two-groups-split"),
        pytest.param("[{groups: [g], env: {A: 1}}, {groups: [h], env: {A: 2}}]",
                     "[{groups: [h], env: {A: 2}}, {groups: [g], env: {A: 1}}]", True, id="in-two-groups-at-once"),
        pytest.param("[{users: [a], env: {A: 1}}, {users: [b], env: {A: 2}}]",
                     "[{users: [b], env: {A: 2}}, {users: [a], env: {A: 1}}]", False, id="nobody-is-two-users"),
        pytest.param("[{users: [a], env: {A: 1}}, {env: {A: 2}}]", "[{env: {A: 2}}, {users: [a], env: {A: 1}}]", False,
                     id="the-more-specific-wins-wherever-it-stands"),
        pytest.param("[{images: ['a*'], env: {A: 1}}, {images: ['*b'], env: {A: 2}}]",
                     "[{images: ['*b'], env: {A: 2}}, {images: ['a*'], env: {A: 1}}]", True,
                     id="patterns-that-overlap"),
        pytest.param("[{images: ['a/*'], env: {A: 1}}, {images: ['b/*'], env: {A: 2}}]",
                     "[{images: ['b/*'], env: {A: 2}}, {images: ['a/*'], env: {A: 1}}]", False,
                     id="patterns-that-do-not-overlap"),
        pytest.param("[{images: [nb], env: {A: 1}}]", "[{images: ['nb:latest'], env: {A: 1}}]", False, id="latest"),
        pytest.param("[{images: ['lab/*'], env: {A: 1}}]", "[{images: ['lab/*', 'lab/a:3'], env: {A: 1}}]", False,
                     id="an-image-within-a-pattern"),
        pytest.param("[{images: ['*'], env: {A: 1}}]", "[{env: {A: 1}}]", False, id="star-is-every-image"),
        pytest.param("[{images: ['**'], env: {A: 1}}]", "[{env: {A: 1}}]", True, id="two-stars-and-long-images"),
        pytest.param("[{images: ['*'], users: [a], env: {A: 1}}, {users: [a], env: {A: 2}}]",
                     "[{users: [a], env: {A: 2}}]", False, id="star-does-not-name-what"),
        pytest.param("[{images: ['a@b'], env: {A: 1}}]", "[{images: ['a:c@b', 'a@b'], env: {A: 1}}]", False,
                     id="a-digest-makes-the-tag-mean-nothing"),
        pytest.param("[{users: ['*'], groups: [g], env: {A: 1}}]", "[{env: {A: 1}}]", False, id="star-is-every-user"),
        pytest.param("[{users: [], env: {A: 1}}]", "[]", False, id="an-empty-list-is-for-nobody"),
        pytest.param("[{resources: {mem_limit: 1Gi}}]", "[{resources: {limits: {memory: 1024Mi}}}]", False,
                     id="an-equal-amount"),
        pytest.param("[{gpu: 1}]", "[{resources: {limits: {nvidia.com/gpu: 1}}}]", False, id="gpu"),
        pytest.param("[{resources: {mem_limit: null}}]", "[{}]", True, id="an-amount-taken-away"),
        pytest.param("[{env_from: [{secretRef: {name: s}}, {secretRef: {name: t}}]}]",
                     "[{env_from: [{secretRef: {name: t}}, {secretRef: {name: s}}]}]", True, id="order-of-env-from"),
        pytest.param("[{env_from: [{secretRef: {name: s}}, {secretRef: {name: t}}, {secretRef: {name: s}}]}]",
                     "[{env_from: [{secretRef: {name: t}}, {secretRef: {name: s}}]}]", False, id="the-last-counts"),
        pytest.param("[{node_tolerations: [{operator: Exists}, {key: a, operator: Exists}]}]",
                     "[{node_tolerations: [{key: a, operator: Exists}]}, {node_tolerations: [{operator: Exists}]}]",
                     False, id="tolerations-are-a-set"),
        pytest.param("[{volumes: [{name: v, mountPath: /v, emptyDir: {}}]}, "
                     "{volumes: [{name: w, mountPath: /v/, emptyDir: {}}]}]",
                     "[{volumes: [{name: w, mountPath: /v/, emptyDir: {}}]}]", False, id="one-volume-at-a-path"),
        pytest.param("[{volumes: [{name: v, mountPath: /v, emptyDir: {}}]}, "
                     "{volumes: [{name: v, mountPath: /w, emptyDir: {}}]}]",
                     "[{volumes: [{name: v, mountPath: /w, emptyDir: {}}]}]", False, id="one-volume-of-a-name"),
    ],
)  # fmt: skip
def test_known_answers(old: str, new: str, different: bool) -> None:
    """Of documents with these profiles, in the order of specificity."""
    documents = load(f"profiles: {old}"), load(f"profiles: {new}")

    assert (find_difference(*documents, "specificity") is not None) is different


IN = "{matchExpressions: [{key: pool, operator: In, values: [a]}]}"
ZONE = "{matchExpressions: [{key: zone, operator: Exists}]}"
BOTH = "{matchExpressions: [{key: zone, operator: Exists}, {key: pool, operator: In, values: [a]}]}"


def require(*terms: str) -> str:
    required = f"requiredDuringSchedulingIgnoredDuringExecution: {{nodeSelectorTerms: [{', '.join(terms)}]}}"
    return f"{{node_affinity: {{{required}}}}}"


def prefer(*terms: str) -> str:
    preferred = ", ".join(f"{{weight: 1, preference: {term}}}" for term in terms)
    return f"{{node_affinity: {{preferredDuringSchedulingIgnoredDuringExecution: [{preferred}]}}}}"


@pytest.mark.parametrize(
    ("old", "new", "different"),
    [
        pytest.param([require(IN, ZONE)], [require(ZONE, IN)], False, id="alternatives-in-another-order"),
        pytest.param([require(BOTH)], [require(IN), require(ZONE)], False, id="one-term-is-its-expressions"),
        pytest.param([require(IN, ZONE)], [require(IN), require(ZONE)], True, id="alternatives-do-not-all-hold"),
        pytest.param([require(IN), require(IN)], [require(IN)], False, id="the-same-requirement-twice"),
        pytest.param([prefer(IN), prefer(IN)], [prefer(IN)], True, id="the-same-preference-twice"),
        pytest.param([prefer(IN, ZONE)], [prefer(ZONE), prefer(IN)], False, id="preferences-add-up"),
    ],
)
def test_node_affinity(old: list[str], new: list[str], different: bool) -> None:
    documents = [load(f"profiles: [{', '.join(profiles)}]") for profiles in (old, new)]

    assert (find_difference(*documents, "specificity") is not None) is different


@pytest.mark.parametrize(
    ("old", "new", "different"),
    [
        pytest.param("sizes: [{name: S}]", "sizes: [{name: S, description: small}]", True, id="description"),
        pytest.param("sizes: [{name: S}, {name: L}]", "sizes: [{name: L}, {name: S}]", True, id="order-of-sizes"),
        pytest.param("sizes: [{name: S, users: [a]}, {name: L, users: [b]}]",
                     "sizes: [{name: L, users: [b]}, {name: S, users: [a]}]", False, id="order-that-nobody-sees"),
        pytest.param("sizes: [{name: S, env: {A: 1}}]", "sizes: [{name: S, env: {A: 2}}]", True,
                     id="what-a-size-gives"),
        pytest.param("sizes: [{name: S, env: {A: 1}}]", "sizes: [{name: S, env: [{name: A, value: 1}]}]", False,
                     id="what-a-size-gives-in-other-words"),
        pytest.param("images: [{name: I}]", "images: [{name: I, image: a}]", True, id="an-image"),
        pytest.param("images: [{name: I, image: a}]", "images: [{name: I, image: a, image_pull_secrets: [s]}]", True,
                     id="pull-secrets"),
        pytest.param("timezone: Europe/Athens\nsizes: [{name: S, from: 2026-12-01}]",
                     "sizes: [{name: S, from: '2026-11-30T22:00Z'}]", False, id="the-same-instant"),
        pytest.param("sizes: [{name: S, until: 2026-12-01}]", "sizes: [{name: S, until: '2026-12-02T00:00'}]", False,
                     id="until-the-end-of-a-day"),
        pytest.param("sizes: [{name: S, until: 2026-12-01}]", "sizes: [{name: S, until: '2026-12-02T00:00:01'}]", True,
                     id="a-second-more"),
        pytest.param("sizes: [{name: S, until: 2026-12-01}]", "sizes: []", True, id="an-end"),
    ],
)  # fmt: skip
def test_offers(old: str, new: str, different: bool) -> None:
    documents = [load(f"profiles: []\n{document}") for document in (old, new)]

    assert (find_difference(*documents, "specificity") is not None) is different


TEAMS = """
profiles: [{groups: [g], env: {A: main}}]
teams: [{name: t, configmaps: [t], users: [ada], groups: [g, h]}]
--- # t
"""


@pytest.mark.parametrize(
    ("old", "new", "different"),
    [
        pytest.param("profiles: []", "profiles: [{groups: [k], env: {A: 1}}]", True, id="members-in-a-group"),
        pytest.param("profiles: []", "profiles: [{users: [], env: {A: 1}}]", False, id="nobody"),
        pytest.param("profiles: [{env: {A: 1}}]", "profiles: [{users: ['*'], env: {A: 1}}]", False, id="every-member"),
        pytest.param("profiles: [{env: {A: 1}}]", "profiles: [{groups: [g, h], users: [ada], env: {A: 1}}]", False,
                     id="members-by-name"),
        pytest.param("profiles: [{env: {A: 1}}]", "profiles: [{groups: [g, h], env: {A: 1}}]", True, id="some"),
        pytest.param("profiles: []", "profiles: [{env: {A: main}, groups: [g]}]", False, id="what-the-main-one-gives"),
        pytest.param("profiles: []\nsizes: [{name: S}]", "profiles: []\nsizes: [{name: S, groups: [h]}]", True,
                     id="a-size"),
    ],
)  # fmt: skip
def test_teams(old: str, new: str, different: bool) -> None:
    documents = [load(f"{TEAMS}{document}") for document in (old, new)]

    assert (find_difference(*documents, "specificity") is not None) is different


def test_what_is_from_a_team_is_for_its_members() -> None:
    document = load(f"{TEAMS}profiles: [{{env: {{A: theirs}}}}, {{groups: [k], env: {{B: theirs}}}}]")

    env = {
        (user, "".join(groups)): result(document, Subject(user, frozenset(groups), "x")).given["env"]
        for user, groups in (("ada", ""), ("bo", ""), ("bo", "g"), ("bo", "h"), ("bo", "k"), ("bo", "hk"), ("ada", "k"))
    }

    theirs = {"A": "theirs"}
    assert env[("bo", "")] == env[("bo", "k")] == {}
    assert env[("ada", "")] == env[("bo", "g")] == env[("bo", "h")] == theirs
    assert env[("bo", "hk")] == env[("ada", "k")] == {**theirs, "B": "theirs"}


@pytest.mark.parametrize(
    ("old", "new", "different"),
    [
        pytest.param("groups: [g], hard: {pods: 1}", "groups: [g], hard: {pods: 1e0}, per: all", False, id="same"),
        pytest.param("groups: [g], hard: {pods: 1}", "groups: [g], hard: {pods: 2}", True, id="amount"),
        pytest.param("groups: [g], hard: {pods: 1}", "groups: [g], hard: {pods: 1}, per: user", True, id="per"),
        pytest.param("hard: {pods: 1}", "hard: {pods: 1}, groups: [g]", True, id="who"),
        pytest.param("hard: {pods: 1}", "hard: {pods: 1}, groups: [g], users: ['*']", False, id="everyone"),
        pytest.param("users: [], hard: {pods: 1}", "groups: [], hard: {pods: 2}", False, id="nobody"),
    ],
)  # fmt: skip
def test_quotas(old: str, new: str, different: bool) -> None:
    documents = [load(f"profiles: []\nquotas: [{{name: Q, {quota}}}]") for quota in (old, new)]

    assert (find_difference(*documents, "specificity") is not None) is different


def test_profiles_are_matched_with_the_chosen_image_or_the_first() -> None:
    document = load("""
        profiles: [{images: [a], env: {A: first}}, {images: [b], env: {A: second}}, {images: [c], env: {A: hub}}]
        images: [{name: I, image: a}, {name: J, image: b}, {name: K}]
    """)

    given = {
        choice: result(document, Subject("ada", frozenset(), "c", choice)).given.get("env")
        for choice in (None, "I", "J", "K", "L")
    }

    assert given == {None: {"A": "first"}, "I": {"A": "first"}, "J": {"A": "second"}, "K": {"A": "hub"}, "L": None}


def test_only_moments_from_now_on_count() -> None:
    old = load("profiles: [{env: {A: 1}, until: 2026-12-01}]")
    new = load("profiles: [{env: {A: 2}, until: 2026-12-01}]")
    (end,) = (entry.end for entry in read(old).profiles)

    found = {
        since: find_difference(old, new, "specificity", since=since) is not None for since in (end - 1, end, end + 1)
    }

    assert found == {end - 1: True, end: False, end + 1: False}
    assert find_difference(old, new, "specificity", at=end) is None
    assert find_difference(old, new, "specificity", at=end - 1) is not None


@pytest.mark.parametrize(
    ("thing", "users"),
    [
        pytest.param(("env", "A"), {"ada"}, id="a-variable-that-others-lose"),
        pytest.param(("env", "S"), {"ada", "bo", "nobody"}, id="a-variable"),
        pytest.param(("secret", "s1"), {"ada", "bo", "nobody"}, id="a-secret-behind-a-variable"),
        pytest.param(("secret", "s2"), {"bo"}, id="a-secret-of-env-from"),
        pytest.param(("secret", "s3"), {"ada"}, id="a-secret-in-a-volume"),
        pytest.param(("secret", "s4"), {"ada"}, id="a-secret-in-a-projected-volume"),
        pytest.param(("secret", "c1"), set(), id="no-secret"),
        pytest.param(("claim", "c1"), {"ada"}, id="a-claim"),
        pytest.param(("resource", "memory"), {"bo"}, id="a-resource"),
        pytest.param(("resource", "nvidia.com/gpu"), set(), id="none-of-a-resource"),
        pytest.param(("profile", "bo's"), {"bo"}, id="a-profile"),
        pytest.param(("size", "L"), {"ada"}, id="a-size"),
        pytest.param(("image", "I"), {"bo"}, id="an-image"),
    ],
)
def test_who_gets_a_thing(thing: tuple[str, str], users: set[str]) -> None:
    document = load("""
        profiles:
        - env: {A: 1, S: {valueFrom: {secretKeyRef: {name: s1, key: k}}}}
          gpu: 0
        - users: [bo, nobody]
          env: {A: null}
        - name: bo's
          users: [bo]
          env_from: [{secretRef: {name: s2}}]
          resources: {mem_guarantee: 1Gi}
        - users: [ada]
          volumes:
          - {name: a, mountPath: /a, secret: {secretName: s3}}
          - {name: b, mountPath: /b, projected: {sources: [{secret: {name: s4}}]}}
          - {name: c, mountPath: /c, persistentVolumeClaim: {claimName: c1}}
        sizes: [{name: L, users: [ada]}]
        images: [{name: I, users: [bo]}]
    """)

    assert {subject.user for subject in holders(document, thing)} == users


# What the package does


def start(document: Document, subject: Subject, order: Any) -> Result:
    """What the package gives to a start, in the oracle's form."""
    start = Start(subject.user, subject.groups, subject.image, subject.at)
    offer = find_offer(document, start)
    images = tuple(
        (each.name, each.description, each.image, each.default_url, each.image_pull_secrets) for each in offer.images
    )
    sizes = tuple((each.name, each.description) for each in offer.sizes)
    quotas = frozenset(map(to_quota, find_quotas(document, start)))
    try:
        choice = choose(document, start, {"image": subject.image_choice, "size": subject.size})
    except ChoiceError:
        return Result(images, sizes, refused=True, given={}, quotas=quotas)
    run = Start(subject.user, subject.groups, choice.image_name or subject.image, subject.at)
    applied = match_profiles(document, run, order)
    effective = merge_profiles((*applied, choice.size) if choice.size else applied)
    return Result(images, sizes, refused=False, given=to_form(effective), quotas=quotas)


def to_form(effective: EffectiveProfile) -> dict[str, Any]:
    requirements = set()
    for setting in effective.node_requirements:
        terms = frozenset(filter(None, map(read_term, setting.value)))
        (first, *others) = terms or (frozenset(),)
        single = {frozenset({frozenset({each})}) for each in first}
        requirements |= {terms} if others or not terms else single
    return {
        "env": {name: to_value(setting.value) for name, setting in effective.env.items()},
        **{
            kind: {
                name: setting.value if setting.value is None else Fraction(setting.value.amount)
                for name, setting in getattr(effective, kind).items()
            }
            for kind in ("limits", "requests")
        },
        **{
            section: {name: setting.value for name, setting in getattr(effective, section).items()}
            for section in ("node_selector", "labels", "annotations")
        },
        "env_from": [to_text(setting.value) for setting in effective.env_from],
        "node_tolerations": frozenset(to_text(setting.value) for setting in effective.node_tolerations),
        "requirements": {NO_NODE} if NO_NODE in requirements else requirements,
        "preferences": Counter(
            (setting.value["weight"], read_term(setting.value["preference"])) for setting in effective.node_preferences
        ),
        "volumes": frozenset(to_text(setting.value) for setting in effective.volumes),
    }


def to_quota(quota: Quota) -> tuple[Any, ...]:
    hard = frozenset((name, Fraction(quantity.amount)) for name, quantity in quota.hard.items())
    named = (quota.users or frozenset(), quota.groups or frozenset()) if quota.names_who else None
    return quota.name, hard, quota.per == "all", named if quota.per == "all" else None


def to_value(value: Any) -> Any:
    return ("valueFrom", to_text(value.to_kubernetes())) if isinstance(value, EnvVarSource) else value


def test_the_oracle_gives_what_a_start_gets() -> None:
    """To random subjects of random documents."""
    random = Random(15)
    given: Counter[str] = Counter()
    for pair in make_pairs(400, "start"):
        subjects = [*all_subjects([pair.old, pair.new], images=find_different_images([pair.old, pair.new], 3))]
        for raw, text in ((pair.old, pair.old_text), (pair.new, pair.new_text)):
            document, entries = parse(text), read(raw, pair.order)
            for subject in random.sample(subjects, min(len(subjects), 30)):
                found = result(entries, subject)
                assert found == start(document, subject, pair.order), (subject, text)
                given.update(section for section, value in found.given.items() if value)
                given.update(refused=found.refused, quotas=bool(found.quotas), teams="teams" in raw)

    # Every section was given to somebody, and somebody was refused.
    assert {*merge([]), "refused", "quotas", "teams"} <= {*given}


@pytest.mark.parametrize(
    "image",
    [
        *(
            "nb",
            "nb:latest",
            "nb:3",
            "nb@d",
            "nb:3@d",
            "r:5/nb",
            "r:5/nb:latest",
            "r:5/nb@d",
            "a:",
            "a@",
            ":",
            "@",
            "/",
        ),
        *("a:b:c@d@e", "a@d@e", "a/b@c/d:e", "a:@d@e", "a::latest", "a:latest:b", "*", "a\nb", "n" * 1024, "n" * 1025),
    ],
)
def test_odd_images(image: str) -> None:
    filters = [
        "nb",
        "nb:latest",
        "nb@d",
        "r:5/nb",
        "a",
        "a:",
        "a@",
        "*:*",
        "*latest",
        "*@*",
        "*b",
        "a@d@e",
        "/*",
        "*",
        "**",
    ]
    profiles = [{"images": [each], "env": {f"V{place}": "1"}} for place, each in enumerate(filters)]
    raw = {"profiles": profiles}
    subject = Subject("ada", frozenset(), image)

    assert result(raw, subject) == start(parse_document(yaml.safe_dump(raw)), subject, "specificity")


# What checks the package

Compared = Callable[[Pair], Subject | None]


def run_with(find: Compared, monkeypatch: pytest.MonkeyPatch, *, pairs: int = 300) -> tuple[list[Finding], Tally]:
    """What `run` says of a package that finds this subject for a pair."""
    made: list[Pair] = []

    def make(random: Random) -> Pair:
        made.append(make_pair(random))
        return made[-1]

    def compare(old: Document, new: Document, order: str, **moment: int) -> SimpleNamespace:
        subject = find(made[-1])
        changes = () if subject is None else (SimpleNamespace(example=subject),)
        return SimpleNamespace(equal=not changes, changes=changes)

    monkeypatch.setattr(runner, "make_pair", make)
    tally = Tally()
    return run(pairs, 15, compare, pieces=3, tally=tally), tally


def find_rightly(pair: Pair) -> Subject | None:
    return find_difference(pair.old, pair.new, pair.order, at=pair.at, since=pair.since, pieces=3)


def test_nothing_is_found_where_nothing_is_wrong(monkeypatch: pytest.MonkeyPatch) -> None:
    findings, tally = run_with(find_rightly, monkeypatch)

    assert findings == []
    assert tally.pairs == 300
    assert tally.examples == tally.different > 0
    assert tally.beyond == 0


def find_without(name: str, instead: Callable[..., Any], monkeypatch: pytest.MonkeyPatch) -> Compared:
    """Finds what the oracle finds where one of its functions is another one."""

    def find(pair: Pair) -> Subject | None:
        with monkeypatch.context() as changed:
            changed.setattr(subjects, name, instead)
            return find_rightly(pair)

    return find


def find_people_in_one_group(documents: list[Any]) -> list[Any]:
    return [(user, groups) for user, groups in find_people(documents) if len(groups) < 2]


def find_first_moment(documents: list[Any], **moment: Any) -> list[float]:
    return find_moments(documents, **moment)[:1]


def find_images_without_stars(documents: list[Any], pieces: int) -> list[str]:
    profiles = [profile for part in find_parts(documents) for profile in part["profiles"]]
    return ["other", *(image.replace("*", "") or "x" for profile in profiles for image in profile.get("images", ()))]


@pytest.mark.parametrize(
    ("name", "instead"),
    [
        pytest.param("find_people", find_people_in_one_group, id="in-two-groups"),
        pytest.param("find_moments", find_first_moment, id="later"),
        pytest.param("find_different_images", find_images_without_stars, id="on-overlapping-patterns"),
        pytest.param("describe_size", lambda size: (size.raw["name"],), id="sizes-that-are-offered"),
        pytest.param("describe_image", lambda image: (image.raw["name"], None, image.raw.get("image")), id="images"),
        pytest.param("describe_quota", lambda quota: quota.raw["name"], id="quotas"),
    ],
)
def test_differences_that_the_package_misses(
    name: str, instead: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    findings, _ = run_with(find_without(name, instead, monkeypatch), monkeypatch, pairs=600)

    assert findings
    assert all("missed" in finding.what and finding.subject for finding in findings)


@pytest.mark.parametrize(
    ("find", "what"),
    [
        pytest.param(lambda _: Subject("nobody", frozenset(), "z"), "at a moment that does not count", id="too-early"),
        pytest.param(
            lambda pair: Subject("", frozenset(), "z", at=pair.since), "the example has no user", id="no-user"
        ),
        pytest.param(
            lambda pair: Subject("nobody", frozenset(), "z", at=pair.since), "the example gets the same", id="invented"
        ),
        pytest.param(lambda pair: 1 / 0, "ZeroDivisionError", id="a-defect"),
    ],
)
def test_wrong_answers(find: Compared, what: str, monkeypatch: pytest.MonkeyPatch) -> None:
    findings, _ = run_with(find, monkeypatch, pairs=20)

    assert any(what in finding.what for finding in findings)


def test_equal_with_changes_is_wrong(monkeypatch: pytest.MonkeyPatch) -> None:
    findings = run(1, 15, lambda *_, **__: SimpleNamespace(equal=False, changes=()))

    assert [finding.what for finding in findings] == ["equal is False, and there are 0 changes"]


def test_the_command_keeps_what_it_finds(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    wrong = SimpleNamespace(equal=False, changes=())
    monkeypatch.setattr(runner, "find_compare", lambda: lambda *_, **__: wrong)
    monkeypatch.setattr(sys, "argv", ["oracle", "--pairs", "1", "--seed", "15", "--folder", str(tmp_path)])

    assert main() == 1

    pair = make_pair(Random("15/0"))
    assert (tmp_path / "15-0" / "old.yaml").read_text() == pair.old_text
    assert (tmp_path / "15-0" / "new.yaml").read_text() == pair.new_text
    printed = capsys.readouterr().out
    assert "again: python -m oracle --pairs 1 --first 0 --seed 15\n" in printed
    assert "1 pairs in" in printed


def test_the_command_asks_the_oracle_alone(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setattr(sys, "argv", ["oracle", "--pairs", "10", "--pieces", "2", "--alone"])

    assert main() == 0

    assert "10 pairs in" in capsys.readouterr().out


# The oracle itself


def test_a_text_says_what_its_document_says() -> None:
    for pair in make_pairs(300, "text"):
        for raw, text in ((pair.old, pair.old_text), (pair.new, pair.new_text)):
            read_back, known = read(load(text)), read(raw)
            for entries, others in zip(read_back, known, strict=True):
                assert [(each.start, each.end, each.sections) for each in entries] == [
                    (each.start, each.end, each.sections) for each in others
                ]
                assert [each.team and is_told(each.team) for each in entries] == [
                    each.team and is_told(each.team) for each in others
                ]
            assert [*map(describe_image, read_back.images)] == [*map(describe_image, known.images)]
            assert [*map(describe_quota, read_back.quotas)] == [*map(describe_quota, known.quotas)]


def is_told(team: Any) -> tuple[Any, ...]:
    return names_who(team), [(user, is_for(team, user, frozenset({group}))) for user in USERS for group in GROUPS]


def test_the_fast_search_finds_what_the_simple_one_finds() -> None:
    found: Counter[bool] = Counter()
    for pair in make_pairs(300, "fast"):
        documents = [pair.old, pair.new]
        images = find_different_images(documents, 3)
        moment = {"at": pair.at, "since": pair.since}
        subjects = [*all_subjects(documents, images=images, **moment)]
        if len(subjects) > 20_000:
            continue
        simple = find_difference_simply(*documents, pair.order, subjects)
        fast = find_difference(*documents, pair.order, pieces=3, **moment)
        assert (simple is None) is (fast is None), (simple, fast, pair)
        if fast:
            assert fast.at in find_moments(documents, **moment)
            assert find_difference_simply(*documents, pair.order, [fast]) == fast
        found[fast is None] += 1

    assert min(found[True], found[False]) > 50


def test_the_different_images_are_all_that_there_are() -> None:
    """As many kinds as all texts have, and more: filters have longer examples, too."""
    for pair in make_pairs(40, "images"):
        documents = [pair.old, pair.new]
        filters = sorted(
            {image for part in find_parts(documents) for each in part["profiles"] for image in each.get("images", ())}
        )
        kinds = [
            {tuple(fits_image(each, image) for each in filters) for image in images}
            for images in (find_images(documents), find_different_images(documents, 3))
        ]
        assert kinds[0] == kinds[1]
        assert len(find_different_images(documents, 3)) == len(kinds[1])


def test_about_half_of_the_pairs_are_equal_for_everybody() -> None:
    tally = Tally()

    run_alone(400, 1, pieces=3, tally=tally)

    assert 0.4 < tally.equal / tally.pairs < 0.6
    assert sum(pair.old_text != pair.new_text for pair in make_pairs(400, "1")) > 390


def test_the_oracle_imports_nothing_of_what_it_checks() -> None:
    folder = Path(oracle.__file__).parent
    for path in folder.glob("*.py"):
        names = [
            name
            for node in ast.walk(ast.parse(path.read_text()))
            for name in (
                [each.name for each in node.names]
                if isinstance(node, ast.Import)
                else [node.module or ""]
                if isinstance(node, ast.ImportFrom)
                else []
            )
        ]
        assert path.name == "runner.py" or not [name for name in names if name.startswith("profiled_spawner")]


def test_the_faults_to_plant_still_have_their_places_and_one_is_found() -> None:
    for fault in FAULTS:
        source = (PACKAGE / "decide" / f"{fault.module}.py").read_text()
        assert source.count(fault.text) == 1, fault
        assert fault.text != fault.replacement
    assert len(FAULTS) >= 20
    assert is_found(FAULTS[4], 300)
