"""Amounts by the names of a Kubernetes ResourceQuota: ``pods``, ``limits.memory``, ``requests.nvidia.com/gpu``.

See https://kubernetes.io/docs/concepts/policy/resource-quotas/#compute-resource-quota.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType

from ..errors import QuantityError
from . import yaml_tree
from .kubernetes import Schema
from .quantity import Quantity, check_resource, is_whole_and_equal, parse_quantity
from .rules import EXTENDED_RESOURCE, GPU, HUGE_PAGES, explain_resource_name, find_meant_resource
from .sections import Amount
from .validator import Path, Validator
from .yaml_tree import Node, Scalar

__all__ = ["PODS", "Hard", "split_name"]

PODS = "pods"
"""The number of servers."""

_COUNTED_PODS = "count/pods"
_KINDS = ("limits", "requests")
_COMMON = ("cpu", "memory", "ephemeral-storage")
_NAMES = tuple(f"{kind}.{resource}" for kind in _KINDS for resource in _COMMON)
_HELP = {
    PODS: "How many servers.",
    "limits.cpu": "The sum of their CPU limits. A server without one is refused.",
    "limits.memory": "The sum of their memory limits. A server without one is refused.",
    "limits.ephemeral-storage": "The sum of these limits. A server without one is refused.",
    "requests.cpu": "The sum of their CPU guarantees; where there is none, the limit counts.",
    "requests.memory": "The sum of their memory guarantees; where there is none, the limit counts.",
    "requests.ephemeral-storage": "The sum of these guarantees; where there is none, the limit counts.",
}
_OF_ONE = {
    "limits.cpu": "The highest CPU limit, and guarantee.",
    "limits.memory": "The highest memory limit, and guarantee.",
    "limits.ephemeral-storage": "The highest such limit, and guarantee.",
    "requests.cpu": "The highest CPU guarantee.",
    "requests.memory": "The highest memory guarantee.",
    "requests.ephemeral-storage": "The highest such guarantee.",
}


def split_name(name: str) -> tuple[str, str]:
    """Splits a name into the kind and the resource: ``("limits", "memory")``; ``("pods", "")`` for ``pods``."""
    kind, _, resource = name.partition(".")
    return kind, resource


@dataclass(frozen=True, slots=True)
class Hard:
    """Amounts that must not be exceeded.

    Attributes:
        of_one: Whether they are for one server, so that ``pods`` is not among them; otherwise for several together.
    """

    of_one: bool = False

    def read(self, validator: Validator, node: Node, path: Path) -> Mapping[str, Quantity]:
        if not isinstance(node, yaml_tree.Mapping):
            validator.wrong_type(node, path, "a mapping, such as {limits.memory: 8Gi, requests.nvidia.com/gpu: 1}")
            return MappingProxyType({})
        amounts: dict[str, Quantity] = {}
        for name, (key, value) in validator.entries(node, path, self._is_public).items():
            problem = self._explain_name(name)
            here = (*path, validator.step(key, is_public=self._is_public(name)))
            if problem:
                validator.error(key, here, problem)
            else:
                quantity = _read_amount(validator, value, here, name)
                if quantity is not None:
                    amounts[name] = quantity
        return MappingProxyType(amounts)

    def describe(self) -> Schema:
        helps = _OF_ONE if self.of_one else _HELP
        return {
            "type": "object",
            "properties": {name: {"description": text, **_describe_amount(name)} for name, text in helps.items()},
            "patternProperties": {
                rf"^requests\.(?:{HUGE_PAGES}|{EXTENDED_RESOURCE})$": _describe_amount(f"requests.{GPU}")
            },
            "additionalProperties": False,
        }

    def _is_public(self, name: str) -> bool:
        """Whether it is a name, or was meant as one."""
        _, resource = split_name(name)
        return name in (PODS, _COUNTED_PODS) or any(
            explain_resource_name(each) is None or find_meant_resource(each) is not None for each in (name, resource)
        )

    def _explain_name(self, name: str) -> str | None:
        """Says what is wrong with a name; None if nothing is."""
        if name in (PODS, _COUNTED_PODS) and self.of_one:
            return "one server is one pod; leave it out"
        if name in (PODS, _COUNTED_PODS):
            return None if name == PODS else f"write {PODS}"
        kind, resource = split_name(name)
        if kind not in _KINDS or not resource:
            kind, resource = "", name
        meant = resource if explain_resource_name(resource) is None else find_meant_resource(resource)
        if meant is None:
            known = ", ".join((*(() if self.of_one else (PODS,)), "limits.memory", "requests.cpu"))
            return f"not a name of a Kubernetes ResourceQuota; such are {known}, requests.nvidia.com/gpu"
        if is_whole_and_equal(meant):
            wanted = [f"requests.{meant}"]
        else:
            wanted = [f"{each}.{meant}" for each in ([kind] if kind else _KINDS)]
        return None if wanted == [name] else f"write {' or '.join(wanted)}"


def _read_amount(validator: Validator, node: Node, path: Path, name: str) -> Quantity | None:
    if not isinstance(node, Scalar):
        validator.wrong_type(node, path, "an amount")
        return None
    if node.is_empty or node.is_null:
        validator.error(node, path, "has no value; leave the key out, or write 0 for nothing at all")
        return None
    _, resource = split_name(name)
    problem = ""
    try:
        quantity = parse_quantity(node.value, resource)
        if name != PODS:
            check_resource(resource, quantity, limit=False)
        elif quantity.amount % 1:
            problem = f"{quantity} is not a whole number of servers"
    except QuantityError as error:
        problem = str(error)
    else:
        if not problem:
            return quantity
    validator.error_about_text(node, path, problem, "not a Kubernetes quantity that this can have")
    return None


def _describe_amount(name: str) -> Schema:
    _, resource = split_name(name)
    # Servers are whole units, as those of an extended resource are.
    return {**Amount("requests", resource or GPU).describe(), "type": ["string", "number"]}
