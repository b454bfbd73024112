"""Text to document, or one error with every diagnostic.

Decides what a document may hold and says where it does not. Whether a profile is a wise one is `advice`'s to say;
which text a file or a ConfigMap holds, `manifest`'s.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from functools import cached_property
from types import MappingProxyType

from .advice import Advice
from .document import (
    RESOURCE_KEYS,
    Document,
    EnvValue,
    EnvVarSource,
    Profile,
    find_env_name_fault,
    shown_env_name,
)
from .errors import Diagnostic, DocumentError, QuantityError, format_path
from .quantity import Quantity, check_resource, parse_quantity
from .tree import Mapping, Node, Scalar, Sequence, read_tree

__all__ = ["MAX_DIAGNOSTICS", "Checked", "check_document", "parse_document"]

MAX_DIAGNOSTICS = 100

# Linux' MAX_ARG_STRLEN: no process can be started with a longer NAME=value, its closing NUL included.
_MAX_VARIABLE_BYTES = 131_072 - 1

_Path = tuple[str | int, ...]
_Entries = dict[str, tuple[Scalar, Node]]
_Resources = dict[str, Quantity | None]

_DOCUMENT_KEYS = ("profiles",)
_PROFILE_KEYS = ("name", "images", "users", "groups", "env", "resources")
_RESOURCES_KEYS = (*RESOURCE_KEYS, "limits", "requests")
_ENV_ITEM_KEYS = ("name", "value", "valueFrom")
# Keys of other formats and habits, and ours for the same thing.
_MEANT = {
    "profile": "profiles",
    "image": "images",
    "user": "users",
    "group": "groups",
    "environment": "env",
    "mem": "mem_limit",
    "memory": "mem_limit",
    "memory_limit": "mem_limit",
    "cpu": "cpu_limit",
    "memory_guarantee": "mem_guarantee",
    "mem_request": "mem_guarantee",
    "cpu_request": "cpu_guarantee",
    "value_from": "valueFrom",
}

_SUBDOMAIN = re.compile(r"[a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*")
_LABEL = re.compile(r"[a-z0-9]([-a-z0-9]*[a-z0-9])?")
_DATA_KEY = re.compile(r"[-._a-zA-Z0-9]+")
_QUALIFIED_NAME = re.compile(r"[A-Za-z0-9]([-A-Za-z0-9_.]{0,61}[A-Za-z0-9])?")
# Of the sizes that Kubernetes takes, those that a node may have: nodes write them so.
_HUGE_PAGES = re.compile(r"hugepages-[1-9][0-9]{0,8}[KMG]i")
_FIELD_PATHS = frozenset(
    {
        "metadata.name",
        "metadata.namespace",
        "metadata.uid",
        "spec.nodeName",
        "spec.serviceAccountName",
        "status.hostIP",
        "status.hostIPs",
        "status.podIP",
        "status.podIPs",
    }
)
_FIELD_MEMBER = re.compile(r"metadata\.(?:labels|annotations)\['([^']+)'\]")
_FIELD_RESOURCE = re.compile(r"(?:limits|requests)\.(cpu|memory|ephemeral-storage|hugepages-[A-Za-z0-9]+)")
_DIVISORS = {
    "cpu": frozenset({"0", "1m", "1"}),
    "memory": frozenset(["0", "1", *(f"1{prefix}" for prefix in "kMGTPE"), *(f"1{prefix}i" for prefix in "KMGTPE")]),
}


@dataclass(frozen=True, slots=True)
class Checked:
    """Everything that there is to say of a text.

    Attributes:
        document: The document; None if it has errors.
        errors: In the order of the text, at most `MAX_DIAGNOSTICS`.
        omitted: How many more errors there are.
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
    profiles: tuple[Profile, ...] = ()
    try:
        tree = read_tree(text, line_offset=line_offset, column_offset=column_offset)
    except DocumentError as error:
        errors: Iterable[Diagnostic] = error.diagnostics
    else:
        # Where there is nothing, that is where the document would be.
        reader = _Reader(tree or Scalar("", line_offset + 1, column_offset + 1, plain=True, literal=False), advice)
        profiles = reader.read()
        errors, omitted = reader.errors, reader.count - len(reader.errors)
    in_order = sorted(errors, key=_place)
    return Checked(
        document=None if in_order else Document(profiles),
        errors=tuple(in_order),
        omitted=omitted,
        warnings=tuple(sorted(advice.warnings, key=_place)) if advice else (),
    )


