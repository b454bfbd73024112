"""Random main documents with a team, and documents of that team; about half of these keep to its bounds."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from random import Random
from typing import Any, NamedTuple

__all__ = ["GROUPS", "IMAGES", "USERS", "Case", "Entry", "make_case"]

USERS = ("ada", "eve")
GROUPS = ("forecasters", "staff", "*")
IMAGES = ("nb", "nb:1", "lab")
PATTERNS = ("nb", "*", "n*", "lab")
SECTIONS = ("env", "env_from", "resources", "sizes", "images")
NAMES = ("t-s3", "t", "other", "shared", "x-t-s3", "t-s3-x")
TEMPLATES = (
    *("t-{username}", "{username}", "{username}-t", "t-{servername}", "t-{username}--{servername}"),
    *("t-{user_server}-x", "shared-{username}", "{username}-x", "t-{username}--{servername}--{servername}"),
)
REFERS = ("t-*", "*", "shared", "t", "*-t", "t-*-x", "t-s3", "t-*-*", "s*d", "*-x")
AMOUNTS = {
    "memory": (
        *("1Gi", "1024Mi", 1073741824, "2Gi", "2G", 2.5e9, "4Gi", "4194304Ki", "4294967296000m", "8Gi", "9G", "1e10"),
    ),
    "cpu": ("500m", "0.5", 0.5, 1, "1", "1000m", "1001m", 2, "2e0", "4"),
    "ephemeral-storage": ("1Gi", "1G", "2Gi", 1000),
    "nvidia.com/gpu": (0, 1, "1", "2", "1e0", 4),
    "example.org/fpga": (1, 2),
    "hugepages-2Mi": ("2Mi", "4Mi", "8Mi"),
}
BOUNDS = {
    "limits.memory": ("1Gi", "2Gi", "4Gi", "8Gi"),
    "requests.memory": ("1Gi", "2Gi", "4Gi"),
    "limits.cpu": ("500m", 1, "2"),
    "requests.cpu": ("500m", 1),
    "limits.ephemeral-storage": ("1Gi",),
    "requests.ephemeral-storage": ("1G",),
    "requests.nvidia.com/gpu": (0, 1, 2),
    "requests.hugepages-2Mi": ("4Mi",),
}
SHORT = {
    ("limits", "memory"): "mem_limit",
    ("requests", "memory"): "mem_guarantee",
    ("limits", "cpu"): "cpu_limit",
    ("requests", "cpu"): "cpu_guarantee",
}
FORBIDDEN: tuple[dict[str, Any], ...] = (
    {"labels": {"a": "b"}},
    {"annotations": {"a": "b"}},
    {"node_selector": {"a": "b"}},
    {"node_tolerations": [{"operator": "Exists"}]},
    {"volumes": [{"name": "v", "mountPath": "/v", "emptyDir": {}}]},
    {"volumes": [{"name": "v", "mountPath": "/v", "secret": {"secretName": "t-s3"}}]},
    {"volumes": [{"name": "v", "mountPath": "/v", "projected": {"sources": [{"configMap": {"name": "t-s3"}}]}}]},
)
NOTHING: tuple[dict[str, Any], ...] = (
    *({"labels": {}}, {"annotations": {}}, {"node_selector": {}}, {"node_tolerations": []}, {"volumes": []}),
    *({"env": {}}, {"env": []}, {"env_from": []}, {"resources": {}}, {"resources": {"limits": {}}}),
)


@dataclass(slots=True)
class Entry:
    """A profile, a size or an image.

    Attributes:
        said: What it says, with what it merges in.
        text: As it is written, in YAML's flow style.
    """

    said: dict[str, Any]
    text: str


class Case(NamedTuple):
    """A main document, and the document of a team's ConfigMap.

    Attributes:
        number: Its number.
        main: What the main document says.
        main_text: The main document.
        team: What it says of the team.
        own: What the team's document says.
        own_text: The team's document.
    """

    number: int
    main: dict[str, list[dict[str, Any]]]
    main_text: str
    team: dict[str, Any]
    own: dict[str, list[dict[str, Any]]]
    own_text: str


def make_case(number: int, seed: int) -> Case:
    """Makes a case, which depends on nothing but its number and the seed."""
    random = Random(f"{seed}/{number}")
    team = make_team(random)
    main, main_text = make_document(_Maker(random, "main", None))
    teams = f"teams: [{json.dumps(team)}, {{name: others, configmaps: [others], users: ['*']}}]\n"
    own, own_text = make_document(_Maker(random, "own", team))
    return Case(number, main, main_text + teams, team, own, own_text)


def make_team(random: Random) -> dict[str, Any]:
    team: dict[str, Any] = {"name": "t", "configmaps": ["team"]}
    whom: list[dict[str, Any]] = [{"users": ["ada"]}, {"groups": ["forecasters"]}, {"users": ["*"]}]
    team |= random.choice([*whom, {"users": [], "groups": ["*"]}, {"users": ["ada"], "groups": ["staff"]}])
    if random.random() < 0.9:
        team["may"] = [section for section in SECTIONS if random.random() < 0.85]
    if random.random() < 0.9:
        team["hard"] = {name: random.choice(BOUNDS[name]) for name in BOUNDS if random.random() < 0.75}
    if random.random() < 0.9:
        team["refers"] = random.sample(REFERS, random.randrange(1, 4))
    return team


def make_document(maker: _Maker) -> tuple[dict[str, list[dict[str, Any]]], str]:
    random = maker.random
    said: dict[str, list[dict[str, Any]]] = {}
    text = ""
    for key, make in (("profiles", maker.make_profile), ("sizes", maker.make_size), ("images", maker.make_image)):
        if key != "profiles" and random.random() < (0.6 if maker.may(key) else 0.95):
            continue
        entries: list[Entry] = []
        for position in range(random.randrange(4)):
            entries.append(maker.write(f"{key[0]}{position}", make(position), entries))
        said[key] = [entry.said for entry in entries]
        text += f"{key}:{''.join(f'{chr(10)}- {entry.text}' for entry in entries) or ' []'}\n"
    return said, text


@dataclass(slots=True)
class _Maker:
    """Makes what a document has.

    Attributes:
        random: Where it comes from.
        whose: A word that the names of its entries and variables have.
        team: The team whose document it is; None for the main document.
        used: How many names there are.
    """

    random: Random
    whose: str
    team: dict[str, Any] | None
    used: int = field(default=0)

    def may(self, section: str) -> bool:
        return self.team is None or section in self.team.get("may", ("env", "resources"))

    def does(self, probability: float) -> bool:
        return self.random.random() < probability

    def write(self, anchor: str, said: dict[str, Any], before: list[Entry]) -> Entry:
        """Writes an entry, which may merge in one before it."""
        text = json.dumps(said)
        if before and self.does(0.15):
            position = self.random.randrange(len(before))
            base = before[position]
            if {"gpu", "resources"} & base.said.keys() and {"gpu", "resources"} & said.keys():
                return Entry(said, text)  # the two could give the same resource twice
            # What is merged in has an anchor.
            if not base.text.startswith("&"):
                base.text = f"&{anchor}x{position} {base.text}"
            name = base.text.partition(" ")[0].removeprefix("&")
            said = {**base.said, **said}
            text = f"{{<<: {self.random.choice([f'*{name}', f'[*{name}]'])}, {text[1:]}"
        return Entry(said, text)

    def make_filters(self) -> dict[str, Any]:
        random = self.random
        found: dict[str, Any] = {}
        if self.does(0.5):
            found["users"] = random.sample([*USERS, "*"], random.randrange(3))
        if self.does(0.4):
            found["groups"] = random.sample(GROUPS, random.randrange(3))
        return found

    def make_profile(self, position: int) -> dict[str, Any]:
        images = {"images": self.random.sample(PATTERNS, self.random.randrange(3))} if self.does(0.3) else {}
        return {"name": f"{self.whose}-{position}", **self.make_filters(), **images, **self.make_sections()}

    def make_size(self, position: int) -> dict[str, Any]:
        name = (
            self.random.choice(["Small", f"{self.whose}-{position}"]) if position == 0 else f"{self.whose}-{position}"
        )
        return {"name": name, **self.make_filters(), **self.make_sections()}

    def make_image(self, position: int) -> dict[str, Any]:
        name = "Lab" if position == 0 and self.does(0.5) else f"{self.whose}-{position}"
        image: dict[str, Any] = {"name": name, **self.make_filters()}
        if self.does(0.7):
            image["image"] = self.random.choice(IMAGES)
        if self.does(0.3):
            image["default_url"] = "/lab"
        if self.does(0.4):
            image["image_pull_secrets"] = [self.make_name(NAMES) for _ in range(self.random.randrange(3))]
        return image

    def make_name(self, names: tuple[str, ...] = (*NAMES, *TEMPLATES)) -> str:
        """A name of a Secret, mostly one that the team may refer to."""
        first = self.random.choice(names)
        if self.team is None or self.does(0.1):
            return first
        # By their first character alone: that is no check.
        near = [name for name in names if any(name[0] == pattern[0] for pattern in self.team.get("refers", ()))]
        return self.random.choice(near or [first])

    def make_sections(self) -> dict[str, Any]:
        found: dict[str, Any] = {}
        if self.does(0.6 if self.may("env") else 0.05):
            found["env"] = self.make_env()
        if self.does(0.3 if self.may("env_from") else 0.03):
            found["env_from"] = self.make_env_from()
        if self.does(0.6 if self.may("resources") else 0.2):
            found |= self.make_resources()
        if self.does(0.3 if self.team is None else 0.03):
            found |= self.random.choice(FORBIDDEN)
        if self.does(0.1):
            found = self.random.choice(NOTHING) | found
        return found

    def make_env(self) -> Any:
        env: dict[str, Any] = {}
        for _ in range(self.random.randrange(1, 4)):
            self.used += 1
            name = self.random.choice(["A", "B", "C"])
            env[name] = self.random.choice([f"{self.whose}-{self.used}", f"{self.whose}-{self.used}", None])
            if self.does(0.4):
                kind = self.random.choice(["secretKeyRef", "configMapKeyRef"])
                env[name] = {"valueFrom": {kind: {"name": self.make_name(), "key": f"{self.whose}-{self.used}"}}}
            elif self.does(0.1):
                env[name] = {"valueFrom": {"fieldRef": {"fieldPath": "metadata.name"}}}
        if self.does(0.7):
            return env
        return [
            {"name": name, **(value if isinstance(value, dict) else {"value": value})} for name, value in env.items()
        ]

    def make_env_from(self) -> list[dict[str, Any]]:
        found = []
        for _ in range(self.random.randrange(1, 3)):
            source: dict[str, Any] = {self.random.choice(["secretRef", "configMapRef"]): {"name": self.make_name()}}
            if self.does(0.3):
                source["prefix"] = self.random.choice(["T_", "t-"])
            found.append(source)
        return found

    def make_resources(self) -> dict[str, Any]:
        resources: dict[str, Any] = {}
        found: dict[str, Any] = {}
        hard = (self.team or {}).get("hard", {})
        for resource, amounts in AMOUNTS.items():
            known = self.team is None or any(f"{kind}.{resource}" in hard for kind in ("limits", "requests"))
            if not self.does(0.4 if known else 0.02):
                continue
            for kind in self.random.choice([("limits",), ("requests",), ("limits", "requests")]):
                # The smaller, the more often; null is left to the limits where it changes no reservation of a team's.
                amount = self.random.choice(amounts[: self.random.randrange(1, len(amounts) + 1)])
                if amount == 0 and resource in ("memory", "cpu"):
                    continue
                if self.does(0.02):
                    amount = None
                if kind == "limits" and resource == "nvidia.com/gpu" and self.does(0.5):
                    found["gpu"] = amount
                elif (kind, resource) in SHORT and self.does(0.5):
                    resources[SHORT[kind, resource]] = amount
                else:
                    resources.setdefault(kind, {})[resource] = amount
        return {**found, **({"resources": resources} if resources else {})}
