"""What keeps the values of variables out of what others say of our pods: their logs, messages and tracebacks.

A pod goes through the hands of KubeSpawner, its client, an admin's hook and the API server. Each of them may quote it
where something goes wrong, and the client's log at DEBUG does so always.
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

from .patch import find_env_values, hide_env_values, to_manifest

__all__ = ["Mask", "MaskedPod", "describe_refusal", "withhold_response_bodies"]

# Shorter ones are words of any message, and none of them is a secret.
_SHORTEST_VALUE = 6
# A message may quote the beginning of a value alone. Fewer characters begin too many other texts: "https://" does.
_SHORTEST_BEGINNING = 12
# Looking for values costs time for each character, and nobody reads more.
_LONGEST_TEXT = 8 * 2**10
# Backslashes in all values, and characters of those with emoji: each costs time, too, and few settings have hundreds.
_MOST_SPELLED = 2_000

_MASK = "***"

# A character that is written by its number. With one backslash in front, Python finds it fast; another one before that
# would be the beginning, or many of them took quadratic time.
_NUMBER = r"\\(?<!\\\\)\\*(?:u([0-9a-fA-F]{4})|U(000[0-9a-fA-F]{5}|0010[0-9a-fA-F]{4})|x([0-9a-fA-F]{2}))"
# What no two writers spell alike: a character behind backslashes, with its number or without, a control character,
# and one that some write as two.
_SPELLED = re.compile(rf"{_NUMBER}|\\+(?:([^\\])|\Z)" "|([\a\b\f\n\r\t\v\U00010000-\U0010ffff])", re.DOTALL)
_LETTERS = dict(zip("\a\b\f\n\r\t\v\\", ["a", "b", "f", "n", "r", "t", "v", ""], strict=True))
# Of those, what a function must read, with the same groups: apart, each is found many times as fast.
_BY_NUMBER = re.compile(f"{_NUMBER}()()")
_ABOVE = re.compile("()()()()([\U00010000-\U0010ffff])")


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
        # The client would write a line for each field, which takes 30 ms of the event loop for 300 variables.
        return json.dumps(to_manifest(hide_env_values(self)), default=str)


def _mask_refusal(refusal: Any, values: Iterable[str]) -> None:
    """Takes a pod's values out of what the API server said to it: a policy's message may quote them.

    The client's frames go too: they hold the request as text, for tools that record local variables.
    """
    body, headers = refusal.body or "", refusal.headers or {}
    mask = Mask(values, max(map(len, [body, *headers.values()])))
    refusal.body = mask.hide(body)
    refusal.headers = {name: mask.hide(text) for name, text in headers.items()}
    refusal.__traceback__ = None


def describe_refusal(refusal: ApiException) -> str:
    """What the API server said of a pod that it refused. It holds no values once `MaskedPod` has been printed."""
    try:
        message = json.loads(refusal.body or "")["message"]
    except (ValueError, TypeError, KeyError, RecursionError):
        message = refusal.reason
    return f"the API server refuses its pod ({refusal.status}): {message}"


class Mask:
    """Finds values in texts of others, who may have written them as JSON, Go's ``%q`` or Python's ``repr`` do.

    One may also have quoted what another had quoted before. So values and texts are compared in a form that is the
    same for all of them: without backslashes, each character as itself, a newline as the ``n`` that stands for it.

    What that costs grows with the texts, not with the values that a pod may hold, which are larger by far.

    Args:
        values: What to find. Those of fewer than 6 characters are left where they are.
        longest: How long a text may be to be looked through, of at most 8 KiB.
    """

    def __init__(self, values: Iterable[str], longest: int = _LONGEST_TEXT) -> None:
        self._longest = min(longest, _LONGEST_TEXT)
        found = [value[: self._longest] for value in values]
        self._is_too_much = sum(map(_count_spelled, found)) > _MOST_SPELLED
        written = set[str]()
        for value in found if not self._is_too_much else ():
            written.add(_read_value(value))
            # A backslash in front makes another character of one that could be its escape.
            number = _BY_NUMBER.match(f"\\{value[:9]}")
            if number:
                written.add(_read_spelling(number) + _read_value(value[number.end() - 1 :]))
        self._values = sorted(value for value in written if len(value) >= _SHORTEST_VALUE)
        self._beginnings = {value[:_SHORTEST_BEGINNING] for value in self._values}
        self._lengths = sorted({len(beginning) for beginning in self._beginnings}, reverse=True)

    def hide(self, text: str) -> str:
        """The text with ``***`` in place of each value, and of each beginning of one that is long enough to tell.

        A text that is too long is withheld as a whole, and so is each where the values are too odd.
        """
        if not self._values and not self._is_too_much:
            return text
        if len(text) > self._longest or self._is_too_much:
            return f"{len(text)} characters withheld: they may hold values of environment variables"
        plain, places = _read_plainly(text)
        shown, end = [], 0
        position = 0
        while position < len(plain):
            length = self._measure(plain, position)
            if length:
                shown += [text[end : places[position]], _MASK]
                end = places[position + length]
            position += length or 1
        return "".join([*shown, text[end:]])

    def _measure(self, plain: str, position: int) -> int:
        """How much of a value a text holds at a position; 0 for none."""
        for length in self._lengths:
            beginning = plain[position : position + length]
            if beginning in self._beginnings:
                break
        else:
            return 0
        rest = plain[position:]
        # Of values in order, those that have most in common with a text stand next to it.
        place = bisect(self._values, rest)
        near = self._values[max(0, place - 1) : place + 1]
        return max(len(beginning), *(_count_common(value, rest) for value in near))


def _count_spelled(value: str) -> int:
    """How many characters of a value take time to read: its backslashes; all, if UTF-16 has two for some of them."""
    if not value.isascii() and len(value.encode("utf-16-le", "surrogatepass")) > 2 * len(value):
        return len(value)
    return value.count("\\")


def _read_value(value: str) -> str:
    """A value in the form in which values are compared; the same as `_read_plainly` makes of it, and faster."""
    if "\\" in value:
        value = _BY_NUMBER.sub(_read_spelling, value)
    if not value.isascii():
        value = _ABOVE.sub(_read_spelling, value)
    for character, letter in _LETTERS.items():
        value = value.replace(character, letter)
    return value


def _count_common(value: str, text: str) -> int:
    """How many characters two texts begin with in common."""
    pairs = enumerate(zip(value, text, strict=False))
    return next((position for position, (one, other) in pairs if one != other), min(len(value), len(text)))


def _read_plainly(text: str) -> tuple[str, list[int]]:
    """A text in the form in which values are compared, and where in it each character began; at last its length."""
    parts: list[str] = []
    places: list[int] = []
    end = 0
    for spelling in _SPELLED.finditer(text):
        start = spelling.start()
        character = _read_spelling(spelling)
        parts += [text[end:start], character]
        places += [*range(end, start), *[start] * len(character)]
        end = spelling.end()
    return "".join([*parts, text[end:]]), [*places, *range(end, len(text) + 1)]


def _read_spelling(spelling: re.Match[str]) -> str:
    number = spelling[1] or spelling[2] or spelling[3]
    character = chr(int(number, 16)) if number else spelling[4] or spelling[5] or ""
    if character > "\uffff":
        # As JSON has it, in two.
        high, low = divmod(ord(character) - 0x10000, 0x400)
        return chr(0xD800 + high) + chr(0xDC00 + low)
    return _LETTERS.get(character, character)


def withhold_response_bodies() -> None:
    """Keeps what the API server answers, our pods among it, out of the log of KubeSpawner's client at DEBUG."""
    logger = logging.getLogger("kubernetes_asyncio.client.rest")
    if _withhold not in logger.filters:
        logger.addFilter(_withhold)


def _withhold(record: logging.LogRecord) -> bool:
    length = len(record.getMessage())
    record.msg, record.args = "%d characters withheld: a response may hold values of environment variables", (length,)
    return True
