"""Weight buckets are read without a copy, and damage is found by name."""

import hashlib
from itertools import pairwise

import numpy as np
import pytest
import torch
from safetensors.torch import save

from rollout.wire import Bucket, digest_of, read_bucket, read_header, sent_digests

TENSORS = {
    "layer.weight": torch.arange(6, dtype=torch.float32).reshape(2, 3),
    "layer.bias": torch.tensor([1.0, -2.5], dtype=torch.bfloat16),
    "layer.step": torch.tensor(7),
}


def bucket(*, digests: bool = True) -> np.ndarray:
    sums = {
        f"sha256:{name}": hashlib.sha256(tensor.reshape(-1).view(torch.uint8).numpy()).hexdigest()
        for name, tensor in TENSORS.items()
    }
    return np.frombuffer(save(TENSORS, metadata=sums if digests else None), dtype=np.uint8)


def test_tensors_are_read_in_place() -> None:
    array = bucket()
    read = {wire.name: wire for wire in read_bucket(array)}
    assert set(read) == set(TENSORS)
    for name, tensor in TENSORS.items():
        assert read[name].tensor().dtype == tensor.dtype
        assert read[name].tensor().equal(tensor)
        assert np.shares_memory(read[name].bytes, array)


def in_pieces(file: np.ndarray) -> list[Bucket]:
    """The same file cut in all ways that a sender may choose."""
    entries, length = read_header(file)
    ends = [length, *(length + entry.end for entry in entries)]
    whole = torch.from_numpy(file.copy())
    return [
        [file[:length], file[length:]],
        [file[:length], whole[length:]],
        [file[start:end] for start, end in zip([0, *ends], ends, strict=False)],
        [file[: ends[1]], *(whole[start:end] for start, end in pairwise(ends[1:]))],
    ]


def test_a_file_may_come_in_pieces() -> None:
    file = bucket()
    for pieces in in_pieces(file):
        assert {wire.name for wire in read_bucket(pieces)} == set(TENSORS)
        for wire in read_bucket(pieces):
            assert wire.tensor().equal(TENSORS[wire.name])
        assert sent_digests([pieces]) == sent_digests([file])
        with pytest.raises(ValueError, match="the weight bucket is cut off"):
            read_bucket(pieces[:-1])


def test_damage_is_named() -> None:
    sound = bucket()
    digests = sent_digests([sound])
    assert list(digests) == [wire.name for wire in read_bucket(sound)] and len(set(digests.values())) == len(TENSORS)
    assert digest_of(digests) == digest_of(dict(reversed(digests.items()))) != digest_of(digests | {"layer.bias": "0"})
    for name in TENSORS:
        damaged = sound.copy()
        (wire,) = [wire for wire in read_bucket(damaged) if wire.name == name]
        wire.bytes[0] ^= 1
        with pytest.raises(ValueError, match=f"sha256 digests differ: {name}$"):
            sent_digests([damaged])


def test_malformed_buckets_are_refused() -> None:
    with pytest.raises(ValueError, match=r"without a digest .*layer\.bias"):
        sent_digests([bucket(digests=False)])
    with pytest.raises(ValueError, match="the weight bucket is cut off"):
        read_bucket(bucket()[:-1])
    with pytest.raises(ValueError, match="must begin with a 1-D uint8 array, got float32"):
        read_bucket(np.zeros(64, dtype=np.float32))
    with pytest.raises(ValueError, match="does not start with a safetensors header"):
        read_bucket(np.full(64, 255, dtype=np.uint8))
