"""What the profiles give is put into KubeSpawner's own manifest, and nothing else of it changes."""

import copy
import json
import logging
from collections.abc import AsyncIterator, Callable
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from kubernetes_asyncio.client import ApiClient, V1EnvVar, V1Pod, V1Volume
from kubespawner.objects import make_pod

from fuzz.limits import call_within
from profiled_spawner.decide.merging import EffectiveProfile, merge_profiles
from profiled_spawner.document.parser import parse_document
from profiled_spawner.errors import PodError
from profiled_spawner.pod.patch import (
    APPLIED,
    OBSERVED,
    SOURCE,
    Injection,
    annotate,
    expand_together,
    find_env_values,
    find_image,
    format_names,
    inject_profile,
    mask_env_values,
)

Send = Callable[[V1Pod], dict[str, Any]]

# Both ways in which an admin's settings leave plain dictionaries in the pod.
CONTAINER_OF_DICTIONARIES = {
    "image": "quay.io/example/other:1",
    "env": [{"name": "HUB", "value": "hub"}, {"name": "MEM_LIMIT", "value": "1073741824"}],
    "resources": {"limits": {"memory": "1Gi", "cpu": 1}, "requests": {"memory": "512Mi"}},
}
POD_OF_DICTIONARIES = {
    "containers": [
        {"name": "sidecar", "image": "busybox", "env": [{"name": "A", "value": "sidecar"}]},
        {"name": "notebook", **CONTAINER_OF_DICTIONARIES},
    ]
}
FORMS = [
    pytest.param({}, id="models"),
    pytest.param({"extra_container_config": CONTAINER_OF_DICTIONARIES}, id="dictionaries-in-the-container"),
    pytest.param({"extra_pod_config": POD_OF_DICTIONARIES}, id="container-as-dictionary"),
    pytest.param({"extra_container_config": {"env": None, "resources": None}}, id="nothing"),
]


@pytest.fixture
async def send() -> AsyncIterator[Send]:
    """A pod as the client sends it to the API server."""
    async with ApiClient() as client:
        yield client.sanitize_for_serialization


def make(**settings: Any) -> V1Pod:
    """A pod as KubeSpawner makes it."""
    defaults = {
        "name": "jupyter-ada",
        "cmd": ["jupyterhub-singleuser"],
        "port": 8888,
        "image": "quay.io/example/nb:3.6",
        "env": {"HUB": "hub", "MEM_LIMIT": "1073741824", "CPU_LIMIT": "1.0"},
        "mem_limit": 1073741824,
        "cpu_limit": 1.0,
        "logger": logging.getLogger(__name__),
    }
    return make_pod(**copy.deepcopy(defaults | settings))


def merge(*profiles: str) -> EffectiveProfile:
    return merge_profiles(parse_document(f"profiles: [{', '.join(profiles)}]").profiles)


def expand(template: str) -> str:
    return template.format(username="ada", user_server="ada--lab")


def inject(pod: V1Pod, *profiles: str) -> V1Pod:
    return inject_profile(pod, merge(*profiles), "configmap/jhub/profiles@1", expand).pod


def find_notebook(sent: dict[str, Any]) -> dict[str, Any]:
    (container,) = (each for each in sent["spec"]["containers"] if each["name"] == "notebook")
    return container


def find_env(sent: dict[str, Any]) -> dict[str, Any]:
    """The notebook's variables by name: their values, or where these come from."""
    env = {each["name"]: each.get("value", each.get("valueFrom")) for each in find_notebook(sent)["env"]}
    assert len(env) == len(find_notebook(sent)["env"])
    return env


def read_order(pod: V1Pod) -> list[str]:
    return [variable.name for variable in pod.spec.containers[0].env]


# Variables


@pytest.mark.parametrize("form", FORMS)
def test_the_notebook_gets_the_variables_once_each(form: dict[str, Any], send: Send) -> None:
    pod = make(**form)
    before = find_notebook(send(pod)).get("env") or []

    after = find_env(send(inject(pod, "{env: {A: a, HUB: profile}}")))

    assert after == {each["name"]: each["value"] for each in before} | {"A": "a", "HUB": "profile"}


def test_only_the_notebook_gets_them(send: Send) -> None:
    pod = make(
        init_containers=[{"name": "init", "image": "busybox", "env": [{"name": "A", "value": "init"}]}],
        extra_containers=[{"name": "sidecar", "image": "busybox", "env": [{"name": "A", "value": "sidecar"}]}],
    )
    before, after = send(pod), send(inject(pod, "{env: {A: a}, resources: {mem_limit: 2Gi}}"))

    assert find_env(after)["A"] == "a"
    assert after["spec"]["containers"][1:] == before["spec"]["containers"][1:]
    assert after["spec"]["initContainers"] == before["spec"]["initContainers"]


def test_the_notebook_is_found_by_its_name_wherever_it_stands(send: Send) -> None:
    after = send(inject(make(extra_pod_config=POD_OF_DICTIONARIES), "{env: {A: a}}"))

    sidecar, notebook = after["spec"]["containers"]
    assert sidecar == POD_OF_DICTIONARIES["containers"][0]
    assert {"name": "A", "value": "a"} in notebook["env"]


