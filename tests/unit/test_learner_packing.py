"""Shared-prompt rows give the log-probabilities and gradients of one response per row, and planted faults do not."""

from dataclasses import replace

import pytest
import torch
from torch import Tensor

from learner import model as learner_model
from learner.attention import shared_prompt_attention
from learner.families import FAMILIES
from learner.layout import Branch, RowLayout
from learner.model import decode_image
from learner.packing import ImagePixels, PackedRows
from tiny_policy import (
    Policy,
    make_group,
    make_images,
    make_policy,
    merged,
    naive_forward,
    pack,
    packed_forward,
    relative_errors,
    unshared,
)

GROUPS = [
    make_group("one", ("a",), (5, 1, 7), 10),
    make_group("two images", ("b", "c"), (3, 6), 11),
    make_group("one response", ("c",), (8,), 12),
]


@pytest.fixture(scope="module", params=FAMILIES)
def policy(request: pytest.FixtureRequest) -> Policy:
    return make_policy(family=request.param)


@pytest.fixture(scope="module")
def images() -> dict[str, ImagePixels]:
    return make_images()


def gradients(policy: Policy, logprobs: Tensor, rows: PackedRows) -> dict[str, Tensor]:
    """Of the responses' weighted log-probability."""
    names, parameters = zip(*policy.named_parameters(), strict=True)
    found = torch.autograd.grad((rows.advantages * logprobs).mean(), parameters)
    return dict(zip(names, found, strict=True))


def behind_prompts(rows: PackedRows) -> Tensor:
    """[B, T]: which tokens are a response's."""
    places = torch.arange(rows.input_ids.shape[1])
    return torch.stack([(places >= row.prompt) & (places < row.num_tokens) for row in rows.layout])


def worst(found: dict[str, Tensor], expected: dict[str, Tensor]) -> float:
    return max(relative_errors(found, expected).values())


def test_logprobs_and_gradients_equal_one_response_per_row(policy: Policy, images: dict[str, ImagePixels]) -> None:
    rows = pack(policy, images, GROUPS)
    _, logprobs, entropies = zip(*naive_forward(policy, images, GROUPS), strict=True)
    expected = torch.cat(logprobs)
    found, found_entropies = packed_forward(policy, rows)
    assert (found - expected).abs().max() < 1e-5
    assert (found_entropies - torch.cat(entropies)).abs().max() < 1e-5 and not found_entropies.requires_grad
    assert worst(gradients(policy, found, rows), gradients(policy, expected, rows)) < 1e-5


def test_positions_are_hugging_faces_own_for_every_response(policy: Policy, images: dict[str, ImagePixels]) -> None:
    rows = pack(policy, images, GROUPS)
    own = [positions for positions, _, _ in naive_forward(policy, images, GROUPS)]
    places = rows.predicting
    for row, group in enumerate(GROUPS):
        num_prompt = len(group.prompt_ids)
        for response in group.responses:
            predicting, places = places[: len(response.token_ids)], places[len(response.token_ids) :]
            assert predicting[0] == row * rows.input_ids.shape[1] + num_prompt - 1
            prompt = rows.position_ids[:, row, :num_prompt]
            of_response = rows.position_ids.flatten(1)[:, predicting[1:]]
            assert torch.equal(torch.cat([prompt, of_response], dim=1), own.pop(0)[:, :-1])
            assert rows.input_ids.flatten()[predicting[1:]].tolist() == [*response.token_ids[:-1]]
    assert not own


def test_planted_faults_are_caught(policy: Policy, images: dict[str, ImagePixels]) -> None:
    rows = pack(policy, images, GROUPS)
    expected = torch.cat([logprobs for _, logprobs, _ in naive_forward(policy, images, GROUPS)])
    expected_gradients = gradients(policy, expected, rows)
    behind_prompt = behind_prompts(rows)
    faults = {
        "responses see each other": replace(rows, layout=merged(rows.layout)),
        "what is shared is not seen": replace(rows, layout=unshared(rows.layout)),
        "positions shifted by one": replace(rows, position_ids=rows.position_ids + behind_prompt),
        "positions run on over responses": replace(
            rows, position_ids=torch.where(behind_prompt, torch.arange(rows.input_ids.shape[1]), rows.position_ids)
        ),
        "image positions flattened": replace(rows, position_ids=rows.position_ids[:1].expand(3, -1, -1)),
        "hidden states off by one": replace(rows, predicting=(rows.predicting - 1).clamp(min=0)),
    }
    for fault, faulty in faults.items():
        found, _ = packed_forward(policy, faulty)
        assert (found - expected).abs().max() > 1e-3, fault
        assert worst(gradients(policy, found, rows), expected_gradients) > 1e-3, fault


def test_logprobs_in_chunks_are_the_same(
    policy: Policy, images: dict[str, ImagePixels], monkeypatch: pytest.MonkeyPatch
) -> None:
    rows = pack(policy, images, GROUPS)
    whole, _ = packed_forward(policy, rows)
    expected = gradients(policy, whole, rows)
    monkeypatch.setattr(learner_model, "MAX_LOGITS_PER_CHUNK", 60 * 4)  # 4 tokens at a time
    chunked, _ = packed_forward(policy, rows)
    assert (chunked - whole).abs().max() < 1e-6
    assert worst(gradients(policy, chunked, rows), expected) < 1e-5


def test_padding_rows_add_nothing_but_run_every_module(policy: Policy, images: dict[str, ImagePixels]) -> None:
    rows = pack(policy, images, [replace(GROUPS[0], responses=())])
    logprobs, _ = packed_forward(policy, rows)
    assert logprobs.shape == (0,)
    found = torch.autograd.grad(logprobs.sum(), list(policy.parameters()))
    assert not any(gradient.any() for gradient in found)


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
    found, _ = shared_prompt_attention(
        None, query, key, value, None, layout=(RowLayout(2, (Branch(0, 2), Branch(0, 1)), 1),)
    )
    scores = query[:, :, :5] @ key.repeat_interleave(2, 1).transpose(2, 3) / 8**0.5
    expected = scores.masked_fill(~visible, float("-inf")).softmax(-1) @ value.repeat_interleave(2, 1)
    assert torch.allclose(found[:, :5], expected.transpose(1, 2), atol=1e-6) and not found[:, 5].any()
    with pytest.raises(ValueError, match="needs the rows' layout and no mask"):
        shared_prompt_attention(None, query, key, value, None)


def test_image_tokens_must_fit_the_grid(policy: Policy, images: dict[str, ImagePixels]) -> None:
    truncated = replace(GROUPS[0], prompt_ids=GROUPS[0].prompt_ids[:-5])
    with pytest.raises(ValueError, match=r"query 'one': the prompt holds 4 image tokens.*makes 6"):
        pack(policy, images, [truncated])


def test_broken_image_names_its_key() -> None:
    with pytest.raises(ValueError, match=r"image abc: 9 bytes"):
        decode_image(b"not a png", "abc")
