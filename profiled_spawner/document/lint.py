"""Warnings of `validate`: valid documents that may not do what their author meant."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from collections.abc import Mapping as MappingABC
from datetime import tzinfo
from types import MappingProxyType

from ..errors import Diagnostic, format_path
from .model import EVERYONE, Entry, EnvVarSource, Profile
from .quantity import Quantity, is_whole_and_equal
from .sections import RESOURCE_KEYS
from .templates import TEMPLATE_FIELDS, Template, find_templates, identifies_only_server, is_unique_per_user
from .times import describe_end
from .validator import Validator
from .yaml_tree import Mapping, Node, Scalar, Sequence

__all__ = ["Linter"]

_SECRET_NAME = re.compile(
    r"(?:(?:^|[-._])(?:API_?KEY|ACCESS_?KEY|CREDENTIALS?|PASS(?:WD|WORD|PHRASE)?|PRIVATE_?KEY|PW|SECRET(?:_?KEY)?|TOKEN)"
    # Of PostgreSQL and MySQL; PWD alone is the working directory.
    r"|^PGPASSWORD|[-._]PWD)$",
    re.IGNORECASE,
)
# Not where the password is a reference or another placeholder: $(NAME), ${NAME}, {name}, <name>.
_PASSWORD_IN_URL = re.compile(r"://[^\s/@:]*:(?![$<{*])[^\s/@]+@(?!sha256:)")
# Not ${username} of a shell or {{username}} of another template.
_FIELD = re.compile(
    rf"(?<![{{$]){{(?:{'|'.join(name for name, f in TEMPLATE_FIELDS.items() if f.identifies != 'nothing')})}}(?!}})"
)

_QUOTES = "\"'`\u00ab\u00bb\u2018\u2019\u201a\u201b\u201c\u201d\u201e\u201f\u2039\u203a"
# Lower-case letters, since "Sales, EMEA" may well be one group.
_SEVERAL_NAMES = re.compile(r"[a-z0-9_.@-]+(?:, ?[a-z0-9_.@-]+)+")
# What an image's name can have. In front, [ begins an IPv6 address; + is for a digest's algorithm alone.
_IMAGE = re.compile(r"(?:\[[0-9A-Fa-f:]*\])?[A-Za-z0-9._/:*-]*(?:@[A-Za-z0-9._+:*-]*)?")

_LEAST_MEMORY = 2**20

_WEEK = 7 * 86_400

_NOUNS: MappingABC[str | int, str] = {
    "profiles": "profile",
    "sizes": "size",
    "images": "image",
    "quotas": "quota",
    "teams": "team",
}

# Volumes of what belongs to somebody.
_HELD_BY_SOMEBODY = frozenset({"secret", "persistentVolumeClaim"})

_Entries = MappingABC[str, tuple[Scalar, Node]]
_Path = tuple[str | int, ...]


class Linter:
    """Collects warnings while a document is read, profile by profile in the document's order."""

    def __init__(self, at: float | None = None) -> None:
        """Begins without warnings.

        Args:
            at: The moment from which periods are looked at; None if they are not.
        """
        self.at = at
        self.warnings: list[Diagnostic] = []
        self._names: dict[str, int] = {}

    def check_entry(self, entry: Entry, path: _Path, entries: _Entries, validator: Validator) -> None:
        """Adds the warnings about one profile, size or image.

        Args:
            entry: The entry as it was read.
            path: Where it is.
            entries: Its sections: the key and the value of each.
            validator: Has read the entry.
        """
        if not entries:
            return
        self._check_filters(entry, path, entries, validator.is_quotable)
        self._check_entries(path, entries)
        self._check_period(entry, path, entries, validator.zone)
        if isinstance(entry, Profile):
            self._check_names(entry, path, entries)
            self._check_env(entry, path, entries)
            self._check_references(entry, path, entries)
            self._check_resources(entry, path, entries)

    def report_ignored(self, key: Node, path: _Path, advice: str) -> None:
        """Warns of a key of another library's documents, and says what to do instead."""
        self._warn(key, path, f"ignored, a key of jupyterhub-singleuser-profiles; {advice}")

    def _warn(self, node: Node, path: _Path, what: str) -> None:
        self.warnings.append(Diagnostic(what, format_path(path), node.line, node.column, "warning"))

    def _check_names(self, profile: Profile, path: _Path, entries: _Entries) -> None:
        if profile.name is None or "name" not in entries or path[0] != "profiles":
            return
        first = self._names.setdefault(profile.name, profile.index)
        if first != profile.index:
            self._warn(
                entries["name"][1],
                (*path, "name"),
                f"profiles[{first}] has the same name; nobody can tell the two apart in logs",
            )

    def _check_filters(self, entry: Entry, path: _Path, entries: _Entries, is_quotable: Callable[[Node], bool]) -> None:
        for key in ("users", "groups", "images"):
            value = getattr(entry, key, None)
            if value is not None and not value and isinstance(entries[key][1], Sequence):
                other = {"users": entry.groups, "groups": entry.users}.get(key)
                if other:
                    what = "empty, which adds nobody"
                else:
                    what = f"empty, so the {_NOUNS[path[0]]} matches {'nothing' if key == 'images' else 'nobody'}"
                self._warn(entries[key][0], (*path, key), f"{what}; leave the key out if that is not meant")
        users = entries["users"][1] if "users" in entries else None
        if isinstance(users, Sequence):
            for position, user in enumerate(users.items):
                if isinstance(user, Scalar) and user.value != user.value.lower() and is_quotable(user):
                    self._warn(
                        user,
                        (*path, "users", position),
                        f"{user.value!r} has capitals, and JupyterHub lower-cases usernames unless told otherwise; "
                        f"did you mean {user.value.lower()!r}?",
                    )

    def _check_period(self, entry: Entry, path: _Path, entries: _Entries, zone: tzinfo) -> None:
        if self.at is None or "until" not in entries:
            return
        if entry.period.has_ended(self.at):
            what = f"is over: it applied {describe_end(entry.period.end, zone, self.at)}"
            self._warn(entries["until"][0], (*path, "until"), f"{what}; remove it if nobody needs it any more")
        elif entry.period.ends_within(_WEEK, self.at):
            what = f"ends within a week: it applies {describe_end(entry.period.end, zone, self.at)}"
            self._warn(entries["until"][0], (*path, "until"), what)

    def _check_entries(self, path: _Path, entries: _Entries) -> None:
        for key, explain in _FILTERS.items():
            node = entries[key][1] if key in entries else None
            for position, entry in enumerate(node.items if isinstance(node, Sequence) else ()):
                problem = explain(entry.value) if isinstance(entry, Scalar) else None
                if problem:
                    self._warn(entry, (*path, key, position), problem)

    def _check_env(self, profile: Profile, path: _Path, entries: _Entries) -> None:
        if not profile.env:
            return
        section = entries["env"][1]
        places = _find_variables(section)
        images = entries["images"][1] if "images" in entries else None
        if isinstance(images, Sequence):
            for position, image in enumerate(images.items):
                if isinstance(image, Scalar) and image.value.startswith("*") and image.value.strip("*"):
                    self._warn(
                        image,
                        (*path, "images", position),
                        "begins with '*', so anyone who may type in an image can obtain this profile's variables; "
                        "begin it with a registry",
                    )
        for name, value in profile.env.items():
            where = places.get(name, section)
            if isinstance(value, EnvVarSource):
                self._check_templates([*find_templates(value.fields)], where, (*path, "env", name))
                if value.kind == "secretKeyRef":
                    self._check_secret(profile, where, (*path, "env", name))
            elif value:
                for problem in _explain_value(name, value):
                    self._warn(where, (*path, "env", name), problem)

    def _check_references(self, profile: Profile, path: _Path, entries: _Entries) -> None:
        for position, source in enumerate(profile.env_from):
            where = (*path, "env_from", position)
            self._check_templates([*find_templates(source)], entries["env_from"][0], where)
            if source.get("secretRef"):
                self._check_secret(profile, entries["env_from"][0], where)
        for position, volume in enumerate(profile.volumes):
            where = (*path, "volumes", position)
            sub_path = volume.get("subPath")
            templates = [*find_templates(volume), *([sub_path] if isinstance(sub_path, Template) else [])]
            self._check_templates(templates, entries["volumes"][0], where)
            projected = (volume.get("projected") or {}).get("sources") or ()
            if not _HELD_BY_SOMEBODY.isdisjoint(volume) or any(source.get("secret") for source in projected):
                self._check_secret(profile, entries["volumes"][0], where)

    def _check_templates(self, templates: list[Template], node: Node, path: _Path) -> None:
        if any(map(identifies_only_server, templates)) and not any(map(is_unique_per_user, templates)):
            self._warn(
                node,
                path,
                "people name their servers as they like, and so choose whose object this is; use {user_server}",
            )

    def _check_secret(self, profile: Profile, node: Node, path: _Path) -> None:
        nobody_named = (profile.users is None or EVERYONE in profile.users) and (
            profile.groups is None or EVERYONE in (profile.users or ())
        )
        if profile.images is not None and nobody_named:
            self._warn(
                node,
                path,
                "a secret that an image alone guards: whoever may choose the image can read it; name users or groups",
            )

    def _check_resources(self, profile: Profile, path: _Path, entries: _Entries) -> None:
        for kind, amounts in (("limits", profile.limits), ("requests", profile.requests)):
            for resource, quantity in amounts.items():
                problem = _explain_amount(resource, quantity) if quantity else None
                if problem:
                    node, steps = _find_amount(entries["resources"], kind, resource)
                    self._warn(node, (*path, "resources", *steps), problem)
        for resource, request in profile.requests.items():
            limit = profile.limits.get(resource)
            if limit is None or request is None or request == limit:
                continue
            if request > limit or is_whole_and_equal(resource):
                self._warn(
                    entries["resources"][0],
                    (*path, "resources"),
                    f"guarantees {request} of {resource} and limits it to {limit}; the limit will be used for both",
                )


