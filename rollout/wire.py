"""The wire format of weights: buckets, each the pieces of a safetensors file, read without a copy."""

import hashlib
import json
import warnings
from bisect import bisect_right
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import accumulate
from typing import Any, TypeAlias

import numpy as np
import torch

Piece: TypeAlias = np.ndarray | torch.Tensor
Bucket: TypeAlias = np.ndarray | Sequence[Piece]
"""A safetensors file in one or several uint8 arrays or tensors, [num_bytes] each, laid behind one another. The header
is in the first, and no tensor lies over two of them."""

_DTYPES = {
    "F64": torch.float64,
    "F32": torch.float32,
    "F16": torch.float16,
    "BF16": torch.bfloat16,
    "F8_E4M3": torch.float8_e4m3fn,
    "I64": torch.int64,
    "I32": torch.int32,
    "U8": torch.uint8,
}
_DIGEST_PREFIX = "sha256:"
_HEADER_LENGTH_BYTES = 8  # a safetensors file: u64 length, JSON header of that length, tensor bytes


@dataclass(frozen=True, slots=True, kw_only=True)
class TensorEntry:
    """What a bucket's header says of one tensor. Its bytes lie from `begin` to `end` behind the header."""

    name: str
    dtype: torch.dtype
    shape: tuple[int, ...]
    begin: int
    end: int
    expected_digest: str | None


@dataclass(frozen=True, slots=True, kw_only=True)
class WireTensor:
    """One tensor of a bucket, not copied. `bytes` [num_bytes], uint8, is a view of the bucket's memory."""

    entry: TensorEntry
    bytes: Piece

    @property
    def name(self) -> str:
        return self.entry.name

    def digest(self) -> str:
        """sha256 of the tensor's bytes, as hex."""
        data = self.bytes.cpu().numpy() if isinstance(self.bytes, torch.Tensor) else self.bytes
        return hashlib.sha256(data.data).hexdigest()

    def tensor(self) -> torch.Tensor:
        """The values, sharing the bucket's memory, which may be read-only: never write into it."""
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", message=".*not writable.*")
            data = self.bytes if isinstance(self.bytes, torch.Tensor) else torch.from_numpy(self.bytes)
        return data.view(self.entry.dtype).view(self.entry.shape)


def read_header(piece: Piece) -> tuple[list[TensorEntry], int]:
    """(the tensors in the order of their bytes, the header's length in bytes) of a bucket's first piece."""
    if not isinstance(piece, np.ndarray) or piece.dtype != np.uint8 or piece.ndim != 1:
        found = f"{piece.dtype} of shape {tuple(piece.shape)}"
        raise ValueError(f"a weight bucket must begin with a 1-D uint8 array, got {found}")
    length = _HEADER_LENGTH_BYTES + int.from_bytes(piece[:_HEADER_LENGTH_BYTES].tobytes(), "little")
    try:
        header: dict[str, Any] = json.loads(piece[_HEADER_LENGTH_BYTES:length].tobytes())
    except ValueError as error:
        raise ValueError(f"a weight bucket of {piece.size} bytes does not start with a safetensors header") from error
    metadata: dict[str, str] = header.pop("__metadata__", {})
    entries = []
    for name, entry in sorted(header.items(), key=lambda item: item[1]["data_offsets"]):
        if entry["dtype"] not in _DTYPES:
            raise ValueError(f"{name}: unknown dtype {entry['dtype']!r}; known are {', '.join(_DTYPES)}")
        begin, end = entry["data_offsets"]
        entries.append(
            TensorEntry(
                name=name,
                dtype=_DTYPES[entry["dtype"]],
                shape=tuple(entry["shape"]),
                begin=begin,
                end=end,
                expected_digest=metadata.get(_DIGEST_PREFIX + name),
            )
        )
    return entries, length


def read_bucket(bucket: Bucket) -> list[WireTensor]:
    """The tensors of one bucket, in the order of their bytes. Raises ValueError for what is no bucket or cut off."""
    first, *others = [bucket] if isinstance(bucket, np.ndarray) else bucket
    entries, length = read_header(first)
    pieces = [first[length:], *others]
    ends = list(accumulate(len(piece) for piece in pieces))
    tensors = []
    for entry in entries:
        index = min(bisect_right(ends, entry.begin), len(pieces) - 1)
        if entry.end > ends[index]:
            raise ValueError(f"{entry.name}: the weight bucket is cut off ({ends[index]} bytes, {entry.end} needed)")
        start = ends[index] - len(pieces[index])
        tensors.append(WireTensor(entry=entry, bytes=pieces[index][entry.begin - start : entry.end - start]))
    return tensors


def sent_digests(buckets: Iterable[Bucket]) -> dict[str, str]:
    """The digest of every tensor by name, each compared with the one sent along.

    Raises ValueError naming the tensors whose bytes differ or that came without a digest.
    """
    found, different, absent = {}, [], []
    for bucket in buckets:
        for tensor in read_bucket(bucket):
            found[tensor.name] = tensor.digest()
            if tensor.entry.expected_digest is None:
                absent.append(tensor.name)
            elif tensor.entry.expected_digest != found[tensor.name]:
                different.append(tensor.name)
    if different:
        raise ValueError(f"weights arrived damaged, their sha256 digests differ: {listed(different)}")
    if absent:
        raise ValueError(f"weights arrived without a digest ('sha256:<name>' in the metadata): {listed(absent)}")
    return found


def digest_of(digests: Mapping[str, str]) -> str:
    """One digest over all names and digests."""
    return hashlib.sha256("".join(f"{name}:{digests[name]}\n" for name in sorted(digests)).encode()).hexdigest()


def checkpoint_tensors(bucket: Bucket, dtype: torch.dtype) -> Iterator[tuple[str, torch.Tensor]]:
    """(name, tensor) of the bucket's tensors, those of floating point in `dtype`."""
    for wire in read_bucket(bucket):
        tensor = wire.tensor()
        yield wire.name, tensor.to(dtype) if tensor.is_floating_point() else tensor


def listed(names: Sequence[str], limit: int = 12) -> str:
    """The names, the first so many of them where there are many."""
    more = f" and {len(names) - limit} more" if len(names) > limit else ""
    return ", ".join(names[:limit]) + more
