"""Whatever an API server answers, a start gets a document, or a fault that says what is wrong.

The answers are those of a server that works, changed in a few places to anything that JSON can say, and sent in ways
that HTTP does not have. What is malformed is a fault, and nothing of it steers a log, an annotation or a metric.
"""

from __future__ import annotations

import asyncio
import contextlib
import copy
import gzip
import json
import logging
import math
from collections.abc import Iterator
from typing import Any
from unittest import mock
from weakref import WeakKeyDictionary

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from kubernetes_asyncio.client import ApiClient, Configuration, CoreV1Api
from prometheus_client import REGISTRY

from profiled_spawner.errors import DocumentError, SourceError
from profiled_spawner.sources import cache, several, shared_requests
from profiled_spawner.sources.cache import EscapingLog
from profiled_spawner.sources.configmap import ConfigMapSource, ListBytes, SelectedConfigMapsSource
from profiled_spawner.sources.several import read_documents
from profiled_spawner.sources.source import Revision

from ..conftest import CONFIGMAP, KEY, NAMESPACE

MAIN = ConfigMapSource(NAMESPACE, CONFIGMAP, KEY, api=None, timeout_seconds=10)
SELECTED = SelectedConfigMapsSource(NAMESPACE, "team=yes", KEY, CONFIGMAP, api=None, timeout_seconds=10)

UNSEEN = list("\n\r\x1b\x9b\u2028\u202e\ud800\0")
DEEP = "nested too deep for any reader"


def configmap(name: str, uid: str = "0f0f") -> dict[str, Any]:
    return {
        "kind": "ConfigMap",
        "apiVersion": "v1",
        "metadata": {"name": name, "namespace": NAMESPACE, "uid": uid, "resourceVersion": "1"},
        "data": {KEY: "profiles: [{name: a, env: {FOO: canary-value}}]", "other": "text"},
        "binaryData": {"bytes": "eA=="},
    }


def listed(*configmaps: dict[str, Any]) -> dict[str, Any]:
    return {
        "kind": "ConfigMapList",
        "apiVersion": "v1",
        "metadata": {"resourceVersion": "1"},
        "items": list(configmaps),
    }


ONE = configmap(CONFIGMAP)
SEVERAL = listed(configmap("one", "1"), configmap(CONFIGMAP, "2"), configmap("two", "3"))
STATUS = {
    "kind": "Status",
    "apiVersion": "v1",
    "metadata": {},
    "status": "Failure",
    "message": 'configmaps "profiles" is forbidden',
    "reason": "Forbidden",
    "code": 403,
}

# What is shown of an answer, or tells one version from another.
SHOWN = ["name", "uid", "resourceVersion", "message"]

unseen = st.sampled_from(UNSEEN).map("a{}b".format)
texts = unseen | st.sampled_from(["", "one", "two", "a" * 254, CONFIGMAP, KEY, DEEP])
leaves = st.none() | st.booleans() | st.sampled_from([0, -1, 10**400, math.nan, math.inf]) | texts
values = unseen | st.recursive(
    leaves, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(texts, inner, max_size=3), max_leaves=5
)


def places(node: Any) -> Iterator[tuple[Any, Any]]:
    """Every place within a JSON value, as what holds it and where."""
    members = node.items() if isinstance(node, dict) else enumerate(node) if isinstance(node, list) else ()
    for key, value in members:
        yield node, key
        yield from places(value)


@st.composite
def bodies(draw: st.DrawFn, good: dict[str, Any]) -> bytes:
    """A good answer's body, with one to three places changed."""
    answer = [copy.deepcopy(good)]
    for _ in range(draw(st.integers(1, 3))):
        found = list(places(answer))
        shown = [(holder, key) for holder, key in found if key in SHOWN]
        holder, key = draw(st.sampled_from(shown or found) | st.sampled_from(found))
        value = draw(values)
        match draw(st.sampled_from(["replace", "replace", "remove", "rename"])):
            case "remove" if holder is not answer:
                del holder[key]
            case "rename" if isinstance(holder, dict):
                holder[draw(texts)] = holder.pop(key)
            case _:
                holder[key] = value
        if not answer:
            break
    text = json.dumps(answer[0])
    return text.replace(
        json.dumps(DEEP), draw(st.sampled_from(["[" * 100_000, '{"a":' * 100_000, "9" * 5000]))
    ).encode()


def assert_printable(text: object) -> None:
    """It is on one line, or on one for each error of a document, and holds no value."""
    lines = str(text).split("\n")
    assert [line for line in lines if not line.isprintable()] == []
    assert [line for line in lines[1:] if not line.startswith("  ")] == []
    assert "canary" not in str(text)


