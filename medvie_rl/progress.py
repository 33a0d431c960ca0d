"""How far a command has come with its documents: a bar with rate and time left at a terminal, plain lines elsewhere."""

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn

_SECONDS_BETWEEN_LINES = 10.0


@contextmanager
def show_progress(console: Console, name: str, total: int) -> Iterator[Callable[[int], None]]:
    """Yields what is to be called with the number of documents that are done."""
    columns = (TextColumn(name), BarColumn(bar_width=24), MofNCompleteColumn(), TextColumn("{task.fields[told]}"))
    started = last = time.monotonic()
    with Progress(*columns, console=console, disable=not console.is_terminal, transient=True) as bar:
        task = bar.add_task(name, total=total, told="starting")

        def update(num_done: int) -> None:
            nonlocal started, last
            now = time.monotonic()
            if num_done == 0:  # documents begin: what came before is starting
                started = last = now
                return
            told = rate_and_time_left(num_done, total, now - started)
            bar.update(task, completed=num_done, told=told)
            if not console.is_terminal and num_done < total and now - last >= _SECONDS_BETWEEN_LINES:
                last = now
                console.print(f"{name}: {num_done} of {total} documents, {told}", markup=False)

        yield update


def rate_and_time_left(num_done: int, total: int, seconds: float) -> str:
    """Documents a second, or seconds for one, and how long the rest will take."""
    each = seconds / num_done
    left = round(each * (total - num_done))
    rate = f"{1 / each:.1f} documents/s" if each and each < 1 else f"{each:.1f} s each"
    return f"{rate}, {left // 60}:{left % 60:02d} left"
