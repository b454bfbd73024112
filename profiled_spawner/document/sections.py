"""What stands behind a key of a profile or a size: how it is read, and how JSON Schema describes it.

A section comes in as a node of the tree, and leaves as a frozen value. Which keys there are, `model` says.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import UTC, tzinfo
from types import MappingProxyType
from typing import Any, NamedTuple, Protocol, TypeAlias

from ..errors import QuantityError, TimeError
from . import yaml_tree
from .kubernetes import SHAPES, Object, Schema, describe_text, read_object, read_objects, read_text, read_texts
from .limits import MAX_EXPRESSIONS, MAX_IMAGE, MAX_OBJECT_NAME, MAX_PATTERNS, MAX_STARS, MAX_TERMS, MAX_TEXT
from .quantity import AMOUNT_PATTERN, Quantity, check_resource, describe_amounts, parse_quantity
from .rules import (
    ENV_NAME,
    EXTENDED_RESOURCE,
    GPU,
    HUGE_PAGES,
    Rule,
    explain_env_name,
    explain_resource_name,
    find_meant_resource,
    is_env_name,
)
from .suggestions import find_closest, to_predicate
from .times import TIME_PATTERN, load_zone, parse_end, parse_start
from .validator import Entries, Path, Validator
from .yaml_tree import Node, Scalar

__all__ = [
    "DEFAULT_SIZE",
    "EVERYONE",
    "RESOURCE_KEYS",
    "Amount",
    "Env",
    "EnvValue",
    "EnvVarSource",
    "Images",
    "Instant",
    "Key",
    "Line",
    "Names",
    "NodeAffinity",
    "Objects",
    "OneOf",
    "Patterns",
    "Resources",
    "Section",
    "SizeName",
    "SomeOf",
    "Text",
    "Texts",
    "TextsByName",
    "TimeZone",
    "Volumes",
]

EVERYONE = "*"
"""In ``users``, every user; in ``images``, any run of characters."""

DEFAULT_SIZE = "default"
"""What a person chooses to have no size; no size has this name, in any capitalization."""

_NOTHING: Mapping[str, Any] = MappingProxyType({})


class Section(Protocol):
    """A kind of value that a key may have."""

    def read(self, validator: Validator, node: Node, path: Path) -> Any:
        """Reads the value; after an error in `validator`, what it returns means nothing."""

    def describe(self) -> Schema:
        """The value's JSON Schema."""


@dataclass(frozen=True, slots=True)
class Key:
    """A key of a mapping.

    Attributes:
        section: What its value is.
        help: What it means, for the JSON Schema and the reference.
        examples: Values that it may have.
    """

    section: Section
    help: str
    examples: tuple[Any, ...] = ()

    def describe(self) -> Schema:
        """The JSON Schema of the key's value."""
        examples = {"examples": list(self.examples)} if self.examples else {}
        return {"description": self.help, **self.section.describe(), **examples}


_TEXT: Schema = {"type": ["string", "number", "boolean"], "minLength": 1}


class Line:
    """A text for people."""

    def read(self, validator: Validator, node: Node, path: Path) -> str | None:
        text = validator.text(node, path)
        if text is not None and len(text) > MAX_TEXT:
            validator.error(node, path, f"has {len(text):,} characters; use at most {MAX_TEXT:,}")
        return text

    def describe(self) -> Schema:
        return dict(_TEXT)


class SizeName(Line):
    """The name of a size, which must not be that of having none."""

    def read(self, validator: Validator, node: Node, path: Path) -> str | None:
        name = super().read(validator, node, path)
        if name and name.strip().lower() == DEFAULT_SIZE:
            what = f"'{DEFAULT_SIZE}' is what people choose to have no size, in capitals too; give it another name"
            validator.error(node, path, what)
        return name

    def describe(self) -> Schema:
        letters = "".join(f"[{letter.upper()}{letter}]" for letter in DEFAULT_SIZE)
        return super().describe() | {"not": {"pattern": rf"^[ \t\r\n]*{letters}[ \t\r\n]*$"}}


class Names:
    """Names of users or groups."""

    def read(self, validator: Validator, node: Node, path: Path) -> frozenset[str]:
        return frozenset(validator.texts(node, path))

    def describe(self) -> Schema:
        return {"type": "array", "items": _TEXT}


