"""Text to document, or one error with every diagnostic.

Decides what a document may hold and says where it does not. Whether a profile is wise, `lint` says; which
text of a file or a ConfigMap is the document, `sources.extract`.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable
from collections.abc import Mapping as MappingABC
from contextlib import suppress
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any

from ..errors import Diagnostic, DocumentError, QuantityError
from .kubernetes import (
    HUGE_PAGES,
    LABEL_NAME,
    LABEL_TEXT,
    QUALIFIED_NAME,
    SHAPES,
    read_object,
    read_objects,
    read_texts,
)
from .legacy import DOCUMENT_ADVICE, PROFILE_ADVICE, UI_ADVICE
from .limits import (
    MAX_EXPRESSIONS,
    MAX_IMAGE,
    MAX_PATTERNS,
    MAX_SIZES,
    MAX_STARS,
    MAX_TERMS,
    MAX_TEXT,
    find_excess,
)
from .lint import Advice
from .model import (
    DEFAULT_SIZE,
    EVERYONE,
    GPU,
    RESOURCE_KEYS,
    Document,
    EnvValue,
    EnvVarSource,
    Object,
    Profile,
    Size,
    find_env_name_fault,
    is_env_name,
    is_kubespawner_owned,
)
from .quantity import Quantity, check_resource, describe_amounts, parse_quantity
from .validator import MAX_DIAGNOSTICS, Entries, Path, Reader, TooManyErrors, find_closest, to_predicate
from .yaml_tree import Mapping, Node, Scalar, Sequence, read_tree, release_tree

__all__ = ["MAX_DIAGNOSTICS", "Checked", "check_document", "parse_document"]

# Linux' MAX_ARG_STRLEN: no process can be started with a longer NAME=value, its closing NUL included.
_MAX_VARIABLE_BYTES = 131_072 - 1

_Resources = dict[str, Quantity | None]

_DOCUMENT_KEYS = ("profiles", "sizes")
# What a profile gives, apart from whom it is for.
_SHAPING_KEYS = (
    *("env", "env_from", "resources", "gpu", "node_selector", "node_tolerations", "node_affinity", "volumes"),
    *("labels", "annotations"),
)
_PROFILE_KEYS = ("name", "images", "users", "groups", *_SHAPING_KEYS)
_REQUIRED = "requiredDuringSchedulingIgnoredDuringExecution"
_PREFERRED = "preferredDuringSchedulingIgnoredDuringExecution"
_SIZE_KEYS = ("name", "description", "users", "groups", *_SHAPING_KEYS)
_RESOURCES_KEYS = (*RESOURCE_KEYS, "limits", "requests")
_ENV_ITEM_KEYS = ("name", "value", "valueFrom")

_UNDER_RESOURCES = "write it under 'resources'"
_NO_SERVICE_ACCOUNT = "profiles give no service account; KubeSpawner's service_account is for every server"
_OF_PROFILE_LIST = (
    "a key of KubeSpawner's profile_list, which stays in the hub's configuration; here, people choose 'sizes'"
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
_RESOURCES_HINTS = MappingProxyType(
    {
        **dict.fromkeys(("gpu", "gpus"), f"write 'gpu' beside 'resources', or {GPU} under 'limits'"),
        GPU: "write it under 'limits', or 'gpu' beside 'resources'",
    }
)
_DOCUMENT_HINTS = MappingProxyType(
    {
        "profile_list": "KubeSpawner's profile_list stays in the hub's configuration; a document has profiles, sizes",
        **dict.fromkeys(
            ("anchors", "common", "defaults", "definitions", "shared", "templates"),
            "a document has profiles, sizes; put an anchor (&) where its value is first used",
        ),
    }
)

_NO_TEXT = "must be text, not a list or a mapping; put quotes around it"
_NO_VALUE = (
    'has no value; write "" for the empty text, or null to take the variable away; a text that begins with # needs '
    "quotes"
)
_QUALIFIED_NAME = re.compile(QUALIFIED_NAME)
_HUGE_PAGES = re.compile(HUGE_PAGES)


@dataclass(frozen=True, slots=True)
class Checked:
    """Everything that there is to say of a text.

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


