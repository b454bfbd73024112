"""KubeSpawner's fields in a text, such as ``{username}``: what a text may become, and whose it then is.

A name or a path that a person is told apart by must not be the same for two people. KubeSpawner expands fields and
does not look at what stands between them: ``{username}-{servername}`` is ``a-b-c`` for the server ``c`` of ``a-b``, and
for the server ``b-c`` of ``a``.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from itertools import pairwise
from types import MappingProxyType
from typing import Literal

from ..errors import PodError
from .limits import MAX_PLACEHOLDERS, MAX_TEMPLATE
from .suggestions import find_closest, to_predicate

__all__ = [
    "MIXED_UP",
    "TEMPLATE_FIELDS",
    "TEMPLATE_PATTERN",
    "Template",
    "expand_template",
    "fill_in",
    "find_templates",
    "is_of_a_server_alone",
    "mixes_people_up",
    "tells_people_apart",
]


@dataclass(frozen=True, slots=True)
class _Field:
    """A field of KubeSpawner's templates.

    Attributes:
        tells: What it tells apart: people, the servers of a person, both, or nothing at all.
        characters: What it may consist of, as a regular expression's class.
        family: Of its kind of slug, no name has two hyphens in a row but around a hash; empty for other fields.
    """

    tells: Literal["user", "server", "both", "nothing"]
    characters: str
    family: str = ""


# https://jupyterhub-kubespawner.readthedocs.io/en/latest/templates.html; of names, JupyterHub refuses '/' alone.
_SLUG, _OBJECT, _RAW = "[-a-z0-9]", "[-.a-z0-9]", r"[^/]"
TEMPLATE_FIELDS: MappingProxyType[str, _Field] = MappingProxyType(
    {
        "username": _Field("user", _SLUG, "plain"),
        "user_server": _Field("both", _SLUG),
        "servername": _Field("server", _SLUG, "plain"),
        "userid": _Field("user", "[0-9]"),
        "hubnamespace": _Field("nothing", _SLUG),
        "namespace": _Field("nothing", _SLUG),
        # By the hub's own settings; by default they hold {user_server}.
        "pod_name": _Field("both", _OBJECT),
        "pvc_name": _Field("both", _OBJECT),
        "unescaped_username": _Field("user", _RAW),
        "unescaped_servername": _Field("server", _RAW),
        "safe_username": _Field("user", _SLUG, "safe"),
        "safe_servername": _Field("server", _SLUG, "safe"),
        "safe_user_server": _Field("both", _SLUG),
        "escaped_username": _Field("user", _SLUG, "escaped"),
        "escaped_servername": _Field("server", _SLUG, "escaped"),
        "escaped_user_server": _Field("both", _SLUG),
    }
)
"""What KubeSpawner 7 expands in its templates."""
TEMPLATE_PATTERN = rf"(?=[^{{}}]*[{{}}])(?:[^{{}}]|\{{\{{|\}}\}}|\{{(?:{'|'.join(TEMPLATE_FIELDS)})\}})*"
"""A text with a field or a doubled brace in it, for JSON Schema."""

_PLACEHOLDER = re.compile(r"\{\{|\}\}|\{([^{}]*)\}|[{}]")
_TWO_HYPHENS = re.compile(r"(?<!-)--(?!-)")
_CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f\u2028\u2029]")

MIXED_UP = (
    "could be the same for two people, since what stands between its fields may be part of a name; "
    "use {user_server}, which never is"
)
"""What is wrong with a template that `mixes_people_up`."""

Explain = Callable[[str], str | None]


class Template(str):
    """A text in which KubeSpawner's fields are to be expanded.

    Attributes:
        explain: Says what is wrong with what it was expanded to; None if nothing is.
        is_shared: Whether it is the name or the path of something outside the pod, where others may arrive too.
    """

    __slots__ = ("explain", "is_shared")

    explain: Explain
    is_shared: bool

    def __new__(cls, text: str, explain: Explain, is_shared: bool) -> Template:
        template = super().__new__(cls, text)
        template.explain = explain
        template.is_shared = is_shared
        return template


def expand_template(template: Template, expand: Callable[[str], str]) -> str:
    """Puts a server's values for the fields into a template.

    Args:
        template: The template.
        expand: KubeSpawner's own way to do that.

    Raises:
        PodError: The values make a path leave its place or end in a hyphen, which KubeSpawner drops, or they are not
            what the field may have. Somebody else's data could be there.
    """
    text = expand(template)
    fault = template.explain(text)
    if ".." in text.split("/") or _CONTROL.search(text):
        fault = "has '..' or a control character"
    elif _ends_unescaped(template) and expand(f"{template}.") != f"{text}.":
        fault = "ends in a hyphen, which KubeSpawner would drop"
    if fault is not None:
        raise PodError(f"what {str(template)!r} comes to for this server {to_predicate(fault)}")
    return text


@lru_cache(maxsize=1024)
def fill_in(template: str) -> tuple[str, str | None]:
    """An example of what a template may become, and what is wrong with the template; None if nothing is."""
    fault = None

    if len(template) > MAX_TEMPLATE:
        return "", f"has {len(template):,} characters; use at most {MAX_TEMPLATE:,}"
    if template.count("{") > MAX_PLACEHOLDERS:
        return "", f"has more than {MAX_PLACEHOLDERS} braces that open"

    def fill(match: re.Match[str]) -> str:
        nonlocal fault
        name = match[1]
        if match[0] in ("{{", "}}"):
            return match[0][0]
        if name is None:
            fault = fault or "has a single brace; write {username} for a field, and {{ or }} for a brace"
        elif name not in TEMPLATE_FIELDS:
            fault = fault or f"has a field that KubeSpawner does not know; {_hint(name)}"
        return "x"

    return _PLACEHOLDER.sub(fill, template), fault


def find_templates(value: object) -> Iterator[Template]:
    """The templates of an object of the document that name something outside the pod."""
    if isinstance(value, Mapping):
        for each in value.values():
            yield from find_templates(each)
    elif isinstance(value, tuple):
        for each in value:
            yield from find_templates(each)
    elif isinstance(value, Template) and value.is_shared:
        yield value


def tells_people_apart(template: str) -> bool:
    """Whether a template never comes to the same for two people.

    So it is where one part between slashes names people, and has one field alone or, between its fields, what they
    never contain.
    """
    return any(_names_people(fields) and _can_be_split(gaps, fields) for gaps, fields in _parts(template))


def mixes_people_up(template: str) -> bool:
    """Whether a template names people and may come to the same for two of them all the same."""
    return any(_names_people(fields) for _, fields in _parts(template)) and not tells_people_apart(template)


def is_of_a_server_alone(template: str) -> bool:
    """Whether a template names servers and nobody's: people name theirs as they like, and may pick the same name."""
    told = {field.tells for _, fields in _parts(template) for field in fields}
    return "server" in told and not told & {"user", "both"}


