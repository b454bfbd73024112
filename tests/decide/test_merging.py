"""The later profile wins, field by field, and limits win over guarantees."""

from collections.abc import Iterable, Mapping
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from profiled_spawner.decide.merging import (
    EffectiveProfile,
    Resources,
    Setting,
    check_merge_input,
    check_merge_result,
    combine_terms,
    merge_profiles,
    reconcile_resources,
)
from profiled_spawner.document.model import EnvVarSource, Profile
from profiled_spawner.document.parser import parse_document
from profiled_spawner.document.quantity import Quantity, parse_quantity
from profiled_spawner.errors import PodError


def merge(*profiles: str) -> EffectiveProfile:
    """Profiles, least specific first, each as it stands in a document."""
    return merge_profiles(parse_document(f"profiles: [{', '.join(profiles)}]").profiles)


def settle(*profiles: str, limits: Mapping[str, str] = {}, requests: Mapping[str, str] = {}) -> Resources:
    """The resources of a container that the hub's settings gave these limits and requests."""
    return reconcile_resources(merge(*profiles), quantities(limits), quantities(requests))


def quantities(amounts: Mapping[str, str]) -> dict[str, Quantity]:
    return {resource: parse_quantity(text) for resource, text in amounts.items()}


def amounts(settings: Mapping[str, Setting[Quantity]]) -> dict[str, str]:
    return {resource: setting.value.text for resource, setting in settings.items()}


def givers(settings: Mapping[str, Setting[Quantity]]) -> dict[str, str]:
    return {resource: setting.profile.label if setting.profile else "hub" for resource, setting in settings.items()}


@pytest.mark.parametrize(
    ("profiles", "env"),
    [
        pytest.param([], {}, id="no-profiles"),
        pytest.param(["{env: {A: a}}"], {"A": "a"}, id="one-profile"),
        pytest.param(["{env: {A: a}}", "{env: {A: b}}"], {"A": "b"}, id="the-later-wins"),
        pytest.param(["{env: {A: a, B: b}}", "{env: {B: c, C: d}}"], {"A": "a", "B": "c", "C": "d"}, id="by-name"),
        pytest.param(["{env: {A: a}}", "{env: {a: b}}"], {"A": "a", "a": "b"}, id="names-are-case-sensitive"),
        pytest.param(["{env: {A: a}}", "{env: {A: ''}}"], {"A": ""}, id="empty-text-wins-too"),
        pytest.param(["{env: {A: a}}", "{env: {A: null}}"], {"A": None}, id="null-takes-away"),
        pytest.param(["{env: {A: null}}", "{env: {A: a}}"], {"A": "a"}, id="the-later-gives-back"),
        pytest.param(["{env: {A: a}}", "{}"], {"A": "a"}, id="nothing-said-changes-nothing"),
        pytest.param(["{env: {A: a}}", "{env: [{name: A, value: b}]}"], {"A": "b"}, id="forms-mix"),
        pytest.param(
            ["{env: {A: a}}", "{env: [{name: A, valueFrom: {fieldRef: {fieldPath: metadata.name}}}]}"],
            {"A": EnvVarSource("fieldRef", {"fieldPath": "metadata.name"})},
            id="value-from-in-place-of-a-value",
        ),
        pytest.param(
            ["{env: [{name: A, valueFrom: {fieldRef: {fieldPath: metadata.name}}}]}", "{env: {A: a}}"],
            {"A": "a"},
            id="value-in-place-of-value-from",
        ),
    ],
)
def test_env_is_merged_by_variable(profiles: list[str], env: dict[str, str | EnvVarSource | None]) -> None:
    assert {name: setting.value for name, setting in merge(*profiles).env.items()} == env


