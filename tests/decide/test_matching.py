"""A profile matches where both who and what match; those that match are in the order in which they are merged."""

import re
from dataclasses import replace
from datetime import UTC

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from profiled_spawner.decide.matching import (
    MergeOrder,
    Subject,
    explain_match,
    explain_period,
    match_profiles,
    matches,
    order_profiles,
)
from profiled_spawner.document.model import Document, Profile
from profiled_spawner.document.parser import parse_document
from profiled_spawner.document.times import ALWAYS, Period, parse_start
from profiled_spawner.errors import PodError

ADA = Subject("ada", frozenset({"forecasters", "staff"}), "quay.io/example/nb:3.6", 0)
DIGEST = "sha256:" + "0f4bb1c5" * 8


def read(profile: str) -> Profile:
    (read,) = parse_document(f"profiles: [{profile}]").profiles
    return read


@pytest.mark.parametrize(
    ("profile", "who", "reason"),
    [
        pytest.param("{}", True, "for every user", id="nobody-named"),
        pytest.param("{users: [grace, ada]}", True, "user is listed", id="user"),
        pytest.param("{users: [grace]}", False, "user is not listed", id="another-user"),
        pytest.param("{users: ['*']}", True, 'for every user ("*")', id="star"),
        pytest.param("{users: [grace, '*']}", True, 'for every user ("*")', id="star-beside-a-user"),
        pytest.param("{users: [a*]}", False, "user is not listed", id="no-patterns-in-users"),
        pytest.param("{users: [Ada]}", False, "user is not listed", id="capitals"),
        pytest.param("{users: [' ada']}", False, "user is not listed", id="space"),
        pytest.param("{users: [forecasters]}", False, "user is not listed", id="group-among-users"),
        pytest.param("{groups: [staff]}", True, "member of staff", id="group"),
        pytest.param("{groups: [staff, forecasters, x]}", True, "member of forecasters, staff", id="two-groups"),
        pytest.param("{groups: [admins]}", False, "not a member of admins", id="another-group"),
        pytest.param("{groups: [ada]}", False, "not a member of ada", id="user-among-groups"),
        pytest.param("{groups: ['*']}", False, "not a member of *", id="no-star-in-groups"),
        pytest.param("{groups: [a, b, c, d, e]}", False, "not a member of a or b or c or 2 more", id="many-groups"),
        pytest.param("{users: [ada], groups: [admins]}", True, "user is listed", id="user-or-another-group"),
        pytest.param("{users: [grace], groups: [staff]}", True, "member of staff", id="group-or-another-user"),
        pytest.param(
            "{users: [grace], groups: [admins]}",
            False,
            "user is not listed, not a member of admins",
            id="neither-user-nor-group",
        ),
        pytest.param("{users: []}", False, "for nobody (an empty list)", id="no-users"),
        pytest.param("{groups: []}", False, "for nobody (an empty list)", id="no-groups"),
        pytest.param("{users: [], groups: []}", False, "for nobody (an empty list)", id="neither"),
        pytest.param("{users: [], groups: [staff]}", True, "member of staff", id="no-users-or-a-group"),
        pytest.param("{users: [ada], groups: []}", True, "user is listed", id="no-groups-or-a-user"),
        pytest.param("{users: [], groups: [admins]}", False, "not a member of admins", id="no-users-or-another-group"),
    ],
)
def test_who_a_profile_is_for(profile: str, who: bool, reason: str) -> None:
    match = explain_match(read(profile), ADA)

    assert (match.is_match, match.reasons) == (who, (reason, "for every image"))
    assert matches(read(profile), ADA) is who


