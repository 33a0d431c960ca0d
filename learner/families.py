"""What differs between the families of policies that the learner trains: what the language model takes of an image.

Qwen2.5-VL's takes the projector's output in place of the image tokens' embeddings. Qwen3-VL's besides adds to the
hidden states of the image tokens, behind each of its first K layers, what a projector of its own makes of an inner
layer of the vision tower (DeepStack, arXiv 2406.04334). Everything that an image gives is one tensor here,
[num_image_tokens, (1 + K) * D], so that who keeps, packs and moves features need not know; K is 0 without DeepStack.
"""

import torch
from torch import Tensor, nn
from transformers.modeling_outputs import BaseModelOutputWithPooling
from transformers.models.qwen3_vl.modeling_qwen3_vl import BaseModelOutputWithDeepstackFeatures

FAMILIES = ("qwen2_5_vl", "qwen3_vl")  # model_type of a policy's configuration


def check_family(model_type: str) -> None:
    """Raise ValueError for a policy that may take of an image what is not known here."""
    if model_type not in FAMILIES:
        raise ValueError(f"model: the learner trains {' and '.join(FAMILIES)}, this policy is {model_type!r}")


def projectors(visual: nn.Module) -> list[nn.Module]:
    """The modules between the vision tower, in whose module they are, and the language model."""
    return [visual.merger, *getattr(visual, "deepstack_merger_list", ())]


def joined_features(encoded: BaseModelOutputWithPooling) -> Tensor:
    """[num_image_tokens, (1 + K) * D] of what `get_image_features` returns: the projector's output first."""
    parts = [encoded.pooler_output, *getattr(encoded, "deepstack_features", ())]  # each a tensor [tokens, D] an image
    return torch.cat([torch.cat(part) for part in parts], dim=1)


def encoder_output(features: Tensor, hidden_size: int) -> BaseModelOutputWithPooling:
    """The same as a policy's forward pass takes it in place of pixel values; `hidden_size` is D."""
    of_projector, *deepstack = features.split(hidden_size, dim=1)
    return BaseModelOutputWithDeepstackFeatures(
        pooler_output=[of_projector], deepstack_features=[[of_layer] for of_layer in deepstack]
    )
