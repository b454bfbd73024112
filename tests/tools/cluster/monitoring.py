"""Gives an API server the kinds of the Prometheus Operator."""

from __future__ import annotations

from functools import partial
from pathlib import Path

import yaml

from cluster.apiserver import ControlPlane, StatusError
from sandbox.waiting import until

_KINDS = Path(__file__).with_name("prometheus-operator.yaml")


async def add_prometheus_kinds(control_plane: ControlPlane) -> None:
    """Add the kinds, unless they are there, and wait until the API server serves them."""
    for definition in yaml.safe_load_all(_KINDS.read_text()):
        place = f"/apis/{definition['spec']['group']}/v1/{definition['spec']['names']['plural']}"
        if not _is_served(control_plane, place):
            control_plane.put(definition)
            await until(partial(_is_served, control_plane, place))


def _is_served(control_plane: ControlPlane, place: str) -> bool:
    try:
        control_plane.request("GET", place)
    except StatusError:
        # Unknown, or its storage is not ready.
        return False
    return True
