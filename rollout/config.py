"""Settings of the rollout engine, and the process environment that follows from them."""

from dataclasses import dataclass

_DTYPES = ("float32", "bfloat16", "float16", "auto")
_WAIT_POLICIES = ("PASSIVE", "ACTIVE")
_MAX_TEMPERATURE = 2.0
_ADAPTER_RANKS = (1, 8, 16, 32, 64, 128, 256, 320, 512)  # that vLLM has room for
MAX_ADAPTER_RANK = _ADAPTER_RANKS[-1]
_ALL_TOKENS = {"top_p": 1.0, "top_k": 0, "min_p": 0.0}


@dataclass(kw_only=True)
class AnswerSampling:
    """How an answer is sampled, in evaluation and extraction. By default it is greedy.

    Training's traces know the temperature only: the others cut the distribution and renormalise the rest, so that the
    sampler's logprobs would no longer be those that the learner computes.
    """

    temperature: float = 0.0  # 0 = greedy
    top_p: float = 1.0  # of the most probable tokens, those that together reach this probability; 1 = all
    top_k: int = 0  # so many of the most probable tokens; 0 = all
    min_p: float = 0.0  # tokens with at least this share of the most probable one's probability; 0 = all

    def __post_init__(self) -> None:
        if not 0.0 <= self.temperature <= _MAX_TEMPERATURE:
            raise ValueError(
                f"sampling.temperature must be in [0, {_MAX_TEMPERATURE:g}], 0 for greedy, got {self.temperature}"
            )
        if not 0.0 < self.top_p <= 1.0:
            raise ValueError(f"sampling.top_p must be in (0, 1], 1 for all tokens, got {self.top_p}")
        if self.top_k < 0:
            raise ValueError(f"sampling.top_k must be 0 for all tokens, or their number, got {self.top_k}")
        if not 0.0 <= self.min_p < 1.0:
            raise ValueError(f"sampling.min_p must be in [0, 1), 0 for all tokens, got {self.min_p}")
        cut = [name for name, all_tokens in _ALL_TOKENS.items() if getattr(self, name) != all_tokens]
        if cut and not self.temperature:
            raise ValueError(
                f"sampling.{cut[0]} says which tokens are sampled, but at sampling.temperature 0 answers are greedy; "
                "set a temperature, such as 0.7, or leave it out"
            )


@dataclass(frozen=True, slots=True, kw_only=True)
class AdapterSlot:
    """Room for a LoRA adapter beside an engine's weights."""

    rank: int
    vision: bool  # whether it has layers of the vision tower or the projector

    @property
    def room(self) -> int:
        """The rank that vLLM makes room for."""
        return min(rank for rank in _ADAPTER_RANKS if rank >= self.rank)


