"""Where the objects are: their versions, the history of changes, and those who watch it.

It knows nothing of what the objects mean. An object is stored without its `kind` and `apiVersion` (a list's
items have none either) and is never changed in place, only replaced: versions may be handed around freely.
"""

import asyncio
import json
import re
from collections import deque
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass
from functools import cached_property

from sandbox.status import Object, bad_request, expired, not_implemented, quote

Key = tuple[str, str]
"""Namespace (empty for what has none) and name."""

Predicate = Callable[[Object], bool]


@dataclass(frozen=True)
class Version:
    """One version of one object."""

    object: Object

    @property
    def key(self) -> Key:
        metadata = self.object["metadata"]
        return metadata.get("namespace", ""), metadata["name"]

    @cached_property
    def json(self) -> str:
        """The object as JSON, made once for all who read it."""
        return json.dumps(self.object, separators=(",", ":"), ensure_ascii=False)

    def typed_json(self, kind: str) -> str:
        return f'{{"kind":"{kind}","apiVersion":"v1",{self.json[1:]}'


@dataclass(frozen=True)
class Change:
    """One write: an object came (no `before`), changed, or went (no `after`)."""

    revision: int
    before: Version | None
    after: Version | None

    @cached_property
    def last(self) -> Version:
        """What one who sees the object go is shown: its last state, at the revision of its going."""
        assert self.before is not None
        gone = self.before.object
        return Version({**gone, "metadata": {**gone["metadata"], "resourceVersion": str(self.revision)}})

    def seen_by(self, selects: Predicate) -> tuple[str, Version] | None:
        """The event that a watch with this selection gets: an object may also enter or leave the selection."""
        was_in = self.before is not None and selects(self.before.object)
        if self.after is not None and selects(self.after.object):
            return ("MODIFIED" if was_in else "ADDED"), self.after
        return ("DELETED", self.last) if was_in else None


class Watch:
    """A subscription: an asynchronous iterator of (event type, version) that ends when it is closed."""

    def __init__(self, selects: Predicate, since: int, limit: int) -> None:
        self._selects = selects
        self._since = since
        self._limit = limit
        self._events: asyncio.Queue[tuple[str, Version] | None] = asyncio.Queue()

    def push(self, change: Change) -> None:
        event = change.seen_by(self._selects) if change.revision > self._since else None
        if event is None:
            return
        if self._events.qsize() >= self._limit:
            # Like a real server: a watch that does not keep up is ended, and its client lists anew.
            self.close()
        else:
            self._events.put_nowait(event)

    def add(self, version: Version) -> None:
        """Begin with an object that exists already, as an ADDED event."""
        self._events.put_nowait(("ADDED", version))

    def close(self) -> None:
        self._events.put_nowait(None)

    async def __aiter__(self) -> AsyncIterator[tuple[str, Version]]:
        while (event := await self._events.get()) is not None:
            yield event


class Table:
    """The objects of one resource, and its recent changes."""

    def __init__(self, history: int) -> None:
        self.versions: dict[Key, Version] = {}
        self.watches: set[Watch] = set()
        self.changes: deque[Change] = deque(maxlen=history)
        self.forgotten = 0
        """The revision of the youngest change that the history has dropped."""

    def record(self, change: Change) -> None:
        if len(self.changes) == self.changes.maxlen:
            self.forgotten = self.changes[0].revision if self.changes else change.revision
        self.changes.append(change)
        for watch in tuple(self.watches):
            watch.push(change)


class Storage:
    """All tables under one revision counter, as in etcd.

    Args:
        resources: the plural names of what is stored.
        history: how many changes of each resource can be replayed to a watch.
    """

    def __init__(self, resources: list[str], history: int) -> None:
        self.revision = 0
        self._history = history
        self._tables = {resource: Table(history) for resource in resources}

    def get(self, resource: str, key: Key) -> Object | None:
        version = self._tables[resource].versions.get(key)
        return version.object if version else None

    def list(self, resource: str, selects: Predicate) -> list[Version]:
        """The selected versions, ordered by namespace and name."""
        versions = self._tables[resource].versions
        return [versions[key] for key in sorted(versions) if selects(versions[key].object)]

    def write(self, resource: str, new: Object) -> Object:
        """Store a version, created or changed; it gets the next `resourceVersion`."""
        self.revision += 1
        after = Version({**new, "metadata": {**new["metadata"], "resourceVersion": str(self.revision)}})
        table = self._tables[resource]
        before = table.versions.get(after.key)
        table.versions[after.key] = after
        table.record(Change(self.revision, before, after))
        return after.object

    def remove(self, resource: str, key: Key) -> Object:
        """Remove an object, and return it as those who watch see it go."""
        self.revision += 1
        table = self._tables[resource]
        change = Change(self.revision, table.versions.pop(key), None)
        table.record(change)
        return change.last.object

    def watch(self, resource: str, selects: Predicate, since: int | None) -> Watch:
        """Subscribe to changes after a revision, or (`None`) to what there is and all that comes.

        The caller takes the watch back with `unwatch`.

        Raises:
            StatusError: 410 Expired, when the history no longer reaches back that far.
        """
        table = self._tables[resource]
        watch = Watch(selects, since or self.revision, limit=max(self._history, len(table.versions)))
        if since is None:
            for version in self.list(resource, selects):
                watch.add(version)
        elif since < table.forgotten:
            raise expired(f"too old resource version: {since} ({table.forgotten})")
        else:
            for change in table.changes:
                watch.push(change)
        table.watches.add(watch)
        return watch

    def unwatch(self, resource: str, watch: Watch) -> None:
        self._tables[resource].watches.discard(watch)

    def close(self) -> None:
        """End every watch."""
        for table in self._tables.values():
            for watch in table.watches:
                watch.close()


