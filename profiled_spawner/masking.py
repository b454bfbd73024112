"""What keeps the values of variables out of what others say of our pods: their logs, messages and tracebacks.

A pod goes through the hands of KubeSpawner, its client, an admin's hook and the API server. Each of them may quote it
where something goes wrong, and the client's log at DEBUG does so always.
"""

from __future__ import annotations

import json
import logging
import re
import sys
from collections.abc import Iterable
from typing import Any, Self

from kubernetes_asyncio.client import ApiException, V1Pod

from .injection import find_env_values, hide_env_values

__all__ = ["MaskedPod", "withhold_response_bodies"]

# Shorter ones are words of any message, and none of them is a secret.
_SHORTEST_VALUE = 6

# What Go makes of < > & in JSON.
_ESCAPED_BY_GO = re.compile(r"\\+u00(3c|3e|26)")


class MaskedPod(V1Pod):
    """A pod whose text, and with it its repr, has no variable's value. What the client sends is its attributes."""

    @classmethod
    def of(cls, pod: V1Pod) -> Self:
        masked = cls.__new__(cls)
        vars(masked).update(vars(pod))
        return masked

    def to_str(self) -> str:
        # KubeSpawner asks for it while it handles a refusal, which it logs beside it and then raises on.
        refusal = sys.exception()
        if isinstance(refusal, ApiException):
            _mask_refusal(refusal, find_env_values(self))
        return V1Pod.to_str(hide_env_values(self))


def _mask_refusal(refusal: Any, values: Iterable[str]) -> None:
    """Takes a pod's values out of what the API server said to it: a policy's message may quote them.

    The client's frames go too: they hold the request as text, for tools that record local variables.
    """
    values = sorted((value for value in values if len(value) >= _SHORTEST_VALUE), key=len, reverse=True)
    refusal.body = _mask(refusal.body or "", values)
    refusal.headers = {name: _mask(text, values) for name, text in (refusal.headers or {}).items()}
    refusal.__traceback__ = None


def _mask(text: str, values: list[str]) -> str:
    text = _ESCAPED_BY_GO.sub(lambda match: chr(int(match[1], 16)), text)
    for value in values:
        # As it is, as a message quotes it, and as that stands in JSON.
        quoted = value
        for _ in range(3):
            text = text.replace(quoted, "***")
            quoted = json.dumps(quoted, ensure_ascii=False)[1:-1]
    return text


def withhold_response_bodies() -> None:
    """Keeps what the API server answers, our pods among it, out of the log of KubeSpawner's client at DEBUG."""
    logger = logging.getLogger("kubernetes_asyncio.client.rest")
    if _withhold not in logger.filters:
        logger.addFilter(_withhold)


def _withhold(record: logging.LogRecord) -> bool:
    length = len(record.getMessage())
    record.msg, record.args = "%d characters withheld: a response may hold values of environment variables", (length,)
    return True
