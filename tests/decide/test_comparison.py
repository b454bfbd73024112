"""Two documents are equal if, and only if, nobody gets anything else."""

from __future__ import annotations

from datetime import UTC

import pytest

from oracle import Tally, run
from profiled_spawner.decide.comparison import Comparison, compare_documents
from profiled_spawner.decide.matching import MergeOrder
from profiled_spawner.document.model import Document, combine_documents
from profiled_spawner.document.parser import parse_document
from profiled_spawner.document.times import parse_start

BEGINS = parse_start("2030-01-01", UTC)


def compare(old: str, new: str, order: MergeOrder = "specificity") -> Comparison:
    """Compares two lists of profiles, or two documents."""
    texts = [text if text.startswith("profiles:") else f"profiles: [{text}]" for text in (old, new)]
    return compare_documents(parse_document(texts[0]), parse_document(texts[1]), order, since=0)


def with_teams(main: str, **profiles: str) -> Document:
    """A main document, with profiles from the ConfigMaps of its teams, by the team's name."""
    document = parse_document(main if "profiles:" in main else f"profiles: []\n{main}")
    others = [
        parse_document(f"profiles: [{profiles[team.name]}]").of_configmap(team.name, team)
        for team in document.teams or ()
        if team.name in profiles
    ]
    return combine_documents(document, others).document


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


TEAM = "teams: [{name: t, configmaps: [t], users: [ada, bo], groups: [f, f2]}]"


@pytest.mark.parametrize(
    ("profile", "main"),
    [
        pytest.param("{env: {A: b}}", "{users: [bo, ada], groups: [f2, f], env: {A: b}}", id="whatever it says itself"),
        pytest.param("{groups: [f], env: {A: b}}", "{groups: [f], env: {A: b}}", id="a part of the team"),
        pytest.param("{groups: [], env: {A: b}}", "", id="nobody"),
    ],
)
def test_what_a_team_gives_to_its_members_is_theirs(profile: str, main: str) -> None:
    theirs = with_teams(TEAM, t=profile)
    assert compare_documents(theirs, with_teams(f"profiles: [{main}]")).equal
    other_name = TEAM.replace("name: t,", "name: other,")
    assert compare_documents(theirs, with_teams(other_name, other=profile)).equal


@pytest.mark.parametrize(
    ("profile", "named"),
    [
        pytest.param(
            "{groups: [s], env: {A: b}}", {(("ada", "bo"), (), "s"), ((), ("s",), "f"), ((), ("s",), "f2")}, id="in two"
        ),
        pytest.param("{users: [cy, di], env: {A: b}}", {(("cy", "di"), (), "f"), (("cy", "di"), (), "f2")}, id="users"),
        pytest.param(
            "{users: [ada, cy], groups: [f], env: {A: b}}",
            {(("ada",), ("f",), None), (("cy",), (), "f2")},
            id="some of them alone",
        ),
        pytest.param(
            "{groups: [s], env: {A: b}}, {users: [ada], env: {A: null}}, {groups: [f], env: {A: null}}",
            {(("bo",), (), "s"), ((), ("s",), "f2")},
            id="less those for whom another decides",
        ),
    ],
)
def test_who_is_named_by_a_team_needs_what_makes_a_member(
    profile: str, named: set[tuple[tuple[str, ...], tuple[str, ...], str | None]]
) -> None:
    comparison = compare_documents(with_teams(TEAM, t=profile.replace("A: b", "A: c")), with_teams(TEAM, t=profile))
    assert {(change.users, change.groups, change.within) for change in comparison.changes} == named
    for change in comparison.changes:
        assert change.within is None or change.within in change.example.groups


def test_two_names_at_once_may_be_those_of_somebody_for_whom_a_team_decides() -> None:
    main = """
        profiles: [{groups: [s], env: {A: CANARY}}]
        images: [{name: I, image: i, groups: [f]}]
        teams: [{name: t, configmaps: [t], groups: [f]}]
    """
    for profile, images in (("", [None, "I"]), ("{groups: [s], env: {A: c}}", [None])):
        old, new = (with_teams(text, t=profile) for text in (main, main.replace("CANARY", "b")))
        changes = compare_documents(old, new).changes
        assert [change.example.image_choice for change in changes] == images


