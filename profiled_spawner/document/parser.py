"""Text in; a `Document`, or every error with its place, out.

Which keys there are, `model` defines, and what each may hold, `sections` and `kubernetes`. Whether a profile is wise,
`lint` says; which text of a file or a ConfigMap is the document, `sources.extract`.
"""

from __future__ import annotations

import math
from collections.abc import Container, Iterable
from collections.abc import Mapping as MappingABC
from contextlib import suppress
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any, NamedTuple, TypeVar

from ..errors import Diagnostic, DocumentError, TimeError
from .legacy import DOCUMENT_ADVICE, PROFILE_ADVICE, UI_ADVICE
from .limits import MAX_CHOICES, find_excess
from .lint import Linter
from .model import (
    GPU,
    IMAGE_KEYS,
    PROFILE_KEYS,
    QUOTA_KEYS,
    SIZE_KEYS,
    TEAM_KEYS,
    Document,
    Entry,
    ImageChoice,
    Profile,
    Quota,
    Size,
    Team,
)
from .sections import RESOURCE_KEYS, Key, Resources, TimeZone
from .times import ALWAYS, Period
from .validator import MAX_DIAGNOSTICS, Entries, TooManyErrors, Validator
from .yaml_tree import Mapping, Node, Scalar, Sequence, read_tree, release_tree

__all__ = ["MAX_DIAGNOSTICS", "ValidationResult", "parse_document", "validate_document"]

E = TypeVar("E", bound=Entry)

_DOCUMENT_KEYS = ("profiles", "sizes", "images", "quotas", "teams", "timezone")
_OF_MAIN = ("quotas", "teams")


_UNDER_RESOURCES = "write it under 'resources'"
_NO_SERVICE_ACCOUNT = "profiles give no service account; KubeSpawner's service_account is for every server"
_OF_PROFILE_LIST = (
    "a key of KubeSpawner's profile_list, which stays in the hub's configuration; here, people choose 'images' and "
    "'sizes'"
)
_PROFILE_HINTS = MappingProxyType(
    {
        **dict.fromkeys((*RESOURCE_KEYS, "limits", "requests"), _UNDER_RESOURCES),
        "memory": f"{_UNDER_RESOURCES}, as mem_limit",
        "cpu": f"{_UNDER_RESOURCES}, as cpu_limit",
        GPU: "write 'gpu'",
        **dict.fromkeys(
            ("service_account", "service_account_name", "serviceAccount", "serviceAccountName"), _NO_SERVICE_ACCOUNT
        ),
        **dict.fromkeys(("display_name", "slug", "default", "profile_options"), _OF_PROFILE_LIST),
        "kubespawner_override": "write what it changes as keys of the profile, such as env and resources",
    }
)
"""What to do about keys of other places and of KubeSpawner, in a profile or a size."""
_DOCUMENT_HINTS = MappingProxyType(
    {
        "profile_list": (
            "KubeSpawner's profile_list stays in the hub's configuration; a document has profiles, sizes, images"
        ),
        **dict.fromkeys(
            ("anchors", "common", "defaults", "definitions", "shared", "templates"),
            "a document has profiles, sizes, images, quotas, teams; put an anchor (&) where its value is first used",
        ),
    }
)


_IMAGE_HINTS = MappingProxyType(
    {
        "display_name": "write 'name'",
        "kubespawner_override": (
            "write 'image' and 'default_url' here, and what else it changes in a profile for the image"
        ),
        "default": "the first image that a person may choose is the default",
        **dict.fromkeys(
            ("env", "env_from", "resources", "gpu", "volumes"), "write it in a profile for the image, or in a size"
        ),
    }
)
"""The same, in an image that people may choose."""
_UNDER_HARD = "write it under 'hard'"
_QUOTA_HINTS = MappingProxyType(
    {
        **dict.fromkeys(("pods", "limits", "requests", "resources", "gpu", "scopes"), _UNDER_HARD),
        "images": "a quota is for people, whatever they run",
    }
)
_TEAM_HINTS = MappingProxyType(
    {
        **dict.fromkeys(("limits", "requests", "resources", "gpu"), _UNDER_HARD),
        **dict.fromkeys(("from", "until"), "write it in the team's own profiles, sizes and images"),
        **dict.fromkeys(("secrets", "configMaps"), "write names of Secrets and ConfigMaps under 'refers'"),
    }
)
_CHOICE = ({"name": "by which people choose it"}, "nobody could choose between the two")