def test_a_notebook_of_another_name_is_the_first_container(send: Send) -> None:
    pod = make(extra_container_config={"name": "jupyter"}, extra_containers=[{"name": "sidecar", "image": "busybox"}])

    jupyter, sidecar = send(inject(pod, "{env: {A: a}}"))["spec"]["containers"]

    assert {"name": "A", "value": "a"} in jupyter["env"]
    assert "env" not in sidecar


@pytest.mark.parametrize(
    "value",
    [
        pytest.param('{"a": 1}', id="json"),
        pytest.param("${HOME}/work", id="shell"),
        pytest.param("{}", id="empty-braces"),
        pytest.param("{username}", id="name-of-a-field"),
        pytest.param("$$(A) $A %s %(a)s", id="dollars-and-percent-signs"),
        pytest.param("", id="empty"),
        pytest.param("one\ntwo\n", id="lines"),
        pytest.param("für 東京 🐘", id="beyond-ascii"),
        pytest.param("80", id="digits"),
    ],
)
def test_values_are_literal(value: str, send: Send) -> None:
    assert find_env(send(inject(make(), f"{{env: {{A: {json.dumps(value, ensure_ascii=False)}}}}}")))["A"] == value


@pytest.mark.parametrize(
    "source",
    [
        pytest.param({"secretKeyRef": {"name": "keys", "key": "a"}}, id="secret"),
        pytest.param({"secretKeyRef": {"name": "keys", "key": "a", "optional": True}}, id="optional-secret"),
        pytest.param({"configMapKeyRef": {"name": "team", "key": "a", "optional": False}}, id="configmap"),
        pytest.param({"fieldRef": {"fieldPath": "status.podIP"}}, id="field"),
        pytest.param({"fieldRef": {"fieldPath": "metadata.name", "apiVersion": "v1"}}, id="field-of-a-version"),
        pytest.param({"resourceFieldRef": {"resource": "limits.cpu"}}, id="resource"),
        pytest.param(
            {"resourceFieldRef": {"resource": "limits.memory", "containerName": "notebook", "divisor": "1Mi"}},
            id="resource-of-a-container",
        ),
    ],
)
@pytest.mark.parametrize("form", FORMS)
def test_a_value_comes_from_where_the_profile_says(form: dict[str, Any], source: dict[str, Any], send: Send) -> None:
    profile = f"{{env: [{{name: A, valueFrom: {json.dumps(source)}}}]}}"

    assert find_env(send(inject(make(**form), profile)))["A"] == source


@pytest.mark.parametrize(
    ("own", "profile", "given"),
    [
        pytest.param({"valueFrom": {"fieldRef": {"fieldPath": "metadata.name"}}}, "{A: a}", "a", id="value"),
        pytest.param(
            "hub",
            "[{name: A, valueFrom: {fieldRef: {fieldPath: metadata.name}}}]",
            {"fieldRef": {"fieldPath": "metadata.name"}},
            id="value-from",
        ),
    ],
)
def test_a_value_replaces_where_the_hub_took_it_from_and_the_other_way_round(
    own: Any, profile: str, given: Any, send: Send
) -> None:
    assert find_env(send(inject(make(env={"A": own}), f"{{env: {profile}}}")))["A"] == given


@pytest.mark.parametrize("form", FORMS)
def test_null_removes_the_hubs_variable(form: dict[str, Any], send: Send) -> None:
    env = find_env(send(inject(make(**form), "{env: {HUB: null, NOWHERE: null, A: a}}")))

    assert "HUB" not in env
    assert "NOWHERE" not in env
    assert env["A"] == "a"


def test_a_variable_that_the_hub_has_twice_is_there_once(send: Send) -> None:
    twice = {"env": [{"name": "A", "value": "first"}, {"name": "B", "value": "b"}, {"name": "A", "value": "last"}]}

    # As in Kubernetes, the last counts.
    assert find_env(send(inject(make(extra_container_config=twice), "{}"))) == {"A": "last", "B": "b"}


# References


@pytest.mark.parametrize(
    ("own", "profile", "order"),
    [
        pytest.param({"B": "b"}, "{A: $(B)}", ["B", "A"], id="a-profiles-to-the-hubs"),
        pytest.param({"A": "$(Z)"}, "{Z: z}", ["Z", "A"], id="the-hubs-to-a-profiles"),
        pytest.param({}, "{A: $(B), B: b}", ["B", "A"], id="a-profiles-to-a-profiles"),
        pytest.param({}, "{A: '$(B)/$(C)', B: b, C: c}", ["B", "C", "A"], id="several"),
        pytest.param({"B": "$(C)"}, "{A: $(B), C: c}", ["C", "B", "A"], id="chain-through-both"),
        pytest.param({}, "{A: $(B), B: $(C), C: $(D), D: d}", ["D", "C", "B", "A"], id="chain"),
        pytest.param({}, "{A: $$(B), B: b}", ["A", "B"], id="escaped"),
        pytest.param({}, "{A: $$$(B), B: b}", ["B", "A"], id="escape-before-a-reference"),
        pytest.param({}, "{A: $(A), B: b}", ["A", "B"], id="to-itself"),
        pytest.param({}, "{A: $(NOWHERE), B: b}", ["A", "B"], id="to-nothing"),
        pytest.param({}, "{A: '$(B', B: b}", ["A", "B"], id="left-open"),
        pytest.param({}, "{A: $(), B: b}", ["A", "B"], id="empty"),
        pytest.param({"A": "a", "C": "c"}, "{B: b}", ["A", "C", "B"], id="none-keeps-the-order"),
        pytest.param({"B": "b", "A": "$(B)"}, "{B: profile}", ["B", "A"], id="to-what-a-profile-replaced"),
        pytest.param({"A": "a", "B": "b"}, "{A: $(B)}", ["B", "A"], id="from-what-a-profile-replaced"),
        pytest.param({"A": "$(B)", "B": "b"}, "{B: null}", ["A"], id="to-what-a-profile-removed"),
    ],
)
def test_what_is_referred_to_comes_first(own: dict[str, str], profile: str, order: list[str]) -> None:
    pod = make(env=own, mem_limit=None, cpu_limit=None)

    assert read_order(inject(pod, f"{{env: {profile}}}")) == order


