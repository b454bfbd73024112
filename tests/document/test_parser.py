"""A document is read as it is written, and everything wrong with it is told at once, with its place, without values.

One file for each rule stands in ``examples`` and ``invalid-examples``; here is what takes more than a file to say.
"""

import json
import traceback

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from profiled_spawner.document.model import Document, EnvValue
from profiled_spawner.document.parser import MAX_DIAGNOSTICS, parse_document, validate_document
from profiled_spawner.errors import Diagnostic, DocumentError, ProfiledSpawnerError


def refuse(text: str, **offsets: int) -> list[str]:
    """What is said of a text that is no document."""
    with pytest.raises(DocumentError) as refusal:
        parse_document(text, **offsets)
    return [str(each) for each in refusal.value.diagnostics]


def read_env(text: str) -> dict[str, EnvValue]:
    """The environment of a document's only profile."""
    (profile,) = parse_document(text).profiles
    return dict(profile.env)


# Text stays text


plain = st.from_regex(r"[0-9A-Za-z_.+~/()$=-]{1,30}", fullmatch=True).filter(
    # These mean something: nothing at all, the marks of lists and of documents.
    lambda text: text not in ("null", "~", "-", "---", "...")
)


@given(plain)
@settings(deadline=None)
def test_a_plain_value_is_its_own_characters(text: str) -> None:
    assert read_env(f"profiles:\n- env:\n    A: {text}\n") == {"A": text}
    assert read_env(f"profiles:\n- env:\n  - name: A\n    value: {text}\n") == {"A": text}


@given(plain)
@settings(deadline=None)
def test_a_plain_name_is_its_own_characters_wherever_the_format_wants_text(text: str) -> None:
    (profile,) = parse_document(
        f"profiles:\n- name: {text}\n  users:\n  - {text}\n  groups:\n  - {text}\n  images:\n  - {text}\n"
    ).profiles

    assert (profile.name, profile.users, profile.groups, profile.images) == (text, {text}, {text}, (text,))


@given(st.text(st.characters(min_codepoint=32, exclude_categories=["Cs", "Cc", "Cn", "Co", "Zl", "Zp"]), max_size=50))
@settings(deadline=None)
def test_a_quoted_value_is_what_was_quoted(text: str) -> None:
    quoted = json.dumps(text, ensure_ascii=False)

    assert read_env(f"profiles: [{{env: {{A: {quoted}}}}}]") == {"A": text}


@pytest.mark.parametrize(
    ("mapping", "listed"),
    [
        pytest.param("{A: 80, B: ''}", "[{name: A, value: 80}, {name: B, value: ''}]", id="text"),
        pytest.param("{A: null, B: ~}", "[{name: A, value: null}, {name: B, value: ~}]", id="null"),
        pytest.param(
            "{A: {valueFrom: {fieldRef: {fieldPath: metadata.name}}}}",
            "[{name: A, valueFrom: {fieldRef: {fieldPath: metadata.name}}}]",
            id="value-from",
        ),
        pytest.param("{}", "[]", id="nothing"),
    ],
)
def test_both_forms_of_env_say_the_same(mapping: str, listed: str) -> None:
    assert read_env(f"profiles: [{{env: {mapping}}}]") == read_env(f"profiles: [{{env: {listed}}}]")


@pytest.mark.parametrize(
    ("short", "long"),
    [
        pytest.param("mem_limit: 1Gi", "limits: {memory: 1Gi}", id="mem_limit"),
        pytest.param("cpu_limit: 1", "limits: {cpu: 1}", id="cpu_limit"),
        pytest.param("mem_guarantee: 1Gi", "requests: {memory: 1Gi}", id="mem_guarantee"),
        pytest.param("cpu_guarantee: 0", "requests: {cpu: 0}", id="cpu_guarantee"),
        pytest.param("mem_limit: null", "limits: {memory: null}", id="null"),
    ],
)
def test_both_forms_of_resources_say_the_same(short: str, long: str) -> None:
    assert parse_document(f"profiles: [{{resources: {{{short}}}}}]") == parse_document(
        f"profiles: [{{resources: {{{long}}}}}]"
    )


# Names of Kubernetes' objects