def _place(diagnostic: Diagnostic) -> tuple[int, int]:
    return diagnostic.line, diagnostic.column


class _Reader:
    """Walks the tree once, gathering errors. A method returns what it could read; errors make the rest moot."""

    def __init__(self, root: Node, advice: Advice | None) -> None:
        self.root = root
        self.advice = advice
        self.errors: list[Diagnostic] = []
        self.count = 0
        self._said: set[int] = set()
        # A section that an alias repeats is read once.
        self._env: dict[int, MappingProxyType[str, EnvValue]] = {}

    @cached_property
    def env_values(self) -> set[int]:
        """The scalars, by identity, that are environment variables' values, or part of one: not to be quoted.

        An alias may put one anywhere. Only a document with something to quote pays for looking.
        """
        found: set[int] = set()
        seen: set[tuple[int, bool]] = set()
        left: list[tuple[Node, bool]] = [(self.root, False)]
        while left:
            node, inside = left.pop()
            if (id(node), inside) in seen:
                continue
            seen.add((id(node), inside))
            if isinstance(node, Scalar):
                if inside:
                    found.add(id(node))
            elif isinstance(node, Sequence):
                left += [(item, inside) for item in node.items]
            else:
                for key, value in node.pairs():
                    is_env = isinstance(key, Scalar) and key.value == "env"
                    left += [(key, False), (value, inside or is_env)]
        return found

    def is_quotable(self, node: Node) -> bool:
        """Whether a message may hold the text: it is nobody's environment variable."""
        return id(node) not in self.env_values

    def error(self, node: Node, path: _Path, what: str) -> None:
        # An alias may repeat an error; hashes, because there may be many.
        key = hash((node.line, node.column, what))
        if key in self._said:
            return
        self._said.add(key)
        self.count += 1
        if len(self.errors) < MAX_DIAGNOSTICS:
            self.errors.append(Diagnostic(what, format_path(path), node.line, node.column))

    def read(self) -> tuple[Profile, ...]:
        root = self.root
        if isinstance(root, Scalar) and not root.value:
            self.error(root, (), "empty; write 'profiles: []' if there are to be none")
            return ()
        if isinstance(root, Sequence):
            self.error(root, (), "must be a mapping with the key 'profiles'; write 'profiles:' above the list")
            return ()
        if isinstance(root, Scalar):
            self.error(root, (), "must be a mapping with the key 'profiles'")
            return ()
        entries = self.known_entries(root, (), _DOCUMENT_KEYS, "a document")
        if "profiles" not in entries:
            if not self.count:
                self.error(root, (), "has no 'profiles'; write 'profiles: []' if there are to be none")
            return ()
        node = entries["profiles"][1]
        if not isinstance(node, Sequence):
            self.wrong_type(node, ("profiles",), "a list of profiles", empty="profiles: []")
            return ()
        return tuple([self.profile(item, index) for index, item in enumerate(node.items)])

    def profile(self, node: Node, index: int) -> Profile:
        path = ("profiles", index)
        if not isinstance(node, Mapping):
            self.wrong_type(node, path, "a mapping, such as {name: …, users: […], env: {…}}")
            return Profile(index)
        entries = self.known_entries(node, path, _PROFILE_KEYS, "a profile")
        name = images = users = groups = None
        env: MappingProxyType[str, EnvValue] = _NO_ENV
        limits: _Resources = {}
        requests: _Resources = {}
        for key, (_, value) in entries.items():
            here = (*path, key)
            if key == "name":
                name = self.text(value, here)
            elif key == "images":
                images = self.texts(value, here)
            elif key == "users":
                users = self.texts(value, here)
            elif key == "groups":
                groups = self.texts(value, here)
            elif key == "env":
                env = self.env(value, here)
            else:
                limits, requests = self.resources(value, here)
        profile = Profile(
            index,
            name,
            images,
            None if users is None else frozenset(users),
            None if groups is None else frozenset(groups),
            env,
            MappingProxyType(limits),
            MappingProxyType(requests),
        )
        if self.advice is not None:
            self.advice.consider(profile, node, entries, self.is_quotable)
        return profile

    def entries(self, node: Mapping, path: _Path, shown: Callable[[str], str] = str) -> _Entries:
        """A mapping's keys and values, with those merged in by ``<<`` behind its own."""
        found: _Entries = {}
        merged: list[Node] = []
        merge_key: Scalar | None = None
        for key, value in node.pairs():
            if not isinstance(key, Scalar):
                self.error(key, path, "a mapping's key must be text")
            elif key.value == "<<" and key.plain:
                if merge_key:
                    self.error(key, (*path, "<<"), f"given twice, first at line {merge_key.line}; use '<<: [*a, *b]'")
                merge_key = key
                merged.append(value)
            elif key.is_empty:
                self.error(key, path, "a value without a key")
            elif key.value in found:
                first = found[key.value][0]
                name = shown(key.value) if self.is_quotable(key) else "…"
                self.error(key, (*path, name), f"given twice, first at line {first.line}")
            else:
                found[key.value] = (key, value)
        for value in merged:
            for base in value.items if isinstance(value, Sequence) else (value,):
                if isinstance(base, Mapping):
                    for name, entry in self.entries(base, path, shown).items():
                        found.setdefault(name, entry)
                else:
                    self.error(base, (*path, "<<"), "only mappings can be merged in: '<<: *anchor'")
        return found

    def known_entries(
        self, node: Mapping, path: _Path, known: tuple[str, ...], what: str, shown: Callable[[str], str] = str
    ) -> _Entries:
        entries = self.entries(node, path, shown)
        for name in [name for name in entries if name not in known]:
            key, _ = entries.pop(name)
            meant = _closest(name, known) if len(self.errors) < MAX_DIAGNOSTICS else None
            hint = f"did you mean '{meant}'?" if meant else f"{what} has {', '.join(known)}"
            self.error(key, (*path, shown(name) if self.is_quotable(key) else "…"), f"unknown key; {hint}")
        return entries

    def text(self, node: Node, path: _Path) -> str | None:
        if not isinstance(node, Scalar):
            self.wrong_type(node, path, "text")
            return None
        if not node.value:
            self.error(node, path, "has no value" if node.plain else "must not be empty")
            return None
        return node.value

    def texts(self, node: Node, path: _Path) -> tuple[str, ...]:
        if not isinstance(node, Sequence):
            self.wrong_type(node, path, "a list", empty=f"{path[-1]}: []")
            return ()
        return tuple(
            [
                item.value if isinstance(item, Scalar) and item.value else self.text(item, (*path, position)) or ""
                for position, item in enumerate(node.items)
            ]
        )

    def wrong_type(self, node: Node, path: _Path, wanted: str, empty: str = "") -> None:
        name = path[-1] if isinstance(path[-1], str) else "this"
        if isinstance(node, Scalar) and (node.is_empty or (node.is_null and empty)):
            otherwise = ", or leave the key out" if len(path) > 1 else ""
            hint = f"; write '{empty}' for none{otherwise}" if empty else ""
            self.error(node, path, f"{'is null' if node.value else 'has no value'}{hint}")
            return
        found = ""
        if isinstance(node, Scalar) and wanted == "a list" and _is_word(node) and self.is_quotable(node):
            found = f": [{node.value}]"
        self.error(node, path, f"{name} must be {wanted}{found}")

    def env(self, node: Node, path: _Path) -> MappingProxyType[str, EnvValue]:
        known = self._env.get(id(node))
        if known is not None:
            return known
        if isinstance(node, Mapping):
            env = self.env_mapping(node, path)
        elif isinstance(node, Sequence):
            env = self.env_list(node, path)
        else:
            self.wrong_type(node, path, "a mapping of names to values, or a list of name and value", empty="env: {}")
            env = {}
        view = self._env[id(node)] = MappingProxyType(env)
        return view

    def env_mapping(self, node: Mapping, path: _Path) -> dict[str, EnvValue]:
        env: dict[str, EnvValue] = {}
        for name, (key, value) in self.entries(node, path, shown_env_name).items():
            fault = find_env_name_fault(name)
            here = (*path, shown_env_name(name)) if fault else (*path, name)
            if fault:
                self.error(key, here, fault)
            if isinstance(value, Mapping):
                # It may be a text that lacks its quotes, whose keys are the value then.
                item = self.known_entries(value, here, ("valueFrom",), "a variable that is a mapping", lambda key: "…")
                if "valueFrom" in item:
                    env[name] = self.env_source(item["valueFrom"][1], (*here, "valueFrom"))
                elif not value.items:
                    self.error(value, here, 'must be text; write "" for the empty text')
            else:
                env[name] = self.env_value(value, name, here)
        return env

    def env_list(self, node: Sequence, path: _Path) -> dict[str, EnvValue]:
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
                self.error(name_node, (*here, "name"), f"{shown_env_name(name)} {_is(fault)}")
            elif name in env:
                self.error(name_node, (*here, "name"), f"{name} is given twice, first at line {lines[name]}")
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

    def env_value(self, node: Node, name: str, path: _Path) -> str | None:
        if not isinstance(node, Scalar):
            self.error(node, path, "must be text, not a list or a mapping; put quotes around it")
            return None
        value = node.value
        if node.plain:
            if not value:
                self.error(node, path, 'has no value; write "" for the empty text, or null to take the variable away')
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

    def env_source(self, node: Node, path: _Path) -> EnvVarSource | None:
        if not isinstance(node, Mapping):
            self.wrong_type(node, path, "a mapping, such as {secretKeyRef: {name: …, key: …}}")
            return None
        entries = self.known_entries(node, path, tuple(_ENV_SOURCES), "valueFrom")
        if len(entries) != 1:
            if entries or not node.items:
                self.error(node, path, f"must have one of {', '.join(_ENV_SOURCES)}")
            return None
        ((kind, (_, selector)),) = entries.items()
        path = (*path, kind)
        required, optional = _ENV_SOURCES[kind]
        if not isinstance(selector, Mapping):
            self.wrong_type(selector, path, f"a mapping with {' and '.join(required)}")
            return None
        fields: dict[str, str | bool] = {}
        found = self.known_entries(selector, path, (*required, *optional), kind)
        for name in required:
            if name not in found:
                self.error(selector, path, f"has no '{name}'")
        for name, (_, value) in found.items():
            text = self.text(value, (*path, name))
            if text is None:
                continue
            fault = _find_field_fault(kind, name, text)
            if fault:
                self.error(value, (*path, name), fault)
            fields[name] = text == "true" if name == "optional" else text
        if kind == "resourceFieldRef" and "divisor" in fields:
            resource = str(fields.get("resource", "")).partition(".")[2]
            if fields["divisor"] not in _DIVISORS["cpu" if resource == "cpu" else "memory"]:
                self.error(
                    found["divisor"][1],
                    (*path, "divisor"),
                    "not a divisor that this resource can have, such as 1",
                )
        return EnvVarSource(kind, MappingProxyType(fields))

    def resources(self, node: Node, path: _Path) -> tuple[_Resources, _Resources]:
        amounts: dict[str, _Resources] = {"limits": {}, "requests": {}}
        if not isinstance(node, Mapping):
            self.wrong_type(node, path, "a mapping, such as {mem_limit: 2Gi, cpu_limit: 1}", empty="resources: {}")
            return amounts["limits"], amounts["requests"]
        entries = self.known_entries(node, path, _RESOURCES_KEYS, "resources")
        for key, (_, value) in entries.items():
            if key in RESOURCE_KEYS:
                kind, resource = RESOURCE_KEYS[key]
                amounts[kind][resource] = self.amount(value, resource, kind, (*path, key))
        for kind in amounts:
            if kind in entries:
                self.kubernetes_resources(entries[kind][1], kind, (*path, kind), entries, amounts[kind])
        return amounts["limits"], amounts["requests"]

    def kubernetes_resources(self, node: Node, kind: str, path: _Path, siblings: _Entries, amounts: _Resources) -> None:
        if not isinstance(node, Mapping):
            self.wrong_type(node, path, "a mapping, such as {memory: 2Gi}", empty=f"{kind}: {{}}")
            return
        short = {resource: key for key, (of, resource) in RESOURCE_KEYS.items() if of == kind}
        for resource, (key, value) in self.entries(node, path).items():
            here = (*path, resource)
            if short.get(resource) in siblings:
                self.error(key, here, f"the same as '{short[resource]}', which is given too; keep one of them")
                continue
            fault = _find_resource_name_fault(resource)
            if fault:
                self.error(key, here, fault)
            else:
                amounts[resource] = self.amount(value, resource, kind, here)

    def amount(self, node: Node, resource: str, kind: str, path: _Path) -> Quantity | None:
        if not isinstance(node, Scalar):
            self.wrong_type(node, path, "a Kubernetes quantity, such as 500m or 2Gi")
            return None
        if node.is_empty:
            self.error(node, path, "has no value; leave the key out, or write null to take the setting away")
            return None
        if node.is_null:
            return None
        fault = None
        try:
            quantity = parse_quantity(node.value)
            check_resource(resource, quantity, limit=kind == "limits")
        except QuantityError as error:
            fault = str(error) if self.is_quotable(node) else "not a Kubernetes quantity that this can have"
        else:
            return quantity
        self.error(node, path, fault)
        return None


