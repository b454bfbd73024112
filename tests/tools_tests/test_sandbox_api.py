"""What the embedded API promises: to answer as a kube-apiserver does, or to refuse."""

import asyncio
import base64
import contextlib
import io
import json
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import aiohttp
import pytest
import yaml
from kubernetes_asyncio import client, config
from kubernetes_asyncio.client import ApiClient, ApiException, Configuration, CoreV1Api
from kubernetes_asyncio.watch import Watch
from kubespawner import KubeSpawner
from traitlets.config import Config

from sandbox.api import EmbeddedAPI, Fault
from sandbox.schema import canonical_quantity, parse_quantity
from sandbox.status import StatusError
from sandbox.waiting import HANG_SECONDS, PATIENCE, SHORT_SECONDS, Clock, until

Object = dict[str, Any]


@pytest.fixture
async def core(api: EmbeddedAPI) -> AsyncIterator[CoreV1Api]:
    async with ApiClient(Configuration(host=api.url)) as api_client:
        yield CoreV1Api(api_client)


@pytest.fixture
async def http(api: EmbeddedAPI) -> AsyncIterator[aiohttp.ClientSession]:
    async with aiohttp.ClientSession(f"{api.url}/api/v1/") as session:
        yield session


def config_map(name: str = "profiles", data: Object | None = None, **metadata: Any) -> Object:
    metadata = {"name": name, "namespace": "jhub", **metadata}
    return {"apiVersion": "v1", "kind": "ConfigMap", "metadata": metadata, "data": data or {"key": "value"}}


def pod(name: str = "jupyter-ada", *, node: str = "", container: Object | None = None, **metadata: Any) -> Object:
    spec = {"containers": [{"name": "notebook", "image": "example/notebook:1", **(container or {})}]}
    return {
        "kind": "Pod",
        "metadata": {"name": name, "namespace": "jhub", **metadata},
        "spec": {**spec, **({"nodeName": node} if node else {})},
    }


def status_of(caught: pytest.ExceptionInfo[ApiException]) -> Object:
    """The `Status` that a request was refused with, checked to be a whole one."""
    status = json.loads(caught.value.body)
    assert status["kind"] == "Status"
    assert status["apiVersion"] == "v1"
    assert status["status"] == "Failure"
    assert status["code"] == caught.value.status
    return status


class TestObjects:
    async def test_a_created_object_gets_what_the_server_gives(self, core: CoreV1Api) -> None:
        created = await core.create_namespaced_config_map("jhub", config_map())
        assert created.metadata.uid
        assert int(created.metadata.resource_version) > 0
        assert created.metadata.creation_timestamp.tzinfo is not None
        assert await core.read_namespaced_config_map("profiles", "jhub") == created

    async def test_the_namespace_is_that_of_the_request(self, core: CoreV1Api) -> None:
        created = await core.create_namespaced_config_map("jhub", {"metadata": {"name": "profiles"}})
        assert created.metadata.namespace == "jhub"

    async def test_a_name_is_generated_from_its_beginning(self, core: CoreV1Api) -> None:
        body = {"metadata": {"generateName": "event-"}}
        names = {(await core.create_namespaced_config_map("jhub", body)).metadata.name for _ in range(3)}
        assert len(names) == 3
        assert all(name.startswith("event-") and len(name) == len("event-") + 5 for name in names)

    async def test_a_name_can_only_be_taken_once(self, core: CoreV1Api) -> None:
        await core.create_namespaced_config_map("jhub", config_map())
        with pytest.raises(ApiException) as caught:
            await core.create_namespaced_config_map("jhub", config_map())
        status = status_of(caught)
        assert (status["code"], status["reason"]) == (409, "AlreadyExists")
        assert status["message"] == 'configmaps "profiles" already exists'
        assert status["details"] == {"name": "profiles", "kind": "configmaps"}

    async def test_what_is_not_there_is_not_found(self, core: CoreV1Api) -> None:
        with pytest.raises(ApiException) as caught:
            await core.read_namespaced_config_map("absent", "jhub")
        status = status_of(caught)
        assert (status["code"], status["reason"]) == (404, "NotFound")
        assert status["message"] == 'configmaps "absent" not found'

    async def test_nothing_is_created_in_a_namespace_that_is_not_there(self, core: CoreV1Api) -> None:
        with pytest.raises(ApiException) as caught:
            await core.create_namespaced_config_map("nowhere", {"metadata": {"name": "profiles"}})
        status = status_of(caught)
        assert (status["code"], status["message"]) == (404, 'namespaces "nowhere" not found')
        assert (await core.list_namespaced_config_map("nowhere")).items == []

    async def test_a_body_of_another_namespace_is_refused(self, core: CoreV1Api) -> None:
        with pytest.raises(ApiException) as caught:
            await core.create_namespaced_config_map("default", config_map())
        status = status_of(caught)
        assert status["reason"] == "BadRequest"
        assert status["message"] == (
            "the namespace of the provided object does not match the namespace sent on the request"
        )

    async def test_a_dry_run_checks_and_answers_but_stores_nothing(self, core: CoreV1Api) -> None:
        created = await core.create_namespaced_config_map("jhub", config_map(), dry_run="All")
        assert created.metadata.uid
        assert (await core.list_namespaced_config_map("jhub")).items == []
        with pytest.raises(ApiException, match="Unsupported value"):
            await core.create_namespaced_config_map("jhub", config_map(), dry_run="Some")

    async def test_resource_versions_rise_across_all_resources(self, core: CoreV1Api) -> None:
        first = await core.create_namespaced_config_map("jhub", config_map())
        second = await core.create_namespaced_pod("jhub", pod())
        assert int(second.metadata.resource_version) == int(first.metadata.resource_version) + 1

    async def test_secrets_take_plain_text_and_keep_it_encoded(self, core: CoreV1Api) -> None:
        body = {"metadata": {"name": "token"}, "stringData": {"token": "s3cret"}}
        stored = await core.create_namespaced_secret("jhub", body)
        assert stored.data == {"token": base64.b64encode(b"s3cret").decode()}
        assert stored.string_data is None
        assert stored.type == "Opaque"

    async def test_events_have_their_times_even_when_unset(self, api: EmbeddedAPI, core: CoreV1Api) -> None:
        involved = {"kind": "Pod", "name": "jupyter-ada", "namespace": "jhub"}
        await core.create_namespaced_event("jhub", {"metadata": {"name": "e"}, "involvedObject": involved})
        event = api.get("events", "jhub", "e")
        assert (event["lastTimestamp"], event["eventTime"]) == (None, None)