@pytest.mark.parametrize(
    ("listed", "user", "matching"),
    [
        pytest.param("00123", "00123", True, id="leading-zeros"),
        pytest.param("00123", "123", False, id="leading-zeros-are-not-dropped"),
        pytest.param("yes", "yes", True, id="word-that-yaml-takes-for-a-boolean"),
        pytest.param("yes", "True", False, id="no-boolean"),
        pytest.param("ünal", "u\u0308nal", False, id="not-normalized"),
    ],
)
def test_usernames_are_compared_exactly(listed: str, user: str, matching: bool) -> None:
    assert matches(read(f"{{users: [{listed}]}}"), Subject(user, frozenset(), "nb", 0)) is matching


def test_a_user_with_capitals_is_told_that_the_name_without_is_listed() -> None:
    match = explain_match(read("{users: [ada]}"), Subject("Ada", frozenset(), "nb", 0))

    assert not match.is_match
    assert match.reasons[0] == "user is not listed (ada is; names are compared exactly)"


@pytest.mark.parametrize(
    ("entry", "image", "what"),
    [
        pytest.param("nb:3.6", "nb:3.6", True, id="as-written"),
        pytest.param("nb:3.6", "nb:3.60", False, id="another-tag"),
        pytest.param("nb:3.6", "nb", False, id="no-tag"),
        pytest.param("nb", "nb:3.6", False, id="a-tag"),
        pytest.param("nb", "nb:latest", True, id="latest-on-the-image"),
        pytest.param("nb:latest", "nb", True, id="latest-on-the-entry"),
        pytest.param("nb:latest", "nb:3.6", False, id="latest-is-no-other-tag"),
        pytest.param("nb:Latest", "nb", False, id="latest-is-in-small-letters"),
        pytest.param("r.example:5000/nb", "r.example:5000/nb:latest", True, id="latest-behind-a-port"),
        pytest.param("r.example:5000/nb:latest", "r.example:5000/nb", True, id="latest-left-out-behind-a-port"),
        pytest.param("r.example/nb", "r.example:5000/nb", False, id="another-port"),
        pytest.param("nb", "docker.io/library/nb", False, id="no-registry-is-filled-in"),
        pytest.param("docker.io/thoth/nb:3.6", "thoth/nb:3.6", False, id="no-registry-is-left-out"),
        pytest.param("thoth/nb:3.6", "docker.io/thoth/nb:3.6", False, id="no-registry-is-looked-past"),
        pytest.param("NB", "nb", False, id="capitals"),
        pytest.param(f"nb@{DIGEST}", f"nb@{DIGEST}", True, id="digest"),
        pytest.param(f"nb:3.6@{DIGEST}", f"nb:3.6@{DIGEST}", True, id="tag-and-digest"),
        pytest.param(f"nb@{DIGEST}", f"nb:3.6@{DIGEST}", True, id="the-tag-beside-a-digest-means-nothing"),
        pytest.param(f"nb@{DIGEST}", f"nb:latest@{DIGEST}", True, id="latest-beside-a-digest-neither"),
        pytest.param(f"r.example:5000/nb@{DIGEST}", f"r.example:5000/nb:3.6@{DIGEST}", True, id="behind-a-port"),
        pytest.param(f"r.example/nb@{DIGEST}", f"r.example:5000/nb@{DIGEST}", False, id="a-port-is-no-tag"),
        pytest.param(f"nb@{DIGEST}", f"evil/nb:3.6@{DIGEST}", False, id="another-image-with-the-digest"),
        pytest.param(f"nb@{DIGEST}", f"nb:3.6@{DIGEST[:-1]}0", False, id="another-digest-beside-a-tag"),
        pytest.param(f"nb:3.6@{DIGEST}", f"nb@{DIGEST}", False, id="tag-of-the-entry-alone"),
        pytest.param(f"nb:3.6@{DIGEST}", f"nb:3.7@{DIGEST}", False, id="another-tag-beside-the-digest"),
        pytest.param(f"*/nb@{DIGEST}", f"quay.io/nb:3.6@{DIGEST}", True, id="digest-behind-a-pattern"),
        pytest.param("nb:3.*", f"nb:3.6@{DIGEST}", True, id="a-pattern-sees-the-tag-too"),
        pytest.param("nb", f"nb:latest@{DIGEST}", False, id="latest-with-its-digest"),
        pytest.param("nb", f"nb@{DIGEST}", False, id="digest-of-the-image-alone"),
        pytest.param("nb:latest", f"nb@{DIGEST}", False, id="latest-is-no-digest"),
        pytest.param(f"nb@{DIGEST}", "nb", False, id="digest-of-the-entry-alone"),
        pytest.param("nb:3.6", f"nb:3.6@{DIGEST}", False, id="tag-without-its-digest"),
        pytest.param("*", "r.example:5000/a/b:c", True, id="star"),
        pytest.param("*", "", True, id="star-matches-even-nothing"),
        pytest.param("quay.io/example/*", "quay.io/example/nb:3.6", True, id="pattern"),
        pytest.param("quay.io/example/*", "quay.io/example/a/b/nb", True, id="slashes"),
        pytest.param("quay.io/example/*", f"quay.io/example/nb@{DIGEST}", True, id="digest-in-a-pattern"),
        pytest.param("quay.io/example/*", "quay.io/example/", True, id="star-for-nothing"),
        pytest.param("quay.io/example/*", "quay.io/example-evil/nb", False, id="another-organization"),
        pytest.param("quay.io/example/*", "evil.io/quay.io/example/nb", False, id="the-whole-image-must-match"),
        pytest.param("quay.io/example/nb", "quay.io/example/nb/evil", False, id="more-behind-it"),
        pytest.param("*/nb:3.6", "quay.io/example/nb:3.6", True, id="pattern-that-begins-with-a-star"),
        pytest.param("*/nb:3.6", "nb:3.6", False, id="its-slash-must-be-there"),
        pytest.param("quay.io/*/nb:*", "quay.io/a/nb:1", True, id="two-stars"),
        pytest.param("quay.io/*/nb:*", "quay.io/nb:1", False, id="parts-may-not-overlap"),
        pytest.param("nb:*", "nb", True, id="a-tag-left-out-is-latest"),
        pytest.param("nb:l*t", "nb", True, id="latest-in-a-pattern"),
        pytest.param("nb:3*", "nb", False, id="another-tag-in-a-pattern"),
        pytest.param("*b", "nb:latest", True, id="latest-behind-a-pattern"),
        pytest.param("ab*ba", "aba", False, id="ends-may-not-overlap"),
        pytest.param("ab*ba", "abba", True, id="ends-that-touch"),
        pytest.param("a*b*a", "aba", True, id="as-short-as-it-gets"),
        pytest.param("a**b", "ab", True, id="two-stars-for-nothing"),
        pytest.param("*b*b*", "b", False, id="middle-parts-may-not-overlap"),
        pytest.param("a*bc*bcd", "abcbcd", True, id="part-that-comes-twice"),
        pytest.param("a*bcd*cd", "abcbcd", False, id="part-that-comes-too-late"),
        pytest.param("n.", "nb", False, id="a-point-is-a-point"),
        pytest.param("n?", "nb", False, id="a-question-mark-is-one"),
        pytest.param("[n]b", "nb", False, id="brackets-are-brackets"),
        pytest.param("a*b", "a\nb", True, id="any-character-at-all"),
    ],
)
def test_which_image_an_entry_matches(entry: str, image: str, what: bool) -> None:
    profile = Profile(0, images=("other:1", entry))
    match = explain_match(profile, Subject("ada", frozenset(), image, 0))

    assert matches(profile, Subject("ada", frozenset(), image, 0)) is what
    assert match.is_match is what
    reason = f"image matches {entry}" if entry != image else "image is listed"
    assert match.reasons == ("for every user", reason if what else f"image is not other:1 or {entry}")


