"""Dates and times of a document, as instants: seconds since 1970-01-01T00:00Z.

A date is the whole day, and so has a first instant and a last one. A time is one instant. Both are local to the
document's time zone, unless a time has an offset of its own. What is accepted, and nothing else:

- a date: ``2026-12-01``;
- a time: a date, ``T`` or a space, and ``14:00`` or ``14:00:30``, from 00:00 to 23:59:59;
- with or without an offset: ``Z``, ``+02:00``, ``+0200``, ``+02``, or with seconds, as some zones had them long ago.

No fractions of a second, no 24:00, no leap seconds, no weeks or days of the year, and ``T`` and ``Z`` in upper case:
for these, an error says what to write.

**Where the rules of a zone come from.** `zoneinfo` looks in the system's directories first (or in those of
``PYTHONTZPATH``), and then in the package ``tzdata``. So what an administrator installs or mounts there wins, and an
image without any still has the package's. The package alone says which names there are: machines with the same package
accept the same names, and no other name ever reaches the file system. Rules may be older than the law: if a country
changes its clocks, an instant is wrong until the system's files, or else the package, are updated and the process
restarts.

**Files.** `load_zone` is the only function here that reads any. Call it where the document is parsed, which is in a
thread, never on the event loop; `zoneinfo` caches a zone for as long as somebody holds it, so keep it with the
document. Nothing here reads the clock.
"""

from __future__ import annotations

import math
import re
import struct
from bisect import bisect_left
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta, timezone, tzinfo
from functools import cache

from ..errors import TimeError
from .suggestions import find_closest

__all__ = ["ALWAYS", "Period", "describe_end", "describe_start", "load_zone", "parse_end", "parse_start"]

_DAY = 86_400
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
# No zone was ever further from UTC.
_FURTHEST = timedelta(hours=16)

_EXAMPLES = "a date such as 2026-12-01, or a time such as 2026-12-01T14:00"
_TIME = re.compile(
    r"([0-9]{4})-([0-9]{2})-([0-9]{2})"
    r"(?:[T ]([0-9]{2}):([0-9]{2})(?::([0-9]{2}))?(Z|[+-][0-9]{2}(?::?[0-9]{2}(?::?[0-9]{2})?)?)?)?"
)
# What people write instead: other separators or none, one digit for two, fractions, a space before the offset.
_LOOSE = re.compile(
    r"([0-9]{4})(?:([-/.])([0-9]{1,2})\2([0-9]{1,2})|([0-9]{2})([0-9]{2}))"
    r"(?:[Tt ]([0-9]{1,2}):?([0-9]{2})(?::?([0-9]{2})(?:[.,][0-9]{1,9})?)? ?([Zz]|UTC|GMT|[+-][0-9:]{2,6})?)?"
)
# An error quotes nothing else: a text that is nothing like a time may be anything, a misplaced secret included.
_LIKE_A_TIME = re.compile(r"[0-9][-+0-9TtZzWw:/., ]*(?:UTC|GMT)?")
_MOST_QUOTED = 40

