"""The schema refuses what the parser refuses, where JSON Schema can say it, and nothing that the parser accepts."""

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import example, given
from hypothesis import strategies as st
from jsonschema import Draft202012Validator
from jsonschema.exceptions import ValidationError

from profiled_spawner.document.json_schema import make_schema
from profiled_spawner.document.parser import validate_document
from profiled_spawner.document.rules import explain_env_name
from profiled_spawner.document.validator import HIDDEN
from profiled_spawner.errors import Diagnostic, DocumentError
from profiled_spawner.sources.extract import decode_text, find_document

HERE = Path(__file__).parents[1]
KEY = "jupyterhub-singleuser-profiles.yaml"
TAG = "tag:yaml.org,2002:"

VALIDATOR = Draft202012Validator(make_schema())

# What the parser says of a document that JSON Schema cannot.
BEYOND_SCHEMA = re.compile(
    "given twice"  # a parser of YAML has kept one of the two
    '|has no value; (write ""|.* or write null)'  # which there is null
    "|is .* bytes with its name"
    "|finer than|more than Kubernetes can (hold|count)|whole number of pages"
    "|not a divisor that this resource can have"
    "|the same (as|name)|is given too|one team's only"  # what two places say together
    "|for the operator|with the operator|with the effect"
    "|must have at least one term|has a term without|must be the name of one node|must name at least one"
    "|must request storage"
    "|not the name of a Kubernetes object|on one line and without"  # of a template filled in
    "|is not an IANA time zone|does not exist in|exists twice|must be after 'from'|is not in the calendar|has hour"
    "|could be the same for two people|could make a variable that belongs to the hub"
)


class EditorLoader(yaml.SafeLoader):
    """YAML as an editor reads it: plain scalars have the types of YAML 1.2's core schema."""

    yaml_implicit_resolvers: dict[str, Any] = {}  # noqa: RUF012  PyYAML's


for kind, pattern in (
    ("bool", "true|True|TRUE|false|False|FALSE"),
    ("null", "~|null|Null|NULL|"),
    ("int", "[-+]?[0-9]+"),
    ("float", r"[-+]?(\.[0-9]+|[0-9]+(\.[0-9]*)?)([eE][-+]?[0-9]+)?"),
    ("merge", "<<"),
):
    EditorLoader.add_implicit_resolver(TAG + kind, re.compile(f"^(?:{pattern})$"), None)
EditorLoader.add_constructor(TAG + "int", lambda _, node: int(node.value))


class OldEditorLoader(yaml.SafeLoader):
    """YAML as an editor reads it that knows 1.1: ``yes`` is true and ``010`` is eight."""

    yaml_implicit_resolvers = {  # noqa: RUF012
        first: [(tag, pattern) for tag, pattern in resolvers if tag not in (TAG + "timestamp", TAG + "value")]
        for first, resolvers in yaml.SafeLoader.yaml_implicit_resolvers.items()
    }


def find_examples(folder: str) -> list[Any]:
    return [pytest.param(path, id=path.stem) for path in sorted((HERE / folder).glob("*.yaml"))]


def find_readable_examples() -> list[Any]:
    """Invalid examples that are YAML, and so within an editor's reach: all of their errors have a path."""
    found = []
    for parameter in find_examples("invalid-examples"):
        (path,) = parameter.values
        try:
            text = find_document(decode_text(path.read_bytes()), KEY).text
        except DocumentError:
            continue
        errors = validate_document(text).errors
        if all(error.path for error in errors):
            found.append(pytest.param(text, errors, id=path.stem))
    return found


def refused(document: Any) -> set[tuple[str | int, ...]]:
    """Where the schema refuses a document, as the parser would name the place."""
    return {place for error in VALIDATOR.iter_errors(document) for place in _places(error)}


def _places(error: ValidationError) -> Iterator[tuple[str | int, ...]]:
    path = tuple(error.absolute_path)
    if error.validator == "propertyNames":
        yield (*path, error.instance)
    elif error.validator == "additionalProperties":
        known = error.schema.get("properties", {})
        patterns = error.schema.get("patternProperties", {})
        for name in error.instance:
            if name not in known and not any(re.search(pattern, name) for pattern in patterns):
                yield (*path, name)
    else:
        yield path


