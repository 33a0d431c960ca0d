"""Where a dataset lies: a local folder, or a place in object storage that pyarrow can reach (`s3://bucket/folder`)."""

import os
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

import pyarrow as pa
from pyarrow import fs


@dataclass(frozen=True, slots=True)
class Location:
    """A folder on a pyarrow file system. `shown` is how the user named it, for messages."""

    filesystem: fs.FileSystem
    folder: str
    shown: str

    @classmethod
    def of(cls, folder: Path | str, filesystem: fs.FileSystem | None = None) -> "Location":
        """The folder named by a path, by a URI such as `s3://bucket/folder`, or by a path on a given file system.

        Raises ValueError for a URI that pyarrow does not understand.
        """
        shown = str(folder).rstrip("/") or "/"
        if filesystem is not None:
            return cls(filesystem, shown, shown)
        if isinstance(folder, Path) or "://" not in folder:
            return cls(fs.LocalFileSystem(), os.path.abspath(folder), shown)
        try:
            found, path = fs.FileSystem.from_uri(folder)
        except (pa.ArrowException, OSError) as error:
            raise ValueError(
                f"{folder}: expected a folder or a URI that pyarrow can open, such as s3://bucket/folder ({error})"
            ) from error
        return cls(found, path.rstrip("/"), shown)

    def path(self, name: str) -> str:
        """The path of a file of the folder on its file system."""
        return f"{self.folder}/{name}"

    def has(self, name: str) -> bool:
        """Whether the folder holds a file of this name."""
        return bool(self.filesystem.get_file_info(self.path(name)).type == fs.FileType.File)

    def file_names(self) -> list[str]:
        """The names of the files directly in the folder, sorted; none where there is no folder."""
        found = self.filesystem.get_file_info(fs.FileSelector(self.folder, allow_not_found=True))
        return sorted(info.base_name for info in found if info.type == fs.FileType.File)

    def read_below(self, name: str) -> bytes:
        """The content of a file named by a path relative to the folder.

        Raises ValueError if the path leads out of the folder, or if the file is missing or cannot be read.
        """
        check_relative(name)
        if isinstance(self.filesystem, fs.LocalFileSystem):
            self._check_inside(name)
        try:
            with self.filesystem.open_input_stream(self.path(name)) as stream:
                content: bytes = stream.read()
        except FileNotFoundError as error:
            raise ValueError(f"{self.shown}/{name}: no such file; put it back into the dataset's folder") from error
        except (OSError, pa.ArrowException) as error:
            raise ValueError(f"{self.shown}/{name}: not readable ({error})") from error
        return content

    def replace(self, aside: str, name: str) -> None:
        """Give the finished file `aside` its name, in place of an older one; local files are on the disk by then."""
        if isinstance(self.filesystem, fs.LocalFileSystem):
            with open(self.path(aside), "rb") as file:
                os.fsync(file.fileno())
        self.filesystem.move(self.path(aside), self.path(name))

    def remove(self, name: str) -> None:
        """Remove a file of the folder if it is there."""
        if self.has(name):
            self.filesystem.delete_file(self.path(name))

    def _check_inside(self, name: str) -> None:
        """A link must not lead out of the folder: what a dataset names is read and sent to workers."""
        root = Path(self.folder).resolve()
        if not (root / name).resolve().is_relative_to(root):
            raise ValueError(f"{self.shown}/{name}: a link that leads out of the dataset's folder; put the file there")


def check_relative(name: str) -> None:
    """Raise ValueError unless `name` is a path below a folder, with / between its parts."""
    parts = PurePosixPath(name).parts
    if not name or "\\" in name or "\0" in name or not parts or parts[0] == "/" or ".." in parts:
        raise ValueError(f"{name!r}: expected a path below the dataset's folder, with / and without '..'")
