"""Exported policies: they answer as the run did, in vLLM and in transformers, and a checkpoint gives the same bytes."""

import json
import shutil
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from peft import PeftModel
from PIL import Image
from safetensors.torch import load_file
from transformers import AutoModelForImageTextToText, AutoProcessor

from learner.config import LoraConfig
from learner.manifest import MANIFEST
from learner.worker import LearnerWorker
from learner_ranks import (
    NANO,
    batches_of,
    learner_config,
    make_groups,
    make_images,
    prompt_inputs,
    run_ranks,
)
from medvie_rl.cli import main
from medvie_rl.config import Config, load_config
from medvie_rl.data.load import load_run_data
from medvie_rl.data.prompts import render_chat
from medvie_rl.data.queries import evaluation_queries
from medvie_rl.fingerprint import fingerprint
from medvie_rl.run import Run
from rollout.config import AnswerSampling
from rollout.types import GenerationRequest
from rollout_engine import EngineProcess
from runs import run_to_end

LORA = {"lora": LoraConfig(rank=4, alpha=8.0, targets=["q_proj", "up_proj"]), "freeze_vision": True}


def export(run: Path, out: Path, *arguments: str) -> Path:
    assert main(["export", str(run), "--out", str(out), *arguments]) == 0
    return out


def requests_of(config: Config, processor: Any) -> tuple[list[GenerationRequest], dict[str, bytes]]:
    """The run's last evaluation as requests, with the images."""
    data = load_run_data(config)
    queries = evaluation_queries(data.test, data.schemas, reasoning=config.evaluation.reasoning)
    images = {key: content for query in queries for key, content in data.images(query.document).items()}
    requests = []
    for query in queries:
        schema = data.schemas[query.document.schema]
        text = data.template.user_text(schema, query.keys, reasoning=query.reasoning)
        requests.append(
            GenerationRequest(
                query_id=query.id,
                prompt=render_chat(processor, text),
                image_keys=query.document.image_keys,
                num_traces=1,
                seed=0,
                weight_version=0,
                answer=AnswerSampling(),
            )
        )
    return requests, images


def test_the_exported_policy_answers_as_the_run_did(small_run: Path, tmp_path: Path) -> None:
    policy = export(small_run, tmp_path / "policy")
    config = load_config(small_run / "config.yaml")
    recorded = json.loads((small_run / "evaluations" / "after.json").read_text(encoding="utf-8"))["documents"]
    expected = [entry["response"] for entry in recorded]
    processor = AutoProcessor.from_pretrained(policy)
    requests, images = requests_of(config, processor)
    engine = EngineProcess(config.rollout, policy)
    try:
        engine.add_images(images)
        answers = [group.rollouts[0].text for group in engine.generate(requests)]
    finally:
        engine.close()
    assert answers == expected

    model = AutoModelForImageTextToText.from_pretrained(policy, dtype=torch.float32)
    for request, answer in list(zip(requests, expected, strict=True))[:4]:
        assert generated(model, processor, request, images) == answer


def generated(model: Any, processor: Any, request: GenerationRequest, images: dict[str, bytes]) -> str:
    """What transformers generates, as text without the end-of-turn token."""
    from learner.model import decode_image

    pages: list[Image.Image] = [decode_image(images[key], key) for key in request.image_keys]
    inputs = processor(text=[request.prompt], images=pages, return_tensors="pt")
    output = model.generate(**inputs, do_sample=False, max_new_tokens=256)
    text: str = processor.decode(output[0, inputs["input_ids"].shape[1] :], skip_special_tokens=True)
    return text


def test_a_checkpoint_gives_the_bytes_that_the_run_exported(small_run: Path, tmp_path: Path) -> None:
    run = Path(shutil.copytree(small_run, tmp_path / small_run.name))
    step = json.loads((run / "best" / "medvie.json").read_text(encoding="utf-8"))["step"]
    shutil.move(run / "best", tmp_path / "best")
    made = tmp_path / "policy"  # by a process of its own: what the libraries write depends on their environment
    command = [sys.executable, "-m", "medvie_rl", "export", str(run), "--out", str(made), "--step", str(step)]
    run_to_end(command)
    names = sorted(path.name for path in made.iterdir())
    assert {*names, MANIFEST} == {path.name for path in (tmp_path / "best").iterdir()}
    assert len({(made / name).stat().st_mode for name in names}) == 1
    assert [name for name in names if (made / name).read_bytes() != (tmp_path / "best" / name).read_bytes()] == []
    last = export(run, tmp_path / "last", "--step", "last")
    assert json.loads((last / "medvie.json").read_text(encoding="utf-8"))["step"] == 6


