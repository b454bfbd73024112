"""Whatever objects of Kubernetes our parser accepts, a real API server accepts in a pod.

They are made from the very tables that the parser reads by, so that a field without a rule is tried too.
"""

from __future__ import annotations

import json
from collections import Counter
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cluster.corpus import Report, Server, corpus, make_pods
from profiled_spawner.decide.matching import Subject
from profiled_spawner.document.kubernetes import FIELD_RANGES, RULES, SHAPES, Field, find_alternatives
from profiled_spawner.document.parser import validate_document
from sandbox.status import Object, StatusError

pytestmark = pytest.mark.cluster

VOLUMES = find_alternatives("MountedVolume")
PRINTABLE = st.characters(min_codepoint=32, max_codepoint=126)
NAMES = st.from_regex(r"([a-zA-Z.-]{1,5}/)?[a-zA-Z._-]{1,5}", fullmatch=True)
WORDS = st.from_regex("[a-z][a-z0-9]{0,7}", fullmatch=True)


def scalars(kind: str, place: str) -> st.SearchStrategy[str]:
    """Texts that the parser accepts for a field, and some that it does not."""
    if kind == "bool":
        return st.sampled_from(["true", "false"])
    if kind == "quantity":
        return st.sampled_from(["1", "1Gi", "500M", "0", "1.5Gi"])
    if kind == "int":
        least, most = FIELD_RANGES.get(place, (0, 2**31 - 1))
        return st.one_of(st.integers(least, most), st.sampled_from([least, most])).map(str)
    rule = RULES.get(place)
    if rule is None:
        return st.one_of(WORDS, st.text(PRINTABLE, min_size=1, max_size=8))
    texts = st.from_regex(rule.pattern, fullmatch=True, alphabet=PRINTABLE)
    return texts.filter(lambda text: not rule.longest or len(text) <= rule.longest)


def fields(kind: str, field: Field) -> st.SearchStrategy[Any]:
    place = f"{kind}.{field.name}"
    one = objects(field.kind) if field.kind in SHAPES else scalars(field.kind, place)
    if field.many == "list":
        return st.lists(one, max_size=2)
    if field.many == "mapping":
        return st.dictionaries(
            st.sampled_from(["a", "storage"]) if field.kind == "quantity" else WORDS, one, max_size=2
        )
    return one


def objects(kind: str, only: str = "") -> st.SearchStrategy[Object]:
    """Objects of a type, made of what the type may hold.

    Args:
        kind: The type.
        only: Of the fields of which there can be one, this.
    """
    alternatives = find_alternatives(kind)
    shape = SHAPES[kind]
    if kind == "PersistentVolumeClaimSpec":
        # Made at random, hardly any would be one.
        modes = st.lists(scalars("text", f"{kind}.accessModes"), min_size=1, max_size=1)
        others = {name: fields(kind, shape[name]) for name in ("storageClassName", "volumeMode", "selector")}
        claimed = st.just({"requests": {"storage": "1Gi"}})
        return st.fixed_dictionaries({"accessModes": modes, "resources": claimed}, optional=others)
    needed = {name: fields(kind, field) for name, field in shape.items() if field.required}
    others = {
        name: fields(kind, field) for name, field in shape.items() if not field.required and name not in alternatives
    }
    if not alternatives:
        return st.fixed_dictionaries(needed, optional=others)
    choices = [only] if only else alternatives
    return st.one_of(
        [st.fixed_dictionaries(needed | {name: fields(kind, shape[name])}, optional=others) for name in choices]
    )


# Made at random, hardly any would be one.
TOLERATIONS = st.one_of(
    st.fixed_dictionaries(
        {"key": scalars("text", "Toleration.key"), "operator": st.just("Exists")},
        optional={"effect": scalars("text", "Toleration.effect")},
    ),
    st.fixed_dictionaries(
        {"key": WORDS, "value": scalars("text", "Toleration.value"), "effect": st.just("NoExecute")},
        optional={"operator": st.just("Equal"), "tolerationSeconds": scalars("int", "Toleration.tolerationSeconds")},
    ),
    objects("Toleration"),
)
SECTIONS = [
    pytest.param("env_from", st.lists(objects("EnvFromSource"), min_size=1, max_size=3), id="env_from"),
    pytest.param("node_tolerations", st.lists(TOLERATIONS, min_size=1, max_size=3), id="node_tolerations"),
    pytest.param("node_affinity", objects("NodeAffinity"), id="node_affinity"),
    *(
        pytest.param("volumes", st.lists(objects("MountedVolume", kind), min_size=1, max_size=1), id=f"volume {kind}")
        for kind in VOLUMES
    ),
    pytest.param(
        "labels",
        st.dictionaries(NAMES, st.one_of(WORDS, st.text(PRINTABLE, max_size=5))),
        id="labels",
    ),
    pytest.param(
        "annotations",
        st.dictionaries(NAMES, st.text(max_size=5)),
        id="annotations",
    ),
    pytest.param(
        "node_selector",
        st.dictionaries(NAMES, st.one_of(WORDS, st.text(PRINTABLE, max_size=5))),
        id="node_selector",
    ),
]


@pytest.mark.parametrize(("section", "values"), SECTIONS)
def test_what_is_accepted_of_a_section_is_accepted_by_the_server(
    server: Server, report: Report, section: str, values: st.SearchStrategy[Any]
) -> None:
    seen: Counter[str] = Counter()

    @corpus(60)
    @given(values)
    def ask(value: Any) -> None:
        document = validate_document(json.dumps({"profiles": [{section: value}]})).document
        if document is None:
            seen["refused by the parser"] += 1
            return
        for pod in make_pods(document, Subject("ada", frozenset(), "an-image")):
            created = server.create(pod)
            assert not isinstance(created, StatusError), f"{section}: {json.dumps(value)}: {created}"
        seen["accepted by both"] += 1

    ask()
    assert seen["accepted by both"] >= 3
    report(section, seen)
