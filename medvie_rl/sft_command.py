"""The command `medvie sft`: supervised fine-tuning with the settings of a run."""

import argparse
from collections.abc import Sequence
from pathlib import Path

from medvie_rl.parser import Commands, add_command, add_overrides
from medvie_rl.train_command import add_start_options, start

_DIRECT = ("queries.reasoning_fraction=0", "evaluation.reasoning=false")


def add_sft(commands: Commands) -> None:
    """Register the command."""
    sft = add_command(
        commands,
        "sft",
        help="supervised fine-tuning on the same documents: a baseline, or a warm start",
        description="Teach the policy to answer as the annotations do, through the same learner and from the same "
        "queries as `medvie train`. Without sft.traces it learns direct answers, without reasoning. A run that was "
        "stopped goes on with --resume-if-exists, or with `medvie train --resume RUN_DIR`.",
        examples=[
            ("medvie sft --config conf/local.yaml", "direct answers, on this machine"),
            ("medvie sft --config conf/qwen2_5_vl_7b.yaml data.path=data/my_documents", "the baseline to beat"),
            ("medvie sft --config conf/local.yaml sft.traces=runs/RUN", "reasoning, from a run's best responses"),
        ],
    )
    sft.add_argument("--config", type=Path, required=True, metavar="FILE", help="e.g. conf/local.yaml")
    add_start_options(sft)
    add_overrides(sft, "settings, e.g. sft.traces=traces.jsonl (or a run's folder) learner.learning_rate=1e-5")
    sft.set_defaults(command=_sft)


def _sft(options: argparse.Namespace) -> int:
    overrides = sft_overrides(options.config, options.overrides)
    if overrides[: len(_DIRECT)] == [*_DIRECT]:
        print(f"no sft.traces, so the policy learns direct answers: {' '.join(_DIRECT)}")
    return start(options.config, overrides, resume_if_exists=options.resume_if_exists, dry_run=options.dry_run)


def sft_overrides(path: Path, overrides: Sequence[str]) -> list[str]:
    """The overrides with which a configuration's run is supervised fine-tuning; without traces of direct answers."""
    return [*(() if _names_traces(path, overrides) else _DIRECT), *overrides, "method=sft"]


def _names_traces(path: Path, overrides: Sequence[str]) -> bool:
    """Whether the file or the overrides give sft.traces."""
    from omegaconf import OmegaConf

    try:
        given = OmegaConf.merge(OmegaConf.load(path), OmegaConf.from_dotlist(list(overrides)))
        return bool(OmegaConf.select(given, "sft.traces"))
    except Exception:  # load_config says what is wrong with them
        return False
