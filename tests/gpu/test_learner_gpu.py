"""The learner's parts that differ on a GPU: flex attention's forward and backward pass, and the feature cache there."""

import pytest
import torch
from torch import Tensor

from learner.attention import SHARED_PROMPT, shared_prompt_attention
from learner.flex_attention import SHARED_PROMPT_FLEX, shared_prompt_flex_attention
from learner.layout import Branch, Layout, RowLayout
from learner.model import PolicyModule
from tiny_policy import make_group, make_images, make_policy, merged, pack, relative_errors, unshared

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


def test_the_policys_gradients_are_the_same_by_flex_attention() -> None:
    policy = make_policy().cuda()
    rows = pack(make_policy(), make_images(), [make_group("a", ("a",), (5, 1, 7), 1), make_group("b", ("b",), (8,), 2)])
    on_gpu = {
        name: getattr(rows, name).cuda()
        for name in rows.__dataclass_fields__
        if isinstance(getattr(rows, name), Tensor)
    }
    fields = {name: getattr(rows, name) for name in rows.__dataclass_fields__}
    rows = type(rows)(**(fields | on_gpu))

    def run(name: str) -> dict[str, Tensor]:
        policy.set_attn_implementation({"text_config": name, "vision_config": "sdpa"})
        policy.zero_grad()
        logprobs, _ = PolicyModule(policy)(rows, temperature=0.7)
        (logprobs * torch.linspace(-1, 1, len(logprobs), device="cuda")).sum().backward()
        gradients = {name: p.grad.clone() for name, p in policy.named_parameters() if p.grad is not None}
        return gradients | {"logprobs": logprobs.detach()}

    assert max(relative_errors(run(SHARED_PROMPT_FLEX), run(SHARED_PROMPT)).values()) < 1e-3