@pytest.mark.parametrize(
    ("entry", "image"),
    [
        pytest.param("*a" * 5_000 + "*b", "a" * 50_000, id="many-stars"),
        pytest.param("a*" * 5_000 + "b", "a" * 50_000, id="many-stars-with-a-start"),
        pytest.param("*" * 100_000 + "b", "a" * 100_000, id="stars-alone"),
        pytest.param("*aaaaab" * 1_000, "a" * 20_000, id="parts-that-nearly-match"),
    ],
)
def test_a_hostile_pattern_comes_to_an_end(entry: str, image: str) -> None:
    assert not matches(Profile(0, images=(entry,)), Subject("ada", frozenset(), image, 0))


def test_an_empty_list_of_images_fits_nothing() -> None:
    match = explain_match(read("{images: []}"), ADA)

    assert (match.is_match, match.reasons) == (False, ("for every user", "for no image (an empty list)"))
    assert not matches(read("{images: []}"), ADA)


@pytest.mark.parametrize(
    ("profile", "matching"),
    [
        pytest.param("{users: [ada], images: [quay.io/example/nb:3.6]}", True, id="both"),
        pytest.param("{users: [ada], images: [other]}", False, id="who-alone"),
        pytest.param("{users: [grace], images: [quay.io/example/nb:3.6]}", False, id="what-alone"),
        pytest.param("{groups: [admins], images: ['*']}", False, id="every-image-widens-no-group"),
        pytest.param("{users: ['*'], images: [other]}", False, id="every-user-widens-no-image"),
        pytest.param("{users: [], images: ['*']}", False, id="every-image-widens-nobody"),
        pytest.param("{users: ['*'], images: []}", False, id="every-user-widens-nothing"),
    ],
)
def test_both_who_and_what_must_match(profile: str, matching: bool) -> None:
    assert matches(read(profile), ADA) is matching
    assert explain_match(read(profile), ADA).is_match is matching