class TestUpdates:
    async def test_an_outdated_version_is_a_conflict(self, core: CoreV1Api) -> None:
        old = await core.create_namespaced_config_map("jhub", config_map())
        await core.patch_namespaced_config_map("profiles", "jhub", {"data": {"key": "other"}})
        with pytest.raises(ApiException) as caught:
            await core.replace_namespaced_config_map("profiles", "jhub", old)
        status = status_of(caught)
        assert (status["code"], status["reason"]) == (409, "Conflict")
        assert status["message"] == (
            'Operation cannot be fulfilled on configmaps "profiles": the object has been modified; '
            "please apply your changes to the latest version and try again"
        )

    async def test_without_a_version_the_last_one_wins(self, core: CoreV1Api) -> None:
        old = await core.create_namespaced_config_map("jhub", config_map())
        new = await core.replace_namespaced_config_map("profiles", "jhub", config_map(data={"key": "new"}))
        assert new.data == {"key": "new"}
        assert new.metadata.uid == old.metadata.uid
        assert int(new.metadata.resource_version) > int(old.metadata.resource_version)

    async def test_an_update_that_changes_nothing_keeps_the_version(self, core: CoreV1Api) -> None:
        old = await core.create_namespaced_config_map("jhub", config_map())
        new = await core.replace_namespaced_config_map("profiles", "jhub", config_map())
        assert new.metadata.resource_version == old.metadata.resource_version

    async def test_a_replaced_object_of_the_same_name_is_another(self, core: CoreV1Api) -> None:
        old = await core.create_namespaced_config_map("jhub", config_map())
        await core.delete_namespaced_config_map("profiles", "jhub")
        new = await core.create_namespaced_config_map("jhub", config_map())
        assert new.metadata.uid != old.metadata.uid
        old.metadata.resource_version = None
        with pytest.raises(ApiException) as caught:
            await core.replace_namespaced_config_map("profiles", "jhub", old)
        assert "Precondition failed: UID in precondition" in status_of(caught)["message"]

    async def test_the_name_must_be_that_of_the_path(self, core: CoreV1Api) -> None:
        await core.create_namespaced_config_map("jhub", config_map())
        with pytest.raises(ApiException) as caught:
            await core.replace_namespaced_config_map("profiles", "jhub", config_map("other"))
        assert status_of(caught)["message"] == (
            "the name of the object (other) does not match the name on the URL (profiles)"
        )

    async def test_a_replacement_must_have_its_name(self, core: CoreV1Api) -> None:
        await core.create_namespaced_config_map("jhub", config_map())
        with pytest.raises(ApiException, match="undeterminable: name must be provided") as caught:
            await core.replace_namespaced_config_map("profiles", "jhub", {"data": {}})
        assert status_of(caught)["code"] == 400

    @pytest.mark.parametrize("field", ["uid", "deletionTimestamp"])
    async def test_what_the_server_gave_cannot_be_patched(self, api: EmbeddedAPI, core: CoreV1Api, field: str) -> None:
        api.put(config_map())
        body = {"metadata": {field: "2026-01-01T00:00:00Z"}}
        with pytest.raises(ApiException) as caught:
            await core.patch_namespaced_config_map("profiles", "jhub", body)
        status = status_of(caught)
        assert status["code"] == 422
        assert f'metadata.{field}: Invalid value: "2026-01-01T00:00:00Z": field is immutable' in status["message"]

    async def test_changes_of_a_spec_that_a_real_server_may_allow_are_refused(
        self, api: EmbeddedAPI, core: CoreV1Api
    ) -> None:
        api.put(pod())
        with pytest.raises(ApiException, match="the embedded API does not change activeDeadlineSeconds") as caught:
            await core.patch_namespaced_pod("jupyter-ada", "jhub", {"spec": {"activeDeadlineSeconds": 60}})
        assert status_of(caught)["code"] == 501

    async def test_replacing_what_is_not_there_does_not_create_it(self, core: CoreV1Api) -> None:
        with pytest.raises(ApiException, match="404"):
            await core.replace_namespaced_config_map("profiles", "jhub", config_map())

    async def test_status_and_spec_are_written_apart(self, core: CoreV1Api) -> None:
        body = await core.create_namespaced_pod("jhub", {**pod(), "status": {"phase": "Running"}})
        body.metadata.labels, body.status.phase = {"a": "b"}, "Running"
        replaced = await core.replace_namespaced_pod("jupyter-ada", "jhub", body)
        assert (replaced.status.phase, replaced.metadata.labels) == ("Pending", {"a": "b"})
        running = {"spec": {"schedulerName": "mine"}, "status": {"phase": "Running", "podIP": "127.0.0.2"}}
        patched = await core.patch_namespaced_pod_status("jupyter-ada", "jhub", running)
        assert (patched.status.phase, patched.spec.scheduler_name) == ("Running", "default-scheduler")

    async def test_of_a_pods_spec_only_the_image_may_change(self, core: CoreV1Api) -> None:
        body = await core.create_namespaced_pod("jhub", pod())
        body.spec.containers[0].image = "example/notebook:2"
        changed = await core.replace_namespaced_pod("jupyter-ada", "jhub", body)
        assert changed.spec.containers[0].image == "example/notebook:2"
        with pytest.raises(ApiException) as caught:
            await core.patch_namespaced_pod("jupyter-ada", "jhub", {"spec": {"nodeName": "elsewhere"}})
        status = status_of(caught)
        assert status["code"] == 422
        assert "spec: Forbidden: pod updates may not change fields other than" in status["message"]

    async def test_a_pod_is_bound_to_a_node_once(self, core: CoreV1Api) -> None:
        await core.create_namespaced_pod("jhub", pod())
        body = client.V1Binding(
            metadata=client.V1ObjectMeta(name="jupyter-ada"), target=client.V1ObjectReference(kind="Node", name="one")
        )
        # The client cannot read the answer to a binding, which is a Status.
        answer = await core.create_namespaced_pod_binding("jupyter-ada", "jhub", body, _preload_content=False)
        assert answer.status == 201
        bound = await core.read_namespaced_pod("jupyter-ada", "jhub")
        assert bound.spec.node_name == "one"
        assert [(c.type, c.status) for c in bound.status.conditions] == [("PodScheduled", "True")]
        with pytest.raises(ApiException) as caught:
            await core.create_namespaced_pod_binding("jupyter-ada", "jhub", body)
        assert 'pod jupyter-ada is already assigned to node "one"' in status_of(caught)["message"]

    @pytest.mark.parametrize("change", [{"data": {"key": "x"}}, {"immutable": False}], ids=["data", "flag"])
    async def test_an_immutable_config_map_stays_as_it_is(self, core: CoreV1Api, change: Object) -> None:
        await core.create_namespaced_config_map("jhub", {**config_map(), "immutable": True})
        with pytest.raises(ApiException) as caught:
            await core.patch_namespaced_config_map("profiles", "jhub", change)
        status = status_of(caught)
        assert status["code"] == 422
        assert status["details"]["causes"] == [
            {
                "reason": "FieldValueForbidden",
                "message": "Forbidden: field is immutable when `immutable` is set",
                "field": next(iter(change)),
            }
        ]
        await core.patch_namespaced_config_map("profiles", "jhub", {"metadata": {"labels": {"a": "b"}}})


class TestPatches:
    PATHS = "namespaces/jhub/configmaps/profiles"

    async def patch(self, http: aiohttp.ClientSession, kind: str, body: Any, path: str = PATHS) -> tuple[int, Object]:
        headers = {"Content-Type": f"application/{kind}"}
        async with http.patch(path, data=json.dumps(body), headers=headers) as response:
            return response.status, await response.json()

    @pytest.mark.parametrize("kind", ["merge-patch+json", "strategic-merge-patch+json"])
    async def test_merging_sets_and_takes_away(self, api: EmbeddedAPI, http: aiohttp.ClientSession, kind: str) -> None:
        api.put(config_map(data={"keep": "1", "change": "1", "drop": "1"}))
        status, patched = await self.patch(http, kind, {"data": {"change": "2", "drop": None, "new": "3"}})
        assert (status, patched["data"]) == (200, {"keep": "1", "change": "2", "new": "3"})

    @pytest.mark.parametrize(
        ("operations", "expected"),
        [
            ([{"op": "add", "path": "/data/b", "value": "2"}], {"a": "1", "b": "2"}),
            ([{"op": "replace", "path": "/data/a", "value": "2"}], {"a": "2"}),
            ([{"op": "move", "from": "/data/a", "path": "/data/b"}], {"b": "1"}),
            ([{"op": "copy", "from": "/data/a", "path": "/data/b"}], {"a": "1", "b": "1"}),
            (
                [{"op": "test", "path": "/data/a", "value": "1"}, {"op": "add", "path": "/data/x~1y", "value": "2"}],
                None,
            ),
            ([{"op": "remove", "path": "/data"}, {"op": "add", "path": "/data", "value": {"c": "1"}}], {"c": "1"}),
        ],
        ids=["add", "replace", "move", "copy", "escaped-slash-in-a-key", "remove"],
    )
    async def test_json_patches_apply(
        self, api: EmbeddedAPI, http: aiohttp.ClientSession, operations: list[Object], expected: Object | None
    ) -> None:
        api.put(config_map(data={"a": "1"}))
        status, answer = await self.patch(http, "json-patch+json", operations)
        if expected is None:
            # `x/y` is no key of a ConfigMap, but it was read as one.
            assert (status, answer["details"]["causes"][0]["field"]) == (422, "data[x/y]")
        else:
            assert (status, answer["data"]) == (200, expected)

    @pytest.mark.parametrize(
        "operation",
        [
            {"op": "test", "path": "/data/a", "value": "2"},
            {"op": "remove", "path": "/data/absent"},
            {"op": "add", "path": "/absent/a", "value": "2"},
            {"op": "set", "path": "/data/a", "value": "2"},
            {"path": "/data/a"},
        ],
        ids=["failed-test", "remove-absent", "no-parent", "no-such-operation", "no-operation"],
    )
    async def test_a_json_patch_that_does_not_fit_changes_nothing(
        self, api: EmbeddedAPI, http: aiohttp.ClientSession, operation: Object
    ) -> None:
        before = api.put(config_map(data={"a": "1"}))
        first = {"op": "add", "path": "/data/b", "value": "2"}
        status, answer = await self.patch(http, "json-patch+json", [first, operation])
        assert (status, answer["reason"]) == (422, "Invalid")
        assert answer["message"] == "the server rejected our request due to an error in our request"
        assert api.get("configmaps", "jhub", "profiles") == before

    async def test_conditions_merge_by_type_and_new_ones_come_first(self, api: EmbeddedAPI, core: CoreV1Api) -> None:
        conditions = [{"type": "Initialized", "status": "True"}, {"type": "Ready", "status": "False"}]
        api.put({**pod(), "status": {"phase": "Pending", "conditions": conditions}})
        change = [{"type": "PodScheduled", "status": "True"}, {"type": "Ready", "status": "True"}]
        body = {"status": {"conditions": change}}
        patched = await core.patch_namespaced_pod_status("jupyter-ada", "jhub", body)
        assert [(c.type, c.status) for c in patched.status.conditions] == [
            ("PodScheduled", "True"),
            ("Initialized", "True"),
            ("Ready", "True"),
        ]

    async def test_a_patch_to_another_type_is_invalid(self, api: EmbeddedAPI, core: CoreV1Api) -> None:
        api.put(config_map())
        with pytest.raises(ApiException, match="patch: Invalid value") as caught:
            await core.patch_namespaced_config_map("profiles", "jhub", {"data": {"key": 80}})
        status = status_of(caught)
        assert status["code"] == 422
        assert status["message"].endswith(
            "json: cannot unmarshal number into Go struct field ConfigMap.data of type string"
        )

    async def test_a_patch_with_an_outdated_version_is_a_conflict(self, api: EmbeddedAPI, core: CoreV1Api) -> None:
        old = api.put(config_map())
        api.put(config_map(data={"key": "new"}))
        body = {"metadata": {"resourceVersion": old["metadata"]["resourceVersion"]}, "data": {"key": "x"}}
        with pytest.raises(ApiException) as caught:
            await core.patch_namespaced_config_map("profiles", "jhub", body)
        assert status_of(caught)["reason"] == "Conflict"

    @pytest.mark.parametrize(
        ("kind", "body", "code", "message"),
        [
            ("strategic-merge-patch+json", {"$patch": "replace"}, 501, r"directive \$patch"),
            ("strategic-merge-patch+json", {"spec": {"volumes": [{"name": "v"}]}}, 501, "the list volumes"),
            ("apply-patch+yaml", {}, 415, "415: Unsupported Media Type"),
            ("json-patch+json", {"data": {}}, 400, "error decoding patch: json: cannot unmarshal"),
        ],
        ids=["directive", "unknown-list", "server-side-apply", "no-list"],
    )
    async def test_patches_beyond_the_known_are_refused(
        self, api: EmbeddedAPI, core: CoreV1Api, kind: str, body: Object, code: int, message: str
    ) -> None:
        api.put(pod())
        with pytest.raises(ApiException, match=message) as caught:
            await core.patch_namespaced_pod("jupyter-ada", "jhub", body, _content_type=f"application/{kind}")
        assert status_of(caught)["code"] == code


