"""Interchangeable actors of which any may die or hang: the others take over its work, and another takes its place."""

import math
import time
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import ray

from cluster.actors import ActorGroup, outcome, say_waiting
from cluster.config import ClusterConfig
from cluster.errors import ClusterError, DeadActorError, GangError

Call = Callable[[Any, Sequence[Any]], Any]
"""(actor, its share of the items) -> reference to a list with one result an item."""

_POLL_SECONDS = 1.0
_MAX_STARTS = 3  # in a row, of a worker that takes the place of a lost one


@dataclass(slots=True)
class _Newcomer:
    """A worker that is being started in the place of a lost one."""

    started: Any  # a reference that is there when it has started
    attempt: int  # from 1, of _MAX_STARTS
    since: float
    say_at: float
    deadline: float  # by which it must have started, if it has a node


class WorkerPool:
    """The workers of an actor group. Work is split statically over those that live when it is submitted."""

    def __init__(
        self,
        group: ActorGroup,
        config: ClusterConfig,
        *,
        what: str,
        prepare: Callable[[Any], Sequence[Any]],
        notice: Callable[[str], None],
    ) -> None:
        """`prepare` calls a worker that took another's place, to bring it to where the others are before it gets any
        work, and returns the references of the calls. `notice` is told of losses and of who is back."""
        self._group, self._config, self._what = group, config, what
        self._prepare, self._notice = prepare, notice
        self._live: dict[int, Any] = dict(enumerate(group.actors))
        self._newcomers: dict[int, _Newcomer] = {}
        self._start_seconds = max(config.call_seconds, config.resource_timeout_seconds)
        self._num_lost = 0
        self._at_work: Counter[Any] = Counter()  # by actor, how many shares it has not done yet

    @property
    def what(self) -> str:
        """What the workers are called, in the singular."""
        return self._what

    @property
    def live(self) -> list[Any]:
        """The workers that take work now."""
        return list(self._live.values())

    @property
    def num_live(self) -> int:
        """Workers that take work now."""
        return len(self._live)

    @property
    def num_lost(self) -> int:
        """Workers that died or hung since the start of the run."""
        return self._num_lost

    def submit(self, items: Sequence[Any], call: Call) -> "Work":
        """Let the workers do `call` on contiguous shares of the items; does not wait for them."""
        self._check_health()
        self._admit()
        work = Work(self, call, len(items))
        start = 0
        for (index, actor), share in zip(list(self._live.items()), _split(items, len(self._live)), strict=True):
            if share:
                work.give(index, actor, range(start, start + len(share)), share)
            start += len(share)
        return work

    def broadcast(self, call: Callable[[Any], Any], what: str) -> list[Any]:
        """Do `call` on every worker that lives; the results of those that still do afterwards, at least one."""
        return self.start_broadcast(call, what).result()

    def start_broadcast(self, call: Callable[[Any], Any], what: str) -> "BroadcastWork":
        """The same without waiting. Workers come to it when they have done what they were asked before."""
        self._admit()
        return BroadcastWork(self, call, what, self._live)

    def lose(self, index: int, actor: Any, why: str) -> None:
        """Give up a worker, and start another in its place. Raises GangError where others use its GPUs, too, of which
        a newcomer would not know who has how much."""
        if self._live.get(index) is not actor:
            return  # it was given up before, for another call
        del self._live[index]
        self._num_lost += 1
        if self._group.shares_gpus(index):
            raise GangError(f"{self._what} {index}, whose GPUs others use, too, is lost ({why})")
        if self._num_lost > self._config.max_lost_workers:
            raise ClusterError(
                f"{self._num_lost} {self._what}s were lost, more than cluster.max_lost_workers = "
                f"{self._config.max_lost_workers}; the last one: {why}. Go on with --resume when the cause is found"
            )
        self._notice(f"{self._what} {index} is lost ({why}); starting another, {self._going_on()}")
        self._start(index, attempt=1)

    # --- newcomers ---------------------------------------------------------------------------------------------------

    def _start(self, index: int, *, attempt: int) -> None:
        started, now = self._group.restart(index).__ray_ready__.remote(), time.monotonic()
        self._newcomers[index] = _Newcomer(
            started=started,
            attempt=attempt,
            since=now,
            say_at=now + self._config.health_seconds,
            deadline=now + self._start_seconds,
        )

    def _admit(self) -> None:
        """Take in the workers that have started meanwhile; wait for one where none is left."""
        waits_until = math.inf
        while True:
            missing = [self._look_after(index, newcomer) for index, newcomer in list(self._newcomers.items())]
            if self._live:
                return
            now, seconds = time.monotonic(), self._config.resource_timeout_seconds
            waits_until = min(waits_until, now + seconds) if all(missing) else math.inf
            if now > waits_until:
                raise ClusterError(
                    f"no {self._what} is left, and no node had room for one within cluster.resource_timeout_seconds = "
                    f"{seconds:g}: each {missing[0]}. Look at the nodes, then go on with --resume"
                )
            ray.wait([newcomer.started for newcomer in self._newcomers.values()], timeout=_POLL_SECONDS)

    def _look_after(self, index: int, newcomer: _Newcomer) -> str:
        """Take in a newcomer that has started; give up one that cannot. Returns what one without a node waits for."""
        if ray.wait([newcomer.started], timeout=0)[0]:
            self._take_in(index, newcomer)
            return ""
        missing, now = self._group.missing(index), time.monotonic()
        if missing:
            newcomer.deadline = now + self._start_seconds  # which count from when it has a node
        elif now > newcomer.deadline:
            self._give_up(index, newcomer, f"it did not start within {self._start_seconds:.0f} s")
            return ""
        if now >= newcomer.say_at:
            waited = now - newcomer.since
            newcomer.say_at = now + waited
            why = f"no node has room for it: {missing}" if missing else "it is starting"
            self._notice(f"{self._what} {index} is still missing after {waited:.0f} s ({why}); {self._going_on()}")
        return missing

    def _take_in(self, index: int, newcomer: _Newcomer) -> None:
        actor = self._group.actors[index]
        try:
            outcome(newcomer.started)
        except DeadActorError as error:
            self._give_up(index, newcomer, error.reason)
            return
        called = time.monotonic()
        for reference in self._prepare(actor):  # what this itself raises is no failure of the newcomer
            try:
                _result_within(self._config.call_seconds, called, reference, "to be where the others are")
            except DeadActorError as error:
                self._give_up(index, newcomer, error.reason)
                return
        del self._newcomers[index]
        self._live[index] = actor
        self._notice(f"{self._what} {index} is back")

    def _give_up(self, index: int, newcomer: _Newcomer, why: str) -> None:
        """Start another in the place of a newcomer that could not take it, a few times."""
        del self._newcomers[index]
        if newcomer.attempt < _MAX_STARTS:
            self._notice(f"{self._what} {index} could not be started ({why}); trying again, {self._going_on()}")
            self._start(index, attempt=newcomer.attempt + 1)
        else:
            ray.kill(self._group.actors[index])
            self._notice(
                f"{self._what} {index} could not be started {_MAX_STARTS} times in a row ({why}) and is given up; "
                f"{self._going_on()}"
            )
            if not self._live and not self._newcomers:
                raise ClusterError(
                    f"no {self._what} is left, and none could be started; the last one: {why}. Go on with --resume "
                    "when the cause is found"
                )

    def _going_on(self) -> str:
        num = len(self._live)
        return f"going on with {num} of {len(self._group.actors)}" if num else "none is left until one has started"

    # --- asking all --------------------------------------------------------------------------------------------------

    def _check_health(self) -> None:
        """Ask every worker for a sign of life, unless some are at work: they would answer behind it."""
        if not self._at_work.total():
            self._ask_all(lambda actor: actor.__ray_ready__.remote(), self._config.health_seconds, "a sign of life")

    def _ask_all(self, call: Callable[[Any], Any], seconds: float, what: str) -> list[Any]:
        """Results of a call of every worker that lives; those without one in that time are lost."""
        called = time.monotonic()
        asked = {index: (actor, call(actor)) for index, actor in self._live.items()}
        results = []
        for index, (actor, reference) in asked.items():
            try:
                results.append(_result_within(seconds, called, reference, what))
            except DeadActorError as error:
                self.lose(index, actor, error.reason)
        return results

    # --- what work tells its pool ------------------------------------------------------------------------------------

    def began(self, actor: Any) -> float:
        """A worker was given something to do; returns how many seconds it has, with what it has to do before."""
        self._at_work[actor] += 1
        return self._config.call_seconds * self._at_work[actor]

    def ended(self, actor: Any) -> None:
        """It is done, or its worker is lost."""
        self._at_work[actor] -= 1

    def another(self, number: int) -> tuple[int, Any]:
        """(index, actor) of a worker that lives, for the work of one that was lost."""
        self._admit()
        indices = sorted(self._live)
        index = indices[number % len(indices)]
        return index, self._live[index]


