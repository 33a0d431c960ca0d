"""What a step took: by phase, in all, and of that the work of the driver's own process."""

import time

import pytest

from medvie_rl.timing import Stopwatch


def test_waiting_is_no_work_of_the_driver() -> None:
    watch, started = Stopwatch(), time.process_time()
    with watch("generate"):
        time.sleep(0.3)
    with watch("update"):
        while time.process_time() - started < 0.1:
            pass
    metrics = watch.metrics()
    assert list(metrics) == ["time/generate", "time/update", "time/step", "time/driver_cpu"]
    assert metrics["time/generate"] == pytest.approx(0.3, abs=0.2)
    assert metrics["time/step"] >= metrics["time/generate"] + metrics["time/update"]
    assert 0.1 <= metrics["time/driver_cpu"] < 0.2
