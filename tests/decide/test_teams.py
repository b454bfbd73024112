"""A team's ConfigMap has nothing that the main document does not allow the team."""

from __future__ import annotations

import re

import pytest

from profiled_spawner.decide.teams import find_violations
from profiled_spawner.document.model import Team
from profiled_spawner.document.parser import parse_document
from profiled_spawner.errors import MAX_ERRORS, DocumentError
from profiled_spawner.sources.bounds import bound_document
from profiled_spawner.sources.extract import Text

EVERYTHING = "may: [env, env_from, resources, sizes, images]"


def team(bounds: str) -> Team:
    (found,) = (
        parse_document(f"profiles: []\nteams: [{{name: t, configmaps: [c], users: [ada], {bounds}}}]").teams or ()
    )
    return found


def violations(bounds: str, document: str) -> list[str]:
    """Each violation as the text has it: its place, and what is wrong."""
    text = document if "profiles" in document else f"profiles: []\n{document}"
    try:
        bounded = bound_document(parse_document(text, is_selected=True), "c", team(bounds), Text(text))
    except DocumentError as error:
        return [str(each) for each in error.diagnostics]
    assert {(entry.team and entry.team.name, entry.configmap) for entry in bounded.entries} <= {("t", "c")}
    return []


@pytest.mark.parametrize(
    ("may", "section", "refused"),
    [
        pytest.param("", "env: {A: b}", None, id="env-by-default"),
        pytest.param("", "resources: {mem_limit: 1Gi}", None, id="resources-by-default"),
        pytest.param("", "gpu: 1", None, id="gpu-is-of-resources"),
        pytest.param("may: [env]", "gpu: 1", "gpu: the team t may not have resources", id="gpu-alone"),
        pytest.param("may: [env]", "resources: {mem_limit: 1Gi}", "resources: the team t", id="no-resources"),
        pytest.param("may: [env]", "resources: {requests: {cpu: 1}}", "resources: the team t", id="no-guarantees"),
        pytest.param("may: [env]", "resources: {mem_guarantee: null}", "resources: the team t", id="not-even-null"),
        pytest.param("may: [env]", "resources: {}", None, id="empty-resources-are-nothing"),
        pytest.param("may: []", "env: {A: b}", "env: the team t may not have env; .* lists nothing", id="nothing"),
        pytest.param("may: [resources]", "env: {A: null}", "env: the team t", id="taking-away-is-env-too"),
        pytest.param("", "env: {A: null}", None, id="who-may-set-a-variable-may-take-it-away"),
        pytest.param("may: []", "env: {}", None, id="an-empty-section-is-nothing"),
        pytest.param("refers: ['*']", "env_from: [{secretRef: {name: a}}]", "env_from: the team t", id="no-env-from"),
        pytest.param("may: [env_from], refers: ['*']", "env_from: [{secretRef: {name: a}}]", None, id="env-from"),
        *(
            pytest.param(
                f"{EVERYTHING}, refers: ['*']", section, f"{section.partition(':')[0]}: cannot be in a team's", id=name
            )
            for name, section in {
                "labels": "labels: {a: b}",
                "annotations": "annotations: {a: b}",
                "node-selector": "node_selector: {a: b}",
                "tolerations": "node_tolerations: [{operator: Exists}]",
                "affinity": "node_affinity: {requiredDuringSchedulingIgnoredDuringExecution: {nodeSelectorTerms: "
                "[{matchExpressions: [{key: a, operator: Exists}]}]}}",
                "an-empty-volume": "volumes: [{name: v, mountPath: /v, emptyDir: {}}]",
                "a-claim": "volumes: [{name: v, mountPath: /v, persistentVolumeClaim: {claimName: 'c-{username}'}}]",
                "a-secret": "volumes: [{name: v, mountPath: /v, secret: {secretName: a}}]",
                "a-host-path": "volumes: [{name: v, mountPath: /v, hostPath: {path: /}}]",
                "projected": "volumes: [{name: v, mountPath: /v, projected: {sources: [{secret: {name: a}}]}}]",
                "a-token": "volumes: [{name: v, mountPath: /v, projected: {sources: [{serviceAccountToken: "
                "{path: t}}]}}]",
                "csi": "volumes: [{name: v, mountPath: /v, csi: {driver: d, nodePublishSecretRef: {name: a}, "
                "readOnly: true}}]",
            }.items()
        ),
        pytest.param("", "volumes: []", None, id="no-volumes-are-nothing"),
    ],
)
def test_sections(may: str, section: str, refused: str | None) -> None:
    bounds = f"hard: {{limits.memory: 1Gi, requests.nvidia.com/gpu: 1}}{may and ', '}{may}"
    profile, size = (violations(f"{bounds}", f"{key}: [{{name: x, {section}}}]") for key in ("profiles", "sizes"))
    allows_sizes = "sizes" in may

    assert len(profile) == (refused is not None)
    if refused:
        assert re.search(rf"profiles\[0\]\.{refused}", profile[0])
    # In a size the same, beside that the team may have no sizes.
    expected = [each.replace("profiles[0]", "sizes[0]").partition(": ")[2] for each in profile]
    found = [each.partition(": ")[2] for each in size]
    assert [each for each in found if not each.startswith("sizes: ")] == expected
    assert any(each.startswith("sizes: the team t may not have sizes") for each in found) is not allows_sizes


