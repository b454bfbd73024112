"""The three ways to patch an object.

JSON Patch (RFC 6902), JSON Merge Patch (RFC 7396), and of Kubernetes' own strategic merge patch as much as needs
no knowledge of types beyond the tables below: other lists of objects, and its directives, are refused.
"""

import copy
from collections.abc import Callable
from typing import Any

from sandbox.status import StatusError, bad_request, not_implemented

_MERGE_KEYS = {
    "conditions": "type",
    "containers": "name",
    "env": "name",
    "hostIPs": "ip",
    "initContainers": "name",
    "ownerReferences": "uid",
    "podIPs": "ip",
}
_ATOMIC_LISTS = {"containerStatuses", "initContainerStatuses", "tolerations"}


def merge_patch(target: Any, patch: Any) -> Any:
    """Apply a JSON Merge Patch; the target is left as it is.

    Raises:
        StatusError: 400 for what is no patch.
    """
    return _merge(target, _checked(patch))


def strategic_merge_patch(target: Any, patch: Any) -> Any:
    """Apply a strategic merge patch; the target is left as it is.

    Raises:
        StatusError: 400 for what is no patch, 501 for a directive, and for a list that is in no table here.
    """
    return _merge_strategically(target, _checked(patch), "")


def _checked(patch: Any) -> Any:
    if not isinstance(patch, dict):
        raise bad_request(
            "error decoding patch: json: cannot unmarshal it into Go value of type map[string]interface {}"
        )
    return patch


def _merge(target: Any, patch: Any) -> Any:
    if not isinstance(patch, dict):
        return patch
    result = dict(target) if isinstance(target, dict) else {}
    for name, value in patch.items():
        if value is None:
            result.pop(name, None)
        else:
            result[name] = _merge(result.get(name), value)
    return result


def _merge_strategically(target: Any, patch: Any, name: str) -> Any:
    if isinstance(patch, dict):
        result = dict(target) if isinstance(target, dict) else {}
        for key, value in patch.items():
            if key.startswith("$"):
                raise not_implemented(f"know the directive {key} of a strategic merge patch")
            if value is None:
                result.pop(key, None)
            else:
                result[key] = _merge_strategically(result.get(key), value, key)
        return result
    if not isinstance(patch, list) or name in _ATOMIC_LISTS:
        return patch
    if name in _MERGE_KEYS:
        return _merge_by_key(target or [], patch, _MERGE_KEYS[name])
    if name == "finalizers" or any(isinstance(item, dict) for item in patch):
        raise not_implemented(f"merge the list {name} in a strategic merge patch")
    return patch


def _merge_by_key(target: list[Any], patch: list[Any], key: str) -> list[Any]:
    """Merge lists of objects: in the patch's order, with the others of the target before what they preceded."""
    places = {item[key]: place for place, item in enumerate(target)}
    others = [item for item in target if item[key] not in {changed.get(key) for changed in patch}]
    merged = []
    for changed in patch:
        if key not in changed:
            raise StatusError(500, "", f"map: {changed} does not contain declared merge key: {key}")
        place = places.get(changed[key], -1)
        while others and places[others[0][key]] < place:
            merged.append(others.pop(0))
        merged.append(_merge_strategically(target[place] if place >= 0 else {}, changed, ""))
    return merged + others


def json_patch(target: Any, patch: Any) -> Any:
    """Apply a JSON Patch; the target is left as it is.

    Raises:
        StatusError: 400 for what is no patch, 422 where it does not fit the object.
    """
    if not isinstance(patch, list) or not all(isinstance(operation, dict) for operation in patch):
        raise bad_request(
            "error decoding patch: json: cannot unmarshal object into Go value of type []handlers.jsonPatchOp"
        )
    document = {"": copy.deepcopy(target)}
    for operation in patch:
        try:
            _OPERATIONS[operation["op"]](document, operation)
        except (KeyError, IndexError, TypeError, ValueError):
            message = "the server rejected our request due to an error in our request"
            raise StatusError(422, "Invalid", message, {}) from None
    return document[""]


def _resolve(document: Any, pointer: str) -> tuple[Any, Any]:
    """The container that a JSON pointer leads to, and its key or index there."""
    # The document hangs under an empty key, so that the pointer to all of it has a container too. What stands before
    # the first slash is no matter to a real API server.
    steps = ["", *(step.replace("~1", "/").replace("~0", "~") for step in pointer.split("/")[1:])]
    for step in steps[:-1]:
        document = document[_index(document, step)]
    return document, _index(document, steps[-1])


def _index(container: Any, step: str) -> Any:
    if not isinstance(container, list):
        return step
    if step == "-":
        return len(container)
    if not step.isdecimal():
        raise ValueError(step)
    return int(step)


def _read(document: Any, pointer: str) -> Any:
    container, key = _resolve(document, pointer)
    return container[key]


def _add(document: Any, pointer: str, value: Any) -> None:
    container, key = _resolve(document, pointer)
    if isinstance(container, list):
        if key > len(container):
            raise IndexError(key)
        container.insert(key, value)
    else:
        container[key] = value


def _remove(document: Any, pointer: str) -> Any:
    container, key = _resolve(document, pointer)
    return container.pop(key)


def _replace(document: Any, pointer: str, value: Any) -> None:
    # Against the RFC, a real API server also replaces what a mapping does not have.
    container, key = _resolve(document, pointer)
    container[key] = value


def _test(document: Any, pointer: str, value: Any) -> None:
    if _read(document, pointer) != value:
        raise ValueError(pointer)


_OPERATIONS: dict[str, Callable[[Any, dict[str, Any]], Any]] = {
    "add": lambda document, op: _add(document, op["path"], op["value"]),
    "remove": lambda document, op: _remove(document, op["path"]),
    "replace": lambda document, op: _replace(document, op["path"], op["value"]),
    "move": lambda document, op: _add(document, op["path"], _remove(document, op["from"])),
    "copy": lambda document, op: _add(document, op["path"], copy.deepcopy(_read(document, op["from"]))),
    "test": lambda document, op: _test(document, op["path"], op["value"]),
}
