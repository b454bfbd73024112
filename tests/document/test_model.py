"""A document's values cannot be changed, do not show what is secret, and know which names are the hub's."""

from dataclasses import FrozenInstanceError

import pytest
from hypothesis import given
from hypothesis import strategies as st

from profiled_spawner.document.model import (
    Document,
    EnvVarSource,
    Profile,
)
from profiled_spawner.document.parser import parse_document
from profiled_spawner.document.rules import explain_env_name, is_hub_owned, may_begin_hub_owned

HUB_OWNED = [
    "JUPYTERHUB_API_TOKEN",
    "JUPYTERHUB_USER",
    "JUPYTERHUB_SINGLEUSER",
    "JUPYTERHUB_",
    "JPY_API_TOKEN",
    "MEM_LIMIT",
    "MEM_GUARANTEE",
    "CPU_LIMIT",
    "CPU_GUARANTEE",
]
FREE = [
    "JUPYTERHUB_SINGLEUSER_APP",
    "JUPYTERHUB_SINGLEUSER_",
    "JUPYTERHUB",
    "MY_JUPYTERHUB_USER",
    "jupyterhub_user",
    "JPY_API_TOKENS",
    "mem_limit",
    "MEM_LIMIT_2",
    "PATH",
]


@given(st.sampled_from(HUB_OWNED).flatmap(lambda name: st.integers(1, len(name)).map(lambda end: (name, end))))
def test_a_prefix_of_a_name_that_belongs_to_the_hub_is_found(name_and_end: tuple[str, int]) -> None:
    name, end = name_and_end

    assert may_begin_hub_owned(name[:end])


@given(st.one_of(st.sampled_from(FREE), st.from_regex(r"[A-Z][A-Z_]{0,12}", fullmatch=True)), st.text(max_size=9))
def test_no_other_prefix_comes_to_such_a_name(prefix: str, key: str) -> None:
    assert may_begin_hub_owned(prefix) or not is_hub_owned(prefix + key)


def test_no_prefix_may_always_be() -> None:
    assert not may_begin_hub_owned("")


@pytest.mark.parametrize("name", HUB_OWNED)
def test_a_name_that_belongs_to_the_hub_cannot_be_set(name: str) -> None:
    assert is_hub_owned(name)
    assert explain_env_name(name) in (
        "follows from 'resources' and cannot be set",
        "belongs to the hub, which identifies a server by it, and cannot be set",
    )


@pytest.mark.parametrize("name", FREE)
def test_a_name_that_only_resembles_the_hubs_can_be_set(name: str) -> None:
    assert not is_hub_owned(name)
    assert explain_env_name(name) is None


@pytest.mark.parametrize("name", ["a", "A", "_", "-", ".a", "a.b-c_d", "a0", "._", "-.", "A" * 300])
def test_every_release_of_kubernetes_accepts_the_name(name: str) -> None:
    assert explain_env_name(name) is None


@pytest.mark.parametrize(
    "name",
    [
        "",
        "0",
        "0A",
        ".",
        "..",
        "..a",
        "a b",
        "a=b",
        "a$",
        "a/b",
        "a\n",
        "\n",
        "ä",
        "a\u00a0b",
        "a\0",
        "東京",
        "a\u0661",
    ],
)
def test_some_release_of_kubernetes_refuses_the_name(name: str) -> None:
    assert explain_env_name(name) == (
        "not a name that Kubernetes accepts; use letters, digits, '_', '-' and '.', and no digit first"
    )


@pytest.mark.parametrize(
    ("profile", "label"),
    [
        pytest.param(Profile(3, name="globals"), "globals", id="name"),
        pytest.param(Profile(3), "profiles[3]", id="position"),
        pytest.param(Profile(0, name="two\nlines\x1b[31m"), "two·lines·[31m", id="one-line-that-steers-no-terminal"),
        pytest.param(Profile(0, name="für 東京"), "für 東京", id="beyond-ascii"),
    ],
)
def test_a_profile_is_called_by_its_name_or_its_position(profile: Profile, label: str) -> None:
    assert profile.label == label


def test_a_repr_holds_no_environment() -> None:
    document = parse_document("profiles: [{name: a, env: {FOO: canary}}]")

    assert "canary" not in repr(document)
    assert "name='a'" in repr(document)


def test_a_source_of_a_value_is_written_as_kubernetes_has_it() -> None:
    source = EnvVarSource("secretKeyRef", {"name": "keys", "key": "password", "optional": True})

    assert source.to_kubernetes() == {"secretKeyRef": {"name": "keys", "key": "password", "optional": True}}


def test_nothing_in_a_document_can_be_changed() -> None:
    (profile,) = parse_document(
        "profiles: [{users: [ada], images: [nb], env: {A: b, C: {valueFrom: {fieldRef: {fieldPath: metadata.name}}}},"
        " resources: {cpu_limit: 1, cpu_guarantee: 1}}]"
    ).profiles
    source = profile.env["C"]
    assert isinstance(source, EnvVarSource)

    with pytest.raises(FrozenInstanceError):
        profile.name = "other"  # type: ignore[misc]
    for mapping in (profile.env, profile.limits, profile.requests, source.fields):
        with pytest.raises(TypeError, match="does not support item assignment"):
            mapping["A"] = "changed"  # type: ignore[index]
    assert isinstance(profile.users, frozenset)
    assert isinstance(profile.images, tuple)


def test_a_document_without_profiles_is_empty() -> None:
    assert parse_document("profiles: []") == Document()