@dataclass(frozen=True, slots=True)
class OneOf:
    """One of a few words."""

    words: tuple[str, ...]

    def read(self, validator: Validator, node: Node, path: Path) -> str:
        word = validator.text(node, path)
        if word is not None and word not in self.words:
            what = f"must be {' or '.join(self.words)}"
            meant = find_closest(word, self.words)
            validator.error(node, path, f"{what}; did you mean {meant!r}?" if meant else what)
        return word or self.words[0]

    def describe(self) -> Schema:
        return {"enum": list(self.words)}


@dataclass(frozen=True, slots=True)
class SomeOf:
    """A list of some of a few words."""

    words: tuple[str, ...]

    def read(self, validator: Validator, node: Node, path: Path) -> frozenset[str]:
        items = validator.items(node, path)
        each = OneOf(self.words)
        return frozenset(each.read(validator, item, (*path, position)) for position, item in enumerate(items))

    def describe(self) -> Schema:
        return {"type": "array", "items": {"enum": list(self.words)}}


class Patterns:
    """Names of objects, with ``*`` for any run of characters."""

    def read(self, validator: Validator, node: Node, path: Path) -> tuple[str, ...]:
        patterns = validator.texts(node, path)
        for position, pattern in enumerate(patterns):
            what = ""
            if len(pattern) > MAX_OBJECT_NAME:
                what = f"has {len(pattern):,} characters, and no name has more than {MAX_OBJECT_NAME}"
            elif pattern.count(EVERYONE) > MAX_STARS:
                what = f"has more than {MAX_STARS} stars"
            if what:
                validator.error(validator.items(node, path)[position], (*path, position), what)
        return patterns

    def describe(self) -> Schema:
        stars = rf"^[^*]*(?:\*[^*]*){{0,{MAX_STARS}}}$"
        return {"type": "array", "items": {**_TEXT, "pattern": stars, "maxLength": MAX_OBJECT_NAME}}


class Images:
    """Names of images, with ``*`` for any run of characters."""

    def read(self, validator: Validator, node: Node, path: Path) -> tuple[str, ...]:
        images = validator.texts(node, path)
        for position, image in enumerate(images):
            what = ""
            if len(image) > MAX_IMAGE:
                what = f"has {len(image):,} characters, and no image has more than {MAX_IMAGE:,}"
            elif EVERYONE in image and image not in validator.patterns:
                validator.patterns.add(image)
                if image.count(EVERYONE) > MAX_STARS:
                    what = f"has more than {MAX_STARS} stars"
                elif len(validator.patterns) == MAX_PATTERNS + 1:
                    what = f"the document has more than {MAX_PATTERNS:,} different images with a star"
            if what:
                validator.error(validator.items(node, path)[position], (*path, position), what)
        return images

    def describe(self) -> Schema:
        return {"type": "array", "items": _TEXT}


@dataclass(frozen=True, slots=True)
class Text:
    """A text that keeps to a rule."""

    rule: Rule

    def read(self, validator: Validator, node: Node, path: Path) -> str | None:
        return read_text(validator, node, path, self.rule)

    def describe(self) -> Schema:
        return describe_text(self.rule)


@dataclass(frozen=True, slots=True)
class Texts:
    """A list of texts that keep to a rule."""

    rule: Rule

    def read(self, validator: Validator, node: Node, path: Path) -> tuple[str, ...]:
        found = [
            read_text(validator, item, (*path, position), self.rule)
            for position, item in enumerate(validator.items(node, path))
        ]
        return tuple([text for text in found if text is not None])

    def describe(self) -> Schema:
        return {"type": "array", "items": describe_text(self.rule)}


class TimeZone:
    """The name of a time zone."""

    def read(self, validator: Validator, node: Node, path: Path) -> tzinfo:
        name = validator.text(node, path)
        try:
            return load_zone(name or "UTC")
        except TimeError as error:
            problem = str(error)
        validator.error_about_text(node, path, problem, "not the name of a time zone")
        return UTC

    def describe(self) -> Schema:
        return {"type": "string", "minLength": 1}


@dataclass(frozen=True, slots=True)
class Instant:
    """A date or a time, as seconds since 1970.

    Attributes:
        is_end: Whether a date stands for its end; otherwise for its beginning.
    """

    is_end: bool

    def read(self, validator: Validator, node: Node, path: Path) -> int | None:
        text = validator.text(node, path)
        if text is None:
            return None
        try:
            return parse_end(text, validator.zone) if self.is_end else parse_start(text, validator.zone)
        except TimeError as error:
            problem = str(error)
        validator.error_about_text(node, path, problem, "not a date or a time")
        return None

    def describe(self) -> Schema:
        return {"type": "string", "pattern": f"^(?:{TIME_PATTERN})$"}


