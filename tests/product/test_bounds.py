"""What a document and a start may come to is limited, and what stays within costs little.

`fuzz.worst` searches for the document that costs most; here is what it begins with, and each limit by itself.
"""

from __future__ import annotations

import pytest

from fuzz.limits import call_within
from fuzz.worst import FAMILIES, KNOWN, MEASURES, find_worst, measure_case
from profiled_spawner.decide.choices import find_offer
from profiled_spawner.decide.matching import Subject, explain_match, match_profiles
from profiled_spawner.decide.merging import check_merge_input, check_merge_result, merge_profiles
from profiled_spawner.document.limits import MAX_IMAGE, MAX_PROFILES, find_excess, weigh
from profiled_spawner.document.parser import parse_document
from profiled_spawner.errors import DocumentError, PodError

ADA = Subject("ada", frozenset(), "nb:1", 0)


def listed(item: str, count: int, separator: str = ", ") -> str:
    """An item so often, each time with another number in place of ``%``."""
    return separator.join(item.replace("%", str(number)) for number in range(count))


@pytest.mark.parametrize("name", KNOWN)
def test_what_held_a_hub_for_seconds_or_took_all_memory_no_longer_does(name: str) -> None:
    case = FAMILIES[name](*KNOWN[name])

    costs = call_within(lambda: measure_case(case), cpu_seconds=12, memory_bytes=2**30)

    assert costs["bytes"] > 0


# Of the tool; what the families come to on the oldest PyYAML, the tests above and below say.
@pytest.mark.newest
@pytest.mark.parametrize("name", FAMILIES)
def test_the_search_for_the_worst_document_finds_some_of_each_family(name: str) -> None:
    found = find_worst(FAMILIES[name], name, seconds=0)

    assert set(found) == set(MEASURES)
    assert found["parse"].size > 0


VOLUME = "{name: a%, emptyDir: {}, mountPath: /m%}"
TERM = "{matchExpressions: [{key: a%, operator: Exists}]}"
REQUIRED = "requiredDuringSchedulingIgnoredDuringExecution: {nodeSelectorTerms: [%s]}"
PREFERRED = "preferredDuringSchedulingIgnoredDuringExecution: [%s]"
PREFERENCE = "{weight: 1, preference: {matchExpressions: [{key: a%, operator: Exists}]}}"


