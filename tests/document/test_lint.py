"""`validate` warns of what is valid and may not be meant, and of nothing else."""

import pytest

from profiled_spawner.document.parser import validate_document
from profiled_spawner.document.times import load_zone, parse_start

LOWER_CASE = "and JupyterHub lower-cases usernames unless told otherwise; did you mean"
OF_ANYBODY = (
    "begins with '*', so anyone who may type in an image can obtain this profile's variables; begin it with a registry"
)
BY_IMAGE_ALONE = "a secret that an image alone guards: whoever may choose the image can read it; name users or groups"
PLAIN_SECRET = (
    "looks like a secret in plain text, which everyone who may read the ConfigMap can read; "
    "take it from a Secret with valueFrom"
)
SECRET = "[{name: A, valueFrom: {secretKeyRef: {name: keys, key: a}}}]"


def warn(profile: str) -> list[str]:
    """The warnings of a document with this one profile, without their places."""
    checked = validate_document(f"profiles: [{profile}]")
    assert checked.errors == ()
    assert {each.severity for each in checked.warnings} <= {"warning"}
    return [f"{each.path}: {each.what}" for each in checked.warnings]


@pytest.mark.parametrize(
    ("profile", "warnings"),
    [
        pytest.param(
            "{users: []}",
            ["profiles[0].users: empty, so the profile matches nobody; leave the key out if that is not meant"],
            id="no-users",
        ),
        pytest.param(
            "{groups: []}",
            ["profiles[0].groups: empty, so the profile matches nobody; leave the key out if that is not meant"],
            id="no-groups",
        ),
        pytest.param(
            "{images: []}",
            ["profiles[0].images: empty, so the profile matches nothing; leave the key out if that is not meant"],
            id="no-images",
        ),
        pytest.param(
            "{users: [], groups: [forecasters]}",
            ["profiles[0].users: empty, which adds nobody; leave the key out if that is not meant"],
            id="no-users-beside-groups",
        ),
        pytest.param(
            "{users: [ada], groups: []}",
            ["profiles[0].groups: empty, which adds nobody; leave the key out if that is not meant"],
            id="no-groups-beside-users",
        ),
        pytest.param(
            "{users: [], groups: []}",
            [
                "profiles[0].users: empty, so the profile matches nobody; leave the key out if that is not meant",
                "profiles[0].groups: empty, so the profile matches nobody; leave the key out if that is not meant",
            ],
            id="neither-users-nor-groups",
        ),
        pytest.param(
            "{users: [ada, Grace]}",
            [f"profiles[0].users[1]: 'Grace' has capitals, {LOWER_CASE} 'grace'?"],
            id="capitals",
        ),
        pytest.param(
            "{users: [ÜNAL]}", [f"profiles[0].users[0]: 'ÜNAL' has capitals, {LOWER_CASE} 'ünal'?"], id="umlaut"
        ),
        pytest.param("{name: a}, {name: b}", [], id="names-apart"),
        pytest.param("{}, {}", [], id="no-names"),
        pytest.param(
            "{name: a}, {name: b}, {name: a}",
            ["profiles[2].name: profiles[0] has the same name; nobody can tell the two apart in logs"],
            id="a-name-twice",
        ),
        pytest.param("{images: ['*/nb:1'], env: {A: b}}", [f"profiles[0].images[0]: {OF_ANYBODY}"], id="open-pattern"),
        pytest.param(
            "{images: [quay.io/*, '**/nb'], env: {A: b}}",
            [f"profiles[0].images[1]: {OF_ANYBODY}"],
            id="open-pattern-of-two",
        ),
        pytest.param("{images: ['*/nb:1'], resources: {cpu_limit: 1}}", [], id="open-pattern-without-env"),
        pytest.param("{images: ['quay.io/*'], env: {A: b}}", [], id="pattern-with-a-registry"),
        pytest.param("{images: ['*'], env: {A: b}}", [], id="every-image"),
        pytest.param(
            f"{{images: [nb], env: {SECRET}}}", [f"profiles[0].env.A: {BY_IMAGE_ALONE}"], id="secret-for-an-image"
        ),
        pytest.param(
            f"{{images: [nb], users: ['*'], env: {SECRET}}}",
            [f"profiles[0].env.A: {BY_IMAGE_ALONE}"],
            id="secret-for-an-image-and-every-user",
        ),
        pytest.param(
            f"{{images: [nb], users: ['*'], groups: [forecasters], env: {SECRET}}}",
            [f"profiles[0].env.A: {BY_IMAGE_ALONE}"],
            id="secret-for-an-image-every-user-and-a-group",
        ),
        pytest.param(f"{{images: [nb], users: [ada], env: {SECRET}}}", [], id="secret-for-a-user"),
        pytest.param(f"{{images: [nb], groups: [forecasters], env: {SECRET}}}", [], id="secret-for-a-group"),
        pytest.param(f"{{env: {SECRET}}}", [], id="secret-that-nothing-guards"),
        pytest.param(
            "{images: [nb], env: [{name: A, valueFrom: {configMapKeyRef: {name: team, key: a}}}]}",
            [],
            id="no-secret-for-an-image",
        ),
        pytest.param("{env: {TOKEN: ''}}", [], id="secret-name-without-a-value"),
        pytest.param("{env: {TOKEN: null}}", [], id="secret-taken-away"),
        pytest.param(f"{{env: {SECRET.replace('A', 'API_TOKEN', 1)}}}", [], id="secret-from-a-secret"),
        pytest.param(
            "{resources: {mem_limit: 1Gi, mem_guarantee: 2Gi}}",
            ["profiles[0].resources: guarantees 2Gi of memory and limits it to 1Gi; the limit will be used for both"],
            id="guarantee-above-the-limit",
        ),
        pytest.param("{resources: {mem_limit: 1Gi, mem_guarantee: 1024Mi}}", [], id="guarantee-of-the-limit"),
        pytest.param("{resources: {mem_limit: 1Gi, mem_guarantee: 0}}", [], id="guarantee-below-the-limit"),
        pytest.param("{resources: {mem_limit: null, mem_guarantee: 1Gi}}", [], id="guarantee-without-limit"),
        pytest.param(
            "{resources: {limits: {nvidia.com/gpu: 2}, requests: {nvidia.com/gpu: 1}}}",
            [
                "profiles[0].resources: guarantees 1 of nvidia.com/gpu and limits it to 2; "
                "the limit will be used for both"
            ],
            id="extended-resource-that-is-not-equal",
        ),
        pytest.param(
            "{users: [ada], groups: [g], images: [nb], env: {A: b}, resources: {cpu_limit: 1}}", [], id="plain"
        ),
    ],
)
def test_warnings_of_a_profile(profile: str, warnings: list[str]) -> None:
    assert warn(profile) == warnings


