"""Memory of datasets larger than it: what opening and streaming one takes, measured in a process of its own."""

import hashlib
import json
import random
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from medvie_rl.bench.types import Result
from medvie_rl.data.store import Document, open_split, write_split

_MIB = 2**20
_STREAMED, _STREAMED_BYTES = 20_000, 64 * 1024  # documents, bytes of an image: 1.2 GiB
_OPENED, _OPENED_BYTES = 100_000, 4 * 1024


def bench_stream() -> Result:
    """Peak memory of a process that opens a split of 1.2 GiB and reads all its images."""
    return _measured("dataset_stream_peak_mib", "stream", _STREAMED, _STREAMED_BYTES)


def bench_open() -> Result:
    """Peak memory of a process that opens a split of 100,000 documents, whose annotations it then holds."""
    return _measured("dataset_open_peak_mib", "open", _OPENED, _OPENED_BYTES)


def write_random_documents(folder: Path, num: int, image_bytes: int) -> Path:
    """A split `train` of `num` documents with 10 keys and one incompressible image each; the same every time."""
    write_split(folder, "train", _random_documents(num, image_bytes))
    return folder


def measure(action: str, folder: Path) -> dict[str, Any]:
    """`open` or `stream` the split `train` of a dataset in a new process.

    Returns `before_mib` (libraries alone) and `peak_mib` of its resident memory, `num_documents`, `image_mib` that it
    read, and `seconds`.
    """
    command = [sys.executable, "-m", "medvie_rl.bench.documents", action, str(folder)]
    result = subprocess.run(command, capture_output=True, text=True, check=True)
    measured: dict[str, Any] = json.loads(result.stdout)
    return measured


def _measured(name: str, action: str, num: int, image_bytes: int) -> Result:
    with tempfile.TemporaryDirectory() as folder:
        start = time.perf_counter()
        path = write_random_documents(Path(folder), num, image_bytes)
        seconds = time.perf_counter() - start
        found = measure(action, path)
    return Result(
        name=name,
        value=found["peak_mib"],
        unit=f"MiB, {num:,} documents",
        better="lower",
        compared_with=(
            f"{num * image_bytes / _MIB:,.0f} MiB of images; {found['before_mib']:.0f} MiB are the libraries; "
            f"{found['seconds']:.1f} s to {action}, {seconds:.1f} s to write"
        ),
    )


def _random_documents(num: int, image_bytes: int) -> Iterator[tuple[Document, list[bytes]]]:
    rng = random.Random(1)
    for index in range(num):
        image = rng.randbytes(image_bytes)
        annotation = {f"key_{key}": f"value {rng.randrange(10**9)}" for key in range(10)}
        document = Document(
            id=f"document-{index:06d}",
            document_type="random bytes",
            schema="random",
            annotation=annotation,
            image_keys=(hashlib.sha256(image).hexdigest(),),
            image_sizes=((1, 1),),
            provenance="medvie_rl/bench/documents.py",
            synthetic=True,
        )
        yield document, [image]


def _peak_mib() -> float:
    """Of this process since it began: `ru_maxrss` would be that of the process that started it, if that was larger."""
    for line in Path("/proc/self/status").read_text(encoding="ascii").splitlines():
        if line.startswith("VmHWM:"):
            return int(line.split()[1]) / 1024
    raise OSError("/proc/self/status has no VmHWM: memory is measured on Linux only")


def _main(action: str, folder: str) -> None:
    before, start, num_bytes = _peak_mib(), time.perf_counter(), 0
    split = open_split(folder, "train")
    if action == "stream":
        for _, images in split.stream():
            num_bytes += sum(map(len, images))
    seconds = time.perf_counter() - start
    found = {
        "before_mib": before,
        "peak_mib": _peak_mib(),
        "num_documents": len(split),
        "image_mib": num_bytes / _MIB,
        "seconds": seconds,
    }
    print(json.dumps(found))


if __name__ == "__main__":
    _main(*sys.argv[1:])