@pytest.mark.parametrize(
    ("section", "most", "said"),
    [
        pytest.param("env: {%s}", ("A%: a", 300), "env: has 301 variables, and a server can have 300", id="env"),
        pytest.param(
            "env_from: [%s]",
            ("{secretRef: {name: a%}}", 100),
            "env_from: has 101 objects, and a server can have 100",
            id="env_from",
        ),
        pytest.param(
            "resources: {limits: {%s}}",
            ("a.b/c%: 1", 20),
            "resources: has 21 resources, and a server can have 20",
            id="limits",
        ),
        pytest.param(
            "node_selector: {%s}",
            ("a%: a", 100),
            "node_selector: has 101 labels, and a server can have 100",
            id="node_selector",
        ),
        pytest.param(
            "node_tolerations: [%s]",
            ("{key: a%, operator: Exists}", 100),
            "node_tolerations: has 101 tolerations, and a server can have 100",
            id="node_tolerations",
        ),
        pytest.param(
            "volumes: [%s]", (VOLUME, 100), "volumes: has 101 volumes, and a server can have 100", id="volumes"
        ),
        pytest.param("labels: {%s}", ("a%: a", 100), "labels: has 101 labels, and a server can have 100", id="labels"),
        pytest.param(
            "annotations: {%s}",
            ("a%: a", 100),
            "annotations: has 101 annotations, and a server can have 100",
            id="annotations",
        ),
        pytest.param(
            f"node_affinity: {{{REQUIRED}}}",
            (TERM, 100),
            "node_affinity: has 101 alternatives, and a server can have 100",
            id="alternatives",
        ),
        pytest.param(
            f"node_affinity: {{{PREFERRED}}}",
            (PREFERENCE, 100),
            "node_affinity: has 101 preferences, and a server can have 100",
            id="preferences",
        ),
        pytest.param(
            f"node_affinity: {{{REQUIRED % '{matchExpressions: [%s]}'}}}",
            ("{key: a%, operator: Exists}", 300),
            "node_affinity: has 301 expressions, and a server can have 300",
            id="expressions",
        ),
        pytest.param(
            "volumes: [{name: a, mountPath: /a, configMap: {name: a, items: [%s]}}]",
            ("{key: a%, path: b%}", 331),
            "volumes: has more than 1,000 values within objects, and a server can have no more",
            id="values-within-objects",
        ),
        pytest.param(
            "env: {A: '%s'}",
            ("$(B%)", 300),
            "env: has 301 references to variables, and a server can have 300",
            id="references",
        ),
        pytest.param(
            "volumes: [%s]",
            ("{name: a%, mountPath: '/m%" + "{username}" * 10 + "', emptyDir: {}}", 50),
            "volumes: has 510 fields and braces in its texts, and a server can have 500",
            id="fields",
        ),
        pytest.param(
            "volumes: [{name: a, emptyDir: {}, mountPath: /a, subPath: '%s'}]",
            ("{userid}", 50),
            "volumes[0].subPath: has more than 50 braces that open",
            id="fields-of-a-text",
        ),
        pytest.param(
            "volumes: [{name: a, emptyDir: {}, mountPath: /a%s}]",
            ("x", 4_094),
            "volumes[0].mountPath: has 4,097 characters; use at most 4,096",
            id="a-path",
        ),
        pytest.param("name: '%s'", ("x", 1_000), "name: has 1,001 characters; use at most 1,000", id="a-name"),
        pytest.param(
            "images: ['%s']",
            ("x", 1_024),
            "images[0]: has 1,025 characters, and no image has more than 1,024",
            id="image",
        ),
        pytest.param("images: ['%s']", ("*", 5), "images[0]: has more than 5 stars", id="stars"),
        pytest.param(
            "images: [%s]",
            ("'a%*'", 300),
            "images[300]: the document has more than 300 different images with a star",
            id="patterns",
        ),
    ],
)
def test_a_profile_that_gives_more_than_a_server_can_have_is_an_error(
    section: str, most: tuple[str, int], said: str
) -> None:
    item, count = most
    separator = "" if "'%s'" in section or "/a%s" in section else ", "

    def write(count: int) -> str:
        return f"profiles: [{{{section.replace('%s', listed(item, count, separator))}}}]"

    parse_document(write(count))
    with pytest.raises(DocumentError) as caught:
        parse_document(write(count + 1))
    (diagnostic,) = caught.value.diagnostics
    assert said in f"{diagnostic.path}: {diagnostic.what}"
    assert diagnostic.line == 1


@pytest.mark.parametrize("kind", ["sizes", "images"])
def test_a_document_has_so_many(kind: str) -> None:
    parse_document(f"profiles: []\n{kind}: [{listed('{name: a%}', 100)}]")
    with pytest.raises(DocumentError, match=f"line 2, column .: {kind}: are 101, and a document can have 100"):
        parse_document(f"profiles: []\n{kind}: [{listed('{name: a%}', 101)}]")


def test_text_that_aliases_repeat_within_a_profile_is_an_error() -> None:
    text = f"profiles: [{{env: {{A0: &a {'x' * 100_000}, {listed('B%: *a', 10)}}}}}]"

    with pytest.raises(DocumentError, match="env: has 1,100,022 bytes of text, with other sections, and a server"):
        parse_document(text)


def test_text_is_counted_in_the_bytes_that_etcd_stores() -> None:
    wide = "\U0001f600" * 30_000

    parse_document(f"profiles: [{{env: {{{listed(f'A%: {wide}', 4)}}}}}]")
    with pytest.raises(DocumentError, match="env: has 600,010 bytes of text, with other sections, and a server"):
        parse_document(f"profiles: [{{env: {{{listed(f'A%: {wide}', 5)}}}}}]")


