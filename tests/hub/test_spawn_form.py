"""The HTML that offers images and sizes: what it shows, what it sends, and what assistive technology makes of it."""

from __future__ import annotations

from datetime import UTC, datetime
from html.parser import HTMLParser
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from traitlets.config import Config

from profiled_spawner.decide.choices import Offer, find_offer
from profiled_spawner.decide.matching import Subject
from profiled_spawner.document.model import ImageChoice, Size
from profiled_spawner.document.parser import parse_document
from profiled_spawner.hub.spawn_form import format_form

from ..conftest import MakeSpawner, WriteProfiles

NOW = datetime(2026, 12, 1, 12, tzinfo=UTC).timestamp()
LAB = "{name: Lab, description: Python and R}"
TWO = f"[{LAB}, {{name: RStudio}}]"


def form(images: str = "[]", sizes: str = "[]", options: object = None, zone: str = "UTC", **settings: Any) -> str:
    document = parse_document(f"timezone: {zone}\nprofiles: []\nimages: {images}\nsizes: {sizes}")
    offer = find_offer(document, Subject("ada", frozenset(), "", NOW))
    return format_form(offer, options, document.timezone, NOW, **settings)


class Form(HTMLParser):
    """What is in a form: its groups, and of each group the choices."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.ids: list[str] = []
        self.labelled: list[str] = []
        self.referred: list[str] = []
        self.inputs: list[dict[str, Any]] = []
        self.groups: list[dict[str, Any]] = []
        self.alerts: list[str] = []
        self.isolated = ""
        self._texts: dict[str, str] = {}
        self._open: list[str] = []
        self.feed(text)
        self.close()
        assert self._open == []

    def handle_starttag(self, tag: str, attrs: Any) -> None:
        attributes = dict(attrs)
        self.tags.append(tag)
        self.ids += [attributes["id"]] if "id" in attributes else []
        self.referred += [attributes[name] for name in ("aria-labelledby", "aria-describedby") if name in attributes]
        self.alerts += [attributes["id"]] if attributes.get("role") == "alert" else []
        if tag == "label":
            self.labelled.append(attributes["for"])
        if tag == "fieldset":
            self.groups.append(attributes)
        if tag == "input":
            self.inputs.append(attributes)
        else:
            self._open.append(attributes.get("id", tag))

    def handle_endtag(self, tag: str) -> None:
        self._open.pop()

    def handle_data(self, data: str) -> None:
        self.isolated += data if "bdi" in self._open else ""
        for name in self._open:
            self._texts[name] = self._texts.get(name, "") + data

    def text(self, name: str) -> str:
        return " ".join(self._texts.get(name, "").split())

    def choices(self, key: str) -> list[tuple[str, str, str]]:
        """The value, name and description of each radio button of a group."""
        return [
            (each["value"], self.text(each["aria-labelledby"]), self.text(each.get("aria-describedby", "")))
            for each in self.inputs
            if each["name"] == f"profiled-{key}"
        ]

    def checked(self, key: str) -> list[str]:
        return [each["value"] for each in self.inputs if each["name"] == f"profiled-{key}" and "checked" in each]


def test_it_has_each_image_and_size_with_what_there_is_to_know_of_it() -> None:
    large = "{name: Large, description: For training., until: 2026-12-10, gpu: 1, resources: {mem_limit: 8Gi}}"
    shown = Form(form(TWO, f"[{large}, {{name: M}}]"))

    assert shown.choices("image") == [("Lab", "Lab", "Python and R"), ("RStudio", "RStudio", "")]
    assert shown.choices("size") == [
        ("default", "Default", "The usual memory and CPU of your server."),
        ("Large", "Large", "For training. 8 GiB of memory, 1 GPU Until the end of 10 December"),
        ("M", "M", ""),
    ]


def test_it_tells_what_the_default_gives_where_that_is_known() -> None:
    shown = Form(form(sizes="[{name: M}]", default="no memory limit, 2 CPUs"))
    assert shown.choices("size")[0] == ("default", "Default", "No memory limit, 2 CPUs")


@pytest.mark.parametrize(
    ("until", "zone", "expected"),
    [
        ("2026-12-01", "UTC", "Until the end of 1 December"),
        ("2026-12-01", "Europe/Athens", "Until the end of 1 December"),
        ("2026-12-24T18:00", "Europe/Athens", "Until 24 December, 18:00 Europe/Athens"),
        ("2027-01-01T12:00", "UTC", "Until 1 January 2027, 12:00 UTC"),
        ("2027-01-01T12:01", "UTC", ""),
        ("2030-01-01", "UTC", ""),
    ],
)
def test_it_tells_what_ends_within_a_month(until: str, zone: str, expected: str) -> None:
    entry = f"[{{name: Exam, until: {until}}}, {{name: Other}}]"
    shown = Form(form(entry, entry, zone=zone))

    assert shown.choices("image")[0] == ("Exam", "Exam", expected)
    assert shown.choices("size")[1] == ("Exam", "Exam", expected)


@pytest.mark.parametrize(
    ("options", "image", "size", "gone"),
    [
        (None, "Lab", "default", []),
        ({}, "Lab", "default", []),
        ({"image": None, "size": ""}, "Lab", "default", []),
        ({"image": "RStudio", "size": "M"}, "RStudio", "M", []),
        ({"size": "default"}, "Lab", "default", []),
        ({"image": "RStudio"}, "RStudio", "default", []),
        ({"size": "M"}, "Lab", "M", []),
        ({"image": "Gone", "size": "M"}, "Lab", "M", ["image, 'Gone',"]),
        ({"image": "RStudio", "size": "Gone"}, "RStudio", "default", ["size, 'Gone',"]),
        ({"image": "default"}, "Lab", "default", ["image, 'default',"]),
        ({"image": ["RStudio"], "size": 0}, "Lab", "default", ["image, ['RStudio'],", "size, 0,"]),
        ({"image": "lab", "size": False}, "Lab", "default", ["image, 'lab',", "size, False,"]),
        ("M", "Lab", "default", ["choice, 'M',"]),
        ({"size": "M", "profile": "x"}, "Lab", "default", ["choice, {'size': 'M', 'profile': 'x'},"]),
    ],
)
def test_the_last_choice_is_selected_or_said_to_be_gone(
    options: object, image: str, size: str, gone: list[str]
) -> None:
    shown = Form(form(TWO, "[{name: M}]", options))

    assert shown.checked("image") == [image]
    assert shown.checked("size") == [size]
    assert [shown.text(each) for each in shown.alerts] == [f"Your last {each} is not available now." for each in gone]


def test_the_notice_describes_its_group() -> None:
    image, size = Form(form(TWO, "[{name: M}]", {"image": "Gone", "size": "M"})).groups

    assert image["aria-describedby"] == "profiled-image-gone"
    assert "aria-describedby" not in size


ONE = f"[{LAB}]"


@pytest.mark.parametrize(
    ("images", "sizes", "is_alone", "shown"),
    [
        pytest.param("[]", "[]", True, [], id="nothing"),
        pytest.param(ONE, "[]", True, [], id="one image"),
        pytest.param(ONE, "[]", False, ["image"], id="one image beside the hub's form"),
        pytest.param(ONE, "[{name: M}]", True, ["image", "size"], id="one image beside sizes"),
        pytest.param(TWO, "[]", True, ["image"], id="images"),
        pytest.param("[]", "[{name: M}]", True, ["size"], id="sizes"),
        pytest.param("[]", "[]", False, [], id="nothing beside the hub's form"),
    ],
)
def test_a_single_choice_is_shown_only_beside_something_else(
    images: str, sizes: str, is_alone: bool, shown: list[str]
) -> None:
    text = form(images, sizes, is_alone=is_alone)

    assert [group["id"] for group in Form(text).groups] == [f"profiled-{key}s" for key in shown]
    assert bool(text) is bool(shown)


@pytest.mark.parametrize("images", ["[]", ONE])
@pytest.mark.parametrize("options", [{"image": "Gone"}, {"size": "Gone"}, "Gone", ["Lab"], {"image": "Lab", "x": 1}])
def test_there_is_always_a_form_if_the_last_choice_is_gone(images: str, options: object) -> None:
    shown = Form(form(images, options=options))

    assert len(shown.alerts) == 1
    assert shown.checked("image") == (["Lab"] if images == ONE else [])


@pytest.mark.parametrize("options", [None, {}, {"image": "Lab"}, {"size": "default"}])
def test_there_is_none_if_the_last_choice_is_the_only_one(options: object) -> None:
    assert form(ONE, options=options) == ""


def test_of_a_long_list_it_tells_how_long_it_is() -> None:
    forty = "[" + ", ".join(f"{{name: Image {number}}}" for number in range(40)) + "]"

    assert Form(form(forty)).text("legend") == "Image 40 to choose from"
    assert Form(form(TWO)).text("legend") == "Image"


def is_whole(shown: Form) -> bool:
    """Whether every id is there once, and every reference and label has something that it is about."""
    return (
        len({*shown.ids}) == len(shown.ids)
        and {*shown.referred} <= {*shown.ids}
        and shown.labelled == [each["id"] for each in shown.inputs]
    )


def test_everything_that_is_referred_to_is_there_once() -> None:
    for options in (None, {"image": "Gone", "size": "Gone"}, "Gone"):
        assert is_whole(Form(form(TWO, "[{name: M, description: D}, {name: N, gpu: 1}]", options)))


HOSTILE = [
    """"'><script>alert(1)</script>&lt;{{7*7}}""",
    "</fieldset></form><style>",
    "one\ntwo",
    "left\u202eright\u200f",
    "שלום",
    "x" * 1000,
    "&amp;",
    " spaces ",
]