def parse_document(text: str, *, source: str = "", line_offset: int = 0, column_offset: int = 0) -> Document:
    """Reads a profile document.

    Args:
        text: YAML of at most 1 MiB.
        source: What the text was read from, for the error's message.
        line_offset: Lines before the text in the file that its places are to be told in.
        column_offset: Columns before each of its lines there.

    Raises:
        DocumentError: The text is no valid document. Every error is in it, up to `MAX_DIAGNOSTICS`.
    """
    checked = _check(text, line_offset, column_offset, None)
    if checked.document is None:
        raise DocumentError(checked.errors, omitted=checked.omitted, source=source)
    return checked.document


def check_document(text: str, *, line_offset: int = 0, column_offset: int = 0) -> Checked:
    """Reads a profile document as `parse_document` does, and tells its errors and warnings instead of raising."""
    return _check(text, line_offset, column_offset, Advice())


def _check(text: str, line_offset: int, column_offset: int, advice: Advice | None) -> Checked:
    omitted = 0
    document = Document()
    try:
        tree = read_tree(text, line_offset=line_offset, column_offset=column_offset)
    except DocumentError as error:
        errors: Iterable[Diagnostic] = error.diagnostics
    else:
        # Where there is nothing, that is where the document would be.
        reader = _Reader(tree or Scalar("", line_offset + 1, column_offset + 1, plain=True, literal=False), advice)
        with suppress(TooManyErrors):
            document = reader.read()
        errors, omitted = reader.errors, reader.count - len(reader.errors)
        release_tree(tree)
    in_order = sorted(errors, key=_place)
    return Checked(
        document=None if in_order else document,
        errors=tuple(in_order),
        omitted=omitted,
        warnings=tuple(sorted(advice.warnings, key=_place)) if advice else (),
    )


def _place(diagnostic: Diagnostic) -> tuple[int, int]:
    return diagnostic.line, diagnostic.column