class TestLists:
    @pytest.mark.parametrize(
        ("selector", "expected"),
        [
            ("", ["a", "b", "c"]),
            ("tier=web", ["a"]),
            ("tier==web", ["a"]),
            ("tier!=web", ["b", "c"]),
            ("tier", ["a", "b"]),
            ("!tier", ["c"]),
            ("tier in (web, db)", ["a", "b"]),
            ("tier notin (web)", ["b", "c"]),
            ("tier in (web,db),zone=x", ["b"]),
            ("example.org/kind=notebook", ["c"]),
        ],
    )
    async def test_label_selectors(self, api: EmbeddedAPI, core: CoreV1Api, selector: str, expected: list[str]) -> None:
        api.put(config_map("a", labels={"tier": "web"}))
        api.put(config_map("b", labels={"tier": "db", "zone": "x"}))
        api.put(config_map("c", labels={"example.org/kind": "notebook"}))
        found = await core.list_namespaced_config_map("jhub", label_selector=selector)
        assert [item.metadata.name for item in found.items] == expected

    @pytest.mark.parametrize(
        ("selector", "expected"),
        [
            ("metadata.name=a", ["a"]),
            ("metadata.name!=a", ["b"]),
            ("spec.nodeName=", ["a"]),
            ("spec.nodeName==node,status.phase=Running", ["b"]),
            ("status.phase=Failed", []),
        ],
    )
    async def test_field_selectors(self, api: EmbeddedAPI, core: CoreV1Api, selector: str, expected: list[str]) -> None:
        api.put(pod("a"))
        api.put({**pod("b", node="node"), "status": {"phase": "Running"}})
        found = await core.list_namespaced_pod("jhub", field_selector=selector)
        assert [item.metadata.name for item in found.items] == expected

    async def test_events_are_selected_by_what_they_are_about(self, api: EmbeddedAPI, core: CoreV1Api) -> None:
        for kind in ("Pod", "Node"):
            involved = {"kind": kind, "name": "x", "namespace": "jhub"}
            name = kind.lower()
            api.put({"kind": "Event", "metadata": {"name": name, "namespace": "jhub"}, "involvedObject": involved})
        found = await core.list_namespaced_event("jhub", field_selector="involvedObject.kind=Pod")
        assert [item.metadata.name for item in found.items] == ["pod"]

    @pytest.mark.parametrize(
        ("selectors", "code", "message"),
        [
            ({"label_selector": "a b"}, 400, "unable to parse requirement"),
            ({"label_selector": "a in b"}, 400, "unable to parse requirement"),
            ({"label_selector": "a=b=c"}, 400, "unable to parse requirement"),
            ({"label_selector": "a>1"}, 501, "does not compare labels by order"),
            ({"field_selector": "spec.color=red"}, 400, "field label not supported: spec.color"),
            ({"field_selector": "metadata.name"}, 400, "invalid selector"),
            ({"field_selector": r"metadata.name=a\,b"}, 501, "does not read escapes"),
        ],
    )
    async def test_selectors_that_are_none_are_refused(
        self, core: CoreV1Api, selectors: dict[str, str], code: int, message: str
    ) -> None:
        with pytest.raises(ApiException, match=message) as caught:
            await core.list_namespaced_pod("jhub", **selectors)
        assert status_of(caught)["code"] == code

    async def test_all_namespaces_are_listed_together(self, api: EmbeddedAPI, core: CoreV1Api) -> None:
        api.put(config_map(namespace="kube-system"))
        api.put(config_map(namespace="jhub"))
        found = await core.list_config_map_for_all_namespaces()
        assert [item.metadata.namespace for item in found.items] == ["jhub", "kube-system"]
        names = [item.metadata.name for item in (await core.list_namespace()).items]
        assert names == ["default", "jhub", "kube-system"]

    async def test_the_pages_of_a_list_show_one_moment(self, api: EmbeddedAPI, core: CoreV1Api) -> None:
        for name in "abcde":
            api.put(config_map(name))
        page = await core.list_namespaced_config_map("jhub", limit=2)
        assert page.metadata.remaining_item_count == 3
        first_version = page.metadata.resource_version
        api.delete("configmaps", "jhub", "d")
        api.put(config_map("c2"))
        names = [item.metadata.name for item in page.items]
        while page.metadata._continue:
            page = await core.list_namespaced_config_map("jhub", limit=2, _continue=page.metadata._continue)
            assert page.metadata.resource_version == first_version
            names += [item.metadata.name for item in page.items]
        assert names == ["a", "b", "c", "d", "e"]

    async def test_a_continue_token_must_be_one_of_ours(self, core: CoreV1Api) -> None:
        with pytest.raises(ApiException, match="continue key is not valid") as caught:
            await core.list_namespaced_config_map("jhub", limit=2, _continue="nonsense")
        assert status_of(caught)["code"] == 400
        forgotten = base64.urlsafe_b64encode(b'{"rv": 1}').decode().rstrip("=")
        with pytest.raises(ApiException, match="too old to display a consistent list") as caught:
            await core.list_namespaced_config_map("jhub", limit=2, _continue=forgotten)
        assert (status_of(caught)["code"], status_of(caught)["reason"]) == (410, "Expired")

    async def test_a_list_is_never_older_than_asked_for(self, api: EmbeddedAPI, core: CoreV1Api) -> None:
        current = api.put(config_map())["metadata"]["resourceVersion"]
        for version in ("0", "1", current):
            found = await core.list_namespaced_config_map(
                "jhub", resource_version=version, resource_version_match="NotOlderThan"
            )
            assert len(found.items) == 1
        with pytest.raises(ApiException, match="Too large resource version") as caught:
            await core.list_namespaced_config_map("jhub", resource_version=str(int(current) + 1))
        assert status_of(caught)["code"] == 504


