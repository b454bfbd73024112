"""Whoever can get a thing is found, and nobody else; so is whoever can be without it."""

from __future__ import annotations

from collections.abc import Iterator
from random import Random
from typing import Any

import pytest

from oracle import Subject, holders
from oracle.answer import NO_SIZE, read, result
from oracle.runner import parse
from oracle.subjects import all_subjects, find_different_images, find_parts
from oracle.world import make_pair
from profiled_spawner.decide.comparison import Change
from profiled_spawner.decide.holders import Kind, Thing, find_holders, find_lacking
from profiled_spawner.document.model import combine_documents
from profiled_spawner.document.parser import parse_document

SECRET = "env: {S: {valueFrom: {secretKeyRef: {name: s, key: k}}}}"


def find(text: str, kind: Kind, name: str, **options: Any) -> tuple[Change, ...]:
    return find_holders(
        parse_document(text if text.startswith("profiles:") else f"profiles: [{text}]"), Thing(kind, name), **options
    )


def describe(found: tuple[Change, ...]) -> list[tuple[object, ...]]:
    return [(each.new and each.new.entry.name, each.users, each.groups, each.everyone) for each in found]


@pytest.mark.parametrize(
    ("text", "kind", "name", "expected"),
    [
        pytest.param("{name: p, env: {A: b}}", "env", "A", [("p", (), (), True)], id="everyone"),
        pytest.param("{name: p, env: {A: b}}", "env", "B", [], id="another variable"),
        pytest.param("{name: p, env: {A: null}}", "env", "A", [], id="null"),
        pytest.param("{name: p, users: [], groups: [], env: {A: b}}", "env", "A", [], id="nobody"),
        pytest.param(
            "{name: p, users: [ada], groups: [h, g], env: {A: b}}", "env", "A", [("p", ("ada",), ("g", "h"), False)],
            id="named"
        ),
        pytest.param(
            "{name: p, groups: [g, h], env: {A: b}}, {name: q, groups: [g], env: {A: null}}",
            "env", "A", [("p", (), ("h",), False)], id="taken away again",
        ),
        pytest.param(
            "{name: p, groups: [g], env: {A: b}}, {name: q, groups: [g], env: {A: c}}",
            "env", "A", [("q", (), ("g",), False)], id="one that never wins",
        ),
        pytest.param(
            f"{{name: p, groups: [g], {SECRET}}}", "secret", "s", [("p", (), ("g",), False)],
            id="secret of a variable",
        ),
        pytest.param(
            f"{{name: p, groups: [g], {SECRET}}}, {{groups: [g], env: {{S: plain}}}}", "secret", "s", [],
            id="secret overridden"
        ),
        pytest.param(
            "{name: p, env_from: [{configMapRef: {name: s}}]}", "secret", "s", [], id="a ConfigMap is no secret"
        ),
        pytest.param(
            "{name: p, env_from: [{secretRef: {name: s}}]}", "secret", "s", [("p", (), (), True)],
            id="secret of all variables"
        ),
        pytest.param(
            "{name: p, volumes: [{name: v, mountPath: /v, projected: {sources: [{secret: {name: s}}]}}]}",
            "secret", "s", [("p", (), (), True)], id="projected secret",
        ),
        pytest.param(
            "{name: p, volumes: [{name: v, mountPath: /v, secret: {secretName: s}}]}, "
            "{name: q, groups: [g], volumes: [{name: w, mountPath: /v/, emptyDir: {}}]}",
            "secret", "s", [("p", (), (), True)], id="secret of a volume",
        ),
        pytest.param(
            "{name: p, volumes: [{name: v, mountPath: /v, secret: {secretName: 's-{username}'}}]}",
            "secret", "s-ada", [("p", (), (), True)], id="template",
        ),
        pytest.param(
            "{name: p, volumes: [{name: v, mountPath: /v, secret: {secretName: 's-{username}'}}]}",
            "secret", "t-ada", [], id="a template that never becomes it",
        ),
        pytest.param(
            "{name: p, volumes: [{name: v, mountPath: /v, persistentVolumeClaim: {claimName: c}}]}",
            "claim", "c", [("p", (), (), True)], id="claim",
        ),
        pytest.param(
            "{name: p, groups: [g], gpu: 1}", "resource", "nvidia.com/gpu", [("p", (), ("g",), False)],
            id="resource",
        ),
        pytest.param("{name: p, gpu: 0}", "resource", "nvidia.com/gpu", [], id="none of a resource"),
        pytest.param("{name: p, groups: [g]}", "profile", "p", [("p", (), ("g",), False)], id="profile"),
        pytest.param(
            "{groups: [g]}", "profile", "profiles[0]", [(None, (), ("g",), False)],
            id="profile without a name",
        ),
        pytest.param(
            "profiles: []\nsizes: [{name: L, groups: [g], gpu: 1}]", "size", "L", [("L", (), ("g",), False)], id="size"
        ),
        pytest.param(
            "profiles: []\nsizes: [{name: L, groups: [g], gpu: 1}]",
            "resource", "nvidia.com/gpu", [("L", (), ("g",), False)], id="resource of a size",
        ),
        pytest.param(
            "profiles: []\nimages: [{name: I, image: i, users: [ada]}]",
            "image-choice",
            "I",
            [("I", ("ada",), (), False)],
            id="image"
        ),
        pytest.param(
            "profiles: [{name: p, images: [j], env: {A: b}}]\nimages: [{name: I, image: i}]", "env", "A", [],
            id="image not offered"
        ),
    ],
)  # fmt: skip
def test_everybody_who_can_get_it_is_named(
    text: str, kind: Kind, name: str, expected: list[tuple[object, ...]]
) -> None:
    assert describe(find(text, kind, name)) == expected


