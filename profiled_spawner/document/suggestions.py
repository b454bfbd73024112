"""Finds the known name that an unknown name resembles."""

from __future__ import annotations

from functools import lru_cache

__all__ = ["find_closest", "to_predicate"]

# A shorter start may belong to another word.
_SHORTEST_START = 6
# A longer name does not resemble any known name.
_LONGEST_RESEMBLING = 60

# Names that other formats use, or that people expect, and ours.
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
    """Returns the known name that was probably meant; None: the name resembles none. A known name returns itself."""
    return _find_closest(name, known) if len(name) <= _LONGEST_RESEMBLING else None


# Validation asks several times for each unknown key, and the comparison is slow.
@lru_cache(maxsize=512)
def _find_closest(name: str, known: tuple[str, ...]) -> str | None:
    meant = _MEANT.get(name) or _MEANT.get(name.lower())
    if meant in known:
        return meant
    if len(name) >= _SHORTEST_START and (longer := [each for each in known if each.startswith(name)]):
        return longer[0]
    # Only a document with errors pays for the import.
    from difflib import get_close_matches

    # Compared with the names of other formats too: "enviroment" resembles "environment", which is our "env".
    names = {other.lower(): each for other, each in _MEANT.items() if each in known}
    names |= {each.lower(): each for each in known}
    matches = get_close_matches(name.lower(), names, n=1, cutoff=0.7)
    return names[matches[0]] if matches else None


def to_predicate(problem: str) -> str:
    """Turns a problem into the end of a sentence: ``not a name`` becomes ``is not a name``."""
    return f"is {problem}" if problem.startswith("not ") else problem
