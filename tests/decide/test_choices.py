"""Which images and sizes a person may choose, and what each size is said to give."""

from __future__ import annotations

import re
from contextlib import nullcontext
from typing import Any

import pytest

from profiled_spawner.decide.choices import (
    Offer,
    choose,
    describe_default,
    describe_hard,
    describe_size,
    find_offer,
    is_readable,
)
from profiled_spawner.decide.matching import MergeOrder, Subject
from profiled_spawner.document.limits import MAX_CHOICES, MAX_PROFILES
from profiled_spawner.document.model import Document, combine_documents
from profiled_spawner.document.parser import parse_document
from profiled_spawner.document.quantity import parse_quantity
from profiled_spawner.errors import ChoiceError, DocumentError

CHOICES = """
- {name: Small}
- {name: Large, users: [ada]}
- {name: Huge, users: [barbara], groups: [forecasters]}
- {name: Nobody's, users: []}
- {name: Everybody's, users: ['*']}
- {name: Exam, from: 1970-01-01T00:00:10, until: 1970-01-01T00:00:20}
"""
DOCUMENT = f"""
profiles: []
sizes:{CHOICES}
images:{CHOICES.replace("Small", "Lab").replace("Large", "RStudio")}
"""


def read(text: str) -> Document:
    return parse_document(text)


def subject(user: str, *groups: str, at: float = 0) -> Subject:
    return Subject(user, frozenset(groups), "", at)


def offer(user: str = "ada", *groups: str, at: float = 0) -> Offer:
    return find_offer(read(DOCUMENT), subject(user, *groups, at=at))


@pytest.mark.parametrize(
    ("who", "expected"),
    [
        pytest.param(subject("edsger"), "Small, Everybody's", id="in no group"),
        pytest.param(subject("ada"), "Small, Large, Everybody's", id="listed"),
        pytest.param(subject("grace", "forecasters"), "Small, Huge, Everybody's", id="member"),
        pytest.param(subject("Ada"), "Small, Everybody's", id="names are compared exactly"),
        pytest.param(subject("edsger", at=9.999), "Small, Everybody's", id="before its time"),
        pytest.param(subject("edsger", at=10), "Small, Everybody's, Exam", id="from that moment"),
        pytest.param(subject("edsger", at=19.999), "Small, Everybody's, Exam", id="until that moment"),
        pytest.param(subject("edsger", at=20), "Small, Everybody's", id="after its time"),
    ],
)
def test_what_is_for_a_person_now_is_offered_in_the_documents_order(who: Subject, expected: str) -> None:
    found = find_offer(read(DOCUMENT), who)

    assert ", ".join(size.shown_name for size in found.sizes) == expected
    images = expected.replace("Small", "Lab").replace("Large", "RStudio")
    assert ", ".join(image.shown_name for image in found.images) == images


def test_of_several_configmaps_no_more_is_offered_than_one_may_have() -> None:
    documents = [
        read(f"profiles: []\nsizes: [{listed}]\nimages: [{listed}]")
        for letter in "ab"
        for listed in [", ".join(f"{{name: {letter}{number}}}" for number in range(60))]
    ]
    found = find_offer(combine_documents(documents[0], documents[1:]).document, subject("ada"))

    for choices in (found.sizes, found.images):
        assert len(choices) == MAX_CHOICES
        assert (choices[0].name, choices[-1].name) == ("a0", "b39")


@pytest.mark.parametrize(
    ("name", "is_offered"),
    [
        pytest.param("a0", True, id="the first"),
        pytest.param("b39", True, id="the last that is offered"),
        pytest.param("b40", False, id="one too many"),
        pytest.param("b59", False, id="the last"),
    ],
)
def test_of_several_configmaps_nothing_else_can_be_chosen(name: str, is_offered: bool) -> None:
    # Those before it that are for others do not count.
    others = ", ".join(f"{{name: x{number}, users: []}}" for number in range(10))
    documents = [
        read(f"profiles: []\nsizes: [{others}, {listed}]\nimages: [{others}, {listed}]".replace("x", f"x{letter}"))
        for letter in "ab"
        for listed in [", ".join(f"{{name: {letter}{number}}}" for number in range(60))]
    ]
    document = combine_documents(documents[0], documents[1:]).document
    for kind in ("image", "size"):
        with nullcontext() if is_offered else pytest.raises(ChoiceError, match=f"there is no {kind} '{name}' for ada"):
            chosen = choose(document, subject("ada"), {kind: name})
            assert getattr(chosen, kind).name == name