def test_two_patterns_at_once_and_two_groups_at_once() -> None:
    (change,) = find("{images: ['a*'], env: {A: b}}, {images: ['*b'], env: {A: null}}", "env", "A")
    assert [image.entries for image in change.images] == [("a*",)]
    images = "images: [{name: I, image: i, groups: [h]}, {name: J, image: j, groups: [k]}]"
    text = f"profiles: [{{groups: [g], env: {{A: b}}}}]\n{images}"
    # Without an image to choose, and with each of them.
    assert [each.example.groups for each in find(text, "env", "A")] == [("g",), ("g", "h"), ("g", "k")]


def test_people_of_a_roster_are_those_who_are_members_of_the_team() -> None:
    main = parse_document("profiles: []\nteams: [{name: t, configmaps: [t], users: [di], groups: [f, h]}]")
    (team,) = main.teams or ()
    theirs = parse_document("profiles: [{name: p, users: [ada, bo], groups: [s], env: {A: b}}]").of_configmap("t", team)
    roster = {
        "ada": frozenset({"f"}), "bo": frozenset({"x"}), "cy": frozenset({"s", "h"}), "di": frozenset({"s"}),
        "ed": frozenset({"s"}), "fay": frozenset({"f", "h"}),
    }  # fmt: skip
    found = find_holders(combine_documents(main, [theirs]).document, Thing("env", "A"), roster=roster)
    assert [(each.users, each.groups, each.within, each.people) for each in found] == [
        (("ada", "bo"), ("s",), "f", ("ada",)),
        (("ada", "bo"), ("s",), "h", ("cy",)),
        (("di",), (), "s", ("di",)),
    ]


def test_who_is_outside_is_not_looked_at() -> None:
    text = "{groups: [g, h], users: [ada], env: {A: b}}"
    assert describe(find(text, "env", "A", outside=((), ["g"]))) == [(None, ("ada",), ("h",), False)]
    assert not find(text, "env", "A", outside=(["ada"], ["h", "g"]))
    assert not find("{groups: [g], users: [ada], env: {A: b}}", "env", "A", outside=(["ada"], ["g"]))


