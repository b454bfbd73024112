"""The document's JSON Schema, for editors.

It says what JSON Schema can say of what `parser` checks, and refuses nothing that `parser` accepts: an editor's
YAML parser makes numbers and booleans of plain scalars, which here are text, so those are let through. Only a plain
``null`` where a text belongs is refused, because to an editor it is the same as a value that was left out.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any

from .kubernetes import (
    FIELD_RANGES,
    HUGE_PAGES,
    LABEL_VALUE,
    QUALIFIED_NAME,
    SHAPES,
    Field,
    find_alternatives,
    find_rule,
)
from .legacy import DOCUMENT_ADVICE, PROFILE_ADVICE, UI_ADVICE
from .model import DEFAULT_SIZE, GPU, KUBESPAWNER_LABELS, KUBESPAWNER_PREFIXES, Size
from .templates import TEMPLATE_FIELDS

__all__ = ["make_schema"]

_HELP = {field.name: field.metadata["help"] for field in dataclasses.fields(Size) if "help" in field.metadata}

# Patterns are of ECMA 262, which has lookaheads but neither \Z nor named groups.
_HUB_OWNED = r"JUPYTERHUB_(?!SINGLEUSER_)|(?:JPY_API_TOKEN|(?:MEM|CPU)_(?:LIMIT|GUARANTEE))$"
_ENV_NAME = rf"^(?!{_HUB_OWNED}|\.\.|\.$)[-._a-zA-Z][-._a-zA-Z0-9]*$"
_AMOUNT = (
    r"(?:\+|-(?=[0.]+(?:[A-Za-z]|$)))?(?:[0-9]+(?:\.[0-9]*)?|\.[0-9]+)(?:[KMGTPE]i|[numkMGTPE]|[eE][+-]?[0-9]{1,3})?"
)
_ZERO = r"[+-]?[0.]+(?:[A-Za-z]|$)"
# 512m of memory, which means half a byte: thousandths are only whole by the thousand.
_THOUSANDTHS = r"[+-]?(?!(?:[0-9]*000|0*)\.?0*m$)[0-9.]+m$"
_EXTENDED_RESOURCE = rf"(?!requests\.|hugepages-|[^/]*kubernetes\.io/|[^/]{{245}})(?=.*/){QUALIFIED_NAME}"
# What belongs to KubeSpawner and to this spawner. Not with re.escape, which escapes more than ECMA 262 lets it.
_NOT_OURS = f"(?!{'|'.join(KUBESPAWNER_PREFIXES)})".replace(".", r"\.")
# Capitals are fine in the prefix of an annotation's name.
_ANNOTATION_NAME = QUALIFIED_NAME.replace("[a-z0-9]", "[A-Za-z0-9]").replace("[-a-z0-9]", "[-A-Za-z0-9]")
_NOT_OUR_LABELS = f"(?!(?:{'|'.join(KUBESPAWNER_LABELS)})$)".replace(".", r"\.") + _NOT_OURS

_TEMPLATE = rf"(?=[^{{}}]*[{{}}])(?:[^{{}}]|\{{\{{|\}}\}}|\{{(?:{'|'.join(TEMPLATE_FIELDS)})\}})*"

_LETTERS = "".join(f"[{letter.upper()}{letter}]" for letter in DEFAULT_SIZE)
_DEFAULT_SIZE = rf"^[ \t\r\n]*{_LETTERS}[ \t\r\n]*$"

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
            },
            "sizes": {
                "description": "What people may choose from on the spawn page; a size wins over every profile.",
                "type": "array",
                "items": {"$ref": "#/$defs/size"},
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
            "profile": _profile(),
            "size": _size(),
            "env": _env(),
            "envValue": _env_value(),
            "resources": _resources(),
            **{kind: _object(kind) for kind in SHAPES},
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
            **_who(),
            **_shape(),
            **_deprecated(PROFILE_ADVICE),
        },
        "additionalProperties": False,
    }


def _size() -> dict[str, Any]:
    return {
        "description": "What a person may choose for a server. All but the name may be left out.",
        "type": "object",
        "properties": {
            "name": {
                "description": f"What people choose it by. `{DEFAULT_SIZE}` is what they choose to have none.",
                **_TEXT,
                "not": {"pattern": _DEFAULT_SIZE},
                "examples": ["Large"],
            },
            "description": {"description": _HELP["description"], **_TEXT, "examples": ["For whole years of data"]},
            **_who(),
            **_shape(),
            **_deprecated(PROFILE_ADVICE),
        },
        "required": ["name"],
        "additionalProperties": False,
    }


def _who() -> dict[str, Any]:
    return {
        "users": _texts(_HELP["users"], ["ada", "grace"], ["*"]),
        "groups": _texts(_HELP["groups"], ["forecasters"]),
    }


def _shape() -> dict[str, Any]:
    """The sections that shape a pod."""
    label = _pattern(LABEL_VALUE)
    return {
        "env": {"$ref": "#/$defs/env"},
        "env_from": _objects("env_from", "EnvFromSource", [{"secretRef": {"name": "team-s3"}, "prefix": "S3_"}], []),
        "resources": {"$ref": "#/$defs/resources"},
        "gpu": {
            "description": f"GPUs: short for a limit of `{GPU}`.",
            **_quantity(zero=True, whole=True),
            "examples": [1],
        },
        "node_selector": _texts_by_name("node_selector", QUALIFIED_NAME, label, {"pool": "gpu"}),
        "node_tolerations": _objects(
            "node_tolerations", "Toleration", [{"key": GPU, "operator": "Exists", "effect": "NoSchedule"}]
        ),
        "node_affinity": {
            "description": _HELP["node_affinity"],
            "$ref": "#/$defs/NodeAffinity",
            "examples": [
                {
                    "requiredDuringSchedulingIgnoredDuringExecution": {
                        "nodeSelectorTerms": [
                            {"matchExpressions": [{"key": "pool", "operator": "In", "values": ["gpu", "large"]}]}
                        ]
                    }
                }
            ],
        },
        "volumes": _objects(
            "volumes",
            "MountedVolume",
            [{"name": "team", "persistentVolumeClaim": {"claimName": "team-data"}, "mountPath": "/team"}],
            [
                {
                    "name": "keys",
                    "secret": {"secretName": "keys-{username}", "optional": True},
                    "mountPath": "/etc/keys",
                    "readOnly": True,
                }
            ],
        ),
        "labels": _texts_by_name("labels", _NOT_OUR_LABELS + QUALIFIED_NAME, label, {"team": "forecasting"}),
        "annotations": _texts_by_name(
            "annotations",
            _NOT_OURS + _ANNOTATION_NAME,
            {"type": ["string", "number", "boolean"]},
            {"example.org/cost-center": "4711"},
        ),
    }


def _objects(section: str, kind: str, *examples: list[dict[str, Any]]) -> dict[str, Any]:
    return {
        "description": _HELP[section],
        "type": "array",
        "items": {"$ref": f"#/$defs/{kind}"},
        "examples": list(examples),
    }


def _texts_by_name(section: str, name: str, value: dict[str, Any], example: dict[str, str]) -> dict[str, Any]:
    return {
        "description": _HELP[section],
        "type": "object",
        "propertyNames": {"pattern": f"^{name}$"},
        "additionalProperties": value,
        "examples": [example],
    }


def _object(kind: str) -> dict[str, Any]:
    """An object of Kubernetes."""
    fields = SHAPES[kind]
    alternatives = find_alternatives(kind)
    return {
        "description": f"Kubernetes' {kind}." if kind != "MountedVolume" else "Kubernetes' Volume, and where it goes.",
        "type": "object",
        "properties": {name: _field(kind, field) for name, field in fields.items()},
        **({"required": required} if (required := [name for name, field in fields.items() if field.required]) else {}),
        **({"oneOf": [{"required": [name]} for name in alternatives]} if alternatives else {}),
        "additionalProperties": False,
    }


def _field(kind: str, field: Field) -> dict[str, Any]:
    one = {"$ref": f"#/$defs/{field.kind}"} if field.kind in SHAPES else _scalar(field.kind, f"{kind}.{field.name}")
    if field.many == "list":
        return {"type": "array", "items": one}
    if field.many == "mapping":
        return {"type": "object", "additionalProperties": one}
    return one


def _scalar(kind: str, place: str) -> dict[str, Any]:
    if kind == "bool":
        return {"enum": [True, False, "true", "false"]}
    if kind == "quantity":
        return _quantity(zero=True) | {"type": ["string", "number"]}
    if kind == "int":
        least, most = FIELD_RANGES.get(place, (-(2**31), 2**31 - 1))
        # A mode of 0777 is 777 to a parser that knows no octal numbers of YAML 1.1.
        most = 777 if most == 0o777 else most
        return {"type": ["integer", "string"], "minimum": least, "maximum": most, "pattern": "^[-+]?(?:0o)?[0-9]+$"}
    rule = find_rule(place)
    if rule is None:
        return {"type": ["string", "number", "boolean"]}
    if rule.template:
        return _pattern(rf"(?![\s\S]*[{{}}])(?:{rule.pattern})|{_TEMPLATE}")
    return _pattern(rule.pattern) | ({"maxLength": rule.longest} if rule.longest else {})


def _pattern(pattern: str) -> dict[str, Any]:
    return {"type": ["string", "number", "boolean"], "pattern": f"^(?:{pattern})$"}


def _deprecated(advice: Mapping[str, str], **more: dict[str, Any]) -> dict[str, Any]:
    """Keys of another library's documents, with whatever behind them."""
    return {
        key: {
            "description": f"Ignored, a key of jupyterhub-singleuser-profiles; {what}.",
            "deprecated": True,
            **more.get(key, {}),
        }
        for key, what in advice.items()
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
                "valueFrom": {"$ref": "#/$defs/EnvVarSource"},
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
        "properties": {"valueFrom": {"$ref": "#/$defs/EnvVarSource"}},
        "required": ["valueFrom"],
        "additionalProperties": False,
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
            rf"^(?:ephemeral-storage|{HUGE_PAGES}|{_EXTENDED_RESOURCE})$": _quantity(zero=True, whole=True)
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