class _Kind(NamedTuple):
    """A kind of entry: its keys, what errors call it, what a node must be, and what to do about other keys.

    Attributes:
        required: The keys that it must have, and what for. A kind that must have a name has each only once.
        same_name: What is wrong with two of the same name.
    """

    keys: MappingABC[str, Key]
    noun: str
    wanted: str
    hints: MappingABC[str, str]
    ignored: Container[str]
    required: MappingABC[str, str] = MappingProxyType({})
    same_name: str = ""


_KINDS: MappingABC[type[Entry], _Kind] = {
    Profile: _Kind(
        PROFILE_KEYS,
        "a profile",
        "a mapping, such as {name: …, users: […], env: {…}}",
        _PROFILE_HINTS,
        PROFILE_ADVICE,
    ),
    Size: _Kind(
        SIZE_KEYS,
        "a size",
        "a mapping, such as {name: …, resources: {…}}",
        _PROFILE_HINTS,
        PROFILE_ADVICE,
        *_CHOICE,
    ),
    ImageChoice: _Kind(IMAGE_KEYS, "an image", "a mapping, such as {name: …, image: …}", _IMAGE_HINTS, (), *_CHOICE),
    Quota: _Kind(
        QUOTA_KEYS,
        "a quota",
        "a mapping, such as {name: …, groups: […], hard: {…}}",
        _QUOTA_HINTS,
        (),
        {"name": "by which refusals and the log call it", "hard": "which says how much may run"},
        "nobody can tell the two apart in a refusal",
    ),
    Team: _Kind(
        TEAM_KEYS,
        "a team",
        "a mapping, such as {name: …, configmaps: […], groups: […]}",
        _TEAM_HINTS,
        (),
        {"name": "by which the log calls it", "configmaps": "which lists what the team may edit"},
        "nobody can tell the two apart in the log",
    ),
}
# Keys of this format and of manifests, which are nobody's secret wherever they are.
_WORDS = frozenset(
    {
        *("apiVersion", "kind", "metadata", "data", "spec", "limits", "requests", "value", "valueFrom"),
        *(*_DOCUMENT_KEYS, *(key for kind in _KINDS.values() for key in kind.keys)),
    }
)


@dataclass(frozen=True, slots=True)
class ValidationResult:
    """Everything that there is to say about a text.

    Attributes:
        document: The document; None if it has errors.
        errors: In the order of the text, at most `MAX_DIAGNOSTICS`.
        omitted: How many more errors there are; reading ends at `MAX_ERRORS`.
        warnings: In the order of the text.
    """

    document: Document | None
    errors: tuple[Diagnostic, ...]
    omitted: int
    warnings: tuple[Diagnostic, ...]


def parse_document(
    text: str, *, source: str = "", line_offset: int = 0, column_offset: int = 0, is_selected: bool = False
) -> Document:
    """Reads a profile document.

    Args:
        text: YAML of at most 1 MiB.
        source: What the text was read from, for the error's message.
        line_offset: Lines before the text in the file to which line numbers refer.
        column_offset: Columns before each of its lines there.
        is_selected: Whether it is that of a selected ConfigMap, which has no quotas and teams.

    Raises:
        DocumentError: The text is not a valid document. It holds every error, up to `MAX_DIAGNOSTICS`.

    Example:
        >>> parse_document("profiles: [{users: [ada], resources: {mem_limit: 2Gi}}]").profiles[0].users
        frozenset({'ada'})
    """
    result = _validate(text, line_offset, column_offset, None, is_selected)
    if result.document is None:
        raise DocumentError(result.errors, omitted=result.omitted, source=source)
    return result.document


