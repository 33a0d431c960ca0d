"""Attention, freezing and the memory of the logits, on a policy of a few thousand weights."""

from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from transformers import Qwen2_5_VLForConditionalGeneration

from learner import model as learner_model
from learner.attention import SHARED_PROMPT, batched_attention, shared_prompt_attention
from learner.config import LearnerConfig
from learner.families import FAMILIES
from learner.flex_attention import SHARED_PROMPT_FLEX, shared_prompt_flex_attention
from learner.layout import Branch, Layout, RowLayout
from learner.model import PolicyModule, attention_over_rows, freeze, without_padding
from tiny_policy import IMAGE, make_group, make_images, make_policy, merged, pack, relative_errors, unshared

HEADS, KEY_HEADS, SIZE = 4, 2, 8
LAYOUT: Layout = (
    RowLayout(7, (Branch(0, 3), Branch(2, 20), Branch(5, 1), Branch(3, 4), Branch(0, 2)), 0),
    RowLayout(5, (Branch(0, 9),), 23),
    RowLayout(2, (Branch(0, 18), Branch(18, 2)), 15),
)
LENGTH = 37


def states(heads: int, seed: int) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(len(LAYOUT), heads, LENGTH, SIZE, generator=generator)


def visible(layout: Layout) -> Tensor:
    """[B, T, T] by the definition, token by token."""
    found = torch.zeros(len(layout), LENGTH, LENGTH, dtype=torch.bool)
    for row, (prompt, branches, _) in enumerate(layout):
        found[row, :prompt, :prompt] = torch.ones(prompt, prompt).tril().bool()
        token, path = prompt, list[int]()
        for shared, own in branches:
            path = path[:shared]
            for _ in range(own):
                path.append(token)
                found[row, token, :prompt] = True
                found[row, token, path] = True
                token += 1
    return found


