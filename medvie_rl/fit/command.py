"""`medvie plan`: will it fit, and how long would a step take? Reads a configuration and config.json, starts nothing."""

import argparse
import json
from dataclasses import asdict
from pathlib import Path
from typing import Any

from medvie_rl.errors import UserError
from medvie_rl.parser import Commands, add_command, add_overrides

_FRACTIONS = ("learner", "prefill", "decode", "link")


def add_plan(commands: Commands) -> None:
    """Register the command `medvie plan`."""
    plan = add_command(
        commands,
        "plan",
        help="estimate the memory of each GPU and the seconds of a step",
        description="Estimate whether a configuration fits its GPUs, and a step's time to first order. Only the "
        "policy's config.json is read, and nothing is started. Exit code 1: it does not fit.",
        examples=[
            ("medvie plan --config conf/qwen2_5_vl_7b.yaml --gpu H100", "will it fit, and how long would a step take"),
            ("medvie plan --config conf/qwen2_5_vl_7b.yaml --gpu L4 learner.lora.rank=16", "the same with LoRA"),
            ("medvie plan --config conf/local.yaml", "of a machine without GPUs: memory alone"),
        ],
    )
    plan.add_argument("--config", type=Path, required=True, metavar="FILE")
    add_workload(plan)
    plan.add_argument("--json", action="store_true", help="print the numbers for programs")
    plan.set_defaults(command=_plan)


def add_workload(command: argparse.ArgumentParser, *, gpu: str = "", network: float = 25.0) -> None:
    """Options for what a step is assumed to be and to run on, and overrides of the configuration."""
    of_gpu = f" (default: {gpu})" if gpu else ""
    command.add_argument(
        "--gpu", metavar="NAME", default=gpu, help=f"H100, H200, A100-80, A100-40, L40S, L4 or RTX-4090{of_gpu}"
    )
    command.add_argument("--gpus-per-node", type=int, default=8, metavar="N", help="default: 8")
    command.add_argument("--image-tokens", type=int, metavar="N", help="of a query's pages, on average (default: 1300)")
    command.add_argument("--text-tokens", type=int, metavar="N", help="of a query beside its pages (default: 400)")
    command.add_argument("--response-tokens", type=int, metavar="N", help="of a response, on average (default: 500)")
    for name, what in (
        ("learner", "operations in updates"),
        ("prefill", "operations where engines read prompts"),
        ("decode", "memory bandwidth where engines write"),
        ("link", "bandwidth between GPUs"),
    ):
        command.add_argument(f"--{name}-fraction", type=float, metavar="F", help=f"achieved of the GPU's {what}")
    command.add_argument("--network", type=float, metavar="GB/S", help=f"between nodes (default: {network:g})")
    add_overrides(command, "settings of the configuration, e.g. learner.zero_stage=3")


def _plan(options: argparse.Namespace) -> int:
    from medvie_rl.config import load_config
    from medvie_rl.fit.duration import duration
    from medvie_rl.fit.estimate import estimate, ways_to_fit
    from medvie_rl.fit.gpus import find_gpu
    from medvie_rl.fit.items import Rates
    from medvie_rl.fit.report import as_dict, as_text
    from medvie_rl.fit.shape import read_shape
    from medvie_rl.plan import describe_layout

    config = load_config(options.config, options.overrides)
    on_gpus = config.cluster.on_gpus
    if on_gpus and not options.gpu:
        raise UserError("--gpu: this configuration uses GPUs; name their kind, e.g. --gpu H100")
    gpu = find_gpu(options.gpu) if options.gpu and on_gpus else None
    shape = read_shape(config.model)
    work = workload_of(options, config.rollout.max_model_len, config.rollout.max_response_tokens)
    rates = rates_of(options, Rates())
    found = estimate(config, shape, work, gpu)
    seconds = duration(config, shape, work, gpu, rates, gpus_per_node=options.gpus_per_node) if gpu else None
    ways = ways_to_fit(config, shape, work, gpu) if gpu and not found.fits else []
    if options.json:
        print(json.dumps(as_dict(shape, found, seconds, ways, work, rates, gpu), indent=2))
    else:
        print(describe_layout(config))
        print(as_text(config, shape, found, seconds, ways, work, rates, gpu))
    return 0 if found.fits else 1


def workload_of(options: argparse.Namespace, max_model_len: int, max_response: int) -> Any:
    """The average query and response that the options name; raises UserError for what cannot be sampled."""
    from medvie_rl.fit.items import Workload

    image = 1300 if options.image_tokens is None else options.image_tokens
    text = 400 if options.text_tokens is None else options.text_tokens
    response = min(500, max_response) if options.response_tokens is None else options.response_tokens
    if min(image, text) < 0 or not 0 < response <= max_response:
        raise UserError(
            f"--response-tokens: expected 1 to rollout.max_response_tokens ({max_response}), --image-tokens and "
            f"--text-tokens 0 or more, got {response}, {image} and {text}"
        )
    room = max_model_len - max_response
    if image + text > room and options.image_tokens is None and options.text_tokens is None:
        image, text = image * room // (image + text), text * room // (image + text)  # of a small policy
    if image + text > room:
        raise UserError(
            f"--image-tokens and --text-tokens: {image + text} tokens are more than the {room} that "
            "rollout.max_model_len minus rollout.max_response_tokens leave"
        )
    return Workload(image_tokens=image, prompt_tokens=max(1, image + text), response_tokens=response)


def rates_of(options: argparse.Namespace, defaults: Any) -> Any:
    """What the options say is achieved; raises UserError for a share that is none."""
    given = {name: getattr(options, f"{name}_fraction") for name in _FRACTIONS} | {"network": options.network}
    for name, value in given.items():
        if value is not None and not (0 < value <= 1 or (name == "network" and value > 0)):
            raise UserError(f"--{name}{'' if name == 'network' else '-fraction'}: expected above 0, got {value:g}")
    if options.gpus_per_node < 1:
        raise UserError(f"--gpus-per-node: expected at least 1, got {options.gpus_per_node}")
    return type(defaults)(**asdict(defaults) | {name: value for name, value in given.items() if value is not None})