def split_path(path: str) -> tuple[str | int, ...]:
    steps = re.finditer(r'\[(\d+)\]|\["((?:[^"\\]|\\.)*)"\]|([^.\[]+)', path)
    return tuple(int(step[1]) if step[1] else step[2] if step[2] is not None else step[3] for step in steps)


def is_place(place: tuple[str | int, ...], where: tuple[str | int, ...]) -> bool:
    """Whether they are the same, as far as the second names its steps."""
    return len(place) == len(where) and all(each in (step, HIDDEN) for step, each in zip(place, where, strict=True))


def with_profile(**sections: Any) -> dict[str, Any]:
    return {"profiles": [sections]}


def test_it_is_a_json_schema() -> None:
    Draft202012Validator.check_schema(make_schema())


def test_its_own_examples_are_accepted() -> None:
    schema = make_schema()

    assert [refused(document) for document in schema["examples"]] == [set()]
    for name, definition in schema["$defs"].items():
        validator = Draft202012Validator({**definition, "$defs": schema["$defs"]})
        for value in definition.get("examples", []):
            assert validator.is_valid(value), name
        for section, part in definition.get("properties", {}).items():
            validator = Draft202012Validator({**part, "$defs": schema["$defs"]})
            for value in part.get("examples", []):
                assert validator.is_valid(value), section


@pytest.mark.parametrize("loader", [EditorLoader, OldEditorLoader])
@pytest.mark.parametrize("path", [each for each in find_examples("examples") if each.id != "null-as-text"])
def test_every_valid_example_is_accepted(path: Path, loader: type[yaml.SafeLoader]) -> None:
    text = find_document(decode_text(path.read_bytes()), KEY).text

    assert refused(yaml.load(text.removeprefix("\ufeff"), loader)) == set()


@pytest.mark.parametrize(("text", "errors"), find_readable_examples())
def test_what_json_schema_can_say_of_an_invalid_example_is_refused(text: str, errors: tuple[Diagnostic, ...]) -> None:
    try:
        places = refused(yaml.load(text.removeprefix("\ufeff"), EditorLoader))
    except yaml.YAMLError:
        pytest.skip("an editor's parser refuses it before that")

    missed = [
        error
        for error in errors
        if not BEYOND_SCHEMA.search(error.what)
        and not any(
            is_place(place[: len(where := split_path(error.path))], where) or is_place(place, where[:-1])
            for place in places
        )
    ]

    assert missed == []


@pytest.mark.parametrize("document", [None, [], "profiles", {}, {"profiles": None}, {"profiles": {}}])
def test_what_is_no_document_is_refused(document: Any) -> None:
    assert refused(document) != set()


@given(
    st.from_regex(
        r"(?:JUPYTERHUB_|JPY_API_TOKEN|MEM_|CPU_LIMIT|SINGLEUSER_|[.]{1,2})?[-._a-zA-Z0-9=é ]{0,12}", fullmatch=True
    )
)
@example("JUPYTERHUB_SINGLEUSER_APP")
@example("MEM_GUARANTEE")
@example(".")
def test_it_accepts_the_names_of_variables_that_the_parser_accepts(name: str) -> None:
    accepted = explain_env_name(name) is None

    assert (refused(with_profile(env={name: "x"})) == set()) == accepted
    assert (refused(with_profile(env=[{"name": name, "value": "x"}])) == set()) == accepted


@given(
    st.sampled_from(["mem_limit", "mem_guarantee", "cpu_limit", "cpu_guarantee"]),
    st.from_regex(r"[-+]?[0-9.]{1,6}(?:[KMGTPEkmun]i?|[eE][-+]?[0-9]{1,4})?", fullmatch=True),
)
@example("mem_limit", "512m")
@example("mem_limit", "4000m")
@example("mem_guarantee", "0.0m")
@example("cpu_limit", "0e3")
@example("cpu_guarantee", "-0")
def test_it_refuses_no_quantity_that_the_parser_accepts(key: str, text: str) -> None:
    errors = validate_document(f'profiles: [{{resources: {{{key}: "{text}"}}}}]').errors
    places = refused(with_profile(resources={key: text}))

    if not errors:
        assert places == set()
    elif not re.search(r"finer than|more than|bytes|has only whole units", errors[0].what):
        assert places == {("profiles", 0, "resources", key)}


