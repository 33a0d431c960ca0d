"""Shared-prompt rows give the log-probabilities and gradients of one response per row, and planted faults do not."""

from collections.abc import Iterator
from dataclasses import replace

import pytest
import torch
from torch import Tensor
from transformers import Qwen2_5_VLConfig, Qwen2_5_VLForConditionalGeneration

from learner import model as learner_model
from learner.attention import SHARED_PROMPT, shared_prompt_attention
from learner.loss import clipped_policy_loss
from learner.model import PolicyModule, decode_image
from learner.packing import ImagePixels, PackedRows, pack_rows
from learner.types import TrainingGroup, TrainingResponse

IMAGE, START, END, BANNED = 3, 4, 5, (3, 6)
TEMPERATURE = 0.7
GRIDS = {"a": (1, 4, 6), "b": (1, 2, 8), "c": (1, 4, 4)}


@pytest.fixture(scope="module")
def policy() -> Qwen2_5_VLForConditionalGeneration:
    torch.manual_seed(0)
    config = Qwen2_5_VLConfig(
        text_config={
            "vocab_size": 60, "hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 2,
            "num_attention_heads": 4, "num_key_value_heads": 2, "max_position_embeddings": 256,
            "rope_parameters": {"rope_type": "default", "rope_theta": 1000.0, "mrope_section": [1, 1, 2]},
            "pad_token_id": 0, "bos_token_id": 1, "eos_token_id": 2,
        },
        vision_config={
            "depth": 2, "hidden_size": 32, "intermediate_size": 48, "num_heads": 2, "patch_size": 4,
            "spatial_merge_size": 2, "out_hidden_size": 32, "window_size": 16, "fullatt_block_indexes": [1],
        },
        image_token_id=IMAGE, video_token_id=6, vision_start_token_id=START, vision_end_token_id=END,
        tie_word_embeddings=True,
    )  # fmt: skip
    model = Qwen2_5_VLForConditionalGeneration._from_config(config, attn_implementation="sdpa")
    for parameter in model.parameters():  # far from uniform, so that a wrong position or mask shows
        parameter.data.normal_(0, 0.2) if parameter.ndim > 1 else parameter.data.add_(0.2 * torch.randn_like(parameter))
    return model.train()


@pytest.fixture(scope="module")
def images() -> dict[str, ImagePixels]:
    generator = torch.Generator().manual_seed(1)
    return {
        key: ImagePixels(patches=torch.randn(t * h * w, 3 * 2 * 4 * 4, generator=generator), grid=(t, h, w))
        for key, (t, h, w) in GRIDS.items()
    }


