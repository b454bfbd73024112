"""No value of a variable is in anything that is told of a document, however the document is damaged.

A search that finds nothing proves nothing by itself: faults that are planted show that it finds what there is. The
same at length is `make canary`; CANARY_STARTS is how many servers are started with damaged documents.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
import yaml
from traitlets.config import Config

from fuzz.canaries import find_canaries, make_bases
from fuzz.canary import Finding, make_documents, search, shrink
from fuzz.damage import damages
from fuzz.outputs import find_leaks, parse
from profiled_spawner import ProfiledKubeSpawner
from profiled_spawner.document.model import Profile
from profiled_spawner.document.parser import validate_document
from profiled_spawner.document.validator import Validator
from profiled_spawner.document.yaml_tree import Scalar, read_tree
from profiled_spawner.errors import Diagnostic, DocumentError
from profiled_spawner.hub.spawner import StartRefusedError
from profiled_spawner.pod.patch import inject_profile
from profiled_spawner.sources.cache import Store
from sandbox.api import EmbeddedAPI
from sandbox.paperkubelet import PaperKubelet

from ..conftest import MakeSpawner, WriteProfiles
from ..hub.test_hub import stopped
from .test_secrets import (
    MakeHub,
    Witness,
    make_hub,  # noqa: F401  a fixture
    seen,
    start_through_each_door,
    told_by,
    witness,  # noqa: F401  a fixture
)

STARTS = int(os.environ.get("CANARY_STARTS", "40"))


class TestTheSearch:
    @pytest.mark.parametrize("systematic", [False, True])
    def test_has_the_same_documents_for_a_seed_and_each_once(self, systematic: bool) -> None:
        documents = list(make_documents(400, seed=7, systematic=systematic))
        assert documents == list(make_documents(400, seed=7, systematic=systematic))
        assert documents != list(make_documents(400, seed=8, systematic=systematic))
        assert len({text for _, text in documents}) == 400

    def test_begins_with_valid_documents_that_have_canaries(self) -> None:
        bases = make_bases(1)
        assert all(find_canaries(text) for text in bases.values())
        assert [name for name, text in bases.items() if getattr(parse(text), "document", None) is None] == ["invalid"]

    def test_damages_every_position_in_every_way(self) -> None:
        damaged = set(damages("a: b\nc: 'd'\n"))
        assert {": b\nc: 'd'\n", "a\t: b\nc: 'd'\n", "a: b\nc: d\n", "c: 'd'\na: b\n", "a: b\n"} <= damaged
        assert {"a: b\n  c: 'd'\n", "a: b\na: b\nc: 'd'\n", "a: \"b\"\nc: 'd'\n", ":a b\nc: 'd'\n"} <= damaged

    @pytest.mark.parametrize(
        ("text", "found"),
        [
            ("said Q7Z3 to", {"Q7Z3"}),
            ("x7Z3X9y", {"X7Z3X9"}),
            ("q7z3", {"Q7Z3"}),
            ("0x7f 1x2 Q7Z", set()),
        ],
    )
    def test_knows_any_four_characters_of_a_canary(self, text: str, found: set[str]) -> None:
        assert find_canaries(text) == found

    def test_excuses_what_a_valid_document_has_made_public_and_nothing_else(self) -> None:
        document = validate_document("profiles: [{name: Q7Z3, env: {X9J1: Z8X2}}]").document
        assert find_leaks("Q7Z3, X9J1, Z8X2 and J5J6", document) == ({"Z8X2", "J5J6"}, {"Q7Z3", "X9J1"})
        assert find_leaks("Q7Z3", None) == ({"Q7Z3"}, set())


def quote_unknown_keys(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(Validator, "step", lambda self, key, **_: key.value)


def quote_what_is_no_yaml(patch: pytest.MonkeyPatch) -> None:
    def read(text: str, **places: Any) -> Any:
        try:
            yaml.compose(text, yaml.SafeLoader)
        except yaml.YAMLError as error:
            raise DocumentError([Diagnostic(str(error))]) from None
        return read_tree(text, **places)

    patch.setattr("profiled_spawner.document.parser.read_tree", read)


def show_values_in_a_repr(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(Profile, "__repr__", lambda self: f"Profile({self.index}, {self.name}, {dict(self.env)})")


def annotate_with_values(patch: pytest.MonkeyPatch) -> None:
    def inject(pod: Any, effective: Any, *rest: Any) -> Any:
        injected = inject_profile(pod, effective, *rest)
        injected.pod.metadata.annotations["values"] = str([each.value for each in effective.env.values()])
        return injected

    patch.setattr("profiled_spawner.hub.spawner.inject_profile", inject)


def quote_what_is_of_the_wrong_type(patch: pytest.MonkeyPatch) -> None:
    def refuse(self: Validator, node: Any, path: Any, wanted: str, empty: str = "") -> None:
        self.error(node, path, f"must be {wanted}, not {node.value if isinstance(node, Scalar) else 'this'}")

    patch.setattr(Validator, "wrong_type", refuse)


def log_a_document(patch: pytest.MonkeyPatch) -> None:
    read = Store._read

    async def read_and_tell(self: Store, caller: Any) -> Any:
        outcome = await read(self, caller)
        caller.log.debug("read %s", outcome.revision and outcome.revision.text.text)
        return outcome

    patch.setattr(Store, "_read", read_and_tell)


class TestAFaultThatIsPlanted:
    @pytest.mark.parametrize(
        ("plant", "output", "shown_to"),
        [
            pytest.param(quote_unknown_keys, "validate", {}, id="a-key"),
            pytest.param(quote_what_is_no_yaml, "validate", {}, id="the-parsers-words"),
            pytest.param(show_values_in_a_repr, "repr", {}, id="a-repr"),
            pytest.param(
                annotate_with_values, "command render --format yaml", {"render_every": 20}, id="an-annotation"
            ),
            pytest.param(quote_what_is_of_the_wrong_type, "validate", {}, id="a-type"),
            pytest.param(log_a_document, "log of a read", {"costly_every": 20}, id="a-line-of-the-log"),
        ],
    )
    def test_is_found(
        self,
        plant: Callable[[pytest.MonkeyPatch], None],
        output: str,
        shown_to: dict[str, int],
        monkeypatch: pytest.MonkeyPatch,
    ) -> None:
        plant(monkeypatch)
        tally = search(make_documents(300, seed=1), **shown_to)
        assert output in {finding.output for finding in tally.findings.values()}

    def test_is_shown_by_as_few_lines_as_can_be(self, monkeypatch: pytest.MonkeyPatch) -> None:
        quote_what_is_of_the_wrong_type(monkeypatch)
        text = "profiles:\n- name: a\n  env: Q7Z3X9\n  users: [ada]\n- env: {}\n"
        (finding,) = search([("", text)]).findings.values()
        assert shrink(finding) == replace(finding, text="profiles:\n- name: a\n  env: Q7Z3X9\n")


def test_no_damage_brings_a_value_into_what_is_told() -> None:
    tally = search(make_documents(3000, seed=11), costly_every=300, render_every=1000)
    assert list(map(describe, tally.findings.values())) == []
    assert tally.documents == 3000
    assert tally.valid > 300
    assert tally.searched["command validate --format text"] == tally.searched["log of a read"] == 10
    # An excuse is for what has become a name or a label; were there many, something would be excused that is not.
    assert sum(tally.excused.values()) < 30


def describe(finding: Finding) -> str:
    return f"{finding.output}: {finding.line}\n{finding.text}"


def leaks_of(text: str, *told: str) -> set[str]:
    """Canaries of a document's values in what was told."""
    checked = validate_document(text)
    leaked, _ = find_leaks("\n".join(told), checked.document)
    canaries = find_canaries(text)
    # Random tokens, of which a hub's answers have many, have four or five characters of one by chance.
    return {each for each in leaked if len(each) >= 6 and any(each in canary for canary in canaries)}


