"""Images that several actors are sent, read once: a dataset gives them row group by row group, wherever they lie."""

from collections import OrderedDict

from medvie_rl.data.load import RunData
from medvie_rl.data.store import Document

_MAX_BYTES = 256 * 2**20


class ImageCache:
    """The encoded images of the documents asked for last, up to a number of bytes."""

    def __init__(self, data: RunData, max_bytes: int = _MAX_BYTES) -> None:
        self._data, self._room = data, max_bytes
        self._held: OrderedDict[str, dict[str, bytes]] = OrderedDict()  # by document, the one used last at the end

    def images(self, document: Document) -> dict[str, bytes]:
        """As RunData's: by their sha256. Raises ValueError for damaged ones."""
        if document.id in self._held:
            self._held.move_to_end(document.id)
            return self._held[document.id]
        images = self._data.images(document)
        self._held[document.id] = images
        self._room -= _size(images)
        while self._room < 0:
            _, oldest = self._held.popitem(last=False)
            self._room += _size(oldest)
        return images


def _size(images: dict[str, bytes]) -> int:
    return sum(map(len, images.values()))
