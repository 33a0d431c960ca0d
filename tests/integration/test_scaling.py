"""The simulated run of the scaling benchmark: the product's loop on real actors, with engines and ranks that have no
model."""

import json
import subprocess
import sys
from collections import Counter
from dataclasses import asdict
from pathlib import Path

from medvie_rl.bench.scaling import Scale, write_documents
from runs import ROOT, TIMEOUT_SECONDS, metrics_of, records_of

SCALE = Scale(num_workers=3, num_ranks=2, queries_per_step=7, num_traces=4, num_steps=3, num_documents=10)


def test_every_rollout_is_recorded_and_trained_exactly_once(tmp_path: Path) -> None:
    write_documents(tmp_path / "data", SCALE.num_documents)
    command = [sys.executable, "-m", "medvie_rl.bench.scaling", str(tmp_path), json.dumps(asdict(SCALE))]
    subprocess.run(command, cwd=ROOT, check=True, timeout=TIMEOUT_SECONDS)
    run = tmp_path / "run"

    records = records_of(run)
    found = Counter(record.id for of_step in records.values() for record in of_step)
    numbers = range(SCALE.num_steps * SCALE.queries_per_step)
    assert found == Counter(
        (number // SCALE.queries_per_step + 1, f"train-{number}", trace)
        for number in numbers
        for trace in range(SCALE.num_traces)
    )

    rewards: dict[str, set[float]] = {}
    for record in (record for of_step in records.values() for record in of_step):
        rewards.setdefault(record.query, set()).add(record.reward)
    informative = {query for query, found in rewards.items() if len(found) > 1}
    assert len(informative) > len(numbers) / 2  # answers are right in part
    of_rank = [
        [tuple(response) for response in json.loads(path.read_text(encoding="utf-8"))]
        for path in sorted((run / "checkpoints" / "step-000003").glob("trained-*.json"))
    ]
    assert len(of_rank) == SCALE.num_ranks and all(of_rank)
    trained = Counter(response for responses in of_rank for response in responses)
    assert trained == Counter((query, trace) for query in informative for trace in range(SCALE.num_traces))

    steps = [line for line in metrics_of(run) if "time/step" in line]
    for line in steps:
        of_step = records[line["step"]]
        assert line["loss/num_tokens"] == sum(record.num_tokens for record in of_step if record.query in informative)
        assert {record.weight_version for record in of_step} == {line["step"] - 1}  # a sync after every update
        assert line["time/driver_cpu"] > 0
    assert len(steps) == SCALE.num_steps
