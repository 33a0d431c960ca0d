"""Pages: what needs nothing stays byte for byte, the rest becomes 8-bit RGB or grey, and says what was done."""

import hashlib
import io
import os
import time
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from medvie_rl.data import pages as pages_module
from medvie_rl.data.pages import Page, UnreadableFileError, read_pages, sniff
from medvie_rl.data.pdf_pages import render_pdf
from page_files import bar, drawing, encoded, image_object, pdf, png_header, write


def pixels(page: Page) -> np.ndarray:
    return np.asarray(Image.open(io.BytesIO(page.content)))


def only_page(tmp_path: Path, content: bytes, name: str = "page") -> Page:
    (page,) = read_pages(write(tmp_path / name, content))
    assert page.key == hashlib.sha256(page.content).hexdigest()
    with Image.open(io.BytesIO(page.content)) as image:
        assert image.size == page.size
        assert image.mode in ("RGB", "L")
    return page


@pytest.mark.parametrize("kind", ["PNG", "JPEG", "WEBP"])
@pytest.mark.parametrize("mode", ["RGB", "L"])
def test_eight_bit_images_stay_byte_for_byte(tmp_path: Path, kind: str, mode: str) -> None:
    content = encoded(drawing(mode), kind)
    page = only_page(tmp_path, content)
    assert page.content == content
    assert (page.size, page.note) == ((60, 40), "")


def test_the_name_does_not_matter_and_one_pixel_wide_images_are_read(tmp_path: Path) -> None:
    content = encoded(drawing())
    assert only_page(tmp_path, content, "photo.jpg").content == content
    assert only_page(tmp_path, encoded(Image.new("RGB", (1, 300))), "thin.png").size == (1, 300)


def test_exif_turns_the_photo_upright_once(tmp_path: Path) -> None:
    image = Image.new("RGB", (60, 40), "white")
    image.paste("black", (0, 0, 60, 20))  # dark above
    exif = Image.Exif()
    exif[0x0112] = 6  # to be turned by 90 degrees clockwise: dark at the right
    page = only_page(tmp_path, encoded(image, "JPEG", exif=exif, quality=95))
    assert (page.size, page.note) == ((40, 60), "turned upright as its EXIF data says")
    assert sniff(page.content) == "JPEG"
    assert pixels(page)[:, 30:].mean() < 5 < 250 < pixels(page)[:, :10].mean()
    again = only_page(tmp_path, page.content, "again.jpg")
    assert (again.content, again.note) == (page.content, "")


def test_alpha_is_laid_on_white(tmp_path: Path) -> None:
    image = Image.new("RGBA", (10, 10), (0, 0, 0, 0))
    image.putpixel((3, 3), (255, 0, 0, 255))
    page = only_page(tmp_path, encoded(image))
    assert page.note == "alpha on white"
    assert pixels(page)[0, 0].tolist() == [255, 255, 255]
    assert pixels(page)[3, 3].tolist() == [255, 0, 0]
    grey = only_page(tmp_path, encoded(Image.new("LA", (4, 4), (10, 0))))
    assert (grey.note, pixels(grey).shape, pixels(grey).min()) == ("alpha on white", (4, 4), 255)


@pytest.mark.parametrize(
    ("image", "kind", "note"),
    [
        (drawing("P"), "PNG", "palette to RGB"),
        (drawing("P"), "GIF", "palette to RGB; GIF decoded"),
        (drawing("1"), "PNG", "1 bit to 8 bit"),
        (drawing("CMYK"), "JPEG", "CMYK to RGB"),
        (drawing("RGB"), "BMP", "BMP decoded"),
        (drawing("CMYK"), "TIFF", "TIFF page 1 of 1; CMYK to RGB"),
        (drawing("LAB"), "TIFF", "TIFF page 1 of 1; LAB to RGB"),
    ],
)
def test_other_modes_show_the_same(tmp_path: Path, image: Image.Image, kind: str, note: str) -> None:
    page = only_page(tmp_path, encoded(image, kind))
    assert page.note == note
    wanted = np.asarray(drawing("RGB")).astype(int)
    found = np.asarray(Image.open(io.BytesIO(page.content)).convert("RGB")).astype(int)
    assert np.abs(found - wanted).mean() < 6