@pytest.mark.parametrize(
    ("source", "length"),
    [
        pytest.param("{secretKeyRef: {name: NAME, key: k}}", 253, id="secret"),
        pytest.param("{configMapKeyRef: {name: n, key: NAME}}", 253, id="key"),
        pytest.param("{resourceFieldRef: {resource: limits.cpu, containerName: NAME}}", 63, id="container"),
        pytest.param("{fieldRef: {fieldPath: \"metadata.labels['NAME']\"}}", 63, id="label"),
        pytest.param("{fieldRef: {fieldPath: \"metadata.labels['NAME/a']\"}}", 253, id="domain-of-a-label"),
    ],
)
def test_a_name_in_value_from_is_as_long_as_kubernetes_allows(source: str, length: int) -> None:
    document = f"profiles: [{{env: [{{name: A, valueFrom: {source}}}]}}]"

    assert read_env(document.replace("NAME", "a" * length)).keys() == {"A"}
    (said,) = refuse(document.replace("NAME", "a" * (length + 1)))
    assert "aaaa" not in said


@pytest.mark.parametrize(
    "resource",
    ["cpu", "memory", "ephemeral-storage", "hugepages-2Mi", "nvidia.com/gpu", "a/b", f"{'a' * 244}/{'b' * 63}"],
)
def test_a_container_can_have_the_resource(resource: str) -> None:
    (profile,) = parse_document(f"profiles: [{{resources: {{limits: {{{resource}: 2Mi}}}}}}]").profiles

    assert list(profile.limits) == [resource]


@pytest.mark.parametrize(
    "resource",
    [
        pytest.param("pods", id="not-a-containers"),
        pytest.param("CPU", id="capitals"),
        pytest.param("gpu", id="no-domain"),
        pytest.param("limits.cpu", id="of-a-quota"),
        pytest.param("requests.nvidia.com/gpu", id="extended-of-a-quota"),
        pytest.param("hugepages-2M", id="no-size-of-pages"),
        pytest.param("hugepages-0Mi", id="pages-of-no-size"),
        pytest.param("hugepages-", id="pages-without-a-size"),
        pytest.param("hugepages-2Mi.org/a", id="pages-with-a-domain"),
        pytest.param("/gpu", id="empty-domain"),
        pytest.param("nvidia.com/", id="empty-name"),
        pytest.param("a/b/c", id="two-slashes"),
        pytest.param("-a/b", id="domain-that-begins-with-a-dash"),
        pytest.param("a_b/c", id="underscore-in-the-domain"),
        pytest.param("kubernetes.io/batch", id="kubernetes-own"),
        pytest.param("node.kubernetes.io/x", id="below-kubernetes-own"),
        pytest.param(f"{'a' * 245}/b", id="domain-too-long"),
        pytest.param(f"a/{'b' * 64}", id="name-too-long"),
    ],
)
def test_no_container_can_have_the_resource(resource: str) -> None:
    (said,) = refuse(f"profiles: [{{resources: {{limits: {{{resource}: 1}}}}}}]")

    assert "resource" in said or "size of huge pages" in said or "kubernetes.io is Kubernetes' own domain" in said


# Sizes


