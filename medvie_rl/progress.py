"""How far a command has come with its documents: a bar with rate and time left at a terminal, elsewhere a line now and
then. Both go to standard error, since standard output may hold the result."""

import sys
import time
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from typing import TypeVar

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, TextColumn
from rich.progress import Progress as Bar

T = TypeVar("T")
_SECONDS_BETWEEN_LINES = 10.0


class Progress:
    """What long work tells of itself. Nobody sees it, unless `show_progress` made it."""

    def begin(self, total: int) -> None:
        """So many things are to be done, from now on; what came before was starting."""

    def advance(self, num: int = 1) -> None:
        """So many more of them are done."""

    def each(self, items: Iterable[T]) -> Iterator[T]:
        """The items, of which each is done when the next one is asked for."""
        for item in items:
            yield item
            self.advance()

    def batches(self, items: Sequence[T], size: int) -> Iterator[Sequence[T]]:
        """The same, up to `size` of them at a time."""
        for start in range(0, len(items), size):
            batch = items[start : start + size]
            yield batch
            self.advance(len(batch))


UNSEEN = Progress()


@contextmanager
def show_progress(name: str, things: str = "documents") -> Iterator[Progress]:
    """A progress that is seen: `name` says what is done to the `things`."""
    console = Console(stderr=True, highlight=False)
    columns = (TextColumn(name), BarColumn(bar_width=24), MofNCompleteColumn(), TextColumn("{task.fields[told]}"))
    with Bar(
        *columns,
        console=console,
        disable=not console.is_terminal,
        transient=True,
        redirect_stdout=sys.stdout.isatty(),  # else what goes into a file would come out at the terminal
    ) as bar:
        yield _Shown(console, bar, name, things)


class _Shown(Progress):
    def __init__(self, console: Console, bar: Bar, name: str, things: str) -> None:
        self._console = console
        self._bar = bar
        self._name, self._things = name, things
        self._task = bar.add_task(name, total=None, told="starting")
        self.begin(0)

    def begin(self, total: int) -> None:
        self._total, self._num_done = total, 0
        self._started = self._last = time.monotonic()
        self._bar.update(self._task, total=total or None, completed=0)

    def advance(self, num: int = 1) -> None:
        self._num_done += num
        now = time.monotonic()
        told = rate_and_time_left(self._num_done, self._total, now - self._started, self._things)
        self._bar.update(self._task, completed=self._num_done, told=told)
        is_due = self._num_done < self._total and now - self._last >= _SECONDS_BETWEEN_LINES
        if is_due and not self._console.is_terminal:
            self._last = now
            text = f"{self._name}: {self._num_done} of {self._total} {self._things}, {told}"
            self._console.print(text, markup=False, soft_wrap=True)


def rate_and_time_left(num_done: int, total: int, seconds: float, things: str = "documents") -> str:
    """Things a second, or seconds for one, and how long the rest will take."""
    each = seconds / num_done
    left = round(each * (total - num_done))
    rate = f"{1 / each:.1f} {things}/s" if each and each < 1 else f"{each:.1f} s each"
    return f"{rate}, {left // 60}:{left % 60:02d} left"