@pytest.mark.parametrize(
    ("profiles", "limits", "requests"),
    [
        pytest.param(
            ["{resources: {mem_limit: 1Gi, cpu_limit: 1}}", "{resources: {mem_limit: 2Gi}}"],
            {"memory": "2Gi", "cpu": "1"},
            {},
            id="by-resource",
        ),
        pytest.param(
            ["{resources: {mem_limit: 2Gi}}", "{resources: {mem_limit: 1Gi}}"],
            {"memory": "1Gi"},
            {},
            id="the-later-wins-not-the-larger",
        ),
        pytest.param(
            ["{resources: {mem_limit: 2Gi}}", "{resources: {mem_guarantee: 1Gi}}"],
            {"memory": "2Gi"},
            {"memory": "1Gi"},
            id="limits-and-guarantees-apart",
        ),
        pytest.param(
            ["{resources: {mem_limit: 2Gi}}", "{resources: {limits: {memory: 3Gi, nvidia.com/gpu: 1}}}"],
            {"memory": "3Gi", "nvidia.com/gpu": "1"},
            {},
            id="forms-mix",
        ),
        pytest.param(
            ["{resources: {mem_limit: 2Gi, cpu_limit: 1}}", "{resources: {mem_limit: null}}"],
            {"memory": None, "cpu": "1"},
            {},
            id="null-takes-away",
        ),
        pytest.param(
            ["{resources: {mem_limit: null}}", "{resources: {mem_limit: 1Gi}}"],
            {"memory": "1Gi"},
            {},
            id="the-later-gives-back",
        ),
    ],
)
def test_resources_are_merged_by_resource(
    profiles: list[str], limits: dict[str, str | None], requests: dict[str, str | None]
) -> None:
    effective = merge(*profiles)

    for settings, expected in ((effective.limits, limits), (effective.requests, requests)):
        assert {name: setting.value and setting.value.text for name, setting in settings.items()} == expected


def test_each_field_knows_the_profile_that_it_came_from() -> None:
    effective = merge(
        "{name: one, env: {A: a, B: b}, resources: {mem_limit: 1Gi, cpu_guarantee: 1}}",
        "{name: two, env: {B: c, C: null}, resources: {mem_limit: 2Gi, cpu_limit: null}}",
    )

    assert [profile.label for profile in effective.applied] == ["one", "two"]
    for settings, expected in (
        (effective.env, {"A": "one", "B": "two", "C": "two"}),
        (effective.limits, {"memory": "two", "cpu": "two"}),
        (effective.requests, {"cpu": "one"}),
    ):
        assert {name: setting.profile and setting.profile.label for name, setting in settings.items()} == expected


