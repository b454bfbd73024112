"""Keys of jupyterhub-singleuser-profiles that this format does not have, and what to do instead.

These keys are ignored with a warning, so that documents of that library are valid here. Keys that both formats share
are not listed.
"""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType

__all__ = ["DOCUMENT_ADVICE", "PROFILE_ADVICE", "UI_ADVICE"]

_LAST_CHOICE = "remove it: that library stored a person's last choice in it, which does not belong in a profile"

DOCUMENT_ADVICE: Mapping[str, str] = MappingProxyType(
    {
        "gpuTypes": "give the node_tolerations of each type to the profiles or sizes that ask for its GPUs",
        "ui": "the spawn page is KubeSpawner's, which also offers each person's sizes",
    }
)
"""Advice by key of the document."""

UI_ADVICE: Mapping[str, str] = MappingProxyType(
    {
        "envVarConfig": "users cannot enter variables here; keep each user's values in a Secret, and refer to it",
        "gpuConfig": "offer GPUs as sizes with resources; restrict a size with users or groups",
        "imageConfig": "offer and order images in KubeSpawner's profile_list",
        "sizeConfig": "each person is offered their sizes; leave them out of the document to offer none",
    }
)
"""Advice by key of ``ui``."""

PROFILE_ADVICE: Mapping[str, str] = MappingProxyType(
    {
        "last_selected_image": _LAST_CHOICE,
        "last_selected_size": _LAST_CHOICE,
        "services": "create the objects of a server in a pre_spawn_hook, and refer to them with valueFrom",
    }
)
"""Advice by key of a profile."""
