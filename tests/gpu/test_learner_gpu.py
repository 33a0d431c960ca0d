"""The learner's parts that differ on a GPU: attention over packed rows, its gradients, and image features there."""

import pytest
import torch
from torch import Tensor

from learner.attention import SHARED_PROMPT, shared_prompt_attention
from learner.families import FAMILIES
from learner.flex_attention import SHARED_PROMPT_FLEX, shared_prompt_flex_attention
from learner.layout import Branch, Layout, RowLayout
from packed import packed_against_naive
from tiny_policy import merged, relative_errors, unshared

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device here"),
]
# Query and key heads and head size of the 7B and the 3B policy and of nano; lengths over and under a block of 128
SHAPES = [(28, 4, 128), (16, 2, 128), (6, 6, 32)]
LAYOUTS: list[Layout] = [
    (RowLayout(300, (Branch(0, 70), Branch(40, 1), Branch(20, 129)), 12),),
    (
        RowLayout(7, (Branch(0, 3), Branch(2, 20), Branch(5, 1), Branch(3, 4)), 0),
        RowLayout(5, (Branch(0, 9),), 21),
        RowLayout(2, (Branch(0, 18),), 15),
    ),
]


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize(("dtype", "bound"), [(torch.float32, 1e-4), (torch.bfloat16, 2e-2)])
def test_flex_attention_and_its_gradients_are_those_of_split_attention(
    shape: tuple[int, int, int], layout: Layout, dtype: torch.dtype, bound: float
) -> None:
    heads, key_heads, size = shape
    generator = torch.Generator("cuda").manual_seed(0)
    length = layout[0].num_tokens + layout[0].padding
    inputs = [
        torch.randn(len(layout), count, length, size, device="cuda", generator=generator).to(dtype).requires_grad_()
        for count in (heads, key_heads, key_heads)
    ]

    def run(attend: object, layout: Layout) -> dict[str, Tensor]:
        output, _ = attend(None, *inputs, None, layout=layout, scaling=size**-0.5)  # type: ignore[operator]
        gradients = torch.autograd.grad((output * output).sum(), inputs)
        found = dict(zip(("output", "query", "key", "value"), (output.detach(), *gradients), strict=True))
        return {name: tensor.float() for name, tensor in found.items()}

    found, expected = run(shared_prompt_flex_attention, layout), run(shared_prompt_attention, layout)
    assert all(torch.isfinite(tensor).all() for tensor in found.values())
    assert max(relative_errors(found, expected).values()) < bound
    for fault in (merged, unshared):
        assert max(relative_errors(run(shared_prompt_flex_attention, fault(layout)), expected).values()) > 5 * bound


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("attention", [SHARED_PROMPT, SHARED_PROMPT_FLEX])
@pytest.mark.parametrize("frozen", [True, False], ids=["features kept", "images train"])
def test_packed_rows_give_logprobs_and_gradients_of_one_response_per_row(
    family: str, attention: str, frozen: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(torch.backends.cudnn, "allow_tf32", False)  # of patch embeddings, which are convolutions
    logprobs, gradients, at_fault = packed_against_naive("cuda", family, attention, frozen=frozen)
    assert logprobs < 1e-4 and gradients < 1e-3
    assert at_fault > 1e-2
