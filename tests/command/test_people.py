"""What several people get is told once for all who get the same."""

from __future__ import annotations

from profiled_spawner.command.people import PersonExplained, explain_person, format_people
from profiled_spawner.command.terminal import Style
from profiled_spawner.decide.matching import Subject
from profiled_spawner.document.parser import parse_document

DOCUMENT = """
profiles:
- {name: globals, env: {A: CANARY-a}}
- {name: forecast, images: [lab/forecast], groups: [forecasters], env: {B: CANARY-b}}
- {name: lab, images: ["lab/*"], env: {C: CANARY-c}}
- {name: exam, images: [other], users: [edsger], env: {D: CANARY-d}}
"""
OFFER = """
profiles: [{name: lab, images: ["lab/*"], env: {C: d}}]
images:
- {name: Basic, image: basic}
- {name: Lab, image: lab/a, users: [ada]}
- {name: Hub, users: [ada]}
sizes: [{name: Large, groups: [staff]}]
"""


def explain(user: str, *groups: str, document: str = DOCUMENT, image: str = "", **chosen: str) -> PersonExplained:
    subject = Subject(user, frozenset(groups), image, 0)
    size, image_choice = chosen.get("size", "default"), chosen.get("image_choice")
    return explain_person(parse_document(document), subject, "specificity", image_choice=image_choice, size=size)


def shown_images(person: PersonExplained) -> list[str]:
    return [each.shown_image for each in person.explanations]


def lines_of(*people: PersonExplained) -> list[str]:
    return format_people(people, Style()).splitlines()


def test_without_an_image_there_is_each_that_the_profiles_of_the_person_tell_apart() -> None:
    assert shown_images(explain("ada", "forecasters")) == [
        "lab/forecast",
        "any other image that matches lab/*",
        "any other image",
    ]
    assert shown_images(explain("ada")) == ["any other image that matches lab/*", "any other image"]
    assert [len(each.effective.applied) for each in explain("ada", "forecasters").explanations] == [3, 2, 1]


def test_without_an_image_there_is_each_that_the_person_may_choose() -> None:
    assert shown_images(explain("ada", document=OFFER)) == [
        "basic (Basic)",
        "lab/a (Lab)",
        "any other image that matches lab/* (Hub)",
        "any other image (Hub)",
    ]
    assert shown_images(explain("grace", document=OFFER)) == ["basic (Basic)"]
    assert shown_images(explain("ada", document=OFFER, image_choice="Lab")) == ["lab/a (Lab)"]
    assert shown_images(explain("ada", document=OFFER, image_choice="Hub", image="x")) == ["x (Hub)"]


def test_patterns_without_end_are_told_apart_as_far_as_that_is_possible() -> None:
    entries = ", ".join(f'"*a{number}*"' for number in range(30))
    person = explain("ada", document=f"profiles: [{{images: [{entries}]}}]")
    assert not person.complete
    assert person.explanations


def test_images_that_give_the_same_are_named_together() -> None:
    same = "profiles: [{name: p, images: [a, b], env: {A: b}}, {name: q, images: [c], env: {A: b}}]"
    lines = lines_of(explain("ada", document=same))
    assert lines[:6] == ["User    ada", "Groups  none", "", "Image   a", "        b", ""]
    assert sum(line.startswith("Image") for line in lines) == 3


def test_people_who_get_the_same_are_named_together() -> None:
    lines = lines_of(explain("ada", "forecasters"), explain("linus"), explain("grace", "b", "forecasters"))
    assert lines[0] == "3 users, 2 different sets of settings"
    assert lines[4:7] == ["2 users with their groups", "  ada    forecasters", "  grace  b, forecasters"]
    assert "User    linus" in lines
    assert "  ✔ 1  forecast  member of forecasters; image is listed" in lines
    # One set alone needs no heading.
    assert lines_of(explain("ada"), explain("grace"))[:3] == ["2 users with their groups", "  ada", "  grace"]


def test_reasons_that_differ_are_not_told_of_all() -> None:
    people = explain("ada", "staff", image="x"), explain("linus", "forecasters", image="x")
    lines = lines_of(*people)
    assert lines[6:8] == ["Profiles: 1 of 4 match", "  for different reasons; explain one user alone to see them"]
    assert not [line for line in lines if "member of" in line]


def test_masked_values_that_differ_are_not_the_same() -> None:
    document = "profiles: [{users: [ada], env: {A: CANARY-1}}, {users: [grace], env: {A: CANARY-2}}]"
    document = document.replace("users", "name: one, users")
    lines = lines_of(*(explain(user, document=document, image="x") for user in ("ada", "grace")))
    assert lines[0] == "2 users, 2 different sets of settings"
    assert "CANARY" not in "".join(lines)


def test_what_may_be_chosen_tells_people_apart() -> None:
    lines = lines_of(explain("grace", document=OFFER), explain("linus", "staff", document=OFFER))
    assert lines[0] == "2 users, 2 different sets of settings"
    assert "May choose sizes   default, Large" in lines


def test_a_crowd_is_not_listed_name_by_name() -> None:
    lines = lines_of(*(explain(f"user-{number:02}", image="x") for number in range(1_000)))
    assert lines[0] == "1,000 users with their groups"
    assert lines[10:12] == ["  user-09", "  … and 990 more, whom --format json names"]
