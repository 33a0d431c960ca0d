"""Images are read once while they are wanted by several, and no more of them are held than there is room for."""

from pathlib import Path

from medvie_rl.bench.documents import write_random_documents
from medvie_rl.data.image_cache import ImageCache
from medvie_rl.data.store import Document, Split, open_split


class CountingData:
    """The documents of a split, and which of them were read."""

    def __init__(self, split: Split) -> None:
        self.split, self.read = split, list[str]()

    def images(self, document: Document) -> dict[str, bytes]:
        self.read.append(document.id)
        return self.split.images(document)


def test_the_documents_used_last_are_held(tmp_path: Path) -> None:
    data = CountingData(open_split(write_random_documents(tmp_path, 4, image_bytes=1000), "train"))
    first, second, third, fourth = data.split.documents
    cache = ImageCache(data, max_bytes=3500)  # type: ignore[arg-type]  # of RunData it needs the images
    for document in (first, second, third, first, third):
        assert cache.images(document) == data.split.images(document)
    assert data.read == [first.id, second.id, third.id]
    cache.images(fourth)  # in place of the second, which was used longest ago
    for document in (first, third, fourth):
        cache.images(document)
    assert data.read == [first.id, second.id, third.id, fourth.id]
    cache.images(second)
    assert data.read[-1] == second.id


def test_a_document_larger_than_the_room_is_given_and_not_held(tmp_path: Path) -> None:
    data = CountingData(open_split(write_random_documents(tmp_path, 1, image_bytes=1000), "train"))
    (document,) = data.split.documents
    cache = ImageCache(data, max_bytes=500)  # type: ignore[arg-type]
    for _ in range(2):
        assert cache.images(document) == data.split.images(document)
    assert len(data.read) == 2