def _find_variables(section: Node) -> dict[str, Node]:
    """The keys, or the list items, that set variables; those merged in from elsewhere are not among them."""
    if isinstance(section, Mapping):
        return {key.value: key for key, _ in section.pairs() if isinstance(key, Scalar)}
    places: dict[str, Node] = {}
    for item in section.items if isinstance(section, Sequence) else ():
        for key, value in item.pairs() if isinstance(item, Mapping) else ():
            if isinstance(key, Scalar) and key.value == "name" and isinstance(value, Scalar):
                places.setdefault(value.value, item)
    return places


def _find_amount(section: tuple[Scalar, Node], kind: str, resource: str) -> tuple[Node, tuple[str, ...]]:
    """Where a section `resources` says an amount: the key and the steps to it; the section's key if it is merged in."""
    keys = {(amount.kind, amount.resource, key) for key, (amount, _) in RESOURCE_KEYS.items()}
    key, node = section
    for short, value in node.pairs() if isinstance(node, Mapping) else ():
        if isinstance(short, Scalar) and (kind, resource, short.value) in keys:
            return short, (short.value,)
        if isinstance(short, Scalar) and short.value == kind and isinstance(value, Mapping):
            for name, _ in value.pairs():
                if isinstance(name, Scalar) and name.value == resource:
                    return name, (kind, resource)
    return key, ()