@pytest.mark.parametrize(
    ("profile", "names", "behind"),
    [
        pytest.param("{A: $(B), B: $(A)}", ["A", "B"], [], id="two"),
        pytest.param("{A: $(B), B: $(C), C: $(A)}", ["A", "B", "C"], [], id="three"),
        pytest.param("{A: $(B), B: $(A), C: $(A), D: d}", ["A", "B", "C", "D"], [("A", "C")], id="and-one-behind-it"),
        pytest.param("{A: $(B)$(D), B: $(A), D: d}", ["A", "B", "D"], [("D", "A")], id="and-one-before-it"),
    ],
)
def test_a_circle_of_references_loses_and_doubles_nothing(
    profile: str, names: list[str], behind: list[tuple[str, str]]
) -> None:
    order = read_order(inject(make(env={}, mem_limit=None, cpu_limit=None), f"{{env: {profile}}}"))

    assert sorted(order) == names
    assert [pair for pair in behind if order.index(pair[0]) > order.index(pair[1])] == []


def find_references(value: str) -> list[str]:
    """What Kubernetes finds in a value: https://github.com/kubernetes/kubernetes/blob/v1.34.0/third_party/forked/golang/expansion/expand.go."""
    found, position = [], 0
    while position < len(value) - 1:
        end = value.find(")", position)
        if value[position] != "$":
            position += 1
        elif value[position + 1] == "(" and end >= 0:
            found.append(value[position + 2 : end])
            position = end + 1
        else:
            position += 2
    return found


@given(st.lists(st.sampled_from(["$", "$", "(", ")", "$(B)", "$(C)", "x"]), max_size=12).map("".join))
@settings(deadline=None)
def test_references_are_those_that_kubernetes_finds(value: str) -> None:
    pod = make(env={}, mem_limit=None, cpu_limit=None)

    order = read_order(inject(pod, f"{{env: {{A: {json.dumps(value)}, B: b, C: c}}}}"))

    assert order == list(dict.fromkeys([*(each for each in find_references(value) if each in ("B", "C")), *"ABC"]))


@pytest.mark.parametrize("value", ["$(" * 65_000, "$" * 130_000, "$$(" * 43_000, f"{'$(' * 65_000})", "$()" * 43_000])
def test_references_are_found_in_a_time_that_grows_with_the_value(value: str) -> None:
    # A document may not have so many; the hub's own settings may.
    pod = make(env={})
    pod.spec.containers[0].env = [V1EnvVar(name="A", value=value)]

    assert call_within(lambda: "A" in read_order(inject(pod, "{}")), cpu_seconds=3)


def test_a_chain_may_be_as_long_as_the_environment() -> None:
    pod = make(env={}, mem_limit=None, cpu_limit=None)
    pod.spec.containers[0].env = [V1EnvVar(name=f"A{number}", value=f"$(A{number + 1})") for number in range(5_000)]

    assert read_order(inject(pod, "{}")) == [f"A{number}" for number in reversed(range(5_000))]


variables = st.dictionaries(
    st.sampled_from("ABCDEFGH"), st.lists(st.sampled_from("ABCDEFGHX").map("$({})".format)).map("".join)
)


@given(variables, variables)
@settings(deadline=None)
def test_every_variable_stands_behind_what_it_refers_to_unless_that_refers_back(
    own: dict[str, str], given: dict[str, str]
) -> None:
    env = own | given
    profile = ", ".join(f"{name}: '{value}'" for name, value in given.items())

    order = read_order(inject(make(env=own, mem_limit=None, cpu_limit=None), f"{{env: {{{profile}}}}}"))

    reached: dict[str, set[str]] = {name: {other for other in env if f"$({other})" in env[name]} for name in env}
    for _ in env:
        reached = {name: found.union(*(reached[other] for other in found)) for name, found in reached.items()}
    early = {
        (name, other)
        for name in env
        for other in env
        if f"$({other})" in env[name] and name not in reached[other] and order.index(other) > order.index(name)
    }
    assert sorted(order) == sorted(env)
    assert early == set()


# Resources


