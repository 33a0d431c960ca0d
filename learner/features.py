"""What a frozen vision tower makes of each image, computed once and kept across updates."""

from collections import OrderedDict
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager

import torch
import torch.distributed
from torch import Tensor

from learner.packing import ImageFeatures, ImagePixels


class FeatureCache:
    """Features of images by key, bounded by bytes; those used longest ago are dropped first.

    Images are encoded one by one, so that an image's features do not depend on what it was encoded with.
    """

    def __init__(
        self,
        encode: Callable[[ImagePixels], Tensor],
        pixels: Callable[[str], ImagePixels],
        max_bytes: int,
        device: torch.device,
        *,
        in_step: bool,
    ) -> None:
        """`encode` gives [num_image_tokens, (1 + K) * D] without gradient; with `in_step` it is collective, so all
        ranks call it equally often."""
        self._encode, self._pixels = encode, pixels
        self._max_bytes, self._device, self._in_step = max_bytes, device, in_step
        self._features: OrderedDict[str, ImageFeatures] = OrderedDict()

    @property
    def num_bytes(self) -> int:
        """Held now."""
        return sum(image.features.nbytes for image in self._features.values())

    def __contains__(self, key: str) -> bool:
        return key in self._features

    def __getitem__(self, key: str) -> ImageFeatures:
        """Features of an image that is being held. Raises KeyError for another."""
        return self._features[key]

    @contextmanager
    def holding(self, keys: Sequence[str]) -> Iterator[None]:
        """All these images have features inside, also when they exceed the bound. Collective if `encode` is.

        Raises KeyError for an image that the learner does not know, ValueError for one that does not decode.
        """
        keys = list(dict.fromkeys(keys))
        missing = []
        for key in keys:
            if key in self._features:
                self._features.move_to_end(key)
            else:
                missing.append(key)
        num_more = self._most_of_ranks(len(missing)) - len(missing)
        for key in missing:
            self._features[key] = self._make(key)
        for _ in range(num_more):
            self._make(keys[0])  # only to stay in step with the other ranks
        try:
            yield
        finally:
            self._shrink()

    def _make(self, key: str) -> ImageFeatures:
        pixels = self._pixels(key)
        return ImageFeatures(features=self._encode(pixels).to(self._device), grid=pixels.grid)

    def _most_of_ranks(self, count: int) -> int:
        if not self._in_step:
            return count
        counts: list[int] = [0] * torch.distributed.get_world_size()
        torch.distributed.all_gather_object(counts, count)
        return max(counts)

    def _shrink(self) -> None:
        num_bytes = self.num_bytes
        while num_bytes > self._max_bytes:
            _, dropped = self._features.popitem(last=False)
            num_bytes -= dropped.features.nbytes
