"""What every kind of document composes with: labels in several wordings, dates, amounts, and keys that are left out."""

import random
from collections.abc import Mapping, Sequence
from datetime import date
from typing import Any

from medvie_rl.data.synth.blocks import Pair
from medvie_rl.data.synth.people import record_number, telephone
from medvie_rl.data.synth.words_labels import LABELS, OTHER_PAIRS


def _words(text: str) -> list[str]:
    return text.split()


_MONTHS = {
    "en": _words(
        """
            January February March April May June July August September October November December
            """
    ),
    "de": _words(
        """
            Januar Februar März April Mai Juni Juli August September Oktober November Dezember
            """
    ),
}
_DAY_FIRST = {
    "en": (
        "{d:02}/{m:02}/{y}",
        "{d:02}.{m:02}.{y}",
        "{d:02}-{m:02}-{y}",
        "{d} {month} {y}",
        "{d:02} {mon} {y}",
        "{d:02}-{mon}-{y}",
    ),
    "de": ("{d:02}.{m:02}.{y}", "{d:02}.{m:02}.{y}", "{d}.{m}.{y}", "{d}. {month} {y}", "{d:02}/{m:02}/{y}"),
    "vi": ("{d:02}/{m:02}/{y}", "{d:02}-{m:02}-{y}", "Ngày {d:02} tháng {m:02} năm {y}"),
}
_YEAR_FIRST = ("{y}-{m:02}-{d:02}", "{y}-{m:02}-{d:02}", "{y}/{m:02}/{d:02}", "{y}.{m:02}.{d:02}")


class Draft:
    """A document while it is composed: draws wordings once, leaves optional keys out, and collects the annotation.

    `order` is the date order of the schema: days are printed so, with separators and month names that vary.
    """

    def __init__(
        self, rng: random.Random, language: str, *, order: str = "dmy", left_out: Mapping[str, float] | None = None
    ) -> None:
        self.rng = rng
        self.language = language
        self.annotation: dict[str, Any] = {}
        self._left_out = left_out or {}
        self._day_style = rng.choice(_DAY_FIRST[language] if order == "dmy" else _YEAR_FIRST)
        self._colon = rng.choice(("", "", ":"))
        number_style = rng.random()
        self._groups = number_style < 0.7  # whether thousands are separated

    def label(self, key: str) -> str:
        """One wording of the label of a key."""
        return self.rng.choice(LABELS[self.language][key]) + self._colon

    def heading(self, key: str) -> str:
        """One wording of the label of a key, for a heading or a column."""
        return self.rng.choice(LABELS[self.language][key])

    def keeps(self, key: str) -> bool:
        """Whether a document shows this optional key; drawn with the kind's probability of leaving it out."""
        return self.rng.random() >= self._left_out.get(key, 0.0)

    def pair(self, key: str, printed: str, truth: Any = None) -> list[Pair]:
        """The labelled value of a key with its annotation (as printed unless `truth` is given), or nothing."""
        if not self.keeps(key):
            return []
        self.annotation[key] = printed if truth is None else truth
        return [Pair(label=self.label(key), value=printed)]

    def day(self, day: date) -> str:
        """A day in this document's style."""
        months = _MONTHS.get(self.language, _MONTHS["en"])
        name = months[day.month - 1]
        short = name if len(name) <= 4 else name[:3]
        return self._day_style.format(d=day.day, m=day.month, y=day.year, month=name, mon=short)

    def number(self, value: float, decimals: int) -> str:
        """A number with the language's decimal sign and without separated thousands."""
        text = f"{value:.{decimals}f}"
        return text.replace(".", ",") if self.language in ("de", "vi") else text

    def money(self, cents: int) -> str:
        """An amount in the language's style, without its currency."""
        text = f"{abs(cents) // 100:,}" if self._groups else str(abs(cents) // 100)
        if self.language == "de":
            return f"{'-' if cents < 0 else ''}{text.replace(',', '.')},{abs(cents) % 100:02d}"
        return f"{'-' if cents < 0 else ''}{text}.{abs(cents) % 100:02d}"

    def sex(self, sex: str) -> str:
        """The sex as a form prints it: the letter or the word."""
        words: dict[str, dict[str, tuple[str, ...]]] = {
            "en": {"female": ("F", "Female", "female"), "male": ("M", "Male", "male")},
            "de": {"female": ("w", "weiblich", "W"), "male": ("m", "männlich", "M")},
            "vi": {"female": ("Nữ",), "male": ("Nam",)},
        }
        return self.rng.choice(words[self.language][sex])

    def others(self, most: int = 3) -> list[Pair]:
        """Labelled values that no key asks for, as every form has."""
        labels = self.rng.sample(OTHER_PAIRS[self.language], self.rng.randint(0, most))
        return [Pair(label=label + self._colon, value=self._other(label)) for label in labels]

    def _other(self, label: str) -> str:
        is_phone = any(word in label.lower() for word in ("tel", "phone", "thoại"))
        return telephone(self.rng, self.language) if is_phone else record_number(self.rng)

    def shuffled(self, groups: Sequence[Sequence[Pair]]) -> tuple[Pair, ...]:
        """All pairs, the groups in a random order."""
        order = list(groups)
        self.rng.shuffle(order)
        return tuple(pair for group in order for pair in group)


def random_day(rng: random.Random) -> date:
    """A day between 2012 and 2025."""
    return date.fromordinal(rng.randint(date(2012, 1, 1).toordinal(), date(2025, 12, 31).toordinal()))


def days_later(day: date, days: int) -> date:
    """The day so many days after `day`; before it where negative."""
    return date.fromordinal(day.toordinal() + days)


def sentences(*parts: str) -> str:
    """Sentences joined to running text; empty ones are dropped."""
    return " ".join(part for part in parts if part)