class TestWatches:
    async def watch(self, api: EmbeddedAPI, path: str, **parameters: str) -> list[tuple[str, Object]]:
        """All that a watch is shown at once; the server stops then."""
        query = {"watch": "True", **parameters}
        async with aiohttp.ClientSession(f"{api.url}/api/v1/") as http, http.get(path, params=query) as response:
            assert response.status == 200
            await api.stop()
            lines = [json.loads(line) async for line in response.content]
        return [(event["type"], event["object"]) for event in lines]

    async def test_what_happened_since_a_version_is_replayed(self, api: EmbeddedAPI) -> None:
        since = api.put(config_map("seen"))["metadata"]["resourceVersion"]
        api.put(config_map("new"))
        api.put(config_map("new", data={"key": "changed"}))
        api.put(config_map("elsewhere", namespace="default"))
        api.delete("configmaps", "jhub", "seen")
        events = await self.watch(api, "namespaces/jhub/configmaps", resourceVersion=since)
        assert [(kind, obj["metadata"]["name"]) for kind, obj in events] == [
            ("ADDED", "new"),
            ("MODIFIED", "new"),
            ("DELETED", "seen"),
        ]
        versions = [int(obj["metadata"]["resourceVersion"]) for _, obj in events]
        assert versions == sorted(set(versions))
        assert events[0][1]["kind"] == "ConfigMap"

    @pytest.mark.parametrize("version", [{}, {"resourceVersion": "0"}], ids=["unset", "zero"])
    async def test_without_a_version_it_begins_with_what_there_is(
        self, api: EmbeddedAPI, version: dict[str, str]
    ) -> None:
        api.put(config_map("b"))
        api.put(config_map("a"))
        api.put(config_map("gone"))
        api.delete("configmaps", "jhub", "gone")
        events = await self.watch(api, "configmaps", **version)
        assert [(kind, obj["metadata"]["name"]) for kind, obj in events] == [("ADDED", "a"), ("ADDED", "b")]

    async def test_objects_enter_and_leave_a_selection(self, api: EmbeddedAPI) -> None:
        since = api.put(config_map("x", labels={"on": "no"}))["metadata"]["resourceVersion"]
        for value in ("yes", "yes", "no", "yes"):
            api.put(config_map("x", labels={"on": value}, annotations={"turn": value}))
            api.put(config_map("x", labels={"on": value}))
        api.delete("configmaps", "jhub", "x")
        events = await self.watch(api, "configmaps", resourceVersion=since, labelSelector="on=yes")
        kinds = [kind for kind, _ in events]
        assert kinds == ["ADDED", *["MODIFIED"] * 3, "DELETED", "ADDED", "MODIFIED", "DELETED"]
        # Who leaves is shown as it last was inside, with the version of its leaving.
        left = events[4][1]
        assert left["metadata"]["labels"] == {"on": "yes"}
        assert int(left["metadata"]["resourceVersion"]) > int(events[3][1]["metadata"]["resourceVersion"])

    async def test_a_watch_that_is_under_way_sees_changes(self, api: EmbeddedAPI, core: CoreV1Api) -> None:
        seen = []
        async with Watch() as watch:
            events = watch.stream(core.list_namespaced_config_map, "jhub", timeout_seconds=HANG_SECONDS)
            await core.create_namespaced_config_map("jhub", config_map("a"))
            async for event in events:
                seen.append((event["type"], event["object"].metadata.name))
                if event["type"] == "ADDED":
                    await core.delete_namespaced_config_map("a", "jhub")
                else:
                    break
        assert seen == [("ADDED", "a"), ("DELETED", "a")]

    @pytest.mark.parametrize("behind", [1, 2, 3])
    async def test_a_version_older_than_the_history_is_expired(self, behind: int) -> None:
        async with EmbeddedAPI(history=2) as api:
            versions = [api.put(config_map(data={"turn": str(n)}))["metadata"]["resourceVersion"] for n in range(4)]
            since = versions[-1 - behind]
            events = await self.watch(api, "configmaps", resourceVersion=since)
        if behind <= 2:
            assert [kind for kind, _ in events] == ["MODIFIED"] * behind
        else:
            [(kind, status)] = events
            assert (kind, status["kind"], status["code"], status["reason"]) == ("ERROR", "Status", 410, "Expired")
            assert status["message"].startswith(f"too old resource version: {since} (")

    async def test_the_history_is_each_resources_own(self) -> None:
        async with EmbeddedAPI(history=1) as api:
            since = api.put(config_map())["metadata"]["resourceVersion"]
            for name in "abc":
                api.put(pod(name))
            assert await self.watch(api, "configmaps", resourceVersion=since) == []

    async def test_a_watch_ends_when_its_time_is_over(self, http: aiohttp.ClientSession) -> None:
        async with http.get("pods?watch=true&timeoutSeconds=1") as response:
            assert await response.read() == b""

    async def test_a_watch_of_one_object_is_known_by_its_name(self, api: EmbeddedAPI) -> None:
        api.put(config_map("a"))
        api.put(config_map("b"))
        events = await self.watch(api, "namespaces/jhub/configmaps", fieldSelector="metadata.name=b")
        assert [obj["metadata"]["name"] for _, obj in events] == ["b"]
        assert [(r.verb, r.name) for r in api.requests] == [("watch", "b")]

    async def test_watches_end_cleanly_when_the_server_stops(self) -> None:
        api = EmbeddedAPI()
        await api.start()
        async with aiohttp.ClientSession() as http, http.get(f"{api.url}/api/v1/pods?watch=1") as response:
            await api.stop()
            assert await response.content.read() == b""

    async def test_a_client_that_goes_away_is_forgotten(self, api: EmbeddedAPI, http: aiohttp.ClientSession) -> None:
        table = api._registry.storage._tables["pods"]
        async with http.get("pods?watch=1") as response:
            assert len(table.watches) == 1
            response.close()
        while table.watches:
            await asyncio.sleep(0)

    async def test_a_watch_that_does_not_keep_up_is_ended(self) -> None:
        async with EmbeddedAPI(history=3) as api, aiohttp.ClientSession(f"{api.url}/api/v1/") as http:
            async with http.get("configmaps?watch=1") as response:
                for n in range(10):
                    api.put(config_map(f"name-{n}"))
                lines = [json.loads(line) async for line in response.content]
            assert [line["object"]["metadata"]["name"] for line in lines] == [f"name-{n}" for n in range(len(lines))]
            assert len(lines) < 10


class TestDeletion:
    async def test_what_has_no_kubelet_goes_at_once(self, core: CoreV1Api) -> None:
        created = await core.create_namespaced_config_map("jhub", config_map())
        status = await core.delete_namespaced_config_map("profiles", "jhub")
        assert (status.status, status.details.name, status.details.uid) == ("Success", "profiles", created.metadata.uid)
        with pytest.raises(ApiException, match="404"):
            await core.delete_namespaced_config_map("profiles", "jhub")

    async def test_a_pod_on_a_node_waits_for_its_kubelet(self, core: CoreV1Api) -> None:
        await core.create_namespaced_pod("jhub", pod(node="node"))
        deleted = await core.delete_namespaced_pod("jupyter-ada", "jhub")
        assert deleted.metadata.deletion_grace_period_seconds == 30
        waiting = await core.read_namespaced_pod("jupyter-ada", "jhub")
        assert waiting.metadata.deletion_timestamp is not None
        # Asked again, it does not get more time, but it can get less.
        again = await core.delete_namespaced_pod("jupyter-ada", "jhub", grace_period_seconds=60)
        assert again.metadata == waiting.metadata
        sooner = await core.delete_namespaced_pod("jupyter-ada", "jhub", grace_period_seconds=10)
        gained = waiting.metadata.deletion_timestamp - sooner.metadata.deletion_timestamp
        assert gained.total_seconds() == 20
        await core.delete_namespaced_pod("jupyter-ada", "jhub", body={"gracePeriodSeconds": 0})
        assert (await core.list_namespaced_pod("jhub")).items == []

    @pytest.mark.parametrize(
        ("node", "phase"),
        [("", "Pending"), ("node", "Succeeded"), ("node", "Failed")],
        ids=["unbound", "done", "failed"],
    )
    async def test_a_pod_that_nothing_runs_goes_at_once(
        self, api: EmbeddedAPI, core: CoreV1Api, node: str, phase: str
    ) -> None:
        api.put({**pod(node=node), "status": {"phase": phase}})
        await core.delete_namespaced_pod("jupyter-ada", "jhub")
        assert api.list("pods") == []

    async def test_a_body_of_options_takes_the_place_of_the_parameters(self, api: EmbeddedAPI, core: CoreV1Api) -> None:
        api.put(pod(node="node"))
        body = client.V1DeleteOptions(grace_period_seconds=7)
        deleted = await core.delete_namespaced_pod("jupyter-ada", "jhub", body=body, grace_period_seconds=0)
        assert deleted.metadata.deletion_grace_period_seconds == 7

    async def test_a_deletion_can_be_of_one_object_and_no_later_one(self, api: EmbeddedAPI, core: CoreV1Api) -> None:
        api.put(pod())
        body = {"preconditions": {"resourceVersion": "1"}}
        with pytest.raises(ApiException, match=r"The object might have been modified"):
            await core.delete_namespaced_pod("jupyter-ada", "jhub", body=body)
        body = {"preconditions": {"uid": "of-its-predecessor"}}
        with pytest.raises(ApiException) as caught:
            await core.delete_namespaced_pod("jupyter-ada", "jhub", body=body)
        status = status_of(caught)
        assert (status["code"], status["reason"]) == (409, "Conflict")
        assert "the UID in the precondition (of-its-predecessor) does not match the UID in record" in status["message"]
        assert len(api.list("pods")) == 1

    async def test_a_dry_run_deletes_nothing(self, api: EmbeddedAPI, core: CoreV1Api) -> None:
        api.put(pod())
        await core.delete_namespaced_pod("jupyter-ada", "jhub", dry_run="All")
        assert "deletionTimestamp" not in api.get("pods", "jhub", "jupyter-ada")["metadata"]

    async def test_a_finalizer_holds_what_is_deleted(self, api: EmbeddedAPI, core: CoreV1Api) -> None:
        api.put(config_map(finalizers=["example.org/hold"]))
        await core.delete_namespaced_config_map("profiles", "jhub")
        assert api.get("configmaps", "jhub", "profiles")["metadata"]["deletionTimestamp"]
        await core.patch_namespaced_config_map(
            "profiles", "jhub", {"metadata": {"finalizers": None}}, _content_type="application/merge-patch+json"
        )
        assert api.list("configmaps") == []

    async def test_dependents_go_with_the_last_of_their_owners(self, api: EmbeddedAPI) -> None:
        owners = []
        for name in ("one", "two"):
            uid = api.put(pod(name))["metadata"]["uid"]
            owners.append({"apiVersion": "v1", "kind": "Pod", "name": name, "uid": uid})
        api.put(config_map("both", ownerReferences=owners))
        api.put(config_map("first", ownerReferences=owners[:1]))
        api.put(config_map("nobodys"))
        api.delete("pods", "jhub", "one")
        assert [obj["metadata"]["name"] for obj in api.list("configmaps")] == ["both", "nobodys"]
        api.delete("pods", "jhub", "two")
        assert [obj["metadata"]["name"] for obj in api.list("configmaps")] == ["nobodys"]

    async def test_a_namespace_goes_with_all_that_is_in_it(self, api: EmbeddedAPI, core: CoreV1Api) -> None:
        api.put(config_map())
        api.put(pod(node="node"))
        api.put(pod("unbound"))
        await core.delete_namespace("jhub")
        assert api.get("namespaces", "", "jhub")["status"]["phase"] == "Terminating"
        assert [obj["metadata"]["name"] for obj in api.list("pods")] == ["jupyter-ada"]
        assert api.list("configmaps") == []
        with pytest.raises(ApiException) as caught:
            await core.create_namespaced_config_map("jhub", config_map())
        assert status_of(caught)["message"] == (
            'configmaps "profiles" is forbidden: unable to create new content in namespace jhub because it is being '
            "terminated"
        )
        await core.delete_namespaced_pod("jupyter-ada", "jhub", grace_period_seconds=0)
        with pytest.raises(ApiException, match="404"):
            await core.read_namespace("jhub")

    async def test_the_systems_namespaces_stay(self, core: CoreV1Api) -> None:
        with pytest.raises(ApiException, match="this namespace may not be deleted") as caught:
            await core.delete_namespace("kube-system")
        assert status_of(caught)["code"] == 403


