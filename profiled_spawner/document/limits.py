"""How much a document and a start may come to: what keeps the cost of both within bounds.

No document that somebody wrote for people comes near one of these. `docs/reference.md` has them in a table.
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

# Of a document.
MAX_BYTES = 2**20
"""What a ConfigMap can hold: https://kubernetes.io/docs/concepts/configuration/configmap/"""
MAX_DEPTH = 50
MAX_NODES = 250_000
"""Nodes, counting those behind an alias each time that it is used."""
MAX_EXPANDED_CHARACTERS = 4 * 2**20
"""Characters of text, counted likewise."""
MAX_CHOICES = 100
"""Sizes, and images that people may choose, each."""
MAX_TEXT = 1_000
"""Characters of a name, or of a size's description: people read them."""
MAX_IMAGE = 1_024
"""Characters of an image's name. No registry has a longer one: a path has at most 255, a tag 128."""
MAX_PATTERNS = 300
"""Different images with a ``*``."""
MAX_STARS = 5
"""Of one image."""
MAX_TEMPLATE = 4_096
"""Characters of a text that may have KubeSpawner's fields. Linux takes no longer path."""
MAX_PLACEHOLDERS = 50
"""Braces that open in such a text."""

# Of the ConfigMaps that a selector selects, all together. Beyond it the largest do not count.
MAX_SELECTED_CHARACTERS = 4 * 2**20
MAX_SELECTED_PATTERNS = 600
"""Different images with a ``*``, which are compared with the image of every start."""

# Of one start, all its profiles together.
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
"""How much each section may have, and of what."""
# What a profile has besides.
_NOT_GIVEN = frozenset(
    {"name", "description", "images", "users", "groups", "period", "image", "image_pull_secrets", "default_url"}
)
# Kubernetes wants their names and values short, so that their number says it all.
_SHORT = frozenset({"limits", "requests", "node_selector", "labels"})
_TEXTS = frozenset({"env", "annotations"})
MAX_REFERENCES = 300
"""References to other variables in all variables."""
MAX_BRACES = 500
"""Braces that open in all texts that may have KubeSpawner's fields."""
MAX_TERMS = 100
"""Alternatives of a node affinity that is required, and preferences."""
MAX_EXPRESSIONS = 300
"""Expressions in all these alternatives, which name again what the alternatives have in common."""
MAX_VALUES = 10_000
"""Variables, resources, labels and annotations, those included that a more specific profile replaces."""
MAX_OBJECT_VALUES = 1_000
"""Values within objects of Kubernetes, such as volumes and tolerations, likewise."""
MAX_TEXT_BYTES = 512 * 2**10
"""Bytes of all these texts. etcd takes objects of 1.5 MiB, and a pod has most names twice: in `managedFields` too."""
MAX_ANNOTATIONS_BYTES = 256 * 2**10
"""https://kubernetes.io/docs/concepts/overview/working-with-objects/annotations/"""


def count_bytes(text: str) -> int:
    """How many bytes a text is as UTF-8."""
    # Of most texts Python knows that they have no more bytes than characters.
    return len(text) if text.isascii() else len(text.encode())


def find_within(amounts: Sequence[int], most: int) -> frozenset[int]:
    """The positions of those that come to no more than `most` together, the smallest first.

    So nobody pushes out another who has less.
    """
    smallest_first = sorted(range(len(amounts)), key=amounts.__getitem__)
    sums = accumulate(amounts[position] for position in smallest_first)
    return frozenset(position for position, total in zip(smallest_first, sums, strict=True) if total <= most)


def weigh(objects: Any) -> tuple[int, int, int]:
    """How many values objects of Kubernetes have, those within them included, how many bytes and how many braces.

    What has more than `MAX_OBJECT_VALUES` is not looked through to its end.
    """
    values = size = braces = 0
    left = [objects]
    while left and values <= MAX_OBJECT_VALUES:
        value = left.pop()
        # A document has no other mappings and lists than these, and to ask for a Mapping takes ten times as long.
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
    """The section that has more than one server may be given, and what it has; None if there is none.

    Args:
        sections: What is given, by the names of a profile's attributes.
    """
    total = _Total()
    for name, section in sections.items():
        if not section or name in _NOT_GIVEN:
            continue
        most, of = SECTION_LIMITS.get(name, (MAX_OBJECT_VALUES, "values"))
        if len(section) > most:
            return name, f"{len(section):,} {of}, and a server can have {most:,}"
        what = None if name in _SHORT else total.add(name, section)
        if what is not None:
            return name, what
    if total.bytes <= MAX_TEXT_BYTES:
        return None
    what = f"{total.bytes:,} bytes of text, with other sections, and a server can have {MAX_TEXT_BYTES:,}"
    return total.longest, what


@dataclass(slots=True)
class _Total:
    """What all sections of one server come to.

    Attributes:
        values: Values within objects.
        bytes: Bytes of text.
        braces: Braces that open in it.
        references: References to other variables.
        longest: The section that has most text.
        most_bytes: How much that is.
    """

    values: int = 0
    bytes: int = 0
    braces: int = 0
    references: int = 0
    longest: str = ""
    most_bytes: int = 0

    def add(self, name: str, section: Any) -> str | None:
        """Adds a section, and says what is too much now; None if nothing is."""
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
        """Adds texts by name, and gives the objects that stand among them."""
        objects = []
        for key, value in section.items():
            self.bytes += count_bytes(key)
            if isinstance(value, str):
                self.bytes += count_bytes(value)
                if "$(" in value and name == "env":
                    self.references += value.count("$(")
            elif value is not None:
                objects.append(value.fields)
        return tuple(objects)
