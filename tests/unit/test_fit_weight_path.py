"""Seconds of a sync, by hand: gathering, sending, digests, loading."""

from pathlib import Path

import pytest

from medvie_rl.config import load_config
from medvie_rl.fit.gpus import find_gpu
from medvie_rl.fit.items import Rates
from medvie_rl.fit.shape import read_shape
from medvie_rl.fit.weight_path import WeightPath, link_rate, weight_path

BYTES = 2 * (8_292_166_656 - 676_550_144)  # of Qwen2.5-VL-7B in bfloat16, whose frozen vision tower stays
LINK = 0.6 * 450e9  # bytes/s between the GPUs of a node


def path_of(*overrides: str, gpus_per_node: int = 8, network: float = 25.0) -> WeightPath:
    config = load_config(Path("conf/qwen2_5_vl_7b.yaml"), overrides)
    rates = Rates(network=network)
    return weight_path(config, read_shape(config.model), find_gpu("H100"), rates, gpus_per_node=gpus_per_node)


def test_broadcast_within_a_node() -> None:
    """4 ranks under ZeRO-3, 4 engines: 28 layers, embedding and head, each past three hops behind the first engine."""
    path = path_of()
    assert path.num_bytes == BYTES
    assert path.gathering == pytest.approx(BYTES * 3 / 4 / LINK)
    assert path.sending == pytest.approx(BYTES / LINK + 30 * 3 * (5e-6 + 2**19 / LINK))
    assert path.hashing == pytest.approx(BYTES / 1.2e9)
    assert path.loading == pytest.approx(2 * BYTES / 3.35e12)
    assert path.seconds == pytest.approx(path.gathering + path.sending + path.hashing + path.loading)


def test_over_nodes_the_network_is_the_narrowest_link() -> None:
    path = path_of(gpus_per_node=4)  # the ranks on one node, the engines on another
    assert path.gathering == pytest.approx(BYTES * 3 / 4 / LINK)
    assert path.sending == pytest.approx(BYTES / 25e9 + 30 * 3 * (5e-6 + 2**19 / 25e9))
    assert path_of(gpus_per_node=2).gathering == pytest.approx(BYTES * 3 / 4 / 25e9)
    assert link_rate(16, find_gpu("H100"), Rates(network=400), 8) == pytest.approx(270)  # not wider than within a node


def test_more_engines_add_hops_and_nothing_else() -> None:
    few, many = path_of(network=240, gpus_per_node=4), path_of("rollout.num_workers=60", network=240, gpus_per_node=4)
    assert many.sending - few.sending == pytest.approx(30 * 56 * (5e-6 + 2**19 / 240e9))
    assert (many.gathering, many.hashing, many.loading) == (few.gathering, few.hashing, few.loading)


def test_other_ways() -> None:
    assert path_of("rollout.verify_digests=false").hashing == 0
    assert path_of("learner.num_ranks=1", "learner.zero_stage=1").gathering == 0
    store = path_of("sync.transport=object_store")
    assert store.sending == pytest.approx(2 * BYTES / 50e9)  # in and out, one node
    assert path_of("sync.transport=object_store", gpus_per_node=2).sending == pytest.approx(
        2 * BYTES / 50e9 + 2 * BYTES / 25e9  # four nodes: holders double twice
    )
    turns = ("rollout.sleep_while_learning=true", "cluster.layout=colocated")
    assert path_of(*turns).sending == pytest.approx(2 * BYTES / 3.35e12)
    adapter = path_of("learner.lora.rank=16")
    assert adapter.num_bytes == 2 * 16 * 28 * (2 * (3584 + 3584) + 2 * (3584 + 512) + 3 * (3584 + 18944))
