"""`make bench`: runs the project's benchmarks one after the other, prints a table and writes bench.json."""

import argparse
import json
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict
from fnmatch import fnmatch
from importlib.util import find_spec
from pathlib import Path

from rich.console import Console
from rich.table import Table

from medvie_rl.bench.documents import bench_open, bench_stream
from medvie_rl.bench.imports import bench_import
from medvie_rl.bench.pipeline import bench_depths, bench_rollouts, bench_step_against_bound
from medvie_rl.bench.rewards import bench_against_nted, bench_flat, bench_table
from medvie_rl.bench.scaling import bench_driver
from medvie_rl.bench.steps import bench_against_trl, bench_reasoning_against_trl
from medvie_rl.bench.sync import bench_gib_load, bench_gib_transport, bench_nano_load, bench_nano_transport
from medvie_rl.bench.synth import bench_synth
from medvie_rl.bench.types import Result
from medvie_rl.bench.updates import bench_packed_reasoning_update, bench_packed_update

_COMMAND = "python -m medvie_rl.bench"
BENCHMARKS: Mapping[str, Callable[[], Result]] = {
    "reward_flat_responses_per_s": bench_flat,
    "reward_table_responses_per_s": bench_table,
    "reward_vs_donut_nted": bench_against_nted,
    "import_documents_per_s": bench_import,
    "synth_documents_per_s": bench_synth,
    "dataset_stream_peak_mib": bench_stream,
    "dataset_open_peak_mib": bench_open,
    "packed_update_vs_naive": bench_packed_update,
    "packed_update_vs_naive_reasoning": bench_packed_reasoning_update,
    "rollout_tokens_per_s": bench_rollouts,
    "pipeline_step_vs_bound": bench_step_against_bound,
    "pipeline_depth1_vs_depth0": bench_depths,
    "driver_overhead_us_per_rollout": bench_driver,
    "rl_step_vs_trl": bench_against_trl,
    "rl_step_vs_trl_reasoning": bench_reasoning_against_trl,
    "sync_vs_memcpy_nano": bench_nano_transport,
    "sync_load_seconds_nano": bench_nano_load,
    "sync_vs_memcpy_1gb": bench_gib_transport,
    "sync_load_seconds_1gb": bench_gib_load,
}


def main(arguments: Sequence[str] | None = None) -> int:
    """Run what `--only` names (all by default); returns the exit code."""
    parser = argparse.ArgumentParser(prog=_COMMAND, description=__doc__)
    parser.add_argument("--only", default="*", help="names of results, with * for any text, separated by commas")
    parser.add_argument("--out", type=Path, default=Path("bench.json"), help="JSON file to write")
    options = parser.parse_args(arguments)
    patterns = [pattern.strip() for pattern in options.only.split(",")]
    chosen = [name for name in BENCHMARKS if any(fnmatch(name, pattern) for pattern in patterns)]
    if not chosen:
        print(f"error: no benchmark is named {options.only!r}; there are {', '.join(BENCHMARKS)}", file=sys.stderr)
        return 2
    if any("trl" in name for name in chosen) and find_spec("trl") is None:
        print("error: TRL is not installed; `make bench` does it, or `pip install -c constraints.txt -e .[bench]`; "
              "--only chooses benchmarks that do without", file=sys.stderr)  # fmt: skip
        return 2
    results = [BENCHMARKS[name]() for name in chosen]
    lines = [asdict(result) | {"command": f"{_COMMAND} --only {result.name}"} for result in results]
    options.out.write_text(json.dumps(lines, indent=2) + "\n", encoding="utf-8")
    Console().print(_table(results))
    print(f"written to {options.out}")
    return 0


def _table(results: Sequence[Result]) -> Table:
    table = Table("name", "value", "unit", "better", "compared with")
    table.columns[0].no_wrap = True
    table.columns[1].justify = "right"
    for result in results:
        value = f"{result.value:,.3g}" if result.value < 100 else f"{result.value:,.0f}"
        table.add_row(result.name, value, result.unit, result.better, result.compared_with)
    return table


if __name__ == "__main__":
    raise SystemExit(main())
