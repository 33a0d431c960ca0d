"""Fixtures that several tests share because they take a minute to make."""

from pathlib import Path

import pytest

from runs import SMALL, only_run, run_to_end, train_command


@pytest.fixture(scope="session")
def small_run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The directory of a small run that was never interrupted."""
    output_dir = tmp_path_factory.mktemp("small")
    run_to_end(train_command(output_dir, *SMALL))
    return only_run(output_dir)