@dataclass(frozen=True, slots=True)
class _Share:
    index: int
    actor: Any
    places: range
    items: Sequence[Any]
    deadline: float


class Work:
    """Items that the workers of a pool are busy with."""

    def __init__(self, pool: WorkerPool, call: Call, num_items: int) -> None:
        self._pool, self._call = pool, call
        self._results: list[Any] = [None] * num_items
        self._shares: dict[Any, _Share] = {}  # by reference

    def give(self, index: int, actor: Any, places: range, items: Sequence[Any]) -> None:
        """Let a worker do the items that lie at these places."""
        reference = self._call(actor, items)
        self._shares[reference] = _Share(index, actor, places, items, time.monotonic() + self._pool.began(actor))

    def result(self) -> list[Any]:
        """Wait for the work; the results come in the order of the items.

        What a lost worker had to do is done by another. An error that a worker raises is raised as it was there.
        """
        started = said = time.monotonic()
        while self._shares:
            ready, _ = ray.wait(list(self._shares), num_returns=1, timeout=_POLL_SECONDS)
            for reference in ready:
                share = self._shares.pop(reference)
                self._pool.ended(share.actor)
                try:
                    self._results[share.places.start : share.places.stop] = outcome(reference)
                except DeadActorError as error:
                    self._hand_over(share, error.reason)
            for reference, share in list(self._shares.items()):
                late = time.monotonic() > share.deadline
                if late and not ray.wait([reference], timeout=_POLL_SECONDS)[0]:  # it may have been done in time
                    del self._shares[reference]
                    self._pool.ended(share.actor)
                    self._hand_over(share, "it did not finish its work by the deadline (cluster.call_seconds)")
            said = say_waiting(f"{self._pool.what}s", started, said, num_pending=len(self._shares))
        return self._results

    def _hand_over(self, share: _Share, why: str) -> None:
        self._pool.lose(share.index, share.actor, why)
        index, actor = self._pool.another(share.index)
        self.give(index, actor, share.places, share.items)