@pytest.mark.parametrize(
    ("profile", "times", "said"),
    [
        pytest.param(
            "{name: one%, env: {%s}}",
            ("A%: a", 300, 2),
            "give 600 variables, and a server can have 300 (env); most of it is from one0 and one1",
            id="variables",
        ),
        pytest.param(
            "{name: one%, node_tolerations: [%s]}",
            ("{key: a%, operator: Exists}", 40, 4),
            "give 160 tolerations, and a server can have 100 (node_tolerations); most of it is from one0 and one1 and "
            "one2 and 1 more",
            id="tolerations",
        ),
        pytest.param(
            "{name: one%, labels: {%s}}",
            ("a%: a", 100, 101),
            "give more than 10,000 values together, and a server can have no more; most of it is from one0 and one1",
            id="values",
        ),
        pytest.param(
            "{name: one%, env_from: [%s]}",
            ("{secretRef: {name: a%}}", 100, 7),
            "give more than 1,000 values within objects together, and a server can have no more",
            id="values-within-objects",
        ),
    ],
)
def test_profiles_that_give_too_much_together_are_an_error_of_the_start(
    profile: str, times: tuple[str, int, int], said: str
) -> None:
    item, items, profiles = times

    def write(number: int) -> str:
        # Labels and Secrets are the same in all profiles; the others differ.
        apart = item if "label" in profile or "env_from" in profile else item.replace("%", f"{number}x%")
        return profile.replace("%s", listed(apart, items)).replace("one%", f"one{number}")

    document = parse_document(f"profiles: [{', '.join(map(write, range(profiles)))}]")

    def start() -> None:
        check_merge_input(document.profiles)
        check_merge_result(merge_profiles(document.profiles))

    with pytest.raises(PodError) as caught:
        start()
    assert said in str(caught.value)


def test_more_profiles_than_a_server_can_have_are_an_error_of_the_start() -> None:
    within, beyond = (
        parse_document(f"profiles: [{listed('{}', count)}]") for count in (MAX_PROFILES, MAX_PROFILES + 1)
    )

    assert len(match_profiles(within, ADA)) == MAX_PROFILES
    with pytest.raises(PodError, match="more than 500 profiles match"):
        match_profiles(beyond, ADA)


@pytest.mark.parametrize(
    ("images", "matches"),
    [("['nb*']", False), ("['*1']", False), ("['*']", True), ("['*', nb]", True), ("['**']", False)],
)
def test_an_image_that_is_longer_than_any_matches_none(images: str, matches: bool) -> None:
    document = parse_document(f"profiles: [{{images: {images}}}]")
    subject = Subject("ada", frozenset(), f"nb:{'1' * MAX_IMAGE}", 0)

    assert bool(match_profiles(document, subject)) is matches
    assert explain_match(document.profiles[0], subject).is_match is matches


@pytest.mark.parametrize("kind", ["sizes", "images"])
def test_a_form_offers_so_many(kind: str) -> None:
    choices = getattr(parse_document(f"profiles: []\n{kind}: [{listed('{name: a%}', 100)}]"), kind)

    several = parse_document("profiles: []")
    object.__setattr__(several, kind, choices * 2)
    assert getattr(find_offer(several, ADA), kind) == choices


def test_what_is_too_much_is_not_looked_through_to_its_end() -> None:
    looked_at = 0

    class Counting(tuple[object, ...]):
        __slots__ = ()

        def __iter__(self):  # type: ignore[no-untyped-def]  # as a tuple's
            nonlocal looked_at
            looked_at += len(self)
            return super().__iter__()

    many = Counting(Counting(range(100)) for _ in range(100))

    assert weigh(many)[0] > 1_000
    assert looked_at < 2_000
    assert find_excess({"node_affinity": many}) is not None
