"""Pages of accepted documents on disk until every document is known and can be dealt to its split."""

import tempfile
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import IO

from medvie_rl.data.store import Document


@dataclass(slots=True)
class Spool:
    """A temporary file with the pages, and the documents with where theirs stand; gone when it is left."""

    folder: Path
    documents: list[Document] = field(default_factory=list)
    _places: list[tuple[int, tuple[int, ...]]] = field(default_factory=list)
    _file: IO[bytes] | None = None

    def __enter__(self) -> "Spool":
        self._file = tempfile.TemporaryFile(dir=self.folder)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        assert self._file is not None
        self._file.close()

    def add(self, document: Document, pages: Sequence[bytes]) -> None:
        """Keep a document and its encoded pages."""
        assert self._file is not None
        self._places.append((self._file.tell(), tuple(map(len, pages))))
        self.documents.append(document)
        for content in pages:
            self._file.write(content)

    def read(self, indices: Iterable[int]) -> Iterator[tuple[Document, list[bytes]]]:
        """The documents with these indices and their pages, one at a time."""
        assert self._file is not None
        for index in indices:
            start, lengths = self._places[index]
            self._file.seek(start)
            yield self.documents[index], [self._file.read(length) for length in lengths]