def with_env(*env: Object) -> Object:
    return {"env": list(env)}


def with_resources(limits: Object, requests: Object | None = None) -> Object:
    return {"resources": {"limits": limits, **({"requests": requests} if requests is not None else {})}}


CONTAINER = "spec.containers[0]"
REFERENCE = {"secretKeyRef": {"name": "token", "key": "token"}}


class TestAdmission:
    @pytest.mark.parametrize(
        ("container", "message"),
        [
            (
                with_resources({"memory": "1Gi"}, {"memory": "2Gi"}),
                f'{CONTAINER}.resources.requests: Invalid value: "2Gi": must be less than or equal to memory limit of '
                "1Gi",
            ),
            (
                with_resources({"nvidia.com/gpu": "2"}, {"nvidia.com/gpu": "1"}),
                f'{CONTAINER}.resources.requests: Invalid value: "1": must be equal to nvidia.com/gpu limit of 2',
            ),
            (
                with_resources({}, {"nvidia.com/gpu": "1"}),
                f"{CONTAINER}.resources.limits: Required value: Limit must be set for non overcommitable resources",
            ),
            (
                with_resources({"cpu": "-1"}, {}),
                f'{CONTAINER}.resources.limits[cpu]: Invalid value: "-1": must be greater than or equal to 0',
            ),
            (
                with_resources({"mem": "1Gi"}),
                f'{CONTAINER}.resources.limits[mem]: Invalid value: "mem": must be a standard resource for containers',
            ),
            (
                with_env({"name": "A", "value": "x", "valueFrom": REFERENCE}),
                f'{CONTAINER}.env[0].valueFrom: Invalid value: "": may not be specified when `value` is not empty',
            ),
            (
                with_env({"name": "A", "valueFrom": {**REFERENCE, "fieldRef": {"fieldPath": "metadata.name"}}}),
                'env[0].valueFrom: Invalid value: "": may not have more than one field specified at a time',
            ),
            (with_env({"name": "A", "valueFrom": {}}), "must specify one of: `fieldRef`, `resourceFieldRef`"),
            (with_env({"name": "", "value": "x"}), f"{CONTAINER}.env[0].name: Required value"),
            (
                with_env({"name": "A=B", "value": "x"}),
                'env[0].name: Invalid value: "A=B": a valid environment variable name must consist only of printable '
                "ASCII characters other than '='",
            ),
            (
                with_env({"name": "A", "valueFrom": {"configMapKeyRef": {"name": "c"}}}),
                f"{CONTAINER}.env[0].valueFrom.configMapKeyRef.key: Required value",
            ),
            (
                with_env({"name": "A", "valueFrom": {"fieldRef": {"fieldPath": "spec.color"}}}),
                'env[0].valueFrom.fieldRef.fieldPath: Invalid value: "spec.color": error converting fieldPath: field '
                "label not supported: spec.color",
            ),
            ({"name": "Notebook"}, f'{CONTAINER}.name: Invalid value: "Notebook": a lowercase RFC 1123 label must'),
            ({"name": "a.b"}, f'{CONTAINER}.name: Invalid value: "a.b": must not contain dots'),
            ({"image": ""}, f"{CONTAINER}.image: Required value"),
            ({"image": " x"}, "must not have leading or trailing whitespace"),
            (
                {"volumeMounts": [{"name": "home", "mountPath": "/home"}]},
                f'{CONTAINER}.volumeMounts[0].name: Not found: "home"',
            ),
        ],
        ids=[
            "request-over-limit",
            "extended-resource-request-is-not-its-limit",
            "extended-resource-without-limit",
            "negative",
            "no-such-resource",
            "value-and-valueFrom",
            "two-sources",
            "no-source",
            "no-env-name",
            "equals-sign-in-env-name",
            "no-key",
            "no-such-field",
            "capital-in-container-name",
            "dot-in-container-name",
            "no-image",
            "blank-in-image",
            "no-such-volume",
        ],
    )
    async def test_pods_that_cannot_be_are_invalid(self, core: CoreV1Api, container: Object, message: str) -> None:
        with pytest.raises(ApiException) as caught:
            await core.create_namespaced_pod("jhub", pod(container=container))
        status = status_of(caught)
        assert (status["code"], status["reason"]) == (422, "Invalid")
        assert status["message"].startswith('Pod "jupyter-ada" is invalid: ')
        assert message in status["message"]
        assert status["details"]["kind"] == "Pod"
        assert any(
            f"{cause['field']}: {cause['message']}" in status["message"] for cause in status["details"]["causes"]
        )

    async def test_all_errors_are_reported_together(self, core: CoreV1Api) -> None:
        body = {
            "metadata": {"name": "Ada", "labels": {"a": "b c", "-": ""}, "annotations": {"a b": ""}},
            "spec": {
                "restartPolicy": "Sometimes",
                "containers": [{"name": "one", "image": "x"}, {"name": "one", "image": "x"}],
                "volumes": [{"name": "v", "emptyDir": {}}, {"name": "v", "emptyDir": {}}, {"name": "w"}],
            },
        }
        with pytest.raises(ApiException) as caught:
            await core.create_namespaced_pod("jhub", body)
        causes = status_of(caught)["details"]["causes"]
        assert [(cause["field"], cause["reason"].removeprefix("FieldValue")) for cause in causes] == [
            ("metadata.name", "Invalid"),
            ("metadata.labels", "Invalid"),
            ("metadata.labels", "Invalid"),
            ("metadata.annotations", "Invalid"),
            ("spec.volumes[1].name", "Duplicate"),
            ("spec.containers[1].name", "Duplicate"),
            ("spec.restartPolicy", "NotSupported"),
        ]

    @pytest.mark.parametrize("name", ["MY-VAR.x", "1ST", "with blank", "ünïcode"])
    async def test_env_names_follow_the_relaxed_rule(self, core: CoreV1Api, name: str) -> None:
        creation = core.create_namespaced_pod("jhub", pod(container=with_env({"name": name, "value": "x"})))
        if name.isascii():
            assert (await creation).spec.containers[0].env[0].name == name
        else:
            with pytest.raises(ApiException, match="printable ASCII"):
                await creation

    async def test_pods_get_the_apis_defaults(self, core: CoreV1Api) -> None:
        container = with_resources({"memory": "1Gi", "nvidia.com/gpu": "1"}, {"cpu": "1"})
        created = await core.create_namespaced_pod("jhub", pod(container=container))
        resources = created.spec.containers[0].resources
        assert resources.requests == {"cpu": "1", "memory": "1Gi", "nvidia.com/gpu": "1"}
        assert created.spec.restart_policy == "Always"
        assert created.spec.termination_grace_period_seconds == 30
        assert created.spec.containers[0].image_pull_policy == "IfNotPresent"
        assert created.status.phase == "Pending"

    @pytest.mark.parametrize(
        ("body", "message"),
        [
            (
                config_map(data={"key": 80}),
                "json: cannot unmarshal number into Go struct field ConfigMap.data of type string",
            ),
            (
                config_map(data={"key": True}),
                "json: cannot unmarshal bool into Go struct field ConfigMap.data of type string",
            ),
            (
                config_map(labels={"a": 1}),
                "json: cannot unmarshal number into Go struct field ObjectMeta.metadata.labels of type string",
            ),
            ({**config_map(), "binaryData": {"x": "YW?="}}, "illegal base64 data at input byte 2"),
            (pod(), 'Pod in version "v1" cannot be handled as a ConfigMap'),
        ],
        ids=["number", "boolean", "label", "base64", "kind"],
    )
    async def test_other_types_than_the_schemas_are_bad_requests(
        self, core: CoreV1Api, body: Object, message: str
    ) -> None:
        with pytest.raises(ApiException) as caught:
            await core.create_namespaced_config_map("jhub", body)
        status = status_of(caught)
        assert (status["code"], status["reason"]) == (400, "BadRequest")
        assert message in status["message"]
        assert "details" not in status

    @pytest.mark.parametrize(
        ("container", "message"),
        [
            (
                with_env({"name": "PORT", "value": 80}),
                "json: cannot unmarshal number into Go struct field EnvVar.spec.containers.env.value of type string",
            ),
            (with_resources({"memory": "2GG"}), "unable to parse quantity's suffix"),
            (with_resources({"memory": "lots"}), "quantities must match the regular expression"),
            (
                {"env": {"PORT": "80"}},
                "json: cannot unmarshal object into Go struct field Container.spec.containers.env of type []v1.EnvVar",
            ),
        ],
        ids=["number", "suffix", "no-quantity", "mapping-for-list"],
    )
    async def test_pods_of_other_types_than_the_schemas_are_bad_requests(
        self, core: CoreV1Api, container: Object, message: str
    ) -> None:
        with pytest.raises(ApiException) as caught:
            await core.create_namespaced_pod("jhub", pod(container=container))
        status = status_of(caught)
        assert status["code"] == 400
        assert status["message"].startswith('Pod in version "v1" cannot be handled as a Pod: ')
        assert message in status["message"]

    @pytest.mark.parametrize(
        ("fields", "message"),
        [
            ({"lastTimestamp": "yesterday"}, 'parsing time \\"yesterday\\" as'),
            ({"eventTime": "2026-01-01T00:00:00.000000Z"}, "reportingInstance: Required value"),
            ({"involvedObject": {"kind": "Pod", "name": "x"}}, "does not match event.namespace"),
        ],
        ids=["time", "new-form", "namespace"],
    )
    async def test_events_that_cannot_be_are_refused(self, core: CoreV1Api, fields: Object, message: str) -> None:
        involved = {"kind": "Pod", "name": "x", "namespace": "jhub"}
        body = {"metadata": {"name": "e"}, "involvedObject": involved, **fields}
        with pytest.raises(ApiException) as caught:
            await core.create_namespaced_event("jhub", body)
        assert message in caught.value.body

    async def test_what_is_empty_is_left_out(self, api: EmbeddedAPI) -> None:
        stored = api.put(pod(container=with_env({"name": "EMPTY", "value": ""}), labels={}, annotations={"a": ""}))
        assert stored["spec"]["containers"][0]["env"] == [{"name": "EMPTY"}]
        assert "labels" not in stored["metadata"]
        assert stored["metadata"]["annotations"] == {"a": ""}

    async def test_what_is_no_json_is_a_bad_request(self, http: aiohttp.ClientSession) -> None:
        async with http.post(
            "namespaces/jhub/pods", data="{", headers={"Content-Type": "application/json"}
        ) as response:
            assert response.status == 400
            assert "json parse error" in (await response.json())["message"]

    async def test_unknown_fields_are_dropped_with_a_warning(self, http: aiohttp.ClientSession) -> None:
        body = pod(container={"comand": ["true"]})
        async with http.post("namespaces/jhub/pods", json=body) as response:
            assert response.status == 201
            assert response.headers["Warning"] == r'299 - "unknown field \"spec.containers[0].comand\""'
            assert "comand" not in (await response.json())["spec"]["containers"][0]
        async with http.post("namespaces/jhub/pods?fieldValidation=Strict", json=body) as response:
            assert response.status == 400
            message = (await response.json())["message"]
            assert message.endswith('strict decoding error: unknown field "spec.containers[0].comand"')

    @pytest.mark.parametrize(
        ("body", "field", "message"),
        [
            (config_map(data={"a/b": ""}), "data[a/b]", "a valid config key must consist of alphanumeric characters"),
            (config_map(data={"..a": ""}), "data[..a]", "must not start with '..'"),
            ({**config_map(), "binaryData": {"key": "YQ=="}}, "data[key]", "duplicate of key present in binaryData"),
            (config_map("a_b"), "metadata.name", "a lowercase RFC 1123 subdomain must consist of"),
            ({"metadata": {}}, "metadata.name", "name or generateName is required"),
        ],
        ids=["key", "parent-directory", "twice", "name", "no-name"],
    )
    async def test_config_maps_that_cannot_be_are_invalid(
        self, core: CoreV1Api, body: Object, field: str, message: str
    ) -> None:
        with pytest.raises(ApiException) as caught:
            await core.create_namespaced_config_map("jhub", body)
        [cause] = status_of(caught)["details"]["causes"]
        assert cause["field"] == field
        assert message in cause["message"]

    async def test_a_config_map_may_hold_a_mebibyte(self, api: EmbeddedAPI) -> None:
        api.put(config_map(data={"a": "x" * 1024 * 1024}))
        with pytest.raises(StatusError, match=r"\[\]: Too long: may not be more than 1048576 bytes"):
            api.put(config_map(data={"a": "x" * 1024 * 1024, "b": "x"}))

    async def test_a_request_has_a_bound_too(self, http: aiohttp.ClientSession) -> None:
        body = io.BytesIO(json.dumps(config_map(data={"a": "x" * 4 * 1024 * 1024})).encode())
        headers = {"Content-Type": "application/json"}
        async with http.post("namespaces/jhub/configmaps", data=body, headers=headers) as response:
            assert response.status == 413
            assert (await response.json())["message"] == "Request entity too large: limit is 3145728"

    @pytest.mark.parametrize(
        ("given", "canonical"),
        [
            ("1024Mi", "1Gi"),
            ("1.5Gi", "1536Mi"),
            ("0.5", "500m"),
            ("1000m", "1"),
            ("100m", "100m"),
            ("2000", "2k"),
            ("1e3", "1e3"),
            ("12e2", "1200"),
            ("2G", "2G"),
            ("1073741824", "1073741824"),
            ("512Ki", "512Ki"),
            ("1000Ki", "1000Ki"),
            ("0.5Ki", "512"),
            ("0", "0"),
            ("-1.5", "-1500m"),
            (".5E", "500P"),
            ("0.1n", "1n"),
            ("1e20", "100e18"),
            ("1.3Ki", "1331200m"),
            ("9Ei", "9223372036854775807"),
        ],
    )
    def test_quantities_are_written_canonically(self, given: str, canonical: str) -> None:
        assert canonical_quantity(given) == canonical
        assert parse_quantity(canonical) == parse_quantity(given)
        assert canonical_quantity(canonical) == canonical

    def test_resources_are_rounded_up_to_thousandths(self, api: EmbeddedAPI) -> None:
        stored = api.put(pod(container=with_resources({"cpu": "0.0001", "memory": "1.0001Ki"})))
        assert stored["spec"]["containers"][0]["resources"]["limits"] == {"cpu": "1m", "memory": "1024103m"}

    @pytest.mark.parametrize("text", ["", "Gi", "1GB", "1 Gi", "1gi", "1e", "0x1", ".", "1Mi2", "--1"])
    def test_what_is_no_quantity_is_refused(self, text: str) -> None:
        with pytest.raises(ValueError, match=r"quantities must match|unable to parse quantity's suffix"):
            parse_quantity(text)


