"""How much of each resource a pod uses, as Kubernetes counts it for a ResourceQuota."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from ..decide.quotas import Amounts
from ..document.hard import PODS
from ..document.quantity import BILLION, is_whole_and_equal, to_billionths
from .patch import get_field, parse_quantities

__all__ = ["measure_pod"]


def measure_pod(pod: Any) -> Amounts:
    """Measures a pod.

    Containers that run side by side add up. Init containers run before them, one after another: each counts if it alone
    is larger. A missing request equals the limit. See
    https://kubernetes.io/docs/concepts/workloads/pods/init-containers/#resource-sharing-within-containers.

    Args:
        pod: A model of the client, or a dictionary in Kubernetes' spelling.

    Returns:
        The amounts, by the names of a ResourceQuota. A limit is missing if a container that runs beside others has
        none, because the pod has none then. Init containers need none: they end before the server begins.
    """
    spec = get_field(pod, "spec")
    beside = [_find_amounts(each) for each in get_field(spec, "containers") or ()]
    sidecars: dict[str, int] = {}
    largest: dict[str, int] = {}
    for container in get_field(spec, "init_containers") or ():
        amounts = _find_amounts(container)
        if get_field(container, "restart_policy") == "Always":
            # A sidecar starts here, and goes on running.
            beside.append(amounts)
            sidecars = now = _add((sidecars, amounts))
        else:
            now = _add((sidecars, amounts))
        largest = {name: max(now.get(name, 0), largest.get(name, 0)) for name in {**now, **largest}}
    total = _add(beside)
    limited = {name for name in total if all(name in each for each in beside)}
    counted = {name: amount for name, amount in total.items() if name in limited or not name.startswith("limits.")}
    found = {name: max(amount, largest.get(name, 0)) for name, amount in counted.items()}
    found |= {name: amount for name, amount in largest.items() if name.startswith("requests.") and name not in found}
    # What is set for the whole pod replaces the sum, as Kubernetes does it since 1.34.
    return {PODS: BILLION, **found, **_find_amounts(spec)}


def _find_amounts(container: Any) -> dict[str, int]:
    """The limits and requests of a container, or those that a pod's spec sets for the whole pod."""
    resources = get_field(container, "resources")
    limits = parse_quantities(get_field(resources, "limits") or {})
    requests = {**limits, **parse_quantities(get_field(resources, "requests") or {})}
    return {
        **{f"limits.{each}": to_billionths(limits[each]) for each in limits if not is_whole_and_equal(each)},
        **{f"requests.{each}": to_billionths(requests[each]) for each in requests},
    }


def _add(amounts: Iterable[Mapping[str, int]]) -> dict[str, int]:
    total: dict[str, int] = {}
    for each in amounts:
        for name, amount in each.items():
            total[name] = total.get(name, 0) + amount
    return total