@dataclass(frozen=True, slots=True)
class TextsByName:
    """Texts by names of labels or annotations.

    Attributes:
        explain_name: Says what is wrong with a name; None if nothing is.
        name_pattern: The pattern of a name.
        rule: The rule for a text.
    """

    explain_name: Callable[[str], str | None]
    name_pattern: str
    rule: Rule | None

    def read(self, validator: Validator, node: Node, path: Path) -> Mapping[str, str]:
        return read_texts(validator, node, path, self.explain_name, self.rule)

    def describe(self) -> Schema:
        return {
            "type": "object",
            "propertyNames": {"pattern": f"^{self.name_pattern}$"},
            "additionalProperties": describe_text(self.rule),
        }


@dataclass(frozen=True, slots=True)
class Objects:
    """A list of objects of one of Kubernetes' types."""

    kind: str

    def read(self, validator: Validator, node: Node, path: Path) -> tuple[Object, ...]:
        return read_objects(validator, node, path, self.kind)

    def describe(self) -> Schema:
        return {"type": "array", "items": {"$ref": f"#/$defs/{self.kind}"}}


class Volumes(Objects):
    """Volumes, each with its mount. One profile gives each name and each place once."""

    __slots__ = ()

    def read(self, validator: Validator, node: Node, path: Path) -> tuple[Object, ...]:
        volumes = Objects.read(self, validator, node, path)
        taken: dict[tuple[str, str], int] = {}
        for position, volume in enumerate(volumes):
            for key in ("name", "mountPath"):
                value = volume.get(key)
                if value and taken.setdefault((key, value.rstrip("/")), position) != position:
                    first = taken[key, value.rstrip("/")]
                    what = f"the same as that of {path[-1]}[{first}]; one profile gives each once"
                    validator.error(validator.items(node, path)[position], (*path, position, key), what)
        return volumes


class NodeAffinity:
    """Kubernetes' nodeAffinity."""

    def read(self, validator: Validator, node: Node, path: Path) -> Object:
        affinity = read_object(validator, node, path, "NodeAffinity", empty="node_affinity: {}") or _NOTHING
        required = affinity.get("requiredDuringSchedulingIgnoredDuringExecution") or _NOTHING
        terms = required.get("nodeSelectorTerms") or ()
        expressions = sum(len(each or ()) for term in terms for each in (term or _NOTHING).values())
        preferred = affinity.get("preferredDuringSchedulingIgnoredDuringExecution") or ()
        for count, most, of in (
            (len(terms), MAX_TERMS, "alternatives"),
            (expressions, MAX_EXPRESSIONS, "expressions"),
            (len(preferred), MAX_TERMS, "preferences"),
        ):
            if count > most:
                validator.error(node, path, f"has {count:,} {of}, and a server can have {most:,}")
        return affinity

    def describe(self) -> Schema:
        return {"$ref": "#/$defs/NodeAffinity"}


@dataclass(frozen=True, slots=True)
class EnvVarSource:
    """Where Kubernetes takes a variable's value from: its EnvVarSource.

    Attributes:
        kind: ``secretKeyRef``, ``configMapKeyRef``, ``fieldRef`` or ``resourceFieldRef``.
        fields: That selector's fields by Kubernetes' names, such as ``name`` and ``key``.
    """

    kind: str
    fields: Object

    def to_kubernetes(self) -> dict[str, dict[str, Any]]:
        """As it stands behind ``valueFrom`` in a manifest."""
        return {self.kind: dict(self.fields)}


EnvValue: TypeAlias = str | EnvVarSource | None
"""A variable's value, where to take it from, or None to remove the variable."""

# Linux' MAX_ARG_STRLEN: no process can be started with a longer NAME=value, its closing NUL included.
_MAX_VARIABLE_BYTES = 131_072 - 1
_ENV_ITEM_KEYS = ("name", "value", "valueFrom")
_NO_TEXT = "must be text, not a list or a mapping; put quotes around it"
_NO_VALUE = (
    'has no value; write "" for the empty text, or null to remove the variable; a text that begins with # needs quotes'
)