def _explain_amount(resource: str, quantity: Quantity) -> str | None:
    """Says why nobody can mean this much of a resource; None if somebody can."""
    amount, text = quantity.amount, quantity.text
    if resource == "memory" and 0 < amount < _LEAST_MEMORY:
        unit = "Gi" if amount < 64 else "Mi" if amount < 2**16 else "Ki"
        hint = f"did you mean {text}{unit}?" if text.isdecimal() else "write Mi or Gi"
        return f"{text} is {int(amount):,} bytes of memory, with which no server can start; {hint}"
    # Machines have 96, 128 or 448 cores. A multiple of 50 is thousandths whose 'm' is missing.
    if resource == "cpu" and (amount >= 1000 or (amount >= 100 and not amount % 50)):
        if text.isdecimal():
            hint = f"did you mean {text}m?"
        else:
            hint = "is this the amount of memory?" if text.endswith("i") else "500m is half a core"
        return f"{text} is {int(amount):,} cores; {hint}"
    return None


def _explain_value(name: str, value: str) -> Iterator[str]:
    """Says what is odd about a variable's value, without quoting it."""
    if _SECRET_NAME.search(name):
        yield (
            "looks like a secret in plain text, which everyone who may read the ConfigMap can read; "
            "take it from a Secret with valueFrom"
        )
    elif "://" in value and _PASSWORD_IN_URL.search(value):
        yield (
            "has a password in its URL, which everyone who may read the ConfigMap can read; take the password from a "
            "Secret as a variable of its own, and refer to it as $(NAME)"
        )
    if f"$({name})" in value and re.search(rf"(?<!\$)(?:\$\$)*\$\({re.escape(name)}\)", value):
        yield (
            f"refers to itself, and Kubernetes leaves $({name}) as it stands: it does not know the image's variables; "
            "write the whole value, or set it in the image"
        )
    if "{" in value and _FIELD.search(value):
        yield (
            "has a field such as {username}, which stays as it stands in a variable's value; "
            "the person's name is $(JUPYTERHUB_USER)"
        )


def _explain_user(name: str) -> str | None:
    """Says why no user can have this name; None if one can."""
    if EVERYONE in name and name != EVERYONE:
        return "matches nobody: '*' alone is everybody, but in a name it is no pattern; list the users, or their group"
    return _explain_name(name)


def _explain_group(name: str) -> str | None:
    """The same of a group."""
    if name == EVERYONE:
        return "matches nobody: only users can be '*'; for everybody, write users: [\"*\"]"
    if EVERYONE in name:
        return "matches nobody: '*' is no pattern in a group's name; list the groups"
    return _explain_name(name)


def _explain_name(name: str) -> str | None:
    if name[:1] in _QUOTES and name[-1:] in _QUOTES and len(name) > 1:
        return "matches nobody: its quotes are part of the name; write the name in straight quotes, or in none"
    if name != name.strip():
        return "matches nobody: the space at its beginning or end is part of the name; remove it"
    if _SEVERAL_NAMES.fullmatch(name):
        return "matches nobody: it is one name with a comma in it; for several names, write [a, b]"
    return None


def _explain_image(image: str) -> str | None:
    """Says why no image can match; None if one can."""
    if "://" in image:
        return "matches no image: images have no scheme, such as docker://; begin it with the registry"
    if _IMAGE.fullmatch(image) and "/." not in image:
        return None
    if image[:1] in _QUOTES or image != image.strip():
        return "matches no image: a space or a quote is part of its name; remove it"
    if "," in image:
        return "matches no image: it is one name with a comma in it; for several images, write [a, b]"
    return "matches no image: this is no regular expression; write * for any run of characters, and all else as it is"


_FILTERS: MappingABC[str, Callable[[str], str | None]] = MappingProxyType(
    {"users": _explain_user, "groups": _explain_group, "images": _explain_image}
)
