"""Peak numbers of GPUs, as their data sheets give them."""

from dataclasses import dataclass

from medvie_rl.errors import UserError


@dataclass(frozen=True, slots=True, kw_only=True)
class Gpu:
    """One GPU. Rates are peaks in one direction; what is achieved of them is an input of the estimate."""

    name: str
    memory_gib: float  # that CUDA shows, a little less than what is sold
    tflops: float  # bfloat16 on tensor cores, dense (data sheets that give the sparse number: half of it)
    bandwidth: float  # of its memory, TB/s
    link: float  # to other GPUs of the node, GB/s: half of the NVLink or PCIe number, which counts both directions


GPUS = {
    gpu.name: gpu
    for gpu in (
        # nvidia.com/en-us/data-center/h100 (SXM): 1,979 sparse TFLOPS, 3.35 TB/s, NVLink 900 GB/s
        Gpu(name="H100", memory_gib=79.1, tflops=989.5, bandwidth=3.35, link=450),
        # nvidia.com/en-us/data-center/h200 (SXM): as H100, 141 GB, 4.8 TB/s
        Gpu(name="H200", memory_gib=139.7, tflops=989.5, bandwidth=4.8, link=450),
        # nvidia.com/en-us/data-center/a100 (SXM): 312 TFLOPS, 2,039 and 1,555 GB/s, NVLink 600 GB/s
        Gpu(name="A100-80", memory_gib=79.1, tflops=312, bandwidth=2.039, link=300),
        Gpu(name="A100-40", memory_gib=39.4, tflops=312, bandwidth=1.555, link=300),
        # nvidia.com/en-us/data-center/l40s: 362.05 TFLOPS, 864 GB/s, PCIe 4.0 64 GB/s; 48 GB less its ECC bits
        Gpu(name="L40S", memory_gib=44.3, tflops=362, bandwidth=0.864, link=32),
        # nvidia.com/en-us/data-center/l4: 242 sparse TFLOPS, 300 GB/s, PCIe 4.0; 24 GB less its ECC bits
        Gpu(name="L4", memory_gib=22.0, tflops=121, bandwidth=0.3, link=32),
        # NVIDIA Ada GPU architecture white paper, appendix A: 165.2 TFLOPS with float32 sums, 1,008 GB/s, PCIe 4.0
        Gpu(name="RTX-4090", memory_gib=23.5, tflops=165.2, bandwidth=1.008, link=32),
    )
}


def find_gpu(name: str) -> Gpu:
    """The GPU of this name, capitals and hyphens aside; raises UserError for one that is not in the table."""
    plain = {key.lower().replace("-", ""): gpu for key, gpu in GPUS.items()}
    found = plain.get(name.lower().replace("-", "").replace("_", "").replace(" ", ""))
    if found is None:
        raise UserError(f"--gpu: no numbers for {name!r}, only for {', '.join(GPUS)}")
    return found
