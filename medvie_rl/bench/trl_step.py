"""Steps of TRL's GRPOTrainer on the shipped policy, timed: `python -m medvie_rl.bench.trl_step NAME NUM_STEPS [ROWS]`.

The same queries, prompts, reward, group size, token limit, sampling, loss and frozen vision tower as ours, in float32
on as many threads. Generation is transformers': TRL's vLLM takes the memory of a CUDA device. ROWS is the number of
responses in a micro-batch.
"""

import json
import os
import sys
import tempfile
import time
from collections.abc import Sequence
from typing import Any

from medvie_rl.bench.step_settings import NUM_CORES, learner_config, step_config, step_queries, user_text
from medvie_rl.config import Config
from medvie_rl.data.load import RunData, load_run_data
from medvie_rl.data.queries import Query
from medvie_rl.environment import set_environment

MICRO_BATCH_ROWS = 48  # the fastest of 24, 48 and 96 here


def main(step: str, num_steps: int, rows: int = MICRO_BATCH_ROWS) -> dict[str, Any]:
    """`seconds` of every step, the first (warm-up) included, and `tokens` sampled in each."""
    config = step_config(step)
    _prepare_environment(step)
    import torch

    torch.set_num_threads(NUM_CORES)
    data = load_run_data(config)
    queries = step_queries(config, data, num_steps)
    lengths: list[int] = []
    with tempfile.TemporaryDirectory() as folder:
        trainer, clock = _trainer(config, data, queries, lengths, folder, num_steps, rows)
        prompt_ids = _record_prompts(trainer)
        trainer.train()
    _check_prompts(trainer.processing_class, data, queries, prompt_ids)
    of_step = len(lengths) // num_steps
    return {"seconds": clock.seconds, "tokens": [sum(lengths[i * of_step :][:of_step]) for i in range(num_steps)]}


def _prepare_environment(step: str) -> None:
    from medvie_rl.workers import learner_environment

    set_environment(allow_downloads=False)
    os.environ.update(learner_environment(learner_config(step, num_ranks=1), on_gpu=False))
    os.environ["CUDA_VISIBLE_DEVICES"] = ""


def _trainer(
    config: Config,
    data: RunData,
    queries: Sequence[Query],
    lengths: list[int],
    folder: str,
    num_steps: int,
    rows: int,
) -> tuple[Any, Any]:
    import torch
    from datasets import Dataset
    from transformers import AutoModelForImageTextToText, AutoProcessor, TrainerCallback
    from trl import GRPOConfig, GRPOTrainer

    class Clock(TrainerCallback):  # type: ignore[misc]
        """Seconds from the end of one step to that of the next."""

        def __init__(self) -> None:
            self.seconds: list[float] = []
            self._last = 0.0

        def on_train_begin(self, *_: Any, **__: Any) -> None:
            self._last = time.perf_counter()

        def on_step_end(self, *_: Any, **__: Any) -> None:
            now = time.perf_counter()
            self.seconds.append(now - self._last)
            self._last = now

    processor = AutoProcessor.from_pretrained(config.model, padding_side="left")
    model = AutoModelForImageTextToText.from_pretrained(config.model, dtype=torch.float32, use_safetensors=True)
    model.model.visual.requires_grad_(False)
    loss, learner = config.loss, config.learner
    arguments = GRPOConfig(
        output_dir=folder,
        per_device_train_batch_size=rows,
        gradient_accumulation_steps=config.queries_per_step * config.num_traces // rows,
        num_generations=config.num_traces,
        max_completion_length=config.rollout.max_response_tokens,
        temperature=config.rollout.temperature,
        top_p=1.0,
        top_k=0,
        generation_kwargs={"suppress_tokens": _banned_ids(model.config)},
        beta=0.0,
        loss_type="dapo",  # token-level, as ours
        epsilon=loss.clip_low,
        epsilon_high=loss.clip_high,
        learning_rate=learner.learning_rate,
        adam_beta1=learner.adam_beta1,
        adam_beta2=learner.adam_beta2,
        adam_epsilon=learner.adam_epsilon,
        max_grad_norm=learner.max_grad_norm,
        max_steps=num_steps,
        gradient_checkpointing=False,
        bf16=False,
        use_cpu=True,
        seed=config.seed,
        shuffle_dataset=False,
        dataloader_pin_memory=False,
        save_strategy="no",
        report_to=[],
        disable_tqdm=True,
    )
    clock = Clock()
    trainer = GRPOTrainer(
        model=model,
        reward_funcs=_reward(config, data, queries, processor, model.generation_config.eos_token_id, lengths),
        args=arguments,
        train_dataset=Dataset.from_list(_rows(data, queries)),
        processing_class=processor,
        callbacks=[clock],
    )
    return trainer, clock


