"""A policy update as it is commonly written, to compare ours with: every response in a row of its own.

Prompt and image are repeated for each response, prompts padded on the left and responses on the right, logits taken for
the responses only, the clipped token-level loss summed over micro-batches and divided by the number of response tokens.
Several processes take a share of the responses each and add up their gradients.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import torch
import torch.distributed
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence
from transformers import AutoModelForImageTextToText

from learner.config import LearnerConfig
from learner.packing import ImagePixels
from learner.types import TrainingGroup, TrainingResponse

Row = tuple[TrainingGroup, TrainingResponse]


class NaiveLearner:
    """The policy, its optimizer, and an update in micro-batches of rows."""

    def __init__(self, config: LearnerConfig, model: str, images: Mapping[str, ImagePixels]) -> None:
        """`images` are preprocessed already, one a prompt."""
        self._config, self._images = config, images
        self.policy: Any = AutoModelForImageTextToText.from_pretrained(model, dtype=torch.float32, use_safetensors=True)
        self.policy.train()
        self.policy.model.visual.requires_grad_(False)
        self._parameters = [parameter for parameter in self.policy.parameters() if parameter.requires_grad]
        self._optimizer = torch.optim.AdamW(
            self._parameters,
            lr=config.learning_rate,
            betas=(config.adam_beta1, config.adam_beta2),
            eps=config.adam_epsilon,
            weight_decay=config.weight_decay,
        )

    def update(
        self, groups: Sequence[TrainingGroup], *, rows: int, temperature: float, banned: Sequence[int]
    ) -> tuple[float, float]:
        """One optimizer step in micro-batches of `rows` responses; returns the loss and the gradient's norm."""
        responses = [(group, response) for group in groups for response in group.responses]
        num_tokens = sum(len(response.token_ids) for _, response in responses)
        of_rank = responses[torch.distributed.get_rank() :: torch.distributed.get_world_size()]
        total = torch.zeros(())
        for start in range(0, len(of_rank), rows):
            loss = self._loss(of_rank[start : start + rows], temperature, banned) / num_tokens
            loss.backward()
            total += loss.detach()
        total = self._add_up(total)
        norm = float(torch.nn.utils.clip_grad_norm_(self._parameters, self._config.max_grad_norm))
        self._optimizer.step()
        self._optimizer.zero_grad()
        return total.item(), norm

    def _add_up(self, loss: Tensor) -> Tensor:
        """The loss of all processes, whose gradients are added up, too."""
        if torch.distributed.get_world_size() == 1:
            return loss
        gradients = [parameter.grad for parameter in self._parameters if parameter.grad is not None]
        together = torch.cat([*(gradient.flatten() for gradient in gradients), loss[None]])
        torch.distributed.all_reduce(together)
        *summed, (loss,) = together.split([*(gradient.numel() for gradient in gradients), 1])
        for gradient, total in zip(gradients, summed, strict=True):
            gradient.copy_(total.view_as(gradient))
        return loss

    @torch.no_grad()  # type: ignore[untyped-decorator]
    def sample(
        self, group: TrainingGroup, num: int, *, temperature: float, banned: Sequence[int], max_tokens: int
    ) -> list[tuple[int, ...]]:
        """Token ids of so many responses behind the group's prompt, the end of turn included, the same ones always."""
        torch.manual_seed(0)
        input_ids = torch.tensor([group.prompt_ids])
        sampled = self.policy.generate(
            **self._inputs(input_ids, torch.ones_like(input_ids), group.image_keys),
            do_sample=True,
            temperature=temperature,
            top_k=0,
            top_p=1.0,
            suppress_tokens=list(banned),
            num_return_sequences=num,
            max_new_tokens=max_tokens,
        )
        end = self.policy.generation_config.eos_token_id
        found = []
        for ids in sampled[:, input_ids.shape[1] :].tolist():
            found.append(tuple(ids[: ids.index(end) + 1] if end in ids else ids))
        return found

    def _inputs(self, input_ids: Tensor, attention_mask: Tensor, image_keys: Sequence[str]) -> dict[str, Any]:
        images = [self._images[key] for key in image_keys]
        return {
            "input_ids": input_ids,
            "attention_mask": attention_mask,
            "mm_token_type_ids": (input_ids == self.policy.config.image_token_id).long(),
            "pixel_values": torch.cat([image.patches for image in images]),
            "image_grid_thw": torch.tensor([image.grid for image in images]),
        }

    def _loss(self, rows: Sequence[Row], temperature: float, banned: Sequence[int]) -> Tensor:
        """Sum over the response tokens of the clipped surrogate."""
        logprobs, mask = self._logprobs(rows, temperature, banned)  # [B, R]
        sampler = _padded([torch.tensor(response.sampler_logprobs) for _, response in rows])  # [B, R]
        advantages = torch.tensor([response.advantage for _, response in rows])[:, None]  # [B, 1]
        loss = self._config.loss.resolved(pipelined=False)
        ratio = ((logprobs - sampler) * mask).exp()
        clipped = ratio.clamp(1 - loss.clip_low, 1 + loss.clip_high)
        return -(torch.minimum(ratio * advantages, clipped * advantages) * mask).sum()

    def _logprobs(self, rows: Sequence[Row], temperature: float, banned: Sequence[int]) -> tuple[Tensor, Tensor]:
        prompts = [torch.tensor(group.prompt_ids) for group, _ in rows]
        prompt_ids = _padded(prompts, on_the_left=True)  # [B, P]
        responses = [torch.tensor(response.token_ids) for _, response in rows]
        response_ids, mask = _padded(responses), _padded([torch.ones_like(ids) for ids in responses])  # [B, R]
        prompt_mask = _padded([torch.ones_like(ids) for ids in prompts], on_the_left=True)
        input_ids = torch.cat([prompt_ids, response_ids], dim=1)  # [B, P + R]
        keys = [key for group, _ in rows for key in group.image_keys]
        inputs = self._inputs(input_ids, torch.cat([prompt_mask, mask], dim=1), keys)
        num_kept = response_ids.shape[1]
        logits = self.policy(**inputs, use_cache=False, logits_to_keep=num_kept + 1).logits[:, :-1]  # [B, R, V]
        logits = (logits / temperature).index_fill(2, torch.tensor(banned), torch.finfo(logits.dtype).min)
        logprobs = logits.log_softmax(-1).gather(2, response_ids[..., None])[..., 0]
        return logprobs, mask


def _padded(rows: Sequence[Tensor], *, on_the_left: bool = False) -> Tensor:
    return pad_sequence(list(rows), batch_first=True, padding_side="left" if on_the_left else "right")
