"""ANLS*, by its authors' package."""

from typing import Any

from rewards.published.pairs import checked

MAX_PAIRS = 5_000_000

# What a comparison costs the authors' code, in pairs of characters; a list is compared three times.
_ITEM, _KEY, _TIMES = 60, 20, 3


def anls_star(truth: Any, answer: Any, *, max_pairs: int = MAX_PAIRS) -> float | None:
    """ANLS* (arXiv 2402.03848) of one answer, 0 to 1.

    An answer of None earns 1 where the truth is null or empty, else 0.

    None, not computed, where more than `max_pairs` pairs of characters would be compared: the authors' code compares
    every item of a list with every other one in pure Python, three times, and a list within a list nine times. It takes
    0.25 s for two tables of 20 × 5 values, 1 s for 40 × 5, at most about 2 s within the limit, and would take 50 s for
    240 × 5. A text that is too long to be any true one costs no more than a short one.
    """
    from anls_star import anls_score  # here, because it takes 0.1 s

    truth, answer = checked(truth, answer)
    if answer is None:
        return float(truth in (None, {}, [], ""))
    if isinstance(truth, list) and isinstance(answer, str):
        if not truth:
            return 0.0  # the authors' code raises
        if all(isinstance(item, str) for item in truth):
            truth = tuple(truth)  # they read such a list as alternatives too, but with a warning
    answer = _shortened(answer, 2 * _longest(truth) + 1)
    if _num_pairs(truth, answer, max_pairs) > max_pairs:
        return None
    return float(anls_score(truth, answer))


def _num_pairs(truth: Any, answer: Any, most: int) -> int:
    """The pairs of characters that are compared, or some number above `most`, found out as soon as it is sure."""
    num = 0
    if isinstance(truth, tuple):
        return sum(_num_pairs(item, answer, most) for item in truth)
    if isinstance(truth, dict) and isinstance(answer, dict):
        for key in truth.keys() | answer.keys():
            num += _KEY
            if key in truth and key in answer:
                num += _num_pairs(truth[key], answer[key], most - num)
            if num > most:
                break
    elif isinstance(truth, list) and isinstance(answer, list):
        num = _TIMES * _ITEM * len(truth) * len(answer)
        for item, other in ((item, other) for item in truth for other in answer):
            if num > most:
                break
            num += _TIMES * _num_pairs(item, other, most - num)
    elif not isinstance(truth, dict | list) and not isinstance(answer, dict | list):
        num = (1 + len(str(truth))) * (1 + len(str(answer)))
    return num


def _longest(value: Any) -> int:
    """The number of characters of the longest scalar, as the authors' code compares it."""
    if isinstance(value, dict):
        return max(map(_longest, value.values()), default=0)
    if isinstance(value, list | tuple):
        return max(map(_longest, value), default=0)
    return len(_normalised(str(value)))


def _shortened(value: Any, length: int) -> Any:
    """`value`, each longer text as one of `length`: less than half alike, which earns 0, to every text of the truth."""
    if isinstance(value, dict):
        return {key: _shortened(item, length) for key, item in value.items()}
    if isinstance(value, list):
        return [_shortened(item, length) for item in value]
    return "x" * length if isinstance(value, str) and len(_normalised(value)) > length else value


def _normalised(text: str) -> str:
    return " ".join(text.strip().lower().split())
