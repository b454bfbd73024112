"""The shapes of Kubernetes' objects are those of the client's models, and rules are the API server's."""

import inspect
import re
from typing import Any

import pytest
from kubernetes_asyncio import client

from profiled_spawner.document.kubernetes import FIELD_RANGES, RULES, SHAPES, UNSUPPORTED_VOLUMES, Field
from profiled_spawner.document.parser import validate_document
from profiled_spawner.document.templates import TEMPLATE_FIELDS

# What the models call the types that stand in more than one place here.
MODELS = {
    "FieldRequirement": "NodeSelectorRequirement",
    "FileFieldSelector": "ObjectFieldSelector",
    "FileResourceSelector": "ResourceFieldSelector",
    "MountedVolume": "Volume",
}
KINDS = {"str": "text", "int": "int", "bool": "bool"}
# Fields of a model that a document cannot have, and why.
LEFT_OUT = {
    "EnvVarSource": {"fileKeyRef"},  # not in every release that is supported
    "TypedObjectReference": {"namespace"},  # likewise
    "PodCertificateProjection": {"userAnnotations"},  # likewise
    "MountedVolume": UNSUPPORTED_VOLUMES,
    "ObjectMeta": None,  # the API server takes labels and annotations of a claim's template, and drops the rest
}
OURS = {"MountedVolume": {"mountPath", "subPath", "readOnly"}}


def find_model(kind: str) -> Any:
    return getattr(client, f"V1{MODELS.get(kind, kind)}")


def describe_field(model: Any, attribute: str) -> tuple[str, str]:
    """What kind a model's field is, and how many there are."""
    declared = model.openapi_types[attribute]
    match = re.fullmatch(r"(?:(list)\[|(dict)[\[(]str, ?)?(\w+)[\])]?", declared)
    assert match, declared
    kind = KINDS.get(match[3]) or match[3].removeprefix("V1")
    return kind, "list" if match[1] else "mapping" if match[2] else ""


def is_required(model: Any, attribute: str) -> bool:
    return "must not be `None`" in inspect.getsource(getattr(model, attribute).fset)


@pytest.mark.skipif(not hasattr(client, "V1PodCertificateProjection"), reason="this client is older than some fields")
@pytest.mark.parametrize("kind", SHAPES)
def test_a_shape_has_the_fields_of_its_model(kind: str) -> None:
    model = find_model(kind)
    attributes = {manifest: attribute for attribute, manifest in model.attribute_map.items()}

    ours = set(SHAPES[kind]) - OURS.get(kind, set())

    left_out = LEFT_OUT.get(kind, set())
    assert ours <= set(attributes)
    if left_out is not None:
        assert set(attributes) - ours <= left_out
    for name in ours:
        field = SHAPES[kind][name]
        declared, many = describe_field(model, attributes[name])
        expected = "text" if field.kind == "quantity" else MODELS.get(field.kind, field.kind)
        assert (expected, field.many) == (declared, many), name
        assert field.required or not is_required(model, attributes[name]), name


def test_every_type_that_a_field_has_is_there() -> None:
    kinds = {field.kind for fields in SHAPES.values() for field in fields.values()}

    assert kinds - set(SHAPES) == {"text", "int", "bool", "quantity"}


@pytest.mark.parametrize("place", [*RULES, *FIELD_RANGES])
def test_a_rule_is_one_of_a_field(place: str) -> None:
    kind, _, name = place.partition(".")
    field = SHAPES[kind][name]

    assert isinstance(field, Field)
    assert field.kind == ("int" if place in FIELD_RANGES else "text")


def test_the_template_fields_are_those_that_kubespawner_expands() -> None:
    from kubespawner import KubeSpawner

    source = inspect.getsource(KubeSpawner._expand_user_properties)
    given = set(re.findall(r"^ +(\w+)=", source[source.index("ns = dict(") :], re.MULTILINE))

    assert given | {"pod_name", "pvc_name", "namespace"} == set(TEMPLATE_FIELDS)


@pytest.mark.parametrize(
    "name",
    [
        pytest.param("{username}", id="a field"),
        pytest.param("a-{user_server}.b", id="a field in between"),
        pytest.param("{username}--{servername}", id="two fields"),
    ],
)
def test_a_template_is_taken_where_objects_are_named(name: str) -> None:
    assert validate_document(f'profiles: [{{env_from: [{{secretRef: {{name: "{name}"}}}}]}}]').errors == ()