def validate_document(
    text: str,
    *,
    line_offset: int = 0,
    column_offset: int = 0,
    at: float | None = None,
    is_selected: bool = False,
) -> ValidationResult:
    """Reads a profile document as `parse_document` does, and returns errors and warnings instead of raising.

    Args:
        text: YAML of at most 1 MiB.
        line_offset: Lines before the text in the file to which line numbers refer.
        column_offset: Columns before each of its lines there.
        at: The moment, in seconds since 1970, from which to warn of what has ended or soon ends; None for no such
            warnings.
        is_selected: Whether it is that of a selected ConfigMap, which has no quotas and teams.
    """
    return _validate(text, line_offset, column_offset, Linter(at), is_selected)


def _validate(
    text: str, line_offset: int, column_offset: int, linter: Linter | None, is_selected: bool
) -> ValidationResult:
    omitted = 0
    document = Document()
    try:
        tree = read_tree(text, line_offset=line_offset, column_offset=column_offset)
    except DocumentError as error:
        errors: Iterable[Diagnostic] = error.diagnostics
    else:
        # Empty text: report the error at its start.
        root = tree or Scalar("", line_offset + 1, column_offset + 1, plain=True, literal=False)
        parser = _Parser(root, linter, is_selected)
        with suppress(TooManyErrors):
            document = parser.parse()
        errors, omitted = parser.validator.errors, parser.validator.count - len(parser.validator.errors)
        release_tree(tree)
    in_order = sorted(errors, key=_place)
    return ValidationResult(
        document=None if in_order else document,
        errors=tuple(in_order),
        omitted=omitted,
        warnings=tuple(sorted(linter.warnings, key=_place)) if linter else (),
    )


def _place(diagnostic: Diagnostic) -> tuple[int, int]:
    return diagnostic.line, diagnostic.column


