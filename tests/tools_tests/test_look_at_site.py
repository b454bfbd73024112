"""The look at the built site finds what is planted on a page."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

import look_at_site

pytestmark = [pytest.mark.browser, pytest.mark.newest]

HEADER = '<a href="#">Home</a> <button>Search</button>'
HEADING = '<section id="rules"><h2>Rules</h2></section>'


def look(tmp_path: Path, *, header: str = HEADER, body: str = HEADING, padding: str = "80px") -> tuple[int, str]:
    """Exit code and output of the look at a site of one page, with a header as the theme's."""
    if look_at_site.CHROMIUM is None:
        pytest.skip("no browser: install Debian's package chromium")
    (tmp_path / "page.html").write_text(
        f"""<!DOCTYPE html><html style="scroll-padding-top: {padding}"><body style="margin: 0">
        <header class="bd-header" style="position: sticky; top: 0; height: 60px">{header}</header>
        <article><div style="height: 2000px"></div>{body}<div style="height: 2000px"></div></article></body></html>"""
    )
    done = subprocess.run(
        [sys.executable, look_at_site.__file__, str(tmp_path)], capture_output=True, text=True, check=False
    )
    assert done.stderr == ""
    return done.returncode, done.stdout


def at_every_width(fault: str) -> list[str]:
    return [f"at {width} px {fault}" for width in (375, 1024, 1440)]


def test_nothing_is_wrong_with_a_page_that_scrolls_what_is_wide_inside_itself(tmp_path: Path) -> None:
    body = f'<div style="overflow-x: auto"><table style="width: 1600px"><tr><td>wide</td></tr></table></div>{HEADING}'
    assert look(tmp_path, body=body) == (0, "")


@pytest.mark.parametrize(
    ("page", "faults"),
    [
        pytest.param(
            {"body": '<table style="width: 900px"><tr><td>wide</td></tr></table>'},
            ["at 375 px is 900 px wide", "at 375 px leaves the window with table “wide”"],
            id="wide-table",
        ),
        pytest.param(
            {"body": '<p style="overflow: hidden"><code>' + "long" * 30 + "</code></p>"},
            [f"at 375 px leaves the window with code “{'long' * 10}”", f"at 375 px cuts p “{'long' * 10}”"],
            id="cut-name",
        ),
        pytest.param(
            {"header": '<a href="#">Home</a><br><button>Search</button>'},
            at_every_width("has a header of several rows: a “Home”, button “Search”"),
            id="two-rows",
        ),
        pytest.param(
            {"header": '<a href="#">Home</a><button style="position: fixed; left: 0">Search</button>'},
            at_every_width("has a header whose parts overlap: a “Home”, button “Search”"),
            id="overlap",
        ),
        pytest.param(
            {"header": '<button style="position: fixed; left: 1000px">Search</button>'},
            [f"at {width} px has a header that leaves the window: button “Search”" for width in (375, 1024)],
            id="cut-header",
        ),
        pytest.param(
            {"padding": "0"},
            at_every_width("hides the target of a link behind its header: #rules"),
            id="covered-heading",
        ),
        pytest.param(
            {"body": '<img src="none.png" alt="A pod.">'},
            at_every_width("lacks a picture: img “none.png”"),
            id="no-picture",
        ),
        pytest.param(
            {"body": '<img src="data:image/gif;base64,R0lGODlhAQABAAAAACwAAAAAAQABAAA=">'},
            at_every_width("has a picture without a text in its place: img “data:image/gif;base64,R0lGODlhAQABAAAAAC”"),
            id="no-alternative-text",
        ),
        pytest.param(
            {"body": '<div class="prev-next-area"><a style="display: block; overflow-x: hidden">' + "Next" * 20},
            [f"at 375 px cuts a “{'Next' * 10}”"],
            id="cut-link",
        ),
        pytest.param(
            {"body": '<div style="border: 1px solid; width: 200px">Install</div>'},
            at_every_width("has a text that touches its border: div “Install”"),
            id="no-padding",
        ),
        pytest.param(
            {"body": "<p>| no groups | a user | | an image | the image |</p>"},
            at_every_width("shows a table's source: p “| no groups | a user | | an image | the ”"),
            id="broken-table",
        ),
        pytest.param(
            {
                "body": '<table style="width: 300px"><tr><td style="width: 60px; line-height: 24px">'
                "The image that the pod will run after</td><td>" + "wide " * 50
            },
            at_every_width("has a column of one word a line: td “The image that the pod will run after”"),
            id="squeezed-column",
        ),
    ],
)
def test_a_planted_fault_is_found(tmp_path: Path, page: dict[str, str], faults: list[str]) -> None:
    exit_code, printed = look(tmp_path, **page)
    assert exit_code == 1
    assert printed.splitlines() == [f"page.html {fault}" for fault in faults]
