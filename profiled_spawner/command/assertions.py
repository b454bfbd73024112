"""Test files, with assertions about what a document gives: their format, how they are parsed, and their JSON Schema.

`TEST_KEYS` defines the format: parsing, JSON Schema and reference are made from it. What stands under ``has`` has the
form that it has in a profile. `assessment` says whether assertions hold.
"""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import UTC
from typing import Any, cast

from ..decide.holders import Kind, Thing
from ..document import yaml_tree
from ..document.kubernetes import RULES, SHAPES, Schema, describe_object
from ..document.model import DEFAULT_SIZE, GPU, PROFILE_KEYS, EnvValue
from ..document.quantity import Quantity
from ..document.rules import (
    ENV_NAME,
    EXTENDED_RESOURCE,
    HUGE_PAGES,
    IMAGE,
    OBJECT_NAME,
    Rule,
    explain_env_name,
    explain_resource_name,
)
from ..document.sections import Env, Instant, Key, Line, Names, Resources, Section, Text
from ..document.times import parse_start
from ..document.validator import Path, TooManyErrors, Validator
from ..document.yaml_tree import Node, Scalar, read_tree, release_tree
from ..errors import Diagnostic, DocumentError, TimeError

__all__ = [
    "ASSERTION_KEYS",
    "MAX_ASSERTIONS",
    "TEST_KEYS",
    "Assertion",
    "AssertionFile",
    "EverybodyAssertion",
    "Expected",
    "Person",
    "SubjectAssertion",
    "make_test_schema",
    "parse_test_file",
]

_NO_THING = Thing("env", "")

MAX_ASSERTIONS = 1_000
"""Assertions of one test file: each about everybody takes as long as a small `diff`."""


@dataclass(frozen=True, slots=True)
class Person:
    """Whose server an assertion is about.

    Attributes:
        user: The username.
        groups: The groups.
        image: The image; empty for each image that there may be.
        image_choice: The name of the chosen image; None for each that is offered.
        size: The name of the chosen size.
        at: When the server starts, as text, which is a date or a time; empty for now.
    """

    user: str
    groups: frozenset[str] = frozenset()
    image: str = ""
    image_choice: str | None = None
    size: str = DEFAULT_SIZE
    at: str = ""


@dataclass(frozen=True, slots=True)
class Expected:
    """What a server must have.

    Attributes:
        env: Variables with their values.
        amounts: Limits and requests, by section and by resource; None for one that is removed.
        things: What must be there, whatever it is.
    """

    # Not in a repr, which ends in tracebacks: it holds values of variables.
    env: Mapping[str, EnvValue] = field(default_factory=dict, repr=False)
    amounts: Mapping[tuple[str, str], Quantity | None] = field(default_factory=dict)
    things: tuple[Thing, ...] = ()


@dataclass(frozen=True, slots=True)
class Assertion:
    """One assertion.

    Attributes:
        line: Where it stands in the test file, from 1.
        column: Likewise.
        name: What people call it; empty without a name.
    """

    line: int = 0
    column: int = 0
    name: str = ""


@dataclass(frozen=True, slots=True)
class SubjectAssertion(Assertion):
    """What one server has.

    Attributes:
        person: Whose server it is, and what was chosen.
        has: What it must have.
        has_not: What it must not have.
    """

    person: Person = Person("")
    has: Expected = Expected()
    has_not: tuple[Thing, ...] = ()


@dataclass(frozen=True, slots=True)
class EverybodyAssertion(Assertion):
    """Who has a thing, over everybody.

    Attributes:
        kind: ``only``, ``everyone_has`` or ``nobody_has``.
        thing: The thing.
        users: For ``only``: those who may have it.
        groups: For ``only``: those whose members may have it.
        at: The moment, as text; empty for every moment from now on.
    """

    kind: str = ""
    thing: Thing = _NO_THING
    users: tuple[str, ...] = ()
    groups: tuple[str, ...] = ()
    at: str = ""


