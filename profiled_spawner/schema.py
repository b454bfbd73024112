"""The document's JSON Schema, for editors.

It says what JSON Schema can say of what `parsing` checks, and refuses nothing that `parsing` accepts: an editor's
YAML parser makes numbers and booleans of plain scalars, which here are text, so those are let through. Only a plain
``null`` where a text belongs is refused, because to an editor it is the same as a value that was left out.
"""

from __future__ import annotations

import dataclasses
from typing import Any

from .document import Profile

__all__ = ["make_schema"]

_HELP = {field.name: field.metadata["help"] for field in dataclasses.fields(Profile) if "help" in field.metadata}

# Patterns are of ECMA 262, which has lookaheads but neither \Z nor named groups.
_HUB_OWNED = r"JUPYTERHUB_(?!SINGLEUSER_)|(?:JPY_API_TOKEN|(?:MEM|CPU)_(?:LIMIT|GUARANTEE))$"
_ENV_NAME = rf"^(?!{_HUB_OWNED}|\.\.|\.$)[-._a-zA-Z][-._a-zA-Z0-9]*$"
_AMOUNT = (
    r"(?:\+|-(?=[0.]+(?:[A-Za-z]|$)))?(?:[0-9]+(?:\.[0-9]*)?|\.[0-9]+)(?:[KMGTPE]i|[numkMGTPE]|[eE][+-]?[0-9]{1,3})?"
)
_ZERO = r"[+-]?[0.]+(?:[A-Za-z]|$)"
# 512m of memory, which means half a byte: thousandths are only whole by the thousand.
_THOUSANDTHS = r"[+-]?(?!(?:[0-9]*000|0*)\.?0*m$)[0-9.]+m$"
_LABEL = r"[a-z0-9](?:[-a-z0-9]*[a-z0-9])?"
_SUBDOMAIN = rf"{_LABEL}(?:\.{_LABEL})*"
_NAME = r"[A-Za-z0-9](?:[-A-Za-z0-9_.]{0,61}[A-Za-z0-9])?"
_HUGE_PAGES = r"hugepages-[1-9][0-9]{0,8}[KMG]i"
_EXTENDED_RESOURCE = rf"(?!requests\.|hugepages-|[^/]*kubernetes\.io/|[^/]{{245}}){_SUBDOMAIN}/{_NAME}"
_FIELDS = (
    r"metadata\.(?:name|namespace|uid)|spec\.(?:nodeName|serviceAccountName)|status\.(?:hostIPs?|podIPs?)"
    rf"|metadata\.(?:labels|annotations)\['(?:{_SUBDOMAIN}/)?{_NAME}'\]"
)

_TEXT = {"type": ["string", "number", "boolean"], "minLength": 1}


def make_schema() -> dict[str, Any]:
    """Makes the JSON Schema, of draft 2020-12."""
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": "Profiles for JupyterHub's single-user servers",
        "description": "Environment variables and limits, by whom and what a server is for.",
        "type": "object",
        "properties": {
            "profiles": {
                "description": "The profiles. Of those that fit a server the more specific wins, field by field.",
                "type": "array",
                "items": {"$ref": "#/$defs/profile"},
            }
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
                ]
            }
        ],
        "$defs": {
            "profile": _profile(),
            "env": _env(),
            "envValue": _env_value(),
            "envVarSource": _env_var_source(),
            "resources": _resources(),
        },
    }


def _profile() -> dict[str, Any]:
    return {
        "description": "For whom and what it is, and what it gives. Every section may be left out.",
        "type": "object",
        "properties": {
            "name": {"description": _HELP["name"], **_TEXT, "examples": ["forecasting"]},
            "images": _texts(
                _HELP["images"], ["quay.io/example/forecast-notebook:3.6"], ["registry.example.org/forecast/*"]
            ),
            "users": _texts(_HELP["users"], ["ada", "grace"], ["*"]),
            "groups": _texts(_HELP["groups"], ["forecasters"]),
            "env": {"$ref": "#/$defs/env"},
            "resources": {"$ref": "#/$defs/resources"},
        },
        "additionalProperties": False,
    }


def _texts(description: str, *examples: list[str]) -> dict[str, Any]:
    return {"description": description, "type": "array", "items": _TEXT, "examples": list(examples)}


def _env() -> dict[str, Any]:
    # Without anyOf: what is said of objects says nothing of arrays, and an editor can point at what is wrong.
    return {
        "description": _HELP["env"],
        "type": ["object", "array"],
        "propertyNames": {"pattern": _ENV_NAME},
        "additionalProperties": {"$ref": "#/$defs/envValue"},
        "items": {
            "type": "object",
            "properties": {
                "name": {
                    "description": "Name of the variable.",
                    "type": ["string", "boolean"],
                    "pattern": _ENV_NAME,
                },
                "value": {**_env_value(), "type": ["string", "number", "boolean", "null"]},
                "valueFrom": {"$ref": "#/$defs/envVarSource"},
            },
            "required": ["name"],
            "oneOf": [{"required": ["value"]}, {"required": ["valueFrom"]}],
            "additionalProperties": False,
        },
        "examples": [
            {"BUCKET_PREFIX": "data/forecast", "JANUS_PORT": 80},
            [{"name": "S3_KEY", "valueFrom": {"secretKeyRef": {"name": "team-s3", "key": "access-key"}}}],
        ],
    }


