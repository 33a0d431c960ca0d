"""An estimate in words, and as a dictionary for programs."""

from dataclasses import asdict
from typing import Any

from medvie_rl.config import Config
from medvie_rl.fit.duration import Duration
from medvie_rl.fit.estimate import Estimate
from medvie_rl.fit.gpus import Gpu
from medvie_rl.fit.items import GIB, Item, Rates, Workload, total
from medvie_rl.fit.shape import PolicyShape


def as_text(
    config: Config,
    shape: PolicyShape,
    found: Estimate,
    seconds: Duration | None,
    ways: list[str],
    work: Workload,
    rates: Rates,
    gpu: Gpu | None,
) -> str:
    """The estimate, every number with how it comes about."""
    trained = shape.trained_parameters(config.learner)
    lines = [
        f"Memory (an estimate; {shape.name}: {shape.num_parameters / 1e6:,.1f} M parameters, {trained / 1e6:,.1f} M "
        f"trained{f', {gpu.name} with {gpu.memory_gib:g} GiB' if gpu else ''})"
    ]
    for moment in found.moments:
        room = f" of {moment.room / GIB:.1f} GiB that may be planned with" if moment.room else ""
        verdict = "" if moment.fits else f": {(moment.needed - moment.room) / GIB:.1f} GiB too much"
        lines.append(f"  {moment.where}: {_size(moment.needed)}{room}{verdict}")
        lines += [f"    {_size(item.num_bytes):>10}  {item.name} ({item.why})" for item in moment.items]
    beside = "" if gpu else " beside that"
    lines.append(f"  CPU memory of a learner rank{beside}: {_size(total(found.learner.host))}")
    lines += [f"    {_size(item.num_bytes):>10}  {item.name} ({item.why})" for item in found.learner.host]
    if config.rollout.sleep_while_learning:
        lines.append(
            f"  CPU memory of an engine that sleeps: {_size(found.engine.host)} for each of its GPUs (weights)"
        )
    lines += [f"  note: {note}" for note in found.notes]
    if seconds:
        lines += _time(config, seconds, work, rates)
    lines += [f"Will not run: {problem}" for problem in found.problems]
    if gpu is None:
        return "\n".join(
            [
                *lines,
                "No GPU: compare the sum of all processes, and about 1 GiB for the libraries of each, with the machine",
            ]
        )
    if found.fits:
        return "\n".join([*lines, f"It fits on {gpu.name}"])
    too_full = not all(moment.fits for moment in found.moments)
    lines.append(f"It does not fit on {gpu.name}" if too_full else f"It would not run on {gpu.name}")
    lines += [f"  would fit with: {way}" for way in ways]
    if too_full and not ways:
        lines.append("  no setting that was tried is enough: take larger or more GPUs, or a smaller policy")
    return "\n".join(lines)


def _time(config: Config, seconds: Duration, work: Workload, rates: Rates) -> list[str]:
    overlap = "the longer of sampling and update" if config.pipeline_depth else "one after the other"
    sync = seconds.sync
    how = "the adapter, through the object store" if config.adapter_apart else config.transport
    return [
        f"Step, to first order (prompts of {work.prompt_tokens:,} tokens, {work.image_tokens:,} of them image, "
        f"responses of {work.response_tokens:,}; achieved: learner {rates.learner:.0%}, prefill {rates.prefill:.0%} of "
        f"peak operations, decode {rates.decode:.0%} of memory bandwidth, links {rates.link:.0%}): "
        f"{seconds.step:,.1f} s, {overlap}",
        f"  {seconds.sampling:8.1f} s  sampling",
        f"  {seconds.learning:8.1f} s  forward and backward passes, {seconds.learner_flops / 1e15:,.1f} PFLOP in all",
        f"  {seconds.optimizer:8.1f} s  optimizer",
        f"  {seconds.gathering:8.1f} s  ZeRO's traffic",
        f"  {sync.seconds:8.1f} s  sync of {_size(sync.num_bytes)} ({how}): gathering {sync.gathering:.1f}, sending "
        f"{sync.sending:.1f}, digests {sync.hashing:.1f}, loading {sync.loading:.1f}",
        "  not counted: evaluation, checkpoints, scoring, images seen for the first time",
    ]


def as_dict(
    shape: PolicyShape,
    found: Estimate,
    seconds: Duration | None,
    ways: list[str],
    work: Workload,
    rates: Rates,
    gpu: Gpu | None,
) -> dict[str, Any]:
    """The same numbers, bytes and seconds."""
    return {
        "policy": {"name": shape.name, "parameters": shape.num_parameters},
        "gpu": asdict(gpu) if gpu else None,
        "assumed": asdict(work) | asdict(rates),
        "fits": found.fits,
        "moments": [
            {"where": moment.where, "needed": moment.needed, "room": moment.room, "items": _items(moment.items)}
            for moment in found.moments
        ],
        "host": _items(found.learner.host),
        "kv_cache": {"bytes": found.engine.kv_cache, "wanted": found.engine.kv_wanted},
        "problems": found.problems,
        "notes": found.notes,
        "would_fit_with": ways,
        "step": asdict(seconds) if seconds else None,
    }


def _items(items: list[Item]) -> list[dict[str, Any]]:
    return [asdict(item) for item in items]


def _size(num_bytes: float) -> str:
    return f"{num_bytes / GIB:.1f} GiB" if abs(num_bytes) >= 0.1 * GIB else f"{num_bytes / 2**20:.1f} MiB"
