"""What quotas allow, written from the specification as plainly as can be. It shares no code with the package."""

from __future__ import annotations

from dataclasses import dataclass, field
from fractions import Fraction
from typing import Any

__all__ = ["SIZES", "Counted", "Model"]

GIB = Fraction(2**30)
SIZES: dict[str, dict[str, Fraction]] = {
    "default": {"pods": Fraction(1), "limits.memory": GIB, "requests.memory": GIB / 2},
    "GPU": {
        "pods": Fraction(1),
        "limits.memory": 2 * GIB,
        "requests.memory": 2 * GIB,
        "requests.nvidia.com/gpu": Fraction(1),
    },
    "GPUs": {
        "pods": Fraction(1),
        "limits.memory": 4 * GIB,
        "requests.memory": 3 * GIB,
        "requests.nvidia.com/gpu": Fraction(2),
    },
    "Endless": {"pods": Fraction(1), "requests.memory": GIB / 2},
}
"""What servers of each size use."""


@dataclass
class Counted:
    """A server that counts: whose it is, the groups at its start, and what it uses."""

    user: str
    groups: frozenset[str]
    uses: dict[str, Fraction]


@dataclass
class Model:
    """Servers that start, run or stop, by user and name; quotas as the document has them."""

    servers: dict[tuple[str, str], Counted] = field(default_factory=dict)
    quotas: list[dict[str, Any]] = field(default_factory=list)

    def find_used(self, quota: dict[str, Any], user: str, name: str) -> Fraction:
        used = Fraction(0)
        for server in self.servers.values():
            if is_for(quota, server.user, server.groups) and (quota.get("per") != "user" or server.user == user):
                used += server.uses.get(name, Fraction(0))
        return used

    def fits(self, user: str, groups: frozenset[str], uses: dict[str, Fraction]) -> bool:
        """Whether one more server may start."""
        for quota in self.quotas:
            if not is_for(quota, user, groups):
                continue
            for name, hard in quota["hard"].items():
                if name not in uses:
                    if name in ("limits.memory", "limits.cpu", "requests.memory", "requests.cpu"):
                        return False
                elif uses[name] > 0 and self.find_used(quota, user, name) + uses[name] > to_number(hard):
                    return False
        return True


def is_for(quota: dict[str, Any], user: str, groups: frozenset[str]) -> bool:
    if "users" not in quota and "groups" not in quota:
        return True
    return user in quota.get("users", ()) or any(group in groups for group in quota.get("groups", ()))


def to_number(amount: object) -> Fraction:
    text = str(amount)
    return Fraction(text.removesuffix("Gi")) * (GIB if text.endswith("Gi") else 1)
