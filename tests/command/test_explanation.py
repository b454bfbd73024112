"""What `explain` tells of a document and a subject."""

from __future__ import annotations

import json
from typing import Any

import pytest

from profiled_spawner.command.explanation import Explanation, explain_document, format_text, to_json
from profiled_spawner.command.terminal import Style
from profiled_spawner.decide.matching import MergeOrder, Subject
from profiled_spawner.document.parser import parse_document

IMAGE = "quay.io/example/forecast-notebook:3.6"

DOCUMENT = """
profiles:
  - name: forecasting
    images: [quay.io/example/forecast-notebook:3.6]
    users: [ada, grace]
    groups: [forecasters]
    env:
      BUCKET: CANARY-bucket
      OLD: null
      S3_KEY: {valueFrom: {secretKeyRef: {name: team-s3, key: access-key}}}
    resources:
      mem_limit: 2Gi
      mem_guarantee: 4Gi
      cpu_limit: null
  - name: globals
    env: {BUCKET: CANARY-globals, OLD: CANARY-old, PORT: 80}
    resources: {mem_limit: 1Gi, cpu_limit: 500m}
  - users: [linus]
"""


def explain(
    document: str = DOCUMENT, *, user: str = "ada", groups: tuple[str, ...] = (), order: MergeOrder = "specificity"
) -> Explanation:
    return explain_document(parse_document(document), Subject(user, frozenset(groups), IMAGE, 0), order)


def lines_of(explanation: Explanation, *, show_values: bool = False) -> list[str]:
    return format_text(explanation, Style(), show_values=show_values).splitlines()


def test_json_has_the_shape_that_programs_rely_on() -> None:
    assert to_json(explain(groups=("b", "a"))) == {
        "subject": {"user": "ada", "groups": ["a", "b"], "image": IMAGE},
        "profiles": [
            {
                "index": 0,
                "name": "forecasting",
                "matches": True,
                "reasons": ["user is listed", "image is listed"],
            },
            {"index": 1, "name": "globals", "matches": True, "reasons": ["for every user", "for every image"]},
            {"index": 2, "name": None, "matches": False, "reasons": ["user is not listed", "for every image"]},
        ],
        "applied": [1, 0],
        "env": [
            {"name": "BUCKET", "value": "***", "profile": 0, "overrides": [1]},
            {"name": "OLD", "value": None, "profile": 0, "overrides": [1]},
            {"name": "PORT", "value": "***", "profile": 1},
            {
                "name": "S3_KEY",
                "valueFrom": {"secretKeyRef": {"name": "team-s3", "key": "access-key"}},
                "profile": 0,
            },
        ],
        "resources": {
            "limits": {
                "memory": {"quantity": "2Gi", "profile": 0, "overrides": [1]},
                "cpu": {"quantity": None, "profile": 0, "overrides": [1]},
            },
            "requests": {"memory": {"quantity": "2Gi", "profile": 0}},
        },
        "warnings": [
            "memory: the guarantee of 4Gi (forecasting) is above the limit of 2Gi (forecasting); "
            "the limit is used for both"
        ],
    }


def test_text_tells_a_person_the_same() -> None:
    assert lines_of(explain(groups=("b", "a"))) == [
        "User    ada",
        "Groups  a, b",
        f"Image   {IMAGE}",
        "",
        "Profiles: 2 of 3 match",
        "  ✔ 0  forecasting  user is listed; image is listed",
        "  ✔ 1  globals      for every user; for every image",
        "  ✘ 2  profiles[2]  user is not listed; for every image",
        "",
        "Applied in this order; later overrides earlier: globals, forecasting",
        "",
        "Environment",
        "  BUCKET  ***                             from forecasting, overrides globals",
        "  OLD     (removed)                       from forecasting, overrides globals",
        "  PORT    ***                             from globals",
        "  S3_KEY  secret team-s3, key access-key  from forecasting",
        "",
        "Resources",
        "  memory  limit      2Gi        from forecasting, overrides globals",
        "          guarantee  2Gi        from forecasting",
        "  cpu     limit      (removed)  from forecasting, overrides globals",
        "",
        "Warnings",
        "  ⚠ memory: the guarantee of 4Gi (forecasting) is above the limit of 2Gi (forecasting); "
        "the limit is used for both",
    ]


