"""Every example file is read as the file beside it says.

- ``examples/NAME.yaml`` is a valid document, or a ConfigMap manifest that holds one. ``NAME.json`` lists what its
  profiles say (and its sizes, where it has any), and ``NAME.warnings.txt``, where there is one, what is odd about them.
- ``invalid-examples/NAME.yaml`` is not valid, and ``NAME.errors.txt`` lists every error.

Errors and warnings stand one to a line: ``LINE:COLUMN: PATH: what``, without the path where it is the whole document.
"""

import json
import math
from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from profiled_spawner.document.model import Document, Entry, EnvVarSource, ImageChoice, Profile, Quota, Size, Team
from profiled_spawner.document.parser import ValidationResult, parse_document, validate_document
from profiled_spawner.document.templates import Template
from profiled_spawner.errors import Diagnostic, DocumentError
from profiled_spawner.sources.extract import decode_text, find_document

HERE = Path(__file__).parents[1]
KEY = "jupyterhub-singleuser-profiles.yaml"


def find_examples(folder: str) -> list[Any]:
    return [pytest.param(path, id=path.stem) for path in sorted((HERE / folder).glob("*.yaml"))]


VALID = find_examples("examples")
INVALID = find_examples("invalid-examples")


def check(path: Path) -> ValidationResult:
    """Everything that there is to say of a file, however early reading it ends."""
    try:
        found = find_document(decode_text(path.read_bytes()), KEY)
    except DocumentError as error:
        return ValidationResult(None, error.diagnostics, error.omitted, ())
    return validate_document(found.text, line_offset=found.line_offset, column_offset=found.column_offset)


def parse(path: Path) -> tuple[Document | None, tuple[Diagnostic, ...]]:
    """What a spawn gets of a file."""
    try:
        found = find_document(decode_text(path.read_bytes()), KEY)
        return parse_document(found.text, line_offset=found.line_offset, column_offset=found.column_offset), ()
    except DocumentError as error:
        return None, error.diagnostics


def write(diagnostics: tuple[Diagnostic, ...]) -> list[str]:
    return [f"{each.line}:{each.column}: {f'{each.path}: ' if each.path else ''}{each.what}" for each in diagnostics]


def read_lines(path: Path) -> list[str]:
    return path.read_text(encoding="utf-8").splitlines() if path.exists() else []


def describe(profile: Profile) -> dict[str, Any]:
    """What a profile says, without what it leaves out."""
    filters = {
        "users": profile.users and sorted(profile.users),
        "groups": profile.groups and sorted(profile.groups),
        "images": profile.images,
    }
    said: dict[str, Any] = {} if profile.name is None else {"name": profile.name}
    said |= {key: list(entries) for key, entries in filters.items() if entries is not None}
    if profile.env:
        said["env"] = {
            name: to_plain(value.to_kubernetes()) if isinstance(value, EnvVarSource) else value
            for name, value in profile.env.items()
        }
    for key in ("env_from", "node_tolerations", "node_affinity", "volumes", "node_selector", "labels", "annotations"):
        if getattr(profile, key):
            said[key] = to_plain(getattr(profile, key))
    said |= describe_period(profile)
    if isinstance(profile, Size) and profile.description is not None:
        said["description"] = profile.description
    for kind, amounts in (("limits", profile.limits), ("requests", profile.requests)):
        if amounts:
            said[kind] = {resource: quantity and quantity.text for resource, quantity in amounts.items()}
    return said


def describe_period(entry: Entry) -> dict[str, Any]:
    """When an entry applies, in UTC."""
    found = {}
    for key, instant in (("from", entry.period.start), ("until", entry.period.end)):
        if math.isfinite(instant):
            found[key] = datetime.fromtimestamp(instant, UTC).isoformat()
    return found


def describe_image(image: ImageChoice) -> dict[str, Any]:
    """What an image that people may choose says, without what it leaves out."""
    said = {key: getattr(image, key) for key in ("name", "description", "image", "default_url")}
    said["image_pull_secrets"] = image.image_pull_secrets and list(image.image_pull_secrets)
    said |= {"users": image.users and sorted(image.users), "groups": image.groups and sorted(image.groups)}
    return {key: value for key, value in said.items() if value is not None} | describe_period(image)


def describe_bounds(entry: Quota | Team) -> dict[str, Any]:
    """What a quota or a team says."""
    said: dict[str, Any] = {"name": entry.name, "hard": {name: amount.text for name, amount in entry.hard.items()}}
    said |= {key: sorted(names) for key in ("users", "groups") if (names := getattr(entry, key)) is not None}
    if isinstance(entry, Quota):
        return said | {"per": entry.per} | describe_period(entry)
    return said | {"configmaps": list(entry.configmaps), "may": sorted(entry.may), "refers": list(entry.refers)}


def to_plain(value: Any) -> Any:
    """An object of Kubernetes as JSON has it, templates marked."""
    if isinstance(value, Mapping):
        return {name: to_plain(each) for name, each in value.items()}
    if isinstance(value, tuple):
        return [to_plain(each) for each in value]
    return {"template": value} if isinstance(value, Template) else value


@pytest.mark.parametrize("path", VALID)
def test_a_valid_example_says_what_is_beside_it(path: Path) -> None:
    checked = check(path)

    assert write(checked.errors) == []
    assert checked.document is not None
    profiles, sizes = checked.document.profiles, checked.document.sizes
    actual: Any = [describe(profile) for profile in profiles]
    if sizes:
        actual = {"profiles": actual, "sizes": [describe(size) for size in sizes]}
    if checked.document.images:
        actual = {"profiles": actual} if isinstance(actual, list) else actual
        actual["images"] = [describe_image(image) for image in checked.document.images]
    if checked.document.quotas or checked.document.teams is not None:
        actual = {"profiles": actual} if isinstance(actual, list) else actual
        actual["quotas"] = [describe_bounds(quota) for quota in checked.document.quotas]
        actual["teams"] = [describe_bounds(team) for team in checked.document.teams or ()]
    assert actual == json.loads(path.with_suffix(".json").read_text(encoding="utf-8"))
    assert [profile.index for profile in profiles] == list(range(len(profiles)))
    assert [size.index for size in sizes] == list(range(len(sizes)))


@pytest.mark.parametrize("path", VALID)
def test_a_valid_example_has_the_warnings_beside_it(path: Path) -> None:
    assert write(check(path).warnings) == read_lines(path.with_suffix(".warnings.txt"))


@pytest.mark.parametrize("path", INVALID)
def test_an_invalid_example_has_the_errors_beside_it(path: Path) -> None:
    checked = check(path)

    assert write(checked.errors) == read_lines(path.with_suffix(".errors.txt"))
    assert checked.document is None
    assert checked.omitted == 0


@pytest.mark.parametrize("path", [*VALID, *INVALID])
def test_parsing_says_the_same_as_checking(path: Path) -> None:
    checked = check(path)

    assert parse(path) == (checked.document, checked.errors)


@pytest.mark.parametrize(
    ("folder", "needed"),
    [
        pytest.param("examples", ".json", id="valid"),
        pytest.param("invalid-examples", ".errors.txt", id="invalid"),
    ],
)
def test_every_example_has_its_expectation_and_none_is_left_over(folder: str, needed: str) -> None:
    paths = list((HERE / folder).iterdir())
    examples = {path.stem for path in paths if path.suffix == ".yaml"}

    assert {path.name.removesuffix(needed) for path in paths if path.name.endswith(needed)} == examples
    assert {path.name.partition(".")[0] for path in paths} == examples
