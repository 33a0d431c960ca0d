"""Weights out without Ray's object store: broadcast to engines on other devices, or shared with those on the same."""

import os
import pickle
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta
from multiprocessing.reduction import ForkingPickler
from typing import Any

import torch
import torch.distributed
from torch import Tensor

from learner.meeting import meeting_store
from learner.types import ALL, SharedBucket
from learner.weights import bytes_of, stream_weights, tensor_digest


class WeightBroadcaster:
    """Rank 0 of a process group in which the others are engines: NCCL between GPUs, gloo between CPUs.

    A bucket is broadcast as one packed tensor, [num_bytes] uint8, without its header, which travels before.
    """

    def __init__(self, address: str, port: int, *, group_size: int, seconds: float, device: torch.device) -> None:
        """Meets the engines at the address: returns when all `group_size` - 1 of them have come. Raises
        torch.distributed.DistError if they do not within `seconds`, which also bounds every broadcast."""
        limit = timedelta(seconds=seconds)
        store = meeting_store(address, port, num_processes=group_size, is_host=True, seconds=seconds)
        if device.type == "cuda":
            options = torch.distributed.ProcessGroupNCCL.Options()
            options._timeout = limit
            self._group: Any = torch.distributed.ProcessGroupNCCL(store, 0, group_size, options)
        else:
            self._group = torch.distributed.ProcessGroupGloo(store, 0, group_size, limit)
        self._store, self._device = store, device

    def send(self, policy: Any, dtype: torch.dtype, *, part: str = ALL, digests: bool = True) -> dict[str, str]:
        """Broadcast the buckets of `stream_weights`; returns the tensors' digests by name. Under ZeRO-3 the other ranks
        of the learner exhaust `stream_weights` meanwhile."""
        options = torch.distributed.BroadcastOptions()
        options.rootRank = options.rootTensor = 0
        found: dict[str, str] = {}
        for tensors in stream_weights(policy, dtype, with_tensors=True, part=part, device=self._device):
            if digests:
                found |= {name: tensor_digest(tensor) for name, tensor in tensors.items()}
            self._group.broadcast([packed(tensors)], options).wait()
        return found


def packed(tensors: dict[str, Tensor]) -> Tensor:
    """[num_bytes], uint8: the bytes of the tensors behind one another."""
    return torch.cat([bytes_of(tensor) for tensor in tensors.values()])


def shared_buckets(
    policy: Any, dtype: torch.dtype, *, part: str, device: torch.device, digests: bool
) -> Iterator[SharedBucket]:
    """Each bucket of `stream_weights`, packed: by CUDA IPC on a GPU, in shared memory on a CPU.

    Its memory is given back when the next one is asked for. Collective under ZeRO-3.
    """
    for tensors in stream_weights(policy, dtype, with_tensors=True, part=part, device=device):
        found = {name: tensor_digest(tensor) for name, tensor in tensors.items()} if digests else {}
        with _shared(packed(tensors)) as handle:
            yield SharedBucket(device=device_name(device), handle=handle, digests=found)


@contextmanager
def _shared(payload: Tensor) -> Iterator[bytes]:
    """What other processes on the payload's device open it by, for the time of the context."""
    if payload.is_cuda:
        torch.cuda.synchronize(payload.device)  # what the handle opens is there
        yield bytes(ForkingPickler.dumps(payload, pickle.HIGHEST_PROTOCOL))
        return
    # Memory without a name, which is gone with this process however that ends.
    with open(os.memfd_create("medvie-weights"), "wb") as memory:
        memory.write(payload.numpy())
        memory.flush()
        yield f"/proc/{os.getpid()}/fd/{memory.fileno()}".encode()


def device_name(device: torch.device) -> str:
    """The same in all processes that can open each other's memory: a GPU's UUID, or for CPUs the host's name."""
    if device.type == "cuda":
        return str(torch.cuda.get_device_properties(device).uuid)
    return socket.gethostname()
