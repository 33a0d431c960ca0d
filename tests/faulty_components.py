"""Reward components of a user that go wrong on the responses of one query, in all ways that a function can.

They import nothing heavy: scoring processes import this module, from a run's own, too.
"""

import ctypes
import os
import signal
import sys
import time
from typing import Any

from rewards.types import Score, ScoreRequest

NOT_A_FUNCTION = 3
CULPRIT = "culprit"


def characters(request: ScoreRequest, score: Score) -> float:
    """A component that works: a hundredth for each character."""
    return len(request.response) / 100


def halves_reward(request: ScoreRequest, score: Score) -> float:
    return -score.reward / 2


def left_of_the_alarm(request: ScoreRequest, score: Score) -> float:
    """Seconds until the kernel would end the process."""
    return signal.getitimer(signal.ITIMER_REAL)[0]


def sleeps(request: ScoreRequest, score: Score) -> float:
    while request.query_id == CULPRIT:
        time.sleep(60)
    return 0.25


def sleeps_deaf(request: ScoreRequest, score: Score) -> float:
    """Only SIGKILL ends it."""
    if request.query_id == CULPRIT:
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
    return sleeps(request, score)


def segfaults(request: ScoreRequest, score: Score) -> float:
    if request.query_id == CULPRIT:
        ctypes.string_at(0)
    return 0.25


def exits(request: ScoreRequest, score: Score) -> float:
    if request.query_id == CULPRIT:
        os._exit(3)
    return 0.25


def quits(request: ScoreRequest, score: Score) -> float:
    if request.query_id == CULPRIT:
        sys.exit("enough")
    return 0.25


def raises(request: ScoreRequest, score: Score) -> float:
    if request.query_id == CULPRIT:
        raise Unpicklable(request, lambda: 0)
    return 0.25


class Unpicklable(Exception):
    """As exceptions of libraries sometimes are."""

    def __init__(self, request: ScoreRequest, function: Any) -> None:
        super().__init__(f"no dose in {request.response!r}")
        self.function = function


def returns_nothing(request: ScoreRequest, score: Score) -> float:
    return None  # type: ignore[return-value]


def returns_true(request: ScoreRequest, score: Score) -> float:
    return True


def returns_nan(request: ScoreRequest, score: Score) -> float:
    return float("nan")


def returns_infinity(request: ScoreRequest, score: Score) -> float:
    return float("-inf")


def returns_huge(request: ScoreRequest, score: Score) -> float:
    return 10**400


def faulty_by_response(request: ScoreRequest, score: Score) -> float:
    """Sleeps for ever or segfaults on some responses, the same in every run, and never on the others."""
    kind = sum(request.response.encode()) % 7
    if kind == 0:
        while True:
            time.sleep(60)
    if kind == 1:
        ctypes.string_at(0)
    return 0.25


def raises_on_any(request: ScoreRequest, score: Score) -> float:
    raise LookupError(f"no dose for {request.document_id}")
