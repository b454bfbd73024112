"""Which sizes a person may choose, what each is said to give, and the HTML that offers them."""

from __future__ import annotations

import re
from html.parser import HTMLParser
from typing import Any

import pytest

from profiled_spawner.decide.choices import choose_size, describe_size, find_sizes
from profiled_spawner.decide.matching import Subject
from profiled_spawner.document.model import Document
from profiled_spawner.document.parser import parse_document
from profiled_spawner.errors import DocumentError, SizeError
from profiled_spawner.hub.spawn_form import format_form

SIZES = """
profiles: []
sizes:
- {name: Small}
- {name: Large, users: [ada]}
- {name: Huge, users: [barbara], groups: [forecasters]}
- {name: Nobody's, users: []}
- {name: Everybody's, users: ['*']}
"""


def read(text: str) -> Document:
    return parse_document(text)


def subject(user: str, *groups: str) -> Subject:
    return Subject(user, frozenset(groups), "")


def form(sizes: str, choice: object = None) -> str:
    return format_form(read(f"profiles: []\nsizes: {sizes}").sizes, choice)


@pytest.mark.parametrize(
    ("who", "names"),
    [
        pytest.param(subject("edsger"), ["Small", "Everybody's"], id="in no group"),
        pytest.param(subject("ada"), ["Small", "Large", "Everybody's"], id="listed"),
        pytest.param(subject("grace", "forecasters"), ["Small", "Huge", "Everybody's"], id="member"),
        pytest.param(subject("Ada"), ["Small", "Everybody's"], id="names are compared exactly"),
    ],
)
def test_the_sizes_that_fit_are_found_in_the_documents_order(who: Subject, names: list[str]) -> None:
    assert [size.name for size in find_sizes(read(SIZES), who)] == names


@pytest.mark.parametrize("choice", [None, "", "default"])
def test_default_is_no_size(choice: object) -> None:
    assert choose_size(read(SIZES), subject("ada"), choice) is None


def test_a_size_is_chosen_by_its_name() -> None:
    document = read(SIZES)
    assert choose_size(document, subject("ada"), "Large") is document.sizes[1]


@pytest.mark.parametrize(
    ("choice", "shown"),
    [
        pytest.param("Gone", "'Gone'", id="gone"),
        pytest.param("Huge", "'Huge'", id="for others"),
        pytest.param("large", "'large'", id="names are compared exactly"),
        pytest.param("Large\n", r"'Large\n'", id="control characters"),
        pytest.param(["Large"], "['Large']", id="a list"),
        pytest.param({"name": "Large"}, "{'name': 'Large'}", id="an object"),
        pytest.param(0, "0", id="a number"),
        pytest.param(False, "False", id="a truth value"),
        pytest.param("x" * 100_000, f"'{'x' * 59}…", id="long"),
    ],
)
def test_what_is_not_to_be_had_is_an_error_that_lists_what_is(choice: object, shown: str) -> None:
    expected = f"there is no size {shown} for ada; choose one of: default, Small, Large, Everybody's"
    with pytest.raises(SizeError, match=f"^{re.escape(expected)}$"):
        choose_size(read(SIZES), subject("ada"), choice)


@pytest.mark.parametrize(
    ("size", "expected"),
    [
        ("{}", ""),
        ("{env: {A: 1}}", ""),
        ("{resources: {mem_limit: 8Gi, cpu_limit: 4}}", "8 GiB of memory, 4 CPUs"),
        ("{resources: {mem_limit: 8Gi, mem_guarantee: 4Gi}}", "8 GiB of memory (4 GiB guaranteed)"),
        ("{resources: {mem_limit: 4Gi, mem_guarantee: 4Gi}}", "4 GiB of memory"),
        ("{resources: {mem_limit: 4Gi, mem_guarantee: 8Gi}}", "4 GiB of memory"),
        ("{resources: {cpu_guarantee: 500m}}", "no CPU limit (0.5 guaranteed)"),
        ("{resources: {mem_limit: null}}", "no memory limit"),
        ("{resources: {mem_limit: 1500M, cpu_limit: 1.5}}", "1500 MB of memory, 1.5 CPUs"),
        ("{resources: {mem_limit: 1e9, cpu_limit: 1}}", "1e9 bytes of memory, 1 CPU"),
        ("{resources: {mem_limit: 1Gi, limits: {hugepages-2Mi: 4Mi}}}", "1 GiB of memory, 4 MiB of hugepages-2Mi"),
        ("{gpu: 2}", "2 GPUs"),
        ("{resources: {requests: {nvidia.com/gpu: 1}}}", "1 GPU"),
        ("{gpu: 0}", "no GPU"),
        ("{gpu: null}", "no GPU"),
        ("{resources: {mem_limit: 1Gi, limits: {hugepages-2Mi: 0}}}", "1 GiB of memory, no hugepages-2Mi"),
        (
            "{resources: {limits: {example.com/dongle: 1, ephemeral-storage: 10Gi}, cpu_limit: 500m}}",
            "0.5 CPU, 10 GiB of ephemeral-storage, 1 example.com/dongle",
        ),
    ],
)
def test_what_a_size_gives_is_told_in_a_line(size: str, expected: str) -> None:
    (only,) = read(f"profiles: []\nsizes: [{{name: Only, {size[1:]}]").sizes
    assert describe_size(only) == expected


