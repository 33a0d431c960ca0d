"""The tables of a report as rows: scores, groups of values, and where a change comes from."""

from collections.abc import Iterator
from dataclasses import dataclass

from medvie_rl.report.classes import CLASSES
from medvie_rl.report.data import Compared
from medvie_rl.scoring.report import HEADLINES, shown_groups
from rewards.breakdown import GroupMetrics
from rewards.metrics import GainByErrorClass
from rewards.resampling import Interval


@dataclass(frozen=True, slots=True, kw_only=True)
class ScoreRow:
    """One score before and after, with 95% intervals where there are any."""

    name: str
    before: float
    before_ci95: Interval | None
    after: float
    after_ci95: Interval | None
    change: float
    change_ci95: Interval | None

    @property
    def is_clear(self) -> bool:
        """Whether the interval of the change leaves out 0."""
        return self.change_ci95 is not None and not self.change_ci95[0] <= 0 <= self.change_ci95[1]


@dataclass(frozen=True, slots=True, kw_only=True)
class GroupRow:
    """One group of values before and after; None where a policy answered nothing of it."""

    name: str
    before: GroupMetrics | None
    after: GroupMetrics | None

    @property
    def some(self) -> GroupMetrics:
        """Either one, for what both have in common."""
        found = self.after or self.before
        assert found is not None
        return found

    @property
    def change(self) -> float | None:
        """The change in F1."""
        return self.after.f1 - self.before.f1 if self.before and self.after else None

    @property
    def is_clear(self) -> bool:
        """Whether the two intervals have nothing in common."""
        if not self.before or not self.after:
            return False
        (low, high), (low_after, high_after) = self.before.f1_ci95, self.after.f1_ci95
        return high < low_after or high_after < low


@dataclass(frozen=True, slots=True, kw_only=True)
class GainRow:
    """What became of a class of errors, and its part of the change in F1."""

    outcome: str
    before: int
    after: int
    mended: int
    broken: int
    f1_gain: float


def score_rows(compared: Compared) -> list[ScoreRow]:
    """The headline scores, micro-F1, precision and recall first."""
    before, after = compared.comparison.other.metrics, compared.scores.system.metrics
    difference = compared.comparison.difference
    return [
        ScoreRow(
            name=title,
            before=getattr(before, name),
            before_ci95=getattr(before, f"{name}_ci95", None),
            after=getattr(after, name),
            after_ci95=getattr(after, f"{name}_ci95", None),
            change=getattr(after, name) - getattr(before, name),
            change_ci95=getattr(difference, f"delta_{name}_ci95", None),
        )
        for title, name in HEADLINES
    ]


def group_tables(compared: Compared) -> list[tuple[str, list[GroupRow]]]:
    """(what it is by, rows) of every table by key, kind, document type and so on, as `medvie score` has them."""
    return list(_group_tables(compared))


def _group_tables(compared: Compared) -> Iterator[tuple[str, list[GroupRow]]]:
    before = {(row.group, row.name): row for rows in compared.comparison.other.groups.values() for row in rows}
    for title, rows in shown_groups(compared.scores.system):
        made = [GroupRow(name=row.name, before=before.get((row.group, row.name)), after=row) for row in rows]
        names = {row.name for row in rows}
        gone = [row for row in before.values() if row.group == rows[0].group and row.name not in names]
        yield title, [*made, *(GroupRow(name=row.name, before=row, after=None) for row in gone)]


def gain_rows(gain: GainByErrorClass) -> list[GainRow]:
    """The classes of errors that occur."""
    rows = [
        GainRow(
            outcome=outcome,
            before=getattr(gain.before, outcome),
            after=getattr(gain.after, outcome),
            mended=gain.mended[outcome],
            broken=gain.broken[outcome],
            f1_gain=gain.f1_gain[outcome] + 0.0,  # no -0.000
        )
        for outcome in CLASSES
        if outcome in gain.f1_gain
    ]
    return [row for row in rows if row.before or row.after]
