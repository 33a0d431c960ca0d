"""The recognised text of a document as lines of its prompt: none, the text, or the text with coarse positions.

Training, evaluation and extraction come here with the same settings, so that a policy is asked as it was trained. With
mode `none` no engine is loaded and prompts are what they are without this module, byte for byte.
"""

from bisect import bisect_right
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from medvie_rl.data.ocr import ImageSource, OcrCache, OcrLine, cache_folder
from medvie_rl.data.prompts import PromptTemplate
from medvie_rl.data.store import Document

MODES = ("none", "text", "layout")
_ROWS, _COLUMNS = 20, 4  # a page's grid of positions


@dataclass(kw_only=True)
class OcrConfig:
    """Whether the text that a recognition engine finds on a document goes into its prompt, beside the image."""

    mode: str = "none"  # none | text: the lines | layout: each with its coarse position on the page
    max_tokens: int = 512  # of the policy's tokenizer; whole lines from the top while they fit
    cache: str = ""  # folder of the recognised text, empty: `ocr` in the dataset's folder

    def __post_init__(self) -> None:
        if self.mode not in MODES:
            raise ValueError(f"ocr.mode: expected one of {', '.join(MODES)}, got {self.mode!r}")
        if self.max_tokens < 1:
            raise ValueError(f"ocr.max_tokens: expected at least 1, got {self.max_tokens}; ocr.mode=none asks for none")


@dataclass(frozen=True, slots=True, kw_only=True)
class OcrText:
    """The lines that go into a document's prompt, and how many did not fit."""

    lines: tuple[str, ...] = ()
    num_left_out: int = 0


class OcrPrompts:
    """Gives documents their prompt lines, each document once, and knows what the budget left out."""

    def __init__(self, config: OcrConfig, tokenizer: Any, cache: OcrCache | None) -> None:
        self._config = config
        self._tokenizer = tokenizer
        self._cache = cache
        self._texts: dict[tuple[str, ...], OcrText] = {}  # by the sha256 of the pages

    @classmethod
    def open(cls, config: OcrConfig, tokenizer: Any, dataset: Path | str) -> "OcrPrompts":
        """For the documents of a dataset; raises UserError where recognised text can be kept nowhere."""
        cache = None if config.mode == "none" else OcrCache(cache_folder(dataset, config.cache))
        return cls(config, tokenizer, cache)

    def lines(self, document: Document, source: ImageSource) -> tuple[str, ...]:
        """The document's lines, none with mode `none`; raises ValueError naming a document that cannot be read."""
        if self._cache is None:
            return ()
        if document.image_keys not in self._texts:
            self._texts[document.image_keys] = self._text(self._cache.lines_of(document, source))
        return self._texts[document.image_keys].lines

    def lines_of_image(self, key: str, content: bytes) -> tuple[str, ...]:
        """The same for one image with this sha256; raises ValueError if it cannot be read."""
        if self._cache is None:
            return ()
        if (key,) not in self._texts:
            self._texts[(key,)] = self._text([self._cache.lines_of_page(key, lambda: content)])
        return self._texts[(key,)].lines

    def read(self, documents: Iterable[Document], source: ImageSource, status: Callable[[str], None]) -> None:
        """Read the text of documents ahead, which takes seconds a page, and say what the budget left out."""
        if self._cache is None:
            return
        chosen = list(documents)
        for index, document in enumerate(chosen):
            self.lines(document, source)
            if self._cache.num_read and (index + 1) % 50 == 0:
                status(f"reading the text of the documents ({index + 1} of {len(chosen)})")
        if note := self.note():
            status(note)

    def note(self) -> str:
        """What of the recognised text is in no prompt, empty if all of it is."""
        cut = [text.num_left_out for text in self._texts.values() if text.num_left_out]
        notes = []
        if cut:
            notes.append(
                f"ocr.max_tokens={self._config.max_tokens} left out {sum(cut)} recognised lines of {len(cut)} of "
                f"{len(self._texts)} documents"
            )
        if self._cache is not None and self._cache.num_damaged:
            notes.append(f"{self._cache.num_damaged} damaged files of recognised text were read anew from the pages")
        return "; ".join(notes)

    def _text(self, pages: Sequence[Sequence[OcrLine]]) -> OcrText:
        special = sorted(self._tokenizer.get_added_vocab(), key=len, reverse=True)
        found = prompt_lines(pages, layout=self._config.mode == "layout")
        lines = [without_special_tokens(line, special) for line in found]
        return fit_lines(lines, self._config.max_tokens, self._num_tokens)

    def _num_tokens(self, text: str) -> int:
        return len(self._tokenizer(text, add_special_tokens=False)["input_ids"])


def check_takes_ocr(path: Path | str, template: PromptTemplate) -> None:
    """Raise ValueError for a prompt file that has no place for recognised text, in one of its languages perhaps."""
    for language, asked in {"": template, **template.languages}.items():
        if not asked.takes_ocr:
            of_language = f" for documents in '{language}'" if language else ""
            raise ValueError(
                f"{path}: ocr.mode puts recognised text into prompts, and this one{of_language} has no place for it: "
                "add the entry 'ocr_block' and the place {ocr} to 'reasoning' and 'direct', as in "
                "conf/prompts/qwen2_5_vl.yaml, or set ocr.mode=none"
            )


def prompt_lines(pages: Sequence[Sequence[OcrLine]], *, layout: bool) -> list[str]:
    """The lines of all pages in order. With `layout` each begins with where it starts, such as `[r03 c1]`.

    Rows are counted from 1 to 20 from the top, columns from 1 to 4 from the left; of several pages each line also has
    its page, such as `[p2 r03 c1]`.
    """
    if not layout:
        return [line.text for page in pages for line in page]
    return [
        f"[{f'p{number} ' if len(pages) > 1 else ''}{_position(line)}] {line.text}"
        for number, page in enumerate(pages, start=1)
        for line in page
    ]


def fit_lines(lines: Sequence[str], max_tokens: int, num_tokens: Callable[[str], int]) -> OcrText:
    """Whole lines from the top while they fit the budget, line breaks counted."""
    num_kept = bisect_right(range(1, len(lines) + 1), max_tokens, key=lambda num: num_tokens("\n".join(lines[:num])))
    return OcrText(lines=tuple(lines[:num_kept]), num_left_out=len(lines) - num_kept)


def without_special_tokens(line: str, special: Sequence[str]) -> str:
    """The line with a space in what a tokenizer would take for its own marks, which text on a page must not be."""
    for token in special:
        line = line.replace(token, f"{token[:1]} {token[1:]}")
    return line


def _position(line: OcrLine) -> str:
    middle = (line.box.y0 + line.box.y1) / 2
    row = min(int(middle * _ROWS), _ROWS - 1) + 1
    column = min(int(line.box.x0 * _COLUMNS), _COLUMNS - 1) + 1
    return f"r{row:02d} c{column}"