@pytest.mark.parametrize("hostile", HOSTILE)
def test_nothing_of_the_document_or_of_the_choice_is_html(hostile: str) -> None:
    plain, odd = (
        Offer((ImageChoice(0, name, description=name), ImageChoice(1, "Other")), (Size(0, name, description=name),))
        for name in ("plain", hostile)
    )
    expected = Form(format_form(plain, {"image": "Gone", "size": "Gone"}, UTC, NOW))
    text = format_form(odd, {"image": hostile + "!", "size": hostile + "!"}, UTC, NOW)
    shown = Form(text)

    assert shown.tags == expected.tags
    read = " ".join(hostile.split())
    assert shown.choices("image")[0] == shown.choices("size")[1] == (hostile, read, read)
    assert "<script" not in text
    # Marks of direction stay within the text that has them.
    assert hostile * 2 in shown.isolated


@given(st.lists(st.text(min_size=1), min_size=2, max_size=5, unique=True), st.text())
def test_every_choice_is_sent_as_it_is_called(names: list[str], last: str) -> None:
    offer = Offer(tuple(ImageChoice(number, name, description=last) for number, name in enumerate(names)))
    shown = Form(format_form(offer, {"image": last}, UTC, NOW))

    assert [each["value"] for each in shown.inputs] == names
    assert shown.checked("image") == [last if last in names else names[0]]
    assert is_whole(shown)


