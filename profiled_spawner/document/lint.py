"""What `validate` warns of: documents that are valid and may not do what their author meant."""

from __future__ import annotations

import re
from collections.abc import Callable
from collections.abc import Mapping as MappingABC

from ..errors import Diagnostic, format_path
from .model import EVERYONE, EnvVarSource, Profile
from .quantity import is_whole_and_equal
from .templates import Template, find_templates, is_of_a_server_alone, tells_people_apart
from .yaml_tree import Mapping, Node, Scalar, Sequence

__all__ = ["Advice"]

_SECRET_NAME = re.compile(
    r"(?:^|[-._])(?:API_?KEY|ACCESS_?KEY|CREDENTIALS?|PASS(?:WD|WORD|PHRASE)?|PRIVATE_?KEY|PW|SECRET(?:_?KEY)?|TOKEN)$",
    re.IGNORECASE,
)

# Volumes of what belongs to somebody.
_HELD_BY_SOMEBODY = frozenset({"secret", "persistentVolumeClaim"})

_Entries = MappingABC[str, tuple[Scalar, Node]]
_Path = tuple[str | int, ...]


class Advice:
    """Gathers warnings while a document is read, profile by profile in the document's order."""

    def __init__(self) -> None:
        self.warnings: list[Diagnostic] = []
        self._names: dict[str, int] = {}

    def consider(
        self, profile: Profile, path: _Path, node: Node, entries: _Entries, is_quotable: Callable[[Node], bool]
    ) -> None:
        """Says what is odd about one profile.

        Args:
            profile: The profile as it was read.
            path: Where it is.
            node: Its mapping in the tree.
            entries: Its sections: the key and the value of each.
            is_quotable: Whether a warning may hold a text of the tree.
        """
        if not entries:
            return
        self._consider_names(profile, path, entries)
        self._consider_filters(profile, path, entries, is_quotable)
        self._consider_env(profile, path, entries)
        self._consider_references(profile, path, entries)
        self._consider_resources(profile, path, entries)

    def ignore(self, key: Node, path: _Path, advice: str) -> None:
        """Says that a key is one of another library's documents, and what to do instead."""
        self._warn(key, path, f"ignored, a key of jupyterhub-singleuser-profiles; {advice}")

    def _warn(self, node: Node, path: _Path, what: str) -> None:
        self.warnings.append(Diagnostic(what, format_path(path), node.line, node.column, "warning"))

    def _consider_names(self, profile: Profile, path: _Path, entries: _Entries) -> None:
        if profile.name is None or "name" not in entries or path[0] != "profiles":
            return
        first = self._names.setdefault(profile.name, profile.index)
        if first != profile.index:
            self._warn(
                entries["name"][1],
                (*path, "name"),
                f"profiles[{first}] has the same name; nobody can tell the two apart in logs",
            )

    def _consider_filters(
        self, profile: Profile, path: _Path, entries: _Entries, is_quotable: Callable[[Node], bool]
    ) -> None:
        for key in ("users", "groups", "images"):
            value = getattr(profile, key)
            if value is not None and not value and isinstance(entries[key][1], Sequence):
                other = {"users": profile.groups, "groups": profile.users}.get(key)
                if other:
                    what = "empty, which adds nobody"
                else:
                    what = f"empty, so the profile fits {'nothing' if key == 'images' else 'nobody'}"
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

    def _consider_env(self, profile: Profile, path: _Path, entries: _Entries) -> None:
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
                self._consider_templates([*find_templates(value.fields)], where, (*path, "env", name))
                if value.kind == "secretKeyRef":
                    self._consider_secret(profile, where, (*path, "env", name))
            elif value and _SECRET_NAME.search(name):
                self._warn(
                    where,
                    (*path, "env", name),
                    "looks like a secret in plain text, which everyone who may read the ConfigMap can read; "
                    "take it from a Secret with valueFrom",
                )

    def _consider_references(self, profile: Profile, path: _Path, entries: _Entries) -> None:
        for position, source in enumerate(profile.env_from):
            where = (*path, "env_from", position)
            self._consider_templates([*find_templates(source)], entries["env_from"][0], where)
            if source.get("secretRef"):
                self._consider_secret(profile, entries["env_from"][0], where)
        for position, volume in enumerate(profile.volumes):
            where = (*path, "volumes", position)
            sub_path = volume.get("subPath")
            templates = [*find_templates(volume), *([sub_path] if isinstance(sub_path, Template) else [])]
            self._consider_templates(templates, entries["volumes"][0], where)
            projected = (volume.get("projected") or {}).get("sources") or ()
            if not _HELD_BY_SOMEBODY.isdisjoint(volume) or any(source.get("secret") for source in projected):
                self._consider_secret(profile, entries["volumes"][0], where)

    def _consider_templates(self, templates: list[Template], node: Node, path: _Path) -> None:
        if any(map(is_of_a_server_alone, templates)) and not any(map(tells_people_apart, templates)):
            self._warn(
                node,
                path,
                "people name their servers as they like, and so choose whose object this is; use {user_server}",
            )

    def _consider_secret(self, profile: Profile, node: Node, path: _Path) -> None:
        nobody_named = (profile.users is None or EVERYONE in profile.users) and (
            profile.groups is None or EVERYONE in (profile.users or ())
        )
        if profile.images is not None and nobody_named:
            self._warn(
                node,
                path,
                "a secret that an image alone guards: whoever may choose the image can read it; name users or groups",
            )

    def _consider_resources(self, profile: Profile, path: _Path, entries: _Entries) -> None:
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
