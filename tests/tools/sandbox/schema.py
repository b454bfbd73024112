"""The resources that are served, and how a request's body is read against their schema.

The schema is that of the client library's models, which are generated from the API's own. As in a real API server, a
wrong JSON type is refused, an unknown field dropped, and a quantity brought to its canonical form.
"""

import base64
import binascii
import json
import re
from dataclasses import dataclass, field
from decimal import ROUND_UP, Decimal, localcontext
from functools import cache, partial
from typing import Any

from kubernetes_asyncio.client import models

from sandbox.status import Object, quote


@dataclass(frozen=True)
class Resource:
    """A resource of the core group.

    Attributes:
        returned: whether a deletion is answered with the object that went, not with a `Status`.
        has_status: whether it has the subresource `status`.
    """

    plural: str
    kind: str
    model: type[Any]
    namespaced: bool = True
    returned: bool = False
    has_status: bool = False


RESOURCES = {
    resource.plural: resource
    for resource in (
        Resource("configmaps", "ConfigMap", models.V1ConfigMap),
        Resource("events", "Event", models.CoreV1Event),
        Resource("namespaces", "Namespace", models.V1Namespace, namespaced=False, returned=True, has_status=True),
        Resource(
            "persistentvolumeclaims",
            "PersistentVolumeClaim",
            models.V1PersistentVolumeClaim,
            returned=True,
            has_status=True,
        ),
        Resource("pods", "Pod", models.V1Pod, returned=True, has_status=True),
        Resource("secrets", "Secret", models.V1Secret),
        Resource("serviceaccounts", "ServiceAccount", models.V1ServiceAccount, returned=True),
        Resource("services", "Service", models.V1Service, returned=True, has_status=True),
    )
}

# The schema calls these plain strings, and all numbers that are no fractions `int`.
_RESOURCE_LISTS = {"limits", "requests", "capacity", "allocatedResources", "overhead"}
_QUANTITIES = {*_RESOURCE_LISTS, "sizeLimit", "divisor"}
_INT64 = {
    *("activeDeadlineSeconds", "deletionGracePeriodSeconds", "expirationSeconds", "fsGroup", "generation"),
    *("gracePeriodSeconds", "observedGeneration", "runAsGroup", "runAsUser", "supplementalGroups"),
    *("terminationGracePeriodSeconds", "tolerationSeconds"),
}
_BYTES = {"V1Secret": "data", "V1ConfigMap": "binaryData"}
# An empty string is not the same as nothing in Go's pointers, and in the fields of a container's status.
_MEANT_WHEN_EMPTY = {"storageClassName", "runtimeClassName", "apiGroup", "image", "imageID"}

_JSON_TYPES = {str: "string", bool: "bool", int: "number", float: "number", list: "array", dict: "object"}
_SCALARS: dict[str, tuple[str, tuple[type, ...]]] = {
    "str": ("string", (str,)),
    "int": ("int32", (int,)),
    "bool": ("bool", (bool,)),
    "float": ("float64", (int, float)),
    "datetime": ("string", (str,)),
}


class DecodingError(Exception):
    """A body that does not fit the schema; its text says why not.

    Attributes:
        message: the same as the answer to a whole object, which says of what.
    """

    def __init__(self, why: str, message: str) -> None:
        super().__init__(why)
        self.message = message