_MONTHS = (
    "January", "February", "March", "April", "May", "June",
    "July", "August", "September", "October", "November", "December",
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class Period:
    """The time in which an entry counts: from `start`, up to but not including `end`; infinite where there is none.

    Raises:
        TimeError: It would be empty.
    """

    start: float = -math.inf
    end: float = math.inf

    def __post_init__(self) -> None:
        if self.end <= self.start:
            raise TimeError("until is not after from, so this would never apply")

    def covers(self, moment: float) -> bool:
        """Whether the moment is within it."""
        return self.start <= moment < self.end

    def has_ended(self, moment: float) -> bool:
        """Whether it is over at the moment."""
        return self.end <= moment

    def ends_within(self, seconds: float, moment: float) -> bool:
        """Whether it is not over at the moment, but will be so many seconds later."""
        return moment < self.end <= moment + seconds


ALWAYS = Period()
"""The period of an entry without ``from`` and ``until``."""


def load_zone(name: str) -> tzinfo:
    """The time zone of this name; its text (`str`) is the name.

    Reads the zone's file, and the package's list of names, but no file for a name that is not in the list.

    Raises:
        TimeError: There is no zone of this name, or this machine cannot read its rules.
    """
    # The default: documents that give no zone pay neither for the import, of some milliseconds, nor for the files.
    if name == "UTC":
        return UTC
    from zoneinfo import ZoneInfo

    if name not in _zone_names():
        raise TimeError(_refuse_zone(name))
    try:
        return ZoneInfo(name)
    except (OSError, ValueError, LookupError, struct.error) as error:
        what = f"the rules of {name} cannot be read here ({type(error).__name__}); mend the system's time zones"
        raise TimeError(f"{what}, or reinstall the package tzdata") from error


@cache
def _zone_names() -> tuple[str, ...]:
    from importlib.resources import files

    return tuple(files("tzdata").joinpath("zones").read_text(encoding="ascii").split())


def _refuse_zone(name: str) -> str:
    names = {each.lower(): each for each in _zone_names()}
    wanted = name.lower().replace(" ", "_")
    cities = [each for each in names.values() if each.lower().endswith(f"/{wanted}") and not each.startswith("Etc/")]
    meant = names.get(wanted) or (cities[0] if len(cities) == 1 else None)
    # The nearest name to CEST is EST, and to UTC+2 is Etc/GMT+2, which is two hours behind UTC: neither is meant.
    if not meant and re.fullmatch(r"[A-Za-z]{1,5}|(?:UTC|GMT)?[+-][0-9:]{1,6}", name, re.IGNORECASE):
        return "not an IANA time zone, such as Europe/Athens; an abbreviation or an offset does not say where"
    if len(name) <= _MOST_QUOTED:
        meant = meant or find_closest(name, _zone_names())
    if meant:
        return f"'{name}' is not an IANA time zone; did you mean '{meant}'?"
    return "not an IANA time zone, such as Europe/Athens"


def parse_start(text: str, zone: tzinfo) -> int:
    """The instant that ``from`` names: of a date, the first one of that day, which need not be midnight.

    Raises:
        TimeError: The text is neither a date nor a time, or names none, or two, in this zone.
    """
    moment = _read(text)
    return _find_instant(text, moment, zone) if isinstance(moment, datetime) else _begin(moment, zone)


def parse_end(text: str, zone: tzinfo) -> int:
    """The instant that ``until`` names, which is not included: of a date, the first one of the next day.

    If the zone skips the next day, that is the first one of the day after it.

    Raises:
        TimeError: As `parse_start`.
    """
    moment = _read(text)
    if isinstance(moment, datetime):
        return _find_instant(text, moment, zone)
    begin = _begin(moment, zone)
    if moment == date.max:
        # No zone changes its clocks on New Year's Eve, and the next day is more than a `date` can be.
        return begin + _DAY
    return _first_instant(moment + timedelta(days=1), zone)


def _read(text: str) -> date | datetime:
    """A date for a day, and a datetime for a time, with its own offset if it has one."""
    match = _TIME.fullmatch(text)
    if not match:
        raise TimeError(_refuse(text))
    return _make(match)


def _make(match: re.Match[str]) -> date | datetime:
    """What the groups of `_TIME` say, if there is such a day, time and offset."""
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
        raise TimeError(f"{text} has no time of a day; write 00:00 to 23:59, or 23:59:59") from None
    return wall.replace(tzinfo=_read_offset(offset)) if offset else wall


def _read_offset(text: str) -> timezone:
    if text == "Z":
        return UTC
    digits = text[1:].replace(":", "").ljust(6, "0")
    hours, minutes, seconds = int(digits[:2]), int(digits[2:4]), int(digits[4:])
    offset = timedelta(hours=hours, minutes=minutes, seconds=seconds)
    if minutes > 59 or seconds > 59 or offset >= _FURTHEST:
        raise TimeError(f"{text} is not an offset from UTC; write Z, or one such as +02:00 or -05:30")
    return timezone(-offset if text.startswith("-") else offset)


def _refuse(text: str) -> str:
    if len(text) > _MOST_QUOTED or not _LIKE_A_TIME.fullmatch(text):
        return f"not {_EXAMPLES}"
    if meant := _guess(text):
        return f"{text} is not {_EXAMPLES}; did you mean {meant}?"
    if re.match(r"[0-9]{4}-[0-9]{2}-[0-9]{2}(?:[Zz]|[+-][0-9])", text):
        return f"{text} has an offset, and a date has none; write a time too, or leave out the offset"
    return f"{text} is not {_EXAMPLES}"


def _guess(text: str) -> str | None:
    """What was likely meant, if that is a date or a time."""
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


def _begin(day: date, zone: tzinfo) -> int:
    """The first instant of a day that must exist."""
    first = _first_instant(day, zone)
    if _to_wall(first, zone) // _DAY != (day - _EPOCH.date()).days:
        raise TimeError(f"{day} does not exist in {zone}, since clocks skip it; write the day before or after")
    return first


def _first_instant(day: date, zone: tzinfo) -> int:
    """The first instant of a day, or of the next one if the zone skips the day."""
    midnight = datetime(day.year, day.month, day.day)
    one, other = (_to_instant(midnight, zone, fold) for fold in (0, 1))
    if one <= other:
        # Midnight exists; if twice, the day begins with the first.
        return one
    # Clocks go forward over midnight, somewhere between these two: PEP 495 takes the offset from before for one, and
    # the offset from after for the other.
    between = range(other, one)
    return other + bisect_left(between, _to_instant(midnight, UTC), key=lambda instant: _to_wall(instant, zone))


def _to_instant(wall: datetime, zone: tzinfo, fold: int = 0) -> int:
    return _to_seconds(wall.replace(tzinfo=zone, fold=fold) - _EPOCH)


def _to_seconds(time: timedelta) -> int:
    return time.days * _DAY + time.seconds


_EARLIEST = _to_instant(datetime.min, UTC) + _DAY
_LATEST = _to_instant(datetime.max, UTC) - _DAY


def _to_wall(instant: int, zone: tzinfo) -> int:
    """What clocks show at the instant, as if they were clocks of UTC; it may be in the year 0 or 10,000."""
    # Offsets are those of a day later or earlier where a `datetime` might not hold the local time.
    local = (_EPOCH + timedelta(seconds=min(max(instant, _EARLIEST), _LATEST))).astimezone(zone)
    return instant + _to_seconds(local.utcoffset() or timedelta())


def describe_start(start: float, zone: tzinfo, moment: float) -> str:
    """When a period starts, for people: ``from 1 December``, or ``from 1 December, 14:00 Europe/Athens``.

    Args:
        start: A period's, finite.
        zone: Whose clocks are meant.
        moment: When it is said: the year is left out if it is the same.
    """
    at = int(start)
    wall = _to_wall(at, zone)
    is_day = _to_wall(at - 1, zone) // _DAY < wall // _DAY
    return f"from {_describe(wall, at, zone, moment, is_day=is_day)}"


def describe_end(end: float, zone: tzinfo, moment: float) -> str:
    """When a period ends, for people: ``until the end of 31 January``, or ``until 31 January, 18:00 Europe/Athens``.

    Args:
        end: A period's, finite.
        zone: Whose clocks are meant.
        moment: When it is said: the year is left out if it is the same.
    """
    at = int(end)
    wall, last = _to_wall(at, zone), _to_wall(at - 1, zone)
    if last // _DAY < wall // _DAY:
        return f"until the end of {_describe(last, at, zone, moment, is_day=True)}"
    return f"until {_describe(wall, at, zone, moment, is_day=False)}"


def _describe(wall: int, instant: int, zone: tzinfo, moment: float, *, is_day: bool) -> str:
    shown, said = _to_datetime(wall), _to_datetime(_to_wall(math.floor(moment), zone))
    # Not by `strftime`, which speaks the language of the machine.
    day = f"{shown.day} {_MONTHS[shown.month - 1]}{'' if shown.year == said.year else f' {shown.year}'}"
    if is_day:
        return day
    is_unclear = _to_instant(shown, zone, 0) != _to_instant(shown, zone, 1)
    offset = _format_offset(wall - instant) if is_unclear else ""
    seconds = f":{shown.second:02}" if shown.second else ""
    return f"{day}, {shown.hour:02}:{shown.minute:02}{seconds}{offset} {zone}"


def _to_datetime(wall: int) -> datetime:
    """What clocks show, or the nearest to it that a `datetime` can hold."""
    return datetime(1970, 1, 1) + timedelta(seconds=min(max(wall, _EARLIEST - _DAY), _LATEST + _DAY))


def _format_offset(seconds: int) -> str:
    minutes, rest = divmod(abs(seconds), 60)
    return f"{'-' if seconds < 0 else '+'}{minutes // 60:02}:{minutes % 60:02}{f':{rest:02}' if rest else ''}"
