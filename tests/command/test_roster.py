"""A roster is read as JupyterHub lists its users, and one that lacks somebody is refused."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from profiled_spawner.command.roster import RosterError, read_roster


def page(*users: str, total: int = 2, groups: Any = ("staff",)) -> str:
    items = [{"kind": "user", "name": user, "groups": list(groups)} for user in users]
    return json.dumps({"items": items, "_pagination": {"offset": 0, "limit": 1, "total": total, "next": None}})


def write(path: Path, text: str) -> Path:
    file = path / "users.json"
    file.write_text(text, encoding="utf-8")
    return file


@pytest.mark.parametrize(
    "text",
    [
        pytest.param(page("ada", "grace"), id="one page"),
        pytest.param(page("ada") + page("grace"), id="two pages"),
        pytest.param(f" {page('ada')}\n\n{page('grace')}\n", id="on lines of their own"),
        pytest.param(page("ada") + page("ada", "grace"), id="fetched twice"),
    ],
)
def test_all_pages_together_are_a_roster(tmp_path: Path, text: str) -> None:
    assert read_roster(write(tmp_path, text), complete=False) == {
        "ada": frozenset({"staff"}),
        "grace": frozenset({"staff"}),
    }


def test_a_list_is_one_if_somebody_says_that_it_is_complete(tmp_path: Path) -> None:
    file = write(tmp_path, '[{"name": "ada", "groups": []}]')
    assert read_roster(file, complete=True) == {"ada": frozenset()}
    with pytest.raises(RosterError, match=r"is a list, which a hub may have cut off; .* or add --complete"):
        read_roster(file, complete=False)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        pytest.param(page("ada"), "has 1 of 2 users; append the other pages", id="a page is missing"),
        pytest.param(page("ada") + page("ada"), "has 1 of 2 users", id="the same page twice"),
        pytest.param("", "has no users", id="nothing"),
        pytest.param(page(total=0), "has no users", id="nobody"),
        pytest.param("{}", "is not a list of users", id="an object"),
        pytest.param("7", "is not a list of users", id="a number"),
        pytest.param('{"items": [], "_pagination": {"total": "2"}}', "is not a list of users", id="a total of text"),
        pytest.param('{"items": 1, "_pagination": {"total": 2}}', "is not a list of users", id="items of a number"),
        pytest.param("[" * 100_000, "is not a list of users", id="deep"),
        pytest.param("7" * 5_000, "is not a list of users", id="a long number"),
        pytest.param(page("ada") + "\n{", r"users.json:2: this is not JSON", id="cut off"),
        pytest.param("[7]", "has a user without a name", id="a user that is a number"),
        pytest.param('[{"groups": []}]', "has a user without a name", id="no name"),
        pytest.param('[{"name": "ada"}]', "which groups ada is in; the token needs the scope read:users", id="scope"),
        pytest.param('[{"name": "ada", "groups": [1]}]', "which groups ada is in", id="a group that is a number"),
        pytest.param(page("ada") + page("ada", groups=()), "has the user ada twice, with different groups", id="twice"),
    ],
)
def test_what_is_no_roster_is_refused(tmp_path: Path, text: str, message: str) -> None:
    with pytest.raises(RosterError, match=message):
        read_roster(write(tmp_path, text), complete=True)


def test_a_file_that_cannot_be_read_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(RosterError, match="cannot be read: No such file"):
        read_roster(tmp_path / "absent", complete=False)
    file = tmp_path / "bytes"
    file.write_bytes(b"\xff")
    with pytest.raises(RosterError, match="is not UTF-8 text"):
        read_roster(file, complete=False)