class TestDenials:
    async def test_a_denied_request_is_forbidden_in_the_servers_words(self, api: EmbeddedAPI, core: CoreV1Api) -> None:
        api.put(config_map())
        api.deny("get", "configmaps")
        with pytest.raises(ApiException) as caught:
            await core.read_namespaced_config_map("profiles", "jhub")
        status = status_of(caught)
        assert (status["code"], status["reason"]) == (403, "Forbidden")
        assert status["message"] == (
            'configmaps "profiles" is forbidden: User "system:serviceaccount:jhub:hub" cannot get resource '
            '"configmaps" in API group "" in the namespace "jhub"'
        )
        assert status["details"] == {"name": "profiles", "kind": "configmaps"}
        api.allow("get", "configmaps")
        assert await core.read_namespaced_config_map("profiles", "jhub")

    async def test_denials_can_be_of_a_name_a_namespace_or_a_subresource(
        self, api: EmbeddedAPI, core: CoreV1Api
    ) -> None:
        for namespace in ("jhub", "default"):
            api.put(config_map("a", namespace=namespace))
            api.put(config_map("b", namespace=namespace))
        api.put(pod())
        api.deny("get", "configmaps", name="a", namespace="jhub")
        api.deny("patch", "pods/status")
        api.deny("list", "namespaces")
        with pytest.raises(ApiException, match="403"):
            await core.read_namespaced_config_map("a", "jhub")
        await core.read_namespaced_config_map("b", "jhub")
        await core.read_namespaced_config_map("a", "default")
        await core.patch_namespaced_pod("jupyter-ada", "jhub", {"metadata": {"labels": {"a": "b"}}})
        with pytest.raises(ApiException, match='cannot patch resource \\\\"pods/status\\\\" in API group'):
            await core.patch_namespaced_pod_status("jupyter-ada", "jhub", {"status": {"phase": "Running"}})
        with pytest.raises(ApiException) as caught:
            await core.list_namespace()
        assert status_of(caught)["message"] == (
            'namespaces is forbidden: User "system:serviceaccount:jhub:hub" cannot list resource "namespaces" in API '
            'group "" at the cluster scope'
        )

    async def test_only_what_is_denied_can_be_allowed_again(self, api: EmbeddedAPI) -> None:
        with pytest.raises(ValueError, match="not in list"):
            api.allow("get", "configmaps")


