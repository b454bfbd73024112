"""Kubernetes quantities as exact decimals, and their conversion to JupyterHub's bytes and cores.

The grammar is that of Kubernetes' own parser, whose source is
https://github.com/kubernetes/kubernetes/blob/v1.34.0/staging/src/k8s.io/apimachinery/pkg/api/resource/quantity.go.
`check_resource` checks what is allowed for a resource: for example, no fractions of a byte.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from decimal import ROUND_CEILING, Context, Decimal
from functools import lru_cache

from ..errors import QuantityError

__all__ = [
    "AMOUNT_PATTERN",
    "BILLION",
    "Quantity",
    "check_resource",
    "describe_amounts",
    "format_amount",
    "format_billionths",
    "format_bytes",
    "format_cores",
    "is_whole_and_equal",
    "parse_billionths",
    "parse_quantity",
    "to_billionths",
]

# Kubernetes silently caps larger amounts, and rounds up finer ones.
_LARGEST = 2**63 - 1
_FINEST = Decimal("1e-9")
# The API server rounds up the amounts of a container to this.
_FINEST_OF_POD = Decimal("1e-3")
# Kubernetes also counts whole units in thousandths, which must fit into 64 bits.
_MOST_UNITS = _LARGEST // 1000
_HUGE_PAGES = "hugepages-"
# Enough digits for the exact product of an accepted number (at most 64 characters) and a suffix.
_EXACT = Context(prec=128)

BILLION = 10**9
"""How many billionths a unit has. Kubernetes has nothing finer, so amounts in these are whole numbers."""

AMOUNT_PATTERN = (
    r"(?:\+|-(?=[0.]+(?:[A-Za-z]|$)))?(?:[0-9]+(?:\.[0-9]*)?|\.[0-9]+)(?:[KMGTPE]i|[numkMGTPE]|[eE][+-]?[0-9]{1,3})?"
)
"""Matches a quantity that is not negative, for JSON Schema."""

_NUMBER = re.compile(r"([+-]?(?:[0-9]+(?:\.[0-9]*)?|\.[0-9]+))([A-Za-z]{0,2}|[eE][+-]?[0-9]{1,3})")
_SUFFIXES = {
    **{suffix: Decimal(1024) ** power for power, suffix in enumerate(("Ki", "Mi", "Gi", "Ti", "Pi", "Ei"), 1)},
    **{suffix: Decimal(1000) ** power for power, suffix in enumerate(("k", "M", "G", "T", "P", "E"), 1)},
    "": Decimal(1),
    "m": Decimal("1e-3"),
    "u": Decimal("1e-6"),
    "n": Decimal("1e-9"),
}

# Common wrong suffixes, in lower case, and the suffixes that may have been meant.
_MEANT = {
    **{f"{letter.lower()}b": (f"{letter}i", letter) for letter in "MGTP"},
    **{f"{letter.lower()}": (f"{letter}i", letter) for letter in "GTPE"},
    **{f"{letter.lower()}ib": (f"{letter}i",) for letter in "KMGTPE"},
    **{f"{letter.lower()}i": (f"{letter}i",) for letter in "KMGTPE"},
    **dict.fromkeys(("k", "kb"), ("Ki", "k")),
    **dict.fromkeys(("b", "byte", "bytes", "c", "cpu", "cpus", "core", "cores"), ("",)),
    **dict.fromkeys(("mcpu", "mcore", "mcores", "millicpu", "millicore", "millicores"), ("m",)),
}
_LOOSE = re.compile(r"([0-9]{1,12}(?:[.,][0-9]{1,6})?)[ _]?([A-Za-z]{0,10})")


@dataclass(frozen=True, slots=True, order=True)
class Quantity:
    """An amount of a resource, compared by `amount` alone.

    Attributes:
        amount: The exact amount, in the resource's base unit: bytes, cores or whole units. Rounded up to billionths,
            as in Kubernetes.
        text: The text of the document, which Kubernetes gets unchanged.
    """

    amount: Decimal
    text: str = field(compare=False)

    def __str__(self) -> str:
        return self.text


@lru_cache(maxsize=4096)
def parse_quantity(text: str, resource: str = "") -> Quantity:
    """Parses a Kubernetes quantity, such as ``500m``, ``2Gi`` or ``1e3``.

    Args:
        text: The quantity.
        resource: The resource, for which an error suggests a quantity.

    Raises:
        QuantityError: The text is not a quantity, is negative, or is larger than Kubernetes allows. The message only
            quotes a text that looks like a number with a unit.
    """
    match = _NUMBER.fullmatch(text) if len(text) <= 64 else None
    factor = match and (_exponent(match[2]) or _SUFFIXES.get(match[2]))
    if not match or factor is None:
        raise QuantityError(_explain(text, resource))
    amount = _EXACT.multiply(Decimal(match[1]), factor)
    if amount < 0:
        raise QuantityError(f"{text} is negative; a quantity is 0 or more")
    if amount > _LARGEST:
        raise QuantityError(f"{text} is more than Kubernetes can hold (2^63 - 1)")
    if _EXACT.remainder(amount, _FINEST):
        amount = amount.quantize(_FINEST, ROUND_CEILING, _EXACT)
    return Quantity(amount, text)


def _exponent(suffix: str) -> Decimal | None:
    # "1E" is one exa, "1E3" one thousand.
    return Decimal(f"1e{suffix[1:]}") if suffix[-1:].isdecimal() else None


def describe_amounts(resource: str) -> str:
    """Returns what an amount of the resource must be, with examples: ``a whole number, such as 1``."""
    return "a whole number, such as 1" if "/" in resource else f"a Kubernetes quantity, such as {_examples(resource)}"


def _examples(resource: str) -> str:
    if not resource:
        return "500m, 1.5 or 2Gi"
    return "500m or 1.5" if resource == "cpu" else "512Mi or 2Gi"


def _explain(text: str, resource: str) -> str:
    loose = _LOOSE.fullmatch(text)
    if not loose or "/" in resource:
        # This text is not like a quantity, so it may be a misplaced secret.
        return f"not {describe_amounts(resource)}"
    number = loose[1].replace(",", ".")
    units = (loose[2],) if loose[2] in _SUFFIXES else _MEANT.get(loose[2].lower(), ())
    if resource == "cpu":
        units = ("m",) if loose[2].startswith("m") else tuple(unit for unit in units if not unit)
    meant = " or ".join(f"{number}{unit}" for unit in units)
    hint = f"did you mean {meant}?" if meant else f"write it as {_examples(resource)}"
    return f"{text} is not a Kubernetes quantity; {hint}"


def check_resource(resource: str, quantity: Quantity, *, limit: bool) -> None:
    """Checks that the quantity is possible as the limit, or else as the guarantee, of the resource.

    Raises:
        QuantityError: The quantity is a fraction of a byte, of a huge page or of a whole unit, or too many units. Or it
            is a limit of 0 for CPU, which would mean no limit, or for memory, with which no server can start.
    """
    if limit and not quantity.amount and resource in ("cpu", "memory"):
        raise QuantityError(f"a {resource} limit cannot be {quantity}; leave it out, or write null for no limit")
    whole = quantity.amount == quantity.amount.to_integral_value()
    if "/" in resource:
        if not whole:
            raise QuantityError(f"{quantity} is not a whole number; {resource} has only whole units")
        if quantity.amount > _MOST_UNITS:
            raise QuantityError(f"{quantity} is more than Kubernetes can count ({_MOST_UNITS})")
    elif resource != "cpu" and not whole:
        milli = quantity.text.endswith("m")
        hint = f"did you mean {quantity.text[:-1]}Mi?" if milli else "write whole bytes"
        amount = f"{quantity.amount.normalize(_EXACT):f}"
        raise QuantityError(f"{quantity} means {amount} bytes; {hint}")
    if resource.startswith(_HUGE_PAGES):
        size = parse_quantity(resource.removeprefix(_HUGE_PAGES))
        if _EXACT.remainder(quantity.amount, size.amount):
            raise QuantityError(f"{quantity} is not a whole number of pages; write a multiple of {size}")


def is_whole_and_equal(resource: str) -> bool:
    """Whether Kubernetes requires that the resource's request equals its limit.

    It does so for resources that cannot be overcommitted: extended resources, such as ``nvidia.com/gpu``, and huge
    pages. See https://kubernetes.io/docs/concepts/configuration/manage-resources-containers/#extended-resources.
    """
    return "/" in resource or resource.startswith(_HUGE_PAGES)


def format_amount(resource: str, quantity: Quantity) -> str:
    """Formats an amount for people: its text, but JupyterHub's plain numbers are shortened.

    ``1073741824`` bytes become ``1Gi``, and ``1.0`` cores become ``1``.
    """
    if resource == "memory" and quantity.text.isdecimal():
        number = int(quantity.amount)
        for suffix in ("Ei", "Pi", "Ti", "Gi", "Mi", "Ki"):
            if number and number % _SUFFIXES[suffix] == 0:
                return f"{number // int(_SUFFIXES[suffix])}{suffix}"
    return quantity.text.removesuffix(".0") if quantity.amount else "0"


def format_bytes(quantity: Quantity) -> str:
    """Formats an amount in bytes, as in JupyterHub's ``MEM_LIMIT``: a whole number, rounded up."""
    return str(int(quantity.amount.to_integral_value(ROUND_CEILING)))