@dataclass(frozen=True, slots=True)
class AssertionFile:
    """What a test file says.

    Attributes:
        documents: The paths of the documents, as written: the main one first.
        assertions: In the file's order.
        errors: What is wrong with it, in the file's order. With errors, the rest means nothing.
        omitted: How many more errors there are.
    """

    documents: tuple[str, ...] = ()
    assertions: tuple[Assertion, ...] = ()
    errors: tuple[Diagnostic, ...] = ()
    omitted: int = 0


# Sections: kinds of values that a key may have.

_NAME = Rule(r"(?!\*$)[\s\S]+", "'*' is no name; leave the key out, or write 'everyone_has'")


@dataclass(frozen=True, slots=True)
class _EnvName:
    """The name of a variable that a document may set. No message quotes it: it may be a misplaced value."""

    def read(self, validator: Validator, node: Node, path: Path) -> str:
        name = validator.text(node, path)
        if name is not None and (problem := explain_env_name(name)):
            validator.error(node, path, problem)
        return name or ""

    def describe(self) -> Schema:
        return {"type": ["string", "boolean"], "pattern": f"^{ENV_NAME}$"}


@dataclass(frozen=True, slots=True)
class _ResourceName:
    """The name of a resource: Kubernetes', or ``gpu``."""

    def read(self, validator: Validator, node: Node, path: Path) -> str:
        name = validator.text(node, path)
        if name is None or name == "gpu":
            return GPU
        if problem := explain_resource_name(name):
            validator.error(node, path, problem)
        return name

    def describe(self) -> Schema:
        names = rf"gpu|cpu|memory|ephemeral-storage|{HUGE_PAGES}|{EXTENDED_RESOURCE}"
        return {"type": "string", "pattern": f"^(?:{names})$"}


class _Moment:
    """A date or a time, as text: only the document says in which time zone."""

    def read(self, validator: Validator, node: Node, path: Path) -> str:
        text = validator.text(node, path) or ""
        if text:
            try:
                parse_start(text, UTC)
            except TimeError as error:
                validator.error(node, path, str(error))
        return text

    def describe(self) -> Schema:
        return Instant(is_end=False).describe()


@dataclass(frozen=True, slots=True)
class _List:
    """A list of values, at least one."""

    section: Section

    def read(self, validator: Validator, node: Node, path: Path) -> tuple[Any, ...]:
        if isinstance(node, yaml_tree.Sequence) and not node.items:
            validator.error(node, path, "is empty, which says nothing; leave the key out")
        items = enumerate(validator.items(node, path))
        return tuple([self.section.read(validator, item, (*path, position)) for position, item in items])

    def describe(self) -> Schema:
        return {"type": "array", "items": self.section.describe(), "minItems": 1}


class _OneOrMore(_List):
    """A value, or a list of values."""

    __slots__ = ()

    def read(self, validator: Validator, node: Node, path: Path) -> tuple[Any, ...]:
        if isinstance(node, Scalar):
            return (self.section.read(validator, node, path),)
        return _List.read(self, validator, node, path)

    def describe(self) -> Schema:
        one = self.section.describe()
        return {**_List.describe(self), **one, "type": [*one["type"], "array"]}


class _ExpectedEnv:
    """Variables: names to values as in a profile, or a list of names."""

    _names = _List(_EnvName())

    def read(self, validator: Validator, node: Node, path: Path) -> Mapping[str, EnvValue] | tuple[str, ...]:
        if isinstance(node, yaml_tree.Mapping):
            return Env().read(validator, node, path)
        if isinstance(node, yaml_tree.Sequence):
            return self._names.read(validator, node, path)
        validator.wrong_type(node, path, "a mapping of names to values, or a list of names")
        return ()

    def describe(self) -> Schema:
        return {**Env().describe(), "items": _EnvName().describe()}