@pytest.mark.parametrize(
    ("text", "thing", "example"),
    [
        pytest.param("{env: {A: b}}", Thing("env", "A"), None, id="everyone has it"),
        pytest.param("{groups: [g], env: {A: b}}", Thing("env", "A"), ((), "default"), id="who is in no group"),
        pytest.param("{env: {A: b}}, {groups: [g], env: {A: null}}", Thing("env", "A"), (("g",), "default"), id="null"),
        pytest.param(
            f"{{{SECRET}}}, {{groups: [g], env: {{S: x}}}}, {{env_from: [{{secretRef: {{name: s}}}}]}}",
            Thing("secret", "s"), None, id="one of two ways is enough",
        ),
        pytest.param(
            "profiles: [{gpu: 1}]\nsizes: [{name: L, gpu: 0}]", Thing("resource", "nvidia.com/gpu"), ((), "L"),
            id="a size"
        ),
        pytest.param(
            "{volumes: [{name: v, mountPath: /v, secret: {secretName: 's-{username}'}}]}",
            Thing("secret", "s-ada"), ((), "default"), id="a template is another one for others",
        ),
        pytest.param("", Thing("secret", "s"), ((), "default"), id="nothing"),
    ],
)  # fmt: skip
def test_somebody_without_it_is_found(text: str, thing: Thing, example: tuple[object, ...] | None) -> None:
    found = find_lacking(parse_document(f"profiles: [{text}]" if not text.startswith("profiles") else text), thing)
    assert (found and (found.example.groups, found.example.size)) == example


def list_things(raw: dict[str, Any]) -> Iterator[Thing]:
    """Some things, most of which are in random documents."""
    yield from (Thing("env", name) for name in ("A", "B"))
    yield from (Thing("secret", name) for name in ("s1", "s2"))
    yield from (Thing("resource", name) for name in ("memory", "cpu", "nvidia.com/gpu"))
    yield from (Thing("claim", name) for name in ("c1", "data"))
    for kind, key in (("profile", "profiles"), ("size", "sizes"), ("image-choice", "images")):
        entries = (entry for part in find_parts([raw]) for entry in part.get(key) or ())
        names = sorted({entry["name"] for entry in entries if entry.get("name")})
        yield from (Thing(kind, name) for name in names)  # type: ignore[arg-type]


@pytest.mark.parametrize("seed", range(120))
def test_random_documents_give_it_to_whom_they_do_by_brute_force(seed: int) -> None:
    pair = make_pair(Random(f"holders/{seed}"))
    document = parse(pair.new_text)
    subjects = list(all_subjects([pair.new], since=pair.since, images=find_different_images([pair.new])))
    entries = read(pair.new, pair.order)
    sample = Random(seed).sample(subjects, min(len(subjects), 1500))
    started = [each for each in sample if not result(entries, each, pair.order).refused]
    for thing in list_things(pair.new):
        kind = "image" if thing.kind == "image-choice" else thing.kind
        have = holders(pair.new, (kind, thing.name), pair.order, started)
        found = find_holders(document, thing, pair.order, since=pair.since)
        for change in found:
            example = change.example
            subject = Subject(
                example.user, frozenset(example.groups), example.image,
                thing.name if kind == "image" else example.image_choice,
                thing.name if kind == "size" else example.size, int(example.at),
            )  # fmt: skip
            assert holders(pair.new, (kind, thing.name), pair.order, [subject]), (thing, change)
        for subject in have:
            holding = [change for change in found if fits(change, subject)]
            assert holding, (thing, subject)
            if subject.size == NO_SIZE and result(entries, subject, pair.order).runs is None:
                # Nobody needs more names than the rule asks for: so all are named.
                is_named = any(each.everyone or each.names(subject.user, subject.groups) for each in holding)
                assert is_named, (thing, subject)
        lacking = find_lacking(document, thing, pair.order, since=pair.since)
        if kind not in ("size", "image"):  # Whoever is offered these may choose others.
            assert lacking is not None or len(have) == len(started), thing
        users, groups = ["ada"], ["g"]
        others = {each for each in have if each.user not in users and each.groups.isdisjoint(groups)}
        outside = find_holders(document, thing, pair.order, since=pair.since, outside=(users, groups))
        assert bool(outside) >= bool(others), thing
        assert all(each.example.user != "ada" and "g" not in each.example.groups for each in outside)


def fits(change: Change, subject: Subject) -> bool:
    """Whether a holder is for a subject: the rule names it, and the choice is the same."""
    rule = change.new
    assert rule is not None
    named = all(who.includes(subject.user, subject.groups) for who in rule.who)
    return named and rule.period.covers(subject.at)
