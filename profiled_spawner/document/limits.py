"""Limits of a document and of a start, which bound what both can cost.

No document with a real purpose comes near these limits. `docs/reference.md` lists them.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import accumulate
from types import MappingProxyType
from typing import Any

__all__ = [
    "MAX_ANNOTATIONS_BYTES",
    "MAX_BRACES",
    "MAX_BYTES",
    "MAX_CHOICES",
    "MAX_DEPTH",
    "MAX_EXPANDED_CHARACTERS",
    "MAX_EXPRESSIONS",
    "MAX_IMAGE",
    "MAX_NODES",
    "MAX_OBJECT_NAME",
    "MAX_OBJECT_VALUES",
    "MAX_PATTERNS",
    "MAX_PLACEHOLDERS",
    "MAX_PROFILES",
    "MAX_REFERENCES",
    "MAX_SELECTED_CHARACTERS",
    "MAX_SELECTED_PATTERNS",
    "MAX_STARS",
    "MAX_TEMPLATE",
    "MAX_TERMS",
    "MAX_TEXT",
    "MAX_TEXT_BYTES",
    "MAX_VALUES",
    "SECTION_LIMITS",
    "find_excess",
    "find_within",
    "weigh",
]

# Limits of a document.
MAX_BYTES = 2**20
"""The size of a ConfigMap: https://kubernetes.io/docs/concepts/configuration/configmap/"""
MAX_DEPTH = 50
MAX_NODES = 250_000
"""Nodes, with all aliases expanded."""
MAX_EXPANDED_CHARACTERS = 4 * 2**20
"""Characters of text, with all aliases expanded."""
MAX_CHOICES = 100
"""Sizes, images that people may choose, quotas and teams, each."""
MAX_TEXT = 1_000
"""Characters of a name or a description. People read these."""
MAX_IMAGE = 1_024
"""Characters of an image's name. Registries allow fewer: 255 for a path, 128 for a tag."""
MAX_OBJECT_NAME = 253
"""Characters of the name of a Secret or a ConfigMap, with or without ``*``."""
MAX_PATTERNS = 300
"""Different images with a ``*``."""
MAX_STARS = 5
"""``*`` in one image."""
MAX_TEMPLATE = 4_096
"""Characters of a text that may have KubeSpawner's fields. Linux allows no longer path."""
MAX_PLACEHOLDERS = 50
"""Opening braces in such a text."""

# Limits of all selected ConfigMaps together. If they exceed one, the largest ConfigMaps are left out.
MAX_SELECTED_CHARACTERS = 4 * 2**20
MAX_SELECTED_PATTERNS = 600
"""Different images with a ``*``. Each start compares its image with all of them."""

# Limits of one start, for all its profiles together.
MAX_PROFILES = 500
SECTION_LIMITS: Mapping[str, tuple[int, str]] = {
    "env": (300, "variables"),
    "env_from": (100, "objects"),
    "limits": (20, "resources"),
    "requests": (20, "resources"),
    "node_selector": (100, "labels"),
    "node_tolerations": (100, "tolerations"),
    "volumes": (100, "volumes"),
    "labels": (100, "labels"),
    "annotations": (100, "annotations"),
}
"""How many entries each section may have, and what an error calls them."""
# A profile's other attributes.
_NOT_GIVEN = frozenset(
    {
        *("name", "description", "images", "users", "groups", "period", "image", "image_pull_secrets", "default_url"),
        *("per", "hard", "configmaps", "may", "refers"),
    }
)
# Kubernetes only allows short names and values in these, so that limiting their number is enough.
_SHORT = frozenset({"limits", "requests", "node_selector", "labels"})
_TEXTS = frozenset({"env", "annotations"})
MAX_REFERENCES = 300
"""References to other variables, ``$(NAME)``, in all variables."""
MAX_BRACES = 500
"""Opening braces in all texts that may have KubeSpawner's fields."""
MAX_TERMS = 100
"""Terms of the required node affinity, and preferences."""
MAX_EXPRESSIONS = 300
"""Expressions in all these terms. An expression that several terms share is counted in each."""
MAX_VALUES = 10_000
"""Variables, resources, labels and annotations, including those that a more specific profile overrides."""
MAX_OBJECT_VALUES = 1_000
"""Values in Kubernetes objects, such as volumes and tolerations, including overridden ones."""
MAX_TEXT_BYTES = 512 * 2**10
"""Bytes of all these texts. etcd accepts 1.5 MiB, and `managedFields` repeats most names of a pod."""
MAX_ANNOTATIONS_BYTES = 256 * 2**10
"""Bytes of all annotations: https://kubernetes.io/docs/concepts/overview/working-with-objects/annotations/"""


