"""Stopping gracefully: the first SIGTERM or SIGINT lets the step end, the second ends the run where it stands."""

import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType

_SIGNALS = (signal.SIGTERM, signal.SIGINT)
_last = signal.SIGINT


class StoppedBySignal(Exception):
    """A run that was asked to stop, and did; `number` is the signal's, `hint` says how to go on."""

    def __init__(self, number: int, hint: str) -> None:
        super().__init__(number, hint)
        self.number, self.hint = number, hint

    def __str__(self) -> str:
        return f"stopped by {signal.Signals(self.number).name}: {self.hint}"


class Interrupts:
    """Which signal came, if any."""

    def __init__(self) -> None:
        self.number = 0


def interrupt_at_sigterm() -> None:
    """From now on SIGTERM ends the process as Ctrl-C does: what was started is ended, too."""
    signal.signal(signal.SIGTERM, _interrupt)


def _interrupt(number: int, _: FrameType | None) -> None:
    global _last
    _last = signal.Signals(number)
    raise KeyboardInterrupt


def interrupted_by() -> signal.Signals:
    """The signal behind a KeyboardInterrupt: an exception of our own would not do, since Ray raises another in place of
    one that comes while it waits."""
    return _last


@contextmanager
def stopping_between_steps(notice: Callable[[str], None]) -> Iterator[Interrupts]:
    """Inside, the first signal is noted only; the second raises KeyboardInterrupt, as one outside does."""
    noted = Interrupts()

    def handle(number: int, _: FrameType | None) -> None:
        if noted.number:
            _interrupt(number, None)
        noted.number = number
        notice(
            f"{signal.Signals(number).name}: stopping when this step is done and a checkpoint written; once more stops "
            "at once"
        )

    before = {number: signal.signal(number, handle) for number in _SIGNALS}
    try:
        yield noted
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