class _Reader(Reader):
    """Reads a document's sections."""

    def __init__(self, root: Node, advice: Advice | None) -> None:
        super().__init__(root)
        self.advice = advice
        self.patterns: set[str] = set()

    def read(self) -> Document:
        root = self.root
        if isinstance(root, Scalar) and not root.value:
            self.error(root, (), "empty; write 'profiles: []' if there are to be none")
            return Document()
        if isinstance(root, Sequence):
            self.error(root, (), "must be a mapping with the key 'profiles'; write 'profiles:' above the list")
            return Document()
        if isinstance(root, Scalar):
            self.error(root, (), "must be a mapping with the key 'profiles'")
            return Document()
        entries = self.known_entries(
            root, (), _DOCUMENT_KEYS, "a document", ignored=DOCUMENT_ADVICE, hints=_DOCUMENT_HINTS
        )
        if "profiles" not in entries and not self.count:
            self.error(root, (), "has no 'profiles'; write 'profiles: []' if there are to be none")
        profiles = [self.profile(item, index) for index, item in self.items(entries, "profiles", "a list of profiles")]
        items = [*self.items(entries, "sizes", "a list of sizes")]
        sizes = [self.size(item, index) for index, item in items[:MAX_SIZES]]
        if len(items) > MAX_SIZES:
            what = f"are {len(items):,}, and a document can have {MAX_SIZES}"
            self.error(entries["sizes"][1], ("sizes",), what)
        self.check_names(sizes, entries)
        if self.advice is not None:
            self.advise_on_ignored(self.advice)
        return Document(tuple(profiles), tuple(sizes), tuple(dict.fromkeys(key.value for key, _, _ in self.ignored)))

    def advise_on_ignored(self, advice: Advice) -> None:
        for key, value, path in self.ignored:
            known = DOCUMENT_ADVICE if len(path) == 1 else PROFILE_ADVICE
            advice.ignore(key, path, known[key.value])
            if path == ("ui",) and isinstance(value, Mapping):
                for member, _ in value.pairs():
                    if isinstance(member, Scalar) and member.value in UI_ADVICE:
                        advice.ignore(member, (*path, member.value), UI_ADVICE[member.value])

    def items(self, entries: Entries, key: str, wanted: str) -> Iterable[tuple[int, Node]]:
        if key not in entries:
            return ()
        node = entries[key][1]
        if not isinstance(node, Sequence):
            self.wrong_type(node, (key,), wanted, empty=f"{key}: []")
            return ()
        return enumerate(node.items)

    def profile(self, node: Node, index: int) -> Profile:
        path = ("profiles", index)
        if not isinstance(node, Mapping):
            self.wrong_type(node, path, "a mapping, such as {name: …, users: […], env: {…}}")
            return Profile(index)
        entries = self.known_entries(
            node, path, _PROFILE_KEYS, "a profile", ignored=PROFILE_ADVICE, hints=_PROFILE_HINTS
        )
        profile = Profile(index, **self.sections(entries, path))
        if self.advice is not None:
            self.advice.consider(profile, path, node, entries, self.is_quotable)
        return profile

    def size(self, node: Node, index: int) -> Size:
        path = ("sizes", index)
        if not isinstance(node, Mapping):
            self.wrong_type(node, path, "a mapping, such as {name: …, resources: {…}}")
            return Size(index)
        entries = self.known_entries(node, path, _SIZE_KEYS, "a size", ignored=PROFILE_ADVICE, hints=_PROFILE_HINTS)
        if "name" not in entries:
            self.error(node, path, "has no 'name', by which people choose it")
        size = Size(index, **self.sections(entries, path))
        if size.name and size.name.strip().lower() == DEFAULT_SIZE:
            what = f"'{DEFAULT_SIZE}' is what people choose to have no size, in capitals too; give it another name"
            self.error(entries["name"][1], (*path, "name"), what)
        if self.advice is not None:
            self.advice.consider(size, path, node, entries, self.is_quotable)
        return size

    def check_names(self, sizes: list[Size], entries: Entries) -> None:
        first: dict[str, int] = {}
        for size in sizes:
            if size.name is not None and first.setdefault(size.name, size.index) != size.index:
                node = entries["sizes"][1]
                assert isinstance(node, Sequence)
                what = f"sizes[{first[size.name]}] has the same name; nobody could choose between the two"
                self.error(node.items[size.index], ("sizes", size.index, "name"), what)

    def sections(self, entries: Entries, path: Path) -> dict[str, Any]:
        """What a profile or a size says, by the names of their attributes."""
        found: dict[str, Any] = {}
        for key, (_, value) in entries.items():
            here = (*path, key)
            if key == "resources":
                limits, requests = self.resources(value, here)
                found["limits"], found["requests"] = MappingProxyType(limits), MappingProxyType(requests)
            elif key in _SECTIONS:
                found[key] = _SECTIONS[key](self, value, here)
        if "gpu" in entries:
            found["limits"] = self.gpu(entries["gpu"][1], (*path, "gpu"), found.get("limits", {}))
        self.check_amounts(found, entries, path)
        return found

    def check_amounts(self, found: dict[str, Any], entries: Entries, path: Path) -> None:
        """Checks that one profile alone does not give more than a server can have."""
        excess = find_excess(found)
        if excess:
            attribute, what = excess
            key = attribute if attribute in entries else "resources" if "resources" in entries else "gpu"
            self.error(entries[key][1], (*path, key), f"has {what}")
        affinity = found.get("node_affinity")
        if not affinity:
            return
        terms = (affinity.get(_REQUIRED) or _NOTHING).get("nodeSelectorTerms") or ()
        expressions = sum(len(each or ()) for term in terms for each in (term or _NOTHING).values())
        for count, most, of in (
            (len(terms), MAX_TERMS, "alternatives"),
            (expressions, MAX_EXPRESSIONS, "expressions"),
            (len(affinity.get(_PREFERRED) or ()), MAX_TERMS, "preferences"),
        ):
            if count > most:
                what = f"has {count:,} {of}, and a server can have {most:,}"
                self.error(entries["node_affinity"][1], (*path, "node_affinity"), what)

    def short_text(self, node: Node, path: Path) -> str | None:
        text = self.text(node, path)
        if text is not None and len(text) > MAX_TEXT:
            self.error(node, path, f"has {len(text):,} characters; use at most {MAX_TEXT:,}")
        return text

    def images(self, node: Node, path: Path) -> tuple[str, ...]:
        images = self.texts(node, path)
        for position, image in enumerate(images):
            what = ""
            if len(image) > MAX_IMAGE:
                what = f"has {len(image):,} characters, and no image has more than {MAX_IMAGE:,}"
            elif EVERYONE in image and image not in self.patterns:
                self.patterns.add(image)
                if image.count(EVERYONE) > MAX_STARS:
                    what = f"has more than {MAX_STARS} stars"
                elif len(self.patterns) == MAX_PATTERNS + 1:
                    what = f"the document has more than {MAX_PATTERNS:,} different images with a star"
            if what and isinstance(node, Sequence):
                self.error(node.items[position], (*path, position), what)
        return images

    def gpu(self, node: Node, path: Path, limits: MappingABC[str, Quantity | None]) -> MappingABC[str, Quantity | None]:
        if GPU in limits:
            self.error(node, path, f"the same as '{GPU}' of the limits, which is given too; keep one of them")
        return MappingProxyType({**limits, GPU: self.amount(node, GPU, "limits", path)})

    def volumes(self, node: Node, path: Path) -> tuple[Object, ...]:
        volumes = read_objects(self, node, path, "MountedVolume")
        taken: dict[tuple[str, str], int] = {}
        for position, volume in enumerate(volumes):
            for key in ("name", "mountPath"):
                value = volume.get(key)
                if value and taken.setdefault((key, value.rstrip("/")), position) != position:
                    first = taken[key, value.rstrip("/")]
                    assert isinstance(node, Sequence)
                    what = f"the same as that of {path[-1]}[{first}]; one profile gives each once"
                    self.error(node.items[position], (*path, position, key), what)
        return volumes

    def env(self, node: Node, path: Path) -> MappingProxyType[str, EnvValue]:
        known: MappingProxyType[str, EnvValue] | None = self.known.get((id(node), "env"))
        if known is not None:
            return known
        if isinstance(node, Mapping):
            env = self.env_mapping(node, path)
        elif isinstance(node, Sequence):
            env = self.env_list(node, path)
        else:
            self.wrong_type(node, path, "a mapping of names to values, or a list of name and value", empty="env: {}")
            env = {}
        view = self.known[id(node), "env"] = MappingProxyType(env)
        return view

    def env_mapping(self, node: Mapping, path: Path) -> dict[str, EnvValue]:
        env: dict[str, EnvValue] = {}
        for name, (key, value) in self.entries(node, path, _never).items():
            fault = find_env_name_fault(name)
            here = (*path, self.step(key, is_public=(not fault or is_env_name(name)) and _is_a_variables(value)))
            if fault:
                self.error(key, here, fault)
            if isinstance(value, Mapping):
                mapping_fault = _find_mapping_fault(value)
                if mapping_fault:
                    self.error(value, here, mapping_fault)
                    continue
                item = self.known_entries(value, here, ("valueFrom",), "a variable that is a mapping")
                if "valueFrom" in item:
                    env[name] = self.env_source(item["valueFrom"][1], (*here, "valueFrom"))
            else:
                env[name] = self.env_value(value, name, here)
        return env

    def env_list(self, node: Sequence, path: Path) -> dict[str, EnvValue]:
        env: dict[str, EnvValue] = {}
        lines: dict[str, int] = {}
        for position, item in enumerate(node.items):
            here = (*path, position)
            if not isinstance(item, Mapping):
                self.error(item, here, "must be a mapping with 'name' and 'value': {name: …, value: …}")
                continue
            entries = self.known_entries(item, here, _ENV_ITEM_KEYS, "a variable")
            if "name" not in entries:
                self.error(item, here, "has no 'name'")
                continue
            name_node = entries["name"][1]
            name = self.text(name_node, (*here, "name"))
            if name is None:
                continue
            fault = find_env_name_fault(name)
            if fault:
                shown = name if is_env_name(name) else "this"
                self.error(name_node, (*here, "name"), f"{shown} {to_predicate(fault)}")
            elif name in env:
                self.error(name_node, (*here, "name"), f"given twice, first at line {lines[name]}")
            lines.setdefault(name, name_node.line)
            if ("value" in entries) == ("valueFrom" in entries):
                both = "'value' and 'valueFrom', of which it can have one"
                neither = "neither 'value' nor 'valueFrom'; write value: \"\" for the empty text"
                self.error(item, here, f"has {both if 'value' in entries else neither}")
            elif "value" in entries:
                env[name] = self.env_value(entries["value"][1], name, (*here, "value"))
            else:
                env[name] = self.env_source(entries["valueFrom"][1], (*here, "valueFrom"))
        return env

    def env_value(self, node: Node, name: str, path: Path) -> str | None:
        if not isinstance(node, Scalar):
            self.error(node, path, _NO_TEXT)
            return None
        value = node.value
        if node.plain:
            if not value:
                self.error(node, path, _NO_VALUE)
                return None
            if node.is_null:
                return None
        if "\0" in value:
            self.error(node, path, "holds a NUL character, which no environment variable can")
        if len(value) * 4 >= _MAX_VARIABLE_BYTES - len(name):
            size = len(name) + 1 + len(value.encode())
            if size > _MAX_VARIABLE_BYTES:
                self.error(
                    node,
                    path,
                    f"is {size:,} bytes with its name; Linux starts no process with more than {_MAX_VARIABLE_BYTES:,}",
                )
        return value

    def env_source(self, node: Node, path: Path) -> EnvVarSource | None:
        source = read_object(self, node, path, "EnvVarSource")
        if not source:
            return None
        ((kind, selector), *_) = source.items()
        return EnvVarSource(kind, selector or _NOTHING)

    def resources(self, node: Node, path: Path) -> tuple[_Resources, _Resources]:
        amounts: dict[str, _Resources] = {"limits": {}, "requests": {}}
        if not isinstance(node, Mapping):
            self.wrong_type(node, path, "a mapping, such as {mem_limit: 2Gi, cpu_limit: 1}", empty="resources: {}")
            return amounts["limits"], amounts["requests"]
        entries = self.known_entries(node, path, _RESOURCES_KEYS, "resources", hints=_RESOURCES_HINTS)
        for key, (_, value) in entries.items():
            if key in RESOURCE_KEYS:
                kind, resource = RESOURCE_KEYS[key]
                amounts[kind][resource] = self.amount(value, resource, kind, (*path, key))
        for kind in amounts:
            if kind in entries:
                self.kubernetes_resources(entries[kind][1], kind, (*path, kind), entries, amounts[kind])
        return amounts["limits"], amounts["requests"]

    def kubernetes_resources(self, node: Node, kind: str, path: Path, siblings: Entries, amounts: _Resources) -> None:
        if not isinstance(node, Mapping):
            self.wrong_type(node, path, "a mapping, such as {memory: 2Gi}", empty=f"{kind}: {{}}")
            return
        short = {resource: key for key, (of, resource) in RESOURCE_KEYS.items() if of == kind}
        for resource, (key, value) in self.entries(node, path, _is_resource_name).items():
            here = (*path, self.step(key, is_public=_is_resource_name(resource)))
            if short.get(resource) in siblings:
                self.error(key, here, f"the same as '{short[resource]}', which is given too; keep one of them")
                continue
            fault = _find_resource_name_fault(resource)
            if fault:
                self.error(key, here, fault)
            else:
                amounts[resource] = self.amount(value, resource, kind, here)

    def amount(self, node: Node, resource: str, kind: str, path: Path) -> Quantity | None:
        if not isinstance(node, Scalar):
            self.wrong_type(node, path, describe_amounts(resource))
            return None
        if node.is_empty:
            self.error(node, path, "has no value; leave the key out, or write null to take the setting away")
            return None
        if node.is_null:
            return None
        fault = None
        try:
            quantity = parse_quantity(node.value, resource)
            check_resource(resource, quantity, limit=kind == "limits")
        except QuantityError as error:
            fault = str(error) if self.is_quotable(node) else "not a Kubernetes quantity that this can have"
        else:
            return quantity
        self.error(node, path, fault)
        return None


