"""Keeps the values of environment variables out of logs, messages and tracebacks of others.

KubeSpawner, its client, an admin's hook and the API server all handle the pod. Each may quote it in an error, and the
client's DEBUG log always does.
"""

from __future__ import annotations

import json
import logging
import re
import sys
from bisect import bisect
from collections.abc import Iterable
from typing import Any, Self

from kubernetes_asyncio.client import ApiException, V1Pod

from .patch import find_env_values, mask_env_values, to_manifest

__all__ = ["Mask", "MaskedPod", "describe_refusal", "withhold_response_bodies"]

# Shorter values are ordinary words of any message, and not secrets.
_SHORTEST_VALUE = 6
# A message may quote only the beginning of a value. Shorter beginnings are too common, such as "https://".
_SHORTEST_BEGINNING = 12
# The search takes time for each character, and nobody reads more.
_LONGEST_TEXT = 8 * 2**10
# The number of backslashes in all values, plus all characters of values with emoji. Each takes time, too, and values
# rarely have hundreds.
_MOST_SPELLINGS = 2_000

_MASK = "***"

# A character that is written by its number, such as ``\u00e9``. The literal backslash at the start lets Python search
# fast. The lookbehind makes a run of backslashes match once, or many of them would take quadratic time.
_NUMBER = r"\\(?<!\\\\)\\*(?:u([0-9a-fA-F]{4})|U(000[0-9a-fA-F]{5}|0010[0-9a-fA-F]{4})|x([0-9a-fA-F]{2}))"
# Whatever is written differently by different writers: characters after backslashes, by number or not, control
# characters, and characters that some write as two.
_SPELLINGS = re.compile(rf"{_NUMBER}|\\+(?:([^\\])|\Z)" "|([\a\b\f\n\r\t\v\U00010000-\U0010ffff])", re.DOTALL)
_LETTERS = dict(zip("\a\b\f\n\r\t\v\\", ["a", "b", "f", "n", "r", "t", "v", ""], strict=True))
# The two kinds among them that need a function, with the same groups. Separate searches are many times as fast.
_BY_NUMBER = re.compile(f"{_NUMBER}()()")
_ABOVE = re.compile("()()()()([\U00010000-\U0010ffff])")


class MaskedPod(V1Pod):
    """A pod with masked values in its ``str`` and ``repr``. The client sends its attributes, which are complete."""

    @classmethod
    def of(cls, pod: V1Pod) -> Self:
        masked = cls.__new__(cls)
        vars(masked).update(vars(pod))
        return masked

    def to_str(self) -> str:
        # KubeSpawner calls this while it handles a refusal, which it logs together with the pod and then re-raises.
        refusal = sys.exception()
        if isinstance(refusal, ApiException):
            _mask_refusal(refusal, find_env_values(self))
        # The client's own format has one line per field, and blocks the event loop for 30 ms for 300 variables.
        return json.dumps(to_manifest(mask_env_values(self)), default=str)


def _mask_refusal(refusal: Any, values: Iterable[str]) -> None:
    """Masks a pod's values in the API server's answer, since a policy's message may quote them.

    Also removes the traceback: its frames hold the request as text, and some tools record local variables.
    """
    body, headers = refusal.body or "", refusal.headers or {}
    mask = Mask(values, max(map(len, [body, *headers.values()])))
    refusal.body = mask.apply(body)
    refusal.headers = {name: mask.apply(text) for name, text in headers.items()}
    refusal.__traceback__ = None


def describe_refusal(refusal: ApiException) -> str:
    """Returns why the API server refused a pod.

    It contains no values if KubeSpawner has logged the pod before, because `MaskedPod.to_str` masks the refusal.
    """
    try:
        message = json.loads(refusal.body or "")["message"]
    except (ValueError, TypeError, KeyError, RecursionError):
        message = refusal.reason
    return f"the API server refuses its pod ({refusal.status}): {message}"