async def start(spawner: ProfiledKubeSpawner) -> tuple[list[str], bool]:
    """What is told of a start, and whether it came to one. A function of its own, since its frame is looked at too."""
    told = [await spawner.get_options_form()]
    try:
        await spawner.start()
    except StartRefusedError as error:
        return [*told, told_by(error), *[event["message"] async for event in spawner.progress()]], False
    return told, True


async def test_no_damage_brings_a_value_into_what_is_told_of_a_start(
    api: EmbeddedAPI,
    kubelet: PaperKubelet,
    make_spawner: MakeSpawner,
    write_profiles: WriteProfiles,
    witness: Witness,  # noqa: F811
) -> None:
    valid = 0
    for _, text in make_documents(STARTS, seed=12):
        write_profiles(text)
        witness.text = ""
        spawner = make_spawner(failure_policy="fail")
        told, started = await start(spawner)
        if started:
            valid += 1
            pod = api.get("pods", spawner.namespace, spawner.pod_name)
            for variable in pod["spec"]["containers"][0]["env"]:
                variable.pop("value", None)
            told += [repr(pod), str(spawner.summary)]
            await spawner.stop(now=True)
        assert leaks_of(text, witness.text, *told) == set(), text
    assert STARTS / 10 < valid < STARTS


async def test_no_damage_brings_a_value_into_what_a_hub_tells(
    api: EmbeddedAPI,
    make_hub: MakeHub,  # noqa: F811
    write_profiles: WriteProfiles,
    witness: Witness,  # noqa: F811
) -> None:
    config = Config()
    config.ProfiledKubeSpawner.failure_policy = "fail"
    hub = await make_hub(config)
    # The seed has valid ones among them, and others.
    for _, text in make_documents(STARTS // 10, seed=13):
        write_profiles(text)
        witness.text = ""
        shown = [*await start_through_each_door(hub), *await seen(hub, api)]
        if (await (await hub.api("GET", "/users/ada")).json())["servers"]:
            await stopped(hub, "ada")
        assert leaks_of(text, witness.text, *shown) == set(), text
