"""Supervised fine-tuning in the training loop: demonstrations as the learner takes them, and one step on them.

The same policy learns through the same learner as under reinforcement learning, from queries about the same documents:
what differs is that the response is given, not sampled. It is the baseline that the paper compares with, and a warm
start where there are reasoning traces.
"""

from collections.abc import Callable, Collection, Iterable
from pathlib import Path
from statistics import fmean
from typing import Any

from learner.config import learning_rate_at
from learner.errors import NonFiniteError
from learner.types import TrainingGroup, TrainingResponse
from medvie_rl.batch import update_metrics
from medvie_rl.config import Config
from medvie_rl.data.load import RunData
from medvie_rl.data.queries import Query
from medvie_rl.demonstrations import Demonstration, DemonstrationStream
from medvie_rl.errors import ConfigError
from medvie_rl.run import Run, RunState
from medvie_rl.timing import Stopwatch
from medvie_rl.traces import Traces, read_traces
from medvie_rl.workers import Workers
from rollout.prompts import prompt_token_ids

_STATISTICS = ("loss", "gradient_norm", "entropy", "num_tokens", "num_optimizer_steps")  # the others compare samplers
_MAX_SHOWN = 5


class Responses:
    """Turns responses into tokens as the engine would have sampled them."""

    def __init__(self, processor: Any, model: str, *, banned_token_ids: Collection[int], max_tokens: int) -> None:
        """`banned_token_ids` are never sampled; a response has `max_tokens` at most (rollout.max_response_tokens)."""
        self._tokenizer = processor.tokenizer
        self._end_of_turn = end_of_turn_id(processor, model)
        self._reserved = {self._end_of_turn, *banned_token_ids}
        self._max_tokens = max_tokens

    def token_ids(self, demonstration: Demonstration) -> tuple[int, ...]:
        """The response's tokens [R], the end of the turn last."""
        ids = self._tokenizer(demonstration.response, add_special_tokens=False)["input_ids"]
        return (*ids, self._end_of_turn)

    def check(self, demonstrations: Iterable[Demonstration]) -> None:
        """Raise ConfigError, naming the documents, for responses that are too long or hold a forbidden token."""
        too_long: dict[str, int] = {}
        for demonstration in demonstrations:
            document = demonstration.query.document.id
            ids = self.token_ids(demonstration)
            for token_id in self._reserved.intersection(ids[:-1]):
                raise ConfigError(
                    f"document '{document}': the response holds {self._tokenizer.decode([token_id])!r}, which ends a "
                    "turn or stands for an image; remove it from the annotation or the trace"
                )
            if len(ids) > self._max_tokens:
                too_long[document] = max(too_long.get(document, 0), len(ids))
        if too_long:
            shown = ", ".join(f"'{name}' ({length} tokens)" for name, length in list(too_long.items())[:_MAX_SHOWN])
            raise ConfigError(
                f"the responses of {len(too_long)} documents are longer than rollout.max_response_tokens = "
                f"{self._max_tokens}: {shown}; raise it, or lower queries.max_keys"
            )


