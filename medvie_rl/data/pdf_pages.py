"""PDF pages as PNG images, drawn by a process of its own, so that no file can hang or overflow this one."""

import atexit
import json
import os
import re
import selectors
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

SECONDS_PER_FILE = 60.0
_RENDERER = Path(__file__).with_name("pdf_renderer.py")
_TAIL = 2048  # bytes at the end of the file within which its end mark is looked for


@dataclass(frozen=True, slots=True)
class PdfPage:
    """One drawn page: PNG bytes, and the sentence that says which page at which resolution."""

    content: bytes
    note: str


def render_pdf(
    path: Path, content: bytes, *, dpi: int, max_pages: int, max_pixels: int, seconds: float = SECONDS_PER_FILE
) -> list[PdfPage]:
    """Draw all pages of a PDF; `content` is what stands in the file at `path`.

    A page that would have more than a quarter of `max_pixels` is drawn at fewer dots per inch. Blank pages of a file
    that has others are left out; both stand in the notes. Raises ValueError with the reason: cut off, protected, too
    many pages, a page or an image too large, or not drawn after `seconds`.
    """
    _check_whole(content)
    request = {"path": str(path.resolve()), "dpi": dpi, "max_pages": max_pages, "max_pixels": max_pixels}
    pages, blank = [], []
    for message, data in _renderer().ask(request, seconds):
        if "blank" in message:
            blank.append(message["blank"])
            continue
        fewer = "" if message["dpi"] == dpi else f" (fewer than {dpi}: the page is large)"
        note = f"PDF page {message['page']} of {message['num_pages']} at {message['dpi']} dpi{fewer}"
        pages.append(PdfPage(data, note))
    if not pages:
        raise ValueError("all of its pages are blank")
    if blank:
        numbers = ", ".join(map(str, blank))
        first = pages[0]
        pages[0] = PdfPage(first.content, f"{first.note}; blank pages left out: {numbers}")
    return pages


def _check_whole(content: bytes) -> None:
    """Readers mend a PDF that was cut off and show fewer pages; here that would be a loss that nobody sees."""
    if b"%%EOF" not in content[-_TAIL:]:
        raise ValueError("it is cut off: the mark %%EOF is missing at its end; fetch the file again")
    head = content[:1024]
    length = re.search(rb"/L\s+(\d{1,12})\b", head) if b"/Linearized" in head else None
    if length and int(length[1]) > len(content):
        raise ValueError(f"it is cut off: it has {len(content)} of {int(length[1])} bytes; fetch the file again")


@dataclass(slots=True)
class _Renderer:
    """The child process; one request at a time. It is started when it is needed and again after it died."""

    _process: subprocess.Popen[bytes] | None = None
    _buffer: bytearray = field(default_factory=bytearray)
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def ask(self, request: dict[str, Any], seconds: float) -> list[tuple[dict[str, Any], bytes]]:
        """What the child answered before the end; raises ValueError with its reason, or when the time is up."""
        with self._lock:
            try:
                return list(self._answers(request, time.monotonic() + seconds))
            except TimeoutError as error:
                self.stop()
                raise ValueError(f"drawing it took longer than {seconds:g} seconds; it was given up") from error
            except (EOFError, BrokenPipeError) as error:
                self.stop()
                raise ValueError(
                    "drawing it broke the renderer: the file is damaged or needs too much memory"
                ) from error
            except KeyboardInterrupt:
                self.stop()  # half an answer would be taken for the next one
                raise

    def _answers(self, request: dict[str, Any], deadline: float) -> Iterator[tuple[dict[str, Any], bytes]]:
        process = self._started()
        assert process.stdin is not None
        process.stdin.write(json.dumps(request).encode() + b"\n")
        process.stdin.flush()
        error = ""
        while True:
            message = json.loads(self._line(deadline))
            if "end" in message:
                return
            if error := message.get("error", ""):
                raise ValueError(error)
            yield message, self._exactly(message.get("bytes", 0), deadline)

    def _started(self) -> subprocess.Popen[bytes]:
        if self._process is None or self._process.poll() is not None:
            self._buffer.clear()
            self._process = subprocess.Popen(
                [sys.executable, "-P", str(_RENDERER)],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=subprocess.DEVNULL,
            )
        return self._process

    def _line(self, deadline: float) -> bytes:
        while (end := self._buffer.find(b"\n")) < 0:
            self._fill(deadline)
        line = bytes(self._buffer[:end])
        del self._buffer[: end + 1]
        return line

    def _exactly(self, num_bytes: int, deadline: float) -> bytes:
        while len(self._buffer) < num_bytes:
            self._fill(deadline)
        data = bytes(self._buffer[:num_bytes])
        del self._buffer[:num_bytes]
        return data

    def _fill(self, deadline: float) -> None:
        assert self._process is not None and self._process.stdout is not None
        with selectors.DefaultSelector() as selector:
            selector.register(self._process.stdout, selectors.EVENT_READ)
            if not selector.select(max(0.0, deadline - time.monotonic())):
                raise TimeoutError
        chunk = os.read(self._process.stdout.fileno(), 1 << 20)
        if not chunk:
            raise EOFError
        self._buffer += chunk

    def stop(self) -> None:
        if self._process is not None:
            self._process.kill()
            self._process.communicate()
            self._process = None


_renderers: dict[int, _Renderer] = {}


def _renderer() -> _Renderer:
    """The renderer of this process: one that was inherited by a fork belongs to the parent."""
    own = _renderers.get(os.getpid())
    if own is None:
        own = _renderers[os.getpid()] = _Renderer()
        atexit.register(own.stop)
    return own
