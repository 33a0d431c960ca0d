"""Packed rows against one response per row, on any device; tests/integration/test_gpu_helpers.py runs it on a CPU."""

from dataclasses import replace
from typing import Any

import torch
from torch import Tensor

from learner.model import PolicyModule
from learner.packing import ImageFeatures
from tiny_policy import (
    GRIDS,
    make_group,
    make_images,
    make_policy,
    merged,
    naive_forward,
    pack,
    packed_forward,
    relative_errors,
)


def packed_against_naive(device: str, family: str, attention: str, *, frozen: bool) -> tuple[float, float, float]:
    """(largest difference of a logprob, largest relative error of a gradient, the former where responses see each
    other) of a small policy's packed rows by this attention from transformers' one response per row, both in float32 on
    the device. With `frozen` the images' features are kept ones."""
    images = make_images()
    groups = [make_group("one", ("a",), (5, 1, 7), 10), make_group("two images", ("c", "b"), (3, 6), 11)]
    policy = make_policy(family=family, head_dim=16)  # flex attention's smallest on a GPU
    policy.model.visual.requires_grad_(not frozen)
    policy = policy.to(device)
    sources: Any = images
    if frozen:
        encode = PolicyModule(policy).encode
        sources = {key: ImageFeatures(features=encode(images[key]), grid=grid) for key, grid in GRIDS.items()}
    rows = pack(policy, sources, groups)

    def gradients(logprobs: Tensor) -> dict[str, Tensor]:
        named = {name: p for name, p in policy.named_parameters() if p.requires_grad}
        found = torch.autograd.grad((rows.advantages.to(device) * logprobs).mean(), list(named.values()))
        return dict(zip(named, found, strict=True))

    expected = torch.cat([logprobs for _, logprobs, _ in naive_forward(policy, images, groups)])
    found, _ = packed_forward(policy, rows, attention=attention)
    error = max(relative_errors(gradients(found), gradients(expected)).values())
    with torch.no_grad():
        faulty, _ = packed_forward(policy, replace(rows, layout=merged(rows.layout)), attention=attention)
    return (found - expected).abs().max().item(), error, (faulty - expected).abs().max().item()