QUOTAS = """
profiles: [{gpu: 1, resources: {mem_limit: 2Gi, mem_guarantee: 1Gi, cpu_limit: 500m}}]
quotas:
- {name: the GPUs, groups: [forecasters], hard: {requests.nvidia.com/gpu: 4, limits.memory: 256Gi, pods: 20}}
- {name: kept, users: [ada], per: user, hard: {requests.memory: 4Gi, requests.cpu: 2, requests.ephemeral-storage: 0}}
- {name: storage, hard: {limits.ephemeral-storage: 1Gi}}
- {name: of others, users: [grace], hard: {pods: 1}}
- {name: later, from: 2030-01-01, hard: {pods: 1}}
"""


def test_the_quotas_that_a_start_counts_towards_are_named() -> None:
    explanation = explain(QUOTAS, groups=("forecasters",))
    lines = lines_of(explanation)
    assert lines[lines.index("Quotas") :] == [
        "Quotas",
        "  the GPUs  4 GPUs, 256 GiB of memory, 20 servers, together  "
        "this server needs 1 GPU, 2 GiB of memory, 1 server",
        "  kept      4 GiB of memory guaranteed, 2 CPUs guaranteed, no ephemeral-storage guaranteed, each  "
        "this server needs 1 GiB of memory guaranteed, 0.5 CPU guaranteed",
        "  storage   1 GiB of ephemeral-storage, together",
    ]
    assert to_json(explanation)["quotas"] == [
        {
            "name": "the GPUs",
            "per": "all",
            "hard": {"requests.nvidia.com/gpu": "4", "limits.memory": "256Gi", "pods": "20"},
        },
        {
            "name": "kept",
            "per": "user",
            "hard": {"requests.memory": "4Gi", "requests.cpu": "2", "requests.ephemeral-storage": "0"},
        },
        {"name": "storage", "per": "all", "hard": {"limits.ephemeral-storage": "1Gi"}},
    ]
    assert "quotas" not in to_json(explain(QUOTAS.replace("storage,", "storage, users: [grace],"), user="edsger"))


def test_values_are_only_told_on_request() -> None:
    explanation = explain()

    assert "CANARY" not in json.dumps(to_json(explanation))
    assert "CANARY" not in format_text(explanation, Style(colour=True))
    assert to_json(explanation, show_values=True)["env"][0] == {
        "name": "BUCKET",
        "value": "CANARY-bucket",
        "profile": 0,
        "overrides": [1],
    }
    assert "  BUCKET  CANARY-bucket                   from forecasting, overrides globals" in lines_of(
        explanation, show_values=True
    )


def test_the_order_of_the_document_can_be_asked_for() -> None:
    explanation = explain(order="document")

    assert to_json(explanation)["applied"] == [0, 1]
    assert to_json(explanation)["resources"]["limits"]["memory"] == {"quantity": "1Gi", "profile": 1, "overrides": [0]}
    assert "Applied in the document's order; later overrides earlier: forecasting, globals" in lines_of(explanation)


def test_a_limit_without_a_guarantee_is_what_kubernetes_reserves() -> None:
    lines = lines_of(explain("profiles: [{name: globals, resources: {cpu_limit: 500m}}]"))

    assert lines[-2:] == [
        "  cpu  limit      500m    from globals",
        "       guarantee  (500m)  no guarantee set: Kubernetes reserves the limit, unless the hub sets one",
    ]