@dataclass(frozen=True, slots=True)
class _Keys:
    """A mapping whose keys are given.

    Attributes:
        keys: The keys.
        noun: What errors call it.
        example: What it may look like.
        required: Keys that it must have.
        only_one: Whether it has one key alone; otherwise it has at least one.
    """

    keys: Mapping[str, Key]
    noun: str
    example: str
    required: tuple[str, ...] = ()
    only_one: bool = False

    def read(self, validator: Validator, node: Node, path: Path) -> dict[str, Any]:
        if not isinstance(node, yaml_tree.Mapping):
            validator.wrong_type(node, path, f"a mapping, such as {self.example}")
            return {}
        before = validator.count
        entries = validator.known_entries(node, path, tuple(self.keys), self.noun)
        missing = [key for key in self.required if key not in entries]
        # A key that is missing may be the one that is not known.
        if validator.count == before:
            for key in missing:
                validator.error(node, path, f"has no '{key}'")
            if not entries and not missing:
                validator.error(node, path, f"is empty; write {self.example}, for example")
            if self.only_one and len(entries) > 1:
                names = " and ".join(f"'{key}'" for key in list(entries)[:3])
                validator.error(node, path, f"has {names}; write an assertion for each")
        return {key: self.keys[key].section.read(validator, value, (*path, key)) for key, (_, value) in entries.items()}

    def describe(self) -> Schema:
        return {
            "type": "object",
            "properties": {name: key.describe() for name, key in self.keys.items()},
            **({"required": list(self.required)} if self.required else {"minProperties": 1}),
            **({"maxProperties": 1} if self.only_one else {}),
            "additionalProperties": False,
        }


_OBJECT = Text(OBJECT_NAME)
# Of one server, a template is asked for as it is written: what it becomes, KubeSpawner decides.
_OBJECT_OR_TEMPLATE = Text(RULES["SecretEnvSource.name"])
_PERSON_NAME = Text(_NAME)

THING_KEYS: Mapping[str, Key] = {
    "env": Key(_EnvName(), "An environment variable, whatever its value.", ("S3_KEY",)),
    "secret": Key(_OBJECT, "A Secret, by a variable, by `env_from`, or by a volume.", ("team-s3",)),
    "claim": Key(_OBJECT, "A persistent volume claim, by a volume.", ("team-data",)),
    "resource": Key(_ResourceName(), "A resource, of any amount but zero. `gpu` is short for `" + GPU + "`.", ("gpu",)),
    "profile": Key(Line(), "A profile that is applied, by its name.", ("forecasting",)),
    "size": Key(Line(), "A size that may be chosen, by its name.", ("Large",)),
    "image_choice": Key(Line(), "An image that may be chosen, by its name.", ("Forecasting",)),
}
"""Things that somebody may have, one at a time."""

# The same, by the names of their lists.
_LISTS = {
    "env": "env",
    "secrets": "secret",
    "claims": "claim",
    "resources": "resource",
    "profiles": "profile",
    "sizes": "size",
    "images": "image_choice",
}


def _list(name: str, what: str) -> Key:
    key = THING_KEYS[_LISTS[name]]
    section = _OBJECT_OR_TEMPLATE if key.section is _OBJECT else key.section
    return Key(_List(section), what, (list(key.examples),))


_HAS_KEYS: Mapping[str, Key] = {
    "env": Key(
        _ExpectedEnv(),
        "Environment variables: names to values, as in a profile's `env`; or a list of names, for whatever values. A "
        "plain `null`: the profiles remove the variable.",
        ({"BUCKET_PREFIX": "data/forecast"}, ["S3_KEY"]),
    ),
    "resources": Key(
        Resources(),
        "Amounts, as in a profile's `resources`. A plain `null`: the profiles remove it.",
        PROFILE_KEYS["resources"].examples,
    ),
    "gpu": Key(PROFILE_KEYS["gpu"].section, f"GPUs: short for a limit of `{GPU}`.", (1,)),
    "secrets": _list("secrets", "Secrets that it can read: by variables, by `env_from`, or by volumes."),
    "claims": _list("claims", "Persistent volume claims that it mounts."),
    "profiles": _list("profiles", "Profiles that are applied, by name."),
    "sizes": _list("sizes", "Sizes that the person may choose, by name."),
    "images": _list("images", "Images that the person may choose, by name."),
}