@pytest.mark.parametrize(
    ("profiles", "own_limits", "own_requests", "limits", "requests"),
    [
        pytest.param([], {"memory": "1Gi"}, {"cpu": "1"}, {"memory": "1Gi"}, {"cpu": "1"}, id="no-profiles"),
        pytest.param(
            [], {"memory": "1Gi"}, {"memory": "2Gi"}, {"memory": "1Gi"}, {"memory": "2Gi"}, id="hubs-own-affair"
        ),
        pytest.param(
            ["{resources: {mem_limit: 2Gi}}"],
            {"memory": "1Gi", "cpu": "1"},
            {"memory": "1G"},
            {"memory": "2Gi", "cpu": "1"},
            {"memory": "1G"},
            id="over-the-hubs",
        ),
        pytest.param(
            ["{resources: {mem_limit: 1Gi, mem_guarantee: 2Gi}}"],
            {},
            {},
            {"memory": "1Gi"},
            {"memory": "1Gi"},
            id="limit-wins-over-the-guarantee",
        ),
        pytest.param(
            ["{resources: {mem_guarantee: 2Gi}}", "{resources: {mem_limit: 1Gi}}"],
            {},
            {},
            {"memory": "1Gi"},
            {"memory": "1Gi"},
            id="limit-wins-over-an-earlier-guarantee",
        ),
        pytest.param(
            ["{resources: {mem_limit: 1Gi}}", "{resources: {mem_guarantee: 2Gi}}"],
            {},
            {},
            {"memory": "1Gi"},
            {"memory": "1Gi"},
            id="limit-wins-over-a-later-guarantee",
        ),
        pytest.param(
            ["{resources: {mem_limit: 512Mi}}"],
            {},
            {"memory": "1073741824"},
            {"memory": "512Mi"},
            {"memory": "512Mi"},
            id="limit-wins-over-the-hubs-guarantee",
        ),
        pytest.param(
            ["{resources: {cpu_guarantee: 2}}"],
            {"cpu": "0.5"},
            {},
            {"cpu": "0.5"},
            {"cpu": "0.5"},
            id="the-hubs-limit-wins-over-a-guarantee",
        ),
        pytest.param(
            ["{resources: {mem_limit: 1Gi, mem_guarantee: 1024Mi}}"],
            {},
            {},
            {"memory": "1Gi"},
            {"memory": "1024Mi"},
            id="equal-amounts-stay-as-written",
        ),
        pytest.param(
            ["{resources: {cpu_limit: 1, cpu_guarantee: 999999999n}}"],
            {},
            {},
            {"cpu": "1"},
            {"cpu": "999999999n"},
            id="barely-below",
        ),
        pytest.param(
            ["{resources: {mem_limit: null}}"],
            {"memory": "1Gi", "cpu": "1"},
            {"memory": "1Gi"},
            {"cpu": "1"},
            {"memory": "1Gi"},
            id="null-takes-away-the-hubs-limit",
        ),
        pytest.param(
            ["{resources: {mem_guarantee: null, mem_limit: 512Mi}}"],
            {},
            {"memory": "1Gi"},
            {"memory": "512Mi"},
            {},
            id="null-takes-away-the-hubs-guarantee",
        ),
        pytest.param(["{resources: {mem_limit: null}}"], {}, {}, {}, {}, id="null-of-nothing"),
        pytest.param(["{resources: {cpu_limit: 1}}"], {}, {}, {"cpu": "1"}, {}, id="no-guarantee-is-made-up"),
        pytest.param(
            ["{resources: {limits: {nvidia.com/gpu: 1}}}"],
            {},
            {},
            {"nvidia.com/gpu": "1"},
            {"nvidia.com/gpu": "1"},
            id="extended-limit-is-the-guarantee-too",
        ),
        pytest.param(
            ["{resources: {requests: {nvidia.com/gpu: 1}}}"],
            {},
            {},
            {"nvidia.com/gpu": "1"},
            {"nvidia.com/gpu": "1"},
            id="extended-guarantee-is-the-limit-too",
        ),
        pytest.param(
            ["{resources: {limits: {nvidia.com/gpu: 2}, requests: {nvidia.com/gpu: 1}}}"],
            {},
            {},
            {"nvidia.com/gpu": "2"},
            {"nvidia.com/gpu": "2"},
            id="extended-limit-wins-over-a-lower-guarantee",
        ),
        pytest.param(
            ["{resources: {limits: {nvidia.com/gpu: 2}}}"],
            {"nvidia.com/gpu": "1"},
            {"nvidia.com/gpu": "1"},
            {"nvidia.com/gpu": "2"},
            {"nvidia.com/gpu": "2"},
            id="extended-limit-over-the-hubs",
        ),
        pytest.param(
            ["{resources: {limits: {nvidia.com/gpu: 0}}}"],
            {"nvidia.com/gpu": "1"},
            {"nvidia.com/gpu": "1"},
            {},
            {},
            id="extended-zero",
        ),
        pytest.param(["{gpu: 0}"], {}, {}, {}, {}, id="extended-zero-of-nothing"),
        pytest.param(
            ["{gpu: 0}"],
            {"nvidia.com/gpu": "1", "cpu": "1"},
            {},
            {"cpu": "1"},
            {},
            id="extended-zero-over-the-hubs-limit",
        ),
        pytest.param(
            ["{resources: {requests: {nvidia.com/gpu: 0}}}"],
            {"nvidia.com/gpu": "1"},
            {"nvidia.com/gpu": "1"},
            {},
            {},
            id="extended-zero-guarantee-over-the-hubs",
        ),
        pytest.param(
            ["{resources: {requests: {nvidia.com/gpu: 0}}}"], {}, {}, {}, {}, id="extended-zero-guarantee-of-nothing"
        ),
        pytest.param(
            ["{resources: {requests: {nvidia.com/gpu: 1}}}", "{gpu: 0}"],
            {},
            {},
            {},
            {},
            id="extended-zero-over-a-guarantee",
        ),
        pytest.param(
            ["{resources: {requests: {nvidia.com/gpu: 0}}}", "{gpu: 1}"],
            {},
            {},
            {"nvidia.com/gpu": "1"},
            {"nvidia.com/gpu": "1"},
            id="extended-limit-over-a-zero-guarantee",
        ),
        pytest.param(
            ["{gpu: 0}", "{gpu: 1}"],
            {},
            {},
            {"nvidia.com/gpu": "1"},
            {"nvidia.com/gpu": "1"},
            id="extended-zero-is-less-specific",
        ),
        pytest.param(
            ["{resources: {limits: {hugepages-2Mi: 0}, requests: {hugepages-1Gi: 0.0}}}"],
            {"hugepages-2Mi": "2Mi", "hugepages-1Gi": "1Gi"},
            {"hugepages-2Mi": "2Mi"},
            {},
            {},
            id="no-huge-pages",
        ),
        pytest.param(
            ["{resources: {mem_guarantee: 0, cpu_guarantee: 0, limits: {ephemeral-storage: 0}}}"],
            {},
            {"memory": "1Gi"},
            {"ephemeral-storage": "0"},
            {"memory": "0", "cpu": "0"},
            id="zero-of-what-can-be-overcommitted-stays",
        ),
        pytest.param(
            ["{env: {A: a}}"],
            {"nvidia.com/gpu": "0"},
            {},
            {"nvidia.com/gpu": "0"},
            {},
            id="extended-zero-of-the-hubs-own-stays",
        ),
        pytest.param(
            ["{resources: {limits: {nvidia.com/gpu: null}, requests: {nvidia.com/gpu: null}}}"],
            {"nvidia.com/gpu": "1", "cpu": "1"},
            {"nvidia.com/gpu": "1"},
            {"cpu": "1"},
            {},
            id="extended-taken-away",
        ),
        pytest.param(
            ["{resources: {limits: {nvidia.com/gpu: null}}}"],
            {"nvidia.com/gpu": "1"},
            {"nvidia.com/gpu": "1"},
            {},
            {},
            id="extended-limit-taken-away",
        ),
        pytest.param(
            ["{resources: {cpu_limit: 1}}"],
            {"nvidia.com/gpu": "2"},
            {"nvidia.com/gpu": "1"},
            {"nvidia.com/gpu": "2", "cpu": "1"},
            {"nvidia.com/gpu": "1"},
            id="extended-that-nobody-mentions-stays",
        ),
    ],
)
def test_limits_and_guarantees_are_settled_with_the_hubs(
    profiles: list[str],
    own_limits: dict[str, str],
    own_requests: dict[str, str],
    limits: dict[str, str],
    requests: dict[str, str],
) -> None:
    settled = settle(*profiles, limits=own_limits, requests=own_requests)

    assert (amounts(settled.limits), amounts(settled.requests)) == (limits, requests)


