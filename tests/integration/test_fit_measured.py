"""The learner's estimated model states against what a real DeepSpeed engine holds, on the embedded policy."""

import json
import os
import socket
import subprocess
import sys

import pytest

from learner.config import LearnerConfig
from medvie_rl.fit.items import Workload, total
from medvie_rl.fit.learner import learner_memory
from medvie_rl.fit.shape import read_shape

POLICY = "medvie_rl/nano/policy"
UPDATE = """
import gc, json, sys
import torch
import learner.update
from learner.batching import make_update_batches
from learner.config import LearnerConfig
from learner.types import TrainingGroup, TrainingResponse
from learner.worker import LearnerWorker

def held():
    gc.collect()
    tensors = [thing for thing in gc.get_objects() if isinstance(thing, torch.Tensor)]
    return sum({t.untyped_storage().data_ptr(): t.untyped_storage().nbytes() for t in tensors}.values())

config = LearnerConfig(**json.loads(sys.argv[1]))
worker = LearnerWorker(config, sys.argv[2], master_port=int(sys.argv[3]))
before_step = []
step = learner.update.Updater._step

def watched(*arguments):
    before_step.append(held())
    return step(*arguments)

learner.update.Updater._step = watched
responses = tuple(
    TrainingResponse(token_ids=(20, 21, 22 + trace), sampler_logprobs=(-1.0,) * 3, advantage=1.0 - 2 * (trace % 2),
                     trace=trace)
    for trace in range(2)
)
group = TrainingGroup(query_id="q", prompt_ids=(10, 11, 12), image_keys=(), responses=responses)
(batch,) = make_update_batches([group], config, learning_rate=1e-4, temperature=1.0, max_response_tokens=16)
worker.update(batch)
worker.update(batch)
print(json.dumps({"before_step": before_step[-1], "after_step": held()}))
"""


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_model_states_are_those_that_an_engine_holds(dtype: str) -> None:
    """Before the step of the second update gradients are there, and Adam's moments from the first."""
    settings = {"zero_stage": 2, "dtype": dtype}
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    command = [sys.executable, "-c", UPDATE, json.dumps(settings), POLICY, str(port)]
    environment = os.environ | {"PYTHONPATH": os.getcwd(), "OMP_NUM_THREADS": "1"}
    result = subprocess.run(command, capture_output=True, text=True, env=environment)
    assert result.returncode == 0, result.stderr
    found = json.loads(result.stdout.splitlines()[-1])
    work = Workload(image_tokens=0, prompt_tokens=3, response_tokens=3)
    memory = learner_memory(
        LearnerConfig(**settings), read_shape(POLICY), work, needs_reference=False, num_traces=2, on_gpu=False
    )
    gradients = total([item for item in memory.gradients if item.name == "gradients"])
    assert found["after_step"] == pytest.approx(total(memory.states), rel=0.05)
    assert found["before_step"] == pytest.approx(total(memory.states) + gradients, rel=0.05)