def dense(query: Tensor, key: Tensor, value: Tensor) -> Tensor:
    """[B, T, H, D] with the whole matrix; zeros for padding."""
    key, value = (part.repeat_interleave(HEADS // KEY_HEADS, 1) for part in (key, value))
    mask = visible(LAYOUT)[:, None]
    scores = (query @ key.transpose(2, 3) / SIZE**0.5).masked_fill(~mask, float("-inf"))
    return (scores.softmax(-1).nan_to_num() @ value).transpose(1, 2)


def batched(module: None, query: Tensor, key: Tensor, value: Tensor, mask: None, *, layout: Layout) -> tuple[Tensor]:
    """What a GPU runs."""
    shape = query.transpose(1, 2).shape
    key, value = (states.repeat_interleave(HEADS // KEY_HEADS, 1) for states in (key, value))
    flat = [states.transpose(1, 2).flatten(0, 1) for states in (query, key, value)]
    return (batched_attention(*flat, layout, None).view(shape),)


@pytest.mark.parametrize("attend", [shared_prompt_attention, batched])
@pytest.mark.parametrize("in_one_row", [False, True])
def test_attention_and_its_gradients_are_those_of_the_dense_mask(attend: Any, in_one_row: bool) -> None:
    inputs = [states(heads, seed).requires_grad_() for seed, heads in enumerate((HEADS, KEY_HEADS, KEY_HEADS))]
    weights = torch.randn(dense(*inputs).shape, generator=torch.Generator().manual_seed(9))

    def run(layout: Layout) -> Tensor:
        given = inputs
        if in_one_row:
            given = [part.transpose(1, 2).flatten(0, 1)[None].transpose(1, 2) for part in inputs]
        return attend(None, *given, None, layout=layout)[0].reshape(weights.shape)

    expected, found = dense(*inputs), run(LAYOUT)
    assert (found - expected).abs().max() < 1e-6
    gradients = [torch.autograd.grad((output * weights).sum(), inputs) for output in (found, expected)]
    assert all((a - b).abs().max() < 1e-5 for a, b in zip(*gradients, strict=True))
    for fault in (merged, unshared):
        assert (run(fault(LAYOUT)) - expected).abs().max() > 1e-2


@torch.no_grad()
def test_flex_attention_is_split_attention() -> None:
    inputs = [states(heads, seed) for seed, heads in enumerate((HEADS, KEY_HEADS, KEY_HEADS))]
    found, _ = shared_prompt_flex_attention(None, *inputs, None, layout=LAYOUT)
    expected, _ = shared_prompt_attention(None, *inputs, None, layout=LAYOUT)
    assert torch.isfinite(found).all() and (found - expected).abs().max() < 1e-6
    for fault in (merged, unshared):
        faulty, _ = shared_prompt_flex_attention(None, *inputs, None, layout=fault(LAYOUT))
        assert (faulty - expected).abs().max() > 1e-2
    with pytest.raises(ValueError, match="needs the rows' layout"):
        shared_prompt_flex_attention(None, *inputs, None)


@torch.no_grad()
@pytest.mark.parametrize("family", FAMILIES)
def test_the_policy_computes_the_same_by_flex_attention(family: str) -> None:
    policy = make_policy(family=family)
    rows = pack(policy, make_images(), [make_group("one", ("a",), (5, 1, 7), 10), make_group("two", ("b",), (8,), 11)])
    logprobs = []
    for name in (SHARED_PROMPT, SHARED_PROMPT_FLEX):
        policy.set_attn_implementation({"text_config": name, "vision_config": "sdpa"})
        logprobs.append(PolicyModule(policy)(rows, temperature=0.7)[0])
    assert (logprobs[0] - logprobs[1]).abs().max() < 1e-5


def test_flex_needs_a_gpu_to_train(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    assert attention_over_rows(LearnerConfig()) == attention_over_rows(LearnerConfig(attention="split"))
    with pytest.raises(ValueError, match=r"learner\.attention: flex has no backward pass without a GPU"):
        attention_over_rows(LearnerConfig(attention="flex"))
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    assert attention_over_rows(LearnerConfig()) == SHARED_PROMPT_FLEX
    assert attention_over_rows(LearnerConfig(attention="split")) == SHARED_PROMPT


def test_padding_is_left_out_of_the_forward_pass() -> None:
    policy = make_policy()
    rows = pack(policy, make_images(), [make_group("one", ("a",), (5, 1, 7), 10), make_group("two", ("b",), (4,), 11)])
    input_ids, position_ids, layout, predicting = without_padding(rows)
    assert rows.layout[1].padding > 0 and [row.padding for row in layout] == [0, 0]
    assert input_ids.shape == (1, sum(row.num_tokens for row in layout)) and position_ids.shape == (
        3,
        1,
        input_ids.shape[1],
    )
    assert torch.equal(input_ids[0, predicting], rows.input_ids.flatten()[rows.predicting])
    assert torch.equal(position_ids[:, 0, predicting], rows.position_ids.flatten(1)[:, rows.predicting])


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize(
    ("settings", "trained"),
    [
        ({"freeze_vision": True}, {"text"}),
        ({"freeze_vision": False}, {"text", "tower", "projector"}),
        ({"freeze_vision": True, "freeze_projector": False}, {"text", "projector"}),
        ({"freeze_vision": False, "freeze_projector": True}, {"text", "tower"}),
    ],
)
def test_tower_and_projector_freeze_by_themselves(settings: dict[str, Any], trained: set[str], family: str) -> None:
    policy = make_policy(family=family)
    config = LearnerConfig(**settings)
    freeze(policy, config)

    def part_of(name: str) -> str:
        if "visual" not in name:
            return "text"
        return "projector" if "merger" in name else "tower"

    flags = {(part_of(name), parameter.requires_grad) for name, parameter in policy.named_parameters()}
    assert flags == {(part, part in trained) for part in ("text", "tower", "projector")}
    assert config.trains_vision == bool(trained - {"text"})


# --- the memory of the logits -----------------------------------------------------------------------------------------

VOCABULARY, HIDDEN, CHUNK = 152_000, 8, 3


@pytest.fixture(scope="module")
def wide_policy() -> Qwen2_5_VLForConditionalGeneration:
    """With the vocabulary of the real policies."""
    config = make_policy().config
    config.text_config.vocab_size = VOCABULARY
    config.text_config.hidden_size, config.text_config.intermediate_size = HIDDEN, 8
    config.text_config.num_attention_heads, config.text_config.num_key_value_heads = 2, 1
    config.text_config.head_dim = HIDDEN // 2
    config.text_config.num_hidden_layers = 1
    config.text_config.rope_parameters["mrope_section"] = [1, 1, 0]
    config.vision_config.out_hidden_size = HIDDEN
    attention = {"text_config": SHARED_PROMPT, "vision_config": "sdpa"}
    return Qwen2_5_VLForConditionalGeneration._from_config(config, attn_implementation=attention)


def is_logits(tensor: Tensor) -> bool:
    return tensor.shape[-1:] == (VOCABULARY,) and tensor.shape != (HIDDEN, VOCABULARY)  # not the head's weight


class LargestTensor(TorchDispatchMode):  # type: ignore[misc]
    """The most elements of any tensor of logits that an operation makes."""

    def __init__(self) -> None:
        super().__init__()
        self.numel = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        made = func(*args, **(kwargs or {}))
        for tensor in made if isinstance(made, tuple | list) else [made]:
            if isinstance(tensor, Tensor) and is_logits(tensor):
                self.numel = max(self.numel, tensor.numel())
        return made


def largest_tensor(policy: Qwen2_5_VLForConditionalGeneration, *, entropy_gradient: bool) -> tuple[int, int, int]:
    """(tokens, most logits in one tensor, most saved for the backward pass) of a forward and backward pass."""
    group = make_group("one", ("a",), (9, 8), 10)
    rows = pack(policy, make_images(), [replace(group)])
    saved = 0

    def keep(tensor: Tensor) -> Tensor:
        nonlocal saved
        if is_logits(tensor):
            saved = max(saved, tensor.numel())
        return tensor

    with LargestTensor() as made, torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
        logprobs, entropies = PolicyModule(policy)(
            rows, temperature=0.7, banned_token_ids=(IMAGE,), entropy_gradient=entropy_gradient
        )
        assert entropies.requires_grad == entropy_gradient and logprobs.requires_grad
        (logprobs.sum() + (entropies.sum() if entropy_gradient else 0)).backward()
    assert all(torch.isfinite(p.grad).all() for p in policy.parameters() if p.grad is not None)
    return len(rows.targets), made.numel, saved


@pytest.mark.parametrize("entropy_gradient", [False, True])
def test_no_tensor_holds_more_than_a_chunk_of_the_logits(
    wide_policy: Qwen2_5_VLForConditionalGeneration, monkeypatch: pytest.MonkeyPatch, entropy_gradient: bool
) -> None:
    monkeypatch.setattr(learner_model, "MAX_LOGITS_PER_CHUNK", CHUNK * VOCABULARY)
    num_tokens, made, saved = largest_tensor(wide_policy, entropy_gradient=entropy_gradient)
    assert num_tokens == 17 and made == CHUNK * VOCABULARY and saved <= CHUNK * VOCABULARY
    monkeypatch.setattr(learner_model, "MAX_LOGITS_PER_CHUNK", num_tokens * VOCABULARY)
    _, made, saved = largest_tensor(wide_policy, entropy_gradient=entropy_gradient)
    assert made == saved == num_tokens * VOCABULARY  # without chunks both would show


def test_chunks_change_neither_entropies_nor_their_gradients(monkeypatch: pytest.MonkeyPatch) -> None:
    policy = make_policy()
    policy.set_attn_implementation({"text_config": SHARED_PROMPT, "vision_config": "sdpa"})
    rows = pack(policy, make_images(), [make_group("one", ("a",), (5, 1, 7), 10)])

    def run() -> dict[str, Tensor]:
        policy.zero_grad()
        _, entropies = PolicyModule(policy)(rows, temperature=0.7, banned_token_ids=(3, 6), entropy_gradient=True)
        (entropies * torch.linspace(0, 1, len(entropies))).sum().backward()
        gradients = {name: p.grad.clone() for name, p in policy.named_parameters() if p.grad is not None}
        return gradients | {"entropies": entropies.detach()}

    whole = run()
    monkeypatch.setattr(learner_model, "MAX_LOGITS_PER_CHUNK", 4 * policy.config.text_config.vocab_size)
    assert max(relative_errors(run(), whole).values()) < 1e-5


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("checkpointing", [False, True])
def test_the_last_layer_skips_what_nobody_reads(checkpointing: bool, family: str) -> None:
    policy = make_policy(family=family)
    if checkpointing:
        policy.gradient_checkpointing_enable(gradient_checkpointing_kwargs={"use_reentrant": False})
    rows = pack(policy, make_images(), [make_group("one", ("a",), (5, 1, 7), 10), make_group("two", ("b",), (8,), 11)])
    num_tokens = sum(row.num_tokens for row in rows.layout)
    first, last = (policy.model.language_model.layers[index].mlp.act_fn for index in (0, -1))
    sizes: dict[Any, int] = {}
    for module in (first, last):
        module.register_forward_hook(lambda module, inputs, _: sizes.update({module: inputs[0].shape[1]}))
    hooks = [len(module._forward_hooks) for module in policy.modules()]
    logprobs, _ = PolicyModule(policy)(rows, temperature=0.7)
    assert sizes[first] == num_tokens
    assert sizes[last] == (num_tokens if checkpointing else len(rows.predicting.unique())) > len(rows.layout)
    logprobs.sum().backward()
    assert [len(module._forward_hooks) for module in policy.modules()] == hooks
