"""Dates and times of a document, as instants: seconds since 1970-01-01T00:00Z.

A date is the whole day, with a first and a last instant. A time is one instant. Both are in the document's time zone,
but a time may have its own offset. Only these forms are valid:

- a date: ``2026-12-01``;
- a time: a date, ``T`` or a space, and ``14:00`` or ``14:00:30``, from 00:00 to 23:59:59;
- a time with an offset: ``Z``, ``+02:00``, ``+0200``, ``+02``, or with seconds, which some zones once had.

Not valid are fractions of a second, 24:00, leap seconds, weeks, days of the year, and lower-case ``t`` and ``z``. The
error says what to write instead.

**The rules of zones.** `zoneinfo` reads them from the system's directories (or those of ``PYTHONTZPATH``), and
otherwise from the package ``tzdata``. So an administrator can install or mount newer rules, and an image without any
uses the package's. Only the package defines the valid names: machines with the same package accept the same names, and
no other name reaches the file system. If a country changes its clocks, instants are wrong until the system's files or
the package are updated and the process restarts.

**Files.** Only `load_zone` reads files. Call it in the thread that parses the document, never on the event loop.
`zoneinfo` caches a zone only while it is in use, so keep the zone with the document. Nothing here reads the clock.
"""

from __future__ import annotations

import math
import re
import struct
from bisect import bisect_left
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta, timezone, tzinfo
from functools import cache, lru_cache

from ..errors import TimeError
from .suggestions import find_closest

__all__ = [
    "ALWAYS",
    "TIME_PATTERN",
    "Period",
    "describe_end",
    "describe_start",
    "load_zone",
    "parse_end",
    "parse_start",
]

_DAY = 86_400
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
# No zone was ever further from UTC.
_FURTHEST = timedelta(hours=16)

_EXAMPLES = "a date such as 2026-12-01, or a time such as 2026-12-01T14:00"
TIME_PATTERN = (
    r"([0-9]{4})-([0-9]{2})-([0-9]{2})"
    r"(?:[T ]([0-9]{2}):([0-9]{2})(?::([0-9]{2}))?(Z|[+-][0-9]{2}(?::?[0-9]{2}(?::?[0-9]{2})?)?)?)?"
)
"""A date or a time, in what Python and ECMA 262 have in common."""
_TIME = re.compile(TIME_PATTERN)
# Common mistakes: other separators or none, one digit instead of two, fractions, a space before the offset.
_LOOSE = re.compile(
    r"([0-9]{4})(?:([-/.])([0-9]{1,2})\2([0-9]{1,2})|([0-9]{2})([0-9]{2}))"
    r"(?:[Tt ]([0-9]{1,2}):?([0-9]{2})(?::?([0-9]{2})(?:[.,][0-9]{1,9})?)? ?([Zz]|UTC|GMT|[+-][0-9:]{2,6})?)?"
)
# An error only quotes texts like these. Another text may be a misplaced secret.
_LIKE_A_TIME = re.compile(r"[0-9][-+0-9TtZzWw:/., ]*(?:UTC|GMT)?")
_MOST_QUOTED = 40

