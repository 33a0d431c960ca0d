"""What another system reports of its steps on GPUs, and what our formulas say of the same steps."""

from dataclasses import dataclass, replace

from medvie_rl.config import Config
from medvie_rl.fit.duration import encoder_flops, forward_flops, sampling_seconds
from medvie_rl.fit.gpus import find_gpu
from medvie_rl.fit.items import Rates, Workload
from medvie_rl.fit.shape import read_shape

_NUM_GPUS, _QUERIES, _RESPONSES = 8, 512, 5  # rollout_batch_size, rollout.n of EasyR1's examples/config.yaml
_IMAGE_TOKENS = 262_144 // 28**2  # its data.min_pixels, to which the small figures of Geometry3k are enlarged
_TEXT_TOKENS = 150  # assumed
_PASSES = 4 + 2  # forward, backward (twice a forward), checkpointed forward again; old and reference logprobs


@dataclass(frozen=True, slots=True, kw_only=True)
class ReportedStep:
    """A step of GRPO on Geometry3k, 8 H100, learner and engines by turns: EasyR1 v0.3.2, assets/baselines.md."""

    policy: str
    settings: str
    tensor_parallel: int
    seconds: float
    tokens_per_second: float  # and GPU, of prompts and responses
    mfu: float  # of the update, without what is computed again

    @property
    def response_tokens(self) -> int:
        tokens = self.tokens_per_second * _NUM_GPUS * self.seconds / (_QUERIES * _RESPONSES)
        return round(tokens) - _IMAGE_TOKENS - _TEXT_TOKENS


EASYR1 = (
    ReportedStep(policy="7B", settings="defaults", tensor_parallel=2, seconds=145, tokens_per_second=1600, mfu=0.16),
    ReportedStep(policy="7B", settings="tuned", tensor_parallel=2, seconds=120, tokens_per_second=2000, mfu=0.232),
    ReportedStep(policy="32B", settings="defaults", tensor_parallel=8, seconds=530, tokens_per_second=620, mfu=0.258),
)


def estimated_seconds(reported: ReportedStep, config: Config, rates: Rates) -> float:
    """Sampling, and all passes at the speed that the reported MFU means: every response is a row of its own there, and
    the vision tower trains. Weights, optimizer, traffic and scoring are left out.

    Of `config` the engine's settings are used.
    """
    gpu, shape = find_gpu("H100"), read_shape(f"Qwen/Qwen2.5-VL-{reported.policy}-Instruct")
    work = Workload(
        image_tokens=_IMAGE_TOKENS,
        prompt_tokens=_IMAGE_TOKENS + _TEXT_TOKENS,
        response_tokens=reported.response_tokens,
    )
    size = reported.tensor_parallel
    engines = replace(
        config,
        queries_per_step=_QUERIES,
        num_traces=_RESPONSES,
        rollout=replace(config.rollout, num_workers=_NUM_GPUS // size, tensor_parallel_size=size),
    )
    row = forward_flops(shape, work, 1) + encoder_flops(shape, work)
    achieved = reported.mfu * 4 / 3 * _NUM_GPUS * gpu.tflops * 1e12  # MFU counts 3 of an update's 4 passes
    passes = _PASSES * _QUERIES * _RESPONSES * row / achieved
    return sampling_seconds(engines, shape, work, gpu, rates) + passes