def to_billionths(quantity: Quantity) -> int:
    """Returns the amount in billionths of the base unit: a whole number, because Kubernetes has nothing finer."""
    return int(quantity.amount.scaleb(9, _EXACT))


def format_billionths(amount: int) -> str:
    """Returns a whole number of billionths as a decimal number of the base unit, such as ``0.5``."""
    whole, rest = divmod(amount, BILLION)
    return f"{whole}.{rest:09}".rstrip("0") if rest else f"{whole}"


def parse_billionths(text: str) -> int:
    """Returns what `format_billionths` has formatted; sums of quantities may be larger than a quantity.

    Raises:
        QuantityError: It is something else.
    """
    whole, _, rest = text.partition(".")
    if not whole.isdecimal() or len(text) > 64 or (rest and not rest.isdecimal()) or len(rest) > 9:
        raise QuantityError("not an amount")
    return int(whole) * BILLION + int(rest.ljust(9, "0"))


def format_cores(quantity: Quantity) -> str:
    """Formats an amount in cores, as in JupyterHub's ``CPU_LIMIT``: a decimal number, such as ``0.5``.

    It is rounded up to thousandths, as the API server rounds the pod's.
    """
    cores = quantity.amount.quantize(_FINEST_OF_POD, ROUND_CEILING, _EXACT)
    return f"{cores.normalize(_EXACT):f}"