def test_deep_grey_is_scaled_over_its_range(tmp_path: Path) -> None:
    values = np.array([[1000, 1500], [2000, 3000]], dtype=np.uint16)
    page = only_page(tmp_path, encoded(Image.fromarray(values)))
    assert page.note == "16 bit to 8 bit, scaled over its range"
    assert pixels(page).tolist() == [[0, 64], [128, 255]]
    floats = only_page(tmp_path, encoded(Image.fromarray(values.astype(np.float32)), "TIFF"))
    assert (floats.note, pixels(floats).tolist()) == ("TIFF page 1 of 1; float to 8 bit", [[0, 64], [128, 255]])


def test_every_tiff_page_is_a_page(tmp_path: Path) -> None:
    images = [drawing(seed=seed, size=(60 + seed, 40)) for seed in range(3)]
    path = write(tmp_path / "fax.tif", encoded(images[0], "TIFF", save_all=True, append_images=images[1:]))
    pages = read_pages(path)
    assert [page.size for page in pages] == [(60, 40), (61, 40), (62, 40)]
    assert [page.note for page in pages] == [f"TIFF page {number} of 3" for number in (1, 2, 3)]
    assert (pixels(pages[2]) == np.asarray(images[2])).all()
    with pytest.raises(UnreadableFileError, match="it has 3 pages, at most 2 are read"):
        read_pages(path, max_pages=2)


def test_every_pdf_page_is_drawn_at_the_resolution(tmp_path: Path) -> None:
    path = write(tmp_path / "letter.pdf", pdf(bar(10), bar(100)))
    pages = read_pages(path, dpi=144)
    assert [page.note for page in pages] == ["PDF page 1 of 2 at 144 dpi", "PDF page 2 of 2 at 144 dpi"]
    assert [page.size for page in pages] == [(288, 144), (288, 144)]
    dark = [np.flatnonzero(pixels(page)[72, :, 0] < 128) for page in pages]
    assert [(columns[0], columns[-1]) for columns in dark] == [(20, 39), (200, 219)]
    with pytest.raises(UnreadableFileError, match="it has 2 pages, at most 1 are read"):
        read_pages(path, max_pages=1)


def test_blank_pdf_pages_are_left_out_and_named(tmp_path: Path) -> None:
    (page,) = read_pages(write(tmp_path / "a.pdf", pdf(bar(10), b"")))
    assert page.note == "PDF page 1 of 2 at 150 dpi; blank pages left out: 2"
    with pytest.raises(UnreadableFileError, match="all of its pages are blank"):
        read_pages(write(tmp_path / "b.pdf", pdf(b"", b"")))
    assert len(read_pages(write(tmp_path / "c.pdf", pdf(b"")))) == 1


def test_large_pdf_pages_are_drawn_smaller_or_refused(tmp_path: Path) -> None:
    (page,) = read_pages(write(tmp_path / "poster.pdf", pdf(bar(10), box="0 0 7200 7200")), dpi=300)
    assert page.note == "PDF page 1 of 1 at 61 dpi (fewer than 300: the page is large)"
    assert page.size == (6100, 6100)
    with pytest.raises(UnreadableFileError, match="page 1 measures 1e\\+06 x 1e\\+06 points, the format allows 14400"):
        read_pages(write(tmp_path / "huge.pdf", pdf(bar(10), box="0 0 1000000 1000000")))


def test_bombs_are_refused_before_they_are_decoded(tmp_path: Path) -> None:
    started = time.monotonic()
    with pytest.raises(UnreadableFileError, match="megapixels"):
        read_pages(write(tmp_path / "a.png", png_header(20_000, 17_000)))
    with pytest.raises(UnreadableFileError, match="declares 13000 x 12000 pixels, at most 150 megapixels"):
        read_pages(write(tmp_path / "b.png", png_header(13_000, 12_000)))
    huge = image_object(60_000, 60_000, bytes(30_000_000))
    with pytest.raises(UnreadableFileError, match="an image that declares 60000 x 60000 pixels"):
        read_pages(write(tmp_path / "c.pdf", pdf(b"144 0 0 72 0 0 cm /I Do", image=huge)))
    assert time.monotonic() - started < 10


def test_a_pdf_that_takes_too_long_is_given_up_and_the_next_is_drawn(tmp_path: Path) -> None:
    endless = pdf(b"0 g 0 0 m " + b"1 1 143 71 9 70 c 143 1 1 71 50 3 c " * 400_000 + b"f")
    path = write(tmp_path / "slow.pdf", endless)
    with pytest.raises(ValueError, match=r"drawing it took longer than 0\.2 seconds"):
        render_pdf(path, endless, dpi=1200, max_pages=1, max_pixels=10**8, seconds=0.2)
    good = pdf(bar(3))
    assert len(render_pdf(write(tmp_path / "good.pdf", good), good, dpi=72, max_pages=1, max_pixels=10**8)) == 1


