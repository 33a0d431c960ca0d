"""Format `files`: a folder of images, PDFs and other page files without annotations; every file is a document.

All of them go to the pool of documents to annotate. Folders are read with all that is in them; files whose name begins
with a point are left out and counted.
"""

from collections import Counter
from collections.abc import Iterator
from pathlib import Path

from medvie_rl.data.importing.records import Names, Note, Record, Rejection
from medvie_rl.errors import UserError


def read(source: Path, names: Names) -> Iterator[Record | Rejection | Note]:
    """Every file of a folder, or the one file; raises UserError if there is none."""
    if source.is_file():
        yield Record(where=str(source), folder=source.parent, files=(source.name,), fields=None)
        return
    if not source.is_dir():
        raise UserError(f"{source}: no such file or folder")
    paths = sorted(path for path in source.rglob("*") if path.is_symlink() or not path.is_dir())
    stems = [path.with_suffix("") for path in paths]
    num_of = Counter(stems)
    for path, stem in zip(paths, stems, strict=True):
        name = path.relative_to(source)
        if any(part.startswith(".") for part in name.parts):
            yield Note("hidden file, left out")
            continue
        own = name if num_of[stem] > 1 else name.with_suffix("")
        own_id = own.as_posix().removeprefix("images/")
        yield Record(where=str(path), folder=source, files=(name.as_posix(),), fields=None, id=own_id)