_HAS_NOT_KEYS: Mapping[str, Key] = {
    "env": _list("env", "Environment variables that no profile sets, or that profiles remove."),
    "resources": _list("resources", f"Resources of which it has nothing. `gpu` is short for `{GPU}`."),
    "secrets": _list("secrets", "Secrets that it cannot read."),
    "claims": _list("claims", "Persistent volume claims that it does not mount."),
    "profiles": _list("profiles", "Profiles that are not applied."),
    "sizes": _list("sizes", "Sizes that the person may not choose."),
    "images": _list("images", "Images that the person may not choose."),
}

_SUBJECT_KEYS: Mapping[str, Key] = {
    "user": Key(_PERSON_NAME, "The JupyterHub username.", ("ada",)),
    "groups": Key(Names(), "The JupyterHub groups of the user.", (["forecasters"],)),
    "image": Key(
        Text(IMAGE),
        "The image of the server, unless the document offers images to the user. Left out: the assertion must hold on "
        "each image that there may be.",
        ("quay.io/example/forecast-notebook:3.6",),
    ),
    "image_choice": Key(
        Line(),
        "The chosen image, by its name. Left out: the assertion must hold for each that the user may choose.",
        ("Forecasting",),
    ),
    "size": Key(Line(), f"The chosen size, by its name. Left out: `{DEFAULT_SIZE}`, which is none.", ("Large",)),
    "at": Key(
        _Moment(),
        "When the server starts: a date or a time, in the document's `timezone`. Left out: now.",
        ("2026-12-01",),
    ),
}

_ONLY_KEYS: Mapping[str, Key] = {
    "users": Key(_List(_PERSON_NAME), "These users.", (["grace"],)),
    "groups": Key(_List(_PERSON_NAME), "Members of these groups.", (["forecasters"],)),
}


class _Thing(_Keys):
    """A thing, which three keys of an assertion can have."""

    __slots__ = ()

    def describe(self) -> Schema:
        return {"$ref": "#/$defs/thing"}


_THING = _Thing(THING_KEYS, "a thing that somebody may have", "{secret: team-s3}", only_one=True)

ASSERTION_KEYS: Mapping[str, Key] = {
    "name": Key(Line(), "For people: shown if the assertion fails.", ("Only forecasters read the team's bucket",)),
    "subject": Key(
        _Keys(_SUBJECT_KEYS, "a subject", "{user: ada, groups: [forecasters]}", required=("user",)),
        "Whose server `has` and `has_not` are about.",
        ({"user": "ada", "groups": ["forecasters"]},),
    ),
    "has": Key(
        _Keys(_HAS_KEYS, "'has'", "{secrets: [team-s3]}"),
        "What the subject's server has. It may have more.",
        ({"env": {"BUCKET_PREFIX": "data/forecast"}, "resources": {"mem_limit": "2Gi"}},),
    ),
    "has_not": Key(
        _Keys(_HAS_NOT_KEYS, "'has_not'", "{resources: [gpu]}"),
        "What the subject's server does not have.",
        ({"resources": ["gpu"]},),
    ),
    "only": Key(
        _Keys(_ONLY_KEYS, "'only'", "{groups: [forecasters]}"),
        "Who may have what `may_have` says. Nobody else can get it, whatever they choose.",
        ({"groups": ["forecasters"], "users": ["grace"]},),
    ),
    "may_have": Key(_THING, "What only those may have.", ({"secret": "team-s3"},)),
    "everyone_has": Key(
        _THING, "What every server has, on every image and with every choice.", ({"env": "HTTPS_PROXY"},)
    ),
    "nobody_has": Key(_THING, "What no server can get.", ({"resource": "gpu"},)),
    "at": Key(
        _Moment(),
        "The moment of an assertion about everybody: a date or a time, in the document's `timezone`. Left out: every "
        "moment from now on.",
        ("2026-12-01",),
    ),
}
"""The keys of an assertion."""

