"""KubeSpawner's template fields, such as ``{username}``: whether they are valid, and whether two users may collide.

Two users must never get the same name or path from a template that is meant to give each their own. KubeSpawner
expands the fields and does not look at the text between them: ``{username}-{servername}`` expands to ``a-b-c`` for
the server ``c`` of the user ``a-b``, and for the server ``b-c`` of the user ``a``.
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
    "TEMPLATE_FIELDS",
    "TEMPLATE_PATTERN",
    "Template",
    "expand_example",
    "expand_template",
    "explain_collision",
    "find_templates",
    "identifies_only_server",
    "is_unique_per_user",
    "list_shapes",
    "may_expand_to",
]


@dataclass(frozen=True, slots=True)
class _Field:
    """A field of KubeSpawner's templates.

    Attributes:
        identifies: What its value identifies: the user, the server among those of its user, both, or nothing.
        characters: The characters that its value may have, as a regular expression's class.
        family: The kind of slug: it has two hyphens in a row only next to its hash. Empty for other fields.
    """

    identifies: Literal["user", "server", "both", "nothing"]
    characters: str
    family: str = ""


# https://jupyterhub-kubespawner.readthedocs.io/en/latest/templates.html. JupyterHub allows all characters but '/' in
# names.
_SLUG, _OBJECT, _RAW = "[-a-z0-9]", "[-.a-z0-9]", r"[^/]"
TEMPLATE_FIELDS: MappingProxyType[str, _Field] = MappingProxyType(
    {
        "username": _Field("user", _SLUG, "plain"),
        "user_server": _Field("both", _SLUG),
        "servername": _Field("server", _SLUG, "plain"),
        "userid": _Field("user", "[0-9]"),
        "hubnamespace": _Field("nothing", _SLUG),
        "namespace": _Field("nothing", _SLUG),
        # The hub's settings define these two. By default, both contain {user_server}.
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
"""The fields that KubeSpawner 7 expands, by name."""
TEMPLATE_PATTERN = rf"(?=[^{{}}]*[{{}}])(?:[^{{}}]|\{{\{{|\}}\}}|\{{(?:{'|'.join(TEMPLATE_FIELDS)})\}})*"
"""Matches a text that contains a field or a doubled brace, for JSON Schema."""

_PLACEHOLDER = re.compile(r"\{\{|\}\}|\{([^{}]*)\}|[{}]")
_LAST_FIELD = re.compile(r"\{([^{}]*)\}\Z")
_TWO_HYPHENS = re.compile(r"(?<!-)--(?!-)")
_CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f\u2028\u2029]")

Explain = Callable[[str], str | None]
"""Returns the problem of a text; None: it has none."""


class Template(str):
    """A text whose KubeSpawner fields are expanded for each server.

    Attributes:
        explain: Returns the problem of an expanded text; None: it has none.
        is_shared: Whether it names something outside the pod, which other users' servers can reach too.
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
    """Expands a template for one server.

    Args:
        template: The template.
        expand: KubeSpawner's expansion, with the values of the server.

    Raises:
        PodError: The expanded text is not valid in its place, has ``..`` or a control character, or ends in a hyphen,
            which KubeSpawner drops. It could lead to another user's data.
    """
    text = expand(template)
    problem = template.explain(text)
    is_raw = template.endswith(("{unescaped_username}", "{unescaped_servername}"))
    if ".." in text.split("/") or _CONTROL.search(text):
        problem = "has '..' or a control character"
    elif is_raw and expand(f"{template}.") != f"{text}.":
        problem = "ends in a hyphen, which KubeSpawner would drop"
    if problem is not None:
        raise PodError(f"the expansion of {str(template)!r} for this server {to_predicate(problem)}")
    return text


@lru_cache(maxsize=1024)
def expand_example(template: str) -> tuple[str, str | None]:
    """Returns the template with ``x`` for each field, and the template's problem; None: it has none."""
    if len(template) > MAX_TEMPLATE:
        return "", f"has {len(template):,} characters; use at most {MAX_TEMPLATE:,}"
    if template.count("{") > MAX_PLACEHOLDERS:
        return "", f"has more than {MAX_PLACEHOLDERS} braces that open"
    problem = None

    def replace(match: re.Match[str]) -> str:
        nonlocal problem
        name = match[1]
        if match[0] in ("{{", "}}"):
            return match[0][0]
        if name is None:
            problem = problem or "has a single brace; write {username} for a field, and {{ or }} for a brace"
        elif name not in TEMPLATE_FIELDS:
            problem = problem or f"has a field that KubeSpawner does not have; {_hint(name)}"
        return "x"

    return _PLACEHOLDER.sub(replace, template), problem