@pytest.mark.parametrize(
    ("options", "image", "size"),
    [
        (None, "Lab", None),
        ({}, "Lab", None),
        ({"size": None}, "Lab", None),
        ({"size": ""}, "Lab", None),
        ({"size": "default"}, "Lab", None),
        ({"size": "Large"}, "Lab", "Large"),
        ({"image": None}, "Lab", None),
        ({"image": ""}, "Lab", None),
        ({"image": "Lab"}, "Lab", None),
        ({"image": "RStudio"}, "RStudio", None),
        ({"image": "Everybody's", "size": "Small"}, "Everybody's", "Small"),
    ],
)
def test_a_choice_is_by_name_and_without_one_it_is_the_first_image_and_no_size(
    options: object, image: str, size: str | None
) -> None:
    chosen = choose(read(DOCUMENT), subject("ada"), options)

    assert chosen.image
    assert chosen.image.name == image
    assert (chosen.size and chosen.size.name) == size


def test_where_no_image_is_offered_none_is_chosen() -> None:
    nothing = choose(Document(), subject("ada"), None)
    assert nothing.image is None
    assert choose(Document(), subject("ada"), {"image": "", "size": "default"}) == nothing


NAMES = [
    pytest.param("Gone", "'Gone'", id="gone"),
    pytest.param("Huge", "'Huge'", id="for others"),
    pytest.param("Exam", "'Exam'", id="not at this moment"),
    pytest.param("everybody's", '"everybody\'s"', id="names are compared exactly"),
    pytest.param("Everybody's ", '"Everybody\'s "', id="spaces too"),
    pytest.param("Large\n", r"'Large\n'", id="control characters"),
    pytest.param(["Large"], "['Large']", id="a list"),
    pytest.param({"name": "Large"}, "{'name': 'Large'}", id="an object"),
    pytest.param(0, "0", id="a number"),
    pytest.param(False, "False", id="a truth value"),
    pytest.param("x" * 100_000, f"'{'x' * 59}…", id="long"),
]


@pytest.mark.parametrize(("name", "shown"), NAMES)
def test_what_is_not_offered_is_an_error_that_lists_what_is(name: object, shown: str) -> None:
    for key, names in (("size", "default, Small, Large, Everybody's"), ("image", "Lab, RStudio, Everybody's")):
        expected = f"there is no {key} {shown} for ada; choose one of: {names}"
        with pytest.raises(ChoiceError, match=f"^{re.escape(expected)}$"):
            choose(read(DOCUMENT), subject("ada"), {key: name})


def test_an_image_is_not_called_default() -> None:
    with pytest.raises(ChoiceError, match=r"^there is no image 'default' for ada; choose one of: Lab, RStudio"):
        choose(read(DOCUMENT), subject("ada"), {"image": "default"})


def test_where_nothing_is_offered_the_error_says_so() -> None:
    with pytest.raises(ChoiceError, match=r"^there is no image 'Lab' for ada; no image can be chosen$"):
        choose(Document(), subject("ada"), {"image": "Lab"})
    with pytest.raises(ChoiceError, match=r"^there is no size 'Large' for ada; choose one of: default$"):
        choose(Document(), subject("ada"), {"size": "Large"})


def test_an_error_lists_no_more_than_people_read() -> None:
    listed = ", ".join(f"{{name: n{number}}}" for number in range(30))
    document = read(f"profiles: []\nsizes: [{listed}]")
    with pytest.raises(ChoiceError, match=r"choose one of: default, n0, n1, .*, n19, …$"):
        choose(document, subject("ada"), {"size": "Gone"})


