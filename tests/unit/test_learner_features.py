"""The feature cache: bounds, order of use, and rows with features equal to rows with pixels."""

from collections.abc import Iterator
from dataclasses import replace

import pytest
import torch
from torch import Tensor

from learner.families import FAMILIES
from learner.features import FeatureCache
from learner.model import PolicyModule
from learner.packing import ImageFeatures, ImagePixels, PackedRows
from tiny_policy import GRIDS, Policy, make_group, make_images, make_policy, pack, packed_forward, relative_errors

GROUPS = [make_group("one", ("a",), (5, 1, 7), 10), make_group("two images", ("c", "b"), (3, 6), 11)]
IMAGES = make_images()
IMAGE_BYTES = 4 * 10 * 2


@pytest.fixture(scope="module", params=FAMILIES)
def policy(request: pytest.FixtureRequest) -> Policy:
    made = make_policy(family=request.param)
    made.model.visual.requires_grad_(False)
    return made


class Encoder:
    """Counts its calls; the features are the image's mean patch, ten times."""

    def __init__(self) -> None:
        self.encoded: list[str] = []

    def pixels(self, key: str) -> ImagePixels:
        self.encoded.append(key)
        return ImagePixels(patches=torch.full((4, 2), float(ord(key[0]))), grid=(1, 2, 2))

    def __call__(self, image: ImagePixels) -> Tensor:
        return image.patches.mean(0).expand(10, 2).clone()


@pytest.fixture
def encoder() -> Encoder:
    return Encoder()


def cache_of(encoder: Encoder, num_images: int) -> FeatureCache:
    return FeatureCache(encoder, encoder.pixels, num_images * IMAGE_BYTES, torch.device("cpu"), in_step=False)


def test_images_are_encoded_once_and_those_used_longest_ago_go_first(encoder: Encoder) -> None:
    cache = cache_of(encoder, 2)
    with cache.holding(["a", "b", "a"]):
        assert cache["a"].features.tolist() == [[97.0, 97.0]] * 10 and cache["a"].grid == (1, 2, 2)
    with cache.holding(["a"]):
        assert encoder.encoded == ["a", "b"]
    with cache.holding(["c"]):
        assert cache.num_bytes == 3 * IMAGE_BYTES
    assert "b" not in cache and "a" in cache and "c" in cache  # a was used after b
    with cache.holding(["b"]):
        assert encoder.encoded == ["a", "b", "c", "b"]


def test_an_updates_images_stay_until_it_is_done_also_over_the_bound(encoder: Encoder) -> None:
    cache = cache_of(encoder, 1)
    with cache.holding(["a", "b", "c"]):
        assert [cache[key].features[0, 0].item() for key in "abc"] == [97.0, 98.0, 99.0]
    assert cache.num_bytes == IMAGE_BYTES and "c" in cache
    nothing = cache_of(encoder, 0)
    with pytest.raises(RuntimeError, match="in the update"), nothing.holding(["a"]):
        raise RuntimeError("in the update")
    assert nothing.num_bytes == 0


def features_of(policy: Policy) -> dict[str, ImageFeatures]:
    module = PolicyModule(policy)
    return {key: ImageFeatures(features=module.encode(IMAGES[key]), grid=GRIDS[key]) for key in GRIDS}


def outputs_and_gradients(policy: Policy, rows: PackedRows) -> Iterator[dict[str, Tensor]]:
    policy.zero_grad()
    logprobs, entropies = packed_forward(policy, rows)
    yield {"logprobs": logprobs.detach(), "entropies": entropies}
    (logprobs * torch.linspace(-1, 1, len(logprobs))).sum().backward()
    yield {name: p.grad.clone() for name, p in policy.named_parameters() if p.grad is not None}


def test_features_give_what_pixels_give(policy: Policy) -> None:
    expected = list(outputs_and_gradients(policy, pack(policy, IMAGES, GROUPS)))
    features = features_of(policy)
    rows = pack(policy, features, GROUPS)  # type: ignore[arg-type]
    assert rows.pixel_values is None and rows.image_features is not None
    found = list(outputs_and_gradients(policy, rows))
    for of_cache, of_pixels in zip(found, expected, strict=True):
        assert max(relative_errors(of_cache, of_pixels).values()) < 1e-5

    swapped = rows.image_features.split([6, 4, 4])
    faulty = replace(rows, image_features=torch.cat([swapped[0], swapped[2], swapped[1]]))
    for of_cache, of_pixels in zip(outputs_and_gradients(policy, faulty), expected, strict=True):
        assert max(relative_errors(of_cache, of_pixels).values()) > 1e-3


def test_features_do_not_depend_on_the_images_beside(policy: Policy) -> None:
    first, again = features_of(policy), features_of(policy)
    assert all(torch.equal(first[key].features, again[key].features) for key in GRIDS)
    assert not any(image.features.requires_grad for image in first.values())