NEITHER = "{name: neither}"
EVERYONE = "{name: everyone, users: ['*'], images: ['*', other]}"
WHO = "{name: who, users: [ada]}"
GROUP = "{name: group, groups: [staff]}"
WHAT = "{name: what, images: ['quay.io/*']}"
BOTH = "{name: both, users: [ada], images: ['quay.io/*']}"


@pytest.mark.parametrize(
    ("profiles", "specificity"),
    [
        pytest.param([BOTH, WHO, WHAT, NEITHER], ["neither", "who", "what", "both"], id="least-specific-first"),
        pytest.param([WHAT, GROUP, WHO], ["what", "group", "who"], id="ties-in-document-order"),
        pytest.param([WHO, WHAT, GROUP], ["who", "what", "group"], id="ties-in-the-other-order"),
        pytest.param([EVERYONE, NEITHER], ["everyone", "neither"], id="a-star-does-not-name"),
        pytest.param([WHO, EVERYONE], ["everyone", "who"], id="a-star-is-less-specific-than-a-name"),
        pytest.param(
            [WHO, "{name: starred, users: [ada, '*']}"], ["starred", "who"], id="a-star-beside-a-name-does-not-name"
        ),
        pytest.param(
            [WHO, "{name: starred, users: ['*'], groups: [staff]}"],
            ["starred", "who"],
            id="a-star-beside-groups-does-not-name",
        ),
        pytest.param(
            [BOTH, "{name: half, users: ['*'], images: ['quay.io/*']}", NEITHER],
            ["neither", "half", "both"],
            id="a-star-for-one-of-two",
        ),
        pytest.param(
            [WHO, "{name: pattern, images: ['*/nb:3.6']}", NEITHER],
            ["neither", "who", "pattern"],
            id="a-pattern-names",
        ),
        pytest.param(
            ["{name: two, users: [ada], groups: [staff]}", WHAT], ["two", "what"], id="users-and-groups-are-one"
        ),
        pytest.param([NEITHER, "{name: misses, users: [grace]}"], ["neither"], id="only-those-that-match"),
        pytest.param([], [], id="none"),
    ],
)
def test_profiles_are_ordered_by_specificity_and_then_by_position(profiles: list[str], specificity: list[str]) -> None:
    document = parse_document(f"profiles: [{', '.join(profiles)}]")

    assert [profile.name for profile in match_profiles(document, ADA)] == specificity
    assert [profile.name for profile in match_profiles(document, ADA, "document")] == [
        profile.name for profile in document.profiles if profile.name in specificity
    ]


