"""Is the driver the bottleneck of a large run? The product's own loop with simulated engines and learner ranks.

Everything that the driver does is the real thing: drawing queries, rendering prompts, sending images, placing and
splitting work, collecting rollouts, scoring (a real reward actor), advantages, batches for every rank, records and
metrics. Engines and ranks are real Ray actors in processes of their own, but have no model (see simulated.py).
"""

import json
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from statistics import fmean
from typing import Any

from medvie_rl.bench.product import read_steps
from medvie_rl.bench.types import Result

_CONFIG = Path("conf/qwen2_5_vl_7b.yaml")
_MODEL = "medvie_rl/nano/policy"  # of which the driver needs the processor
_SEED = 1


@dataclass(frozen=True, slots=True, kw_only=True)
class Scale:
    """How large the simulated run is."""

    num_workers: int = 64
    num_ranks: int = 16
    queries_per_step: int = 512
    num_traces: int = 8
    num_steps: int = 6
    num_documents: int = 100

    @property
    def rollouts_per_step(self) -> int:
        return self.queries_per_step * self.num_traces


def bench_driver() -> Result:
    """CPU time of the driver's process for each rollout, all steps but the first."""
    scale = Scale()
    with tempfile.TemporaryDirectory() as folder:
        write_documents(Path(folder) / "data", scale.num_documents)
        _run_apart(Path(folder), scale)
        lines = read_steps(Path(folder) / "run")
    first, steps = lines[0], lines[1:]
    of_step = fmean(step["time/driver_cpu"] for step in steps)
    tokens = fmean(step["rollout/tokens_mean"] for step in steps)
    wall = {name: fmean(step[f"time/{name}"] for step in steps) for name in ("step", "generate", "score", "update")}
    capacity = scale.rollouts_per_step / of_step
    engines = scale.num_workers * engine_rate()
    return Result(
        name="driver_overhead_us_per_rollout",
        value=1e6 / capacity,
        unit=f"us of the driver's CPU time, {scale.num_workers} engines, {scale.num_ranks} ranks",
        better="lower",
        compared_with=(
            f"{of_step:.2f} s of the driver's process for a step of {scale.queries_per_step} queries x "
            f"{scale.num_traces} responses of {tokens:.0f} tokens, so it feeds {capacity:,.0f} rollouts/s; "
            f"{scale.num_workers} engines of Qwen2.5-VL-7B on an H100 each sample {engines:,.0f}/s by the formulas of "
            f"`medvie scale`, {capacity / engines:.1f} times less. Mean of {len(steps)} steps; the first, in which "
            f"most images travel, takes {first['time/driver_cpu']:.2f} s. Wall time of a step {wall['step']:.1f} s: "
            f"engines {wall['generate']:.1f}, the reward actor's one process {wall['score']:.1f}, update and records "
            f"{wall['update']:.1f}; all {scale.num_workers + scale.num_ranks} actors share this machine's cores"
        ),
    )


def engine_rate() -> float:
    """Rollouts that an engine of Qwen2.5-VL-7B on an H100 samples in a second, on paper, when it is full."""
    from medvie_rl.config import load_config
    from medvie_rl.fit.duration import sampling_seconds
    from medvie_rl.fit.gpus import find_gpu
    from medvie_rl.fit.items import Rates, Workload
    from medvie_rl.fit.shape import read_shape

    config = load_config(_CONFIG, ["rollout.num_workers=1"])
    config.queries_per_step = config.rollout.max_num_seqs // config.num_traces
    work = Workload(image_tokens=1300, prompt_tokens=1700, response_tokens=500)  # as `medvie scale` takes them
    seconds = sampling_seconds(config, read_shape(config.model), work, find_gpu("H100"), Rates())
    return config.queries_per_step * config.num_traces / seconds


def write_documents(folder: Path, num: int) -> None:
    """Synthetic pages of all kinds: `num` to train on, one for validation and one to test."""
    from medvie_rl.data.synth.generate import write_documents as write
    from medvie_rl.data.synth.kinds import KINDS

    write(folder, list(KINDS), {"train": num, "validation": 1, "test": 1}, seed=_SEED)


def run_simulated(folder: Path, scale: Scale) -> Path:
    """Train on the documents in `folder/data` without a model; returns the run's folder."""
    from medvie_rl.bench.simulated import SimulatedEngine, SimulatedRank
    from medvie_rl.config import load_config
    from medvie_rl.data.load import load_run_data
    from medvie_rl.environment import set_environment

    set_environment(allow_downloads=False)
    config = load_config(_CONFIG, _overrides(folder, scale))
    from medvie_rl.train import train  # after the environment is set
    from medvie_rl.workers import WorkerClasses

    path = folder / "answers.json"
    path.write_text(json.dumps(right_answers(config, load_run_data(config))), encoding="utf-8")

    class Engine(SimulatedEngine):
        answers = path

    return train(config, folder=folder / "run", classes=WorkerClasses(rollout=Engine, learner=SimulatedRank))


def right_answers(config: Any, data: Any) -> Mapping[str, Mapping[str, Any]]:
    """What the document of every query of a run has of the asked keys, by query id."""
    from medvie_rl.data.queries import QueryStream, evaluation_queries

    stream = QueryStream(data.train, data.schemas, config.queries, seed=config.seed)
    queries = stream.take(0, config.num_steps * config.queries_per_step)
    queries += evaluation_queries([*data.validation, *data.test], data.schemas, reasoning=True)
    return {query.id: dict(query.truth) for query in queries}


def _run_apart(folder: Path, scale: Scale) -> None:
    """The simulated run in a process of its own. Its memory is not watched: of so many processes that takes a core."""
    command = [sys.executable, "-m", "medvie_rl.bench.scaling", str(folder), json.dumps(asdict(scale))]
    finished = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    if finished.returncode:
        raise RuntimeError(f"the simulated run failed: {finished.stdout.strip()[-2000:]}")


def _overrides(folder: Path, scale: Scale) -> list[str]:
    return [
        f"model={_MODEL}",
        f"data.path={folder / 'data'}",
        f"num_steps={scale.num_steps}",
        f"queries_per_step={scale.queries_per_step}",
        f"num_traces={scale.num_traces}",
        f"rollout.num_workers={scale.num_workers}",
        f"learner.num_ranks={scale.num_ranks}",
        "evaluation.every=0",
        "evaluation.bootstrap_samples=1",
        "checkpoint.every=0",
        "wandb.mode=disabled",
        # Actors of which each has a core of its own on a cluster share those of this machine.
        "cluster.layout=cpu",
        "cluster.rollout_cpus=0.01",
        "cluster.learner_cpus=0.01",
        "cluster.pin_cores=never",
        "cluster.object_store_mib=1024",
        "cluster.health_seconds=600",
    ]


def main(arguments: Sequence[str]) -> None:
    """The simulated run, in a process of its own; the arguments are its folder and its scale as JSON."""
    folder, scale = arguments
    run_simulated(Path(folder), Scale(**json.loads(scale)))


if __name__ == "__main__":
    main(sys.argv[1:])
