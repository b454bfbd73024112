"""A value is found in a message, whoever wrote it there and however often it was quoted since."""

from __future__ import annotations

import copy
import json
import logging
import pickle
import re
import unicodedata
from collections.abc import Callable

import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from kubernetes_asyncio.client import ApiClient, ApiException, V1Container, V1EnvVar, V1ObjectMeta, V1Pod, V1PodSpec

from profiled_spawner.pod.redaction import Mask, MaskedPod, withhold_response_bodies

Writer = Callable[[str], str]

CANARY = "canary"


def write_go_json(text: str) -> str:
    """As Go's encoding/json writes a string since 1.22: https://pkg.go.dev/encoding/json#Marshal."""
    short = {'"': '\\"', "\\": "\\\\", "\n": "\\n", "\r": "\\r", "\t": "\\t", "\b": "\\b", "\f": "\\f"}
    by_number = re.compile("[\0-\x1f<>&\u2028\u2029]")
    return "".join(short.get(each) or (f"\\u{ord(each):04x}" if by_number.match(each) else each) for each in text)


def write_go_quoted(text: str) -> str:
    """As Go's ``%q`` does: https://pkg.go.dev/strconv#Quote."""
    return "".join(_quote_for_go(each, ascii_alone=False) for each in text)


def write_go_quoted_in_ascii(text: str) -> str:
    """As Go's ``%+q`` does: https://pkg.go.dev/strconv#QuoteToASCII."""
    return "".join(_quote_for_go(each, ascii_alone=True) for each in text)


def _quote_for_go(character: str, *, ascii_alone: bool) -> str:
    short = {"\a": "a", "\b": "b", "\f": "f", "\n": "n", "\r": "r", "\t": "t", "\v": "v", '"': '"', "\\": "\\"}
    code = ord(character)
    if character in short:
        return f"\\{short[character]}"
    if character == " " or (unicodedata.category(character)[0] in "LMNPS" and (code < 0x80 or not ascii_alone)):
        return character
    if code < 0x20 or code == 0x7F:
        return f"\\x{code:02x}"
    return f"\\u{code:04x}" if code < 0x10000 else f"\\U{code:08x}"


def write_python_json(text: str) -> str:
    return json.dumps(text, ensure_ascii=False)[1:-1]


def write_python_json_in_ascii(text: str) -> str:
    return json.dumps(text)[1:-1]


def write_python_repr(text: str) -> str:
    return repr(text)[1:-1]


WRITERS: list[Writer] = [
    *(write_go_json, write_go_quoted, write_go_quoted_in_ascii),
    *(write_python_json, write_python_json_in_ascii, write_python_repr),
]

# What some of the writers above escape, and what looks as if they had.
odd_texts = st.lists(
    st.sampled_from([*"\\\"'\n\r\t\a\b\f\v<&\u2028é😀\x7f\x85 n", "\\n", "\\u0041", "u0041", "x41", "\\\\", "{"])
    | st.characters(exclude_categories=["Cs"])
).map("".join)
writers = st.lists(st.sampled_from(WRITERS), max_size=3)


def written(text: str, by: list[Writer]) -> str:
    for writer in by:
        text = writer(text)
    return text


@given(odd_texts, writers, st.lists(odd_texts.map("other".__add__), max_size=3))
@example("\\", [write_go_json], [])
@example("\a\b\f\n\r\t\v", [write_go_quoted], [])
@example("\\u0041\n", [write_python_repr, write_go_json], [])
def test_a_value_is_hidden_and_nothing_else_is(text: str, by: list[Writer], others: list[str]) -> None:
    # What has no backslash at its end has none in front of what comes after it.
    value = f"{text}{CANARY}{text}"
    left = value[len(value.rstrip("\\")) :]
    said = written(f'denied "{value}" <to> all', by)
    assert Mask([*others, value]).apply(said) == written(f'denied "***{left}" <to> all', by)


@given(odd_texts, writers, odd_texts, odd_texts)
@example("", [], "\\", "")
def test_a_value_is_hidden_whatever_it_stands_between(text: str, by: list[Writer], before: str, after: str) -> None:
    value = f"{CANARY}{text}{CANARY}"
    assert CANARY not in Mask([value]).apply(written(before + value + after, by))


@pytest.mark.parametrize("value", ["u0041bcdef", "x41bcdef", "nabcdef", "U0001f600bcdef"])
def test_a_value_that_could_be_part_of_an_escape_is_hidden_behind_a_backslash(value: str) -> None:
    assert value not in Mask([value]).apply(json.dumps(f"C:\\{value}"))


@given(st.text(), writers)
def test_a_text_without_values_is_as_it_was(text: str, by: list[Writer]) -> None:
    said = written(text.replace("\ue000", ""), by)
    assert Mask(["\ue000" * 6, "\ue000" * 100]).apply(said) == said


@given(st.integers(12, 40), writers)
def test_the_beginning_of_a_value_is_hidden(length: int, by: list[Writer]) -> None:
    value = 'a\n"b"<c>é\\d😀' * 4
    beginning = value[:length].rstrip("\\")
    said = written(f"“{beginning}”, and so on", by)
    assert Mask([value, value + "!", "z" * 30]).apply(said) == written("“***”, and so on", by)