@pytest.mark.parametrize(
    ("settings", "profile", "resources"),
    [
        pytest.param(
            {},
            "{resources: {mem_limit: 2Gi, cpu_guarantee: 500m}}",
            {"limits": {"memory": "2Gi", "cpu": 1.0}, "requests": {"cpu": "500m"}},
            id="over-the-hubs",
        ),
        pytest.param(
            {"mem_guarantee": 536870912, "extra_resource_limits": {"nvidia.com/gpu": "1"}},
            "{env: {A: a}}",
            {
                "limits": {"memory": 1073741824, "cpu": 1.0, "nvidia.com/gpu": "1"},
                "requests": {"memory": 536870912},
            },
            id="what-nobody-mentions-is-as-it-was",
        ),
        pytest.param(
            {"extra_container_config": CONTAINER_OF_DICTIONARIES},
            "{resources: {cpu_limit: 250m}}",
            {"limits": {"memory": "1Gi", "cpu": "250m"}, "requests": {"memory": "512Mi"}},
            id="dictionaries",
        ),
        pytest.param(
            {"extra_pod_config": POD_OF_DICTIONARIES},
            "{resources: {mem_limit: null, mem_guarantee: 1Gi}}",
            {"limits": {"cpu": 1}, "requests": {"memory": "1Gi"}},
            id="container-as-dictionary",
        ),
        pytest.param(
            {"extra_container_config": {"resources": None}},
            "{resources: {limits: {nvidia.com/gpu: 1}}}",
            {"limits": {"nvidia.com/gpu": "1"}, "requests": {"nvidia.com/gpu": "1"}},
            id="nothing",
        ),
        pytest.param(
            {"extra_resource_limits": {"nvidia.com/gpu": 1}, "extra_resource_guarantees": {"nvidia.com/gpu": 1}},
            "{gpu: 0}",
            {"limits": {"memory": 1073741824, "cpu": 1.0}, "requests": {}},
            id="no-gpu",
        ),
        pytest.param(
            {"extra_container_config": {"resources": None}},
            "{gpu: 0}",
            {"limits": {}, "requests": {}},
            id="no-gpu-where-there-is-none",
        ),
        pytest.param(
            {"mem_guarantee": 1073741824},
            "{resources: {mem_limit: 512Mi}}",
            {"limits": {"memory": "512Mi", "cpu": 1.0}, "requests": {"memory": "512Mi"}},
            id="guarantee-lowered-to-the-limit",
        ),
        pytest.param(
            {"cpu_guarantee": 0.5},
            "{resources: {cpu_limit: null, cpu_guarantee: null, mem_limit: null}}",
            {"limits": {}, "requests": {}},
            id="taken-away",
        ),
        pytest.param(
            {"cpu_guarantee": 0.1},
            "{resources: {cpu_limit: 100m}}",
            {"limits": {"memory": 1073741824, "cpu": "100m"}, "requests": {"cpu": 0.1}},
            id="the-hubs-decimals-are-exact",
        ),
        pytest.param(
            {"cpu_limit": 1 / 3},
            "{resources: {cpu_guarantee: 2}}",
            {"limits": {"memory": 1073741824, "cpu": 1 / 3}, "requests": {"cpu": "0.3333333333333333"}},
            id="the-hubs-third-of-a-core",
        ),
        pytest.param(
            {"cpu_limit": 1 / 3},
            "{resources: {cpu_limit: null}}",
            {"limits": {"memory": 1073741824}, "requests": {}},
            id="the-hubs-third-of-a-core-taken-away",
        ),
    ],
)
def test_resources_are_put_over_the_hubs(
    settings: dict[str, Any], profile: str, resources: dict[str, Any], send: Send
) -> None:
    sent = find_notebook(send(inject(make(**settings), profile)))["resources"]

    assert {kind: sent.get(kind) or {} for kind in ("limits", "requests")} == resources


@pytest.mark.parametrize(
    ("settings", "profile", "env"),
    [
        pytest.param(
            {},
            "{resources: {mem_limit: 2Gi, mem_guarantee: 1G, cpu_limit: 500m, cpu_guarantee: 0.25}}",
            {"MEM_LIMIT": "2147483648", "MEM_GUARANTEE": "1000000000", "CPU_LIMIT": "0.5", "CPU_GUARANTEE": "0.25"},
            id="all",
        ),
        pytest.param({}, "{env: {A: a}}", {"MEM_LIMIT": "1073741824", "CPU_LIMIT": "1.0"}, id="as-the-hub-wrote-them"),
        pytest.param(
            {},
            "{resources: {cpu_limit: 2}}",
            {"MEM_LIMIT": "1073741824", "CPU_LIMIT": "2"},
            id="only-what-is-mentioned",
        ),
        pytest.param(
            {},
            "{resources: {limits: {memory: 1e9}}}",
            {"MEM_LIMIT": "1000000000", "CPU_LIMIT": "1.0"},
            id="kubernetes-form",
        ),
        pytest.param({}, "{resources: {mem_limit: null, cpu_limit: ~}}", {}, id="taken-away"),
        pytest.param(
            {"env": {"MEM_GUARANTEE": "2147483648"}, "mem_guarantee": 2147483648, "mem_limit": None, "cpu_limit": None},
            "{resources: {mem_limit: 1Gi}}",
            {"MEM_LIMIT": "1073741824", "MEM_GUARANTEE": "1073741824"},
            id="guarantee-lowered-to-the-limit",
        ),
        pytest.param(
            {},
            "{resources: {mem_guarantee: 2Gi}}",
            {"MEM_LIMIT": "1073741824", "MEM_GUARANTEE": "1073741824", "CPU_LIMIT": "1.0"},
            id="guarantee-lowered-to-the-hubs-limit",
        ),
        pytest.param(
            {},
            "{resources: {mem_guarantee: 0}}",
            {"MEM_LIMIT": "1073741824", "MEM_GUARANTEE": "0", "CPU_LIMIT": "1.0"},
            id="zero",
        ),
        pytest.param(
            {"extra_container_config": CONTAINER_OF_DICTIONARIES},
            "{resources: {mem_limit: 2Gi}}",
            {"MEM_LIMIT": "2147483648"},
            id="dictionaries",
        ),
        pytest.param(
            {"extra_pod_config": POD_OF_DICTIONARIES},
            "{resources: {cpu_limit: 250m}}",
            {"MEM_LIMIT": "1073741824", "CPU_LIMIT": "0.25"},
            id="container-as-dictionary",
        ),
    ],
)
def test_the_hubs_variables_agree_with_the_resources(
    settings: dict[str, Any], profile: str, env: dict[str, str], send: Send
) -> None:
    sent = find_env(send(inject(make(**settings), profile)))

    assert {name: value for name, value in sent.items() if name.startswith(("MEM_", "CPU_"))} == env