_MONTHS = (
    "January", "February", "March", "April", "May", "June",
    "July", "August", "September", "October", "November", "December",
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class Period:
    """The time in which an entry applies: from `start`, up to but not including `end`. Infinite: no bound.

    Raises:
        TimeError: The period is empty.
    """

    start: float = -math.inf
    end: float = math.inf

    def __post_init__(self) -> None:
        if self.end <= self.start:
            raise TimeError("must be after 'from', or this never applies")

    def covers(self, moment: float) -> bool:
        """Whether the moment is within the period."""
        return self.start <= moment < self.end

    def has_ended(self, moment: float) -> bool:
        """Whether the period is over at the moment."""
        return self.end <= moment

    def ends_within(self, seconds: float, moment: float) -> bool:
        """Whether the period ends after the moment, but at most so many seconds later."""
        return moment < self.end <= moment + seconds


ALWAYS = Period()
"""The period of an entry without ``from`` and ``until``."""


def load_zone(name: str) -> tzinfo:
    """Returns the time zone with this name. Its `str` is the name.

    Reads the package's list of names and, if the name is in the list, the zone's file.

    Raises:
        TimeError: There is no such zone, or this machine cannot read its rules.
    """
    # UTC is the default. A document without a zone does not pay for the import, some milliseconds, and the files.
    if name == "UTC":
        return UTC
    from zoneinfo import ZoneInfo

    if name not in _zone_names():
        raise TimeError(_explain_zone(name))
    try:
        return ZoneInfo(name)
    except (OSError, ValueError, LookupError, struct.error) as error:
        what = f"the rules of {name} cannot be read here ({type(error).__name__}); repair the system's time zones"
        raise TimeError(f"{what}, or reinstall the package tzdata") from error


@cache
def _zone_names() -> tuple[str, ...]:
    from importlib.resources import files

    return tuple(files("tzdata").joinpath("zones").read_text(encoding="ascii").split())


def _explain_zone(name: str) -> str:
    names = {each.lower(): each for each in _zone_names()}
    wanted = name.lower().replace(" ", "_")
    cities = [each for each in names.values() if each.lower().endswith(f"/{wanted}") and not each.startswith("Etc/")]
    meant = names.get(wanted) or (cities[0] if len(cities) == 1 else None)
    # No suggestions here: CEST resembles EST, and UTC+2 resembles Etc/GMT+2, which is two hours behind UTC.
    if not meant and re.fullmatch(r"[A-Za-z]{1,5}|(?:UTC|GMT)?[+-][0-9:]{1,6}", name, re.IGNORECASE):
        return "not an IANA time zone, such as Europe/Athens; an abbreviation or an offset does not say where"
    if len(name) <= _MOST_QUOTED:
        meant = meant or find_closest(name, _zone_names())
    if meant:
        return f"'{name}' is not an IANA time zone; did you mean '{meant}'?"
    return "not an IANA time zone, such as Europe/Athens"


def parse_start(text: str, zone: tzinfo) -> int:
    """Returns the instant of a ``from``. For a date, it is the first of the day, which is not always at midnight.

    Raises:
        TimeError: The text is not a date or a time, or it does not exist or exists twice in the zone.
    """
    moment = _parse(text)
    return _find_instant(text, moment, zone) if isinstance(moment, datetime) else _start_of_day(moment, zone)


def parse_end(text: str, zone: tzinfo) -> int:
    """Returns the instant of an ``until``, which is not part of the period. For a date, it is the end of the day.

    That is the first instant of the next day that the zone does not skip.

    Raises:
        TimeError: The text is not a date or a time, or it does not exist or exists twice in the zone.
    """
    moment = _parse(text)
    if isinstance(moment, datetime):
        return _find_instant(text, moment, zone)
    start = _start_of_day(moment, zone)
    if moment == date.max:
        # A `date` cannot be the next day. No zone changes its clocks on this one.
        return start + _DAY
    return _first_instant(moment + timedelta(days=1), zone)


def _parse(text: str) -> date | datetime:
    """Returns a `date`, or a `datetime` for a time, with an offset if the text has one."""
    match = _TIME.fullmatch(text)
    if not match:
        raise TimeError(_explain(text))
    return _make(match)


def _make(match: re.Match[str]) -> date | datetime:
    """Returns the date or the time of a match of `_TIME`, if it exists in the calendar."""
    text, (year, month, day, hour, minute, second, offset) = match[0], match.groups()
    try:
        found = date(int(year), int(month), int(day))
    except ValueError:
        raise TimeError(f"{text[:10]} is not in the calendar") from None
    if hour is None:
        return found
    if (int(hour), int(minute), int(second or 0)) == (24, 0, 0):
        raise TimeError(f"{text} has hour 24; write 00:00 of the next day")
    try:
        wall = datetime(found.year, found.month, found.day, int(hour), int(minute), int(second or 0))
    except ValueError:
        raise TimeError(f"{text} has no valid time of day; write 00:00 to 23:59, or 23:59:59") from None
    return wall.replace(tzinfo=_parse_offset(offset)) if offset else wall


def _parse_offset(text: str) -> timezone:
    if text == "Z":
        return UTC
    digits = text[1:].replace(":", "").ljust(6, "0")
    hours, minutes, seconds = int(digits[:2]), int(digits[2:4]), int(digits[4:])
    offset = timedelta(hours=hours, minutes=minutes, seconds=seconds)
    if minutes > 59 or seconds > 59 or offset >= _FURTHEST:
        raise TimeError(f"{text} is not an offset from UTC; write Z, or one such as +02:00 or -05:30")
    return timezone(-offset if text.startswith("-") else offset)


def _explain(text: str) -> str:
    if len(text) > _MOST_QUOTED or not _LIKE_A_TIME.fullmatch(text):
        return f"not {_EXAMPLES}"
    if meant := _guess(text):
        return f"{text} is not {_EXAMPLES}; did you mean {meant}?"
    if re.match(r"[0-9]{4}-[0-9]{2}-[0-9]{2}(?:[Zz]|[+-][0-9])", text):
        return f"{text} has an offset, and a date has none; write a time too, or leave out the offset"
    return f"{text} is not {_EXAMPLES}"


def _guess(text: str) -> str | None:
    """Returns the date or the time that was probably meant; None: it is not clear."""
    loose = _LOOSE.fullmatch(text)
    if not loose:
        return None
    year, _, month, day, basic_month, basic_day, hour, minute, second, offset = loose.groups()
    meant = f"{year}-{month or basic_month:0>2}-{day or basic_day:0>2}"
    if hour:
        meant += f"T{hour:0>2}:{minute}{f':{second}' if second else ''}"
        meant += "Z" if offset in ("z", "UTC", "GMT") else offset or ""
    match = _TIME.fullmatch(meant)
    try:
        return meant if match and _make(match) else None
    except TimeError:
        return None


def _find_instant(text: str, moment: datetime, zone: tzinfo) -> int:
    if moment.tzinfo:
        return _to_instant(moment, moment.tzinfo)
    one, other = (_to_instant(moment, zone, fold) for fold in (0, 1))
    if one == other:
        return one
    what = "does not exist" if one > other else "exists twice"
    offsets = [f"{text}{_format_offset(_to_instant(moment, UTC) - instant)}" for instant in (one, other)]
    raise TimeError(f"{text} {what} in {zone}, since clocks change; add an offset: {' or '.join(offsets)}")


def _start_of_day(day: date, zone: tzinfo) -> int:
    """Returns the first instant of a day, which must exist in the zone."""
    first = _first_instant(day, zone)
    if _to_wall(first, zone) // _DAY != (day - _EPOCH.date()).days:
        raise TimeError(f"{day} does not exist in {zone}, since clocks skip it; write the day before or after")
    return first


def _first_instant(day: date, zone: tzinfo) -> int:
    """Returns the first instant of a day, or of the next day if the zone skips the day."""
    midnight = datetime(day.year, day.month, day.day)
    one, other = (_to_instant(midnight, zone, fold) for fold in (0, 1))
    if one <= other:
        # Midnight exists, or exists twice: then the day begins with the first.
        return one
    # Clocks skip midnight. PEP 495 uses the offset before the change for one instant, and the offset after it for the
    # other. The change is between the two.
    between = range(other, one)
    return other + bisect_left(between, _to_instant(midnight, UTC), key=lambda instant: _to_wall(instant, zone))


def _to_instant(wall: datetime, zone: tzinfo, fold: int = 0) -> int:
    return _to_seconds(wall.replace(tzinfo=zone, fold=fold) - _EPOCH)


def _to_seconds(time: timedelta) -> int:
    return time.days * _DAY + time.seconds


_EARLIEST = _to_instant(datetime.min, UTC) + _DAY
_LATEST = _to_instant(datetime.max, UTC) - _DAY


def _to_wall(instant: int, zone: tzinfo) -> int:
    """Returns the local time at an instant, in seconds, as if it were a time in UTC. The year may be 0 or 10,000."""
    # At the ends of `datetime`, the offset of a day later or earlier is used, so that the local time cannot overflow.
    local = (_EPOCH + timedelta(seconds=min(max(instant, _EARLIEST), _LATEST))).astimezone(zone)
    return instant + _to_seconds(local.utcoffset() or timedelta())


def describe_start(start: float, zone: tzinfo, moment: float) -> str:
    """Formats the start of a period: ``from 1 December``, or ``from 1 December, 14:00 Europe/Athens``.

    Args:
        start: The period's start, which is finite.
        zone: The zone of the text's date and time.
        moment: The current time. The year is left out if it is the current one.
    """
    at = int(start)
    wall = _to_wall(at, zone)
    is_day = _to_wall(at - 1, zone) // _DAY < wall // _DAY
    return f"from {_describe(wall, at, zone, moment, is_day=is_day)}"


def describe_end(end: float, zone: tzinfo, moment: float) -> str:
    """Formats the end of a period: ``until the end of 31 January``, or ``until 31 January, 18:00 Europe/Athens``.

    Args:
        end: The period's end, which is finite.
        zone: The zone of the text's date and time.
        moment: The current time. The year is left out if it is the current one.
    """
    at = int(end)
    wall, last = _to_wall(at, zone), _to_wall(at - 1, zone)
    if last // _DAY < wall // _DAY:
        return f"until the end of {_describe(last, at, zone, moment, is_day=True)}"
    return f"until {_describe(wall, at, zone, moment, is_day=False)}"


def _describe(wall: int, instant: int, zone: tzinfo, moment: float, *, is_day: bool) -> str:
    shown, year = _to_datetime(wall), _find_year(math.floor(moment), zone)
    # Not with `strftime`, which uses the machine's language.
    day = f"{shown.day} {_MONTHS[shown.month - 1]}{'' if shown.year == year else f' {shown.year}'}"
    if is_day:
        return day
    is_unclear = _to_instant(shown, zone, 0) != _to_instant(shown, zone, 1)
    offset = _format_offset(wall - instant) if is_unclear else ""
    seconds = f":{shown.second:02}" if shown.second else ""
    return f"{day}, {shown.hour:02}:{shown.minute:02}{seconds}{offset} {zone}"


# A page describes many ends at one moment.
@lru_cache(maxsize=1)
def _find_year(instant: int, zone: tzinfo) -> int:
    return _to_datetime(_to_wall(instant, zone)).year


def _to_datetime(wall: int) -> datetime:
    """Returns a local time of `_to_wall` as a `datetime`, or the nearest possible `datetime`."""
    return datetime(1970, 1, 1) + timedelta(seconds=min(max(wall, _EARLIEST - _DAY), _LATEST + _DAY))


def _format_offset(seconds: int) -> str:
    minutes, rest = divmod(abs(seconds), 60)
    return f"{'-' if seconds < 0 else '+'}{minutes // 60:02}:{minutes % 60:02}{f':{rest:02}' if rest else ''}"