def test_what_is_settled_knows_where_it_came_from() -> None:
    settled = settle(
        "{name: one, resources: {mem_limit: 1Gi, limits: {nvidia.com/gpu: 1}}}",
        "{name: two, resources: {cpu_guarantee: 2}}",
        limits={"cpu": "1", "ephemeral-storage": "1Gi"},
        requests={"memory": "2Gi"},
    )

    assert givers(settled.limits) == {
        "memory": "one",
        "cpu": "hub",
        "ephemeral-storage": "hub",
        "nvidia.com/gpu": "one",
    }
    assert givers(settled.requests) == {"memory": "one", "cpu": "hub", "nvidia.com/gpu": "one"}


@pytest.mark.parametrize(
    ("profiles", "own_limits", "own_requests", "conflicts"),
    [
        pytest.param(
            ["{name: a, resources: {mem_guarantee: 2Gi}}", "{name: b, resources: {mem_limit: 1Gi}}"],
            {},
            {},
            ["memory: the guarantee of 2Gi (a) is above the limit of 1Gi (b); the limit is used for both"],
            id="two-profiles",
        ),
        pytest.param(
            ["{resources: {cpu_limit: 1}}"],
            {},
            {"cpu": "2"},
            ["cpu: the guarantee of 2 (the hub) is above the limit of 1 (profiles[0]); the limit is used for both"],
            id="the-hubs-guarantee",
        ),
        pytest.param(
            ["{name: a, resources: {cpu_guarantee: 2}}"],
            {"cpu": "1"},
            {},
            ["cpu: the guarantee of 2 (a) is above the limit of 1 (the hub); the limit is used for both"],
            id="the-hubs-limit",
        ),
        pytest.param(
            ["{name: a, resources: {limits: {nvidia.com/gpu: 2}, requests: {nvidia.com/gpu: 1}}}"],
            {},
            {},
            ["nvidia.com/gpu: the guarantee of 1 (a) differs from the limit of 2 (a); the limit is used for both"],
            id="extended",
        ),
        pytest.param(
            ["{name: a, resources: {requests: {nvidia.com/gpu: 1}}}", "{name: b, gpu: 0}"],
            {},
            {},
            ["nvidia.com/gpu: the guarantee of 1 (a) is above the limit of 0 (b); the limit is used for both"],
            id="extended-zero",
        ),
        pytest.param(
            ["{resources: {requests: {nvidia.com/gpu: 0}}}"],
            {"nvidia.com/gpu": "1"},
            {},
            [],
            id="extended-zero-guarantee-over-the-hubs-limit",
        ),
        pytest.param(["{resources: {cpu_limit: 1}}"], {"memory": "1Gi"}, {"memory": "2Gi"}, [], id="hubs-own-affair"),
        pytest.param(["{resources: {cpu_limit: 2, cpu_guarantee: 1}}"], {}, {}, [], id="none"),
    ],
)
def test_a_guarantee_that_was_overruled_is_told(
    profiles: list[str], own_limits: dict[str, str], own_requests: dict[str, str], conflicts: list[str]
) -> None:
    settled = settle(*profiles, limits=own_limits, requests=own_requests)

    assert [str(conflict) for conflict in settled.conflicts] == conflicts


