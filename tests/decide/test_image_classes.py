"""The classes of images are those that matching tells apart, all of them, and each with an example."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from profiled_spawner.decide import image_classes
from profiled_spawner.decide.image_classes import ImageClass, find_image_classes
from profiled_spawner.decide.matching import Subject, matches
from profiled_spawner.document.model import Profile

# What references are made of, so that random texts often are some, or nearly.
PIECES = st.sampled_from(["a", "b", "/", ":", "@", "1", "latest", ":latest", "d"])
IMAGES = st.lists(PIECES, min_size=1, max_size=6).map("".join)
ENTRIES = st.lists(
    st.lists(PIECES | st.just("*"), min_size=1, max_size=5).map("".join).filter(lambda entry: entry != "*"), max_size=5
)


def find_matching(entries: list[str], image: str) -> frozenset[str]:
    """The entries that a start on this image would find to match."""
    subject = Subject("ada", frozenset(), image, 0)
    return frozenset(entry for entry in entries if matches(Profile(0, images=(entry,)), subject))


@pytest.mark.parametrize(
    ("entries", "classes"),
    [
        pytest.param([], [("x", [])], id="nothing is told apart"),
        pytest.param(["lab:1"], [("lab:1", ["lab:1"]), ("x", [])], id="an image"),
        pytest.param(["a", "a:latest"], [("a", ["a", "a:latest"]), ("x", [])], id="two names of one image"),
        pytest.param(
            ["r/*", "r/a:1"],
            [("r/a:1", ["r/*", "r/a:1"]), ("r/", ["r/*"]), ("x", [])],
            id="an image within a pattern",
        ),
        pytest.param(
            ["a*", "*b"],
            [("ab", ["a*", "*b"]), ("a", ["a*"]), ("b", ["*b"]), ("x", [])],
            id="patterns that overlap",
        ),
        pytest.param(["a*", "b*"], [("a", ["a*"]), ("b", ["b*"]), ("x", [])], id="patterns that do not"),
        pytest.param(["a*", "a**"], [("a", ["a*", "a**"]), ("x", [])], id="two ways to write a pattern"),
        pytest.param(
            ["*:latest", "*:b"],
            [("x", ["*:latest"]), (":b", ["*:b"]), (":", [])],
            id="no tag is latest",
        ),
        pytest.param(
            ["a@b", "a:1@*"],
            [("a@b", ["a@b"]), ("a:1@b", ["a@b", "a:1@*"]), ("a:1@", ["a:1@*"]), ("x", [])],
            id="a digest counts without the tag too",
        ),
    ],
)
def test_each_class_has_its_shortest_example(entries: list[str], classes: list[tuple[str, list[str]]]) -> None:
    found = find_image_classes(entries)
    assert found.complete
    assert [(each.example, list(each.entries)) for each in found.classes] == classes


def test_an_image_that_is_too_long_is_none(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(image_classes, "MAX_IMAGE", 2)
    found = find_image_classes(["a*", "*bc"])
    assert [(each.example, each.entries) for each in found.classes] == [("a", ("a*",)), ("bc", ("*bc",)), ("x", ())]
    assert found.complete


@given(ENTRIES, IMAGES)
def test_every_image_is_in_one_class_and_matches_what_its_example_does(entries: list[str], image: str) -> None:
    found = find_image_classes(entries)
    assert found.complete
    for each in found.classes:
        assert find_matching(entries, each.example) == frozenset(each.entries)
    (its,) = [each for each in found.classes if frozenset(each.entries) == find_matching(entries, image)]
    assert len(its.example) <= len(image)


def test_entries_with_more_combinations_than_anybody_can_list_come_to_an_end() -> None:
    entries = [f"*a{number}*" for number in range(100)]
    found = find_image_classes(entries, most_states=500)
    assert not found.complete
    assert len(found.classes) <= 500
    for each in found.classes:
        assert find_matching(entries, each.example) == frozenset(each.entries)


@pytest.mark.parametrize(("entries", "one"), [([], False), (["a*"], False), (["a*", "a"], True)])
def test_a_class_may_be_one_image(entries: list[str], one: bool) -> None:
    assert ImageClass("a", tuple(entries)).is_one_image is one