_NO_ENV: MappingProxyType[str, EnvValue] = MappingProxyType({})

# The selectors of Kubernetes' EnvVarSource: what each must have, and what else it can.
_ENV_SOURCES: dict[str, tuple[tuple[str, ...], tuple[str, ...]]] = {
    "secretKeyRef": (("name", "key"), ("optional",)),
    "configMapKeyRef": (("name", "key"), ("optional",)),
    "fieldRef": (("fieldPath",), ("apiVersion",)),
    "resourceFieldRef": (("resource",), ("containerName", "divisor")),
}


def _find_field_fault(kind: str, field: str, text: str) -> str | None:
    if field == "name" and not (_SUBDOMAIN.fullmatch(text) and len(text) <= 253):
        return "not the name of a Kubernetes object; use lower-case letters, digits, '-' and '.'"
    if field == "key" and not (_DATA_KEY.fullmatch(text) and len(text) <= 253 and text != "." and text[:2] != ".."):
        return f"not a key that a {'Secret' if kind == 'secretKeyRef' else 'ConfigMap'} can have"
    if field == "optional" and text not in ("true", "false"):
        return "must be true or false"
    if field == "apiVersion" and text != "v1":
        return "must be v1"
    if field == "fieldPath" and text not in _FIELD_PATHS:
        member = _FIELD_MEMBER.fullmatch(text)
        if not member or not _is_qualified_name(member[1]):
            names = ", ".join(sorted(_FIELD_PATHS))
            return f"not a field that Kubernetes offers: {names}, metadata.labels['…'] or metadata.annotations['…']"
    if field == "resource" and not _FIELD_RESOURCE.fullmatch(text):
        return "not a resource that Kubernetes offers, such as limits.memory or requests.cpu"
    if field == "containerName" and not (_LABEL.fullmatch(text) and len(text) <= 63):
        return "not the name of a container"
    return None


