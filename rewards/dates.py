"""Calendar days and times of day: strictly in the order that the schema names, and loosely in any other."""

import re
from datetime import date
from typing import Literal, NamedTuple

DateOrder = Literal["ymd", "dmy", "mdy"]

_ORDERS: tuple[DateOrder, ...] = ("ymd", "dmy", "mdy")
_MAX_READABLE = 200  # characters; a longer text is no date

_DATE_BREAKS = re.compile(r"[-/.,\s年月日]+")
_DATE_FILLERS = frozenset(("ngày", "tháng", "năm", "thg", "de", "del", "of", "the", "le", "den"))
_ORDINAL = re.compile(r"([0-9]{1,2})(?:st|nd|rd|th|er|°|o|a)")  # º folds to o, ª to a
_GLUED = re.compile(r"([0-9]{1,2})([^\W\d_]+)([0-9]{4})")  # 01MAY2021
_WEEKDAY_NAMES = """
monday tuesday wednesday thursday friday saturday sunday mon tue tues wed thu thur thurs fri sat sun
montag dienstag mittwoch donnerstag freitag samstag sonnabend sonntag mo di mi do fr sa so
lundi mardi mercredi jeudi vendredi samedi dimanche lun mar mer jeu ven sam dim
lunes martes miércoles miercoles jueves viernes sábado sabado domingo mié mie jue vie sáb sab dom
segunda terça terca quarta quinta sexta seg ter qua qui sex
星期 星期一 星期二 星期三 星期四 星期五 星期六 周一 周二 周三 周四 周五 周六 周
"""
_WEEKDAYS = frozenset(_WEEKDAY_NAMES.split())
# Weekdays of several words or with a number. "Thứ năm" is Thursday, "năm" alone a year.
_WEEKDAY = re.compile(
    r"(?:thứ (?:hai|ba|tư|năm|sáu|bảy|[2-7])|chủ nhật|(?:segunda|terça|terca|quarta|quinta|sexta)-feira)\b"
)
_MONTH_NAMES = """
january jan jänner jän enero ene janvier janv januar janeiro gennaio
february feb febrero février fevrier févr februar fevereiro fev febbraio
march mar marzo mars märz marz mrz março marco
april apr abril abr avril avr aprile
may mayo mai maio maggio
june jun junio juin juni junho giugno
july jul julio juillet juil juli julho luglio
august aug agosto ago août aout
september sep sept septiembre septembre setembro settembre set
october oct out octubre octobre oktober okt outubro ottobre
november nov noviembre novembre novembro
december dec diciembre dic décembre decembre déc dezember dez dezembro dicembre
"""
_MONTHS = {name: 1 + i for i, names in enumerate(_MONTH_NAMES.strip().splitlines()) for name in names.split()}

_HALF = r"(?P<{}>a\.? ?m\b\.?|p\.? ?m\b\.?|上午|下午)"
_TIME = re.compile(
    rf"(?<![0-9:.,q])(?:{_HALF.format('before')} ?)?(?P<hour>[0-9]{{1,2}})"
    r"(?:(?::| ?(?:h|uhr|giờ) ?|时|時|点|\.(?=[0-9]{2} ?uhr))(?P<minute>[0-9]{2})"
    r"(?:(?::|分)(?P<second>[0-9]{2})(?P<fraction>\.[0-9]{1,6})?)?+(?:[分秒]| phút)?"
    rf"(?: ?(?:{_HALF.format('behind')}|uhr|hrs|h)(?!\w))?| ?{_HALF.format('only')}"
    r"|(?: ?(?:h|uhr|giờ)|[时時点])(?!\w))(?![0-9:])"
)
_TIME_ZONE = re.compile(r"(?<=[0-9]) ?(?:z|utc|gmt)$|(?<=:[0-9]{2}) ?[+-][0-9]{2}:?[0-9]{2}$")
_AROUND_TIME = re.compile(r"^[\s,;()-]+|(?<=[0-9])t$|[\s,;(-]+(?:at|um|à|às|a las|lúc)?[\s,;(-]*$")
_COMPACT_TIME = re.compile(r"([01][0-9]|2[0-3])([0-5][0-9])([0-5][0-9])?")
# Behind a date: whatever follows a time is not looked at.
_TIME_BEHIND = re.compile(r"(?:(?<=[0-9])t| )[0-9]{1,2}:[0-9]{2}.{0,20}$")


class TimeOfDay(NamedTuple):
    """A time as printed: 15:56 is another time than 15:56:00. Fractions of a second stay a text."""

    hour: int
    minute: int
    second: int | None = None
    fraction: str = ""


class Moment(NamedTuple):
    """A day with a time of day."""

    day: date
    time: TimeOfDay


def read_day(text: str, order: DateOrder) -> date | None:
    """The calendar day of a folded text: a four-digit year, its parts in `order`, separated by - / . , or blanks."""
    tokens = _tokens(text)
    return _day_of(tokens, order) if len(tokens) == 3 and len(tokens[order.index("y")]) == 4 else None


