"""How weights travel: what `auto` means, and what is refused when the configuration is read."""

from pathlib import Path

import pytest

from medvie_rl.config import Config, load_config
from medvie_rl.errors import ConfigError
from medvie_rl.plan import describe_plan

ROOT = Path(__file__).resolve().parents[2]
GPUS = ("cluster.layout=split",)
SHARED = ("cluster.layout=colocated",)


def config_with(*overrides: str) -> Config:
    return load_config(ROOT / "conf" / "local.yaml", overrides)


@pytest.mark.parametrize(
    ("overrides", "transport", "told"),
    [
        ((), "object_store", "through Ray's object store"),
        (("sync.transport=broadcast",), "broadcast", "broadcast by gloo"),
        (("sync.transport=ipc",), "ipc", "in shared memory"),
        (GPUS, "broadcast", "broadcast by NCCL"),
        ((*GPUS, "sync.transport=object_store"), "object_store", "through Ray's object store"),
        (SHARED, "ipc", "in GPU memory, from each rank to engines beside it"),
        ((*SHARED, "sync.transport=object_store"), "object_store", "through Ray's object store"),
        ((*SHARED, "rollout.sleep_while_learning=true"), "ipc", "from each rank to engines beside it, GPUs"),
        ((*SHARED, "learner.offload_while_sampling=true"), "ipc", "GPUs shared by turns"),
        ((*GPUS, "learner.lora.rank=8"), "broadcast", "the adapter alone, through Ray's object store"),
        ((*GPUS, "learner.lora.rank=8", "sync.adapter=merged"), "broadcast", "broadcast by NCCL"),
    ],
)
def test_the_transport_follows_the_layout(overrides: tuple[str, ...], transport: str, told: str) -> None:
    config = config_with(*overrides)
    assert config.transport == transport
    (line,) = [line for line in describe_plan(config).splitlines() if line.startswith("  weights ")]
    assert told in line


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (("sync.transport=pigeon",), "sync.transport: expected auto or object_store or broadcast or ipc, got 'pigeon'"),
        (("sync.adapter=both",), "sync.adapter: expected apart or merged, got 'both'"),
        (("sync.seconds=0",), "sync.seconds: expected more than 0, got 0"),
        (("rollout.sleep_while_learning=true",), "with cluster.layout cpu no GPU has both"),
        ((*GPUS, "learner.offload_while_sampling=true"), "with cluster.layout split no GPU has both"),
        (("cluster.layout=side_by_side",), "cluster.layout: expected one of cpu, split, colocated, got 'side_by_side'"),
        (("rollout.tensor_parallel_size=2",), "2 needs as many GPUs for each engine, got cluster.layout cpu"),
        ((*SHARED, "learner.num_ranks=3"), "has a rank, got 3 ranks; 2 engines (rollout.num_workers) × 1"),
        (
            (*SHARED, "rollout.sleep_while_learning=true", "pipeline_depth=1", "rails.max_logprob_difference=0"),
            "pipeline_depth: 1 lets engines sample while the learner works",
        ),
        ((*SHARED, "sync.transport=broadcast"), "sync.transport: broadcast is between GPUs of their own"),
        ((*GPUS, "sync.transport=ipc"), "sync.transport: ipc is between engines and ranks on the same GPUs"),
        (("learner.lora.rank=513",), "learner.lora.rank: vLLM takes adapters up to rank 512, got 513"),
        (
            (*SHARED, "learner.offload_while_sampling=true", "learner.zero_stage=3"),
            "learner.offload_while_sampling is for ZeRO-1 and 2",
        ),
    ],
)
def test_what_cannot_work_is_refused(overrides: tuple[str, ...], message: str) -> None:
    with pytest.raises(ConfigError) as raised:
        config_with(*overrides)
    assert message in str(raised.value)


def test_an_adapter_gets_room_for_its_rank() -> None:
    from rollout.config import AdapterSlot

    assert [AdapterSlot(rank=rank, vision=False).room for rank in (1, 2, 8, 9, 512)] == [1, 8, 8, 16, 512]