@pytest.mark.parametrize("key", ["sizes", "images"])
def test_whole_lists(key: str) -> None:
    document = f"{key}: [{{name: x}}]"
    assert violations("", document) == [
        f"line 2, column {len(key) + 3}: {key}: the team t may not have {key}; in the main document, its 'may' lists "
        "env, resources"
    ]
    assert violations("may: [images, sizes]", document) == []
    assert violations("", f"{key}: []") == []


HARD = "hard: {limits.memory: 8Gi, limits.cpu: 4, requests.memory: 2Gi, requests.nvidia.com/gpu: 2}"


@pytest.mark.parametrize(
    ("hard", "amounts", "refused"),
    [
        *(
            pytest.param("limits.memory: 8Gi", each, None, id=f"within {each}")
            for each in (
                "resources: {mem_limit: 8Gi}",
                "resources: {mem_limit: 8192Mi}",
                "resources: {limits: {memory: 8589934592}}",
                "resources: {limits: {memory: 8.5e9}}",
                "resources: {mem_limit: '8589934592000m'}",
                "resources: {mem_guarantee: 8Gi}",
                "resources: {requests: {memory: 1}}",
            )
        ),
        *(
            pytest.param("limits.memory: 8Gi", each, "is more than the team t may give a server, which is 8Gi", id=each)
            for each in (
                "resources: {mem_limit: 8193Mi}",
                "resources: {mem_limit: 9G}",
                "resources: {limits: {memory: 8589934593}}",
                "resources: {limits: {memory: 1e10}}",
                "resources: {limits: {memory: 1E}}",
                "resources: {limits: {memory: '8589934593000m'}}",
                "resources: {mem_guarantee: 8193Mi}",
                "resources: {requests: {memory: 9Gi}}",
            )
        ),
        pytest.param("limits.cpu: 1500m", "resources: {cpu_limit: 1.5}", None, id="cpu"),
        pytest.param("limits.cpu: 1500m", "resources: {cpu_limit: 1501m}", "1501m is more", id="a-thousandth"),
        pytest.param("limits.cpu: 1", "resources: {mem_limit: 1}", "'hard' has no limits.memory", id="another"),
        pytest.param("requests.memory: 1Gi", "resources: {mem_limit: 1Gi}", "has no limits.memory", id="no-limit"),
        pytest.param("requests.memory: 1Gi", "resources: {mem_guarantee: 1Gi}", None, id="a-guarantee"),
        pytest.param(
            "requests.memory: 1Gi", "resources: {mem_guarantee: 2Gi}", r"which is 1Gi \(requests.memory\)", id="its-own"
        ),
        pytest.param(
            "requests.memory: 9Gi, limits.memory: 8Gi",
            "resources: {mem_guarantee: 9Gi}",
            r"which is 8Gi \(limits.memory\)",
            id="the-limit-bounds-the-guarantee",
        ),
        pytest.param("", "resources: {mem_guarantee: 1}", "no requests.memory or limits.memory", id="neither"),
        pytest.param("", "resources: {mem_guarantee: 0}", "no requests.memory or limits.memory", id="not-even-0"),
        pytest.param(
            "requests.memory: 2Gi, limits.memory: 8Gi",
            "resources: {mem_limit: 4Gi}",
            "reserves the limit where there is no guarantee, and 4Gi is more than the team t may reserve, which is 2Gi",
            id="a-limit-is-reserved",
        ),
        pytest.param(
            "requests.memory: 2Gi, limits.memory: 8Gi",
            "resources: {mem_limit: 8Gi, mem_guarantee: 0}",
            None,
            id="a-limit-with-a-guarantee",
        ),
        pytest.param(
            "requests.memory: 2Gi, limits.memory: 8Gi", "resources: {mem_limit: 2Gi}", None, id="a-limit-that-may-be"
        ),
        pytest.param("limits.ephemeral-storage: 1", "resources: {limits: {ephemeral-storage: 1}}", None, id="disk"),
        pytest.param(
            "limits.memory: 1Gi", "resources: {limits: {ephemeral-storage: 1}}", "no limits.ephemeral", id="no-disk"
        ),
        *(
            pytest.param("requests.nvidia.com/gpu: 1", each, None, id=f"within {each}")
            for each in (
                "gpu: 1",
                "gpu: 0",
                "resources: {limits: {nvidia.com/gpu: 1}}",
                "resources: {requests: {nvidia.com/gpu: 1}}",
            )
        ),
        *(
            pytest.param("requests.nvidia.com/gpu: 1", each, "2 is more than the team t may give a server", id=each)
            for each in (
                "gpu: 2",
                "resources: {limits: {nvidia.com/gpu: 2}}",
                "resources: {requests: {nvidia.com/gpu: 2}}",
            )
        ),
        pytest.param("limits.memory: 1Gi", "gpu: 0", "no requests.nvidia.com/gpu", id="no-gpu-at-all"),
        pytest.param(
            "requests.nvidia.com/gpu: 1", "resources: {limits: {amd.com/gpu: 1}}", "no requests.amd.com/gpu", id="amd"
        ),
        pytest.param(
            "requests.hugepages-2Mi: 4Mi", "resources: {limits: {hugepages-2Mi: 6Mi}}", "6Mi is more", id="huge-pages"
        ),
        *(
            pytest.param("limits.memory: 8Gi, requests.nvidia.com/gpu: 1", each, "null would remove", id=each)
            for each in (
                "resources: {mem_limit: null}",
                "resources: {mem_guarantee: ~}",
                "resources: {limits: {memory: null}}",
                "resources: {requests: {cpu: null}}",
                "gpu: null",
            )
        ),
    ],
)
def test_amounts(hard: str, amounts: str, refused: str | None) -> None:
    bounds = f"hard: {{{hard}}}, may: [resources, sizes]"
    for key in ("profiles", "sizes"):
        found = violations(bounds, f"{key}: [{{name: x, {amounts}}}]")
        assert len(found) == (refused is not None), found
        assert refused is None or re.search(refused, found[0])