def read_time(text: str) -> TimeOfDay | None:
    """The time of day of a folded text: "15:56", "15:56:15", "3:56 pm", "15h56", "15.56 Uhr", "15 Uhr"."""
    match = _TIME.fullmatch(text.removeprefix("t")) if len(text) <= _MAX_READABLE else None
    return _time_of(match) if match else None


def read_moment(text: str, order: DateOrder) -> Moment | None:
    """The day and the time of a folded text, in either order; the day as in `read_day`."""
    if len(text) > _MAX_READABLE:
        return None
    for match in _TIME.finditer(text):
        rests = [_AROUND_TIME.sub("", rest).strip() for rest in (text[: match.start()], text[match.end() :])]
        day, time = read_day(rests[0] or rests[1], order), _time_of(match)
        if day and time and not all(rests):
            return Moment(day, time)
    return None


def same_day(text: str, day: date) -> bool:
    """Whether a folded text means `day` in any order, with a two-digit year, in eight digits, or with a time behind."""
    tokens = _tokens(_TIME_BEHIND.sub("", text))
    if len(tokens) == 1 and re.fullmatch(r"[0-9]{8}", tokens[0]):
        digits = tokens[0]
        splits = ((order, 4, 6) if order == "ymd" else (order, 2, 4) for order in _ORDERS)
        return any(_day_of([digits[:a], digits[a:b], digits[b:]], order) == day for order, a, b in splits)
    if len(tokens) != 3:
        return False
    readings = [_day_of(tokens, order) for order in _ORDERS]
    return any(
        reading is not None
        and (reading.month, reading.day) == (day.month, day.day)
        and reading.year in (day.year, day.year % 100)
        for reading in readings
    )


def same_time(text: str, time: TimeOfDay) -> bool:
    """Whether a folded text means `time`: no seconds for ":00", "1556", a time zone or a day beside it."""
    if len(text) > _MAX_READABLE:
        return False
    text = _TIME_ZONE.sub("", text)
    compact = _COMPACT_TIME.fullmatch(text)
    if compact:
        hour, minute, second = (int(part or 0) for part in compact.groups())
        return _in_seconds(TimeOfDay(hour, minute, second)) == _in_seconds(time)
    matches = list(_TIME.finditer(text))
    reading = _time_of(matches[0]) if len(matches) == 1 else None
    return reading is not None and _in_seconds(reading) == _in_seconds(time)


def same_moment(text: str, moment: Moment) -> bool:
    """Whether a folded text means `moment`, its day as in `same_day` and its time as in `same_time`."""
    text = _TIME_ZONE.sub("", text) if len(text) <= _MAX_READABLE else ""
    match = _TIME.search(text)
    if match is None or not same_time(match[0], moment.time):
        return False
    rests = [_AROUND_TIME.sub("", rest).strip() for rest in (text[: match.start()], text[match.end() :])]
    return not all(rests) and same_day(rests[0] or rests[1], moment.day)


def _tokens(text: str) -> list[str]:
    """The parts of a date without a weekday in front, month names already as numbers marked by a leading "M"."""
    if len(text) > _MAX_READABLE:
        return []
    text = _WEEKDAY.sub("", text, count=1) if _WEEKDAY.match(text) else text
    glued = _GLUED.fullmatch(text)
    tokens = [token for token in _DATE_BREAKS.split(text) if token and token not in _DATE_FILLERS]
    tokens = list(glued.groups()) if glued else tokens
    if len(tokens) == 4 and tokens[0] in _WEEKDAYS:
        tokens = tokens[1:]
    tokens = [match[1] if (match := _ORDINAL.fullmatch(token)) else token for token in tokens]
    return [f"M{_MONTHS[token]}" if token in _MONTHS else token for token in tokens]


def _day_of(tokens: list[str], order: DateOrder) -> date | None:
    """The day that three tokens mean in `order`; a two-digit year stays below 100."""
    parts = dict(zip(order, tokens, strict=True))
    numbers = (parts["y"], parts["m"].removeprefix("M"), parts["d"])
    if not all(part.isascii() and part.isdecimal() and len(part) <= 4 for part in numbers):
        return None
    try:
        return date(*map(int, numbers))
    except ValueError:  # no such day
        return None


def _time_of(match: re.Match[str]) -> TimeOfDay | None:
    hour, minute = int(match["hour"]), int(match["minute"] or 0)
    second = int(match["second"]) if match["second"] else None
    half = match["before"] or match["behind"] or match["only"]
    if half and hour <= 12:
        if hour == 0:
            return None
        hour = hour % 12 + (12 if half[0] in "p下" else 0)
    elif half and half[0] not in "p下":
        return None
    if hour > 23 or minute > 59 or (second or 0) > 59:
        return None
    return TimeOfDay(hour, minute, second, (match["fraction"] or "").rstrip("0").rstrip("."))


def _in_seconds(time: TimeOfDay) -> tuple[int, str]:
    return time.hour * 3600 + time.minute * 60 + (time.second or 0), time.fraction
