"""What a run depends on: every change is noticed, a move is not."""

import hashlib
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
import yaml

from medvie_rl.config import Config, load_config
from medvie_rl.data.load import RunData, load_run_data
from medvie_rl.data.store import open_split, write_split
from medvie_rl.errors import ConfigError
from medvie_rl.fingerprint import base_policy_digests, check_inputs, fingerprint, prompt_digests

SOURCES = {"schemas": "conf/schemas", "prompts": "conf/prompts", "policy": "medvie_rl/nano/policy"}
SLIPS = Path("medvie_rl/nano/slips")


def make(folder: Path) -> Config:
    """A run's inputs in a folder of their own."""
    for name, source in SOURCES.items():
        shutil.copytree(source, folder / name)
    for split in ("train", "validation", "test"):
        documents = open_split(SLIPS, split)
        write_split(folder / "data", split, [pair for pair, _ in zip(documents.stream(), range(8), strict=False)])
    overrides = [
        f"model={folder}/policy", f"prompt={folder}/prompts/nano.yaml", f"schemas={folder}/schemas",
        f"data.path={folder}/data",
    ]  # fmt: skip
    return load_config(Path("conf/local.yaml"), overrides)


def inputs_of(config: Config) -> dict[str, str]:
    data: RunData = load_run_data(config)
    return fingerprint(config, data)


def append(path: Path) -> None:
    with path.open("ab") as file:
        file.write(b"\n")


def change_annotation(folder: Path) -> None:
    pairs = list(open_split(folder / "data", "validation").stream())
    document, images = pairs[3]
    without_one = dict(list(document.annotation.items())[1:])
    pairs[3] = replace(document, annotation=without_one), images
    write_split(folder / "data", "validation", pairs)


def exchange_documents(folder: Path) -> None:
    pairs = list(open_split(folder / "data", "train").stream())
    write_split(folder / "data", "train", [pairs[1], pairs[0], *pairs[2:]])


@pytest.mark.parametrize(
    ("change", "told"),
    [
        (change_annotation, "documents of the validation split was changed"),
        (exchange_documents, "documents of the train split was changed"),
        (lambda folder: append(folder / "policy" / "model.safetensors"), "base policy model.safetensors was changed"),
        (lambda folder: append(folder / "policy" / "chat_template.jinja"), "chat_template.jinja was changed"),
        (lambda folder: append(folder / "prompts" / "nano.yaml"), "prompt was changed"),
        (lambda folder: (folder / "policy" / "extra.json").write_text("{}"), "base policy extra.json is new"),
    ],
)
def test_a_change_is_named(tmp_path: Path, change: Callable[[Path], object], told: str) -> None:
    config = make(tmp_path)
    before = inputs_of(config)
    assert before == inputs_of(config)
    change(tmp_path)
    with pytest.raises(ConfigError, match=told) as error:
        check_inputs(tmp_path, before, inputs_of(config))
    assert "Put back what it started from" in str(error.value)


def test_a_used_schema_counts_and_others_do_not(tmp_path: Path) -> None:
    config = make(tmp_path)
    before = inputs_of(config)
    used = {name.removeprefix("schema ") for name in before if name.startswith("schema ")}
    others = [path for path in (tmp_path / "schemas").glob("*.yaml") if path.stem not in used]
    for path in others:
        append(path)
    assert others and inputs_of(config) == before
    append(tmp_path / "schemas" / f"{min(used)}.yaml")
    assert inputs_of(config)[f"schema {min(used)}"] != before[f"schema {min(used)}"]


def test_a_move_is_no_change(tmp_path: Path) -> None:
    (tmp_path / "a").mkdir()
    before = inputs_of(make(tmp_path / "a"))
    (tmp_path / "b").mkdir()
    assert inputs_of(make(tmp_path / "b")) == before


def test_another_name_of_the_prompt_is_no_change(tmp_path: Path) -> None:
    for name in ("qwen2_5_vl.yaml", "qwen2_5_vl_zh.yaml", "qwen2_5_vl_vi.yaml"):
        shutil.copyfile(Path("conf/prompts") / name, tmp_path / name)
    main, chinese = tmp_path / "qwen2_5_vl.yaml", tmp_path / "qwen2_5_vl_zh.yaml"
    before = prompt_digests(main)
    assert before == prompt_digests(main.rename(tmp_path / "mine.yaml")) and len(before) == 3
    append(chinese)
    after = prompt_digests(tmp_path / "mine.yaml")
    assert [name for name in before if before[name] != after[name]] == ["prompt qwen2_5_vl_zh.yaml"]


def test_the_manifest_of_a_best_policy_is_no_part_of_the_policy(tmp_path: Path) -> None:
    shutil.copytree(SOURCES["policy"], tmp_path / "best")
    before = base_policy_digests(str(tmp_path / "best"))
    (tmp_path / "best" / "manifest.json").write_text("{}", encoding="utf-8")
    assert base_policy_digests(str(tmp_path / "best")) == before


def test_the_engine_that_recognises_text_counts_where_it_is_asked() -> None:
    config = load_config(Path("conf/local.yaml"))
    data = load_run_data(config)
    assert "OCR engine" not in fingerprint(config, data)
    config.ocr.mode = "text"
    assert fingerprint(config, data)["OCR engine"].startswith("rapidocr-")


def test_recorded_rollouts_count_wherever_they_lie(tmp_path: Path) -> None:
    config = load_config(Path("conf/local.yaml"))
    data = load_run_data(config)
    traces, replayed = [], []
    for content, folder in ((b"a", "x"), (b"a", "y"), (b"b", "z")):
        (tmp_path / folder / "rollouts").mkdir(parents=True)
        (tmp_path / folder / "config.yaml").touch()
        (tmp_path / folder / "rollouts" / "step-000001.parquet").write_bytes(content)
        config.sft.traces = config.records.replay = str(tmp_path / folder)
        found = fingerprint(config, data)
        traces.append(found["traces"])
        replayed.append(found["replayed rollouts"])
    assert traces[0] == traces[1] != traces[2] and replayed[0] == replayed[1] != replayed[2]


@pytest.mark.parametrize(
    ("module", "file"), [("mine", "mine.py"), ("mine", "mine/__init__.py"), ("mine.short", "mine/short.py")]
)
def test_a_component_of_the_reward_counts(
    module: str, file: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = load_config(Path("conf/local.yaml"), [f"reward.components=[{{function: '{module}:brevity'}}]"])
    data = load_run_data(config)
    monkeypatch.setattr(config, "schemas", str(Path(config.schemas).absolute()))
    monkeypatch.setattr(config, "prompt", str(Path(config.prompt).absolute()))
    monkeypatch.setattr(config, "model", str(Path(config.model).absolute()))
    monkeypatch.chdir(tmp_path)
    Path(file).parent.mkdir(exist_ok=True)
    Path(file).write_text("raise ImportError('a digest needs no import')\n", encoding="utf-8")
    before = fingerprint(config, data)
    append(Path(file))
    assert before[f"reward component {module}"] != fingerprint(config, data)[f"reward component {module}"]


def test_an_installed_component_of_the_reward_counts() -> None:
    config = load_config(Path("conf/local.yaml"), ["reward.components=[{function: 'yaml.nodes:Node'}]"])
    inputs = fingerprint(config, load_run_data(config))
    content = Path(yaml.__file__).with_name("nodes.py").read_bytes()
    assert inputs["reward component yaml.nodes"] == hashlib.sha256(content).hexdigest()