class Mask:
    """Masks values in texts of others, which may quote them as JSON, Go's ``%q`` or Python's ``repr`` do.

    A quotation may itself be quoted. So values and texts are compared in a normal form, which is the same for all
    spellings: without backslashes, each character as itself, a newline as the ``n`` of its escape.

    The time grows with the texts, not with the pod's values, which are much larger.

    Args:
        values: The values to mask. Values of fewer than 6 characters are not masked.
        longest: The longest text to search, of at most 8 KiB.
    """

    def __init__(self, values: Iterable[str], longest: int = _LONGEST_TEXT) -> None:
        self._longest = min(longest, _LONGEST_TEXT)
        found = [value[: self._longest] for value in values]
        self._is_unmaskable = sum(map(_count_spellings, found)) > _MOST_SPELLINGS
        written = set[str]()
        for value in found if not self._is_unmaskable else ():
            written.add(_normalize_value(value))
            # After a backslash, the value's first characters may form an escape, such as "u00e9".
            number = _BY_NUMBER.match(f"\\{value[:9]}")
            if number:
                written.add(_normalize_character(number) + _normalize_value(value[number.end() - 1 :]))
        self._values = sorted(value for value in written if len(value) >= _SHORTEST_VALUE)
        self._beginnings = {value[:_SHORTEST_BEGINNING] for value in self._values}
        self._lengths = sorted({len(beginning) for beginning in self._beginnings}, reverse=True)

    def apply(self, text: str) -> str:
        """Returns the text with ``***`` in place of each value, and of each beginning of 12 characters or more.

        A text that is too long is withheld completely. If the values have too many backslashes or emoji, every text is.
        """
        if not self._values and not self._is_unmaskable:
            return text
        if len(text) > self._longest or self._is_unmaskable:
            return f"{len(text)} characters withheld: they may hold values of environment variables"
        plain, places = _normalize_text(text)
        shown, end = [], 0
        position = 0
        while position < len(plain):
            length = self._match_length(plain, position)
            if length:
                shown += [text[end : places[position]], _MASK]
                end = places[position + length]
            position += length or 1
        return "".join([*shown, text[end:]])

    def _match_length(self, plain: str, position: int) -> int:
        """Returns how many characters of a value the text has at a position; 0 if there is no value."""
        for length in self._lengths:
            beginning = plain[position : position + length]
            if beginning in self._beginnings:
                break
        else:
            return 0
        rest = plain[position:]
        # In a sorted list, the values with the longest common prefix are next to the text's position.
        place = bisect(self._values, rest)
        near = self._values[max(0, place - 1) : place + 1]
        return max(len(beginning), *(_count_common_prefix(value, rest) for value in near))


def _count_spellings(value: str) -> int:
    """Returns how many characters of a value need time: all if it has emoji (UTF-16 pairs), or its backslashes."""
    if not value.isascii() and len(value.encode("utf-16-le", "surrogatepass")) > 2 * len(value):
        return len(value)
    return value.count("\\")


def _normalize_value(value: str) -> str:
    """Returns a value in normal form: the same as `_normalize_text` returns, but faster."""
    if "\\" in value:
        value = _BY_NUMBER.sub(_normalize_character, value)
    if not value.isascii():
        value = _ABOVE.sub(_normalize_character, value)
    for character, letter in _LETTERS.items():
        value = value.replace(character, letter)
    return value


def _count_common_prefix(value: str, text: str) -> int:
    """Returns the length of the common prefix of two texts."""
    pairs = enumerate(zip(value, text, strict=False))
    return next((position for position, (one, other) in pairs if one != other), min(len(value), len(text)))


def _normalize_text(text: str) -> tuple[str, list[int]]:
    """Returns a text in normal form, the position of each of its characters in the text, and the text's length."""
    parts: list[str] = []
    places: list[int] = []
    end = 0
    for spelling in _SPELLINGS.finditer(text):
        start = spelling.start()
        character = _normalize_character(spelling)
        parts += [text[end:start], character]
        places += [*range(end, start), *[start] * len(character)]
        end = spelling.end()
    return "".join([*parts, text[end:]]), [*places, *range(end, len(text) + 1)]


def _normalize_character(spelling: re.Match[str]) -> str:
    number = spelling[1] or spelling[2] or spelling[3]
    character = chr(int(number, 16)) if number else spelling[4] or spelling[5] or ""
    if character > "\uffff":
        # In two, as JSON writes it.
        high, low = divmod(ord(character) - 0x10000, 0x400)
        return chr(0xD800 + high) + chr(0xDC00 + low)
    return _LETTERS.get(character, character)


def withhold_response_bodies() -> None:
    """Keeps the API server's answers, which include our pods, out of the DEBUG log of KubeSpawner's client."""
    logger = logging.getLogger("kubernetes_asyncio.client.rest")
    if _withhold not in logger.filters:
        logger.addFilter(_withhold)


def _withhold(record: logging.LogRecord) -> bool:
    length = len(record.getMessage())
    record.msg, record.args = "%d characters withheld: a response may hold values of environment variables", (length,)
    return True
