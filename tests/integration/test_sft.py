"""Supervised fine-tuning: it improves held-out answers, its loss is the plain one, its prompts are the engine's."""

import io
import json
import re
import shutil
import sys
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from medvie_rl.config import Config, load_config
from medvie_rl.data.load import RunData, load_run_data, load_schemas
from medvie_rl.data.queries import QueryStream, evaluation_queries
from medvie_rl.demonstrations import Demonstration
from medvie_rl.errors import ConfigError
from medvie_rl.sft import Responses, end_of_turn_id
from rollout.config import AnswerSampling, RolloutConfig
from rollout.prompts import prompt_token_ids
from rollout.types import FinishReason, GenerationRequest
from rollout_engine import POLICY, ROOT, EngineProcess, make_requests, slip_images, slips
from runs import metrics_of, only_run, run, run_to_end, summary_of, train_command, without_times

TURN_END = "<|im_end|>"
SETTINGS = (
    "num_steps=16",
    "data.num_validation=24",
    "data.num_test=48",
    "evaluation.every=8",
    "evaluation.bootstrap_samples=200",
    "checkpoint.every=8",
    "checkpoint.keep=5",
    "learner.learning_rate=3e-4",
)


def sft_command(output_dir: Path, *overrides: str) -> list[str]:
    python, module, name, _, *others = train_command(output_dir, *overrides)
    return [python, module, name, "sft", *others]


@pytest.fixture(scope="module")
def sft_run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The directory of a short run without reasoning."""
    output_dir = tmp_path_factory.mktemp("sft")
    told = run_to_end(sft_command(output_dir, *SETTINGS))
    assert "the policy learns direct answers" in told and "step 16/16  loss 0." in told
    return only_run(output_dir)


def test_held_out_answers_improve(sft_run: Path) -> None:
    summary = summary_of(sft_run)
    assert summary["after"]["f1"] > summary["before"]["f1"] + 0.05
    assert (summary["method"], summary["reasoning"], summary["num_steps"]) == ("sft", False, 16)
    metrics = metrics_of(sft_run)
    assert [entry["step"] for entry in metrics if "eval/f1" in entry] == [0, 8, 16]
    assert not [name for entry in metrics for name in entry if name.startswith(("reward/", "rollout/"))]
    losses = [entry["loss/loss"] for entry in metrics[1:]]
    assert sum(losses[-4:]) < 0.9 * sum(losses[:4])
    assert not list((sft_run / "rollouts").iterdir())
    assert (sft_run / "curves.png").stat().st_size > 10_000


def test_the_first_loss_is_the_mean_negative_log_likelihood(sft_run: Path) -> None:
    nlls = plain_nlls(load_config(sft_run / "config.yaml"))
    first = metrics_of(sft_run)[1]
    tokens = [nll for of_response in nlls for nll in of_response]
    assert first["loss/num_tokens"] == len(tokens)
    assert first["sft/tokens_mean"] == len(tokens) / 12
    assert first["loss/loss"] == pytest.approx(sum(tokens) / len(tokens), rel=1e-5)
    without_end = [nll for of_response in nlls for nll in of_response[:-1]]
    for fault in (sum(without_end) / len(without_end), sum(sum(part) / len(part) for part in nlls) / len(nlls)):
        assert first["loss/loss"] != pytest.approx(fault, rel=1e-3)  # no end of the turn; a mean over responses


def plain_nlls(config: Config) -> list[list[float]]:
    """-log p of every token of the first step's responses, one response a forward pass, all by transformers."""
    import torch
    from transformers import AutoProcessor, Qwen2_5_VLForConditionalGeneration

    data: RunData = load_run_data(config)
    processor = AutoProcessor.from_pretrained(config.model)
    policy = Qwen2_5_VLForConditionalGeneration.from_pretrained(config.model, dtype=torch.float32).eval()
    nlls = []
    for query in QueryStream(data.train, data.schemas, config.queries, seed=config.seed).take(0, 12):
        has = query.document.annotation
        answer = ",".join(f'"{key}":"{has[key]}"' for key in query.keys if has.get(key))
        asked = data.template.user_text(data.schemas[query.document.schema], query.keys, reasoning=False)
        prompt = (
            f"<|im_start|>user\n<|vision_start|><|image_pad|><|vision_end|>{asked}{TURN_END}\n<|im_start|>assistant\n"
        )
        image = Image.open(io.BytesIO(next(iter(data.images(query.document).values())))).convert("RGB")
        inputs: dict[str, Any] = dict(processor(text=[prompt], images=[image], return_tensors="pt"))
        response = processor.tokenizer(f"{{{answer}}}{TURN_END}", return_tensors="pt")["input_ids"]  # [1, R]
        with torch.no_grad():
            logits = policy(
                input_ids=torch.cat([inputs["input_ids"], response], dim=1),
                mm_token_type_ids=torch.nn.functional.pad(inputs["mm_token_type_ids"], (0, response.shape[1])),
                pixel_values=inputs["pixel_values"],
                image_grid_thw=inputs["image_grid_thw"],
            ).logits[0, inputs["input_ids"].shape[1] - 1 : -1]
        nlls.append((-logits.log_softmax(-1).gather(1, response[0, :, None])[:, 0]).tolist())
    return nlls


