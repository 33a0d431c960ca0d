"""Weights in without Ray's object store: what the learner broadcasts, or shares on the same device."""

import pickle
import socket
from collections.abc import Iterator, Mapping, Sequence
from datetime import timedelta
from typing import Any

import numpy as np
import torch
import torch.distributed

from rollout.wire import Bucket, read_header


class BroadcastGroup:
    """A place in the process group in which the learner's rank 0 broadcasts: NCCL between GPUs, gloo between CPUs."""

    def __init__(
        self, address: str, port: int, *, rank: int, group_size: int, seconds: float, device: torch.device
    ) -> None:
        """Meets the learner and the other engines at the address. Raises torch.distributed.DistError if they do not
        come within `seconds`, which also bound every broadcast."""
        limit = timedelta(seconds=seconds)
        store = torch.distributed.TCPStore(address, port, group_size, is_master=False, timeout=limit)
        if device.type == "cuda":
            options = torch.distributed.ProcessGroupNCCL.Options()
            options._timeout = limit
            self._group: Any = torch.distributed.ProcessGroupNCCL(store, rank, group_size, options)
        else:
            self._group = torch.distributed.ProcessGroupGloo(store, rank, group_size, limit)
        self._store, self._device = store, device

    def receive(self, headers: Sequence[np.ndarray]) -> Iterator[Bucket]:
        """The buckets with these headers, one by one as they are broadcast."""
        options = torch.distributed.BroadcastOptions()
        options.rootRank = options.rootTensor = 0
        for header in headers:
            entries, _ = read_header(header)
            payload = torch.empty(entries[-1].end, dtype=torch.uint8, device=self._device)
            self._group.broadcast([payload], options).wait()
            yield [header, payload]


def open_shared(header: np.ndarray, handles: Mapping[str, bytes], device: torch.device) -> Bucket:
    """A copy of the bucket that a process on this device shares, which is free to use its memory again afterwards.

    `handles` are by device (see `device_name`). Raises RuntimeError if none is of this one.
    """
    name = device_name(device)
    if name not in handles:
        raise RuntimeError(
            f"weights are shared on {', '.join(sorted(handles))}, this engine is on {name}: sync.transport=ipc needs a "
            "learner rank on every engine's device; use broadcast or object_store"
        )
    if device.type == "cpu":
        return [header, np.fromfile(handles[name].decode(), dtype=np.uint8)]
    shared: torch.Tensor = pickle.loads(handles[name])
    payload = shared.clone()
    del shared
    torch.cuda.synchronize(device)  # the copy is made
    torch.cuda.ipc_collect()
    return [header, payload]


def device_name(device: torch.device) -> str:
    """The same in all processes that can open each other's memory: a GPU's UUID, or for CPUs the host's name."""
    if device.type == "cuda":
        return str(torch.cuda.get_device_properties(device).uuid)
    return socket.gethostname()