class Demonstrations:
    """The demonstrations of a run as training groups, one response each."""

    def __init__(self, config: Config, data: RunData, workers: Workers, notice: Callable[[str], None]) -> None:
        """Checks the responses of the whole run.

        Raises ConfigError, naming file and line or the documents, for traces that cannot be used and for responses
        that are too long.
        """
        self._config = config
        self._workers = workers
        self._responses = Responses(
            workers.processor,
            config.model,
            banned_token_ids=workers.banned_token_ids,
            max_tokens=config.rollout.max_response_tokens,
        )
        traces = _read_traces(config, data)
        self._stream = DemonstrationStream(
            data.train,
            data.schemas,
            config.queries,
            seed=config.seed,
            traces=traces,
            compact=config.sft.compact_json,
        )
        self.num_skipped = self._stream.num_skipped
        if traces is not None:
            notice(f"{self.num_skipped} of {len(data.train)} training documents have no trace and are left out")
        self._responses.check(map(self._stream.at, range(config.num_steps * config.queries_per_step)))

    def take(self, step: int) -> tuple[list[Query], list[TrainingGroup]]:
        """The queries of a step (from 0) and for each a group; queries of the same document are groups of their own."""
        size = self._config.queries_per_step
        demonstrations = self._stream.take(step * size, size)
        return [entry.query for entry in demonstrations], [self._group(entry) for entry in demonstrations]

    def _group(self, demonstration: Demonstration) -> TrainingGroup:
        query = demonstration.query
        sizes = [(height, width) for width, height in query.document.image_sizes]
        prompt_ids = prompt_token_ids(self._workers.processor, self._workers.prompt(query), sizes)
        token_ids = self._responses.token_ids(demonstration)
        room = self._config.rollout.max_model_len - len(token_ids)
        if len(prompt_ids) > room:
            raise ConfigError(
                f"document '{query.document.id}', query {query.id}: the prompt has {len(prompt_ids)} tokens, images "
                f"included, but rollout.max_model_len leaves {room} beside the response; raise it"
            )
        response = TrainingResponse(token_ids=token_ids, sampler_logprobs=None, advantage=1.0)
        return TrainingGroup(
            query_id=query.id,
            prompt_ids=prompt_ids,
            image_keys=query.document.image_keys,
            responses=(response,),
        )


def sft_step(
    step: int, state: RunState, run: Run, workers: Workers, demonstrations: Demonstrations
) -> dict[str, float]:
    """One update on the demonstrations of step `step`; returns its metrics. `loss/loss` is the negative log-likelihood
    per token. The engines get the weights when they are asked next, at an evaluation.

    Raises FloatingPointError, naming the documents, if the loss is not finite.
    """
    config, watch = run.config, Stopwatch()
    with watch("demonstrations"):
        queries, groups = demonstrations.take(step)
    learning_rate = learning_rate_at(config.learner, step, config.num_steps)
    try:
        with watch("update"):
            stats, cost = workers.update(queries, groups, learning_rate=learning_rate, step=step)
    except NonFiniteError as error:
        documents = sorted({query.document.id for query in queries if query.id in error.queries})
        raise FloatingPointError(f"step {step + 1}: {error}. Documents: {', '.join(documents)}") from error
    state.weight_version += 1
    metrics = {
        name: value
        for name, value in update_metrics(stats, cost).items()
        if not name.startswith("loss/") or name.removeprefix("loss/") in _STATISTICS
    }
    metrics |= {
        "loss/learning_rate": learning_rate,
        "sync/weight_version": state.weight_version,
        "sft/tokens_mean": fmean(len(group.responses[0].token_ids) for group in groups),
        "sft/skipped_documents": float(demonstrations.num_skipped),
    }
    return metrics | watch.metrics()


def end_of_turn_id(processor: Any, model: str) -> int:
    """The token with which the policy's chat template ends a turn.

    Raises ConfigError if the engine would not stop there: a policy taught to end so would go on for ever.
    """
    from transformers import GenerationConfig

    turn = [("user", "question"), ("assistant", "answer")]
    messages = [{"role": role, "content": [{"type": "text", "text": text}]} for role, text in turn]
    rendered = processor.apply_chat_template(messages, tokenize=False)
    behind = processor.tokenizer(rendered.rpartition("answer")[2], add_special_tokens=False)["input_ids"]
    stops = {processor.tokenizer.eos_token_id}
    try:
        configured = GenerationConfig.from_pretrained(model).eos_token_id
    except OSError:  # a policy without generation_config.json
        configured = None
    stops |= set(configured) if isinstance(configured, list) else {configured}
    if not behind or behind[0] not in stops:
        found = processor.tokenizer.decode(behind[:1])
        raise ConfigError(
            f"model: the chat template of {model} ends a turn with {found!r}, where the engine does not stop; name "
            "it in eos_token_id of generation_config.json"
        )
    return int(behind[0])


def _read_traces(config: Config, data: RunData) -> Traces | None:
    if not config.sft.traces:
        return None
    documents = {document.id: document for document in data.splits[0]}  # num_train may take a part
    modes = {0.0: (False,), 1.0: (True,)}.get(config.queries.reasoning_fraction, (True, False))
    source, least = Path(config.sft.traces), config.sft.min_reward
    return read_traces(source, documents, data.schemas, min_reward=least, modes=modes)
