"""Sums and refusals of quotas, against a count of every server."""

from __future__ import annotations

from collections.abc import Mapping
from fractions import Fraction
from typing import Any

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from profiled_spawner.decide.matching import Subject
from profiled_spawner.decide.quotas import (
    Ledger,
    Server,
    describe_amount,
    find_quotas,
    find_shortage,
    measure_size,
)
from profiled_spawner.document.model import Quota
from profiled_spawner.document.parser import parse_document
from profiled_spawner.document.quantity import format_billionths, parse_billionths
from profiled_spawner.errors import QuantityError

ONE = 10**9
USERS, GROUPS = ("ada", "bob", "cai"), ("g", "h")
NAMES = ("pods", "limits.memory", "requests.nvidia.com/gpu")


def quotas_of(*quotas: Mapping[str, Any]) -> tuple[Quota, ...]:
    named = [{"name": f"q{number}", **quota} for number, quota in enumerate(quotas)]
    return parse_document(yaml.safe_dump({"profiles": [], "quotas": named})).quotas


raw_quotas = st.lists(
    st.fixed_dictionaries(
        {"hard": st.just(dict.fromkeys(NAMES, 9))},
        optional={
            "per": st.sampled_from(["all", "user"]),
            "users": st.lists(st.sampled_from([*USERS, "*"]), max_size=2, unique=True),
            "groups": st.lists(st.sampled_from(GROUPS), max_size=2, unique=True),
        },
    ),
    max_size=4,
)
servers = st.builds(
    Server,
    st.just("x"),
    st.sampled_from(USERS),
    st.frozensets(st.sampled_from(GROUPS)),
    st.dictionaries(st.sampled_from(NAMES), st.integers(0, 3)),
)
steps = st.lists(st.tuples(st.integers(0, 5), st.none() | servers | raw_quotas), max_size=20)


def count(raw: Mapping[str, Any], counted: dict[int, Server], user: str | None) -> dict[str, int]:
    """What a quota of a document counts, of one user or of all."""
    total = dict.fromkeys(NAMES, 0)
    for server in counted.values():
        users, groups = raw.get("users"), raw.get("groups")
        everyone = (users is None and groups is None) or "*" in (users or ())
        is_for = everyone or server.user in (users or ()) or server.groups & set(groups or ())
        if is_for and user in (None, server.user):
            for name, amount in server.amounts.items():
                total[name] += amount
    return total


@given(steps)
def test_sums_are_those_of_a_count(found: list[tuple[int, Any]]) -> None:
    ledger: Ledger[int] = Ledger()
    counted: dict[int, Server] = {}
    raw: list[Mapping[str, Any]] = []
    quotas: tuple[Quota, ...] = ()
    for key, step in found:
        if isinstance(step, list):
            raw, quotas = step, quotas_of(*step)
        elif step is None:
            ledger.remove(key)
            counted.pop(key, None)
        else:
            ledger.put(key, step)
            counted[key] = step
        for user in USERS:
            for quota, used in zip(raw, ledger.add_up(quotas, quotas, user), strict=True):
                expected = count(quota, counted, user if quota.get("per") == "user" else None)
                assert {name: used.get(name, 0) for name in NAMES} == expected
        for quota, used in zip(raw, ledger.find_most_used(quotas), strict=True):
            each = [count(quota, counted, user) for user in USERS]
            most = {name: max(its[name] for its in each) for name in NAMES}
            expected = most if quota.get("per") == "user" else count(quota, counted, None)
            assert {name: used.get(name, 0) for name in NAMES} == expected