@settings(deadline=None, max_examples=300)
@given(body=bodies(ONE) | bodies(SEVERAL) | bodies(STATUS) | st.binary(max_size=40))
def test_every_body_has_documents_or_is_a_fault(body: bytes) -> None:
    found: list[Revision] = []
    with contextlib.suppress(SourceError, DocumentError):
        found.append(MAIN.extract(body))
    try:
        selected = SELECTED.extract(body)
    except SourceError as fault:
        assert_printable(fault)
    else:
        # Each once, and to be told from one of the same name before and after it.
        assert sorted({each.name for each in selected} - {CONFIGMAP}) == [each.name for each in selected]
        assert len({(each.name, each.uid) for each in selected}) == len(selected)
        for each in selected:
            with contextlib.suppress(SourceError):
                found.append(each.extract())
    for revision in found:
        assert isinstance(revision.text.text, str)
        assert revision.name.isprintable()
        hash(revision.version)


REFUSALS = [100, 101, 204, 206, 299, 301, 304, 307, 400, 401, 403, 409, 410, 418, 422, 429, 500, 503, 999]
ODD = [b"0", b"-1", b"2OO", b"99999", b""]
statuses = st.sampled_from([b"200"] * 9 + [b"%d" % status for status in REFUSALS] + ODD)
RETRY_AFTER = ["0", "-1", "9" * 400, "nan", "Fri, 31 Dec 1999 23:59:59 GMT", "٣", "²", "1\x00"]
LOCATIONS = ["/elsewhere", "file:///etc/passwd", "http://127.0.0.1:1/", "http://[", "\x9b"]
headers = st.sampled_from(
    [
        *(f"Retry-After: {after}" for after in RETRY_AFTER),
        *(f"Content-Encoding: {coding}" for coding in ("gzip", "deflate", "br", "zstd", "identity", "x\x9b")),
        *(f"Content-Length: {length}" for length in ("0", "7", "100000", "-1", "x", "9" * 30)),
        *(f"Location: {where}" for where in LOCATIONS),
        "Transfer-Encoding: chunked",
        "Transfer-Encoding: gzip, chunked",
        "Content-Type: text/html; charset=\x9b",
        "Set-Cookie: a=\x01",
        "X: " + "x" * 10_000,
        "no colon",
        ": no name",
    ]
)