@pytest.mark.parametrize(
    ("values", "said", "shown"),
    [
        pytest.param(["12345"], "12345 of 123456", "12345 of 123456", id="short-ones-stay"),
        pytest.param(["123456"], "12345 of 1234567", "12345 of ***7", id="shortest"),
        pytest.param(["https://a.example"], "https://b.example", "https://b.example", id="short-beginnings-stay"),
        pytest.param(["value-of-one", "value-of-one-more"], "value-of-one-more", "***", id="the-longer-of-two"),
        pytest.param(["value-of-one", "value-of-two"], "value-of-onevalue-of-two", "******", id="one-behind-another"),
        pytest.param(["abcdef", "abcdefgh"], "abcdefgh abcdef", "*** ***", id="one-within-another"),
        pytest.param([], "nothing\\u003c", "nothing\\u003c", id="no-values"),
        pytest.param(["value-of-one"], "", "", id="no-text"),
        pytest.param(
            ["value-of-one"],
            "x" * 8_193,
            "8193 characters withheld: they may hold values of environment variables",
            id="too-long-to-look-at",
        ),
        pytest.param(
            ["\\x41" * 1_000, "\U0001f600" * 500, "\U0001f601" * 501],
            "no values",
            "9 characters withheld: they may hold values of environment variables",
            id="values-that-are-too-odd-to-look-for",
        ),
    ],
)
def test_what_is_hidden(values: list[str], said: str, shown: str) -> None:
    assert Mask(values).apply(said) == shown


class TestAMaskedPod:
    @pytest.fixture
    def pod(self) -> MaskedPod:
        env = [
            V1EnvVar(name="A", value="canary-first"),
            V1EnvVar(name="B", value="canary-first, and more"),
            V1EnvVar(name="SHORT", value="80"),
            V1EnvVar(name="JUPYTERHUB_USER", value="grace-hopper"),
            {"name": "QUOTED", "value": 'canary "<\n>"'},
        ]
        container = V1Container(name="notebook", env=env)
        return MaskedPod.of(V1Pod(metadata=V1ObjectMeta(name="jupyter-ada"), spec=V1PodSpec(containers=[container])))

    def logged_with(self, pod: MaskedPod, said: str) -> ApiException:
        """A refusal, once KubeSpawner has logged the pod with it."""
        refusal = ApiException(status=400, reason="Bad Request")
        refusal.body = said
        refusal.headers = {"Warning": f'299 - "{said}"', "Audit-Id": "1"}
        try:
            raise refusal
        except ApiException:
            pod.to_str()
        return refusal

    def test_is_sent_whole(self, pod: MaskedPod) -> None:
        sent = ApiClient.sanitize_for_serialization(ApiClient.__new__(ApiClient), pod)
        assert sent["spec"]["containers"][0]["env"][0] == {"name": "A", "value": "canary-first"}

    def test_shows_no_value_however_it_is_copied_or_printed(self, pod: MaskedPod) -> None:
        pods = [pod, copy.copy(pod), copy.deepcopy(pod), pickle.loads(pickle.dumps(pod))]
        texts = [text for each in pods for text in (str(each), repr(each), f"{each}", each.to_str(), repr([each]))]
        assert not [text for text in texts if "canary" in text]
        assert all('"name": "QUOTED"' in text for text in texts)

    def test_masks_the_refusal_that_it_is_logged_with(self, pod: MaskedPod) -> None:
        refusal = self.logged_with(pod, "no canary-first, and more, no 80 for grace-hopper")
        assert refusal.body == "no ***, no 80 for grace-hopper"
        assert refusal.headers == {"Warning": '299 - "no ***, no 80 for grace-hopper"', "Audit-Id": "1"}

    def test_copes_with_a_refusal_that_says_nothing(self, pod: MaskedPod) -> None:
        refusal = ApiException(status=0, reason="Failed to parse a date")
        try:
            raise refusal
        except ApiException:
            pod.to_str()
        assert str(refusal) == "(0)\nReason: Failed to parse a date\n"

    @pytest.mark.parametrize("times", [0, 1, 2])
    def test_finds_a_value_however_often_it_was_quoted(self, pod: MaskedPod, times: int) -> None:
        said = 'canary "<\n>"'
        for _ in range(times):
            said = json.dumps(said)[1:-1].replace("<", "\\u003c").replace(">", "\\u003e")
        assert self.logged_with(pod, f"before {said} after").body == "before *** after"


def test_answers_are_kept_out_of_the_clients_log(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    logger = logging.getLogger("kubernetes_asyncio.client.rest")
    monkeypatch.setattr(logger, "filters", [])

    withhold_response_bodies()
    withhold_response_bodies()
    with caplog.at_level(logging.DEBUG, logger.name):
        logger.debug("response body: %s", "canary")

    assert len(logger.filters) == 1
    assert caplog.messages == ["21 characters withheld: a response may hold values of environment variables"]