@dataclass
class Decoder:
    """Reads one request body against the schema.

    Attributes:
        unknown: the paths of fields that the schema does not have.
    """

    resource: Resource
    unknown: list[str] = field(default_factory=list)

    def decode(self, body: object) -> Object:
        """The body as the API stores it: without `kind`, `apiVersion`, nulls and empty values.

        Raises:
            DecodingError: for another kind of object, or a field of another type.
        """
        kind = self.resource.kind
        body = {} if body is None else body
        if not isinstance(body, dict):
            why = f"json: cannot unmarshal {_json_type(body)} into Go value"
            unrecognized = f"the object provided is unrecognized (must be of type {kind})"
            raise DecodingError(why, f"{unrecognized}: couldn't get version/kind; json parse error: {why}")
        group_version, given = body.get("apiVersion") or "v1", body.get("kind") or kind
        version = str(group_version).rpartition("/")[2]
        cannot = f'{given} in version "{version}" cannot be handled as a {kind}'
        if (group_version, given) != ("v1", kind):
            why = f"converting ({version}.{given}) to (core.{kind}): unknown conversion"
            raise DecodingError(why, f"{cannot}: {why}")
        try:
            obj = self._model(self.resource.model, body, "")
        except ValueError as exc:
            raise DecodingError(str(exc), f"{cannot}: {exc}") from None
        for name in ("kind", "apiVersion"):
            obj.pop(name, None)
        obj.setdefault("metadata", {}).pop("managedFields", None)
        return obj

    def _model(self, model: type[Any], value: Object, path: str) -> Object:
        decoded = {}
        struct = re.sub(r"^(V1|CoreV1)", "", model.__name__)
        fields = _fields(model)
        for name, item in value.items():
            at = f"{path}.{name}".lstrip(".")
            if name not in fields:
                self.unknown.append(at)
            elif item is not None:
                result = self._value(fields[name], item, at, name, struct)
                if name == _BYTES.get(model.__name__):
                    for text in result.values():
                        _check_base64(text)
                # As Go's `omitempty` has it, empty is the same as absent. (An empty object is not: `emptyDir: {}`.)
                omitted = result in ("", []) or (result == {} and fields[name].startswith("dict"))
                if not omitted or name in _MEANT_WHEN_EMPTY:
                    decoded[name] = result
        return decoded

    def _value(self, schema: str, value: object, path: str, name: str, struct: str) -> Any:
        mismatch = partial(_mismatch, value, path=path, struct=struct)
        if schema.startswith("list["):
            item = schema[5:-1]
            if not isinstance(value, list):
                raise mismatch(f"[]{_go_type(item)}")
            return [self._value(item, each, f"{path}[{i}]", name, struct) for i, each in enumerate(value)]
        if schema.startswith("dict("):
            item = schema[10:-1]
            if not isinstance(value, dict):
                raise mismatch(f"map[string]{_go_type(item)}")
            return {key: self._value(item, each, path, name, struct) for key, each in value.items()}
        if schema == "object":
            return value
        if schema == "str" and name in _QUANTITIES:
            smallest = Decimal("1e-3") if name in _RESOURCE_LISTS else _SMALLEST
            return canonical_quantity(value if isinstance(value, str) else json.dumps(value), smallest)
        if schema in _SCALARS:
            go_type, types = _SCALARS[schema]
            go_type = "int64" if name in _INT64 else go_type
            if value is None:
                return {"string": "", "bool": False}.get(go_type, 0)
            if not isinstance(value, types) or (isinstance(value, bool) and schema != "bool"):
                raise mismatch(go_type)
            if schema == "datetime":
                _check_time(str(value))
            return value
        if value is None:
            return {}
        if not isinstance(value, dict):
            raise mismatch(_go_type(schema))
        return self._model(getattr(models, schema), value, path)


def _mismatch(value: object, go_type: str, *, path: str, struct: str) -> ValueError:
    fraction = f" {value}" if isinstance(value, float) and go_type.startswith("int") else ""
    where = re.sub(r"\[\d+\]", "", path)
    found = f"{_json_type(value)}{fraction}"
    return ValueError(f"json: cannot unmarshal {found} into Go struct field {struct}.{where} of type {go_type}")


def _json_type(value: object) -> str:
    return _JSON_TYPES.get(type(value), "null")


def _check_base64(text: str) -> None:
    try:
        base64.b64decode(text, validate=True)
    except binascii.Error:
        alphabet = re.match("[A-Za-z0-9+/]*", text)
        assert alphabet is not None
        end = alphabet.end()
        # Go names the character that does not belong, or else the beginning of the group that is not whole.
        position = end if text[end:].strip("=") else end - end % 4
        raise ValueError(f"illegal base64 data at input byte {position}") from None