def test_resources_of_dynamic_allocation_are_kept(send: Send) -> None:
    claims = {"resources": {"claims": [{"name": "gpu"}], "limits": {"memory": "1Gi"}}}

    sent = find_notebook(send(inject(make(extra_container_config=claims), "{resources: {mem_limit: 2Gi}}")))

    assert sent["resources"] == {"claims": [{"name": "gpu"}], "limits": {"memory": "2Gi"}, "requests": {}}


def test_an_amount_that_is_no_quantity_is_left_for_kubernetes_to_refuse(send: Send) -> None:
    wrong = {"resources": {"limits": {"memory": "1GB", "cpu": 1}}}

    sent = find_notebook(send(inject(make(extra_container_config=wrong), "{resources: {cpu_limit: 2}}")))

    assert sent["resources"]["limits"] == {"memory": "1GB", "cpu": "2"}


def test_the_settled_resources_are_told() -> None:
    injection = inject_profile(
        make(mem_guarantee=2147483648), merge("{name: small, resources: {mem_limit: 1Gi}}"), None, str
    )

    assert {resource: str(setting.value) for resource, setting in injection.resources.requests.items()} == {
        "memory": "1Gi"
    }
    assert [str(conflict) for conflict in injection.resources.conflicts] == [
        "memory: the guarantee of 2147483648 (the hub) is above the limit of 1Gi (small); the limit is used for both"
    ]


# The pod around it


@pytest.mark.parametrize("form", FORMS)
def test_the_pod_that_is_given_stays_as_it_was(form: dict[str, Any], send: Send) -> None:
    pod, untouched = make(annotations={"own": "x"}, **form), make(annotations={"own": "x"}, **form)
    effective = merge("{env: {A: a, HUB: null}, resources: {mem_limit: 2Gi, cpu_limit: null}}")

    after = inject_profile(pod, effective, "file/p.yaml", str).pod
    masked = mask_env_values(pod)

    assert after != pod
    assert masked is not pod
    assert pod == untouched
    assert send(pod) == send(untouched)
    assert effective == merge("{env: {A: a, HUB: null}, resources: {mem_limit: 2Gi, cpu_limit: null}}")


@pytest.mark.parametrize("form", FORMS)
def test_nothing_else_of_the_pod_changes(form: dict[str, Any], send: Send) -> None:
    pod = make(annotations={"own": "x"}, labels={"app": "jupyterhub"}, node_selector={"disk": "ssd"}, **form)
    before = send(pod)
    after = send(inject(pod, "{env: {A: a}, resources: {mem_limit: 2Gi}}"))

    for sent in (before, after):
        for field in ("env", "resources"):
            find_notebook(sent).pop(field, None)
        for annotation in (APPLIED, SOURCE):
            sent["metadata"]["annotations"].pop(annotation, None)
    assert after == before


@pytest.mark.parametrize("form", FORMS[:3])
def test_without_profiles_only_the_annotations_are_added(form: dict[str, Any], send: Send) -> None:
    pod = make(annotations={"own": "x"}, **form)

    sent = send(inject_profile(pod, merge(), "file/p.yaml", str).pod)

    assert sent["metadata"]["annotations"] == {"own": "x", APPLIED: "[]", SOURCE: "file/p.yaml"}
    assert sent["spec"] == send(pod)["spec"]


def test_one_profile_serves_many_pods(send: Send) -> None:
    effective = merge("{env: {A: $(HUB)}, resources: {limits: {nvidia.com/gpu: 1}}}")

    first = send(inject_profile(make(), effective, None, str).pod)
    second = send(inject_profile(make(), effective, None, str).pod)

    assert first == second


# Annotations


def test_annotations_name_the_profiles_and_the_source_and_no_value() -> None:
    pod = inject(make(), "{name: globals, env: {A: canary}}", "{env: {B: canary}}", "{name: 'für \"東京\"'}")

    annotations = pod.metadata.annotations
    assert annotations == {
        APPLIED: '["globals", "profiles[1]", "für \\"東京\\""]',
        SOURCE: "configmap/jhub/profiles@1",
    }
    assert "canary" not in str(annotations)