def test_another_dtype(small_run: Path, tmp_path: Path) -> None:
    policy = export(small_run, tmp_path / "policy", "--dtype", "bfloat16")
    expected = load_file(small_run / "best" / "model.safetensors")
    found = load_file(policy / "model.safetensors")
    assert found.keys() == expected.keys()
    assert all(torch.equal(found[name], expected[name].bfloat16()) for name in expected)
    model = AutoModelForImageTextToText.from_pretrained(policy, dtype="auto")
    assert {parameter.dtype for parameter in model.parameters()} == {torch.bfloat16}


def train_and_save(rank: int, port: int, settings: dict[str, Any], groups: Any, folder: str) -> None:
    """A run directory as a learner of any layout leaves it: a checkpoint after an update, and the best policy."""
    config = learner_config(**settings)
    worker = LearnerWorker(config, NANO, rank, config.num_ranks, "127.0.0.1", port)
    worker.add_images(make_images())
    worker.update(batches_of(groups, config)[rank])
    worker.save(f"{folder}/checkpoint")
    worker.export(f"{folder}/policy")


@pytest.mark.parametrize(
    ("num_ranks", "zero_stage", "settings"),
    [
        pytest.param(1, 1, LORA, id="LoRA"),
        pytest.param(2, 3, LORA, id="LoRA ZeRO-3", marks=pytest.mark.full),
        pytest.param(2, 3, {"freeze_vision": False}, id="ZeRO-3", marks=pytest.mark.full),
        pytest.param(2, 2, {"freeze_vision": True}, id="ZeRO-2", marks=pytest.mark.full),
    ],
)
def test_any_layout_and_adapters(num_ranks: int, zero_stage: int, settings: dict[str, Any], tmp_path: Path) -> None:
    run = run_of(tmp_path, settings | {"num_ranks": num_ranks, "zero_stage": zero_stage})
    made = export(run, tmp_path / "made", "--step", "last")
    expected = tmp_path / "live" / "policy"
    files = sorted(path.relative_to(expected) for path in expected.rglob("*.safetensors"))
    assert files and all((made / file).read_bytes() == (expected / file).read_bytes() for file in files)
    if "lora" not in settings:
        return
    adapter = export(run, tmp_path / "adapter", "--step", "last", "--adapter")
    assert (adapter / "adapter_config.json").is_file() and not (adapter / "model.safetensors").exists()
    base = AutoModelForImageTextToText.from_pretrained(NANO, dtype=torch.float32)
    inputs = prompt_inputs(AutoProcessor.from_pretrained(made), [make_images()["image0"]])
    with torch.no_grad():
        of_base = base(**inputs).logits
        adapted = PeftModel.from_pretrained(base, adapter)(**inputs).logits
        merged = AutoModelForImageTextToText.from_pretrained(made, dtype=torch.float32)(**inputs).logits
    assert (adapted - merged).abs().max() < 1e-4 < (of_base - merged).abs().max()


def run_of(tmp_path: Path, settings: dict[str, Any]) -> Path:
    """A run directory around the checkpoint of a real learner with `settings`."""
    policy = AutoModelForImageTextToText.from_pretrained(NANO, dtype=torch.float32)
    groups = make_groups(policy, AutoProcessor.from_pretrained(NANO), make_images())
    live = tmp_path / "live"
    run_ranks(train_and_save, settings["num_ranks"], settings, groups, str(live))
    lora = settings.get("lora")
    overrides = [
        f"learner.num_ranks={settings['num_ranks']}", f"learner.zero_stage={settings['zero_stage']}",
        f"learner.freeze_vision={settings['freeze_vision']}",
        *([f"learner.lora.rank={lora.rank}", f"learner.lora.alpha={lora.alpha}",
           f"learner.lora.targets=[{','.join(lora.targets)}]"] if lora else []),
    ]  # fmt: skip
    config = load_config(Path("conf/local.yaml"), overrides)
    run = Run.create(config, tmp_path / "run")
    run.check_inputs(fingerprint(config, load_run_data(config)))
    shutil.move(live / "checkpoint", run.folder / "checkpoints" / "step-000001")
    return run.folder
