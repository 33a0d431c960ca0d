"""Scores of several systems on the same documents, each against the baseline."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from medvie_rl.evaluation.documents import EvaluationSet
from medvie_rl.evaluation.predictions import Made, predictions_path
from medvie_rl.progress import UNSEEN, Progress
from medvie_rl.scoring.inputs import read_predictions, read_truth
from medvie_rl.scoring.systems import ScoreReport, System, compare_systems, score_predictions


@dataclass(frozen=True, slots=True, kw_only=True)
class Evaluated:
    """One system: what it was made from, whether that was reused, and its scores as `medvie score` has them.

    The baseline has no comparison.
    """

    name: str
    made: Made
    is_reused: bool
    report: ScoreReport

    @property
    def system(self) -> System:
        return self.report.system


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """All systems in the order in which they were named; `baseline` is the name of one of them."""

    dataset: str
    split: str
    num_documents: int
    baseline: str
    seed: int
    num_resamples: int
    systems: tuple[Evaluated, ...]

    @property
    def others(self) -> tuple[Evaluated, ...]:
        """All but the baseline."""
        return tuple(each for each in self.systems if each.name != self.baseline)


def score_all(
    out: Path,
    truth: Path,
    documents: EvaluationSet,
    made: Sequence[tuple[str, Made, bool]],
    *,
    baseline: str,
    with_published: bool,
    num_resamples: int,
    seed: int,
    progress: Progress = UNSEEN,
) -> Outcome:
    """Score the predictions that lie in `out`; `made` are (name of a system, what it was made from, reused)."""
    annotated = read_truth(truth, list(documents.schemas.values()))
    scored = {
        name: score_predictions(
            name,
            read_predictions(predictions_path(out, name), annotated),
            annotated,
            frequencies=documents.frequencies,
            with_published=with_published,
            num_resamples=num_resamples,
            seed=seed,
            progress=progress,
        )
        for name, _, _ in made
    }

    def report(name: str, note: str) -> ScoreReport:
        return ScoreReport(
            title=name,
            cases=tuple(annotated.cases.values()),
            system=scored[name],
            comparison=None
            if name == baseline
            else compare_systems(
                scored[name], scored[baseline], (baseline, name), num_resamples=num_resamples, seed=seed
            ),
            seed=seed,
            notices=(note,) if note else (),
        )

    return Outcome(
        dataset=documents.dataset,
        split=documents.split_name,
        num_documents=len(annotated.cases),
        baseline=baseline,
        seed=seed,
        num_resamples=num_resamples,
        systems=tuple(
            Evaluated(name=name, made=each, is_reused=is_reused, report=report(name, each.note))
            for name, each, is_reused in made
        ),
    )
