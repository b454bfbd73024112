"""What somebody meant who wrote an unknown name."""

from __future__ import annotations

from functools import lru_cache

__all__ = ["find_closest", "to_predicate"]

# A shorter beginning of a name may be that of another word.
_SHORTEST_START = 6
# Longer than any name that can still resemble a known one.
_LONGEST_RESEMBLING = 60

# Names of other formats and habits, and ours for the same thing.
_MEANT = {
    "profile": "profiles",
    "image": "images",
    "user": "users",
    "group": "groups",
    "envFrom": "env_from",
    "gpus": "gpu",
    "tolerations": "node_tolerations",
    "affinity": "node_affinity",
    "volume": "volumes",
    "pvc": "persistentVolumeClaim",
    "mount": "mountPath",
    "size": "sizes",
    "environment": "env",
    "mem": "mem_limit",
    "memory": "mem_limit",
    "memory_limit": "mem_limit",
    "cpu": "cpu_limit",
    "memory_guarantee": "mem_guarantee",
    "mem_request": "mem_guarantee",
    "cpu_request": "cpu_guarantee",
    "value_from": "valueFrom",
}


def find_closest(name: str, known: tuple[str, ...]) -> str | None:
    """The one of the known names that was meant, itself included; None if the name resembles none of them."""
    return _find_closest(name, known) if len(name) <= _LONGEST_RESEMBLING else None


# Each unknown key is asked for several times, and comparing takes long.
@lru_cache(maxsize=512)
def _find_closest(name: str, known: tuple[str, ...]) -> str | None:
    meant = _MEANT.get(name) or _MEANT.get(name.lower())
    if meant in known:
        return meant
    if len(name) >= _SHORTEST_START and (longer := [each for each in known if each.startswith(name)]):
        return longer[0]
    # Only a document with errors pays for the import.
    from difflib import get_close_matches

    # What others call it counts as its name, so that "enviroment" is an environment.
    names = {other.lower(): each for other, each in _MEANT.items() if each in known}
    names |= {each.lower(): each for each in known}
    matches = get_close_matches(name.lower(), names, n=1, cutoff=0.7)
    return names[matches[0]] if matches else None


def to_predicate(fault: str) -> str:
    """A fault as the rest of a sentence: "not a name" becomes "is not a name"."""
    return f"is {fault}" if fault.startswith("not ") else fault