class Env:
    """Environment variables, as a mapping or as a list in the form of a container's ``env``."""

    def read(self, validator: Validator, node: Node, path: Path) -> Mapping[str, EnvValue]:
        return validator.once(node, "env", lambda: MappingProxyType(self._read(validator, node, path)))

    def _read(self, validator: Validator, node: Node, path: Path) -> dict[str, EnvValue]:
        if isinstance(node, yaml_tree.Mapping):
            return self._read_mapping(validator, node, path)
        if isinstance(node, yaml_tree.Sequence):
            return self._read_list(validator, node, path)
        what = "a mapping of names to values, or a list of name and value"
        validator.wrong_type(node, path, what, empty="env: {}")
        return {}

    def _read_mapping(self, validator: Validator, node: yaml_tree.Mapping, path: Path) -> dict[str, EnvValue]:
        env: dict[str, EnvValue] = {}
        for name, (key, value) in validator.entries(node, path, _never).items():
            problem = explain_env_name(name)
            is_public = (not problem or is_env_name(name)) and _is_a_variables(value)
            here = (*path, validator.step(key, is_public=is_public))
            if problem:
                validator.error(key, here, problem)
            if not isinstance(value, yaml_tree.Mapping):
                env[name] = self._read_value(validator, value, name, here)
            elif problem := _explain_mapping(value):
                validator.error(value, here, problem)
            else:
                item = validator.known_entries(value, here, ("valueFrom",), "a variable that is a mapping")
                if "valueFrom" in item:
                    env[name] = self._read_source(validator, item["valueFrom"][1], (*here, "valueFrom"))
        return env

    def _read_list(self, validator: Validator, node: yaml_tree.Sequence, path: Path) -> dict[str, EnvValue]:
        env: dict[str, EnvValue] = {}
        lines: dict[str, int] = {}
        for position, item in enumerate(node.items):
            here = (*path, position)
            if not isinstance(item, yaml_tree.Mapping):
                validator.error(item, here, "must be a mapping with 'name' and 'value': {name: …, value: …}")
                continue
            entries = validator.known_entries(item, here, _ENV_ITEM_KEYS, "a variable")
            name = self._read_name(validator, item, entries, here, lines)
            if name is None:
                continue
            if ("value" in entries) == ("valueFrom" in entries):
                both = "'value' and 'valueFrom', of which it can have one"
                neither = "neither 'value' nor 'valueFrom'; write value: \"\" for the empty text"
                validator.error(item, here, f"has {both if 'value' in entries else neither}")
            elif "value" in entries:
                env[name] = self._read_value(validator, entries["value"][1], name, (*here, "value"))
            else:
                env[name] = self._read_source(validator, entries["valueFrom"][1], (*here, "valueFrom"))
        return env

    def _read_name(
        self, validator: Validator, item: Node, entries: Entries, path: Path, lines: dict[str, int]
    ) -> str | None:
        """The name of a list's item; `lines` has the line of each name so far."""
        if "name" not in entries:
            validator.error(item, path, "has no 'name'")
            return None
        node = entries["name"][1]
        name = validator.text(node, (*path, "name"))
        if name is None:
            return None
        problem = explain_env_name(name)
        if problem:
            shown = name if is_env_name(name) else "this"
            validator.error(node, (*path, "name"), f"{shown} {to_predicate(problem)}")
        elif name in lines:
            validator.error(node, (*path, "name"), f"given twice, first at line {lines[name]}")
        lines.setdefault(name, node.line)
        return name

    def _read_value(self, validator: Validator, node: Node, name: str, path: Path) -> str | None:
        if not isinstance(node, Scalar):
            validator.error(node, path, _NO_TEXT)
            return None
        if node.is_empty:
            validator.error(node, path, _NO_VALUE)
            return None
        if node.is_null:
            return None
        value = node.value
        if "\0" in value:
            validator.error(node, path, "holds a NUL character, which no environment variable can")
        if len(value) * 4 >= _MAX_VARIABLE_BYTES - len(name):
            size = len(name) + 1 + len(value.encode())
            if size > _MAX_VARIABLE_BYTES:
                most = f"Linux starts no process with more than {_MAX_VARIABLE_BYTES:,}"
                validator.error(node, path, f"is {size:,} bytes with its name; {most}")
        return value

    def _read_source(self, validator: Validator, node: Node, path: Path) -> EnvVarSource | None:
        source = read_object(validator, node, path, "EnvVarSource")
        if not source:
            return None
        ((kind, selector), *_) = source.items()
        return EnvVarSource(kind, selector or _NOTHING)

    def describe(self) -> Schema:
        value: Schema = {
            "description": "Value of the variable, taken as it is written; a plain `null` removes the variable.",
            "type": ["string", "number", "boolean", "null", "object"],
            "pattern": r"^[^\u0000]*$",
            "properties": {"valueFrom": {"$ref": "#/$defs/EnvVarSource"}},
            "required": ["valueFrom"],
            "additionalProperties": False,
        }
        name = {"description": "Name of the variable.", "type": ["string", "boolean"], "pattern": f"^{ENV_NAME}$"}
        # Without anyOf: what is said of objects says nothing of arrays, and an editor can point at what is wrong.
        return {
            "type": ["object", "array"],
            "propertyNames": {"pattern": f"^{ENV_NAME}$"},
            "additionalProperties": value,
            "items": {
                "type": "object",
                "properties": {
                    "name": name,
                    "value": {**value, "type": ["string", "number", "boolean", "null"]},
                    "valueFrom": {"$ref": "#/$defs/EnvVarSource"},
                },
                "required": ["name"],
                "oneOf": [{"required": ["value"]}, {"required": ["valueFrom"]}],
                "additionalProperties": False,
            },
        }


