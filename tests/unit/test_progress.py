"""What long work tells of itself: a bar at a terminal, plain lines elsewhere, nothing on standard output."""

import io
import os
import pty
import subprocess
import sys
from pathlib import Path

import pytest

from medvie_rl import progress
from medvie_rl.cli import main
from medvie_rl.progress import UNSEEN, rate_and_time_left, show_progress

ROOT = Path(__file__).parents[2]


def test_rate_and_time_left() -> None:
    assert rate_and_time_left(50, 100, 10.0) == "5.0 documents/s, 0:10 left"
    assert rate_and_time_left(2, 50, 5.0, "steps") == "2.5 s each, 2:00 left"
    assert rate_and_time_left(4, 8, 2.0, "steps") == "2.0 steps/s, 0:02 left"


def test_elsewhere_than_at_a_terminal_there_are_lines_now_and_then(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    now = iter([0.0, 100.0, 104.0, 111.0, 119.0, 122.0, 130.0])
    monkeypatch.setattr(progress.time, "monotonic", lambda: next(now))
    with show_progress("reading", "pages") as shown:
        shown.begin(5)  # at 100: what came before was starting
        assert list(shown.each("abc")) == ["a", "b", "c"]  # done at 104, 111 and 119
        assert [list(batch) for batch in shown.batches("de", 1)] == [["d"], ["e"]]  # at 122 and 130
    out, err = capsys.readouterr()
    assert out == ""
    assert err.splitlines() == [
        "reading: 2 of 5 pages, 5.5 s each, 0:16 left",  # not at 104, too early
        "reading: 4 of 5 pages, 5.5 s each, 0:06 left",  # not at 119; and nothing at the end
    ]


def test_items_come_in_batches_of_a_size_that_are_done_as_a_whole() -> None:
    assert list(UNSEEN.batches([1, 2, 3, 4, 5], 2)) == [[1, 2], [3, 4], [5]]
    assert list(UNSEEN.batches([], 2)) == []


def test_at_a_terminal_there_is_a_bar_and_what_goes_into_a_file_stays_there(tmp_path: Path) -> None:
    script = """
import time
from medvie_rl.progress import show_progress
with show_progress("reading") as shown:
    shown.begin(2)
    for item in shown.each(["one", "two"]):
        print(item)
        time.sleep(0.3)
"""
    terminal, end = pty.openpty()
    with (tmp_path / "lines").open("w") as lines:
        subprocess.run(
            [sys.executable, "-c", script], cwd=ROOT, stdout=lines, stderr=end, check=True,
            env=os.environ | {"TERM": "xterm", "COLUMNS": "80", "PYTHONPATH": str(ROOT)},
        )  # fmt: skip
    os.close(end)
    with io.FileIO(terminal) as file:
        seen = file.read(100_000).decode()
    assert "reading" in seen and "1/2" in seen and "documents/s" in seen
    assert "one" not in seen
    assert (tmp_path / "lines").read_text() == "one\ntwo\n"


def test_commands_say_how_far_they_are(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(progress, "_SECONDS_BETWEEN_LINES", 0.0)
    monkeypatch.chdir(ROOT)
    slips, folder = str(tmp_path / "slips"), str(tmp_path / "folder")
    for command, first, last in (
        (["data", "synth", "--num", "3,2,2", "--out", slips], "drawing: 1 of 7 documents,", "drawing: 6 of 7"),
        (["data", "export", slips, "--out", folder], "exporting: 1 of 7 documents,", "exporting: 6 of 7"),
        (
            ["data", "import", folder, "--schema", "conf/schemas", "--out", str(tmp_path / "back")],
            "importing: 1 of 7 documents,",
            "importing: 6 of 7",
        ),
        (["data", "check", slips], "checking: 1 of 7 documents,", "checking: 6 of 7"),
        (["data", "show", slips, "--html", str(tmp_path / "sheet.html")], "showing: 1 of 5", "showing: 4 of 5"),
        (
            ["data", "select", slips, "--split", "train", "--features", "light", "--json", str(tmp_path / "why.json")],
            "looking at: 1 of 3 documents,",
            "looking at: 2 of 3",
        ),
    ):
        assert main(command) == 0
        lines = capsys.readouterr().err.splitlines()
        assert lines[0].startswith(first) and lines[-1].startswith(last), lines