class TestFaults:
    async def test_a_status_comes_as_often_as_asked_for(self, api: EmbeddedAPI, core: CoreV1Api) -> None:
        api.put(config_map())
        api.faults.append(Fault("status", "get", "configmaps", status=429, retry_after=7, times=2))
        for _ in range(2):
            with pytest.raises(ApiException) as caught:
                await core.read_namespaced_config_map("profiles", "jhub")
            assert status_of(caught)["reason"] == "TooManyRequests"
            assert caught.value.headers["Retry-After"] == "7"
        assert await core.read_namespaced_config_map("profiles", "jhub")

    async def test_a_fault_strikes_only_what_it_is_for(self, api: EmbeddedAPI, core: CoreV1Api) -> None:
        api.put(config_map("a"))
        api.put(config_map("b"))
        api.faults.append(Fault("status", "get", "configmaps", name="a", status=500, times=None))
        await core.read_namespaced_config_map("b", "jhub")
        await core.list_namespaced_config_map("jhub")
        for _ in range(3):
            with pytest.raises(ApiException, match="500"):
                await core.read_namespaced_config_map("a", "jhub")

    @pytest.mark.parametrize(("effect", "stored"), [("close", 0), ("lose", 1)])
    async def test_a_connection_can_go_before_or_after_the_effect(
        self, api: EmbeddedAPI, http: aiohttp.ClientSession, effect: Any, stored: int
    ) -> None:
        api.faults.append(Fault(effect, "create", "configmaps"))
        with pytest.raises(aiohttp.ClientConnectionError):
            await http.post("namespaces/jhub/configmaps", json=config_map())
        assert len(api.list("configmaps")) == stored

    async def test_a_connection_can_go_in_the_middle_of_an_answer(
        self, api: EmbeddedAPI, http: aiohttp.ClientSession
    ) -> None:
        api.put(config_map(data={"key": "x" * 100_000}))
        api.faults.append(Fault("cut", "get"))
        async with http.get("namespaces/jhub/configmaps/profiles") as response:
            assert response.status == 200
            with pytest.raises(aiohttp.ClientError):
                await response.read()

    async def test_a_connection_can_go_in_the_middle_of_an_event(
        self, api: EmbeddedAPI, http: aiohttp.ClientSession
    ) -> None:
        api.put(config_map())
        api.faults.append(Fault("cut", "watch"))
        async with http.get("configmaps?watch=1") as response:
            with pytest.raises(aiohttp.ClientError):
                await response.read()

    async def test_an_answer_can_be_half_of_what_it_should_be(
        self, api: EmbeddedAPI, http: aiohttp.ClientSession
    ) -> None:
        api.put(config_map())
        api.faults.append(Fault("truncate", "get"))
        async with http.get("namespaces/jhub/configmaps/profiles") as response:
            text = await response.text()
        assert response.status == 200
        with pytest.raises(json.JSONDecodeError):
            json.loads(text)

    async def test_a_request_can_hang_until_its_client_gives_up(
        self, api: EmbeddedAPI, core: CoreV1Api, clock: Clock
    ) -> None:
        api.put(config_map())
        api.faults.append(Fault("hang", "get"))
        reading = asyncio.create_task(
            core.read_namespaced_config_map("profiles", "jhub", _request_timeout=SHORT_SECONDS)
        )
        await until(lambda: api.requests)
        # aiohttp rounds up to a whole second.
        clock.forward(SHORT_SECONDS + 1)
        with pytest.raises(TimeoutError):
            await reading
        assert await core.read_namespaced_config_map("profiles", "jhub")

    async def test_a_delayed_request_is_answered_after_others(self, api: EmbeddedAPI, core: CoreV1Api) -> None:
        api.put(config_map())
        api.faults.append(Fault(verb="get", delay=0.1))
        delayed = asyncio.create_task(core.read_namespaced_config_map("profiles", "jhub"))
        while not api.requests:
            await asyncio.sleep(0)
        api.put(config_map(data={"key": "later"}))
        assert (await delayed).data == {"key": "later"}

    async def test_hanging_requests_do_not_hold_up_a_stop(self) -> None:
        api = EmbeddedAPI()
        await api.start()
        api.faults.append(Fault("hang"))
        async with aiohttp.ClientSession() as http:
            hanging = asyncio.create_task(http.get(f"{api.url}/api/v1/pods"))
            while not api.requests:
                await asyncio.sleep(0)
            await api.stop()
            with pytest.raises(aiohttp.ClientConnectionError):
                await hanging


class TestRequests:
    async def test_every_request_is_noted_without_its_body(self, api: EmbeddedAPI, core: CoreV1Api) -> None:
        await core.create_namespaced_config_map("jhub", config_map())
        await core.read_namespaced_config_map("profiles", "jhub")
        await core.list_pod_for_all_namespaces()
        await core.create_namespaced_pod("jhub", pod())
        await core.patch_namespaced_pod_status("jupyter-ada", "jhub", {"status": {"phase": "Running"}})
        noted = [(r.verb, r.resource, r.namespace, r.name, r.subresource) for r in api.requests]
        assert noted == [
            ("create", "configmaps", "jhub", "", ""),
            ("get", "configmaps", "jhub", "profiles", ""),
            ("list", "pods", "", "", ""),
            ("create", "pods", "jhub", "", ""),
            ("patch", "pods", "jhub", "jupyter-ada", "status"),
        ]
        assert [r.number for r in api.requests] == [0, 1, 2, 3, 4]

    @pytest.mark.parametrize(
        ("method", "path", "code", "message"),
        [
            ("GET", "/apis/apps/v1/deployments", 404, "404 page not found"),
            ("GET", "/apis/events.k8s.io/v1/events", 404, "404 page not found"),
            ("GET", "/api/v1/gadgets", 404, "the server could not find the requested resource"),
            ("GET", "/api/v1/namespaces/jhub/namespaces", 404, "the server could not find the requested resource"),
            ("GET", "/api/v1/configmaps/x", 404, "the server could not find the requested resource"),
            ("GET", "/api/v1/nodes", 501, "the embedded API does not serve nodes"),
            ("GET", "/api/v1", 501, "the embedded API does not serve /api/v1"),
            ("GET", "/api/v1/namespaces/jhub/pods/x/log", 501, "the embedded API does not serve pods/log"),
            ("POST", "/api/v1/namespaces/jhub/pods/x/eviction", 501, "the embedded API does not serve pods/eviction"),
            ("DELETE", "/api/v1/namespaces/jhub/pods", 501, "the embedded API does not delete collections"),
            ("POST", "/api/v1/pods", 405, "the server does not allow this method on the requested resource"),
            ("PUT", "/api/v1/namespaces/jhub/pods", 405, "the server does not allow this method"),
            ("POST", "/api/v1/namespaces/jhub/pods/x", 405, "the server does not allow this method"),
            (
                "GET",
                "/api/v1/pods?sendInitialEvents=true",
                501,
                "does not know the parameter sendInitialEvents of list",
            ),
            ("GET", "/api/v1/pods?resourceVersion=4&resourceVersionMatch=Exact", 501, "resourceVersionMatch=Exact"),
            ("GET", "/api/v1/pods?resourceVersionMatch=Exact", 422, "forbidden unless resourceVersion is provided"),
            ("GET", "/api/v1/pods?limit=few", 400, "invalid syntax"),
            ("GET", "/api/v1/pods?resourceVersion=old", 400, "invalid resource version"),
            ("GET", "/api/v1/pods?watch=1&resourceVersion=old", 500, "resourceVersion: Invalid value"),
            ("GET", "/api/v2/pods", 404, "the server could not find the requested resource"),
            ("DELETE", "/api/v1/namespaces/jhub?propagationPolicy=Orphan", 501, "does not leave dependents"),
        ],
    )
    async def test_what_it_cannot_do_it_refuses(
        self, api: EmbeddedAPI, http: aiohttp.ClientSession, method: str, path: str, code: int, message: str
    ) -> None:
        async with http.request(method, f"{api.url}{path}") as response:
            assert response.status == code
            assert message in await response.text()
            if not path.startswith("/apis"):
                assert (await response.json())["kind"] == "Status"

    @pytest.mark.parametrize(
        ("headers", "code", "message"),
        [
            ({"Accept": "application/vnd.kubernetes.protobuf"}, 406, "406: Not Acceptable"),
            ({"Accept": "application/json;as=Table;v=v1;g=meta.k8s.io"}, 406, "406: Not Acceptable"),
            ({"Content-Type": "application/yaml"}, 415, "accepted media types include: application/json"),
        ],
        ids=["protobuf", "table", "yaml"],
    )
    async def test_other_media_types_are_refused(
        self, http: aiohttp.ClientSession, headers: dict[str, str], code: int, message: str
    ) -> None:
        async with http.post("namespaces/jhub/configmaps", data="{}", headers=headers) as response:
            assert response.status == code
            assert message in (await response.json())["message"]

    async def test_version_and_health(self, api: EmbeddedAPI, http: aiohttp.ClientSession) -> None:
        async with http.get(f"{api.url}/version") as response:
            assert (await response.json())["major"] == "1"
        async with http.get(f"{api.url}/readyz") as response:
            assert await response.text() == "ok"