def _never(_: str) -> bool:
    return False


def _explain_mapping(value: yaml_tree.Mapping) -> str | None:
    """Says why a mapping cannot be a variable's value; None if it has ``valueFrom``, or was meant to.

    Usually it is a text that lacks its quotes.
    """
    names = [key.value for key, _ in value.pairs() if isinstance(key, Scalar)]
    if not value.items:
        return 'must be text; write "" for the empty text'
    if names == ["value"]:
        return "must be text; write it behind the variable's name, without 'value:'"
    if any(name in SHAPES["EnvVarSource"] for name in names):
        return "must be text, or valueFrom with such a reference in it; write 'valueFrom:' above the reference"
    if any(name == "<<" or find_closest(name, ("valueFrom",)) for name in names):
        return None
    return _NO_TEXT


def _is_a_variables(value: Node) -> bool:
    """Whether it is what a variable can have. Before anything else, a name may be the rest of somebody's value."""
    if isinstance(value, yaml_tree.Mapping):
        return any(isinstance(key, Scalar) and key.value == "valueFrom" for key, _ in value.pairs())
    return isinstance(value, Scalar) and not value.is_empty


# Zero, and thousandths that are no whole number: 512m of memory is half a byte.
_ZERO = r"[+-]?[0.]+(?:[A-Za-z]|$)"
_THOUSANDTHS = r"[+-]?(?!(?:[0-9]*000|0*)\.?0*m$)[0-9.]+m$"


@dataclass(frozen=True, slots=True)
class Amount:
    """An amount of a resource, or None for a plain ``null``.

    Attributes:
        kind: ``limits`` or ``requests``.
        resource: Kubernetes' name of the resource.
    """

    kind: str
    resource: str

    def read(self, validator: Validator, node: Node, path: Path) -> Quantity | None:
        if not isinstance(node, Scalar):
            validator.wrong_type(node, path, describe_amounts(self.resource))
            return None
        if node.is_empty:
            validator.error(node, path, "has no value; leave the key out, or write null to remove the setting")
            return None
        if node.is_null:
            return None
        try:
            quantity = parse_quantity(node.value, self.resource)
            check_resource(self.resource, quantity, limit=self.kind == "limits")
        except QuantityError as error:
            problem = str(error)
        else:
            return quantity
        validator.error_about_text(node, path, problem, "not a Kubernetes quantity that this can have")
        return None

    def describe(self) -> Schema:
        zero = self.kind == "requests" or self.resource not in ("cpu", "memory")
        whole = self.resource != "cpu"
        refused = [*([] if zero else [_ZERO]), *([_THOUSANDTHS] if whole else [])]
        return {
            "type": ["string", "number", "null"],
            "pattern": f"^(?!{'|'.join(refused)}){AMOUNT_PATTERN}$" if refused else f"^{AMOUNT_PATTERN}$",
            **({"minimum": 0} if zero else {"exclusiveMinimum": 0}),
            **({"multipleOf": 1} if whole else {}),
        }