_SECTIONS: MappingABC[str, Callable[[_Reader, Node, Path], Any]] = MappingProxyType(
    {
        "name": _Reader.short_text,
        "description": _Reader.short_text,
        "images": _Reader.images,
        "users": lambda reader, node, path: frozenset(reader.texts(node, path)),
        "groups": lambda reader, node, path: frozenset(reader.texts(node, path)),
        "env": _Reader.env,
        "env_from": lambda reader, node, path: read_objects(reader, node, path, "EnvFromSource"),
        "node_selector": lambda reader, node, path: read_texts(reader, node, path, LABEL_NAME.find_fault, LABEL_TEXT),
        "node_tolerations": lambda reader, node, path: read_objects(reader, node, path, "Toleration"),
        "node_affinity": lambda reader, node, path: (
            read_object(reader, node, path, "NodeAffinity", empty="node_affinity: {}") or _NOTHING
        ),
        "volumes": _Reader.volumes,
        "labels": lambda reader, node, path: read_texts(reader, node, path, _find_own_label_fault, LABEL_TEXT),
        "annotations": lambda reader, node, path: read_texts(reader, node, path, _find_own_annotation_fault, None),
    }
)
"""How each key of a profile or a size is read; `resources` and `gpu` are two ways to say the same."""


_NOTHING: MappingProxyType[str, Any] = MappingProxyType({})