def _find_resource_name_fault(resource: str) -> str | None:
    """Says why a container cannot have the resource, as Kubernetes' ValidateContainerResourceName has it."""
    if resource in ("cpu", "memory", "ephemeral-storage") or _HUGE_PAGES.fullmatch(resource):
        return None
    if resource.startswith("hugepages-"):
        return "not a size of huge pages, such as hugepages-2Mi"
    if "/" not in resource:
        meant = _closest(resource, ("cpu", "memory", "ephemeral-storage")) or (
            "nvidia.com/gpu" if resource.lower() in ("gpu", "gpus", "nvidia") else None
        )
        hint = f"did you mean '{meant}'?" if meant else "an extended one has a domain, such as nvidia.com/gpu"
        return f"not a resource of Kubernetes; {hint}"
    # A ResourceQuota knows it by the longer name, which must be a name too.
    if not _is_qualified_name(f"requests.{resource}") or resource.startswith("requests."):
        return "not the name of an extended resource, such as nvidia.com/gpu"
    if resource.partition("/")[0].endswith("kubernetes.io"):
        return "kubernetes.io is Kubernetes' own domain, which no extended resource has"
    return None


def _is_qualified_name(text: str) -> bool:
    prefix, slash, name = text.rpartition("/")
    if slash and not (_SUBDOMAIN.fullmatch(prefix) and len(prefix) <= 253):
        return False
    return _QUALIFIED_NAME.fullmatch(name) is not None


def _closest(name: str, known: tuple[str, ...]) -> str | None:
    meant = _MEANT.get(name.lower())
    if meant in known:
        return meant
    # Only a document with errors pays for the import.
    from difflib import get_close_matches

    matches = get_close_matches(name.lower()[:40], [each.lower() for each in known], n=1, cutoff=0.7)
    return next((each for each in known if each.lower() in matches), None)


def _is(fault: str) -> str:
    return f"is {fault}" if fault.startswith("not ") else fault


def _is_word(node: Scalar) -> bool:
    """Whether a text is short enough for a message."""
    return node.plain and len(node.value) <= 60 and node.value.isprintable()