class TestInProcess:
    async def test_put_creates_and_then_replaces(self, api: EmbeddedAPI) -> None:
        first = api.put(config_map())
        second = api.put(config_map(data={"key": "new"}))
        assert second["metadata"]["uid"] == first["metadata"]["uid"]
        assert int(second["metadata"]["resourceVersion"]) > int(first["metadata"]["resourceVersion"])
        assert api.get("ConfigMap", "jhub", "profiles") == api.get("configmaps", "jhub", "profiles") == second

    async def test_put_is_as_strict_as_a_request(self, api: EmbeddedAPI) -> None:
        with pytest.raises(StatusError, match='unknown field "dta"'):
            api.put({"kind": "ConfigMap", "metadata": {"name": "x", "namespace": "jhub"}, "dta": {}})
        with pytest.raises(StatusError, match="does not serve Deployment"):
            api.put({"kind": "Deployment", "metadata": {"name": "x"}})
        with pytest.raises(StatusError, match='configmaps "absent" not found'):
            api.get("configmaps", "jhub", "absent")

    async def test_changing_what_was_handed_out_changes_nothing_inside(self, api: EmbeddedAPI) -> None:
        api.put(config_map())["data"]["key"] = "changed"
        api.list("configmaps")[0]["data"]["key"] = "changed"
        assert api.get("configmaps", "jhub", "profiles")["data"] == {"key": "value"}

    async def test_a_port_in_use_is_named(self, api: EmbeddedAPI) -> None:
        with pytest.raises(OSError, match=rf"127\.0\.0\.1:{api.port} is in use; stop what listens there"):
            await EmbeddedAPI(port=api.port).start()

    async def test_the_kubeconfig_leads_here(self, api: EmbeddedAPI) -> None:
        loaded = yaml.safe_load(api.kubeconfig())
        configuration = Configuration()
        await config.load_kube_config_from_dict(loaded, client_configuration=configuration)
        assert configuration.host == api.url
        assert loaded["contexts"][0]["context"]["namespace"] == "jhub"

    async def test_it_can_be_started_again_with_all_that_is_in_it(self) -> None:
        api = EmbeddedAPI(namespaces=("one", "two"))
        async with api:
            port = api.port
            api.put(config_map(namespace="two"))
        async with api, aiohttp.ClientSession() as http:
            assert api.port == port
            async with http.get(f"{api.url}/api/v1/namespaces/two/configmaps/profiles") as response:
                assert response.status == 200

    async def test_every_watch_sees_every_pod_of_a_burst(self, http: aiohttp.ClientSession, core: CoreV1Api) -> None:
        count = 1000

        async def watch() -> set[str]:
            seen = set()
            async with http.get("pods?watch=1&resourceVersion=1") as response:
                while len(seen) < count:
                    seen.add(json.loads(await response.content.readline())["object"]["metadata"]["name"])
            return seen

        watches = [asyncio.create_task(watch()) for _ in range(5)]
        names = [f"jupyter-{n}" for n in range(count)]
        await asyncio.gather(*(core.create_namespaced_pod("jhub", pod(name), _preload_content=False) for name in names))
        assert await asyncio.gather(*watches) == [set(names)] * 5


@pytest.fixture
async def binding_kubelet(core: CoreV1Api) -> AsyncIterator[None]:
    """Binds pods, calls them running, and lets go of those that are being deleted."""

    async def play() -> None:
        node = client.V1ObjectReference(kind="Node", name="node")
        async with Watch() as watch:
            async for event in watch.stream(core.list_pod_for_all_namespaces, timeout_seconds=HANG_SECONDS):
                seen = event["object"]
                where = seen.metadata.name, seen.metadata.namespace
                if event["type"] == "DELETED":
                    continue
                if seen.metadata.deletion_timestamp:
                    with contextlib.suppress(ApiException):
                        await core.delete_namespaced_pod(*where, grace_period_seconds=0)
                elif not seen.spec.node_name:
                    binding = client.V1Binding(metadata=client.V1ObjectMeta(name=where[0]), target=node)
                    await core.create_namespaced_pod_binding(*where, binding, _preload_content=False)
                elif seen.status.phase == "Pending":
                    ready = {"name": "notebook", "ready": True, "image": "x", "imageID": "", "restartCount": 0}
                    running = {"phase": "Running", "podIP": "127.0.0.2", "containerStatuses": [ready]}
                    await core.patch_namespaced_pod_status(*where, {"status": running})

    task = asyncio.create_task(play())
    yield
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)


class TestKubeSpawner:
    @pytest.mark.usefixtures("binding_kubelet")
    async def test_it_starts_polls_and_stops_twice_in_a_row(self, api: EmbeddedAPI) -> None:
        settings = Config(KubeSpawner=PATIENCE)
        settings.KubeSpawner.namespace = "jhub"
        settings.KubeSpawner.storage_pvc_ensure = True
        settings.KubeSpawner.storage_capacity = "1Gi"
        settings.KubeSpawner.mem_limit = "1G"
        for _ in range(2):
            spawner = KubeSpawner(_mock=True, config=settings)
            assert await spawner.start() == "http://127.0.0.2:8888"
            assert await spawner.poll() is None
            [running] = api.list("pods", "jhub")
            assert running["spec"]["containers"][0]["resources"]["limits"] == {"memory": "1073741824"}
            await spawner.stop()
            assert await spawner.poll() == 1
            assert api.list("pods", "jhub") == []
            assert len(api.list("persistentvolumeclaims", "jhub")) == 1

    @pytest.mark.usefixtures("binding_kubelet")
    async def test_what_it_creates_for_internal_ssl_goes_with_the_pod(self, api: EmbeddedAPI, tmp_path: Path) -> None:
        settings = Config(KubeSpawner=PATIENCE)
        settings.KubeSpawner.namespace = "jhub"
        certificate = tmp_path / "certificate"
        certificate.write_text("PEM")
        spawner = KubeSpawner(_mock=True, config=settings)
        spawner.internal_ssl = True
        spawner.cert_paths = dict.fromkeys(("keyfile", "certfile", "cafile"), str(certificate))
        spawner.internal_trust_bundles = {"hub-ca": str(certificate)}
        await spawner.start()
        [secret] = api.list("secrets", "jhub")
        assert base64.b64decode(secret["data"]["ssl.key"]) == b"PEM"
        assert len(api.list("services", "jhub")) == 1
        await spawner.stop()
        assert [*api.list("pods", "jhub"), *api.list("secrets", "jhub"), *api.list("services", "jhub")] == []

    @pytest.mark.usefixtures("binding_kubelet")
    async def test_it_creates_the_namespace_of_a_user(self, api: EmbeddedAPI) -> None:
        settings = Config(KubeSpawner=PATIENCE)
        settings.KubeSpawner.enable_user_namespaces = True
        spawner = KubeSpawner(_mock=True, config=settings)
        await spawner.start()
        assert spawner.namespace not in ("default", "jhub")
        assert len(api.list("pods", spawner.namespace)) == 1
        await spawner.stop(now=True)
        assert api.list("pods") == []


async def test_a_request_without_the_token_is_refused() -> None:
    async with EmbeddedAPI(token="right") as api, aiohttp.ClientSession() as session:
        answers = {}
        for token in ("right", "wrong", ""):
            headers = {"Authorization": f"Bearer {token}"} if token else {}
            async with session.get(f"{api.url}/api/v1/namespaces", headers=headers) as response:
                answers[token] = response.status, (await response.json()).get("message")
        assert answers == {"right": (200, None), "wrong": (401, "Unauthorized"), "": (401, "Unauthorized")}
        assert json.loads(api.kubeconfig())["users"][0]["user"] == {"token": "right"}