def test_merging_leaves_its_inputs_as_they_were() -> None:
    text = (
        "profiles: [{env: {A: a, B: null}, resources: {mem_limit: 1Gi, mem_guarantee: 2Gi}},"
        " {env: {A: b}, resources: {limits: {nvidia.com/gpu: 1, memory: null}}}]"
    )
    profiles = parse_document(text).profiles
    own_limits, own_requests = quantities({"memory": "1Gi"}), quantities({"memory": "3Gi", "nvidia.com/gpu": "4"})

    effective = merge_profiles(profiles)
    reconcile_resources(effective, own_limits, own_requests)

    assert profiles == parse_document(text).profiles
    assert effective == merge_profiles(parse_document(text).profiles)
    assert own_limits == quantities({"memory": "1Gi"})
    assert own_requests == quantities({"memory": "3Gi", "nvidia.com/gpu": "4"})


def test_what_was_merged_can_be_shared() -> None:
    effective = merge("{env: {A: a}, resources: {cpu_limit: 1, cpu_guarantee: 1}}")

    for mapping in (effective.env, effective.limits, effective.requests):
        with pytest.raises(TypeError, match="does not support item assignment"):
            mapping["A"] = Setting(None, None)  # type: ignore[index]


def test_no_repr_holds_a_value() -> None:
    effective = merge("{name: one, env: {A: canary}}")

    assert "canary" not in repr(effective)
    assert "'A'" in repr(effective)


def test_any_iterable_of_profiles_is_merged_once() -> None:
    profiles = [Profile(0, name="one"), Profile(1, name="two")]

    assert merge_profiles(iter(profiles)).applied == tuple(profiles)


def given_by(settings: Any, key: str) -> list[tuple[str, str]]:
    """What one field of each object says, and which profile gave it."""
    return [(setting.value[key], setting.profile.label) for setting in settings]


def volume(name: str, path: str) -> str:
    return f"{{name: {name}, mountPath: {path}, emptyDir: {{}}}}"


@pytest.mark.parametrize("section", ["node_selector", "labels", "annotations"])
def test_texts_are_merged_by_name(section: str) -> None:
    merged = merge(f"{{name: one, {section}: {{a: 1, b: 1}}}}", f"{{name: two, {section}: {{b: 2, c: 2}}}}")

    settings: Mapping[str, Setting[str]] = getattr(merged, section)
    assert {name: (setting.value, setting.profile and setting.profile.label) for name, setting in settings.items()} == {
        "a": ("1", "one"),
        "b": ("2", "two"),
        "c": ("2", "two"),
    }


