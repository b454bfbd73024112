"""A test file is read as a document is: every error with its place, and nothing that its JSON Schema says otherwise."""

from __future__ import annotations

import re
from typing import Any

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st
from jsonschema import Draft202012Validator

from profiled_spawner.command.assertions import (
    ASSERTION_KEYS,
    MAX_ASSERTIONS,
    TEST_KEYS,
    EverybodyAssertion,
    Person,
    SubjectAssertion,
    make_test_schema,
    parse_test_file,
)
from profiled_spawner.decide.holders import Thing
from profiled_spawner.document.quantity import parse_quantity
from profiled_spawner.document.sections import EnvVarSource
from profiled_spawner.errors import MAX_ERRORS

from ..document.test_json_schema import EditorLoader, OldEditorLoader, _places, is_place, split_path

VALIDATOR = Draft202012Validator(make_test_schema())

EVERY_KEY = """\
document: [profiles.yaml, team/profiles.yaml]
assertions:
  - name: forecasters read the bucket
    subject:
      user: ada
      groups: [forecasters]
      image: quay.io/x:3.6
      image_choice: Forecasting
      size: Large
      at: 2026-12-01
    has:
      env:
        TEAM: forecasters
        PORT: 80
        DEBUG: null
        S3_KEY: {valueFrom: {secretKeyRef: {name: team-s3, key: key}}}
      resources: {mem_limit: 8Gi, cpu_guarantee: null, limits: {nvidia.com/mig: 1}}
      gpu: 1
      secrets: [team-s3, 'keys-{username}']
      claims: [team-data]
      profiles: [forecasting]
      sizes: [Large]
      images: [Forecasting]
    has_not:
      env: [HTTP_PROXY]
      resources: [gpu, memory]
      secrets: [admin]
      claims: [home]
      profiles: [admins]
      sizes: [Huge]
      images: [RStudio]
  - only: {groups: [forecasters], users: [grace]}
    may_have: {secret: team-s3}
    at: 2026-12-01T14:00
  - everyone_has: {env: HTTPS_PROXY}
  - nobody_has: {resource: gpu}
  - subject: {user: ada}
    has: {env: [S3_KEY]}
"""


def errors_of(text: str) -> list[str]:
    return [f"{each.line}:{each.column} {each.path}: {each.what}" for each in parse_test_file(text).errors]


def refused(value: Any) -> set[tuple[str | int, ...]]:
    return {place for error in VALIDATOR.iter_errors(value) for place in _places(error)}


def test_every_key_is_read() -> None:
    file = parse_test_file(EVERY_KEY)

    assert (file.documents, file.errors) == (("profiles.yaml", "team/profiles.yaml"), ())
    first, *others = file.assertions
    assert isinstance(first, SubjectAssertion)
    assert (first.line, first.column, first.name) == (3, 5, "forecasters read the bucket")
    assert first.person == Person(
        "ada", frozenset({"forecasters"}), "quay.io/x:3.6", "Forecasting", "Large", "2026-12-01"
    )
    source = EnvVarSource("secretKeyRef", {"name": "team-s3", "key": "key"})
    assert first.has.env == {"TEAM": "forecasters", "PORT": "80", "DEBUG": None, "S3_KEY": source}
    assert first.has.amounts == {
        ("limits", "memory"): parse_quantity("8Gi"),
        ("requests", "cpu"): None,
        ("limits", "nvidia.com/mig"): parse_quantity("1"),
        ("limits", "nvidia.com/gpu"): parse_quantity("1"),
    }
    assert set(first.has.things) == {
        Thing("secret", "team-s3"),
        Thing("secret", "keys-{username}"),
        Thing("claim", "team-data"),
        Thing("profile", "forecasting"),
        Thing("size", "Large"),
        Thing("image-choice", "Forecasting"),
    }
    assert set(first.has_not) == {
        Thing("env", "HTTP_PROXY"),
        Thing("resource", "nvidia.com/gpu"),
        Thing("resource", "memory"),
        Thing("secret", "admin"),
        Thing("claim", "home"),
        Thing("profile", "admins"),
        Thing("size", "Huge"),
        Thing("image-choice", "RStudio"),
    }
    assert others[:3] == [
        EverybodyAssertion(
            32, 5, "", "only", Thing("secret", "team-s3"), ("grace",), ("forecasters",), "2026-12-01T14:00"
        ),
        EverybodyAssertion(35, 5, "", "everyone_has", Thing("env", "HTTPS_PROXY")),
        EverybodyAssertion(36, 5, "", "nobody_has", Thing("resource", "nvidia.com/gpu")),
    ]
    assert isinstance(others[3], SubjectAssertion)
    assert others[3].has.things == (Thing("env", "S3_KEY"),)