_KINDS = ("subject", "only", "everyone_has", "nobody_has")
_ASSERTION_EXAMPLE = "{nobody_has: {resource: gpu}}"

# Which key needs which others beside it.
_NEEDS = {
    "has": "subject",
    "has_not": "subject",
    "only": "may_have",
    "may_have": "only",
}


class _AssertionKeys:
    """One assertion."""

    _keys = _Keys(ASSERTION_KEYS, "an assertion", _ASSERTION_EXAMPLE)

    def read(self, validator: Validator, node: Node, path: Path) -> Assertion:
        before = validator.count
        found = self._keys.read(validator, node, path)
        assertion = Assertion(node.line, node.column)
        if validator.count > before:
            return assertion
        if problem := _explain_keys(found):
            validator.error(node, path, problem)
            return assertion
        return _make_assertion(found, node)

    def describe(self) -> Schema:
        return {
            **self._keys.describe(),
            "oneOf": [{"required": [kind]} for kind in _KINDS],
            "dependentRequired": {key: [other] for key, other in _NEEDS.items()},
            "dependentSchemas": {
                "subject": {
                    "anyOf": [{"required": ["has"]}, {"required": ["has_not"]}],
                    "not": {"required": ["at"]},
                }
            },
        }


def _explain_keys(found: Mapping[str, Any]) -> str | None:
    """Says why these keys do not make an assertion; None if they do."""
    for key, other in _NEEDS.items():
        if key in found and other not in found:
            return f"has '{key}' without '{other}'"
    kinds = [kind for kind in _KINDS if kind in found]
    if len(kinds) > 1:
        return f"has {' and '.join(repr(kind) for kind in kinds[:3])}; write an assertion for each"
    if not kinds:
        return f"has none of {', '.join(_KINDS)}; write {_ASSERTION_EXAMPLE}, for example"
    return _explain_subject(found) if "subject" in found else None


def _explain_subject(found: Mapping[str, Any]) -> str | None:
    if not {"has", "has_not"} & found.keys():
        return "has 'subject' without 'has' or 'has_not'"
    if "at" in found:
        return "has 'at' beside 'subject'; write it in the subject"
    has = found.get("has", {})
    if "gpu" in has and "resources" in has and GPU in has["resources"].limits:
        return "has 'gpu', and the same under 'limits'; keep one of them"
    return None


def _make_assertion(found: Mapping[str, Any], node: Node) -> Assertion:
    place = (node.line, node.column, found.get("name", ""))
    if "subject" in found:
        has_not = tuple(_list_things(found.get("has_not", {})))
        return SubjectAssertion(*place, Person(**found["subject"]), _make_expected(found.get("has", {})), has_not)
    (kind,) = (kind for kind in _KINDS if kind in found)
    thing = _make_thing(found["may_have" if kind == "only" else kind])
    return EverybodyAssertion(*place, kind, thing, **found.get("only", {}), at=found.get("at", ""))


def _make_thing(found: Mapping[str, str]) -> Thing:
    ((kind, name),) = found.items()
    return Thing(_to_kind(kind), name)


def _to_kind(key: str) -> Kind:
    """The kind of thing that a key of `THING_KEYS` stands for."""
    return cast("Kind", key.replace("_", "-"))


def _make_expected(found: Mapping[str, Any]) -> Expected:
    resources: Resources.Found | None = found.get("resources")
    amounts = {
        (section, resource): quantity
        for section, quantities in (resources._asdict() if resources else {}).items()
        for resource, quantity in quantities.items()
    }
    if "gpu" in found:
        amounts["limits", GPU] = found["gpu"]
    env = found.get("env", ())
    lists = {key: value for key, value in found.items() if key not in ("resources", "gpu")}
    if isinstance(env, Mapping):
        return Expected(env, amounts, tuple(_list_things(lists | {"env": ()})))
    return Expected({}, amounts, tuple(_list_things(lists)))