def count_bytes(text: str) -> int:
    """Returns the size of a text as UTF-8."""
    # isascii() only reads a flag of the text. Most texts are ASCII, and need no encoding.
    return len(text) if text.isascii() else len(text.encode())


def find_within(amounts: Sequence[int], most: int) -> frozenset[int]:
    """Returns the positions of the smallest amounts whose sum is at most `most`.

    A large amount never pushes out a smaller one.
    """
    smallest_first = sorted(range(len(amounts)), key=amounts.__getitem__)
    sums = accumulate(amounts[position] for position in smallest_first)
    return frozenset(position for position, total in zip(smallest_first, sums, strict=True) if total <= most)


def weigh(objects: Any) -> tuple[int, int, int]:
    """Returns the number of values, bytes and opening braces in Kubernetes objects, at all levels.

    Counting stops above `MAX_OBJECT_VALUES` values.
    """
    values = size = braces = 0
    left = [objects]
    while left and values <= MAX_OBJECT_VALUES:
        value = left.pop()
        # A document only has these types. A check for the abstract Mapping would take ten times as long.
        if isinstance(value, str):
            size += count_bytes(value)
            braces += value.count("{")
        elif isinstance(value, MappingProxyType):
            values += len(value)
            size += sum(map(count_bytes, value))
            left += value.values()
        elif isinstance(value, tuple):
            values += len(value)
            left += value
    return values, size, braces


def find_excess(sections: Mapping[str, Any]) -> tuple[str, str] | None:
    """Returns the first section that exceeds a limit of one server, and how; None: no section does.

    Args:
        sections: The sections, by a profile's attributes.
    """
    total = _Total()
    for name, section in sections.items():
        if not section or name in _NOT_GIVEN:
            continue
        most, noun = SECTION_LIMITS.get(name, (MAX_OBJECT_VALUES, "values"))
        if len(section) > most:
            return name, f"{len(section):,} {noun}, and a server can have {most:,}"
        problem = None if name in _SHORT else total.add(name, section)
        if problem is not None:
            return name, problem
    if total.bytes <= MAX_TEXT_BYTES:
        return None
    problem = f"{total.bytes:,} bytes of text, with other sections, and a server can have {MAX_TEXT_BYTES:,}"
    return total.longest, problem


@dataclass(slots=True)
class _Total:
    """The totals of all sections of one server.

    Attributes:
        values: The number of values in Kubernetes objects.
        bytes: The size of all texts.
        braces: The number of opening braces in objects.
        references: The number of references to other variables.
        longest: The section with the most text.
        most_bytes: The size of that text.
    """

    values: int = 0
    bytes: int = 0
    braces: int = 0
    references: int = 0
    longest: str = ""
    most_bytes: int = 0

    def add(self, name: str, section: Any) -> str | None:
        """Adds a section, and returns which limit is exceeded now; None: none is."""
        before = self.bytes
        objects = self._add_texts(name, section) if name in _TEXTS else section
        if objects:
            values, size, braces = weigh(objects)
            self.values += values
            self.bytes += size
            self.braces += braces
        size = self.bytes - before
        if size > self.most_bytes:
            self.longest, self.most_bytes = name, size
        if self.values > MAX_OBJECT_VALUES:
            return f"more than {MAX_OBJECT_VALUES:,} values within objects, and a server can have no more"
        if self.references > MAX_REFERENCES:
            return f"{self.references:,} references to variables, and a server can have {MAX_REFERENCES:,}"
        if self.braces > MAX_BRACES:
            return f"{self.braces:,} fields and braces in its texts, and a server can have {MAX_BRACES:,}"
        if name == "annotations" and size > MAX_ANNOTATIONS_BYTES:
            return f"{size:,} bytes, and Kubernetes takes {MAX_ANNOTATIONS_BYTES:,} for one pod"
        return None

    def _add_texts(self, name: str, section: Mapping[str, Any]) -> tuple[Any, ...]:
        """Adds names and texts, and returns the objects among the values."""
        objects = []
        for key, value in section.items():
            self.bytes += count_bytes(key)
            if isinstance(value, str):
                self.bytes += count_bytes(value)
                self.references += value.count("$(") if name == "env" else 0
            elif value is not None:
                objects.append(value.fields)
        return tuple(objects)