def test_files_that_cannot_be_opened_say_why(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def reason(path: Path) -> str:
        with pytest.raises(UnreadableFileError) as error:
            read_pages(path)
        return str(error.value)

    assert reason(tmp_path) == "it is a folder, expected a file"
    assert reason(tmp_path / "none.png") == "it does not exist"
    assert reason(write(tmp_path / "empty.png", b"")) == "it is empty"
    (tmp_path / "broken.png").symlink_to("nowhere.png")
    assert reason(tmp_path / "broken.png") == "it is a link to nowhere.png, which does not exist"
    (tmp_path / "loop.png").symlink_to("loop.png")
    assert reason(tmp_path / "loop.png") == "it cannot be read (a link that leads to itself)"
    os.mkfifo(tmp_path / "pipe.png")
    assert reason(tmp_path / "pipe.png") == "it is a device or a pipe, expected a file"
    assert reason(write(tmp_path / "text.png", b"Dear colleague,\nthank you")).startswith(
        "it is a text, which begins with 'Dear colleague,'"
    )
    assert "by its content" in reason(write(tmp_path / "noise.png", bytes(range(128, 256))))
    monkeypatch.setattr(pages_module, "MAX_FILE_BYTES", 100)
    assert "at most" in reason(write(tmp_path / "large.png", bytes(200)))


@pytest.mark.skipif(os.geteuid() == 0, reason="the superuser may read every file")
def test_a_file_without_permission_says_so(tmp_path: Path) -> None:
    path = write(tmp_path / "secret.png", encoded(drawing()))
    path.chmod(0)
    with pytest.raises(UnreadableFileError, match="permission denied"):
        read_pages(path)


def test_dicom_frames_and_documents(tmp_path: Path) -> None:
    pydicom = pytest.importorskip("pydicom", reason="pydicom is not installed")
    from pydicom.dataset import FileDataset, FileMetaDataset
    from pydicom.uid import ExplicitVRLittleEndian, SecondaryCaptureImageStorage

    def dataset() -> FileDataset:
        meta = FileMetaDataset()
        meta.MediaStorageSOPClassUID = SecondaryCaptureImageStorage
        meta.MediaStorageSOPInstanceUID = "1.2.3"
        meta.TransferSyntaxUID = ExplicitVRLittleEndian
        return FileDataset("x", {}, file_meta=meta, preamble=bytes(128))

    scan = dataset()
    scan.Rows, scan.Columns, scan.NumberOfFrames = 2, 2, 2
    scan.SamplesPerPixel, scan.PhotometricInterpretation = 1, "MONOCHROME2"
    scan.BitsAllocated, scan.BitsStored, scan.HighBit, scan.PixelRepresentation = 16, 16, 15, 0
    scan.PixelData = np.array([0, 100, 200, 400, 5, 5, 5, 10], dtype="<u2").tobytes()
    pydicom.dcmwrite(tmp_path / "scan", scan, enforce_file_format=True)
    first, second = read_pages(tmp_path / "scan")
    assert first.note == "DICOM frame 1 of 2; 16 bit to 8 bit, scaled over its range"
    assert pixels(first).tolist() == [[0, 64], [127, 255]]  # 127.5 less a rounding error
    assert pixels(second).tolist() == [[0, 0], [0, 255]]

    wrapped = dataset()
    wrapped.EncapsulatedDocument = pdf(bar(10))
    pydicom.dcmwrite(tmp_path / "report", wrapped, enforce_file_format=True)
    (page,) = read_pages(tmp_path / "report", dpi=72)
    assert (page.size, page.note) == ((144, 72), "DICOM document, PDF page 1 of 1 at 72 dpi")

    (tmp_path / "cut").write_bytes((tmp_path / "scan").read_bytes()[:-5])
    with pytest.raises(UnreadableFileError, match="as a DICOM file"):
        read_pages(tmp_path / "cut")


def test_heic_photos_are_read_where_the_library_is(tmp_path: Path) -> None:
    heif = pytest.importorskip("pillow_heif", reason="pillow-heif is not installed")
    heif.register_heif_opener()
    page = only_page(tmp_path, encoded(drawing(size=(64, 48)), "HEIF"))
    assert (page.size, page.note, sniff(page.content)) == ((64, 48), "HEIF decoded", "JPEG")