@pytest.mark.parametrize(
    "name",
    [
        pytest.param("PASSWORD", id="password"),
        pytest.param("DB_PASSWORD", id="end-of-a-name"),
        pytest.param("db-password", id="dashes"),
        pytest.param("db.password", id="dots"),
        pytest.param("PASSWD", id="passwd"),
        pytest.param("CLIENT_SECRET", id="secret"),
        pytest.param("API_TOKEN", id="token"),
        pytest.param("APIKEY", id="api-key"),
        pytest.param("AWS_SECRET_ACCESS_KEY", id="access-key"),
        pytest.param("SECRET_KEY", id="secret-key"),
        pytest.param("PRIVATE_KEY", id="private-key"),
        pytest.param("CREDENTIALS", id="credentials"),
        pytest.param("PGPASSWORD", id="postgresql"),
        pytest.param("MYSQL_PWD", id="mysql"),
    ],
)
def test_a_plain_value_under_the_name_of_a_secret_is_warned_of(name: str) -> None:
    shown = f'env["{name}"]' if "." in name else f"env.{name}"

    assert warn(f"{{env: {{{name}: x}}}}") == [f"profiles[0].{shown}: {PLAIN_SECRET}"]
    assert warn(f"{{env: [{{name: {name}, value: x}}]}}") == [f"profiles[0].{shown}: {PLAIN_SECRET}"]


@pytest.mark.parametrize(
    "name", ["TOKENIZER", "PASSENGERS", "SECRETARY", "KEY", "PRIMARY_KEY", "TOKEN_URL", "COMPASS", "PWD"]
)
def test_a_name_that_only_resembles_a_secrets_is_not_warned_of(name: str) -> None:
    assert warn(f"{{env: {{{name}: x}}}}") == []