def test_a_guarantee_that_was_taken_away_cannot_come_from_the_hub_either() -> None:
    lines = lines_of(explain("profiles: [{name: a, resources: {cpu_limit: 500m, cpu_guarantee: null}}]"))

    assert lines[-3:] == [
        "  cpu  limit      500m       from a",
        "       guarantee  (removed)  from a",
        "       guarantee  (500m)     no guarantee set: Kubernetes reserves the limit",
    ]


def test_no_gpu_is_told_as_zero_and_reserves_nothing() -> None:
    explanation = explain("profiles: [{name: all, gpu: 1}, {name: mail, users: [ada], gpu: 0}]")

    assert to_json(explanation)["resources"] == {
        "limits": {"nvidia.com/gpu": {"quantity": "0", "profile": 1, "overrides": [0]}},
        "requests": {},
    }
    assert lines_of(explanation)[-2:] == ["Resources", "  nvidia.com/gpu  limit  0  from mail, overrides all"]


def test_a_guarantee_that_a_zero_limit_overruled_is_not_told_as_given() -> None:
    explanation = explain("profiles: [{name: a, resources: {requests: {nvidia.com/gpu: 1}}}, {name: b, gpu: 0}]")

    assert to_json(explanation)["resources"] == {
        "limits": {"nvidia.com/gpu": {"quantity": "0", "profile": 1}},
        "requests": {},
    }
    assert len(explanation.warnings) == 1


@pytest.mark.parametrize(
    ("reference", "text"),
    [
        pytest.param({"secretKeyRef": {"name": "a", "key": "b"}}, "secret a, key b", id="Secret"),
        pytest.param({"configMapKeyRef": {"name": "a", "key": "b"}}, "configmap a, key b", id="ConfigMap"),
        pytest.param({"fieldRef": {"fieldPath": "status.podIP"}}, "status.podIP", id="field of the pod"),
        pytest.param({"resourceFieldRef": {"resource": "limits.cpu"}}, "limits.cpu", id="resource"),
    ],
)
def test_a_reference_is_told_for_it_is_no_value(reference: dict[str, Any], text: str) -> None:
    document = json.dumps({"profiles": [{"env": {"A": {"valueFrom": reference}}}]})

    assert f"  A  {text}  from profiles[0]" in lines_of(explain(document))


def test_a_document_without_profiles_gives_nothing() -> None:
    lines = lines_of(explain("profiles: []"))

    assert lines[4:] == [
        "Profiles",
        "  none; the document says 'profiles: []'",
        "",
        "Environment",
        "  nothing from profiles",
        "",
        "Resources",
        "  nothing from profiles",
    ]


def test_nothing_in_a_document_can_steer_the_terminal() -> None:
    document = r'profiles: [{name: "a\e[2Jb", images: ["c\e[2J\nd"], env: {}}, {env: {X: "e\e[2J\nf", Y: "\u202Eg"}}]'

    text = format_text(explain(document), Style(), show_values=True)

    assert text.replace("\n", "").isprintable()
    assert r"  X  e\x1b[2J\nf  from profiles[1]" in text.splitlines()
    assert r"  Y  \u202eg      from profiles[1]" in text.splitlines()


def test_columns_line_up_for_wide_characters_and_let_long_values_stick_out() -> None:
    document = f"profiles: [{{name: 予報, env: {{A: 予, B: bb, C: {'c' * 60}}}}}]"

    lines = lines_of(explain(document), show_values=True)

    assert lines[-6:-3] == [
        "  A  予  from 予報",
        "  B  bb  from 予報",
        f"  C  {'c' * 60}  from 予報",
    ]


def test_colours_change_nothing_but_colours() -> None:
    plain = format_text(explain(), Style())
    coloured = format_text(explain(), Style(colour=True))

    assert "\x1b[32m✔\x1b[0m 0  forecasting" in coloured
    for code in (0, 1, 2, 31, 32, 33):
        coloured = coloured.replace(f"\x1b[{code}m", "")
    assert coloured == plain