@pytest.mark.parametrize("text", ["", "# nothing\n", "{}", "document: a.yaml", "assertions: []"])
def test_a_file_may_have_no_assertions(text: str) -> None:
    file = parse_test_file(text)
    assert (file.assertions, file.errors) == ((), ())


ONE = "assertions:\n- "
EXAMPLE = "{nobody_has: {resource: gpu}}"

# What JSON Schema cannot say.
BEYOND_SCHEMA = re.compile("given twice|not in the calendar|the same under")

INVALID = [
    pytest.param("[]", ["1:1 : must be a mapping with the key 'assertions'"], id="a list"),
    pytest.param("assertion: []", ["1:1 assertion: unknown key; did you mean 'assertions'?"], id="unknown"),
    pytest.param("document: []", ["1:11 document: is empty, which says nothing; leave the key out"], id="no document"),
    pytest.param("document: {a: b}", ["1:11 document: must be a list"], id="document mapping"),
    pytest.param("assertions: {}", ["1:13 assertions: must be a list of assertions"], id="mapping"),
    pytest.param(ONE + "a", [f"2:3 assertions[0]: must be a mapping, such as {EXAMPLE}"], id="text"),
    pytest.param(ONE + "{}", [f"2:3 assertions[0]: is empty; write {EXAMPLE}, for example"], id="empty"),
    pytest.param(
        ONE + "{name: a}",
        [f"2:3 assertions[0]: has none of subject, only, everyone_has, nobody_has; write {EXAMPLE}, for example"],
        id="no kind",
    ),
    pytest.param(
        ONE + "{nobody_has: {secret: a}, everyone_has: {secret: a}}",
        ["2:3 assertions[0]: has 'everyone_has' and 'nobody_has'; write an assertion for each"],
        id="two kinds",
    ),
    pytest.param(ONE + "{has: {gpu: 1}}", ["2:3 assertions[0]: has 'has' without 'subject'"], id="no subject"),
    pytest.param(
        ONE + "{subject: {user: a}}", ["2:3 assertions[0]: has 'subject' without 'has' or 'has_not'"], id="no has"
    ),
    pytest.param(ONE + "{only: {users: [a]}}", ["2:3 assertions[0]: has 'only' without 'may_have'"], id="no thing"),
    pytest.param(ONE + "{may_have: {env: A}}", ["2:3 assertions[0]: has 'may_have' without 'only'"], id="no only"),
    pytest.param(
        ONE + "{subject: {user: a}, has: {gpu: 1}, at: 2026-12-01}",
        ["2:3 assertions[0]: has 'at' beside 'subject'; write it in the subject"],
        id="at beside a subject",
    ),
    pytest.param(
        ONE + "{subject: {groups: [a]}, has: {gpu: 1}}", ["2:13 assertions[0].subject: has no 'user'"], id="no user"
    ),
    pytest.param(
        ONE + "{subject: {usr: a}, has: {gpu: 1}}",
        ["2:14 assertions[0].subject.usr: unknown key; did you mean 'user'?"],
        id="misspelled user",
    ),
    pytest.param(
        ONE + "{subject: {user: '*'}, has: {gpu: 1}}",
        ["2:20 assertions[0].subject.user: '*' is no name; leave the key out, or write 'everyone_has'"],
        id="everybody as a user",
    ),
    pytest.param(
        ONE + "{subject: {user: a, at: 2026-13-01}, has: {gpu: 1}}",
        ["2:27 assertions[0].subject.at: 2026-13-01 is not in the calendar"],
        id="moment",
    ),
    pytest.param(
        ONE + "{nobody_has: {gpu: 1}}",
        [
            "2:17 assertions[0].nobody_has.gpu: unknown key; a thing that somebody may have has env, secret, claim, "
            "resource, profile, size, image_choice"
        ],
        id="no thing of that kind",
    ),
    pytest.param(
        ONE + "{nobody_has: {env: A, secret: a}}",
        ["2:16 assertions[0].nobody_has: has 'env' and 'secret'; write an assertion for each"],
        id="two things",
    ),
    pytest.param(
        ONE + "{nobody_has: {env: JPY_API_TOKEN}}",
        ["2:22 assertions[0].nobody_has.env: belongs to the hub, which identifies a server by it, and cannot be set"],
        id="a variable of the hub",
    ),
    pytest.param(
        ONE + "{nobody_has: {resource: gpus}}",
        ["2:27 assertions[0].nobody_has.resource: not a resource of Kubernetes; did you mean 'nvidia.com/gpu'?"],
        id="resource",
    ),
    pytest.param(
        ONE + "{nobody_has: {secret: Team}}",
        [
            "2:25 assertions[0].nobody_has.secret: not the name of a Kubernetes object; use lower-case letters, "
            "digits, '-' and '.'"
        ],
        id="secret",
    ),
    pytest.param(
        ONE + "{only: {}, may_have: {env: A}}",
        ["2:10 assertions[0].only: is empty; write {groups: [forecasters]}, for example"],
        id="only nobody",
    ),
    pytest.param(
        ONE + "{only: {groups: []}, may_have: {env: A}}",
        ["2:19 assertions[0].only.groups: is empty, which says nothing; leave the key out"],
        id="an empty list",
    ),
    pytest.param(
        ONE + "{subject: {user: a}, has: {gpu: -1, resources: {mem_limit: 2GB}, secrets: a}}",
        [
            "2:35 assertions[0].has.gpu: -1 is negative; a quantity is 0 or more",
            "2:62 assertions[0].has.resources.mem_limit: 2GB is not a Kubernetes quantity; did you mean 2Gi or 2G?",
            "2:77 assertions[0].has.secrets: must be a list; put it in brackets, [ and ]",
        ],
        id="all at once",
    ),
    pytest.param(
        ONE + "{subject: {user: a}, has: {gpu: 1, resources: {limits: {nvidia.com/gpu: 1}}}}",
        ["2:3 assertions[0]: has 'gpu', and the same under 'limits'; keep one of them"],
        id="gpu twice",
    ),
    pytest.param("assertions: []\nassertions: []", ["2:1 assertions: given twice, first at line 1"], id="a key twice"),
]