def find_templates(value: object) -> Iterator[Template]:
    """Yields the templates in a Kubernetes object that name something outside the pod."""
    if isinstance(value, Mapping):
        for each in value.values():
            yield from find_templates(each)
    elif isinstance(value, tuple):
        for each in value:
            yield from find_templates(each)
    elif isinstance(value, Template) and value.is_shared:
        yield value


def may_expand_to(template: str, text: str) -> bool:
    """Whether there may be a server for which a template expands to this text. Its fields may have any value."""

    def replace(match: re.Match[str]) -> str:
        return f"{TEMPLATE_FIELDS[match[1]].characters}*" if match[1] else re.escape(match[0][0])

    pieces = _PLACEHOLDER.split(template)[::2]
    fields = [replace(match) for match in _PLACEHOLDER.finditer(template)]
    pattern = "".join(re.escape(piece) + field for piece, field in zip(pieces, [*fields, ""], strict=True))
    # An empty field at the end leaves a hyphen before it, which KubeSpawner drops.
    return any(re.fullmatch(pattern, text + hyphens) for hyphens in ("", "-", "--"))


def list_shapes(template: str, value: str) -> list[str]:
    """Returns the template with `value` for each field; then, without the names of servers at its end, if it has such.

    A person's default server has an empty name, and KubeSpawner drops the hyphens that this leaves at the end.

    Example:
        ``keys-{username}-{servername}`` and ``*`` give ``keys-*-*`` and ``keys-*``.
    """
    texts = [template]
    while (last := _LAST_FIELD.search(texts[-1])) and TEMPLATE_FIELDS[last[1]].identifies == "server":
        texts.append(texts[-1][: last.start()].rstrip("-"))
    return [_PLACEHOLDER.sub(lambda match: value if match[1] else match[0][0], text) for text in texts]


def is_unique_per_user(template: str) -> bool:
    """Whether a template never expands to the same text for two users.

    One part between slashes is enough. It must identify the user, and the values of its fields must follow from the
    whole part: it has one field, or the text between its fields cannot occur in their values.
    """
    return any(_identifies_user(fields) and _is_reversible(gaps, fields) for gaps, fields in _parts(template))


def explain_collision(template: str) -> str | None:
    """Returns why a template could be the same for two users; None: it cannot, or it does not identify a user."""
    if is_unique_per_user(template) or not any(_identifies_user(fields) for _, fields in _parts(template)):
        return None
    return (
        "could be the same for two people, because the text between its fields may also be part of a name; "
        "use {user_server}, which is different for each person"
    )


def identifies_only_server(template: str) -> bool:
    """Whether a template identifies a server but not its user. Users choose server names: two may choose the same."""
    return {field.identifies for _, fields in _parts(template) for field in fields} == {"server"}


def _identifies_user(fields: Sequence[_Field]) -> bool:
    return any(field.identifies in ("user", "both") for field in fields)


@lru_cache(maxsize=1024)
def _parts(template: str) -> list[tuple[list[str], list[_Field]]]:
    return [_split(part) for part in template.split("/")]


def _split(part: str) -> tuple[list[str], list[_Field]]:
    """Returns the texts between the fields, and the fields, without those that are the same for all servers."""
    gaps: list[str] = []
    fields: list[_Field] = []
    gap, end = "", 0
    for match in _PLACEHOLDER.finditer(part):
        gap += part[end : match.start()]
        end = match.end()
        field = TEMPLATE_FIELDS.get(match[1] or "")
        if field is None:
            gap += match[0][:1]
        elif field.identifies != "nothing":
            if fields:
                gaps.append(gap)
            fields.append(field)
            gap = ""
    return gaps, fields


def _is_reversible(gaps: Sequence[str], fields: Sequence[_Field]) -> bool:
    """Whether the value of each field follows from the expanded text, read from its start or from its end."""
    if all(one is other for one, other in pairwise(fields)):
        return True  # all values are equal, so the length of the text gives theirs
    family = fields[0].family
    if family and all(field.family == family for field in fields) and all(map(_TWO_HYPHENS.search, gaps)):
        return True
    return _are_delimiters(gaps, fields) or _are_delimiters(gaps[::-1], fields[::-1])


def _are_delimiters(gaps: Sequence[str], fields: Sequence[_Field]) -> bool:
    """Whether each gap has a character that the value before it cannot have."""
    return all(re.sub(field.characters, "", gap) for gap, field in zip(gaps, fields, strict=False))


def _hint(name: str) -> str:
    known = tuple(TEMPLATE_FIELDS)
    meant = find_closest(name, known) if re.fullmatch(r"[a-z_]{1,30}", name) else None
    meant = "username" if name in ("user", "name") else meant
    return f"did you mean {{{meant}}}?" if meant else f"it has {', '.join(known[:4])}, …"