_MEMORY, _CPU = ("512Mi", "2Gi"), ("500m", 1)
RESOURCE_KEYS: Mapping[str, tuple[Amount, Key]] = MappingProxyType(
    {
        key: (amount, Key(amount, help_text, examples))
        for key, amount, help_text, examples in (
            ("mem_limit", Amount("limits", "memory"), "How much memory a server can use.", _MEMORY),
            ("mem_guarantee", Amount("requests", "memory"), "How much memory is reserved for a server.", _MEMORY),
            ("cpu_limit", Amount("limits", "cpu"), "How many cores a server can use.", _CPU),
            ("cpu_guarantee", Amount("requests", "cpu"), "How many cores are reserved for a server.", _CPU),
        )
    }
)
"""JupyterHub's names of resources."""

_RESOURCES_HINTS = MappingProxyType(
    {
        **dict.fromkeys(("gpu", "gpus"), f"write 'gpu' beside 'resources', or {GPU} under 'limits'"),
        GPU: "write it under 'limits', or 'gpu' beside 'resources'",
    }
)

_Amounts: TypeAlias = dict[str, Quantity | None]


class Resources:
    """Amounts by JupyterHub's names, and by Kubernetes' in ``limits`` and ``requests``."""

    class Found(NamedTuple):
        """Amounts by Kubernetes' names."""

        limits: Mapping[str, Quantity | None]
        requests: Mapping[str, Quantity | None]

    def read(self, validator: Validator, node: Node, path: Path) -> Found:
        amounts: dict[str, _Amounts] = {"limits": {}, "requests": {}}
        if isinstance(node, yaml_tree.Mapping):
            known = (*RESOURCE_KEYS, *amounts)
            entries = validator.known_entries(node, path, known, "resources", hints=_RESOURCES_HINTS)
            for key in entries:
                if key in RESOURCE_KEYS:
                    amount, _ = RESOURCE_KEYS[key]
                    amounts[amount.kind][amount.resource] = amount.read(validator, entries[key][1], (*path, key))
            for kind, found in amounts.items():
                if kind in entries:
                    self._read_kubernetes(validator, entries, kind, (*path, kind), found)
        else:
            what = "a mapping, such as {mem_limit: 2Gi, cpu_limit: 1}"
            validator.wrong_type(node, path, what, empty="resources: {}")
        return self.Found(MappingProxyType(amounts["limits"]), MappingProxyType(amounts["requests"]))

    def _read_kubernetes(
        self, validator: Validator, siblings: Entries, kind: str, path: Path, amounts: _Amounts
    ) -> None:
        node = siblings[kind][1]
        if not isinstance(node, yaml_tree.Mapping):
            validator.wrong_type(node, path, "a mapping, such as {memory: 2Gi}", empty=f"{kind}: {{}}")
            return
        short = {amount.resource: key for key, (amount, _) in RESOURCE_KEYS.items() if amount.kind == kind}
        for resource, (key, value) in validator.entries(node, path, _is_resource_name).items():
            here = (*path, validator.step(key, is_public=_is_resource_name(resource)))
            problem = explain_resource_name(resource)
            if short.get(resource) in siblings:
                validator.error(key, here, f"the same as '{short[resource]}', which is given too; keep one of them")
            elif problem:
                validator.error(key, here, problem)
            else:
                amounts[resource] = Amount(kind, resource).read(validator, value, here)

    def describe(self) -> Schema:
        return {
            "type": "object",
            "properties": {
                **{name: key.describe() for name, (_, key) in RESOURCE_KEYS.items()},
                "limits": self._describe_kubernetes("limits", "Kubernetes limits, extended resources among them."),
                "requests": self._describe_kubernetes(
                    "requests", "Kubernetes requests, which JupyterHub calls guarantees."
                ),
            },
            "dependentSchemas": {
                name: {"properties": {amount.kind: {"not": {"required": [amount.resource]}}}}
                for name, (amount, _) in RESOURCE_KEYS.items()
            },
            "additionalProperties": False,
        }

    def _describe_kubernetes(self, kind: str, description: str) -> Schema:
        return {
            "description": description,
            "type": "object",
            "properties": {
                "memory": Key(Amount(kind, "memory"), "In bytes.", _MEMORY).describe(),
                "cpu": Key(Amount(kind, "cpu"), "In cores.", _CPU).describe(),
            },
            "patternProperties": {
                rf"^(?:ephemeral-storage|{HUGE_PAGES}|{EXTENDED_RESOURCE})$": Amount(kind, GPU).describe()
            },
            "additionalProperties": False,
        }


def _is_resource_name(resource: str) -> bool:
    """Whether it is a resource's name, or was meant as one."""
    return explain_resource_name(resource) is None or find_meant_resource(resource) is not None
