"""A second opinion: whether a value that the policy answered can be found in the text that OCR finds on the pages."""

from collections.abc import Sequence
from functools import cache

from rapidfuzz import fuzz

from medvie_rl.data.ocr import OcrLine
from rewards.compare import same_meaning
from rewards.schema import FieldSpec
from rewards.values import Scalar, fold_text

_UNCHECKED = ("enum", "boolean")  # "female" is printed as a box with a cross
_TEXTS = ("text", "free_text", "person_name", "code")
_MIN_LIKENESS = 85.0  # of 100: OCR misreads a letter now and then
_MORE_WORDS = 2  # of a window than of the value: "12 Nov 2026" is 2026-11-12
_MAX_WORDS = 6  # of a window


class PageText:
    """The recognised text of a document."""

    def __init__(self, lines: Sequence[OcrLine]) -> None:
        self._words = [word for line in lines for word in line.text.split()]
        self._text = fold_text(" ".join(self._words))
        self.has = cache(self._has)

    def _has(self, spec: FieldSpec, value: Scalar) -> bool | None:
        """Whether the value is there, in whatever convention; None for one whose kind does not let it be told, and
        where no text was found at all."""
        if not self._words or spec.kind in _UNCHECKED:
            return None
        folded = fold_text(value)
        if spec.kind in _TEXTS:
            return fuzz.partial_ratio(folded, self._text) >= _MIN_LIKENESS
        longest = min(_MAX_WORDS, len(folded.split()) + _MORE_WORDS)
        return any(
            same_meaning(spec, " ".join(self._words[start : start + num_words]), value)
            for start in range(len(self._words))
            for num_words in range(1, longest + 1)
        )