def test_no_source_is_annotated_where_there_is_none() -> None:
    annotations = inject_profile(make(), merge("{name: a}"), None, str).pod.metadata.annotations

    assert annotations == {APPLIED: '["a"]'}


@pytest.mark.parametrize("own", [{}, {"hub": "own"}])
def test_an_observation_is_one_annotation_more_and_nothing_else(own: dict[str, str], send: Send) -> None:
    pod = make(annotations=own, labels={"hub": "own"})
    before = send(pod)

    after = send(annotate(pod, OBSERVED, "what would have come of it"))

    assert send(pod) == before
    assert after.pop("metadata") == before.pop("metadata") | {
        "annotations": own | {OBSERVED: "what would have come of it"}
    }
    assert after == before


def test_the_list_of_profiles_is_cut_at_4_kib() -> None:
    names = [f"profile-{number:04}-für-東京" for number in range(1000)]
    profiles = [f"{{name: {name}}}" for name in names]

    applied = inject(make(), *profiles).metadata.annotations[APPLIED]

    *kept, last = json.loads(applied)
    assert last == "…"
    assert kept == names[: len(kept)]
    assert len(applied.encode()) <= 4096
    assert len(f'{applied[:-1]}, "{names[len(kept)]}"]'.encode()) > 4096


@pytest.mark.parametrize(
    ("names", "max_bytes", "written"),
    [
        pytest.param([], 2, "[]", id="none"),
        pytest.param(["a", "b"], 10, '["a", "b"]', id="all-that-fit"),
        pytest.param(["a", "bc"], 10, '["…"]', id="one-byte-too-many"),
        pytest.param(["a", "bcdef"], 13, '["a", "…"]', id="the-first-of-them"),
        pytest.param(["x" * 100], 20, '["…"]', id="not-even-the-first"),
        pytest.param(["東"], 7, '["東"]', id="bytes-count"),
        pytest.param(['"'], 10, r'["\""]', id="quotes"),
    ],
)
def test_names_are_a_json_list_within_so_many_bytes(names: list[str], max_bytes: int, written: str) -> None:
    assert format_names(names, max_bytes=max_bytes) == written
    assert len(written.encode()) <= max_bytes


@given(st.lists(st.text(st.characters(exclude_categories=["Cs"]))), st.integers(7, 60))
@settings(deadline=None)
def test_names_are_json_and_never_too_long(names: list[str], max_bytes: int) -> None:
    written = format_names(names, max_bytes=max_bytes)

    read = json.loads(written)
    assert len(written.encode()) <= max_bytes
    assert read == names or (read[-1] == "…" and read[:-1] == names[: len(read) - 1])


# What may be seen


@pytest.mark.parametrize(
    ("form", "image"),
    [
        pytest.param({}, "quay.io/example/nb:3.6", id="as-asked-for"),
        pytest.param({"extra_container_config": {"image": "q:1"}}, "q:1", id="overridden-in-the-container"),
        pytest.param({"extra_pod_config": POD_OF_DICTIONARIES}, "quay.io/example/other:1", id="overridden-in-the-pod"),
        pytest.param({"extra_containers": [{"name": "sidecar", "image": "b"}]}, "quay.io/example/nb:3.6", id="sidecar"),
        pytest.param({"image": None}, "", id="none"),
    ],
)
def test_the_image_is_the_notebooks_after_every_override(form: dict[str, Any], image: str) -> None:
    assert find_image(make(**form)) == image


@pytest.mark.parametrize("form", FORMS)
def test_values_are_masked_in_logs(form: dict[str, Any], send: Send) -> None:
    secret = "[{name: C, valueFrom: {secretKeyRef: {name: keys, key: c}}}, {name: D, value: ''}]"
    pod = inject(make(**form), "{env: {A: canary, B: 'x=canary'}}", f"{{env: {secret}}}")
    masked = mask_env_values(pod)

    assert "canary" in pod.to_str()
    assert "canary" not in masked.to_str()
    env = find_env(send(masked))
    assert env.keys() == find_env(send(pod)).keys()
    assert (env["A"], env["B"], env["D"]) == ("***", "***", "")
    assert env["C"] == {"secretKeyRef": {"name": "keys", "key": "c"}}


def test_values_of_other_containers_are_masked_too() -> None:
    sidecar = {"name": "sidecar", "image": "busybox", "env": [{"name": "A", "value": "canary"}]}

    assert "canary" not in mask_env_values(make(init_containers=[sidecar])).to_str()
    assert "canary" not in mask_env_values(make(extra_containers=[sidecar])).to_str()
    assert "canary" not in mask_env_values(make(extra_pod_config={"containers": [sidecar]})).to_str()


def test_values_are_those_that_the_hub_does_not_set_itself() -> None:
    def variables(name: str) -> list[dict[str, Any]]:
        return [{"name": "A", "value": name}, {"name": "JUPYTERHUB_USER", "value": "ada"}, {"name": "B"}]

    pod = make(
        env={"A": "notebook", "JUPYTERHUB_USER": "ada"},
        init_containers=[{"name": "init", "image": "busybox", "env": variables("init")}],
        extra_containers=[{"name": "sidecar", "image": "busybox", "env": variables("sidecar")}],
    )

    assert find_env_values(pod) == {"notebook", "init", "sidecar"}
    assert find_env_values(make(env={})) == set()


