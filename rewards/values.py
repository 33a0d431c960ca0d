"""Scalars of an answer or a truth, and the folded text from which every kind reads its values.

Nothing here depends on the machine's locale, and no input raises.
"""

import re
import unicodedata
from collections.abc import Mapping
from typing import Any

Scalar = str | int | float | bool

_MAX_MARKS = 30  # combining marks in a row (the bound of Unicode's stream-safe text); their order costs squared time
_MARKS = re.compile(rf"\W{{{_MAX_MARKS + 1},}}")
# ① ⒈ ㉑: one sign for a number of a list. NFKC alone reads "①5 mg" as 15 mg, "⒈5" as 1.5 and "① 250" as 1250.
_ENCLOSED = "①-⒛⓪㉑-㉟㊱-㊿\U0001f100-\U0001f10a"
_BEHIND_DIGIT = re.compile(rf"(?<=\d)(?=[{_ENCLOSED}])")
_LIST_NUMBER = re.compile(rf"[{_ENCLOSED}](?=\s*+(?:[\W\d]|[{_ENCLOSED}]))")
_DEGREE = re.compile(r"˚|º(?= ?[cf](?!\w))", re.IGNORECASE)
_SUPERSCRIPTS = re.compile("[⁺⁻]?[⁰¹²³⁴⁵⁶⁷⁸⁹]+")
_FOREIGN_DIGIT = re.compile(r"[^\D0-9]")
_BEFORE_FRACTION = re.compile("(?<=[0-9])(?=[¼½¾⅐-⅞])")
_FOLDS = str.maketrans(
    {
        **dict.fromkeys("‐‑‒–—―−﹣", "-"),
        **dict.fromkeys("’‘‛′", "'"),
        **dict.fromkeys("“”„″", '"'),
        **{"⁄": "/", "∕": "/", "∶": ":", "。": ".", "、": ",", "〜": "~"},
    }
)
# Zero-width and bidirectional signs, soft hyphen: nobody sees them on the page.
_INVISIBLE = dict.fromkeys(
    [0xAD, 0x61C, 0xFEFF, *range(0x200B, 0x2010), *range(0x202A, 0x202F), *range(0x2060, 0x2070)]
)


def is_scalar(value: object) -> bool:
    """Whether `value` is one JSON value other than null."""
    return isinstance(value, str | int | float | bool)


def is_left_out(value: object) -> bool:
    """Whether `value` says nothing: null, a blank text, or a list or object of only such values.

    A placeholder such as "n/a", "none" or "-" is not left out: it is an answer, and wrong where the key is absent.
    """
    if value is None:
        return True
    if isinstance(value, str):
        return not value.strip()
    if isinstance(value, Mapping):
        return all(map(is_left_out, value.values())) and all(is_left_out(item) for _, item in repeated_keys(value))
    if isinstance(value, list | tuple):
        return all(map(is_left_out, value))
    return False


def repeated_keys(value: Mapping[str, Any]) -> list[tuple[str, Any]]:
    """The second and later occurrences of keys in a parsed JSON object (see `rewards.parsing.JsonObject`)."""
    return getattr(value, "repeated", [])


def leaf_values(value: object) -> list[Scalar]:
    """Every scalar anywhere inside `value` that is not left out."""
    if isinstance(value, Mapping):
        items = [*value.values(), *(item for _, item in repeated_keys(value))]
        return [leaf for item in items for leaf in leaf_values(item)]
    if isinstance(value, list | tuple):
        return [leaf for item in value for leaf in leaf_values(item)]
    return [] if is_left_out(value) or not isinstance(value, str | int | float | bool) else [value]


def fold_text(value: Scalar, *, keep_case: bool = False) -> str:
    """`value` as text in NFKC and lower case, with plain digits, dashes and quotes, and single blanks.

    Powers are written out (10⁹ is "10^9", 1½ is "1 1/2"), list numbers set apart (①5 is "1. 5"); signs that nobody
    sees are dropped.
    """
    text = value if isinstance(value, str) else _json_text(value)
    if not text.isascii():
        text = _MARKS.sub(_without_endless_marks, text.translate(_INVISIBLE))
        text = _LIST_NUMBER.sub(_set_apart, _BEHIND_DIGIT.sub(" ", _DEGREE.sub("°", text)))
        text = _SUPERSCRIPTS.sub(lambda match: "^" + match[0], text)  # NFKC alone: 10⁹ is 109
        text = unicodedata.normalize("NFKC", _BEFORE_FRACTION.sub(" ", text)).translate(_FOLDS)
        text = _FOREIGN_DIGIT.sub(lambda match: str(unicodedata.decimal(match[0])), text)
        text = unicodedata.normalize("NFKC", text if keep_case else text.casefold())
    return " ".join((text if keep_case else text.lower()).split())


def _without_endless_marks(match: re.Match[str]) -> str:
    kept, in_a_row = [], 0
    for char in match[0]:
        in_a_row = in_a_row + 1 if unicodedata.combining(char) else 0
        if in_a_row <= _MAX_MARKS:
            kept.append(char)
    return "".join(kept)


def _set_apart(match: re.Match[str]) -> str:
    """A list number so that no digit behind it becomes a part of it: ① is "1. "."""
    plain = unicodedata.normalize("NFKC", match[0])
    return f"{plain}. " if plain[-1].isdecimal() else f"{plain} "


def _json_text(value: int | float | bool) -> str:
    if isinstance(value, bool):
        return "true" if value else "false"
    try:
        return repr(value)
    except ValueError:  # an integer of more digits than Python prints
        return hex(value)  # type: ignore[arg-type]
