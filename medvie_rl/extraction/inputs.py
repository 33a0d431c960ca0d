"""What is extracted from: image and PDF files, folders of them, or documents of a dataset."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from medvie_rl.data.pages import PAGE_ENDINGS, Page, UnreadableFileError, read_pages
from medvie_rl.errors import UserError


@dataclass(frozen=True, slots=True, kw_only=True)
class InputDocument:
    """One document with its pages. `id` is the file's name without its ending, below a named folder with the folders
    in between; `image` is the file, with `#page=N` where a page is a document of its own."""

    id: str
    image: str
    pages: tuple[Page, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class InputFile:
    """A file that was named, or found in a folder that was."""

    id: str
    path: Path


def find_files(paths: Sequence[Path]) -> list[InputFile]:
    """The files to read: those named, and all of a known kind in the folders named, by name.

    Raises UserError for a path that is not there, and where nothing was found.
    """
    found: list[InputFile] = []
    for path in paths:
        if path.is_dir():
            inside = (file for file in path.rglob("*") if file.suffix.lower() in PAGE_ENDINGS and file.is_file())
            found += [
                InputFile(id=file.relative_to(path).with_suffix("").as_posix(), path=file) for file in sorted(inside)
            ]
        else:
            found.append(InputFile(id=path.stem, path=path))
    if not found:
        raise UserError(
            f"{', '.join(map(str, paths))}: no documents there; expected files ending in {', '.join(PAGE_ENDINGS)}"
        )
    return found


def read_file(file: InputFile, *, each_page: bool, dpi: int) -> list[InputDocument]:
    """The documents of a file: all its pages together, or each page. Raises UnreadableFileError with the reason."""
    pages = read_pages(file.path, dpi=dpi)
    if not pages:
        raise UnreadableFileError("it has no pages")
    return documents_of(file.id, str(file.path), pages, each_page=each_page)


def documents_of(name: str, image: str, pages: Sequence[Page], *, each_page: bool) -> list[InputDocument]:
    """One document of all pages, or one of each; `name` is the document's id, or what the ids begin with."""
    if not each_page or len(pages) == 1:
        return [InputDocument(id=name, image=image, pages=tuple(pages))]
    return [
        InputDocument(id=f"{name}#page={number}", image=f"{image}#page={number}", pages=(page,))
        for number, page in enumerate(pages, start=1)
    ]
