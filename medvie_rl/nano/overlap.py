"""How a run on slips reads values it never saw: `medvie nano unseen RUN_DIR`.

Names, drugs, diagnoses and the like come from closed lists. A part of each list is in neither the pre-training of the
nano policy nor any training split (see `data/vocabulary.py`); two fifths of the test documents' values are from it.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from medvie_rl.config import Config
from medvie_rl.data.load import load_run_data
from medvie_rl.data.queries import evaluation_queries
from medvie_rl.data.vocabulary import CLOSED_KEYS, is_never_seen
from medvie_rl.errors import UserError
from medvie_rl.run import Run
from rewards.reward import score_response
from rewards.types import Leaf, LeafOutcome, Score


def describe_never_seen(run_dir: Path) -> str:
    """A table: share of closed-list values answered right on the test documents, before and after training."""
    run = Run.open(run_dir)
    scores = [_recorded_scores(run, name) for name in ("before", "after")]
    lines = [f"{'closed-list values of the test documents':<44}{'number':>8}{'before':>9}{'after':>9}"]
    for title, wanted in (("never seen in any training", True), ("in some training list", False)):
        shares = [_share_correct(each, never_seen=wanted) for each in scores]
        lines.append(f"{title:<44}{shares[0][1]:>8}{shares[0][0]:>9.3f}{shares[1][0]:>9.3f}")
    return "\n".join(lines)


def _recorded_scores(run: Run, name: str) -> list[Score]:
    record = run.evaluation(name)
    if record is None:
        raise UserError(f"{run.folder}: the evaluation '{name}' is missing; has the run ended?")
    return _score(run.config, record["documents"])


def _score(config: Config, answers: Sequence[Mapping[str, Any]]) -> list[Score]:
    data = load_run_data(config)
    queries = evaluation_queries(data.test, data.schemas, reasoning=config.evaluation.reasoning)
    return [
        score_response(
            data.schemas[query.document.schema],
            query.keys,
            query.document.annotation,
            answer["response"],
            reasoning=query.reasoning,
            truncated=answer["finish_reason"] == "length",
            config=config.reward,
        )
        for query, answer in zip(queries, answers, strict=True)
    ]


def _share_correct(scores: Sequence[Score], *, never_seen: bool) -> tuple[float, int]:
    leaves: list[Leaf] = [
        leaf
        for score in scores
        for leaf in score.leaves
        if leaf.true is not None and leaf.key in CLOSED_KEYS and is_never_seen(leaf.key, str(leaf.true)) == never_seen
    ]
    correct = sum(leaf.outcome is LeafOutcome.CORRECT for leaf in leaves)
    return (correct / len(leaves) if leaves else 0.0), len(leaves)