@pytest.mark.parametrize(
    "options", ["Large", ["Large"], 1, False, {"sizes": "Large"}, {"size": "Large", "profile": "x"}]
)
def test_options_of_another_form_are_an_error_that_shows_the_form(options: object) -> None:
    assert not is_readable(options)
    with pytest.raises(ChoiceError, match=r"""^the option 'profiled' must be {"image": NAME, "size": NAME}, and is """):
        choose(read(DOCUMENT), subject("ada"), options)


@pytest.mark.parametrize(
    ("size", "expected"),
    [
        ("{}", ""),
        ("{env: {A: 1}}", ""),
        ("{resources: {mem_limit: 8Gi, cpu_limit: 4}}", "8 GiB of memory, 4 CPUs"),
        ("{resources: {mem_limit: 8Gi, mem_guarantee: 4Gi}}", "8 GiB of memory (4 GiB guaranteed)"),
        ("{resources: {mem_limit: 4Gi, mem_guarantee: 4Gi}}", "4 GiB of memory"),
        ("{resources: {mem_limit: 4Gi, mem_guarantee: 8Gi}}", "4 GiB of memory"),
        ("{resources: {cpu_guarantee: 500m}}", "no CPU limit (0.5 guaranteed)"),
        ("{resources: {mem_limit: null}}", "no memory limit"),
        ("{resources: {mem_limit: 1500M, cpu_limit: 1.5}}", "1500 MB of memory, 1.5 CPUs"),
        ("{resources: {mem_limit: 1e9, cpu_limit: 1}}", "1e9 bytes of memory, 1 CPU"),
        ("{resources: {mem_limit: 1Gi, limits: {hugepages-2Mi: 4Mi}}}", "1 GiB of memory, 4 MiB of hugepages-2Mi"),
        ("{gpu: 2}", "2 GPUs"),
        ("{resources: {requests: {nvidia.com/gpu: 1}}}", "1 GPU"),
        ("{gpu: 0}", "no GPU"),
        ("{gpu: null}", "no GPU"),
        ("{resources: {mem_limit: 1Gi, limits: {hugepages-2Mi: 0}}}", "1 GiB of memory, no hugepages-2Mi"),
        (
            "{resources: {limits: {example.com/dongle: 1, ephemeral-storage: 10Gi}, cpu_limit: 500m}}",
            "0.5 CPU, 10 GiB of ephemeral-storage, 1 example.com/dongle",
        ),
    ],
)
def test_what_a_size_gives_is_told_in_a_line(size: str, expected: str) -> None:
    (only,) = read(f"profiles: []\nsizes: [{{name: Only, {size[1:]}]").sizes
    assert describe_size(only) == expected


MEMORY = "profiles: [{resources: {mem_limit: 2Gi}}, {users: [grace], resources: {mem_limit: 9Gi}}"
OWN: dict[str, Any] = {"own_limits": {"cpu": parse_quantity("3.0")}, "own_requests": {"memory": parse_quantity("1Gi")}}