@pytest.mark.parametrize(("text", "errors"), INVALID)
def test_every_error_has_its_place_and_says_what_to_do(text: str, errors: list[str]) -> None:
    assert errors_of(text) == errors


@pytest.mark.parametrize(("text", "errors"), INVALID)
def test_the_schema_refuses_the_same(text: str, errors: list[str]) -> None:
    places = refused(yaml.load(text, EditorLoader))

    for error in parse_test_file(text).errors:
        if not BEYOND_SCHEMA.search(error.what):
            where = split_path(error.path)
            assert any(is_place(place[: len(where)], where) or is_place(place, where[:-1]) for place in places), error


@pytest.mark.parametrize("loader", [EditorLoader, OldEditorLoader])
@pytest.mark.parametrize("text", [EVERY_KEY, "{}", "document: a.yaml", "assertions: []"])
def test_the_schema_accepts_what_is_read(text: str, loader: type[yaml.SafeLoader]) -> None:
    assert refused(yaml.load(text, loader)) == set()


words = st.sampled_from(
    ["a", "gpu", "team-s3", "A", "", "2026-12-01", "*", "1Gi", 1, None, True, "nvidia.com/gpu", "x/y", "Team A", "{a}"]
)
keys = st.sampled_from(
    [
        *ASSERTION_KEYS,
        "user",
        "users",
        "groups",
        "env",
        "secret",
        "secrets",
        "resources",
        "resource",
        "image",
        "valueFrom",
    ]
)
values = st.recursive(words, lambda each: st.lists(each, max_size=3) | st.dictionaries(keys, each, max_size=3))


@given(st.lists(st.dictionaries(st.sampled_from(list(ASSERTION_KEYS)), values, min_size=1, max_size=3), max_size=2))
def test_the_schema_refuses_nothing_that_is_read(assertions: list[Any]) -> None:
    text = yaml.safe_dump({"assertions": assertions})
    if not parse_test_file(text).errors:
        assert refused(yaml.load(text, EditorLoader)) == set()