def test_sources_of_variables_are_appended_the_more_specific_later() -> None:
    merged = merge(
        "{name: one, env_from: [{secretRef: {name: a}}, {secretRef: {name: b}}]}",
        "{name: two, env_from: [{configMapRef: {name: c}}, {secretRef: {name: a}}]}",
    )

    assert [(dict(setting.value), setting.profile and setting.profile.label) for setting in merged.env_from] == [
        ({"secretRef": {"name": "b"}}, "one"),
        ({"configMapRef": {"name": "c"}}, "two"),
        # Kubernetes lets the last win: it counts where it stands last.
        ({"secretRef": {"name": "a"}}, "two"),
    ]


def test_tolerations_are_added_the_same_once() -> None:
    merged = merge(
        "{name: one, node_tolerations: [{key: a, operator: Exists}, {key: b, operator: Exists}]}",
        "{name: two, node_tolerations: [{operator: Exists, key: a}, {key: a, operator: Exists, effect: NoExecute}]}",
    )

    assert given_by(merged.node_tolerations, "key") == [("a", "one"), ("b", "one"), ("a", "two")]


@pytest.mark.parametrize(
    ("first", "second", "names"),
    [
        pytest.param([("a", "/a")], [("b", "/b")], [("a", "one"), ("b", "two")], id="different"),
        pytest.param([("a", "/a")], [("a", "/b")], [("a", "two")], id="same-name"),
        pytest.param([("a", "/a")], [("b", "/a")], [("b", "two")], id="same-path"),
        pytest.param([("a", "/a")], [("b", "/a/")], [("b", "two")], id="same-path-with-a-slash"),
        pytest.param([("a", "/a"), ("b", "/b")], [("a", "/b")], [("a", "two")], id="name-of-one-and-path-of-another"),
        pytest.param([("a", "/a")], [("a", "/b"), ("c", "/a")], [("a", "two"), ("c", "two")], id="moved"),
    ],
)
def test_volumes_are_merged_by_name_and_by_path(
    first: list[tuple[str, str]], second: list[tuple[str, str]], names: list[tuple[str, str]]
) -> None:
    one, two = (", ".join(volume(*each) for each in volumes) for volumes in (first, second))

    merged = merge(f"{{name: one, volumes: [{one}]}}", f"{{name: two, volumes: [{two}]}}")

    assert given_by(merged.volumes, "name") == names


@given(st.lists(st.tuples(st.sampled_from("abc"), st.sampled_from(["/a", "/b", "/c"])), max_size=8))
def test_no_volume_and_no_path_is_there_twice_and_the_last_of_all_is(places: list[tuple[str, str]]) -> None:
    merged = merge(*(f"{{volumes: [{volume(*place)}]}}" for place in places))

    kept = [(setting.value["name"], setting.value["mountPath"]) for setting in merged.volumes]
    assert len({name for name, _ in kept}) == len({path for _, path in kept}) == len(kept)
    assert kept[-1:] == places[-1:]


def requires(*alternatives: str) -> str:
    terms = ", ".join(
        f"{{matchExpressions: [{', '.join(f'{{key: {key}, operator: Exists}}' for key in alternative)}]}}"
        for alternative in alternatives
    )
    return f"requiredDuringSchedulingIgnoredDuringExecution: {{nodeSelectorTerms: [{terms}]}}"


def combine(*requirements: str) -> list[str]:
    """What is required together: each alternative as the labels that a node must have."""
    merged = merge(*(f"{{node_affinity: {{{requirement}}}}}" for requirement in requirements))
    terms = combine_terms(setting.value for setting in merged.node_requirements)
    return ["".join(each["key"] for each in term["matchExpressions"]) for term in terms]