def _names_people(fields: Sequence[_Field]) -> bool:
    return any(field.tells in ("user", "both") for field in fields)


@lru_cache(maxsize=1024)
def _parts(template: str) -> list[tuple[list[str], list[_Field]]]:
    return [_split(part) for part in template.split("/")]


def _split(part: str) -> tuple[list[str], list[_Field]]:
    """The texts between the fields that differ from server to server, and these fields."""
    gaps: list[str] = []
    fields: list[_Field] = []
    gap, end = "", 0
    for match in _PLACEHOLDER.finditer(part):
        gap += part[end : match.start()]
        end = match.end()
        field = TEMPLATE_FIELDS.get(match[1] or "")
        if field is None:
            gap += match[0][:1]
        elif field.tells != "nothing":
            if fields:
                gaps.append(gap)
            fields.append(field)
            gap = ""
    return gaps, fields


def _can_be_split(gaps: Sequence[str], fields: Sequence[_Field]) -> bool:
    """Whether what each field came to can be read off the whole, from its one end or from the other."""
    if all(one is other for one, other in pairwise(fields)):
        return True  # the length of the whole tells
    family = fields[0].family
    if family and all(field.family == family for field in fields) and all(map(_TWO_HYPHENS.search, gaps)):
        return True
    return _are_ends(gaps, fields) or _are_ends(gaps[::-1], fields[::-1])


def _are_ends(gaps: Sequence[str], fields: Sequence[_Field]) -> bool:
    """Whether each gap has a character that the field before it never has."""
    return all(re.sub(field.characters, "", gap) for gap, field in zip(gaps, fields, strict=False))


def _ends_unescaped(template: str) -> bool:
    return template.endswith(("{unescaped_username}", "{unescaped_servername}"))


def _hint(name: str) -> str:
    known = tuple(TEMPLATE_FIELDS)
    meant = find_closest(name, known) if re.fullmatch(r"[a-z_]{1,30}", name) else None
    meant = "username" if name in ("user", "name") else meant
    return f"did you mean {{{meant}}}?" if meant else f"it knows {', '.join(known[:4])}, …"
