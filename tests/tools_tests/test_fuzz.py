"""Any input gives a document or diagnostics: the fuzzer's targets, without the fuzzer.

What the fuzzer begins with is replayed, and hypothesis makes more of it. `make fuzz` goes on from here, guided by
what an input reaches.
"""

from __future__ import annotations

import ast
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fuzz.campaign import describe, replay
from fuzz.seeds import DICTIONARY, make_seeds
from fuzz.targets import TARGETS, document, quantity

SMALL = [name for name in TARGETS if name != "large"]

# Of those of 1 MiB: what took longest, or most memory, of each kind.
LARGE = [
    pytest.param(b"profiles:\n- &a {env: {A: b}}\n\xff- {}\n", id="empty-profiles"),
    pytest.param(b"profiles:\n\xff- name: both\n", id="a-warning-each"),
    pytest.param(b"profiles:\n\xff- {name: A, value: b}\n", id="an-error-each"),
    pytest.param(b"profiles:\n- env:\n  - \xff[", id="nested-lists"),
    pytest.param(b"profiles:\n- &a {env: {A: b}}\n\xff- {<<: *a}\n", id="merge-keys"),
]


def read_dictionary() -> list[bytes]:
    """The words of libFuzzer's dictionary."""
    lines = DICTIONARY.read_text().splitlines()
    # Its escapes are among Python's.
    return [ast.literal_eval(f"b{line}") for line in lines if line.startswith('"')]


words = st.sampled_from(read_dictionary()) | st.binary(max_size=4)


@st.composite
def inputs(draw: st.DrawFn, target: str) -> bytes:
    """A seed with words put into it, in place of some of what is there."""
    data = draw(st.sampled_from(SEEDS[target]))
    for word in draw(st.lists(words, max_size=5)):
        start = draw(st.integers(0, len(data)))
        end = draw(st.integers(start, min(start + 10, len(data))))
        data = data[:start] + word + data[end:]
    return data


digits = st.text("0123456789", max_size=20)
suffixes = st.sampled_from(["", *"numkKMGTPE", *(f"{prefix}i" for prefix in "numkKMGTPE"), "e3", "E-3", "e+18", "e-30"])

SEEDS = {name: list(make_seeds(name)) for name in SMALL}


@pytest.mark.parametrize("target", SMALL)
def test_every_seed_is_a_document_or_diagnostics(target: str) -> None:
    assert len(SEEDS[target]) > 50
    for seed in SEEDS[target]:
        TARGETS[target](seed)


@pytest.mark.parametrize("target", SMALL)
@settings(deadline=None, max_examples=150)
@given(data=st.data())
def test_whatever_a_seed_is_made_into_is_a_document_or_diagnostics(target: str, data: st.DataObject) -> None:
    TARGETS[target](data.draw(inputs(target)))


@settings(deadline=None, max_examples=300)
@given(st.lists(words, max_size=40).map(b"".join))
def test_words_in_any_order_are_a_document_or_diagnostics(text: bytes) -> None:
    document(text)


@settings(deadline=None, max_examples=500)
@given(st.tuples(digits, st.just("") | digits.map(".{}".format), suffixes).map("".join))
def test_a_quantity_is_what_kubernetes_own_client_takes_it_for(text: str) -> None:
    quantity(text.encode())


@pytest.mark.parametrize("seed", LARGE)
def test_the_worst_of_one_mebibyte_ends_and_stays_within_memory(seed: bytes, tmp_path: Path) -> None:
    file = tmp_path / "input"
    file.write_bytes(seed)
    said = replay("fuzz.targets:large", file)
    # How long it takes is for the fuzzer to say: tests may run beside others, on any machine.
    assert said["fault"] in (None, "slow"), describe(said)
