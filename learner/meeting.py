"""Where processes meet: a store of one of them that listens on the address it is given, and on no other."""

import socket
from datetime import timedelta

import torch.distributed

_SECONDS = 1800.0  # torch's own limit


def meeting_store(
    address: str, port: int, *, num_processes: int, is_host: bool, seconds: float = _SECONDS
) -> torch.distributed.TCPStore:
    """Returns when all have come; raises torch.distributed.DistError if they do not within `seconds`.

    Left to itself, torch's store listens on all addresses of the machine.
    """
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    listening = socket.create_server((address, port), family=family).detach() if is_host else None
    return torch.distributed.TCPStore(
        address, port, num_processes, is_host, timedelta(seconds=seconds), master_listen_fd=listening
    )


def join_ranks(rank: int, world_size: int, address: str, port: int, *, on_gpu: bool) -> None:
    """Meet the other ranks of the learner, once per process."""
    import deepspeed

    if not torch.distributed.is_initialized():
        # Only DeepSpeed inference uses this operator, and joining would compile it first (minutes, a C++ compiler).
        deepspeed.ops.__compatible_ops__["deepspeed_shm_comm"] = False
        backend = "nccl" if on_gpu else "gloo"
        store = meeting_store(address, port, num_processes=world_size, is_host=rank == 0)
        torch.distributed.init_process_group(backend, store=store, rank=rank, world_size=world_size)
        deepspeed.init_distributed(dist_backend=backend, verbose=False)
    met = (torch.distributed.get_rank(), torch.distributed.get_world_size())
    if met != (rank, world_size):
        raise RuntimeError(f"this process is already rank {met[0]} of {met[1]}; one LearnerWorker layout per process")