def _env_value() -> dict[str, Any]:
    return {
        "description": "Value of the variable, taken as it is written; a plain `null` takes the variable away.",
        "type": ["string", "number", "boolean", "null", "object"],
        "pattern": r"^[^\u0000]*$",
        "properties": {"valueFrom": {"$ref": "#/$defs/envVarSource"}},
        "required": ["valueFrom"],
        "additionalProperties": False,
    }


def _env_var_source() -> dict[str, Any]:
    return {
        "description": "Where Kubernetes takes the value from: one of these.",
        "type": "object",
        "properties": {
            "secretKeyRef": _key_selector("Secret", "team-s3", "access-key"),
            "configMapKeyRef": _key_selector("ConfigMap", "team-settings", "endpoint"),
            "fieldRef": {
                "description": "A field of the server's pod.",
                "type": "object",
                "properties": {
                    "fieldPath": {"type": "string", "pattern": f"^(?:{_FIELDS})$", "examples": ["status.podIP"]},
                    "apiVersion": {"const": "v1"},
                },
                "required": ["fieldPath"],
                "additionalProperties": False,
            },
            "resourceFieldRef": {
                "description": "A resource of a container of the server's pod.",
                "type": "object",
                "properties": {
                    "resource": {
                        "type": "string",
                        "pattern": r"^(?:limits|requests)\.(?:cpu|memory|ephemeral-storage|hugepages-[A-Za-z0-9]+)$",
                        "examples": ["limits.memory"],
                    },
                    "containerName": {**_TEXT, "maxLength": 63, "pattern": f"^{_LABEL}$"},
                    "divisor": {
                        "type": ["string", "number"],
                        "pattern": "^(?:0|1m?|1[kMGTPE]|1[KMGTPE]i)$",
                        "examples": ["1Mi"],
                    },
                },
                "required": ["resource"],
                "additionalProperties": False,
            },
        },
        "minProperties": 1,
        "maxProperties": 1,
        "additionalProperties": False,
    }


def _key_selector(kind: str, name: str, key: str) -> dict[str, Any]:
    return {
        "description": f"A key of a {kind} in the server's namespace.",
        "type": "object",
        "properties": {
            "name": {**_TEXT, "maxLength": 253, "pattern": f"^{_SUBDOMAIN}$"},
            "key": {**_TEXT, "maxLength": 253, "pattern": r"^(?!\.\.|\.$)[-._a-zA-Z0-9]+$"},
            "optional": {
                "description": "Whether the server starts without the variable where there is no such key.",
                "enum": [True, False, "true", "false"],
            },
        },
        "required": ["name", "key"],
        "additionalProperties": False,
        "examples": [{"name": name, "key": key}],
    }


def _resources() -> dict[str, Any]:
    def both(short: str, kind: str, resource: str) -> dict[str, Any]:
        return {short: {"properties": {kind: {"not": {"required": [resource]}}}}}

    return {
        "description": (
            "Memory and CPU, as Kubernetes quantities: JupyterHub's names, or Kubernetes' own limits and requests. "
            "A plain `null` takes away what less specific profiles or the hub's settings gave."
        ),
        "type": "object",
        "properties": {
            "mem_limit": _memory("How much memory a server can use.", zero=False),
            "mem_guarantee": _memory("How much memory is reserved for a server."),
            "cpu_limit": _cpu("How many cores a server can use.", zero=False),
            "cpu_guarantee": _cpu("How many cores are reserved for a server."),
            "limits": _kubernetes_resources("Kubernetes limits, extended resources among them.", zero=False),
            "requests": _kubernetes_resources("Kubernetes requests, which JupyterHub calls guarantees.", zero=True),
        },
        "dependentSchemas": {
            **both("mem_limit", "limits", "memory"),
            **both("cpu_limit", "limits", "cpu"),
            **both("mem_guarantee", "requests", "memory"),
            **both("cpu_guarantee", "requests", "cpu"),
        },
        "additionalProperties": False,
        "examples": [{"mem_limit": "2Gi", "cpu_limit": 1}, {"limits": {"memory": "2Gi", "nvidia.com/gpu": 1}}],
    }


def _kubernetes_resources(description: str, *, zero: bool) -> dict[str, Any]:
    return {
        "description": description,
        "type": "object",
        "properties": {"memory": _memory("In bytes.", zero=zero), "cpu": _cpu("In cores.", zero=zero)},
        "patternProperties": {
            rf"^(?:ephemeral-storage|{_HUGE_PAGES}|{_EXTENDED_RESOURCE})$": _quantity(zero=True, whole=True)
        },
        "additionalProperties": False,
    }


def _memory(description: str, *, zero: bool = True) -> dict[str, Any]:
    return {"description": description, **_quantity(zero=zero, whole=True), "examples": ["512Mi", "2Gi"]}


def _cpu(description: str, *, zero: bool = True) -> dict[str, Any]:
    return {"description": description, **_quantity(zero=zero), "examples": ["500m", 1]}


def _quantity(*, zero: bool, whole: bool = False) -> dict[str, Any]:
    refused = [*([] if zero else [_ZERO]), *([_THOUSANDTHS] if whole else [])]
    return {
        "type": ["string", "number", "null"],
        "pattern": f"^(?!{'|'.join(refused)}){_AMOUNT}$" if refused else f"^{_AMOUNT}$",
        **({"minimum": 0} if zero else {"exclusiveMinimum": 0}),
        **({"multipleOf": 1} if whole else {}),
    }