def _check_time(text: str) -> None:
    if not re.fullmatch(r"\d{4}(-\d\d){2}T\d\d(:\d\d){2}(\.\d+)?(Z|[+-]\d\d:\d\d)", text):
        layout = "2006-01-02T15:04:05Z07:00"
        raise ValueError(f'parsing time {quote(text)} as "{layout}": cannot parse {quote(text)} as "2006"')


@cache
def _fields(model: type[Any]) -> dict[str, str]:
    """The schema's type of each field, by its JSON name."""
    return {model.attribute_map[name]: schema for name, schema in model.openapi_types.items()}


def _go_type(schema: str) -> str:
    return _SCALARS[schema][0] if schema in _SCALARS else re.sub(r"^(V1|CoreV1)", "v1.", schema)


_BINARY = {"": 0, "Ki": 1, "Mi": 2, "Gi": 3, "Ti": 4, "Pi": 5, "Ei": 6}
_DECIMAL = {"n": -9, "u": -6, "m": -3, "": 0, "k": 3, "M": 6, "G": 9, "T": 12, "P": 15, "E": 18}
_LARGEST_BINARY = Decimal(2**63 - 1)
_SMALLEST = Decimal("1e-9")
_NOT_A_QUANTITY = "quantities must match the regular expression '^([+-]?[0-9.]+)([eEinumkKMGTP]*[-+]?[0-9]*)$'"


def parse_quantity(text: str) -> Decimal:
    """The number that a quantity stands for.

    Raises:
        ValueError: in a real API server's words.
    """
    return _split_quantity(text)[0]


def canonical_quantity(text: str, smallest: Decimal = _SMALLEST) -> str:
    """A quantity as the API gives it back: with the largest suffix that needs no fraction.

    https://pkg.go.dev/k8s.io/apimachinery/pkg/api/resource#Quantity

    Args:
        text: the quantity.
        smallest: what it is rounded up to a multiple of.

    Raises:
        ValueError: in a real API server's words.
    """
    number, form = _split_quantity(text, smallest)
    if number == 0:
        return "0"
    if form == "binary" and abs(number) >= 1024 and number == number.to_integral_value():
        mantissa, power = int(number), 0
        while mantissa % 1024 == 0 and power < 6:
            mantissa, power = mantissa // 1024, power + 1
        return f"{mantissa}{list(_BINARY)[power]}"
    mantissa, exponent = int(number.scaleb(9)), -9
    while mantissa % 1000 == 0 and (exponent < 18 or form == "exponent"):
        mantissa, exponent = mantissa // 1000, exponent + 3
    if form == "exponent":
        return f"{mantissa}e{exponent}" if exponent else str(mantissa)
    return f"{mantissa}{next(suffix for suffix, power in _DECIMAL.items() if power == exponent)}"


def _split_quantity(text: str, smallest: Decimal = _SMALLEST) -> tuple[Decimal, str]:
    found = re.fullmatch(r"([+-]?(?:\d{1,30}\.?\d{0,30}|\.\d{1,30}))([eEinumkKMGTP]*[-+]?\d{0,3})", text)
    if found is None:
        raise ValueError(_NOT_A_QUANTITY)
    number, suffix = Decimal(found[1]), found[2]
    with localcontext(prec=2000):
        if suffix in _DECIMAL:
            number, form = number.scaleb(_DECIMAL[suffix]), "decimal"
        elif suffix in _BINARY:
            number, form = min(number * 1024 ** _BINARY[suffix], _LARGEST_BINARY), "binary"
        elif re.fullmatch(r"[eE][-+]?\d+", suffix):
            number, form = number.scaleb(int(suffix[1:])), "exponent"
        else:
            raise ValueError("unable to parse quantity's suffix")
        return number.quantize(smallest, ROUND_UP), form