@given(st.lists(st.sampled_from([*"-:{}[]&*!|> ", "\n- ", "\n  ", *EVERY_KEY.split(), "<<", "&a", "*a"])).map(" ".join))
def test_whatever_a_file_has_is_read_or_an_error(text: str) -> None:
    parse_test_file(text)


def test_the_schema_is_one_and_explains_every_key() -> None:
    schema = make_test_schema()
    Draft202012Validator.check_schema(schema)

    def check(part: dict[str, Any], keys: Any) -> None:
        part = schema["$defs"][part["$ref"].rpartition("/")[2]] if "$ref" in part else part
        for name, key in keys.items():
            described = part["properties"][name]
            assert described["description"]
            assert described["examples"]
            for example in key.examples:
                assert Draft202012Validator({**described, "$defs": schema["$defs"]}).is_valid(example), name
            if hasattr(key.section, "keys"):
                check(described, key.section.keys)

    check(schema, TEST_KEYS)
    check(schema["$defs"]["assertion"], ASSERTION_KEYS)


@pytest.mark.parametrize(
    ("text", "what"),
    [
        pytest.param("a: &a [x, x]\nb: &b [*a, *a]\n" * 9, "given twice", id="keys"),
        pytest.param("assertions: " + "[" * 60 + "]" * 60, "more than 50", id="depth"),
        pytest.param("assertions: [*a]", "an alias (*) to an anchor (&) that is not defined", id="alias"),
        pytest.param("assertions: !!python/object:os.system {}", "tag", id="tag"),
        pytest.param(f"document: {'a' * 2**20}", "larger than 1,048,576 bytes", id="bytes"),
        pytest.param("a: &a [" + "x," * 1000 + "]\nb: [" + "*a," * 1000 + "]", "more than 250,000 nodes", id="bomb"),
        pytest.param(
            f"assertions: [{'{nobody_has: {env: A}},' * (MAX_ASSERTIONS + 1)}]",
            f"are {MAX_ASSERTIONS + 1:,}, and a test file can have {MAX_ASSERTIONS:,}",
            id="assertions",
        ),
    ],
)
def test_what_is_too_much_is_refused(text: str, what: str) -> None:
    assert any(what in error for error in errors_of(text))


def test_errors_are_counted_and_the_first_hundred_listed() -> None:
    file = parse_test_file("assertions:" + "\n- x" * 500)
    assert (len(file.errors), file.omitted) == (100, 400)
    file = parse_test_file("assertions:" + "\n- x: {}" * MAX_ASSERTIONS)
    assert (len(file.errors), file.omitted) == (100, MAX_ERRORS - 100)


def test_no_more_assertions_are_read_than_a_file_can_have() -> None:
    file = parse_test_file("assertions:" + f"\n- {EXAMPLE}" * MAX_ASSERTIONS + "\n- x")
    assert [error.what for error in file.errors] == ["are 1,001, and a test file can have 1,000"]
    assert len(file.assertions) == MAX_ASSERTIONS


@pytest.mark.parametrize(
    "assertion",
    [
        "{subject: {user: a}, has: {env: {CANARY: {CANARY: CANARY}}}}",
        "{subject: {user: a}, has: {env: {A: {valueFrom: {secretKeyRef: {name: CANARY, kye: CANARY}}}}}}",
        "{subject: {user: a}, has: {env: [A=CANARY]}}",
        "{subject: {user: a}, has: {env: [{A: CANARY}]}}",
        "{subject: {user: a}, has: {env: CANARY}}",
        "{subject: {user: a}, has: {env: {A: [CANARY]}}}",
        "{subject: {user: a}, has: {A-CANARY: CANARY}}",
        "{subject: {user: a}, has: {env: {A: &a CANARY}, gpu: *a, secrets: [*a]}, has_not: *a}",
        "{nobody_has: {env: A=CANARY}}",
        "{nobody_has: {env: {A: CANARY}}}",
    ],
)
def test_no_error_quotes_a_value(assertion: str) -> None:
    file = parse_test_file(ONE + assertion)
    assert file.errors
    assert "CANARY" not in "".join(map(str, file.errors))
    assert "CANARY" not in repr(file)