@pytest.mark.parametrize(
    ("groups", "without", "with_it"),
    [
        pytest.param(["s"], ("s",), ("f", "h", "s"), id="whoever is in no team"),
        pytest.param(["f", "h"], ("f",), ("f", "h"), id="members who are not offered it"),
    ],
)
def test_preferences_of_those_to_whom_a_team_offers_an_image_or_none(
    groups: list[str], without: tuple[str, ...], with_it: tuple[str, ...]
) -> None:
    profiles = [
        f"{{groups: [{group}], node_affinity: {{preferredDuringSchedulingIgnoredDuringExecution: ["
        "{weight: 1, preference: {matchExpressions: [{key: CANARY, operator: Exists}]}}]}}"
        for group in groups
    ]
    main = f"profiles: [{', '.join(profiles)}]\nteams: [{{name: t, configmaps: [t], groups: [f]}}]"
    theirs = parse_document("profiles: []\nimages: [{name: I, image: i, groups: [h]}]")
    documents = []
    for key in ("a", "b"):
        document = parse_document(main.replace("CANARY", key))
        (team,) = document.teams or ()
        documents.append(combine_documents(document, [theirs.of_configmap("t", team)]).document)
    found = {(change.example.image_choice, change.example.groups) for change in compare_documents(*documents).changes}
    assert found == {(None, without), ("I", with_it)}


QUOTA = "{name: q, groups: [g], hard: {pods: 2, limits.memory: 1Gi}}"


@pytest.mark.parametrize(
    ("old", "new", "expected"),
    [
        pytest.param("", QUOTA, [("q", False, True, ("g",))], id="begins"),
        pytest.param(QUOTA, "", [("q", True, False, ("g",))], id="ceases"),
        pytest.param(QUOTA, QUOTA.replace("1Gi", "1024Mi"), [], id="notation"),
        pytest.param(QUOTA, QUOTA.replace("1Gi", "2Gi"), [("q", True, True, ("g",))], id="amount"),
        pytest.param(QUOTA, QUOTA.replace("pods: 2, ", ""), [("q", True, True, ("g",))], id="an amount less"),
        pytest.param(QUOTA, QUOTA.replace("hard", "per: all, hard"), [], id="all is the default"),
        pytest.param(QUOTA, QUOTA.replace("hard", "per: user, hard"), [("q", True, True, ("g",))], id="per user"),
        pytest.param(
            QUOTA, QUOTA.replace("[g]", "[g, h]"), [("q", True, True, ("g",)), ("q", False, True, ("h",))],
            id="others share it",
        ),
        pytest.param(
            QUOTA.replace("hard", "per: user, hard"), QUOTA.replace("hard", "per: user, hard").replace("[g]", "[g, h]"),
            [("q", False, True, ("h",))], id="others have one of their own",
        ),
        pytest.param(
            QUOTA, QUOTA.replace("name: q", "name: r"), [("q", True, False, ("g",)), ("r", False, True, ("g",))],
            id="name",
        ),
        pytest.param(
            f"{QUOTA}, {QUOTA.replace('q', 'r')}", f"{QUOTA.replace('q', 'r')}, {QUOTA}", [], id="order says nothing"
        ),
        pytest.param(
            QUOTA.replace("groups: [g]", "users: ['*'], groups: [g]"), QUOTA.replace("groups: [g], ", ""), [],
            id="everyone",
        ),
        pytest.param(QUOTA, QUOTA.replace("hard", "until: 2030-01-01, hard"), [("q", True, False, ("g",))], id="ends"),
    ],
)  # fmt: skip
def test_quotas_are_compared_by_name(old: str, new: str, expected: list[tuple[object, ...]]) -> None:
    before, after = (parse_document(f"profiles: []\nquotas: [{quotas}]") for quotas in (old, new))
    found = [
        (change.setting[1], bool(change.old), bool(change.new), change.groups)
        for change in compare_documents(before, after, since=0).changes
    ]
    assert found == expected


def test_at_a_moment_only_its_quotas_count() -> None:
    old = parse_document("profiles: []")
    new = parse_document("profiles: []\nquotas: [{name: q, from: 2030-01-01, hard: {pods: 1}}]")
    assert compare_documents(old, new, at=BEGINS - 1).equal
    assert not compare_documents(old, new, at=BEGINS).equal


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