@pytest.mark.parametrize(
    ("profiles", "images", "expected"),
    [
        pytest.param("", ["nb"], "2 GiB of memory (1 GiB guaranteed), 3 CPUs", id="profiles over the hub's settings"),
        pytest.param("", ["nb", "lab"], "2 GiB of memory (1 GiB guaranteed), 3 CPUs", id="any image"),
        pytest.param(
            "{images: [nb], resources: {cpu_limit: 1}}",
            ["nb"],
            "2 GiB of memory (1 GiB guaranteed), 1 CPU",
            id="one image",
        ),
        pytest.param("{images: [nb], gpu: 1}", ["nb", "lab"], "", id="depends on the image"),
        pytest.param(
            "{images: [nb], resources: {requests: {memory: 1}}}", ["nb", "lab"], "", id="its guarantee depends on it"
        ),
        pytest.param(
            "{images: [nb], users: [grace], gpu: 1}",
            ["nb", "lab"],
            "2 GiB of memory (1 GiB guaranteed), 3 CPUs",
            id="depends on it for others",
        ),
        pytest.param(
            "{images: [nb], until: 1969-12-31, gpu: 1}",
            ["nb", "lab"],
            "2 GiB of memory (1 GiB guaranteed), 3 CPUs",
            id="depended on it once",
        ),
        pytest.param(
            "{images: [nb], env: {A: 1}}",
            ["nb", "lab"],
            "2 GiB of memory (1 GiB guaranteed), 3 CPUs",
            id="something else depends on it",
        ),
        pytest.param(
            "{images: ['*'], gpu: 1}",
            ["nb", "lab"],
            "2 GiB of memory (1 GiB guaranteed), 3 CPUs, 1 GPU",
            id="all images",
        ),
    ],
)
def test_what_a_server_without_a_size_gets_is_told_where_no_image_changes_it(
    profiles: str, images: list[str], expected: str
) -> None:
    document = read(f"{MEMORY}{profiles and ', '}{profiles}]")
    assert describe_default(document, subject("ada"), "specificity", images=images, **OWN) == expected


@pytest.mark.parametrize(("order", "expected"), [("specificity", "2 GiB"), ("document", "1 GiB")])
def test_what_a_server_without_a_size_gets_depends_on_the_merge_order(order: MergeOrder, expected: str) -> None:
    document = read(
        "profiles: [{users: [ada], resources: {mem_limit: 2Gi}}, {resources: {mem_limit: 1Gi}}]",
    )
    described = describe_default(document, subject("ada"), order, images=["nb"], own_limits={}, own_requests={})
    assert described == f"{expected} of memory, no CPU limit"


def test_of_a_server_with_too_many_profiles_nothing_is_told() -> None:
    document = read(f"profiles: [{', '.join(['{}'] * (MAX_PROFILES + 1))}]")
    assert describe_default(document, subject("ada"), "specificity", images=["nb"], **OWN) == ""


@pytest.mark.parametrize("name", ["default", "Default", "DEFAULT", "' Default '", '"default\\t"', '"\\nDefault"'])
def test_no_size_is_called_default(name: str) -> None:
    with pytest.raises(DocumentError, match=r"sizes\[0\]\.name: 'default' is what people choose to have no size"):
        read(f"profiles: []\nsizes: [{{name: {name}}}]")


@pytest.mark.parametrize("name", ["Defaults", "De fault", "By default"])
def test_a_size_may_be_called_nearly_so(name: str) -> None:
    assert read(f"profiles: []\nsizes: [{{name: {name}}}]").sizes[0].name == name


@pytest.mark.parametrize(
    ("hard", "words"),
    [
        ("{requests.nvidia.com/gpu: 4, limits.memory: 256Gi, pods: 20}", "4 GPUs, 256 GiB of memory, 20 servers"),
        ("{pods: 1}", "1 server"),
        ("{pods: 1k}", "1000 servers"),
        ("{pods: 0, requests.nvidia.com/gpu: 0, limits.cpu: 0}", "no servers, no GPU, no CPU"),
        ("{limits.cpu: 8, requests.cpu: 500m}", "8 CPUs, 0.5 CPU guaranteed"),
        ("{requests.memory: 1073741824}", "1 GiB of memory guaranteed"),
        ("{limits.ephemeral-storage: 1000}", "1000 bytes of ephemeral-storage"),
        ("{requests.hugepages-2Mi: 4Mi}", "4 MiB of hugepages-2Mi"),
        ("{requests.example.com/fpga: 2}", "2 example.com/fpga"),
    ],
)
def test_what_a_quota_allows_is_said_as_sizes_are(hard: str, words: str) -> None:
    (quota,) = read(f"profiles: []\nquotas: [{{name: q, hard: {hard}}}]").quotas
    assert describe_hard(quota.hard) == words
