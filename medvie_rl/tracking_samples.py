"""What W&B shows beside a step's numbers: how rewards and lengths are distributed, and some rollouts as a table."""

import io
import json
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from medvie_rl.data.store import Document
from medvie_rl.records import RolloutRecord

COLUMNS = (
    "document", "step", "query", "trace", "asked keys", "reward", "components", "precision", "recall", "status",
    "tokens", "outcomes",
)  # fmt: skip
VALUES = ("image", "response", "truth")  # which hold patient data

DocumentOf = Callable[[str], tuple[Document, Mapping[str, bytes]] | None]
"""A document by its id, with the encoded images of its pages; None for one that is not there."""


def histograms(path: Path) -> dict[str, Any]:
    """Of rewards and response lengths in a step's records, for W&B; no other column is read, at every step."""
    import pyarrow.parquet as pq
    import wandb

    table = pq.read_table(path, columns=["reward", "num_tokens"])
    if not table.num_rows:
        return {}
    return {
        "reward/distribution": wandb.Histogram(table["reward"].to_pylist()),
        "rollout/tokens_distribution": wandb.Histogram(table["num_tokens"].to_pylist()),
    }


def choose_samples(records: Sequence[RolloutRecord], num: int) -> list[RolloutRecord]:
    """As many from the lowest to the highest reward, evenly by rank; of equals in the order of the queries."""
    ordered = sorted(records, key=lambda record: (record.reward, record.query, record.trace))
    if len(ordered) <= num:
        return ordered
    return [ordered[round(index * (len(ordered) - 1) / max(1, num - 1))] for index in range(num)]


def sample_table(records: Sequence[RolloutRecord], document_of: DocumentOf | None) -> Any:
    """The rollouts as a table of W&B; with `document_of` also what they look like, answered and should have."""
    import wandb

    table = wandb.Table(columns=[*COLUMNS, *(VALUES if document_of else ())])
    for record in records:
        row: list[Any] = [
            record.document, record.step, record.query, record.trace, ", ".join(record.keys), record.reward,
            _numbers(record.components), record.precision, record.recall, record.status.value, record.num_tokens,
            "; ".join(f"{key}: {outcome.value}" for key, outcome in record.outcomes),
        ]  # fmt: skip
        if document_of:
            row += _values(record, document_of(record.document))
        table.add_data(*row)
    return table


def _numbers(components: Mapping[str, float]) -> str:
    return ", ".join(f"{name} {value:.3f}" for name, value in components.items())


def _values(record: RolloutRecord, found: tuple[Document, Mapping[str, bytes]] | None) -> list[Any]:
    import wandb
    from PIL import Image

    if found is None:
        return [None, record.response, None]
    document, pages = found
    with Image.open(io.BytesIO(next(iter(pages.values())))) as image:
        shown = wandb.Image(image.convert("RGB"))
    truth = {key: document.annotation[key] for key in record.keys if key in document.annotation}
    return [shown, record.response, json.dumps(truth, ensure_ascii=False)]