@pytest.mark.parametrize(
    ("sections", "where"),
    [
        pytest.param({"resources": {"mem_limit": 0.5}}, ("mem_limit",), id="half a byte"),
        pytest.param({"resources": {"mem_limit": "512m"}}, ("mem_limit",), id="512m of memory"),
        pytest.param({"resources": {"cpu_limit": 0}}, ("cpu_limit",), id="no CPU"),
        pytest.param({"resources": {"cpu_guarantee": "-1"}}, ("cpu_guarantee",), id="negative text"),
        pytest.param({"resources": {"cpu_guarantee": -1}}, ("cpu_guarantee",), id="negative"),
        pytest.param({"resources": {"cpu_limit": True}}, ("cpu_limit",), id="boolean"),
        pytest.param({"resources": {"mem_limit": 1, "limits": {"memory": 2}}}, ("limits",), id="given in both forms"),
        pytest.param({"resources": {"limits": {"gpu": 1}}}, ("limits", "gpu"), id="resource without a domain"),
        pytest.param(
            {"resources": {"limits": {f"{'a' * 245}/b": 1}}}, ("limits", f"{'a' * 245}/b"), id="domain too long"
        ),
        pytest.param({"resources": {"limits": {"a.b/gpu": 1.5}}}, ("limits", "a.b/gpu"), id="half a GPU"),
    ],
)
def test_resources_that_cannot_be_are_refused(sections: dict[str, Any], where: tuple[str, ...]) -> None:
    assert refused(with_profile(**sections)) == {("profiles", 0, "resources", *where)}


@pytest.mark.parametrize(
    "sections",
    [
        pytest.param({"env": {"A": None}}, id="variable"),
        pytest.param({"env": [{"name": "A", "value": None}]}, id="variable in a list"),
        pytest.param({"resources": {"mem_limit": None}}, id="limit"),
        pytest.param({"resources": {"requests": {"nvidia.com/gpu": None}}}, id="request"),
    ],
)
def test_null_takes_away_variables_and_resources(sections: dict[str, Any]) -> None:
    assert refused(with_profile(**sections)) == set()


@pytest.mark.parametrize("section", ["name", "images", "users", "groups", "env", "resources"])
def test_a_section_that_was_left_empty_is_refused(section: str) -> None:
    assert refused(with_profile(**{section: None})) == {("profiles", 0, section)}


def test_keys_of_an_older_library_are_let_through_and_marked() -> None:
    document = {"profiles": [{"services": {"a": 1}}], "gpuTypes": [], "ui": {"gpuConfig": None, "another": 1}}
    schema = make_schema()

    assert refused(document) == set()
    assert refused({"profiles": [{"gpuTypes": []}]}) == {("profiles", 0, "gpuTypes")}
    for part in (
        schema["properties"]["gpuTypes"],
        schema["properties"]["ui"]["properties"]["imageConfig"],
        schema["$defs"]["profile"]["properties"]["services"],
    ):
        assert part["deprecated"] is True
        assert part["description"].startswith("Ignored, a key of jupyterhub-singleuser-profiles; ")


def test_the_schema_advises_as_validate_does() -> None:
    (warning,) = validate_document("{profiles: [{services: {}}]}").warnings
    description = make_schema()["$defs"]["profile"]["properties"]["services"]["description"]
    assert description.lower() == f"{warning.what}.".lower()


def test_every_section_is_explained() -> None:
    schema = make_schema()
    sections = schema["$defs"]["profile"]["properties"]

    explained = {name: schema["$defs"].get(name, part).get("description") for name, part in sections.items()}

    assert [name for name, description in explained.items() if not description] == []
    assert "`*` stands for any run of characters" in explained["images"]


def test_every_key_of_ours_has_a_description_and_an_example() -> None:
    definitions = make_schema()["$defs"]
    resources = definitions["resources"]["properties"]
    parts = {f"resources.{name}": part for name, part in resources.items() if name not in ("limits", "requests")}
    for kind in ("limits", "requests"):
        parts |= {f"resources.{kind}.{name}": part for name, part in resources[kind]["properties"].items()}
    for kind in ("profile", "size", "image"):
        for name, part in definitions[kind]["properties"].items():
            if not part.get("deprecated"):
                parts[f"{kind}.{name}"] = definitions[name] if "$ref" in part else part

    assert [name for name, part in parts.items() if not {"description", "examples"} <= set(part)] == []