@dataclass
class RolloutConfig:
    """How responses are sampled and how large one vLLM engine is. The same fields serve a laptop and a GPU node."""

    num_workers: int = 1  # engines; queries are assigned to them statically
    temperature: float = 1.0  # of training's traces, which are sampled from the whole distribution
    max_response_tokens: int = 256  # longer responses are cut and finish with "length"
    max_model_len: int = 1024  # prompt (image tokens included) plus response
    max_images_per_prompt: int = 1  # pages of one document
    dtype: str = "float32"  # float32 | bfloat16 | float16 | auto (what the checkpoint says)
    block_size: int = 32  # tokens per KV block; only whole blocks of a prompt are shared among its traces; 0: vLLM's
    max_num_seqs: int = 128  # sequences decoded together
    max_num_batched_tokens: int = 2048  # of one engine step, raised to max_model_len if smaller; GPUs: 8192 or more
    enable_prefix_caching: bool = True  # lets the traces of a query share their prompt
    enforce_eager: bool = True  # no compilation or CUDA graphs: starts sooner, needs no compiler; set false on GPUs
    kv_cache_gib: float = 1.0  # size of the KV cache; 0 lets a GPU engine take gpu_memory_utilization instead
    gpu_memory_utilization: float = 0.85  # share of the GPU for weights, activations and KV cache
    tensor_parallel_size: int = 1  # GPUs per engine
    sleep_while_learning: bool = False  # lend the GPU memory of weights and KV cache to the learner during updates
    num_threads: int = 1  # CPU threads per engine; engines and learner together should not exceed the cores
    omp_wait_policy: str = "PASSIVE"  # of waiting OpenMP threads: PASSIVE (sleep) | ACTIVE (spin)
    gomp_spincount: int = 0  # how often a waiting thread of GNU OpenMP looks before it sleeps
    seed: int = 0  # of the engine; every sampled request brings its own
    verify_digests: bool = True  # hash every weight tensor on both sides of a sync
    log_level: str = "ERROR"  # of vLLM's own logger, whose warnings mostly name hardware that is not there

    def __post_init__(self) -> None:
        for name in ("num_workers", "max_response_tokens", "max_images_per_prompt", "max_num_seqs",
                     "max_num_batched_tokens", "tensor_parallel_size", "num_threads"):  # fmt: skip
            if getattr(self, name) < 1:
                raise ValueError(f"rollout.{name} must be at least 1, got {getattr(self, name)}")
        if not 0.0 < self.temperature <= _MAX_TEMPERATURE:
            raise ValueError(
                f"rollout.temperature must be in (0, {_MAX_TEMPERATURE:g}], got {self.temperature}; "
                "greedy is for answers: evaluation.sampling.temperature=0"
            )
        if self.max_response_tokens >= self.max_model_len:
            raise ValueError(
                f"rollout.max_model_len ({self.max_model_len}) holds prompt and response and must be larger than "
                f"rollout.max_response_tokens ({self.max_response_tokens}); raise the first or lower the second"
            )
        if self.dtype not in _DTYPES:
            raise ValueError(f"rollout.dtype must be one of {', '.join(_DTYPES)}, got {self.dtype!r}")
        if self.omp_wait_policy not in _WAIT_POLICIES:
            raise ValueError(
                f"rollout.omp_wait_policy must be {' or '.join(_WAIT_POLICIES)}, got {self.omp_wait_policy!r}"
            )
        if self.gomp_spincount < 0:
            raise ValueError(f"rollout.gomp_spincount must not be negative, got {self.gomp_spincount}")
        if self.block_size < 0 or self.block_size % 32:
            raise ValueError(
                f"rollout.block_size must be a multiple of 32, or 0 for vLLM's default, got {self.block_size}"
            )
        if self.kv_cache_gib < 0:
            raise ValueError(f"rollout.kv_cache_gib must not be negative, got {self.kv_cache_gib}")
        if not 0.0 < self.gpu_memory_utilization < 1.0:
            raise ValueError(f"rollout.gpu_memory_utilization must be in (0, 1), got {self.gpu_memory_utilization}")
        if self.seed < 0:
            raise ValueError(f"rollout.seed must not be negative, got {self.seed}")

    @property
    def max_prompt_tokens(self) -> int:
        """Of the longest prompt, images included, that leaves room for the longest response."""
        return self.max_model_len - self.max_response_tokens

    def too_long(self, num_tokens: int) -> str:
        """Why a prompt of so many tokens cannot be asked, empty if it can."""
        if num_tokens <= self.max_prompt_tokens:
            return ""
        return (
            f"the prompt has {num_tokens} tokens, image included; max_model_len {self.max_model_len} minus "
            f"max_response_tokens {self.max_response_tokens} leaves {self.max_prompt_tokens}"
        )


def worker_environment(config: RolloutConfig) -> dict[str, str]:
    """Environment variables that a rollout process must have before it starts (they are read when libraries load).

    By default waiting threads sleep instead of spinning: spinning at OpenMP barriers starves every other process on the
    machine.
    """
    return {
        "OMP_NUM_THREADS": str(config.num_threads),
        "MKL_NUM_THREADS": str(config.num_threads),
        "OMP_WAIT_POLICY": config.omp_wait_policy,
        "GOMP_SPINCOUNT": str(config.gomp_spincount),
        "TOKENIZERS_PARALLELISM": "false",
        "VLLM_ENABLE_V1_MULTIPROCESSING": "0",  # the engine runs in the actor's process
        "VLLM_CPU_OMP_THREADS_BIND": "nobind",  # several engines would pin themselves to the same cores
        "VLLM_NO_USAGE_STATS": "1",
        "DO_NOT_TRACK": "1",
        "VLLM_LOGGING_LEVEL": config.log_level,
    }
