"""Reads a roster: who has an account on the hub, and in which groups, as JupyterHub's REST API lists them."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from ..errors import ProfiledSpawnerError

__all__ = ["Roster", "RosterError", "read_roster"]

Roster = Mapping[str, frozenset[str]]
"""Groups by username."""


_SPACE = re.compile(r"\s*")


class RosterError(ProfiledSpawnerError):
    """A roster cannot be read, or does not have everybody."""


def read_roster(path: Path, *, complete: bool) -> Roster:
    """Reads a roster from a file.

    The file holds what JupyterHub answers to ``GET /hub/api/users`` with the header ``Accept:
    application/jupyterhub-pagination+json``: all pages, one after the other. Without the header the answer is a list of
    users, which ends after 50 of them by default and does not say so.

    Source: https://jupyterhub.readthedocs.io/en/stable/reference/rest-api.html

    Args:
        path: The file.
        complete: Whether a list, which may also be written by hand, has everybody who matters.

    Raises:
        RosterError: The file cannot be read, or does not have everybody.
    """
    try:
        text = path.read_text(encoding="utf-8")
    except OSError as error:
        raise RosterError(f"{path} cannot be read: {error.strerror}") from None
    except UnicodeDecodeError:
        raise RosterError(f"{path} is not UTF-8 text") from None
    users: dict[str, frozenset[str]] = {}
    total = 0
    for page in _split(text, path):
        if isinstance(page, list) and not complete:
            raise RosterError(
                f"{path} is a list, which a hub may have cut off; fetch pages of it (Accept: application/"
                "jupyterhub-pagination+json), or add --complete if it has everybody"
            )
        items, expected = _read_page(page, path)
        total = max(total, expected)
        for item in items:
            name, groups = _read_user(item, path)
            if users.setdefault(name, groups) != groups:
                raise RosterError(f"{path} has the user {name} twice, with different groups; fetch it again")
    if len(users) < total:
        raise RosterError(
            f"{path} has {len(users):,} of {total:,} users; append the other pages, which `_pagination.next` names"
        )
    if not users:
        raise RosterError(f"{path} has no users")
    return users


def _split(text: str, path: Path) -> Iterator[Any]:
    """The JSON values of a text, which stand one after the other."""
    decoder = json.JSONDecoder()
    position = _skip_space(text, 0)
    while position < len(text):
        try:
            value, position = decoder.raw_decode(text, position)
        except json.JSONDecodeError as error:
            raise RosterError(f"{path}:{error.lineno}: this is not JSON: {error.msg}") from None
        except (ValueError, RecursionError):
            raise RosterError(
                f"{path} is not a list of users: it is nested too deeply, or has too long a number"
            ) from None
        yield value
        position = _skip_space(text, position)


def _skip_space(text: str, position: int) -> int:
    found = _SPACE.match(text, position)
    return found.end() if found else position


def _read_page(page: Any, path: Path) -> tuple[list[Any], int]:
    """The users of a page, and how many there are on all pages."""
    if isinstance(page, list):
        return page, 0
    pagination = page.get("_pagination") if isinstance(page, dict) else None
    items = page.get("items") if isinstance(page, dict) else None
    total = pagination.get("total") if isinstance(pagination, dict) else None
    if not isinstance(items, list) or not isinstance(total, int):
        raise RosterError(f"{path} is not a list of users, and no page of one, as GET /hub/api/users answers")
    return items, total


def _read_user(item: Any, path: Path) -> tuple[str, frozenset[str]]:
    name = item.get("name") if isinstance(item, dict) else None
    if not isinstance(name, str) or not name:
        raise RosterError(f"{path} has a user without a name")
    groups = item.get("groups")
    if not isinstance(groups, list) or not all(isinstance(group, str) for group in groups):
        raise RosterError(
            f"{path} does not say which groups {name} is in; the token needs the scope read:users:groups beside "
            "list:users"
        )
    return name, frozenset(groups)