@st.composite
def responses(draw: st.DrawFn, good: dict[str, Any]) -> bytes:
    """What a server sends, where it should send what is good, before it closes the connection."""
    if draw(st.integers(0, 9)) == 0:
        return draw(st.binary(max_size=60) | bodies(good))
    status = draw(statuses)
    body = draw(bodies(good if status == b"200" else STATUS))
    body = draw(st.sampled_from([*[body] * 4, gzip.compress(body), body[: len(body) // 2]]))
    lines = [b"HTTP/1.1 " + status + b" said", *(line.encode() for line in draw(st.lists(headers, max_size=2)))]
    return b"\r\n".join([*lines, b"", body])


def well_answered(answer: dict[str, Any]) -> bytes:
    body = json.dumps(answer).encode()
    return b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%b" % (len(body), body)


class Gathering(logging.Handler):
    """Keeps what is logged by anybody, as a line of a log."""

    def __init__(self) -> None:
        super().__init__()
        self.records: list[logging.LogRecord] = []

    def emit(self, record: logging.LogRecord) -> None:
        self.records.append(record)


@contextlib.contextmanager
def gathered() -> Iterator[list[logging.LogRecord]]:
    handler, root = Gathering(), logging.getLogger()
    root.addHandler(handler)
    try:
        yield handler.records
    finally:
        root.removeHandler(handler)


class Server:
    """Answers each request with what it is told to for its verb, once, and well from then on."""

    def __init__(self) -> None:
        self.first: dict[str, bytes] = {}

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(ConnectionError, asyncio.IncompleteReadError):
            request = (await reader.readuntil(b"\r\n\r\n")).split(b" ")[1]
            verb = "list" if b"labelSelector" in request else "get"
            writer.write(self.first.pop(verb, None) or well_answered(SEVERAL if verb == "list" else ONE))
            await writer.drain()
        writer.close()

    async def start(self) -> CoreV1Api:
        """Begins to listen, and returns a client."""
        self.server = await asyncio.start_server(self.serve, "127.0.0.1", 0)
        return CoreV1Api(ApiClient(Configuration(host=f"http://127.0.0.1:{self.server.sockets[0].getsockname()[1]}")))


async def read(api: CoreV1Api, policy: Any) -> None:
    try:
        snapshot = await read_documents(
            ConfigMapSource(NAMESPACE, CONFIGMAP, KEY, api, timeout_seconds=10),
            SelectedConfigMapsSource(NAMESPACE, "team=yes", KEY, CONFIGMAP, api, timeout_seconds=10),
            policy=policy,
            timeout_seconds=30,
            log=EscapingLog(logging.getLogger("hub")),
        )
    except (SourceError, DocumentError) as fault:
        assert_printable(fault)
    else:
        assert (snapshot.origin or "").isprintable()
        assert all(profile.label.isprintable() for profile in snapshot.document.profiles)


@pytest.fixture(scope="module")
def connection() -> Iterator[tuple[asyncio.Runner, Server, CoreV1Api]]:
    """An event loop, with a server and a client in it."""
    with asyncio.Runner() as runner:
        server = Server()
        api = runner.run(server.start())
        yield runner, server, api
        server.server.close()
        runner.run(api.api_client.close())


@settings(deadline=None, max_examples=100)
@given(get=responses(ONE), listing=responses(SEVERAL), policy=st.sampled_from(["last-good", "ignore"]))
def test_every_response_leads_to_documents_or_a_fault(
    connection: tuple[asyncio.Runner, Server, CoreV1Api], get: bytes, listing: bytes, policy: str
) -> None:
    runner, server, api = connection
    server.first = {"get": get, "list": listing}
    with contextlib.ExitStack() as stack:
        # Nothing is known from before, and retries are sent at once.
        stack.enter_context(mock.patch.object(cache, "all_stores", WeakKeyDictionary()))
        stack.enter_context(mock.patch.object(several, "all_selections", WeakKeyDictionary()))
        stack.enter_context(mock.patch.object(shared_requests, "LONGEST_PAUSE_SECONDS", 0))
        records = stack.enter_context(gathered())
        runner.run(read(api, policy))
    for record in records:
        # Nobody else has an error to tell, and nobody is asked to report what a server did.
        assert record.name == "hub" or record.levelno < logging.ERROR, record.getMessage()
        if record.name == "hub":
            assert_printable(record.getMessage())
            assert "defect" not in record.getMessage()
    for metric in REGISTRY.collect():
        if metric.name.startswith("profiled_spawner"):
            assert all(value.isprintable() for sample in metric.samples for value in sample.labels.values())


def without(answer: dict[str, Any], *path: str) -> dict[str, Any]:
    """The answer without what stands at the path."""
    changed = copy.deepcopy(answer)
    holder = changed
    for step in path[:-1]:
        holder = holder[step]
    del holder[path[-1]]
    return changed


def metadata(**members: Any) -> dict[str, Any]:
    return {**ONE, "metadata": {**ONE["metadata"], **members}}


NO_CONFIGMAP = [
    pytest.param(STATUS, id="status"),
    pytest.param([], id="list"),
    pytest.param(None, id="null"),
    pytest.param({**ONE, "kind": "Secret"}, id="another-kind"),
    pytest.param(without(ONE, "metadata"), id="no-metadata"),
    pytest.param(metadata(uid=1), id="uid-no-text"),
    pytest.param(metadata(uid={}), id="uid-not-hashable"),
    pytest.param(metadata(resourceVersion=1), id="version-no-text"),
    pytest.param(metadata(resourceVersion="1\n"), id="version-with-newline"),
    pytest.param(metadata(resourceVersion=""), id="version-empty"),
    pytest.param(metadata(name=None), id="name-no-text"),
    pytest.param(metadata(name="a\x1b[31m"), id="name-with-escape-sequence"),
    pytest.param(metadata(name="a" * 254), id="name-too-long"),
    pytest.param({**ONE, "data": []}, id="data-no-mapping"),
    pytest.param({**ONE, "data": ""}, id="data-empty-text"),
    pytest.param({**ONE, "data": {KEY: None}}, id="text-null"),
    pytest.param({**ONE, "data": {KEY: 1}}, id="text-a-number"),
    pytest.param({**without(ONE, "data"), "binaryData": KEY}, id="binary-data-no-mapping"),
]


@pytest.mark.parametrize("answer", NO_CONFIGMAP)
def test_what_is_no_configmap_is_a_fault(answer: Any) -> None:
    with pytest.raises(SourceError, match=r"is no ConfigMap$") as caught:
        MAIN.extract(json.dumps(answer).encode())
    assert caught.value.outcome == "unavailable"


NO_LIST = [
    pytest.param(ONE, id="configmap"),
    pytest.param({**SEVERAL, "kind": "SecretList"}, id="another-kind"),
    pytest.param(without(SEVERAL, "items"), id="no-items"),
    pytest.param(without(SEVERAL, "metadata"), id="no-metadata"),
    pytest.param({**SEVERAL, "metadata": {"continue": "more"}}, id="there-is-more"),
    pytest.param({**SEVERAL, "metadata": {"continue": {"a": 1}}}, id="odd-token"),
    pytest.param({**SEVERAL, "items": {}}, id="items-an-empty-mapping"),
    pytest.param({**SEVERAL, "items": ""}, id="items-an-empty-text"),
    pytest.param({**SEVERAL, "items": 0}, id="items-a-number"),
    pytest.param(listed(configmap("one"), configmap("one", "other")), id="one-name-twice"),
    pytest.param({**SEVERAL, "items": [configmap("one"), None]}, id="item-null"),
    pytest.param(listed(metadata(name=1)), id="name-no-text"),
    pytest.param(listed(metadata(name="one"), metadata(name=[])), id="name-not-hashable"),
    pytest.param(listed(metadata(name=1), metadata(name="one")), id="names-not-of-one-type"),
    pytest.param(listed(metadata(name="one", uid=[])), id="uid-not-hashable"),
    pytest.param(listed(metadata(name="one\n")), id="name-with-newline"),
]


@pytest.mark.parametrize("answer", NO_LIST)
def test_what_is_no_list_or_not_all_of_it_is_a_fault(answer: Any) -> None:
    with pytest.raises(SourceError, match=r"is no list of ConfigMaps$") as caught:
        SELECTED.extract(json.dumps(answer).encode())
    assert caught.value.outcome == "unavailable"


ONE = json.dumps(configmap("one"))
ITEMS = f'"items": [{ONE}]'
LIST = '"kind": "ConfigMapList", "metadata": {}'


@pytest.mark.parametrize(
    "answer",
    [
        pytest.param(f"{{{LIST}, {ITEMS}, {ITEMS}}}", id="items-twice"),
        pytest.param(f"{{{LIST}, {ITEMS.replace(']', ',]')}}}", id="comma-behind-the-last"),
        pytest.param(f"{{{LIST}, {ITEMS.replace('[', '[,')}}}", id="comma-before-the-first"),
        pytest.param(f"{{{LIST}, {ITEMS.replace(']', ONE + ']')}}}", id="comma-missing"),
        pytest.param(f'{{{LIST}, "more": {{{ITEMS}}}}}', id="items-deeper"),
        pytest.param(f"[{{{LIST}, {ITEMS}}}]", id="in-a-list"),
        pytest.param(f"{{{LIST}, {ITEMS}}}}}", id="more-behind-it"),
        pytest.param(f"{{{LIST}, {ITEMS}", id="truncated"),
        pytest.param(f"{{{LIST}, {ITEMS[:-1]}", id="truncated-in-the-items"),
        pytest.param(f'{{{LIST}, "items": [{"[" * 100_000}', id="nested-deeply"),
        pytest.param(f"{{{LIST}, {ITEMS}}}".replace("ConfigMapList", "\xff"), id="not-utf-8"),
    ],
)
def test_what_is_no_json_or_has_the_items_elsewhere_is_a_fault(answer: str) -> None:
    with pytest.raises(SourceError, match=r"is no list of ConfigMaps$"):
        SELECTED.extract(answer.encode("latin-1"))


@pytest.mark.parametrize("separators", [(",", ":"), (", ", ": "), (" ,\n", " :\t")], ids=["compact", "usual", "odd"])
@pytest.mark.parametrize("names", [[], ["one"], ["one", "three", "two"]], ids=len)
def test_a_list_may_have_any_spaces_and_order(separators: tuple[str, str], names: list[str]) -> None:
    answer = listed(*map(configmap, names))
    for ordered in (answer, dict(reversed(answer.items()))):
        raw = json.dumps(ordered, separators=separators).encode()
        assert [found.name for found in SELECTED.extract(raw)] == names


@pytest.mark.parametrize("separators", [(",", ":"), (", ", ": ")], ids=["compact", "usual"])
def test_the_lists_own_version_does_not_tell_it_from_another(separators: tuple[str, str]) -> None:
    def encode(version: str, *items: dict[str, Any]) -> bytes:
        answer = {"kind": "ConfigMapList", "metadata": {"resourceVersion": version}, "items": items}
        return json.dumps(answer, separators=separators).encode()

    one = configmap("one")
    edited = {**one, "metadata": {**one["metadata"], "resourceVersion": "9"}}
    lists = [(), (one,), (edited,), (one, edited), (edited, one)]
    for known in lists:
        same = [ListBytes.of(encode("1", *known)).matches(encode("22", *items)) for items in lists]
        assert same == [items is known for items in lists]
    assert not ListBytes.of(encode("1", one)).matches(encode("22", one).replace(b"ConfigMapList", b"SecretList"))
    assert not ListBytes.of(encode("1", one)).matches(b"")
    assert "one" not in repr(ListBytes.of(encode("1", one)))


def test_nothing_selected_is_no_fault() -> None:
    for items in ([], None):
        assert SELECTED.extract(json.dumps({**SEVERAL, "items": items}).encode()) == ()