def test_matching_leaves_the_document_as_it_was() -> None:
    text = f"profiles: [{BOTH}, {WHO}, {NEITHER}]"
    document = parse_document(text)

    match_profiles(document, ADA)
    match_profiles(document, ADA, "document")
    [explain_match(profile, ADA) for profile in document.profiles]

    assert document == parse_document(text)


# What the specification says, as plainly as it can be written.


def oracle_matches(profile: Profile, subject: Subject) -> bool:
    named_user = profile.users is not None and (subject.user in profile.users or "*" in profile.users)
    named_group = profile.groups is not None and any(group in profile.groups for group in subject.groups)
    who = (profile.users is None and profile.groups is None) or named_user or named_group
    when = not (subject.at < profile.period.start or subject.at >= profile.period.end)
    what = profile.images is None or any(oracle_matches_entry(entry, subject.image) for entry in profile.images)
    return who and what and when


def oracle_matches_entry(entry: str, image: str) -> bool:
    if "@" in image:
        spellings = {image, re.sub(r":[^/:@]*@", "@", image, count=1)}
    elif re.search(r":[^/]*$", image):
        spellings = {image, image.removesuffix(":latest")}
    else:
        spellings = {image, f"{image}:latest"}
    pattern = ".*".join(map(re.escape, entry.split("*")))
    return any(re.fullmatch(pattern, spelling, re.DOTALL) for spelling in spellings)


def oracle_order(profile: Profile) -> tuple[int, int]:
    who = (profile.users is not None or profile.groups is not None) and "*" not in (profile.users or ())
    what = profile.images is not None and "*" not in profile.images
    return (2 if who and what else 1 if who or what else 0), profile.index


names = st.sampled_from(["ada", "grace", "*", "Ada"])
groups = st.sampled_from(["staff", "admins", "ada", "*"])
images = st.builds(
    lambda name, tag: name + tag,
    st.sampled_from(["nb", "quay.io/nb", "quay.io/a/nb", "r:5000/nb", "q"]),
    st.sampled_from(["", ":latest", ":3.6", ":3", f"@{DIGEST}", f":latest@{DIGEST}", f":3.6@{DIGEST}"]),
)
entries = (
    images
    | st.just("*")
    | images.flatmap(lambda image: st.integers(0, len(image)).map(lambda at: image[:at] + "*" + image[at + 2 :]))
)
profiles = st.builds(
    Profile,
    index=st.just(0),
    users=st.none() | st.frozensets(names, max_size=2),
    groups=st.none() | st.frozensets(groups, max_size=2),
    images=st.none() | st.lists(entries, max_size=3).map(tuple),
    period=st.just(ALWAYS) | st.builds(lambda start, length: Period(start, start + length), *[st.integers(1, 5)] * 2),
)
documents = st.lists(profiles, max_size=12).map(
    lambda found: Document(tuple(replace(each, index=index) for index, each in enumerate(found)))
)
subjects = st.builds(Subject, user=names, groups=st.frozensets(groups, max_size=2), image=images, at=st.integers(0, 10))


@given(documents, subjects)
@settings(deadline=None, max_examples=200)
def test_matching_agrees_with_its_explanation_and_with_the_specification(document: Document, subject: Subject) -> None:
    expected = [profile for profile in document.profiles if oracle_matches(profile, subject)]

    assert list(match_profiles(document, subject, "document")) == expected
    assert [profile for profile in document.profiles if explain_match(profile, subject).is_match] == expected
    assert list(match_profiles(document, subject)) == sorted(expected, key=oracle_order)