def _list_things(found: Mapping[str, Any]) -> list[Thing]:
    return [Thing(_to_kind(_LISTS[key]), name) for key, names in found.items() for name in names]


class _Assertions:
    """The list of assertions, which may be empty: then there is nothing to hold, which `test` says."""

    def read(self, validator: Validator, node: Node, path: Path) -> tuple[Assertion, ...]:
        items = validator.items(node, path, "a list of assertions")
        if len(items) > MAX_ASSERTIONS:
            what = f"are {len(items):,}, and a test file can have {MAX_ASSERTIONS:,}"
            validator.error(node, path, what)
            items = items[:MAX_ASSERTIONS]
        section = _AssertionKeys()
        return tuple([section.read(validator, item, (*path, position)) for position, item in enumerate(items)])

    def describe(self) -> Schema:
        return {"type": "array", "items": {"$ref": "#/$defs/assertion"}, "maxItems": MAX_ASSERTIONS}


TEST_KEYS: Mapping[str, Key] = {
    "document": Key(
        _OneOrMore(Line()),
        "The file with the document, or with a ConfigMap manifest that holds one; relative to the test file. A list: "
        "the main document, followed by those of selected ConfigMaps.",
        ("jupyterhub-singleuser-profiles.yaml",),
    ),
    "assertions": Key(_Assertions(), "What must hold.", ([{"nobody_has": {"resource": "gpu"}}],)),
}
"""The keys of a test file."""

_WORDS = frozenset(
    {
        *TEST_KEYS,
        *ASSERTION_KEYS,
        *THING_KEYS,
        *_HAS_KEYS,
        *_HAS_NOT_KEYS,
        *_SUBJECT_KEYS,
        *_ONLY_KEYS,
    }
)


def parse_test_file(text: str) -> AssertionFile:
    """Reads a test file.

    Args:
        text: YAML, within the limits of a document.

    Returns:
        What it says, or every error with its place.
    """
    try:
        tree = read_tree(text)
    except DocumentError as error:
        return AssertionFile(errors=error.diagnostics)
    if tree is None:
        return AssertionFile()
    validator = Validator(tree, _WORDS)
    found: dict[str, Any] = {}
    with suppress(TooManyErrors):
        if isinstance(tree, yaml_tree.Mapping):
            entries = validator.known_entries(tree, (), tuple(TEST_KEYS), "a test file")
            found = {key: TEST_KEYS[key].section.read(validator, value, (key,)) for key, (_, value) in entries.items()}
        else:
            validator.error(tree, (), "must be a mapping with the key 'assertions'")
    release_tree(tree)
    errors = tuple(sorted(validator.errors, key=lambda each: (each.line, each.column)))
    return AssertionFile(
        found.get("document", ()), found.get("assertions", ()), errors, validator.count - len(validator.errors)
    )


def make_test_schema() -> dict[str, Any]:
    """Makes the JSON Schema of test files, of draft 2020-12."""
    objects = {"EnvVarSource", *(field.kind for field in SHAPES["EnvVarSource"].values())}
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": "Assertions about profiles for JupyterHub's single-user servers",
        "description": "What a document must give, and to whom, for `profiled-spawner test`.",
        "type": "object",
        "properties": {name: key.describe() for name, key in TEST_KEYS.items()},
        "additionalProperties": False,
        "$defs": {
            "assertion": {
                "description": "One assertion: about a `subject`, or about everybody.",
                **_AssertionKeys().describe(),
            },
            "thing": {"description": "What somebody may have: one of these.", **_Keys.describe(_THING)},
            **{kind: describe_object(kind) for kind in sorted(objects)},
        },
    }