@pytest.mark.parametrize(
    ("hard", "used", "needed", "expected"),
    [
        pytest.param({"pods": 2}, {"pods": 1}, {"pods": 1}, None, id="fits"),
        pytest.param(
            {"pods": 1}, {"pods": 1}, {"pods": 1}, 'the only server that the quota "q0" allows is in use', id="one"
        ),
        pytest.param(
            {"pods": 3}, {"pods": 4}, {"pods": 1}, 'all 3 servers that the quota "q0" allows are in use', id="all"
        ),
        pytest.param(
            {"requests.nvidia.com/gpu": 4},
            {"requests.nvidia.com/gpu": 3},
            {"requests.nvidia.com/gpu": 2},
            'it needs 2 GPUs, and the quota "q0" allows 4 GPUs, with 3 GPUs in use already',
            id="some",
        ),
        pytest.param(
            {"requests.nvidia.com/gpu": 4}, {"requests.nvidia.com/gpu": 9}, {"pods": 1}, None, id="needs-none"
        ),
        pytest.param(
            {"requests.nvidia.com/gpu": 4},
            {"requests.nvidia.com/gpu": 9},
            {"requests.nvidia.com/gpu": 0},
            None,
            id="needs-zero",
        ),
        pytest.param(
            {"limits.memory": 4}, {}, {}, 'it has no memory limit, and the quota "q0" counts that', id="no-limit"
        ),
        pytest.param(
            {"requests.cpu": 4}, {}, {}, 'it has no CPU guaranteed, and the quota "q0" counts that', id="no-guarantee"
        ),
        pytest.param({"requests.ephemeral-storage": 4}, {}, {}, None, id="storage-is-not-required"),
        pytest.param(
            {"pods": 1, "limits.cpu": 4},
            {"pods": 1},
            {"pods": 1, "limits.cpu": 8},
            'it needs 8 CPUs, and the quota "q0" allows 4 CPUs',
            id="hopeless-first",
        ),
    ],
)
def test_a_server_that_does_not_fit_is_told_why(
    hard: dict[str, int], used: dict[str, int], needed: dict[str, int], expected: str | None
) -> None:
    quotas = quotas_of({"hard": hard})
    in_billionths = [{name: amount * ONE for name, amount in each.items()} for each in (used, needed)]
    shortage = find_shortage(quotas, in_billionths[:1], in_billionths[1])
    assert (shortage and str(shortage)) == expected


def test_quotas_cover_people_while_they_apply() -> None:
    quotas = parse_document(
        "profiles: []\nquotas:\n- {name: a, hard: {pods: 1}}\n- {name: b, groups: [g], hard: {pods: 1}}\n"
        "- {name: c, users: [ada], until: 2026-01-01, hard: {pods: 1}}\n"
    )
    at = 1_767_000_000.0
    assert [q.name for q in find_quotas(quotas, Subject("ada", frozenset(), "", at))] == ["a", "c"]
    assert [q.name for q in find_quotas(quotas, Subject("bob", frozenset("g"), "", at))] == ["a", "b"]
    assert [q.name for q in find_quotas(quotas, Subject("ada", frozenset(), "", at + 10**6))] == ["a"]


@pytest.mark.parametrize(
    ("size", "expected"),
    [
        ("resources: {mem_limit: 2k}", {"limits.memory": 2000}),
        ("resources: {mem_limit: 2k, mem_guarantee: 1k}", {"limits.memory": 2000, "requests.memory": 1000}),
        ("resources: {mem_limit: 2k, mem_guarantee: 3k}", {"limits.memory": 2000}),
        ("resources: {mem_limit: null, cpu_guarantee: 1}", {"requests.cpu": 1}),
        ("gpu: 2", {"requests.nvidia.com/gpu": 2}),
        ("gpu: 0", {}),
        ("resources: {requests: {nvidia.com/gpu: 1}}", {"requests.nvidia.com/gpu": 1}),
    ],
)
def test_a_size_needs_what_it_sets(size: str, expected: dict[str, int]) -> None:
    (found,) = parse_document(f"profiles: []\nsizes: [{{name: x, {size}}}]").sizes
    assert measure_size(found) == {name: amount * ONE for name, amount in expected.items()}


@pytest.mark.parametrize(
    ("name", "amount", "expected"),
    [
        ("pods", 1, "1 server"),
        ("pods", 20, "20 servers"),
        ("limits.memory", 256 * 2**30, "256 GiB of memory"),
        ("limits.memory", Fraction(3 * 2**30, 2), "1.5 GiB of memory"),
        ("limits.memory", 10**9, "953.67 MiB of memory"),
        ("limits.memory", 0, "no memory"),
        ("limits.cpu", Fraction(1, 2), "0.5 CPU"),
        ("requests.nvidia.com/gpu", 1, "1 GPU"),
        ("requests.amd.com/gpu", 2, "2 amd.com/gpu"),
    ],
)
def test_amounts_are_said_in_words(name: str, amount: Fraction, expected: str) -> None:
    assert describe_amount(name, int(amount * ONE)) == expected


@given(st.integers(0, 2**80))
def test_amounts_survive_being_stored(amount: int) -> None:
    assert parse_billionths(format_billionths(amount)) == amount


@pytest.mark.parametrize("text", ["", "-1", "1e3", "x", "1.2.3", "1.0000000001", "9" * 65])
def test_what_is_no_amount_is_refused(text: str) -> None:
    with pytest.raises(QuantityError):
        parse_billionths(text)