@pytest.mark.parametrize(
    ("refers", "name", "allowed"),
    [
        pytest.param("[a]", "a", True, id="a-name"),
        pytest.param("[a]", "ab", False, id="another"),
        pytest.param("[]", "a", False, id="none"),
        pytest.param("['a-*']", "a-b", True, id="pattern"),
        pytest.param("['a-*']", "b-a-b", False, id="pattern-of-the-whole-name"),
        pytest.param("['*']", "a", True, id="everything"),
        pytest.param("[x, 'a-*', y]", "a-b", True, id="one-of-several"),
        pytest.param("['a-*']", "'a-{username}'", True, id="field-behind-the-pattern"),
        pytest.param("['a-*']", "'{username}'", False, id="field-alone"),
        pytest.param("['a-*']", "'{username}-a-x'", False, id="field-before"),
        pytest.param("['*']", "'{username}'", True, id="any-field"),
        pytest.param("['a-x*']", "'a-{username}'", False, id="field-that-may-be-another"),
        pytest.param("[a-ada]", "'a-{username}'", False, id="field-that-may-be-the-name"),
        pytest.param("['a-*-key']", "'a-{username}-key'", True, id="field-between"),
        pytest.param("['a-*-key']", "'a-{user_server}'", False, id="field-that-may-lack-the-end"),
        pytest.param("['a-*', '*-b']", "'{username}-b'", True, id="field-by-another-pattern"),
        pytest.param("['a-*']", "'a-{servername}'", False, id="an-empty-server-drops-the-hyphen"),
        pytest.param("['a-*', a]", "'a-{servername}'", True, id="both-names"),
        pytest.param("['a-*']", "'a-{username}--{servername}'", True, id="an-empty-server-behind-a-user"),
        pytest.param("['a-*-*']", "'a-{username}--{servername}'", False, id="what-is-left-must-match-too"),
    ],
)
@pytest.mark.parametrize(
    "where",
    [
        "profiles: [{env: {A: {valueFrom: {secretKeyRef: {name: %s, key: k}}}}}]",
        "profiles: [{env: {A: {valueFrom: {configMapKeyRef: {name: %s, key: k}}}}}]",
        "profiles: [{env: [{name: B, value: b}, {name: A, valueFrom: {secretKeyRef: {name: %s, key: k}}}]}]",
        "profiles: [{env_from: [{secretRef: {name: %s}, prefix: P_}]}]",
        "profiles: [{env_from: [{prefix: P_, configMapRef: {name: %s, optional: true}}]}]",
        "sizes: [{name: x, env_from: [{secretRef: {name: %s}}]}]",
        "images: [{name: x, image_pull_secrets: [%s]}]",
    ],
)
def test_references(refers: str, name: str, allowed: bool, where: str) -> None:
    if "{" in name and "image_pull_secrets" in where:
        return  # these are no templates
    found = violations(f"{EVERYTHING}, refers: {refers}", where % name)
    assert (found == []) is allowed
    for each in found:
        assert "the team t may not refer to this Secret or ConfigMap" in each
        assert ("must match whatever the fields become" in each) is ("{" in name)
        # It may be a value in the wrong place.
        assert len(name) < 4 or name.strip("'") not in each


