"""Of all images that match some entries, those are found that match as few others as possible."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from profiled_spawner.decide.least_images import LeastImages
from profiled_spawner.document.limits import MAX_IMAGE

from .test_image_classes import ENTRIES, IMAGES, find_matching


@pytest.mark.parametrize(
    ("entries", "required", "examples"),
    [
        pytest.param(["a*", "ab*"], ["a*"], ["a"], id="not the more special one"),
        pytest.param(["a*", "ab*"], ["ab*"], ["ab"], id="which the other cannot avoid"),
        pytest.param(["a*", "*b", "ab"], ["a*", "*b"], ["abb"], id="two, and not the image itself"),
        pytest.param(["a*", "b*"], ["a*", "b*"], [], id="two that no image matches"),
        pytest.param(["lab/*", "*:latest"], ["lab/*"], ["lab/:"], id="with a tag, or else it would be the latest"),
        pytest.param(["*:latest", "a*"], ["*:latest"], ["x"], id="without a tag it is the latest"),
        pytest.param(["a*", "*b"], [], ["x"], id="none"),
        pytest.param(["**"], [], ["x" * (MAX_IMAGE + 1)], id="one that only too long images avoid"),
    ],
)
def test_an_image_matches_what_is_required_and_little_else(
    entries: list[str], required: list[str], examples: list[str]
) -> None:
    assert [each.example for each in LeastImages(entries).find(*required)] == examples


@given(ENTRIES, IMAGES, st.data())
def test_no_image_matches_fewer(entries: list[str], image: str, data: st.DataObject) -> None:
    matching = find_matching(entries, image)
    required = data.draw(st.lists(st.sampled_from(sorted(matching)), max_size=2, unique=True)) if matching else []
    images = LeastImages(entries)
    assert frozenset(images.classify(image).entries) == matching
    found = [frozenset(each.entries) for each in images.find(*required)]
    assert [find_matching(entries, each.example) for each in images.find(*required)] == found
    assert all(set(required) <= each for each in found)
    assert any(each <= matching for each in found)
    assert not [each for each in found if any(other < each for other in found)]
