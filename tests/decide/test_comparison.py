"""Two documents are equal if, and only if, nobody gets anything else."""

from __future__ import annotations

from datetime import UTC

import pytest

from oracle import Tally, run
from profiled_spawner.decide.comparison import Comparison, compare_documents
from profiled_spawner.decide.matching import MergeOrder
from profiled_spawner.document.model import combine_documents
from profiled_spawner.document.parser import parse_document
from profiled_spawner.document.times import parse_start

BEGINS = parse_start("2030-01-01", UTC)


def compare(old: str, new: str, order: MergeOrder = "specificity") -> Comparison:
    """Compares two lists of profiles, or two documents."""
    texts = [text if text.startswith("profiles:") else f"profiles: [{text}]" for text in (old, new)]
    return compare_documents(parse_document(texts[0]), parse_document(texts[1]), order, since=0)


@pytest.mark.parametrize(
    ("old", "new", "order"),
    [
        pytest.param(
            "{env: {A: b}}", "{users: ['*'], images: ['*'], env: {A: b}}", "specificity", id="filters for all"
        ),
        pytest.param(
            "{groups: [g], env: {A: b}}, {env: {A: c}}",
            "{env: {A: c}}, {groups: [g], env: {A: b}}",
            "specificity",
            id="the more specific one wins wherever it stands",
        ),
        pytest.param(
            "{users: [ada], env: {A: b}}, {users: [grace], env: {A: c}}",
            "{users: [grace], env: {A: c}}, {users: [ada], env: {A: b}}",
            "document",
            id="nobody is two users",
        ),
        pytest.param(
            "{images: [a], env: {A: b}}, {images: ['b*'], env: {A: c}}",
            "{images: ['b*'], env: {A: c}}, {images: [a], env: {A: b}}",
            "specificity",
            id="no image is both",
        ),
        pytest.param("{images: [a], env: {A: b}}", "{images: ['a:latest'], env: {A: b}}", "specificity", id="latest"),
        pytest.param(
            "{images: ['a*'], env: {A: b}}",
            "{images: ['a*', 'a:1'], env: {A: b}}",
            "specificity",
            id="image in pattern",
        ),
        pytest.param(
            "{groups: [g], env: {A: old}}, {groups: [g], env: {A: b}}",
            "{groups: [g], env: {A: b}}",
            "specificity",
            id="a profile that never wins",
        ),
        pytest.param(
            "{groups: [g, h], env: {A: b}}",
            "{groups: [g], env: {A: b}}, {groups: [h], env: {A: b}}",
            "specificity",
            id="one profile as two",
        ),
        pytest.param(
            "{resources: {mem_limit: 1Gi}}", "{resources: {limits: {memory: 1024Mi}}}", "specificity", id="notation"
        ),
        pytest.param(
            "{env: &all {A: b, C: d}}, {groups: [g], env: {<<: *all, C: e}}",
            "{env: {A: b, C: d}}, {groups: [g], env: {C: e}}",
            "specificity",
            id="merge keys",
        ),
        pytest.param(
            "{from: 2030-01-01, until: 2030-01-31, env: {A: b}}, {from: 2030-02-01, env: {A: b}}",
            "{from: 2030-01-01, env: {A: b}}",
            "specificity",
            id="times that follow each other",
        ),
        pytest.param(
            "{from: 2030-01-01, until: 2030-01-31, env: {A: b}}, {from: 2030-02-01, env: {A: c}}",
            "{from: 2030-02-01, env: {A: c}}, {from: 2030-01-01, until: 2030-01-31, env: {A: b}}",
            "document",
            id="times that never meet",
        ),
        pytest.param(
            "{env_from: [{secretRef: {name: s}}, {secretRef: {name: t}}]}",
            "{env_from: [{secretRef: {name: s}}]}, {env_from: [{secretRef: {name: t}}]}",
            "document",
            id="sources one by one",
        ),
        pytest.param(
            "profiles: [{images: [a], env: {A: b}}, {images: [b], env: {A: b}}]\nimages: [{name: A, image: a}]",
            "profiles: [{images: [a], env: {A: b}}]\nimages: [{name: A, image: a}]",
            "specificity",
            id="an image that is not offered",
        ),
    ],
)
def test_what_gives_everybody_the_same_is_equal(old: str, new: str, order: MergeOrder) -> None:
    assert compare(old, new, order).changes == ()
    assert compare(new, old, order).equal