_LABEL_NAME = r"[A-Za-z0-9](?:[-A-Za-z0-9_.]{0,61}[A-Za-z0-9])?"
_LABEL_KEY = rf"(?:[a-z0-9](?:[-a-z0-9.]{{0,251}}[a-z0-9])?/)?{_LABEL_NAME}"
_LABEL_REQUIREMENT = re.compile(
    rf"""\s*(?:
        !\s*(?P<absent>{_LABEL_KEY})
      | (?P<key>{_LABEL_KEY})\s*(?:
            (?P<equality>==?|!=)\s*(?P<value>(?:{_LABEL_NAME})?)
          | \s(?P<set>in|notin)\s*\((?P<values>\s*(?:{_LABEL_NAME})?\s*(?:,\s*(?:{_LABEL_NAME})?\s*)*)\)
        )?
    )\s*""",
    re.VERBOSE,
)
_FIELD_REQUIREMENT = re.compile(r"([^=!,]+)(==?|!=)([^=!]*)")

_FIELDS = {
    "pods": {
        "spec.nodeName",
        "spec.restartPolicy",
        "spec.schedulerName",
        "spec.serviceAccountName",
        "status.phase",
        "status.podIP",
    },
    "events": {
        "involvedObject.kind",
        "involvedObject.namespace",
        "involvedObject.name",
        "involvedObject.uid",
        "involvedObject.apiVersion",
        "involvedObject.resourceVersion",
        "involvedObject.fieldPath",
        "reason",
        "reportingComponent",
        "type",
    },
    "secrets": {"type"},
    "namespaces": {"status.phase"},
    "services": {"spec.type"},
}


def label_selector(text: str) -> Predicate:
    """Parse a `labelSelector`: equality, sets, existence.

    Raises:
        StatusError: 400 for what is no selector; 501 for the comparisons `<` and `>`.
    """
    requirements: list[Callable[[dict[str, str]], bool]] = []
    for part in re.split(r",(?![^()]*\))", text) if text.strip() else []:
        if "<" in part or ">" in part:
            raise not_implemented(f"compare labels by order: {part.strip()}")
        found = _LABEL_REQUIREMENT.fullmatch(part)
        if found is None:
            raise bad_request(f"unable to parse requirement: {quote(part)} is no label requirement")
        requirements.append(_label_requirement(found))

    def selects(obj: Object) -> bool:
        labels = obj["metadata"].get("labels", {})
        return all(fits(labels) for fits in requirements)

    return selects


def _label_requirement(found: re.Match[str]) -> Callable[[dict[str, str]], bool]:
    if absent := found["absent"]:
        return lambda labels: absent not in labels
    key = found["key"]
    if found["set"]:
        values = {value.strip() for value in found["values"].split(",")}
    elif found["equality"]:
        values = {found["value"]}
    else:
        return lambda labels: key in labels
    if found["set"] == "notin" or found["equality"] == "!=":
        return lambda labels: labels.get(key) not in values
    return lambda labels: labels.get(key) in values


def field_requirements(resource: str, text: str) -> list[tuple[str, bool, str]]:
    """Parse a `fieldSelector` to (path, whether it must be equal, value).

    Raises:
        StatusError: 400 for what is no selector, or a field that the resource cannot be selected by; 501 for
            the escapes of Kubernetes' syntax.
    """
    requirements = []
    for part in text.split(",") if text else []:
        if "\\" in part:
            raise not_implemented("read escapes in a field selector")
        if part in ("", "="):
            # Of a field without a name nothing is required.
            continue
        found = _FIELD_REQUIREMENT.fullmatch(part)
        if found is None:
            raise bad_request(f"invalid selector: '{text}'; can't understand '{part}'")
        path, operator, value = found.groups()
        if path not in {"metadata.name", "metadata.namespace"} | _FIELDS.get(resource, set()):
            known = f'{quote(path)} is not a known field selector: only "metadata.name", "metadata.namespace"'
            raise bad_request(f"field label not supported: {path}" if resource in _FIELDS else known)
        requirements.append((path, operator != "!=", value))
    return requirements


def field_selector(requirements: list[tuple[str, bool, str]]) -> Predicate:
    """The selection by parsed field requirements; a field that is not set counts as empty."""

    def value_at(obj: Object, path: str) -> str:
        value: object = obj
        for step in path.split("."):
            value = value.get(step, "") if isinstance(value, dict) else ""
        return str(value or "")

    return lambda obj: all((value_at(obj, path) == value) is equal for path, equal, value in requirements)