def test_what_refers_to_the_pod_itself_is_no_reference() -> None:
    assert violations("", "profiles: [{env: {A: {valueFrom: {fieldRef: {fieldPath: metadata.name}}}}}]") == []
    assert violations("", "profiles: [{env: {A: {valueFrom: {resourceFieldRef: {resource: limits.cpu}}}}}]") == []


@pytest.mark.parametrize(
    ("document", "places"),
    [
        pytest.param(
            "profiles:\n- resources:\n    mem_limit: 9Gi",
            ["3:16: profiles[0].resources.mem_limit"],
            id="key",
        ),
        pytest.param(
            "profiles:\n- resources:\n    limits: {memory: 9Gi}",
            ["3:22: profiles[0].resources.limits.memory"],
            id="of-k8s",
        ),
        pytest.param("profiles:\n- gpu: 9", ["2:8: profiles[0].gpu"], id="gpu"),
        pytest.param(
            "profiles:\n- resources: {limits: {nvidia.com/gpu: 9}}",
            ['2:40: profiles[0].resources.limits["nvidia.com/gpu"]'],
            id="a-gpu-under-resources",
        ),
        pytest.param(
            "profiles:\n- resources: {requests: {nvidia.com/gpu: 9}}\n  gpu: 9",
            ['2:42: profiles[0].resources.requests["nvidia.com/gpu"]', "3:8: profiles[0].gpu"],
            id="both",
        ),
        pytest.param(
            "profiles:\n- env: [{name: A, value: a}, {name: B, valueFrom: {secretKeyRef: {name: s, key: k}}}]",
            ["2:73: profiles[0].env[1].valueFrom.secretKeyRef.name"],
            id="list-of-variables",
        ),
        pytest.param(
            "profiles:\n- &a {resources: {mem_limit: 9Gi}}\n- {<<: *a, name: x}\n- {<<: [{name: y}, *a]}",
            ["2:30: profiles[0].resources.mem_limit"],
            id="merged-in",
        ),
        pytest.param(
            "profiles:\n- env: &e {A: {valueFrom: {secretKeyRef: &s {name: s, key: k}}}}\n"
            "- env: {<<: *e, B: {valueFrom: {secretKeyRef: *s}}}",
            ["2:52: profiles[0].env.A.valueFrom.secretKeyRef.name"],
            id="aliases",
        ),
        pytest.param(
            "profiles:\n- name: &g 9\n  resources: {limits: {nvidia.com/gpu: *g}}",
            ['2:9: profiles[0].resources.limits["nvidia.com/gpu"]'],
            id="an-amount-that-is-written-elsewhere",
        ),
    ],
)
def test_places(document: str, places: list[str]) -> None:
    found = violations(HARD, document)
    for each, place in zip(found, places, strict=True):
        line, column, path = place.split(":", 2)
        assert each.startswith(f"line {line}, column {column}:{path}: ")


def test_a_place_counts_from_the_file_in_which_the_document_stands() -> None:
    text = Text("profiles: [{gpu: 9}]", line_offset=7, column_offset=4)
    with pytest.raises(DocumentError) as caught:
        bound_document(parse_document(text.text), "c", team(HARD), text, source="configmap/jhub/c@1")
    assert str(caught.value).startswith("configmap/jhub/c@1 has 1 error:\n  line 8, column 22: profiles[0].gpu: 9 is")


def test_there_are_not_more_than_anybody_reads() -> None:
    document = parse_document("profiles:" + "\n- {gpu: 9}" * 2000)
    assert len(find_violations(document, team(HARD))) == MAX_ERRORS
    text = Text("profiles:" + "\n- {gpu: 9}" * 2000)
    with pytest.raises(DocumentError) as caught:
        bound_document(document, "c", team(HARD), text)
    assert (len(caught.value.diagnostics), caught.value.omitted) == (100, 900)