@pytest.mark.parametrize(
    ("old", "new", "example"),
    [
        pytest.param(
            "{groups: [g], env: {A: b}}, {groups: [h], env: {A: c}}",
            "{groups: [h], env: {A: c}}, {groups: [g], env: {A: b}}",
            {"groups": ("g", "h")},
            id="two groups at once",
        ),
        pytest.param(
            "{groups: [g], env: {A: b}}, {users: [ada], env: {A: c}}",
            "{users: [ada], env: {A: c}}, {groups: [g], env: {A: b}}",
            {"user": "ada", "groups": ("g",)},
            id="a user in a group",
        ),
        pytest.param(
            "{images: ['a*'], env: {A: b}}, {images: ['*b'], env: {A: c}}",
            "{images: ['*b'], env: {A: c}}, {images: ['a*'], env: {A: b}}",
            {"image": "ab"},
            id="an image that two patterns match",
        ),
        pytest.param("{env: {A: b}}", "{env: {A: null}}", {}, id="null"),
        pytest.param("", "{env: {A: null}}", {}, id="null is not nothing"),
        pytest.param(
            "{env: {A: b}}", "{env: {A: b}}, {until: 2030-01-01, env: {A: c}}", {"at": 0}, id="until some day"
        ),
        pytest.param(
            "{env: {A: b}}",
            "{env: {A: b}}, {from: 2030-01-01, env: {A: c}}",
            {"at": BEGINS},
            id="from some day",
        ),
        pytest.param(
            "{env_from: [{secretRef: {name: s}}, {secretRef: {name: t}}]}",
            "{env_from: [{secretRef: {name: t}}, {secretRef: {name: s}}]}",
            {},
            id="order of sources",
        ),
        pytest.param(
            "{volumes: [{name: v, mountPath: /v, emptyDir: {}}]}",
            "{volumes: [{name: v, mountPath: /v, emptyDir: {}}]}, "
            "{groups: [g], volumes: [{name: w, mountPath: /v/, emptyDir: {}}]}",
            {"groups": ("g",)},
            id="a volume that another one takes the path of",
        ),
        pytest.param(
            "profiles: []\nsizes: [{name: L, gpu: 1}]",
            "profiles: []\nsizes: [{name: L, gpu: 2}]",
            {"size": "L"},
            id="a size",
        ),
        pytest.param(
            "profiles: []\nimages: [{name: I, image: i}, {name: J, image: j}]",
            "profiles: []\nimages: [{name: J, image: j}, {name: I, image: i}]",
            {},
            id="the order of images",
        ),
        pytest.param(
            "profiles: [{images: [i], env: {A: b}}]\nimages: [{name: I, image: i, groups: [g]}]",
            "profiles: [{images: [i], env: {A: c}}]\nimages: [{name: I, image: i, groups: [g]}]",
            {"image": "i"},
            id="whoever is offered none may run any",
        ),
    ],
)
def test_a_difference_has_an_example(old: str, new: str, example: dict[str, object]) -> None:
    for comparison in (compare(old, new), compare(new, old)):
        change = comparison.changes[0]
        assert {name: getattr(change.example, name) for name in example} == example


def test_a_preference_that_two_profiles_give_counts_twice() -> None:
    preference = "{weight: 1, preference: {matchExpressions: [{key: pool, operator: Exists}]}}"
    affinity = f"node_affinity: {{preferredDuringSchedulingIgnoredDuringExecution: [{preference}]}}"
    (change,) = compare(
        f"{{groups: [g, h], {affinity}}}", f"{{groups: [g], {affinity}}}, {{groups: [h], {affinity}}}"
    ).changes
    assert change.example.groups == ("g", "h")


def test_order_decides_where_the_document_says_so() -> None:
    old, new = "{groups: [g], env: {A: b}}, {env: {A: c}}", "{env: {A: c}}, {groups: [g], env: {A: b}}"
    assert compare(old, new).equal
    assert not compare(old, new, "document").equal


def test_a_moment_of_its_own_is_compared_alone() -> None:
    old, new = parse_document("profiles: []"), parse_document("profiles: [{from: 2030-01-01, env: {A: b}}]")
    assert compare_documents(old, new, at=BEGINS - 1).equal
    assert not compare_documents(old, new, at=BEGINS).equal
    assert not compare_documents(old, new, since=BEGINS - 1).equal
    assert compare_documents(
        old, parse_document("profiles: [{until: 2030-01-01, env: {A: b}}]"), since=BEGINS * 2
    ).equal


def test_the_profiles_of_several_configmaps_are_one_document() -> None:
    main, other = parse_document("profiles: [{env: {A: b}}]"), parse_document("profiles: [{groups: [g], env: {A: c}}]")
    together = combine_documents(main, [other.of_configmap("team")]).document
    assert compare_documents(together, parse_document("profiles: [{env: {A: b}}, {groups: [g], env: {A: c}}]")).equal
    assert [change.groups for change in compare_documents(main, together).changes] == [("g",)]


def test_everybody_for_whom_it_is_so_is_named() -> None:
    old = "{users: [ada, grace], groups: [g, h], env: {A: CANARY}}, {env: {A: c}}"
    (change,) = compare(old, old.replace("CANARY", "CANARY-2")).changes
    assert (change.users, change.groups, change.everyone) == (("ada", "grace"), ("g", "h"), False)
    assert "CANARY" not in repr(change)


def test_random_documents_are_equal_if_they_are_by_brute_force() -> None:
    """``python -m oracle`` goes on from here."""
    tally = Tally()

    findings = run(300, seed=1, pieces=4, tally=tally)

    assert not findings, findings[0].describe(seed=1)
    assert min(tally.equal, tally.different, tally.examples) > 100
