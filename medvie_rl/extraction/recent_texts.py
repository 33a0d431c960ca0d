"""Recognised text that is kept for a while."""

import threading
from collections import OrderedDict
from collections.abc import Callable

from medvie_rl.data.ocr import OcrCache, OcrLine

_NUM_TEXTS = 256  # pages


class RecentTexts(OcrCache):
    """The recognised text of the pages that were read last: prompt and check need it, a service must not keep all.

    Threads may share it; one page is read at a time.
    """

    def __init__(self) -> None:
        super().__init__(None)
        self._recent: OrderedDict[str, tuple[OcrLine, ...]] = OrderedDict()
        self._lock = threading.Lock()

    def lines_of_page(self, key: str, content: Callable[[], bytes]) -> tuple[OcrLine, ...]:
        with self._lock:
            if key not in self._recent:
                self._recent[key] = super().lines_of_page(key, content)
            self._recent.move_to_end(key)
            while len(self._recent) > _NUM_TEXTS:
                self._recent.popitem(last=False)
            return self._recent[key]