def _rows(data: RunData, queries: Sequence[Query]) -> list[dict[str, Any]]:
    return [
        {"prompt": [{"role": "user", "content": user_text(data, query)}], "image": _image(data, query), "query": index}
        for index, query in enumerate(queries)
    ]


def _image(data: RunData, query: Query) -> Any:
    from rollout.worker import decode_image

    ((key, encoded),) = data.images(query.document).items()
    return decode_image(key, encoded)


def _banned_ids(config: Any) -> list[int]:
    from rollout.worker import banned_ids

    return list(banned_ids(config))


def _reward(
    config: Config, data: RunData, queries: Sequence[Query], processor: Any, end: int, lengths: list[int]
) -> Any:
    from medvie_rl.batch import score_request
    from rewards.scorer import Scorer
    from rollout.types import FinishReason, Rollout

    scorer, max_tokens = Scorer(config.reward, data.schemas), config.rollout.max_response_tokens

    def reward(completion_ids: Sequence[Sequence[int]], query: Sequence[int], **_: Any) -> list[float]:
        rewards = []
        for ids, index in zip(completion_ids, query, strict=True):
            lengths.append(len(ids))
            ended = ids[-1] == end
            rollout = Rollout(
                text=processor.tokenizer.decode(ids[:-1] if ended else ids, skip_special_tokens=False),
                token_ids=tuple(ids),
                logprobs=(0.0,) * len(ids),
                finish_reason=FinishReason.STOP if ended else FinishReason.LENGTH,
                weight_version=0,
            )
            rewards.append(scorer.score(score_request(queries[index], rollout, max_tokens=max_tokens)).reward)
        return rewards

    return reward


def _record_prompts(trainer: Any) -> list[list[int]]:
    """The list to which the trainer's prompts will be added, as token ids, in the order of generation."""
    recorded: list[list[int]] = []
    tokenize = trainer._tokenize_prompts

    def recording(prompts: Any) -> Any:
        ids, *others = tokenize(prompts)
        recorded.extend(list(of_prompt) for of_prompt in ids)
        return ids, *others

    trainer._tokenize_prompts = recording
    return recorded


def _check_prompts(processor: Any, data: RunData, queries: Sequence[Query], found: Sequence[Sequence[int]]) -> None:
    """Raise RuntimeError unless TRL saw the same tokens as our engine does, each prompt once for every response."""
    from medvie_rl.data.prompts import render_chat

    for index, query in enumerate(queries):
        text = render_chat(processor, user_text(data, query))
        expected = processor(text=[text], images=[_image(data, query)])["input_ids"][0]
        repeats = found[index * len(found) // len(queries) : (index + 1) * len(found) // len(queries)]
        if not repeats or any(list(ids) != list(expected) for ids in repeats):
            raise RuntimeError(f"query {query.id}: TRL's prompt is not the one that the engine sees")


if __name__ == "__main__":
    print(json.dumps(main(sys.argv[1], int(sys.argv[2]), *map(int, sys.argv[3:]))))