class _Parser:
    """Makes a document of a tree; errors go to its validator, warnings to its linter."""

    def __init__(self, root: Node, linter: Linter | None, is_selected: bool) -> None:
        self.validator = Validator(root, _WORDS)
        self.linter = linter
        self.is_selected = is_selected

    def parse(self) -> Document:
        validator, root = self.validator, self.validator.root
        if not isinstance(root, Mapping):
            validator.error(root, (), _explain_root(root))
            return Document()
        entries = validator.known_entries(
            root, (), _DOCUMENT_KEYS, "a document", ignored=DOCUMENT_ADVICE, hints=_DOCUMENT_HINTS
        )
        if "profiles" not in entries and not validator.count:
            validator.error(root, (), "has no 'profiles'; write 'profiles: []' if there are to be none")
        if "timezone" in entries:
            validator.zone = TimeZone().read(validator, entries["timezone"][1], ("timezone",))
        profiles = self.parse_entries(Profile, entries, "profiles")
        sizes = self.parse_entries(Size, entries, "sizes")
        images = self.parse_entries(ImageChoice, entries, "images")
        if self.is_selected:
            for key in [key for key in _OF_MAIN if key in entries]:
                what = "only the main ConfigMap can have this; a selected one is limited by it"
                validator.error(entries.pop(key)[0], (key,), what)
        quotas = self.parse_entries(Quota, entries, "quotas")
        teams = self.parse_teams(entries)
        ignored = tuple(dict.fromkeys(key.value for key, _, _ in validator.ignored))
        if self.linter is not None:
            self.report_ignored(self.linter)
        return Document(profiles, sizes, images, quotas, teams, validator.zone, ignored)

    def parse_teams(self, entries: Entries) -> tuple[Team, ...] | None:
        if "teams" not in entries:
            return None
        teams = self.parse_entries(Team, entries, "teams")
        items = self.validator.items(entries["teams"][1], ("teams",))
        owners: dict[str, int] = {}
        for team, node in zip(teams, items, strict=False):
            path = ("teams", team.index)
            if team.users is None and team.groups is None and isinstance(node, Mapping):
                what = 'names neither users nor groups; for a team of everybody, write users: ["*"]'
                self.validator.error(node, path, what)
            for name in team.configmaps:
                if owners.setdefault(name, team.index) != team.index:
                    what = f"teams[{owners[name]}] has the ConfigMap {name!r} too, and it can be one team's only"
                    self.validator.error(node, (*path, "configmaps"), what)
        return teams

    def parse_entries(self, kind: type[E], entries: Entries, key: str) -> tuple[E, ...]:
        """Reads a list of profiles, sizes, images, quotas or teams."""
        if key not in entries:
            return ()
        node = entries[key][1]
        items = self.validator.items(node, (key,), f"a list of {key}")
        has_names = bool(_KINDS[kind].required)
        if has_names and len(items) > MAX_CHOICES:
            self.validator.error(node, (key,), f"are {len(items):,}, and a document can have {MAX_CHOICES}")
            items = items[:MAX_CHOICES]
        found = tuple([self.parse_entry(kind, item, (key, index)) for index, item in enumerate(items)])
        if has_names:
            self.check_names(found, items, key, _KINDS[kind].same_name)
        return found

    def parse_entry(self, kind: type[E], node: Node, path: tuple[str, int]) -> E:
        """Reads a profile, a size, an image, a quota or a team."""
        validator, (keys, noun, wanted, hints, ignored, required, _) = self.validator, _KINDS[kind]
        if not isinstance(node, Mapping):
            validator.wrong_type(node, path, wanted)
            return kind(path[1])
        entries = validator.known_entries(node, path, tuple(keys), noun, ignored=ignored, hints=hints)
        for key, what_for in required.items():
            if key not in entries:
                validator.error(node, path, f"has no '{key}', {what_for}")
        entry = kind(path[1], **self.sections(entries, path, keys))
        if self.linter is not None:
            self.linter.check_entry(entry, path, entries, validator)
        return entry

    def sections(self, entries: Entries, path: tuple[str | int, ...], keys: MappingABC[str, Key]) -> dict[str, Any]:
        """What an entry says, by the names of its attributes."""
        found = {
            key: keys[key].section.read(self.validator, value, (*path, key)) for key, (_, value) in entries.items()
        }
        start, end = found.pop("from", None), found.pop("until", None)
        if start is not None or end is not None:
            found["period"] = self.make_period(start, end, entries, path)
        resources: Resources.Found | None = found.pop("resources", None)
        if resources is not None:
            found |= resources._asdict()
        if "gpu" in found:
            limits = found.get("limits", {})
            if GPU in limits:
                what = f"the same as '{GPU}' of the limits, which is given too; keep one of them"
                self.validator.error(entries["gpu"][1], (*path, "gpu"), what)
            found["limits"] = MappingProxyType({**limits, GPU: found.pop("gpu")})
        excess = find_excess(found)
        if excess:
            attribute, what = excess
            key = attribute if attribute in entries else "resources" if "resources" in entries else "gpu"
            self.validator.error(entries[key][1], (*path, key), f"has {what}")
        return found

    def make_period(self, start: int | None, end: int | None, entries: Entries, path: tuple[str | int, ...]) -> Period:
        try:
            return Period(-math.inf if start is None else start, math.inf if end is None else end)
        except TimeError as error:
            self.validator.error(entries["until"][1], (*path, "until"), str(error))
            return ALWAYS

    def check_names(self, entries: tuple[Entry, ...], nodes: list[Node], key: str, problem: str) -> None:
        first: dict[str, int] = {}
        for entry in entries:
            if entry.name is not None and first.setdefault(entry.name, entry.index) != entry.index:
                what = f"{key}[{first[entry.name]}] has the same name; {problem}"
                self.validator.error(nodes[entry.index], (key, entry.index, "name"), what)

    def report_ignored(self, linter: Linter) -> None:
        for key, value, path in self.validator.ignored:
            known = DOCUMENT_ADVICE if len(path) == 1 else PROFILE_ADVICE
            linter.report_ignored(key, path, known[key.value])
            if path == ("ui",) and isinstance(value, Mapping):
                for member, _ in value.pairs():
                    if isinstance(member, Scalar) and member.value in UI_ADVICE:
                        linter.report_ignored(member, (*path, member.value), UI_ADVICE[member.value])


def _explain_root(root: Scalar | Sequence) -> str:
    if isinstance(root, Sequence):
        return "must be a mapping with the key 'profiles'; write 'profiles:' above the list"
    if root.value:
        return "must be a mapping with the key 'profiles'"
    return "empty; write 'profiles: []' if there are to be none"
