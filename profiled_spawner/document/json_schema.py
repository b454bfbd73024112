"""The document's JSON Schema, for editors, made from the format's definition in `model` and `kubernetes`.

It refuses what validation refuses, as far as JSON Schema can say it, and nothing that validation accepts: an editor's
YAML parser makes numbers and booleans of plain scalars, which here are text, so those are let through. Only a plain
``null`` where a text belongs is refused, because to an editor it is the same as a value that was left out.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from .kubernetes import SHAPES, Schema, describe_object
from .legacy import DOCUMENT_ADVICE, PROFILE_ADVICE, UI_ADVICE
from .model import IMAGE_KEYS, PROFILE_KEYS, QUOTA_KEYS, SIZE_KEYS, TEAM_KEYS
from .sections import Key, TimeZone

__all__ = ["make_schema"]


def make_schema() -> dict[str, Any]:
    """Makes the JSON Schema, of draft 2020-12."""
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": "Profiles for JupyterHub's single-user servers",
        "description": "Environment variables and limits, by whom and what a server is for.",
        "type": "object",
        "properties": {
            "timezone": {
                "description": "The time zone of dates and times without an offset, by its IANA name. Default: UTC.",
                **TimeZone().describe(),
                "examples": ["Europe/Athens"],
            },
            "profiles": {
                "description": "The profiles. Of those that match a server, the more specific overrides the others.",
                "type": "array",
                "items": {"$ref": "#/$defs/profile"},
            },
            "sizes": {
                "description": "What people may choose from on the spawn page; a size overrides every profile.",
                "type": "array",
                "items": {"$ref": "#/$defs/size"},
            },
            "images": {
                "description": (
                    "Images that people may choose. Who may choose at least one runs the chosen one, or else the first."
                ),
                "type": "array",
                "items": {"$ref": "#/$defs/image"},
            },
            "quotas": {
                "description": (
                    "How much may run at the same time. A start that does not fit is refused. Only in the main "
                    "ConfigMap."
                ),
                "type": "array",
                "items": {"$ref": "#/$defs/quota"},
            },
            "teams": {
                "description": (
                    "What selected ConfigMaps may do. With this key, one that no team has is left out. Only in the "
                    "main ConfigMap."
                ),
                "type": "array",
                "items": {"$ref": "#/$defs/team"},
            },
            **_deprecated(DOCUMENT_ADVICE, ui={"properties": _deprecated(UI_ADVICE)}),
        },
        "required": ["profiles"],
        "additionalProperties": False,
        "examples": [
            {
                "profiles": [
                    {"name": "globals", "resources": {"mem_limit": "1Gi", "cpu_limit": "500m"}},
                    {
                        "name": "forecasting",
                        "images": ["quay.io/example/forecast-notebook:3.6"],
                        "groups": ["forecasters"],
                        "env": {"BUCKET_PREFIX": "data/forecast"},
                        "resources": {"mem_limit": "2Gi", "cpu_limit": 1},
                    },
                ],
                "sizes": [
                    {"name": "Large", "description": "For whole years of data", "resources": {"mem_limit": "16Gi"}}
                ],
            }
        ],
        "$defs": {
            "profile": _describe_mapping(
                "A profile: its filters, and its settings. Every key is optional.", PROFILE_KEYS, PROFILE_ADVICE
            ),
            "size": {
                **_describe_mapping(
                    "What a person may choose for a server. Only the name is required.", SIZE_KEYS, PROFILE_ADVICE
                ),
                "required": ["name"],
            },
            "image": {
                **_describe_mapping("An image that a person may choose. Only the name is required.", IMAGE_KEYS, {}),
                "required": ["name"],
            },
            "quota": {
                **_describe_mapping(
                    "A quota: for whom, and how much. It counts servers that start, run or stop.", QUOTA_KEYS, {}
                ),
                "required": ["name", "hard"],
            },
            "team": {
                **_describe_mapping("A team: its ConfigMaps, its members, and its bounds.", TEAM_KEYS, {}),
                "required": ["name", "configmaps"],
                "anyOf": [{"required": ["users"]}, {"required": ["groups"]}],
            },
            **{name: PROFILE_KEYS[name].describe() for name in _SHARED},
            **{kind: describe_object(kind) for kind in SHAPES},
        },
    }


# What profiles and sizes have in common.
_SHARED = [name for name, key in PROFILE_KEYS.items() if SIZE_KEYS.get(name) is key]


def _describe_mapping(description: str, keys: Mapping[str, Key], advice: Mapping[str, str]) -> Schema:
    return {
        "description": description,
        "type": "object",
        "properties": {
            **{name: {"$ref": f"#/$defs/{name}"} if name in _SHARED else key.describe() for name, key in keys.items()},
            **_deprecated(advice),
        },
        "additionalProperties": False,
    }


def _deprecated(advice: Mapping[str, str], **more: Schema) -> Schema:
    """Keys of another library's documents, whatever their values."""
    return {
        key: {
            "description": f"Ignored, a key of jupyterhub-singleuser-profiles; {what}.",
            "deprecated": True,
            **more.get(key, {}),
        }
        for key, what in advice.items()
    }