def _never(_: str) -> bool:
    return False


def _find_mapping_fault(value: Mapping) -> str | None:
    """Says why a mapping cannot be what a variable has; None if it says where to take the value from, or was meant to.

    Mostly it is a text that lacks its quotes.
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
    """Whether it is what a variable has. In front of anything else, a name may be the rest of somebody's value."""
    if isinstance(value, Mapping):
        return any(isinstance(key, Scalar) and key.value == "valueFrom" for key, _ in value.pairs())
    return isinstance(value, Scalar) and not value.is_empty


def _is_resource_name(resource: str) -> bool:
    """Whether it is a resource's name, or was meant as one."""
    return _find_resource_name_fault(resource) is None or _find_meant_resource(resource) is not None


def _find_meant_resource(resource: str) -> str | None:
    if resource.lower() in ("gpu", "gpus", "nvidia"):
        return GPU
    return find_closest(resource, ("cpu", "memory", "ephemeral-storage"))


def _find_resource_name_fault(resource: str) -> str | None:
    """Says why a container cannot have the resource, as Kubernetes' ValidateContainerResourceName has it."""
    if resource in ("cpu", "memory", "ephemeral-storage") or _HUGE_PAGES.fullmatch(resource):
        return None
    if resource.startswith("hugepages-"):
        return "not a size of huge pages, such as hugepages-2Mi"
    if "/" not in resource:
        meant = _find_meant_resource(resource)
        hint = f"did you mean '{meant}'?" if meant else "an extended one has a domain, such as nvidia.com/gpu"
        return f"not a resource of Kubernetes; {hint}"
    # A ResourceQuota knows it by the longer name, which must be a name too.
    if not _QUALIFIED_NAME.fullmatch(f"requests.{resource}") or resource.startswith("requests."):
        return "not the name of an extended resource, such as nvidia.com/gpu"
    if resource.partition("/")[0].endswith("kubernetes.io"):
        return "kubernetes.io is Kubernetes' own domain, which no extended resource has"
    return None


def _find_own_label_fault(name: str) -> str | None:
    if is_kubespawner_owned("labels", name):
        return "belongs to KubeSpawner, which knows its pods by it, and cannot be set"
    return LABEL_NAME.find_fault(name)


def _find_own_annotation_fault(name: str) -> str | None:
    if is_kubespawner_owned("annotations", name):
        return "belongs to KubeSpawner, and cannot be set"
    # Kubernetes takes capitals in the prefix of an annotation's name, and only there.
    prefix = name.rpartition("/")[0]
    if _QUALIFIED_NAME.fullmatch(prefix.lower() + name[len(prefix) :]):
        return None
    return "not an annotation's name, such as team or example.org/team"
