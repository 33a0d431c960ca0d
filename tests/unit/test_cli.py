"""The `medvie` command as a whole: help that teaches, words that are mistyped, exit codes, what help imports."""

import argparse
import json
import os
import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest
from PIL import Image

from medvie_rl.cli import build_parser, main, parse
from medvie_rl.config import load_config
from medvie_rl.environment import run_environment
from medvie_rl.parser import leaves

ROOT = Path(__file__).resolve().parents[2]
NOT_FOR_HELP = (
    "argcomplete", "deepspeed", "huggingface_hub", "matplotlib", "numpy", "omegaconf", "pandas", "PIL", "psutil",
    "pyarrow", "ray", "rich", "scipy", "torch", "torchvision", "transformers", "vllm", "wandb", "yaml",
)  # fmt: skip


def examples_of(parser: argparse.ArgumentParser) -> list[list[str]]:
    """The words behind `medvie` of the examples in a parser's help, without what the shell does with them."""
    _, found, text = parser.format_help().partition("\nexamples:\n")
    lines = [line.strip() for line in text.splitlines() if line.startswith("  medvie ")] if found else []
    commands = [re.split(r"\s{2,}| [|>]", line)[0] for line in lines]
    return [shlex.split(command)[1:] for command in commands]


LEAVES = {parser.prog: parser for parser in leaves(build_parser())}
EXAMPLES = [example for parser in (build_parser(), *LEAVES.values()) for example in examples_of(parser)]


def test_the_walk_finds_the_commands() -> None:
    assert {"medvie train", "medvie doctor", "medvie data import", "medvie nano unseen"} <= LEAVES.keys()
    assert "medvie data" not in LEAVES and len(EXAMPLES) > len(LEAVES)


@pytest.mark.parametrize("name", LEAVES)
def test_every_command_says_what_it_does_and_has_an_example_of_itself(name: str) -> None:
    parser = LEAVES[name]
    assert parser.description and len(parser.description) > 60
    assert "--verbose" in parser.format_help()
    assert [example for example in examples_of(parser) if ["medvie", *example][: len(name.split())] == name.split()]


@pytest.mark.parametrize("example", EXAMPLES, ids=" ".join)
def test_every_example_can_be_typed(example: list[str]) -> None:
    options = parse(build_parser(), example)
    assert callable(options.command)
    assert not [word for word in example if word.startswith("conf/") and not (ROOT / word).exists()]
    config = getattr(options, "config", None)
    if config and config.parts[0] == "conf":
        load_config(config, getattr(options, "overrides", []))


def test_an_example_of_a_help_is_read_to_its_end() -> None:
    parser = argparse.ArgumentParser(
        epilog="examples:\n  medvie a --b c  what it does\n  medvie d | jq .e  more\n  medvie f > g",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    assert examples_of(parser) == [["a", "--b", "c"], ["d"], ["f"]]


@pytest.mark.parametrize(
    ("typed", "told"),
    [
        (["trian"], "unknown 'trian'; did you mean 'train'? (choose from train, sft,"),
        (["data", "chek"], "unknown 'chek'; did you mean 'check'?"),
        (["data", "synth", "--out", "x", "--noise", "foto"], "invalid choice: 'foto'; did you mean 'photo'?"),
        (["xyzzy"], "unknown 'xyzzy' (choose from"),
        (["train", "--config", "conf/local.yaml", "--dry-run", "num_stpes=3"], "did you mean 'num_steps'?"),
    ],
)
def test_mistyped_words(typed: list[str], told: str, capsys: pytest.CaptureFixture[str]) -> None:
    try:
        code = main(typed)
    except SystemExit as end:
        code = int(end.code or 0)
    assert code == 2
    assert told in capsys.readouterr().err


def test_help_imports_nothing_that_takes_time() -> None:
    code = (
        "import sys\nfrom medvie_rl.cli import build_parser\nassert 'doctor' in build_parser().format_help()\n"
        f"print([name for name in {NOT_FOR_HELP!r} if name in sys.modules])"
    )  # fmt: skip
    result = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    assert result.stdout.strip() == "[]"


def test_the_exit_codes_in_the_help_are_those_of_the_page(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as end:
        main(["--help"])
    assert end.value.code == 0
    of_help = re.findall(r"(\d+) [a-z]", capsys.readouterr().out.partition("exit codes: ")[2])
    of_page = re.findall(r"^\| (\d+) \|", (ROOT / "docs/commands.md").read_text(encoding="utf-8"), re.MULTILINE)
    assert of_help == of_page == ["0", "1", "2", "3", "130", "143"]


def test_exit_codes(tmp_path: Path) -> None:
    source = tmp_path / "source"
    source.mkdir()
    Image.new("RGB", (64, 64), "white").save(source / "page.png")
    (source / "broken.png").write_bytes(b"no image")
    lines = [json.dumps({"image": name, "fields": {}}) for name in ("page.png", "broken.png")]
    (source / "annotations.jsonl").write_text("\n".join(lines), encoding="utf-8")
    importing = ["data", "import", str(source), "--schema", "conf/schemas/visit_slip.yaml", "--out"]
    too_large = ["learner.max_tokens_per_micro_batch=65536", "--gpu", "L4"]
    assert main(["plan", "--config", "conf/local.yaml"]) == 0
    assert main(["plan", "--config", "conf/qwen2_5_vl_7b.yaml", *too_large]) == 1
    assert main(["train", "--config", "nowhere.yaml"]) == 2
    assert main([*importing, str(tmp_path / "out")]) == 3


def test_what_libraries_tell_each_other_is_shown_if_asked() -> None:
    code = (
        "import os, warnings\nfrom medvie_rl.environment import set_environment\n"
        "set_environment(allow_downloads=False)\nwarnings.warn('of a library', FutureWarning)\n"
        "warnings.warn('of ours', UserWarning)\nprint(os.environ.get('TORCH_CPP_LOG_LEVEL'))"
    )
    plain = {name: value for name, value in os.environ.items() if name not in ("MEDVIE_VERBOSE", "TORCH_CPP_LOG_LEVEL")}
    for asked, (level, told) in (({}, ("ERROR", False)), ({"MEDVIE_VERBOSE": "1"}, ("None", True))):
        command = [sys.executable, "-c", code]
        result = subprocess.run(command, cwd=ROOT, env=plain | asked, capture_output=True, text=True, check=True)
        assert result.stdout.strip() == level
        assert ("of a library" in result.stderr) is told and "of ours" in result.stderr


def test_libraries_are_quiet_unless_asked(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.delenv("MEDVIE_VERBOSE", raising=False)
    train = ["train", "--config", "conf/local.yaml", "--dry-run"]
    assert "TRANSFORMERS_VERBOSITY" not in run_environment(allow_downloads=False)
    assert main(train) == 0
    assert "log_level: ERROR" in capsys.readouterr().out
    monkeypatch.setenv("MEDVIE_VERBOSE", "0")  # so that what --verbose sets is undone
    assert main([*train, "--verbose"]) == 0
    assert "log_level: INFO" in capsys.readouterr().out
    assert run_environment(allow_downloads=False)["TRANSFORMERS_VERBOSITY"] == "info"
    assert main([*train, "--verbose", "rollout.log_level=DEBUG"]) == 0
    assert "log_level: DEBUG" in capsys.readouterr().out