SIZES = """
profiles: [{resources: {mem_limit: 2Gi}}, {images: [rstudio], resources: {cpu_limit: 1}}]
sizes: [{name: M}]
"""
IMAGES = "images: [{name: Lab}, {name: RStudio, image: rstudio}]"
USUAL = "The usual memory and CPU of your server."
OWN_FORM = {"options_form": "<b>ours</b>"}
LIST = {"profile_list": [{"display_name": "One", "kubespawner_override": {"cpu_limit": 3}}]}


class TestOfTheSpawner:
    @pytest.mark.parametrize(
        ("settings", "images", "expected"),
        [
            pytest.param({}, "", "2 GiB of memory, no CPU limit", id="the document alone"),
            pytest.param(
                {"cpu_limit": 3.0, "cpu_guarantee": 0.5, "mem_guarantee": "1G"},
                "",
                "2 GiB of memory (1 GiB guaranteed), 3 CPUs (0.5 guaranteed)",
                id="over the hub's settings",
            ),
            pytest.param({"cpu_limit": 0}, "", "2 GiB of memory, no CPU limit", id="a setting of nothing"),
            pytest.param(
                {
                    "extra_resource_limits": {"nvidia.com/gpu": "1"},
                    "extra_resource_guarantees": {"nvidia.com/gpu": "1"},
                },
                "",
                "2 GiB of memory, no CPU limit, 1 GPU",
                id="over the hub's settings of other resources",
            ),
            pytest.param({"image": "rstudio"}, "", "2 GiB of memory, 1 CPU", id="the hub's image"),
            pytest.param({}, IMAGES, USUAL, id="the image may change it"),
            pytest.param({"image": "rstudio"}, IMAGES, "2 GiB of memory, 1 CPU", id="all images are one"),
            pytest.param(
                {}, "images: [{name: RStudio, image: rstudio}]", "2 GiB of memory, 1 CPU", id="the only image"
            ),
            pytest.param(LIST, "", USUAL, id="profile_list may change it"),
            pytest.param(OWN_FORM, "", USUAL, id="another form may change it"),
            pytest.param(
                {"extra_container_config": {"resources": {"limits": {"cpu": 1}}}}, "", USUAL, id="the container's own"
            ),
        ],
    )
    async def test_default_tells_what_it_gives_where_nothing_else_changes_it(
        self,
        make_spawner: MakeSpawner,
        write_profiles: WriteProfiles,
        settings: dict[str, Any],
        images: str,
        expected: str,
    ) -> None:
        write_profiles(f"{SIZES}{images}")
        shown = await make_spawner(config=Config(KubeSpawner=settings)).get_options_form()

        assert Form(shown[shown.index('<fieldset id="profiled-') :]).choices("size")[0][2] == expected

    async def test_default_does_not_where_group_overrides_may_change_it(
        self, make_spawner: MakeSpawner, write_profiles: WriteProfiles
    ) -> None:
        write_profiles(SIZES)
        spawner = make_spawner()
        if not hasattr(spawner, "group_overrides"):
            pytest.skip("this JupyterHub has no group_overrides")
        spawner.group_overrides = {"one": {"groups": ["staff"], "spawner_override": {"cpu_limit": 3}}}

        assert Form(await spawner.get_options_form()).choices("size")[0][2] == USUAL

    async def test_the_only_image_is_shown_beside_the_hubs_form(
        self, make_spawner: MakeSpawner, write_profiles: WriteProfiles
    ) -> None:
        write_profiles(f"profiles: []\nimages: {ONE}")

        assert await make_spawner().get_options_form() == ""
        assert 'value="Lab"' in await make_spawner(config=Config(KubeSpawner=OWN_FORM)).get_options_form()

    async def test_a_name_with_a_line_break_can_be_chosen(self, make_spawner: MakeSpawner) -> None:
        # A browser sends it as two characters.
        options = await make_spawner().run_options_from_form({"profiled-image": ["one\r\ntwo"]})

        assert options["profiled"] == {"image": "one\ntwo"}