def test_prompts_and_ends_are_those_of_the_engine() -> None:
    from transformers import AutoProcessor

    processor = AutoProcessor.from_pretrained(POLICY)
    engine = EngineProcess(RolloutConfig(max_model_len=640, kv_cache_gib=0.5, max_images_per_prompt=2), POLICY)
    try:
        images = slip_images(8)
        requests = make_requests(processor, images, num_traces=1, greedy=True)
        requests.append(request_with_two_images(processor, list(images)[:2]))
        engine.add_images(images)
        groups = engine.generate(requests)
    finally:
        engine.close()
    end = end_of_turn_id(processor, str(POLICY))
    num_ended = 0
    for request, group in zip(requests, groups, strict=True):
        sizes = [size for key in request.image_keys for size in slips()[key][0].image_sizes]
        heights_first = [(height, width) for width, height in sizes]
        assert prompt_token_ids(processor, request.prompt, heights_first) == group.prompt_ids
        (rollout,) = group.rollouts
        if rollout.finish_reason is FinishReason.STOP:
            num_ended += 1
            assert rollout.token_ids[-1] == end
    assert num_ended >= len(requests) - 1


def request_with_two_images(processor: Any, keys: list[str]) -> GenerationRequest:
    (first,) = make_requests(processor, keys[:1], num_traces=1, greedy=True)
    placeholder = "<|vision_start|><|image_pad|><|vision_end|>"
    return GenerationRequest(
        query_id="two",
        prompt=first.prompt.replace(placeholder, placeholder * 2),
        image_keys=tuple(keys),
        num_traces=1,
        seed=1,
        weight_version=0,
        answer=AnswerSampling(),
    )


def test_responses_that_cannot_be_taught_name_their_documents() -> None:
    from transformers import AutoProcessor

    processor = AutoProcessor.from_pretrained(POLICY)
    (document, _), *_ = slips().values()
    (query,) = evaluation_queries([document], load_schemas(ROOT / "conf/schemas"), reasoning=False)

    def check(response: str, max_tokens: int = 6) -> None:
        responses = Responses(processor, str(POLICY), banned_token_ids=(5,), max_tokens=max_tokens)
        responses.check([Demonstration(query=query, response=response)])

    check("{12}")  # four digits and signs, and the end of the turn
    with pytest.raises(ConfigError, match=rf"1 documents are longer .* = 4: '{document.id}' \(5 tokens\); raise it"):
        check("{12}", max_tokens=4)
    for token in (TURN_END, "<|image_pad|>"):
        with pytest.raises(ConfigError, match=rf"document '{document.id}': the response holds '{re.escape(token)}'"):
            check(f"a{token}b")


def test_a_policy_that_would_not_stop_is_refused(tmp_path: Path) -> None:
    from transformers import AutoProcessor

    folder = tmp_path / "policy"
    shutil.copytree(POLICY, folder)
    template = folder / "chat_template.jinja"
    template.write_text(template.read_text(encoding="utf-8").replace(TURN_END, "<|endoftext|>"), encoding="utf-8")
    processor = AutoProcessor.from_pretrained(folder)
    with pytest.raises(ConfigError, match=r"ends a turn with '<\|endoftext\|>', where the engine does not stop"):
        end_of_turn_id(processor, str(folder))
    settings = json.loads((folder / "generation_config.json").read_text(encoding="utf-8"))
    (folder / "generation_config.json").write_text(json.dumps(settings | {"eos_token_id": [2, 0]}), encoding="utf-8")
    assert end_of_turn_id(processor, str(folder)) == 0


@pytest.mark.full
def test_a_resumed_run_ends_with_the_same_numbers(sft_run: Path, tmp_path: Path) -> None:
    folder = tmp_path / sft_run.name
    shutil.copytree(sft_run, folder)
    for path in (folder / "summary.json", folder / "evaluations" / "after.json"):
        path.unlink()
    shutil.rmtree(folder / "checkpoints" / "step-000016")
    run_to_end([sys.executable, "-m", "medvie_rl", "train", "--resume", str(folder)])
    assert without_times(metrics_of(folder)) == without_times(metrics_of(sft_run))
    assert summary_of(folder) == summary_of(sft_run)


@pytest.mark.full
def test_a_run_is_learned_from(small_run: Path, tmp_path: Path) -> None:
    steps = sorted((small_run / "rollouts").iterdir())
    records = [json.loads(line) for path in steps for line in path.read_text(encoding="utf-8").splitlines()]
    good = {entry["document"] for entry in records if entry["reward"] >= 0.6 and entry["finish_reason"] == "stop"}
    overrides = (
        f"sft.traces={small_run}",
        "sft.min_reward=0.6",
        "num_steps=2",
        "data.num_test=8",
        "data.num_validation=8",
    )
    told = run_to_end(sft_command(tmp_path, *overrides))
    assert f"{100 - len(good)} of 100 training documents have no trace and are left out" in told
    folder = only_run(tmp_path)
    assert load_config(folder / "config.yaml").evaluation.reasoning
    assert metrics_of(folder)[2]["sft/skipped_documents"] == 100 - len(good)
    assert "<think>" in json.loads((folder / "evaluations/after.json").read_text())["documents"][0]["response"]


@pytest.mark.full
def test_a_loss_that_is_not_finite_names_documents(tmp_path: Path) -> None:
    overrides = ("num_steps=4", "data.num_test=8", "data.num_validation=8", "learner.learning_rate=1e30")
    result = run(sft_command(tmp_path, *overrides))
    assert result.returncode == 1
    assert re.search(r"error: step 2: the \w+ of minibatch 0 is not finite.* Documents: train-\S+", result.stderr)