class BroadcastWork:
    """A call that every worker of a pool was asked for."""

    def __init__(self, pool: WorkerPool, call: Callable[[Any], Any], what: str, workers: Mapping[int, Any]) -> None:
        self._pool, self._call, self._what = pool, call, what
        self._called = time.monotonic()
        self._asked = [(index, actor, call(actor), pool.began(actor)) for index, actor in workers.items()]

    def result(self) -> list[Any]:
        """Wait for it, once; the results of those workers that live, at least one's: where all were lost, those that
        took their places are asked. An error that a worker raises is raised as it was there."""
        results = []
        for index, actor, reference, seconds in self._asked:
            self._pool.ended(actor)
            try:
                results.append(_result_within(seconds, self._called, reference, self._what))
            except DeadActorError as error:
                self._pool.lose(index, actor, error.reason)
        return results or self._pool.broadcast(self._call, self._what)


def _result_within(seconds: float, called: float, reference: Any, what: str) -> Any:
    """Raises DeadActorError when the actor has died, or has not answered in time since it was called."""
    ready, _ = ray.wait([reference], timeout=max(0.0, called + seconds - time.monotonic()))
    if not ready:
        raise DeadActorError(f"it did not answer within {seconds:.0f} s ({what})")
    return outcome(reference)


def _split(items: Sequence[Any], num_parts: int) -> list[Sequence[Any]]:
    """Contiguous parts whose sizes differ by at most one."""
    size, longer = divmod(len(items), num_parts)
    bounds = [size * part + min(part, longer) for part in range(num_parts + 1)]
    return [items[start:end] for start, end in pairwise(bounds)]
