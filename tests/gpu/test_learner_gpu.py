"""The learner's parts that differ on a GPU: flex attention's forward and backward pass, and the feature cache there."""

import pytest
import torch
from torch import Tensor

from learner.attention import SHARED_PROMPT, shared_prompt_attention
from learner.flex_attention import SHARED_PROMPT_FLEX, shared_prompt_flex_attention
from learner.model import PolicyModule
from learner.slots import Layout
from tiny_policy import make_group, make_images, make_policy, pack, relative_errors

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device here"),
]
# Query and key heads and head size of the 7B and the 3B policy and of nano; lengths over and under a block of 128
SHAPES = [(28, 4, 128), (16, 2, 128), (6, 6, 32)]
LAYOUTS: list[Layout] = [((300, 70, 1, 129, 12),), ((7, 3, 20, 1, 4, 0), (5, 9, 21), (2, 18, 15))]


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize(("dtype", "bound"), [(torch.float32, 1e-4), (torch.bfloat16, 2e-2)])
def test_flex_attention_and_its_gradients_are_those_of_split_attention(
    shape: tuple[int, int, int], layout: Layout, dtype: torch.dtype, bound: float
) -> None:
    heads, key_heads, size = shape
    generator = torch.Generator("cuda").manual_seed(0)
    length = sum(layout[0])
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
    merged = tuple((prompt, sum(responses), padding) for prompt, *responses, padding in layout)
    assert max(relative_errors(run(shared_prompt_flex_attention, merged), expected).values()) > 5 * bound


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