@pytest.mark.parametrize(
    ("requirements", "together"),
    [
        pytest.param([requires("a")], ["a"], id="one"),
        pytest.param([requires("a"), requires("b")], ["ab"], id="both"),
        pytest.param([requires("a", "b"), requires("c")], ["ac", "bc"], id="either-and-one"),
        pytest.param([requires("a", "b"), requires("c", "d")], ["ac", "ad", "bc", "bd"], id="either-and-either"),
        pytest.param([requires("a"), requires("a")], ["a"], id="the-same-once"),
        pytest.param([requires("a", "b"), requires("a", "b")], ["a", "b"], id="the-same-alternatives"),
    ],
)
def test_every_requirement_on_a_node_holds(requirements: list[str], together: list[str]) -> None:
    assert combine(*requirements) == together


@given(
    st.lists(st.lists(st.sets(st.sampled_from("abcd"), min_size=1), min_size=1, max_size=3), min_size=1, max_size=3),
    st.sets(st.sampled_from("abcd")),
)
def test_a_node_fits_what_is_combined_exactly_if_it_fits_each(
    requirements: list[list[set[str]]], labels: set[str]
) -> None:
    fits_each = all(any(alternative <= labels for alternative in alternatives) for alternatives in requirements)

    combined = combine(*(requires(*("".join(sorted(each)) for each in alternatives)) for alternatives in requirements))

    assert any(set(term) <= labels for term in combined) == fits_each


def test_one_requirement_or_none_is_left_as_it_is() -> None:
    some = ({"matchExpressions": ({"key": "a", "operator": "Exists"},)},)

    assert combine_terms([]) == ()
    assert combine_terms([some]) == some


def test_a_requirement_that_no_node_fits_is_not_lost() -> None:
    # Kubernetes: a term without expressions fits no node. Only the hub's own settings can have one.
    some = ({"matchExpressions": ({"key": "a", "operator": "Exists"},)},)

    assert combine_terms([({},), some]) == ({},)
    assert combine_terms([some, ({},)]) == ({},)


def test_too_many_alternatives_are_an_error() -> None:
    with pytest.raises(PodError, match="more than 100 alternatives; simplify their node_affinity"):
        combine(*[requires(*"abcdefghijk"), requires(*"lmnopqrstuv")])


class Counting(dict[str, Any]):
    """An object that counts how often one of them was looked at."""

    looked_at = 0

    def get(self, key: str, default: Any = None) -> Any:
        Counting.looked_at += 1
        return super().get(key, default)


def term(key: str) -> Counting:
    return Counting(matchExpressions=(Counting(key=key, operator="Exists"),))


def test_too_many_expressions_are_an_error() -> None:
    many = [term(f"a{number}") for number in range(5)]

    assert len(combine_terms([many, *([term(f"b{number}")] for number in range(59))])) == 5
    with pytest.raises(PodError, match="more than 300 expressions;"):
        combine_terms([many, *([term(f"b{number}")] for number in range(60))])


def test_too_many_values_of_expressions_are_an_error() -> None:
    def having(values: int) -> list[Counting]:
        listed = tuple(f"v{number}" for number in range(values))
        return [Counting(matchExpressions=(Counting(key="b", operator="In", values=listed),))]

    many = [term(f"a{number}") for number in range(20)]

    assert len(combine_terms([many, having(50)])) == 20
    with pytest.raises(PodError, match="more than 1,000 values;"):
        combine_terms([many, having(51)])


def test_a_requirement_that_another_repeats_is_joined_once() -> None:
    assert combine(*[requires("a", "b")] * 300, requires("c")) == ["ac", "bc"]


def test_what_joining_requirements_takes_grows_with_what_is_given() -> None:
    looks = []
    for profiles in (50, 100):
        Counting.looked_at = 0
        combine_terms([[term(f"a{number}")] for number in range(profiles)])
        looks.append(Counting.looked_at / profiles)

    assert looks[1] <= looks[0] * 1.1


def test_preferences_add_up() -> None:
    preferred = (
        "preferredDuringSchedulingIgnoredDuringExecution: "
        "[{weight: %d, preference: {matchExpressions: [{key: a, operator: Exists}]}}]"
    )

    merged = merge(f"{{node_affinity: {{{preferred % 1}}}}}", f"{{node_affinity: {{{preferred % 2}}}}}")

    assert [setting.value["weight"] for setting in merged.node_preferences] == [1, 2]


