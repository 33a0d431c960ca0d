"""Lets a CUDA-linked torchvision import beside a CPU-only torch.

PyPI's torchvision wheel links CUDA. Beside a CPU torch its C++ operators do not load, and `import torchvision` then
fails while it registers shape functions for two of them ("operator torchvision::nms does not exist"), although the
Python transforms that image processors use would work. Declaring the two operator schemas first is enough.

`python -m medvie_rl.install` copies this file into the environment's site-packages together with a `.pth` line, so
that it acts in every process, the ones that vLLM and Ray start included. Where torchvision's own library loads, it does
nothing. It imports nothing of ours and costs one meta-path entry until torchvision is imported.
"""

import sys
from importlib.machinery import ModuleSpec, PathFinder

_OPERATORS = ("nms", "qnms")
_SCHEMA = "(Tensor dets, Tensor scores, float iou_threshold) -> Tensor"
_keep_alive: list[object] = []  # a torch Library unregisters its operators when it is collected


class _TorchvisionFinder:
    @classmethod
    def find_spec(cls, name: str, path: object = None, target: object = None) -> ModuleSpec | None:
        if name != "torchvision":
            return None
        sys.meta_path[:] = [finder for finder in sys.meta_path if finder is not cls]
        spec = PathFinder.find_spec(name)
        if spec is not None and spec.submodule_search_locations:
            _declare_missing_operators(spec.submodule_search_locations[0])
        return spec


def _declare_missing_operators(package_folder: str) -> None:
    import torch

    try:
        torch.ops.load_library(f"{package_folder}/_C.so")
    except OSError:
        library = torch.library.Library("torchvision", "DEF")
        for operator in _OPERATORS:
            library.define(f"{operator}{_SCHEMA}")
        _keep_alive.append(library)


def install() -> None:
    """Put the finder first on the meta path (called by the `.pth` line at interpreter start)."""
    if _TorchvisionFinder not in sys.meta_path:
        sys.meta_path.insert(0, _TorchvisionFinder)