@given(documents, subjects, st.sampled_from(["specificity", "document"]))
@settings(deadline=None, max_examples=500)
def test_looking_up_finds_what_looking_at_every_profile_finds(
    document: Document, subject: Subject, order: MergeOrder
) -> None:
    every = [profile for profile in document.profiles if matches(profile, subject)]

    assert match_profiles(document, subject, order) == order_profiles(every, order)


def test_profiles_that_are_not_numbered_by_their_positions_are_found_too() -> None:
    profiles = tuple(Profile(0, name, users=frozenset({user})) for name, user in [("a", "grace"), ("b", "ada")])

    assert match_profiles(Document(profiles), ADA) == profiles[1:]


@given(st.text("ab*", max_size=8), st.text("ab", max_size=5))
@settings(deadline=None, max_examples=300)
def test_patterns_fit_as_regular_expressions_do(entry: str, image: str) -> None:
    assert matches(Profile(0, images=(entry,)), Subject("ada", frozenset(), image, 0)) is oracle_matches_entry(
        entry, image
    )


@pytest.mark.parametrize(
    ("at", "matching", "reason"),
    [
        pytest.param("2026-11-30T23:59:59", False, "from 1 December", id="not yet"),
        pytest.param("2026-12-01", True, "until the end of 24 December", id="its first second"),
        pytest.param("2026-12-24T23:59:59", True, "until the end of 24 December", id="its last second"),
        pytest.param("2026-12-25", False, "only until the end of 24 December", id="over"),
    ],
)
def test_a_period_says_when_it_applies(at: str, matching: bool, reason: str) -> None:
    document = parse_document(
        "timezone: Europe/Athens\nprofiles: [{from: 2026-12-01, until: 2026-12-24}, {name: without a period}]"
    )
    subject = Subject("ada", frozenset(), "nb", parse_start(at, document.timezone))

    match = explain_match(document.profiles[0], subject, document.timezone)

    assert (match.is_match, match.reasons) == (matching, ("for every user", "for every image", reason))
    assert (document.profiles[0] in match_profiles(document, subject)) is matching
    assert explain_match(document.profiles[1], subject).reasons == ("for every user", "for every image")


@pytest.mark.parametrize(
    ("period", "expected"),
    [
        pytest.param(ALWAYS, "", id="without bounds"),
        pytest.param(Period(start=-10), "", id="begun, and without an end"),
        pytest.param(Period(start=86_400), "from 2 January", id="not begun"),
        pytest.param(Period(end=86_400), "until the end of 1 January", id="with an end"),
        pytest.param(Period(end=0), "only until the end of 31 December 1969", id="ended"),
    ],
)
def test_of_a_period_the_next_bound_is_told(period: Period, expected: str) -> None:
    assert explain_period(period, UTC, 0) == expected


def of_team(team: str, document: str) -> Document:
    """A document of a team's ConfigMap."""
    (found,) = parse_document(f"profiles: []\nteams: [{{name: t, configmaps: [c], {team}}}]").teams or ()
    return parse_document(document).of_configmap("c", found)


@pytest.mark.parametrize("filters", ["users: [ada]", "groups: [staff]", "users: [ada], images: [nb]", "images: [nb]"])
@pytest.mark.parametrize(("team", "matching"), [("users: [grace]", 0), ("users: [ada]", 3)])
def test_profiles_of_another_team_do_not_count(filters: str, team: str, matching: int) -> None:
    subject = Subject("ada", frozenset({"staff"}), "nb", 0)
    profiles = f"profiles: [{', '.join([f'{{{filters}}}'] * 3)}]"

    assert len(match_profiles(of_team(team, profiles), subject)) == matching

    # Nobody can keep somebody else's servers from starting by many profiles that name them.
    many = of_team(team, f"profiles: [{', '.join([f'{{{filters}}}'] * 501)}]")
    if matching:
        with pytest.raises(PodError, match="more than 500 profiles match"):
            match_profiles(many, subject)
    else:
        assert match_profiles(many, subject) == ()