def test_no_repr_holds_a_value() -> None:
    injection = inject_profile(make(), merge("{name: one, env: {A: canary}, resources: {cpu_limit: 2}}"), None, str)

    assert isinstance(injection, Injection)
    assert "canary" not in repr(injection)


# Where it runs, and what it is given there

SECTIONS = """{
    name: whole,
    env_from: [{secretRef: {name: "{username}-s3", optional: true}, prefix: S3_}],
    gpu: 1,
    node_selector: {pool: gpu, own: profile},
    node_tolerations: [{key: gpu, operator: Exists}, {key: own, operator: Exists, effect: NoSchedule}],
    node_affinity: {
        requiredDuringSchedulingIgnoredDuringExecution: {
            nodeSelectorTerms: [{matchExpressions: [{key: zone, operator: In, values: [a, b]}]}]
        },
        preferredDuringSchedulingIgnoredDuringExecution: [
            {weight: 5, preference: {matchExpressions: [{key: disk, operator: Exists}]}}
        ]
    },
    volumes: [
        {name: team, mountPath: "/team/{username}", subPath: "{user_server}", readOnly: true,
         persistentVolumeClaim: {claimName: "claim-{username}"}}
    ],
    labels: {team: forecasting, own: profile},
    annotations: {example.org/note: "{username}"}
}"""
OWN = {
    "node_selector": {"own": "hub"},
    "tolerations": [{"key": "own", "operator": "Exists", "effect": "NoSchedule"}, {"key": "other"}],
    "node_affinity_required": [
        {"matchExpressions": [{"key": "own", "operator": "Exists"}]},
        {"matchFields": [{"key": "metadata.name", "operator": "In", "values": ["n"]}]},
    ],
    "node_affinity_preferred": [{"weight": 1, "preference": {"matchExpressions": []}}],
    "pod_anti_affinity_required": [{"topologyKey": "own"}],
    "volumes": [{"name": "home", "persistentVolumeClaim": {"claimName": "claim-ada"}}],
    "volume_mounts": [{"name": "home", "mountPath": "/home/jovyan"}],
    "labels": {"own": "hub", "app": "jupyterhub"},
    "extra_container_config": {"envFrom": [{"configMapRef": {"name": "own"}}]},
}
# The same, as an admin may have written it in Kubernetes' own spelling.
OWN_AS_DICTIONARIES = {
    "labels": OWN["labels"],
    "extra_container_config": {
        **OWN["extra_container_config"],
        "volumeMounts": OWN["volume_mounts"],
    },
    "extra_pod_config": {
        "nodeSelector": OWN["node_selector"],
        "tolerations": OWN["tolerations"],
        "volumes": OWN["volumes"],
        "affinity": {
            "nodeAffinity": {
                "requiredDuringSchedulingIgnoredDuringExecution": {"nodeSelectorTerms": OWN["node_affinity_required"]},
                "preferredDuringSchedulingIgnoredDuringExecution": OWN["node_affinity_preferred"],
            },
            "podAntiAffinity": {"requiredDuringSchedulingIgnoredDuringExecution": OWN["pod_anti_affinity_required"]},
        },
    },
}


@pytest.mark.parametrize("own", [pytest.param(OWN, id="models"), pytest.param(OWN_AS_DICTIONARIES, id="dictionaries")])
def test_every_section_goes_into_the_pod_beside_the_hubs_own(own: dict[str, Any], send: Send) -> None:
    sent = send(inject(make(**own), SECTIONS))

    spec, notebook = sent["spec"], find_notebook(sent)
    assert notebook["envFrom"] == [
        {"configMapRef": {"name": "own"}},
        {"secretRef": {"name": "ada-s3", "optional": True}, "prefix": "S3_"},
    ]
    assert notebook["resources"]["limits"]["nvidia.com/gpu"] == "1"
    assert spec["nodeSelector"] == {"own": "profile", "pool": "gpu"}
    assert spec["tolerations"] == [*OWN["tolerations"], {"key": "gpu", "operator": "Exists"}]
    zone = {"key": "zone", "operator": "In", "values": ["a", "b"]}
    affinity = spec["affinity"]["nodeAffinity"]
    assert affinity["requiredDuringSchedulingIgnoredDuringExecution"]["nodeSelectorTerms"] == [
        {"matchExpressions": [{"key": "own", "operator": "Exists"}, zone]},
        {
            "matchExpressions": [zone],
            "matchFields": [{"key": "metadata.name", "operator": "In", "values": ["n"]}],
        },
    ]
    assert [each["weight"] for each in affinity["preferredDuringSchedulingIgnoredDuringExecution"]] == [1, 5]
    assert spec["affinity"]["podAntiAffinity"] == {
        "requiredDuringSchedulingIgnoredDuringExecution": [{"topologyKey": "own"}]
    }
    assert spec["volumes"] == [
        {"name": "home", "persistentVolumeClaim": {"claimName": "claim-ada"}},
        {"name": "team", "persistentVolumeClaim": {"claimName": "claim-ada"}},
    ]
    assert notebook["volumeMounts"] == [
        {"name": "home", "mountPath": "/home/jovyan"},
        {"name": "team", "mountPath": "/team/ada", "subPath": "ada--lab", "readOnly": True},
    ]
    assert sent["metadata"]["labels"] == {"own": "profile", "app": "jupyterhub", "team": "forecasting"}
    # Values are literal where they name no object and no path.
    assert sent["metadata"]["annotations"]["example.org/note"] == "{username}"


