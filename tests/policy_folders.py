"""What a run writes where no learner is needed: folders in place of policies and checkpoints."""

from pathlib import Path

from learner.manifest import file_digests, files_below, write_manifest


def fill(folder: Path) -> None:
    """A new folder with a file."""
    folder.mkdir()
    (folder / "weights").write_text("w", encoding="utf-8")


def seal(folder: Path) -> None:
    """Write a manifest of what a folder holds."""
    files = {name: digest for name, digest in file_digests(folder, files_below(folder)).items() if digest}
    write_manifest(folder, {}, files)
