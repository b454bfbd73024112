"""What the API answers when it answers with no object: `Status`, in the words of a real API server."""

import json
from collections.abc import Iterable
from typing import Any, NamedTuple

Object = dict[str, Any]


class StatusError(Exception):
    """A request that failed, with the HTTP status code and the body of its answer.

    Attributes:
        code: the HTTP status code.
        reason: Kubernetes' one-word reason, such as `NotFound`.
        status: the whole `Status` object.
    """

    def __init__(self, code: int, reason: str, message: str, details: Object | None = None) -> None:
        super().__init__(message)
        self.code = code
        self.reason = reason
        self.status: Object = {
            "kind": "Status",
            "apiVersion": "v1",
            "metadata": {},
            "status": "Failure",
            "message": message,
            **({"reason": reason} if reason else {}),
            **({"details": details} if details is not None else {}),
            "code": code,
        }


class Cause(NamedTuple):
    """One field that fails validation."""

    reason: str
    message: str
    field: str


def quote(text: object) -> str:
    """Write text in double quotes, with escapes."""
    return json.dumps(text, ensure_ascii=False)


def field_required(field: str, detail: str = "") -> Cause:
    return Cause("FieldValueRequired", "Required value" + (f": {detail}" if detail else ""), field)


def field_invalid(field: str, value: object, detail: str) -> Cause:
    return Cause("FieldValueInvalid", f"Invalid value: {quote(value)}: {detail}", field)


def field_duplicate(field: str, value: object) -> Cause:
    return Cause("FieldValueDuplicate", f"Duplicate value: {quote(value)}", field)


def field_not_found(field: str, value: object) -> Cause:
    return Cause("FieldValueNotFound", f"Not found: {quote(value)}", field)


def field_not_supported(field: str, value: object, supported: Iterable[str]) -> Cause:
    values = ", ".join(map(quote, supported))
    return Cause("FieldValueNotSupported", f"Unsupported value: {quote(value)}: supported values: {values}", field)


def field_forbidden(field: str, detail: str) -> Cause:
    return Cause("FieldValueForbidden", f"Forbidden: {detail}", field)


def field_too_long(field: str, detail: str) -> Cause:
    return Cause("FieldValueTooLong", f"Too long: {detail}", field)


def not_found(resource: str, name: str) -> StatusError:
    return StatusError(404, "NotFound", f"{resource} {quote(name)} not found", {"name": name, "kind": resource})


def no_such_path() -> StatusError:
    """What a server says of a path that it does not serve."""
    return StatusError(404, "NotFound", "the server could not find the requested resource", {})


def already_exists(resource: str, name: str, *, leaving: bool) -> StatusError:
    """The name is taken; `leaving`: by an object that is being deleted."""
    message = f"{'object is being deleted: ' if leaving else ''}{resource} {quote(name)} already exists"
    return StatusError(409, "AlreadyExists", message, {"name": name, "kind": resource})


def conflict(resource: str, name: str, why: str) -> StatusError:
    message = f"Operation cannot be fulfilled on {resource} {quote(name)}: {why}"
    return StatusError(409, "Conflict", message, {"name": name, "kind": resource})


def forbidden(resource: str, name: str, why: str, causes: list[Object] | None = None) -> StatusError:
    message = f"{resource} {quote(name)} is forbidden: {why}" if name else f"{resource} is forbidden: {why}"
    details = {**({"name": name} if name else {}), "kind": resource, **({"causes": causes} if causes else {})}
    return StatusError(403, "Forbidden", message, details)


def invalid(kind: str, name: str, causes: list[Cause]) -> StatusError:
    """An object that fails validation; `kind` is qualified with its group outside the core group."""
    errors = list(dict.fromkeys(f"{cause.field}: {cause.message}" for cause in causes))
    text = errors[0] if len(errors) == 1 else f"[{', '.join(errors)}]"
    short, _, group = kind.partition(".")
    details = {
        **({"name": name} if name else {}),
        **({"group": group} if group else {}),
        **({"kind": short} if short else {}),
        "causes": [cause._asdict() for cause in causes],
    }
    return StatusError(422, "Invalid", f"{kind} {quote(name)} is invalid: {text}", details)


def bad_request(message: str) -> StatusError:
    return StatusError(400, "BadRequest", message)


def expired(message: str) -> StatusError:
    return StatusError(410, "Expired", message)


def not_implemented(what: str) -> StatusError:
    """What a real server would do and this one does not."""
    return StatusError(501, "NotImplemented", f"the embedded API does not {what}")