def test_neither_the_pod_nor_the_profiles_are_changed_by_any_section(send: Send) -> None:
    pod, effective = make(**OWN), merge(SECTIONS)
    before = copy.deepcopy(send(pod))

    first = send(inject_profile(pod, effective, None, expand).pod)
    second = send(inject_profile(pod, effective, None, expand).pod)

    assert send(pod) == before
    assert first == second


@pytest.mark.parametrize(
    ("volume", "what"),
    [
        pytest.param("{name: home, mountPath: /x, emptyDir: {}}", "whole has a volume 'home', and so has", id="name"),
        pytest.param(
            "{name: x, mountPath: /home/jovyan, emptyDir: {}}", "whole mounts .* /home/jovyan, and", id="path"
        ),
        pytest.param("{name: x, mountPath: /home/jovyan/, emptyDir: {}}", "whole mounts .* /home/jovyan, and", id="/"),
    ],
)
def test_a_volume_that_the_pod_has_already_is_an_error_that_says_which(volume: str, what: str) -> None:
    with pytest.raises(PodError, match=what):
        inject(make(**OWN), f"{{name: whole, volumes: [{volume}]}}")


def test_two_templates_may_come_to_the_same_path_which_is_an_error() -> None:
    volumes = '{name: a, mountPath: "/{username}", emptyDir: {}}, {name: b, mountPath: /ada, emptyDir: {}}'

    with pytest.raises(PodError, match="mounts a volume at /ada, and so does the pod already"):
        inject(make(), f"{{volumes: [{volumes}]}}")


def test_a_secret_of_a_variable_is_found_by_the_servers_own_name(send: Send) -> None:
    env = '{A: {valueFrom: {secretKeyRef: {name: "{username}-key", key: "k"}}}}'

    assert find_env(send(inject(make(), f"{{env: {env}}}")))["A"] == {"secretKeyRef": {"name": "ada-key", "key": "k"}}


def test_a_kind_of_volume_that_the_client_does_not_know_is_sent_all_the_same(
    send: Send, monkeypatch: pytest.MonkeyPatch
) -> None:
    known = {attribute: manifest for attribute, manifest in V1Volume.attribute_map.items() if manifest != "nfs"}
    monkeypatch.setattr(V1Volume, "attribute_map", known)

    sent = send(inject(make(), "{volumes: [{name: a, mountPath: /a, nfs: {server: s, path: /p}}]}"))

    assert sent["spec"]["volumes"] == [{"name": "a", "nfs": {"server": "s", "path": "/p"}}]


@pytest.mark.parametrize(
    ("volume", "sent"),
    [
        pytest.param(
            "nfs: {server: 'nfs-{username}', path: '/export/{username}'}",
            {"nfs": {"server": "nfs-ada", "path": "/export/ada"}},
            id="nfs",
        ),
        pytest.param("hostPath: {path: '/data/{username}'}", {"hostPath": {"path": "/data/ada"}}, id="hostPath"),
        pytest.param(
            "csi: {driver: s3, volumeAttributes: {bucket: 'b-{username}', '{username}': '{{x}}'}}",
            {"csi": {"driver": "s3", "volumeAttributes": {"bucket": "b-ada", "{username}": "{x}"}}},
            id="csi",
        ),
        pytest.param(
            "configMap: {name: a, items: [{key: k, path: 'of/{username}'}]}",
            {"configMap": {"name": "a", "items": [{"key": "k", "path": "of/ada"}]}},
            id="file",
        ),
    ],
)
def test_fields_are_expanded_wherever_kubespawner_does_it_in_its_own_volumes(
    send: Send, volume: str, sent: dict[str, Any]
) -> None:
    pod = send(inject(make(), f"{{volumes: [{{name: a, mountPath: /a, {volume}}}]}}"))

    assert pod["spec"]["volumes"] == [{"name": "a"} | sent]


def test_all_templates_are_expanded_in_one_go_as_kubespawner_expands_each() -> None:
    asked = []

    def strip(template: str) -> str:
        asked.append(template)
        text = template.format(username="ada", user_server="ada-")
        return text if template.endswith("-") else text.rstrip("-")

    paths = ["{user_server}", "{user_server}-", "of/{username}", "{{x}}-{username}", "{username}-X"]
    volumes = [f"{{name: a{at}, mountPath: '/{path}', emptyDir: {{}}}}" for at, path in enumerate(paths)]

    effective = merge(f"{{volumes: [{', '.join(volumes)}]}}")
    pod = inject_profile(make(), effective, None, expand_together(effective, strip)).pod

    assert len(asked) == 1
    mounts = pod.spec.containers[0].volume_mounts
    assert [mount.mount_path for mount in mounts] == [strip(f"/{path}") for path in paths]


def test_a_name_that_leads_out_of_a_path_is_an_error() -> None:
    profile = "{volumes: [{name: a, mountPath: /a, nfs: {server: s, path: '/home/{unescaped_username}'}}]}"

    with pytest.raises(PodError, match=r"the expansion of '/home/\{unescaped_username\}' for this server has '..'"):
        inject_profile(make(), merge(profile), None, lambda template: template.format(unescaped_username=".."))