def give(name: str, section: str, item: str, numbers: Iterable[int], text: str = "a") -> str:
    """A profile with an item for each number. The number stands for ``#`` in the item, the text for ``$``."""
    items = ", ".join(item.replace("#", str(number)).replace("$", text) for number in numbers)
    return f"{{name: {name}, {section % items}}}"


@pytest.mark.parametrize(
    ("name", "section", "item", "most", "of"),
    [
        ("env", "env: {%s}", "A#: $", 300, "variables"),
        ("env_from", "env_from: [%s]", "{secretRef: {name: $#}}", 100, "objects"),
        ("limits", "resources: {limits: {%s}}", "example.com/r#: 1", 20, "resources"),
        ("requests", "resources: {requests: {%s}}", "example.com/r#: 1", 20, "resources"),
        ("node_selector", "node_selector: {%s}", "a#: $", 100, "labels"),
        ("node_tolerations", "node_tolerations: [%s]", "{key: $#, operator: Exists}", 100, "tolerations"),
        ("volumes", "volumes: [%s]", "{name: a#, mountPath: /$#, emptyDir: {}}", 100, "volumes"),
        ("labels", "labels: {%s}", "a#: $", 100, "labels"),
        ("annotations", "annotations: {%s}", "a#: $", 100, "annotations"),
    ],
)
def test_a_server_may_have_so_much_of_each_section(name: str, section: str, item: str, most: int, of: str) -> None:
    few = give("few", section, item, [0], text="long" * 9)

    check_merge_result(merge(few, give("many", section, item, range(1, most))))
    with pytest.raises(PodError) as caught:
        check_merge_result(merge(few, give("many", section, item, range(1, most + 1))))
    assert str(caught.value) == (
        f"the profiles that match give {most + 1} {of}, and a server can have {most} ({name}); "
        "most of it is from many and few"
    )


def test_no_more_than_three_profiles_are_named() -> None:
    names = ["a" * 99, "b" * 100, "c" * 101, "d", "e"]
    profiles = [
        give(name, "labels: {%s}", f"{name[0]}#: a", range(25 - position)) for position, name in enumerate(names)
    ]

    with pytest.raises(PodError) as caught:
        check_merge_result(merge(*profiles))
    assert str(caught.value).endswith(f"; most of it is from {'a' * 99} and {'b' * 100} and {'c' * 100} and 2 more")


PREFERRED = "preferredDuringSchedulingIgnoredDuringExecution: [%s]"


@pytest.mark.parametrize(
    ("section", "item", "values", "most", "of"),
    [
        ("env: {%s}", "A#: a", 10, 10_000, "values"),
        ("resources: {limits: {%s}}", "example.com/r#: 1", 10, 10_000, "values"),
        ("resources: {requests: {%s}}", "example.com/r#: 1", 10, 10_000, "values"),
        ("node_selector: {%s}", "a#: a", 10, 10_000, "values"),
        ("labels: {%s}", "a#: a", 10, 10_000, "values"),
        ("annotations: {%s}", "a#: a", 10, 10_000, "values"),
        ("env_from: [%s]", "{secretRef: {name: a#}}", 30, 1_000, "values within objects"),
        ("node_tolerations: [%s]", "{key: a#, operator: Exists}", 30, 1_000, "values within objects"),
        (
            f"node_affinity: {{{PREFERRED}}}",
            "{weight: 1, preference: {matchExpressions: [{key: a, operator: Exists}]}}",
            71,
            1_000,
            "values within objects",
        ),
        ("volumes: [%s]", "{name: a#, mountPath: /a#, emptyDir: {}}", 40, 1_000, "values within objects"),
    ],
)
def test_profiles_may_give_so_many_values_before_they_are_merged(
    section: str, item: str, values: int, most: int, of: str
) -> None:
    few, many = (give(name, section, item, range(count)) for name, count in (("few", 1), ("many", 10)))
    none, one, ten = parse_document(f"profiles: [{{name: none}}, {few}, {many}]").profiles
    within = [ten] * (most // values)

    check_merge_input(within)
    with pytest.raises(PodError) as caught:
        check_merge_input([none, one, *within, ten])
    assert str(caught.value) == (
        f"the profiles that match give more than {most:,} {of} together, and a server can have no more; "
        "most of it is from many and few"
    )
