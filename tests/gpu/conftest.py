"""What tests on GPUs measured is printed and kept in build/test_gpu.json."""

import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest

NUMBERS = Path(__file__).parents[2] / "build" / "test_gpu.json"


@pytest.fixture(scope="session")
def record() -> Callable[[str, Mapping[str, Any]], None]:
    """Prints named numbers and adds them to the file, which begins anew with each session."""
    import torch

    kept: dict[str, Any] = {"device": torch.cuda.get_device_name() if torch.cuda.is_available() else "cpu"}

    def add(name: str, numbers: Mapping[str, Any]) -> None:
        kept[name] = dict(numbers)
        NUMBERS.parent.mkdir(exist_ok=True)
        NUMBERS.write_text(json.dumps(kept, indent=2) + "\n", encoding="utf-8")
        print(f"\n{name} on {kept['device']}\n{json.dumps(kept[name], indent=2)}")

    return add