@pytest.mark.parametrize(
    "form", ["profiles: [{{env: {{{name}: '{value}'}}}}]", "profiles: [{{env: [{{name: {name}, value: '{value}'}}]}}]"]
)
@pytest.mark.parametrize(
    ("name", "character", "size"),
    [
        pytest.param("A", "x", 131_071, id="ascii"),
        pytest.param("A" * 1000, "x", 131_071, id="the-name-counts"),
        pytest.param("AA", "东", 131_070, id="bytes-count-not-characters"),
        pytest.param("AA", "🐘", 131_071, id="four-bytes-each"),
    ],
)
def test_a_variable_may_have_131_071_bytes_with_its_name(form: str, name: str, character: str, size: int) -> None:
    value = character * ((size - len(name) - 1) // len(character.encode()))
    assert len(f"{name}={value}".encode()) == size

    assert read_env(form.format(name=name, value=value)) == {name: value}
    (said,) = refuse(form.format(name=name, value=value + character))
    assert said.endswith(
        f"is {size + len(character.encode()):,} bytes with its name; Linux starts no process with more than 131,071"
    )


def test_a_document_may_be_one_mebibyte() -> None:
    document = "profiles: []\n#"

    assert parse_document(document + "x" * (2**20 - len(document))) == Document()
    assert refuse(document + "x" * (2**20 - len(document) + 1)) == [
        "larger than 1,048,576 bytes, which is more than a ConfigMap can hold"
    ]


# All errors at once


def test_errors_are_told_in_the_order_of_the_text() -> None:
    assert refuse(
        "profiles:\n"
        "- resources: {cpu_limit: 2GB, limits: {cpu: 1, memory: 0}}\n"
        "  users: ada\n"
        "  nmae: x\n"
        "- env: {A: , A: b}\n"
        "extra: x\n"
    ) == [
        "line 2, column 26: profiles[0].resources.cpu_limit: 2GB is not a Kubernetes quantity; write it as 500m or 1.5",
        "line 2, column 40: profiles[0].resources.limits.cpu: the same as 'cpu_limit', which is given too; "
        "keep one of them",
        "line 2, column 56: profiles[0].resources.limits.memory: a memory limit cannot be 0; "
        "leave it out, or write null for no limit",
        "line 3, column 10: profiles[0].users: must be a list; put it in brackets, [ and ]",
        "line 4, column 3: profiles[0].nmae: unknown key; did you mean 'name'?",
        'line 5, column 12: profiles[1].env.…: has no value; write "" for the empty text, '
        "or null to remove the variable; a text that begins with # needs quotes",
        "line 5, column 14: profiles[1].env.…: given twice, first at line 5",
        "line 6, column 1: …: unknown key; a document has profiles, sizes, images, quotas, teams, timezone",
    ]


@pytest.mark.parametrize(
    ("count", "counted", "more"),
    [
        pytest.param(2, "2 errors", "", id="two"),
        pytest.param(MAX_DIAGNOSTICS, "100 errors", "", id="a-hundred"),
        pytest.param(MAX_DIAGNOSTICS + 1, "101 errors", "1 more", id="one-more"),
        pytest.param(999, "999 errors", "899 more", id="as-many-as-are-counted"),
        pytest.param(2_000, "1000 errors or more", "900 or more", id="very-many"),
    ],
)
def test_the_first_hundred_errors_are_told_and_how_many_more(count: int, counted: str, more: str) -> None:
    lines = "".join(f"- nmae{number}: x\n" for number in range(count))

    with pytest.raises(DocumentError) as refusal:
        parse_document(f"profiles:\n{lines}")

    assert [each.line for each in refusal.value.diagnostics] == list(range(2, min(count, 100) + 2))
    assert str(refusal.value).startswith(f"the document has {counted}:\n  line 2, column 3: ")
    assert str(refusal.value).partition("\n  … and ")[2] == more


def test_errors_behind_an_alias_are_counted_once() -> None:
    keys = "".join(f"  nmae{number}: x\n" for number in range(150))

    with pytest.raises(DocumentError) as refusal:
        parse_document(f"profiles:\n- &p\n{keys}- *p\n- *p\n")

    assert (len(refusal.value.diagnostics), refusal.value.omitted) == (100, 50)


def test_an_error_names_the_source() -> None:
    with pytest.raises(DocumentError) as refusal:
        parse_document("profiles:", source="configmap/jhub/profiles@1")

    assert str(refusal.value) == (
        "configmap/jhub/profiles@1 has 1 error:\n"
        "  line 1, column 10: profiles: has no value; write 'profiles: []' for none"
    )
    assert isinstance(refusal.value, ProfiledSpawnerError)


@pytest.mark.parametrize(
    ("diagnostic", "text"),
    [
        pytest.param(Diagnostic("is odd", "profiles[0]", 3, 5), "line 3, column 5: profiles[0]: is odd", id="place"),
        pytest.param(Diagnostic("is odd", "", 3, 5), "line 3, column 5: is odd", id="whole-document"),
        pytest.param(Diagnostic("is odd", "profiles"), "profiles: is odd", id="no-line"),
        pytest.param(Diagnostic("is odd"), "is odd", id="nowhere"),
    ],
)
def test_a_diagnostic_says_where_and_what(diagnostic: Diagnostic, text: str) -> None:
    assert str(diagnostic) == text


@pytest.mark.parametrize(
    ("text", "said"),
    [
        pytest.param(
            "\nprofiles: [{nmae: x}]",
            "line 12, column 17: profiles[0].nmae: unknown key; did you mean 'name'?",
            id="document",
        ),
        pytest.param(
            "profiles: [*]",
            "line 11, column 17: an alias (*) needs a name of letters, digits, - and _; "
            'a text that begins with * needs quotes: "*"',
            id="yaml",
        ),
        pytest.param("[" * 60, "line 11, column 55: nested more than 50 levels deep", id="bounds"),
        pytest.param(
            "#" * (2**20 + 1), "larger than 1,048,576 bytes, which is more than a ConfigMap can hold", id="no-place"
        ),
        pytest.param(
            "profiles: [{name: a,\nname: b}]",
            "line 12, column 5: profiles[0].name: given twice, first at line 11",
            id="another-line-in-a-message",
        ),
        pytest.param(
            "profiles:\n- users: [a\n  b: c\n",
            "line 13, column 8: a ',' is missing before this, or the ] for the [ opened at line 12, column 14; "
            "a text that holds ': ' needs quotes",
            id="another-place-in-what-yaml-says",
        ),
    ],
)
def test_places_are_those_of_the_file_that_holds_the_document(text: str, said: str) -> None:
    assert refuse(text, line_offset=10, column_offset=4) == [said]


def test_warnings_have_the_places_of_the_file_too() -> None:
    checked = validate_document("profiles: [{users: []}]", line_offset=10, column_offset=4)

    (warning,) = checked.warnings
    assert (warning.line, warning.column, warning.severity) == (11, 17, "warning")


def test_a_document_with_errors_is_still_warned_about() -> None:
    checked = validate_document("profiles: [{users: []}, {nmae: a}]")

    assert checked.document is None
    assert [each.path for each in checked.errors] == ["profiles[1].nmae"]
    assert [each.path for each in checked.warnings] == ["profiles[0].users"]


def test_a_section_behind_an_alias_is_read_once_and_shared() -> None:
    one, other = parse_document("profiles: [{env: &e {A: b}}, {env: *e}]").profiles

    assert one.env is other.env


# No message holds a value

CANARIES = [
    pytest.param("31337Canary", id="like-a-quantity"),
    pytest.param("canary_31337", id="like-a-name"),
    pytest.param("Canary 31337", id="like-text"),
]


def tell_everything(text: str) -> str:
    """All that can be seen of a refusal."""
    with pytest.raises(DocumentError) as refusal:
        parse_document(text, source="p.yaml")
    error = refusal.value
    told = [error, *error.args, *error.diagnostics, *validate_document(text).warnings]
    return "\n".join([*map(str, told), *map(repr, told), *traceback.format_exception(error)])


@pytest.mark.parametrize("canary", CANARIES)
@pytest.mark.parametrize(
    "text",
    [
        pytest.param("profiles: [{env: CANARY}]", id="env-is-the-value"),
        pytest.param("profiles: [{env: [CANARY]}]", id="list-of-values"),
        pytest.param("profiles: [{env: ['A=CANARY']}]", id="list-of-assignments"),
        pytest.param("profiles: [{env: ['A: CANARY']}]", id="list-of-texts"),
        pytest.param("profiles: [{env: [[A, CANARY]]}]", id="list-of-lists"),
        pytest.param("profiles: [{env: [{A: CANARY}]}]", id="list-of-mappings"),
        pytest.param("profiles: [{env: [{name: A=CANARY, value: x}]}]", id="name-with-the-value"),
        pytest.param("profiles: [{env: {A=CANARY: x}}]", id="key-with-the-value"),
        pytest.param("profiles: [{env: {'A=CANARY': }}]", id="key-with-the-value-and-nothing-behind-it"),
        pytest.param("profiles: [{env: {A: [CANARY]}}]", id="value-in-a-list"),
        pytest.param("profiles: [{env: {A: {CANARY}}}]", id="value-in-braces"),
        pytest.param("profiles: [{env: {A: {{CANARY}}}}]", id="value-in-double-braces"),
        pytest.param("profiles: [{env: {A: {CANARY: x}}}]", id="json-without-quotes"),
        pytest.param("profiles: [{env: {A: {x: CANARY}}}]", id="json-without-quotes-around-a-value"),
        pytest.param("profiles: [{env: {A: {CANARY: x, CANARY: y}}}]", id="json-with-a-key-twice"),
        pytest.param("profiles: [{env: {A: {value: CANARY}}}]", id="mapping-with-value"),
        pytest.param("profiles: [{env: {A: {valueFrom: CANARY}}}]", id="value-as-value-from"),
        pytest.param("profiles: [{env: [{name: A, valueFrom: {secretKeyRef: CANARY}}]}]", id="value-as-selector"),
        pytest.param("profiles: [{env: [{name: A, value: CANARY, valueFrom: {}}]}]", id="value-and-value-from"),
        pytest.param("profiles: [{env: [{name: A, valeu: CANARY}]}]", id="value-misspelled"),
        pytest.param('profiles: [{env: [{name: A, value:"CANARY"}]}]', id="no-space-behind-the-colon-of-a-list-item"),
        pytest.param("profiles: [{env: [{name: A, value=CANARY}]}]", id="equals-sign-in-a-list-item"),
        pytest.param("profiles: [{env: [{name: A, CANARY}]}]", id="value-alone-in-a-list-item"),
        pytest.param("profiles: [{env: [{name: A, CANARY: x}]}]", id="value-as-key-of-a-list-item"),
        pytest.param("profiles:\n- env:\n  - name: A\n    CANARY: x\n", id="value-as-key-of-a-block"),
        pytest.param("profiles: [{env: [{name: A, value: x, CANARY: x, CANARY: y}]}]", id="value-as-key-twice"),
        pytest.param("profiles: [{env: {A: x,CANARY}}]", id="comma-in-the-value"),
        pytest.param("profiles: [{env: {CANARY}}]", id="value-alone-in-braces"),
        pytest.param("profiles: [{env: {CANARY }}]", id="value-alone-in-braces-with-a-space"),
        pytest.param("profiles:\n- env:\n    CANARY:\n", id="value-before-the-colon"),
        pytest.param("profiles: [{env: {CANARY: [x]}}]", id="value-before-the-colon-of-a-list"),
        pytest.param("profiles: [{env: {CANARY: x, CANARY: x}}]", id="value-before-the-colon-twice"),
        pytest.param("profiles: [{env: {A:CANARY}}]", id="no-space-behind-the-colon"),
        pytest.param('profiles: [{env: {A:"CANARY"}}]', id="no-space-before-the-quotes"),
        pytest.param("profiles:\n- env:\n    ? CANARY\n    B: x\n", id="question-mark-before-it"),
        pytest.param("profiles:\n- env:\n    A: x\n  CANARY: x\n", id="indented-as-a-section"),
        pytest.param("profiles:\n- env:\n    A: x\nCANARY: x\n", id="not-indented"),
        pytest.param("profiles:\n- env:\n    A: x\n  CANARY: x\n  CANARY: y\n", id="indented-as-two-sections"),
        pytest.param("profiles: [{env: {A: {valueFrom: {CANARY}}}}]", id="value-alone-in-value-from"),
        pytest.param("profiles: [{env: {A: {valueFrom: {CANARY: x}}}}]", id="value-as-kind-of-source"),
        pytest.param("profiles: [{env: {A: {valueFrom: {secretKeyRef: {CANARY}}}}}]", id="value-alone-in-selector"),
        pytest.param("profiles: [{env: {A: {valueFrom: {secretKeyRef: {CANARY: x}}}}}]", id="value-as-key-of-selector"),
        pytest.param("profiles: [{env: {A: {valueFrom: {secretKeyRef: {name: CANARY=}}}}}]", id="value-as-secret"),
        pytest.param("profiles: [{env_from: [{CANARY: x}]}]", id="value-as-key-of-env-from"),
        pytest.param("profiles: [{labels: {CANARY=: x}, annotations: {CANARY=: x}}]", id="value-as-label"),
        pytest.param("profiles: [{node_selector: {CANARY=: x}}]", id="value-as-selected-label"),
        pytest.param("profiles: [{resources: {CANARY: x, limits: {CANARY: 1}}}]", id="value-as-resource"),
        pytest.param("profiles: [{users: CANARY, groups: CANARY, images: CANARY}]", id="value-as-list"),
        pytest.param("profiles: [{env: [{value: CANARY}]}]", id="value-without-a-name"),
        pytest.param("profiles: [{env: [{name: A, value: [CANARY]}]}]", id="value-of-a-list-item-in-a-list"),
        pytest.param("profiles: [{env: {A: CANARY, A: CANARY}}]", id="duplicate-key"),
        pytest.param("profiles: [{env: [{name: A, value: CANARY}, {name: A, value: CANARY}]}]", id="duplicate-name"),
        pytest.param("profiles: [{env: {JUPYTERHUB_API_TOKEN: CANARY}}]", id="name-of-the-hub"),
        pytest.param("profiles: [{env: {1ST: CANARY}}]", id="name-that-cannot-be"),
        pytest.param(r'profiles: [{env: {A: "CANARY\0"}}]', id="nul"),
        pytest.param("profiles: [{env: {A: '" + "CANARY" * 20_000 + "'}}]", id="too-long"),
        pytest.param("profiles: [{environment: {A: CANARY}}]", id="section-misspelled"),
        pytest.param("profiles: [{resources: {env: {A: CANARY}}}]", id="section-in-the-wrong-place"),
        pytest.param("env: {A: CANARY}", id="section-without-a-profile"),
        pytest.param("profiles: {env: {A: CANARY}}", id="profiles-as-mapping"),
        pytest.param("profiles: [{env: {? {x: CANARY} : y}}]", id="key-that-is-a-mapping"),
        pytest.param("profiles: [{env: {A: &v 'CANARY'}, resources: {cpu_limit: *v}}]", id="alias-as-quantity"),
        pytest.param("profiles: [{env: {A: &v 'CANARY'}, resources: {limits: {cpu: *v}}}]", id="alias-as-limit"),
        pytest.param("profiles: [{env: {A: &v 'CANARY'}, users: *v}]", id="alias-as-list-of-users"),
        pytest.param("profiles: [{env: {A: &v CANARY}, images: *v}]", id="alias-as-list-of-images"),
        pytest.param("profiles: [{env: {A: &v CANARY}, resources: *v}]", id="alias-as-resources"),
        pytest.param("profiles: [{env: {A: &v CANARY}}, *v]", id="alias-as-profile"),
        pytest.param("profiles: [{env: {A: &v CANARY}, <<: *v}]", id="alias-as-merge"),
        pytest.param("profiles: [{resources: {mem_limit: &v CANARY}, env: {A: *v}}]", id="quantity-as-value"),
        pytest.param("profiles: [{users: &v CANARY, env: {A: *v}}]", id="users-as-value"),
        pytest.param("profiles: [{env: {A: *CANARY}}]", id="value-with-a-star"),
        pytest.param("profiles: [{env: {A: &CANARY, A: x}}]", id="value-with-an-ampersand"),
        pytest.param("profiles: [{env: {A: !CANARY x}}]", id="value-with-an-exclamation-mark"),
        pytest.param("profiles: [{env: {A: !!CANARY x}}]", id="value-with-two-exclamation-marks"),
        pytest.param("profiles: [{env: {A: @CANARY}}]", id="value-with-an-at-sign"),
        pytest.param("profiles: [{env: {A: %CANARY}}]", id="value-with-a-percent-sign"),
        pytest.param("profiles: [{env: {A: 'CANARY}}]", id="quote-left-open"),
        pytest.param(r'profiles: [{env: {A: "CANARY\q"}}]', id="unknown-escape"),
        pytest.param("profiles:\n- env:\n    A: x: CANARY\n", id="colon-in-the-value"),
        pytest.param("profiles:\n- env:\n    A: x\n   B: CANARY\n", id="indentation-off"),
        pytest.param("profiles:\n- env:\n\tA: CANARY\n", id="tab-before-it"),
        pytest.param("profiles:\n- env:\n    A: |x\n      CANARY\n", id="block-indicator-wrong"),
        pytest.param("profiles: [{env: {A: CANARY}}", id="bracket-left-open"),
        pytest.param("profiles: [{env: {A: CANARY\x07}}]", id="control-character"),
        pytest.param("profiles: [{env: {A: CANARY\ud800}}]", id="lone-surrogate"),
        pytest.param("profiles: [{env: {A: CANARY}}]\n---\nCANARY", id="second-document"),
        pytest.param("profiles: [{env: {A: CANARY}}]\nCANARY\n", id="text-behind-the-document"),
        pytest.param("CANARY", id="nothing-else"),
        pytest.param("- CANARY", id="list"),
    ],
)
def test_no_message_holds_a_value(text: str, canary: str) -> None:
    assert canary not in tell_everything(text.replace("CANARY", canary))


@pytest.mark.parametrize(
    "text",
    [
        pytest.param("profiles: [{env: &e {mem_limit: CANARY}, resources: *e}]", id="env-as-resources"),
        pytest.param("profiles: [{env: &e {cpu: CANARY}, resources: {limits: *e}}]", id="env-as-limits"),
        pytest.param("profiles: [{resources: &r {cpu_limit: CANARY}, env: *r}]", id="resources-as-env"),
        pytest.param("profiles: [{env: &e {users: CANARY}}, *e]", id="env-as-profile"),
        pytest.param("profiles: [{env: &e {users: CANARY}}, {<<: *e}]", id="env-merged-into-a-profile"),
        pytest.param("profiles: [{env: {A: &v CANARY}}, {*v : x}]", id="alias-as-key"),
    ],
)
def test_no_message_holds_a_value_that_an_alias_brought_elsewhere(text: str) -> None:
    assert "31337Canary" not in tell_everything(text.replace("CANARY", "31337Canary"))


@pytest.mark.parametrize(
    ("text", "found"),
    [
        pytest.param("profiles: [{resources: {mem_limit: 2GB}}]", "2GB is not a Kubernetes quantity", id="quantity"),
        pytest.param("profiles: [{resorces: {}}]", "profiles[0].resorces: unknown key", id="key"),
        pytest.param("profiles: [{env: {A: {valueFrom: x}}}]", "env.A.valueFrom: must be", id="variable"),
        pytest.param("kind: ConfigMap", "kind: unknown key", id="key-of-a-manifest"),
    ],
)
def test_what_is_no_value_is_told_as_it_was_found(text: str, found: str) -> None:
    (said,) = refuse(text)

    assert found in said


# Whatever comes


texts = st.sampled_from(["a", "1", "null", "~", "''", "*", "2Gi", "-1", "&x y", "*x", "JUPYTERHUB_USER", "<<"])
document_keys = ["profiles", "name", "images", "users", "groups", "env", "resources", "limits", "requests", "mem_limit"]
keys = st.sampled_from(
    [*document_keys, "cpu", "nvidia.com/gpu", "value", "valueFrom", "secretKeyRef", "<<", "A", "1", ""]
)
nodes = st.recursive(
    texts,
    lambda inner: (
        st.lists(inner, max_size=4).map(lambda items: f"[{', '.join(items)}]")
        | st.lists(st.tuples(keys, inner), max_size=5).map(
            lambda pairs: "{" + ", ".join(f"{key or '? '}: {value}" for key, value in pairs) + "}"
        )
    ),
    max_leaves=30,
)


@given(nodes | nodes.map(lambda node: f"profiles: [{node}]") | nodes.map(lambda node: f"profiles: [{{env: {node}}}]"))
@settings(deadline=None, max_examples=150)
def test_any_yaml_is_a_document_or_refused_with_places(text: str) -> None:
    checked = validate_document(text)

    assert (checked.document is None) == bool(checked.errors)
    assert all(each.line >= 1 and each.column >= 1 for each in (*checked.errors, *checked.warnings))
    assert list(checked.errors) == sorted(checked.errors, key=lambda each: (each.line, each.column))


@pytest.mark.parametrize("kind", ["limits", "requests"])
def test_resources_beyond_the_limit_of_a_start_are_an_error(kind: str) -> None:
    resources = ", ".join(f"example.com/r{number}: 1" for number in range(21))

    assert refuse(f"profiles: [{{resources: {{{kind}: {{{resources}}}}}}}]") == [
        "line 1, column 24: profiles[0].resources: has 21 resources, and a server can have 20"
    ]


@pytest.mark.parametrize(
    "label",
    [
        *("app", "component", "heritage", "release", "chart", "hub.jupyter.org/username", "profiled-spawner/x"),
        *("app.kubernetes.io/name", "app.kubernetes.io/component", "app.kubernetes.io/managed-by"),
    ],
)
def test_a_label_by_which_kubespawner_finds_its_pods_is_refused(label: str) -> None:
    (error,) = refuse(f"profiles: [{{labels: {{{label}: a}}}}]")

    assert "belongs to KubeSpawner, which finds its pods by it, and cannot be set" in error