class Form(HTMLParser):
    """A form's choices: the value of each with the texts that name and describe it, and those that are checked."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.checked: list[str] = []
        self._inputs: list[dict[str, Any]] = []
        self._texts: dict[str, str] = {}
        self._open: list[str] = []
        self.feed(text)
        self.close()
        assert self._open == []

    def handle_starttag(self, tag: str, attrs: Any) -> None:
        attributes = dict(attrs)
        self.tags.append(tag)
        if tag == "input":
            self._inputs.append(attributes)
            self.checked += [attributes["value"]] if "checked" in attributes else []
        elif tag != "br":
            self._open.append(attributes.get("id", tag))

    def handle_endtag(self, tag: str) -> None:
        self._open.pop()

    def handle_data(self, data: str) -> None:
        for name in self._open:
            self._texts[name] = f"{self._texts.get(name, '')} {data}".strip()

    @property
    def choices(self) -> list[tuple[str, str, str]]:
        return [
            (
                each["value"],
                self._texts.get(each["aria-labelledby"], ""),
                self._texts.get(each["aria-describedby"], ""),
            )
            for each in self._inputs
        ]

    @property
    def text(self) -> str:
        return self._texts["profiled-sizes"]


class TestTheForm:
    def test_it_has_default_and_each_size_with_what_it_gives(self) -> None:
        shown = Form(form("[{name: L, description: For training., gpu: 1, resources: {mem_limit: 8Gi}}, {name: M}]"))
        assert shown.choices == [
            ("default", "Default", "The usual memory and CPU of your server."),
            ("L", "L", "For training. 8 GiB of memory, 1 GPU"),
            ("M", "M", ""),
        ]

    @pytest.mark.parametrize(
        ("choice", "checked"),
        [
            (None, "default"),
            ("", "default"),
            ("default", "default"),
            ("L", "L"),
            ("Gone", "default"),
            (["L"], "default"),
        ],
    )
    def test_the_last_choice_is_selected_if_it_is_still_there(self, choice: object, checked: str) -> None:
        assert Form(form("[{name: L}, {name: M}]", choice)).checked == [checked]

    def test_that_the_last_choice_is_gone_is_told(self) -> None:
        assert "Your last size, 'Gone', is not available now." in Form(form("[]", "Gone")).text
        assert "not available" not in Form(form("[{name: L}]", "L")).text

    @pytest.mark.parametrize("choice", [None, "", "default"])
    def test_without_sizes_there_is_none(self, choice: object) -> None:
        assert form("[]", choice) == ""

    def test_nothing_of_the_document_or_of_the_choice_is_html(self) -> None:
        hostile = """"'><script>alert(1)</script>&lt;{{7*7}}"""
        plain = Form(form("[{name: L, description: D}]", "Gone"))
        quoted = hostile.replace("'", "''")
        text = form(f"[{{name: '{quoted}', description: '{quoted}'}}]", hostile + "!")
        shown = Form(text)
        assert shown.tags == plain.tags
        assert shown.choices[1] == (hostile, hostile, hostile)
        assert "<script" not in text


@pytest.mark.parametrize("name", ["default", "Default", "DEFAULT", "' Default '", '"default\\t"', '"\\nDefault"'])
def test_no_size_is_called_default(name: str) -> None:
    with pytest.raises(DocumentError, match=r"sizes\[0\]\.name: 'default' is what people choose to have no size"):
        read(f"profiles: []\nsizes: [{{name: {name}}}]")


@pytest.mark.parametrize("name", ["Defaults", "De fault", "By default"])
def test_a_size_may_be_called_nearly_so(name: str) -> None:
    assert read(f"profiles: []\nsizes: [{{name: {name}}}]").sizes[0].name == name
