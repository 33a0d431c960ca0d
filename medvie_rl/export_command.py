"""The command `medvie export`: a run's policy as a plain Hugging Face folder."""

import argparse
from pathlib import Path

from medvie_rl.environment import set_environment
from medvie_rl.next_command import next_command
from medvie_rl.parser import Commands, add_command


def add_export(commands: Commands) -> None:
    """Register the command."""
    export = add_command(
        commands,
        "export",
        help="a run's policy as a plain Hugging Face folder",
        description="Write the best policy of a run, or that of a checkpoint, as a folder that transformers and vLLM "
        "load, with the prompt that it was trained with. Adapters of LoRA are merged, unless --adapter.",
        examples=[
            ("medvie export runs/RUN --out my_policy", "the best on the validation documents"),
            ("medvie export runs/RUN --out my_policy --step last --dtype bfloat16", "of the newest checkpoint"),
            ("medvie export runs/RUN --out my_adapter --adapter", "of a LoRA run, the adapter alone"),
        ],
    )
    export.add_argument("run", type=Path, metavar="RUN_DIR")
    export.add_argument("--out", type=Path, required=True, metavar="DIR", help="new folder to make")
    export.add_argument(
        "--step", default="best", metavar="N|best|last", help="best on the validation documents (default), or of a step"
    )
    export.add_argument("--adapter", action="store_true", help="of a LoRA run: the adapter alone, not merged")
    export.add_argument("--dtype", choices=("float32", "bfloat16", "float16"), help="default: as it was trained")
    export.add_argument(
        "--set", action="append", default=[], metavar="key=value",
        help="where the run's base or prompt lies now, e.g. model=DIR or prompt=FILE (for --step last or N)",
    )  # fmt: skip
    export.set_defaults(command=_export)


def _export(options: argparse.Namespace) -> int:
    set_environment(allow_downloads=False)
    from medvie_rl.export import export
    from medvie_rl.extraction.calibration import FILE

    export(
        options.run,
        options.out,
        step=options.step,
        adapter=options.adapter,
        dtype=options.dtype,
        settings=options.set,
    )
    print(f"exported to {options.out}")
    if (options.out / FILE).is_file():
        print(next_command("extract", "--policy", options.out, "--schema", "SCHEMA.yaml", "SCANS"))
    elif not options.adapter:
        print(next_command("calibrate", "--policy", options.out, "--data", "DATASET"))
    return 0