@pytest.mark.parametrize(
    ("name", "what"),
    [
        pytest.param("{user}", r"did you mean \{username\}\?", id="unknown"),
        pytest.param("{username.__class__}", "a field that KubeSpawner does not have; it has", id="attribute"),
        pytest.param("{username!r}", "a field that KubeSpawner does not have", id="conversion"),
        pytest.param("{username:>9999999}", "a field that KubeSpawner does not have", id="format"),
        pytest.param("{}", "a field that KubeSpawner does not have", id="without a name"),
        pytest.param("{0}", "a field that KubeSpawner does not have", id="position"),
        pytest.param("a}", "has a single brace", id="closed only"),
        pytest.param("{{username}}", "not the name of a Kubernetes object", id="braces"),
        pytest.param("A-{username}", "not the name of a Kubernetes object", id="capital beside a field"),
    ],
)
def test_a_template_that_kubespawner_could_not_expand_is_an_error(name: str, what: str) -> None:
    (error,) = validate_document(f'profiles: [{{env_from: [{{secretRef: {{name: "{name}"}}}}]}}]').errors

    assert re.search(what, error.what)
    assert error.path == "profiles[0].env_from[0].secretRef.name"


def test_values_of_variables_are_no_templates() -> None:
    checked = validate_document('profiles: [{env: {A: "{username}"}, annotations: {b: "{nobody}"}}]')

    assert checked.errors == ()
    assert checked.document is not None
    assert type(checked.document.profiles[0].env["A"]) is str


@pytest.mark.parametrize(
    ("written", "mode"),
    [("0644", 0o644), ("420", 420), ("0o600", 0o600), ("0", 0), ('"0400"', 0o400)],
)
def test_a_mode_is_the_number_that_kubectl_takes_it_for(written: str, mode: int) -> None:
    volume = f"{{name: a, mountPath: /a, secret: {{secretName: a, defaultMode: {written}}}}}"

    document = validate_document(f"profiles: [{{volumes: [{volume}]}}]").document

    assert document is not None
    assert document.profiles[0].volumes[0]["secret"]["defaultMode"] == mode


def test_a_section_that_an_alias_repeats_is_told_wrong_once() -> None:
    repeated = ", ".join(["{volumes: *v}"] * 1000)

    errors = validate_document(f"profiles: [{{volumes: &v [{{name: a}}]}}, {repeated}]").errors

    assert [error.what for error in errors] == [
        "has no 'mountPath'",
        "must have one of persistentVolumeClaim, secret, configMap, emptyDir, …",
    ]


def test_what_is_read_cannot_be_changed() -> None:
    document = validate_document("profiles: [{volumes: [{name: a, mountPath: /a, emptyDir: {}}]}]").document
    assert document is not None
    volume: Any = document.profiles[0].volumes[0]

    with pytest.raises(TypeError, match="does not support item assignment"):
        volume["emptyDir"]["medium"] = "Memory"


def test_a_word_of_a_rule_is_that_word_alone() -> None:
    text = (
        "profiles: [{node_affinity: {requiredDuringSchedulingIgnoredDuringExecution: {nodeSelectorTerms: "
        "[{matchFields: [{key: metadata0name, operator: In, values: [a]}]}]}}}]"
    )

    assert [error.what for error in validate_document(text).errors] == ["must be metadata.name"]


@pytest.mark.parametrize("place", RULES)
def test_every_rule_says_what_is_wrong(place: str) -> None:
    problem = RULES[place].explain("\0 no field takes this text")

    assert problem == RULES[place].message
    assert problem
    assert not problem.endswith(".")


@pytest.mark.parametrize(
    ("place", "words"),
    [
        ("ObjectFieldSelector.apiVersion", ["v1"]),
        ("FileFieldSelector.apiVersion", ["v1"]),
        ("Toleration.operator", ["Exists", "Equal"]),
        ("Toleration.effect", ["NoSchedule", "PreferNoSchedule", "NoExecute"]),
        ("NodeSelectorRequirement.operator", ["In", "NotIn", "Exists", "DoesNotExist", "Gt", "Lt"]),
        ("LabelSelectorRequirement.operator", ["In", "NotIn", "Exists", "DoesNotExist"]),
        ("FieldRequirement.key", ["metadata.name"]),
        ("FieldRequirement.operator", ["In", "NotIn"]),
        ("EmptyDirVolumeSource.medium", ["", "Memory", "HugePages", "HugePages-2Mi"]),
        (
            "HostPathVolumeSource.type",
            [
                *("", "DirectoryOrCreate", "Directory", "FileOrCreate", "File", "Socket", "CharDevice"),
                "BlockDevice",
            ],
        ),
        ("ImageVolumeSource.pullPolicy", ["Always", "IfNotPresent", "Never"]),
        (
            "PersistentVolumeClaimSpec.accessModes",
            ["ReadWriteOnce", "ReadOnlyMany", "ReadWriteMany", "ReadWriteOncePod"],
        ),
        ("PersistentVolumeClaimSpec.volumeMode", ["Filesystem"]),
        (
            "PodCertificateProjection.keyType",
            ["RSA3072", "RSA4096", "ECDSAP256", "ECDSAP384", "ECDSAP521", "ED25519"],
        ),
        ("PodCertificateProjection.signerName", ["example.com/signer"]),
        ("ClusterTrustBundleProjection.signerName", ["example.com/signer"]),
        ("ResourceFieldSelector.resource", ["limits.cpu", "requests.memory", "limits.ephemeral-storage"]),
        ("FileResourceSelector.resource", ["limits.cpu", "requests.memory", "limits.hugepages-2Mi"]),
        ("TypedLocalObjectReference.apiGroup", ["snapshot.storage.k8s.io"]),
        ("TypedObjectReference.apiGroup", ["snapshot.storage.k8s.io"]),
    ],
)
def test_a_field_takes_the_words_of_kubernetes_and_no_others(place: str, words: list[str]) -> None:
    rule = RULES[place]

    assert {word: rule.explain(word) for word in words} == dict.fromkeys(words)
    others = {word.swapcase() for word in words if word} | {f"{word}x y" for word in words}
    assert all(rule.explain(word) for word in others)