@pytest.mark.parametrize(
    ("text", "places"),
    [
        pytest.param("profiles:\n- name: a\n  users: []\n", [(3, 3)], id="empty-list-at-its-key"),
        pytest.param("profiles:\n- users:\n  - Ada\n", [(3, 5)], id="user-at-the-entry"),
        pytest.param("profiles:\n- env:\n    A: x\n    TOKEN: y\n", [(4, 5)], id="variable-at-its-name"),
        pytest.param(
            "profiles:\n- env:\n  - name: TOKEN\n    value: y\n", [(3, 5)], id="variable-of-a-list-at-its-item"
        ),
        pytest.param(
            "profiles:\n- users: [Ada]\n  groups: []\n- images: []\n", [(2, 11), (3, 3), (4, 3)], id="in-order"
        ),
        pytest.param(
            "profiles:\n- env: &e\n    TOKEN: x\n- env: *e\n", [(3, 5), (3, 5)], id="behind-an-alias-at-its-anchor"
        ),
        pytest.param("profiles:\n- env: {<<: {TOKEN: x}}\n", [(2, 8)], id="merged-in-at-the-section"),
    ],
)
def test_a_warning_has_the_place_of_what_it_is_about(text: str, places: list[tuple[int, int]]) -> None:
    assert [(each.line, each.column) for each in validate_document(text).warnings] == places


@pytest.mark.parametrize(
    "text",
    [
        pytest.param("profiles: [{env: {TOKEN: canary}}]", id="plain-secret"),
        pytest.param("profiles: [{images: ['*/nb'], env: {A: canary}}]", id="open-pattern"),
        pytest.param("profiles: [{env: {A: &v Canary}, users: [*v]}]", id="value-that-is-a-user"),
        pytest.param("profiles: [{env: {A: &v canary*}, users: [*v], groups: [*v]}]", id="value-that-is-a-pattern"),
        pytest.param("profiles: [{env: {A: &v 'docker://canary'}, images: [*v]}]", id="value-that-is-no-image"),
        pytest.param("profiles: [{env: {A: 'canary $(A)'}}]", id="value-that-refers-to-itself"),
        pytest.param("profiles: [{env: {A: 'canary {username}'}}]", id="value-with-a-field"),
        pytest.param("profiles: [{env: {A: 'https://ada:canary@example.org'}}]", id="password-in-a-url"),
    ],
)
def test_no_warning_holds_a_value(text: str) -> None:
    warnings = validate_document(text).warnings

    assert [str(each) for each in warnings if "canary" in str(each).lower()] == []


def test_many_variables_are_considered_in_one_pass() -> None:
    env = ", ".join(f"A{number}: x" for number in range(299))

    assert warn(f"{{env: {{{env}, TOKEN: x}}}}") == [f"profiles[0].env.TOKEN: {PLAIN_SECRET}"]


@pytest.mark.parametrize(
    ("at", "warning"),
    [
        pytest.param("2027-01-24", None, id="a week before its end"),
        pytest.param(
            "2027-01-25T00:00:01", "ends within a week: it applies until the end of 31 January", id="in its last week"
        ),
        pytest.param(
            "2027-01-31T23:59:59", "ends within a week: it applies until the end of 31 January", id="in its last second"
        ),
        pytest.param(
            "2027-02-01",
            "is over: it applied until the end of 31 January; remove it if nobody needs it any more",
            id="over",
        ),
    ],
)
def test_a_period_that_ends_soon_or_has_ended_is_warned_of_at_its_key(at: str, warning: str | None) -> None:
    zone = load_zone("Europe/Athens")
    text = "timezone: Europe/Athens\nprofiles:\n- {from: 2026-10-01, until: 2027-01-31}\n"

    found = validate_document(text, at=parse_start(at, zone)).warnings

    assert [(each.line, each.column, each.path, each.what) for each in found] == (
        [(3, 22, "profiles[0].until", warning)] if warning else []
    )


def test_without_a_moment_no_period_is_looked_at() -> None:
    assert validate_document("profiles: [{until: 2020-01-01}]").warnings == ()


@pytest.mark.parametrize(("name", "warned"), [("'\"\"'", True), ("'\"a\"'", True), ("'\"'", False), ("o’brien", False)])
def test_quotes_around_a_name_are_part_of_it(name: str, warned: bool) -> None:
    expected = "matches nobody: its quotes are part of the name; write the name in straight quotes, or in none"

    assert warn(f"{{groups: [{name}]}}") == ([f"profiles[0].groups[0]: {expected}"] if warned else [])