def make_group(name: str, keys: tuple[str, ...], lengths: tuple[int, ...], seed: int) -> TrainingGroup:
    generator = torch.Generator().manual_seed(seed)

    def tokens(count: int) -> tuple[int, ...]:
        return tuple(torch.randint(7, 60, (count,), generator=generator).tolist())

    prompt = tokens(3)
    for key in keys:
        t, h, w = GRIDS[key]
        prompt += (START, *([IMAGE] * (t * h * w // 4)), END, *tokens(2))
    responses = tuple(
        TrainingResponse(
            token_ids=tokens(length),
            sampler_logprobs=tuple((-4 + 0.5 * torch.randn(length, generator=generator)).tolist()),
            advantage=float(torch.randn(1, generator=generator)),
        )
        for length in lengths
    )
    return TrainingGroup(query_id=name, prompt_ids=prompt, image_keys=keys, responses=responses)


GROUPS = [
    make_group("one", ("a",), (5, 1, 7), 10),
    make_group("two images", ("b", "c"), (3, 6), 11),
    make_group("one response", ("c",), (8,), 12),
]


def pack(policy: Qwen2_5_VLForConditionalGeneration, images: dict[str, ImagePixels], groups=GROUPS) -> PackedRows:  # type: ignore[no-untyped-def]
    def positions(ids: Tensor, grids: Tensor | None) -> Tensor:
        return policy.model.get_rope_index(ids, (ids == IMAGE).int(), image_grid_thw=grids)[0]

    return pack_rows(groups, images.__getitem__, positions, image_token_id=IMAGE, merge_size=2, pad_token_id=0)


def naive(
    policy: Qwen2_5_VLForConditionalGeneration, images: dict[str, ImagePixels]
) -> Iterator[tuple[Tensor, Tensor]]:
    """(position ids, logprobs) of each response in a row of its own, positions and mask by Hugging Face."""
    for group in GROUPS:
        pixels = [images[key] for key in group.image_keys]
        for response in group.responses:
            ids = torch.tensor([[*group.prompt_ids, *response.token_ids]])
            kinds, grids = (ids == IMAGE).int(), torch.tensor([image.grid for image in pixels])
            logits = policy(
                input_ids=ids,
                mm_token_type_ids=kinds,
                pixel_values=torch.cat([image.patches for image in pixels]),
                image_grid_thw=grids,
                use_cache=False,
            ).logits[0]
            logits = logits[len(group.prompt_ids) - 1 : -1] / TEMPERATURE
            logits[:, list(BANNED)] = float("-inf")
            logprobs = logits.log_softmax(-1)[range(len(response.token_ids)), list(response.token_ids)]
            yield policy.model.get_rope_index(ids, kinds, image_grid_thw=grids)[0][:, 0], logprobs


def loss_and_gradients(
    policy: Qwen2_5_VLForConditionalGeneration, logprobs: Tensor, rows: PackedRows
) -> dict[str, Tensor]:
    policy.zero_grad()
    clipped_policy_loss(logprobs, rows.sampler_logprobs, rows.advantages, clip_low=0.2, clip_high=0.28).loss.div(
        len(logprobs)
    ).backward()
    return {name: p.grad.clone() for name, p in policy.named_parameters() if p.grad is not None}


def packed_logprobs(policy: Qwen2_5_VLForConditionalGeneration, rows: PackedRows) -> Tensor:
    policy.set_attn_implementation({"text_config": SHARED_PROMPT, "vision_config": "sdpa"})
    try:
        return PolicyModule(policy)(rows, temperature=TEMPERATURE, banned_token_ids=BANNED)[0]
    finally:
        policy.set_attn_implementation("sdpa")


def segments(rows: PackedRows) -> Tensor:
    """[B, T]: 0 for the prompt, i + 1 for the row's i-th response of two or more tokens, -1 for padding."""
    of_rows = [
        torch.repeat_interleave(torch.tensor([*range(len(sizes) - 1), -1]), torch.tensor(sizes))
        for sizes in rows.layout
    ]
    return torch.stack(of_rows)


def worst_gradient_error(found: dict[str, Tensor], expected: dict[str, Tensor]) -> float:
    assert found.keys() == expected.keys()
    return max(((found[name] - expected[name]).norm() / (expected[name].norm() + 1e-4)).item() for name in expected)


def test_logprobs_and_gradients_equal_one_response_per_row(policy, images) -> None:  # type: ignore[no-untyped-def]
    rows = pack(policy, images)
    expected = torch.cat([logprobs for _, logprobs in naive(policy, images)])
    gradients = loss_and_gradients(policy, expected, rows)
    found = packed_logprobs(policy, rows)
    assert (found - expected).abs().max() < 1e-5
    assert worst_gradient_error(loss_and_gradients(policy, found, rows), gradients) < 1e-5


def test_positions_are_hugging_faces_own_for_every_response(policy, images) -> None:  # type: ignore[no-untyped-def]
    rows = pack(policy, images)
    own = [positions for positions, _ in naive(policy, images)]
    for row, group in enumerate(GROUPS):
        num_prompt = len(group.prompt_ids)
        lengths = [len(response.token_ids) - 1 for response in group.responses]
        of_responses = rows.position_ids[:, row, num_prompt : num_prompt + sum(lengths)].split(lengths, dim=1)
        for of_response in of_responses:
            prompt = rows.position_ids[:, row, :num_prompt]
            assert torch.equal(torch.cat([prompt, of_response], dim=1), own.pop(0)[:, :-1])


def test_planted_faults_are_caught(policy, images) -> None:  # type: ignore[no-untyped-def]
    rows = pack(policy, images)
    expected = torch.cat([logprobs for _, logprobs in naive(policy, images)])
    gradients = loss_and_gradients(policy, expected, rows)
    behind_prompt = segments(rows) > 0
    merged = tuple((prompt, sum(responses), padding) for prompt, *responses, padding in rows.layout)
    faults = {
        "responses see each other": replace(rows, layout=merged),
        "positions shifted by one": replace(rows, position_ids=rows.position_ids + behind_prompt),
        "positions run on over responses": replace(
            rows, position_ids=torch.where(behind_prompt, torch.arange(rows.input_ids.shape[1]), rows.position_ids)
        ),
        "image positions flattened": replace(rows, position_ids=rows.position_ids[:1].expand(3, -1, -1)),
        "hidden states off by one": replace(rows, predicting=(rows.predicting - 1).clamp(min=0)),
    }
    for fault, faulty in faults.items():
        found = packed_logprobs(policy, faulty)
        assert (found - expected).abs().max() > 1e-3, fault
        assert worst_gradient_error(loss_and_gradients(policy, found, rows), gradients) > 1e-3, fault


def test_logprobs_in_chunks_are_the_same(policy, images, monkeypatch) -> None:  # type: ignore[no-untyped-def]
    rows = pack(policy, images)
    whole = packed_logprobs(policy, rows)
    gradients = loss_and_gradients(policy, whole, rows)
    monkeypatch.setattr(learner_model, "MAX_LOGITS_PER_CHUNK", 60 * 4)  # 4 tokens at a time
    chunked = packed_logprobs(policy, rows)
    assert (chunked - whole).abs().max() < 1e-6
    assert worst_gradient_error(loss_and_gradients(policy, chunked, rows), gradients) < 1e-5


def test_padding_rows_add_nothing_but_run_every_module(policy, images) -> None:  # type: ignore[no-untyped-def]
    rows = pack(policy, images, [replace(GROUPS[0], responses=())])
    logprobs = packed_logprobs(policy, rows)
    policy.zero_grad()
    logprobs.sum().backward()
    assert logprobs.shape == (0,)
    gradients = [parameter.grad for parameter in policy.parameters()]
    assert all(gradient is not None and not gradient.any() for gradient in gradients)


def test_attention_equals_the_dense_mask_by_hand() -> None:
    visible = torch.tensor(
        [
            [1, 0, 0, 0, 0, 0],
            [1, 1, 0, 0, 0, 0],
            [1, 1, 1, 0, 0, 0],
            [1, 1, 1, 1, 0, 0],
            [1, 1, 0, 0, 1, 0],
        ],
        dtype=torch.bool,
    )
    query, key, value = (
        torch.randn(1, heads, 6, 8, generator=torch.Generator().manual_seed(heads)) for heads in (4, 2, 2)
    )
    found, _ = shared_prompt_attention(None, query, key, value, None, layout=((2, 2, 1, 1),))
    scores = query[:, :, :5] @ key.repeat_interleave(2, 1).transpose(2, 3) / 8**0.5
    expected = scores.masked_fill(~visible, float("-inf")).softmax(-1) @ value.repeat_interleave(2, 1)
    assert torch.allclose(found[:, :5], expected.transpose(1, 2), atol=1e-6) and not found[:, 5].any()
    with pytest.raises(ValueError, match="needs the rows' layout and no mask"):
        shared_prompt_attention(None, query, key, value, None)


def test_image_tokens_must_fit_the_grid(policy, images) -> None:  # type: ignore[no-untyped-def]
    truncated = replace(GROUPS[0], prompt_ids=GROUPS[0].prompt_ids[:-5])
    with pytest.raises(ValueError, match=r"query 'one': the prompt holds 4 image tokens.*makes 6"):
        pack(policy, images, [truncated])


def test_broken_image_names_its_key() -> None:
    with pytest.raises(ValueError, match=r"image abc: 9 bytes"):
        decode_image(b"not a png", "abc")