def place_errors(text: str) -> list[tuple[str, str]]:
    return [(error.path, error.what) for error in validate_document(f"profiles: [{text}]").errors]


@pytest.mark.parametrize(
    "divisor", ["0", "1", "1k", "1M", "1G", "1T", "1P", "1E", "1Ki", "1Mi", "1Gi", "1Ti", "1Pi", "1Ei"]
)
def test_memory_is_divided_by_a_unit(divisor: str) -> None:
    selector = f"{{resource: limits.memory, divisor: {divisor}}}"

    assert place_errors(f"{{env: {{A: {{valueFrom: {{resourceFieldRef: {selector}}}}}}}}}") == []


@pytest.mark.parametrize(
    ("resource", "divisor"),
    [
        ("limits.memory", "1m"),
        ("limits.memory", "2"),
        ("limits.memory", "1X"),
        ("limits.cpu", "1k"),
        ("limits.cpu", "X"),
    ],
)
def test_nothing_is_divided_by_anything_else(resource: str, divisor: str) -> None:
    selector = f"{{resource: {resource}, divisor: {divisor}}}"

    ((path, what), *_) = place_errors(f"{{env: {{A: {{valueFrom: {{resourceFieldRef: {selector}}}}}}}}}")

    assert path == "profiles[0].env.A.valueFrom.resourceFieldRef.divisor"
    assert what


@pytest.mark.parametrize(
    ("requirement", "what"),
    [
        ("operator: In", "must list at least one value for the operator In"),
        ("operator: NotIn, values: []", "must list at least one value for the operator NotIn"),
        ("operator: Exists, values: [a]", "must be left out with the operator Exists"),
        ("operator: DoesNotExist, values: [a]", "must be left out with the operator DoesNotExist"),
        ("operator: Gt, values: [a]", "must be one whole number for the operator Gt"),
        ("operator: Lt, values: [a]", "must be one whole number for the operator Lt"),
        ("operator: Gt, values: [1, 2]", "must be one whole number for the operator Gt"),
        ("operator: Lt", "must be one whole number for the operator Lt"),
        ("operator: In, values: [a, b]", None),
        ("operator: NotIn, values: [a]", None),
        ("operator: Exists", None),
        ("operator: DoesNotExist, values: []", None),
        ("operator: Gt, values: [1]", None),
        ("operator: Lt, values: ['7']", None),
    ],
)
def test_an_operator_says_how_many_values_there_are(requirement: str, what: str | None) -> None:
    section = (
        "{node_affinity: {requiredDuringSchedulingIgnoredDuringExecution: {nodeSelectorTerms: "
        f"[{{matchExpressions: [{{key: a, {requirement}}}]}}]}}}}}}"
    )

    assert [error for _, error in place_errors(section)] == ([what] if what else [])


@pytest.mark.parametrize("field", ["dataSource", "dataSourceRef"])
@pytest.mark.parametrize(
    ("reference", "fits"),
    [
        ("{kind: PersistentVolumeClaim, name: a}", True),
        ("{kind: VolumeSnapshot, name: a, apiGroup: snapshot.storage.k8s.io}", True),
        ("{kind: VolumeSnapshot, name: a}", False),
    ],
)
def test_what_a_claim_is_made_of_has_a_group_unless_it_is_a_claim(field: str, reference: str, fits: bool) -> None:
    spec = f"{{accessModes: [ReadWriteOnce], resources: {{requests: {{storage: 1Gi}}}}, {field}: {reference}}}"
    volume = f"{{name: a, mountPath: /a, ephemeral: {{volumeClaimTemplate: {{spec: {spec}}}}}}}"

    expected = [] if fits else ["must be PersistentVolumeClaim without an apiGroup"]
    assert [what for _, what in place_errors(f"{{volumes: [{volume}]}}")] == expected
