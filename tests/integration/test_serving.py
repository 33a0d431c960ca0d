"""`medvie serve` as its clients see it: real HTTP, the embedded policy, a browser, a fuzzer, a crowd."""

import asyncio
import base64
import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Iterator, Mapping
from pathlib import Path
from statistics import quantiles
from typing import Any, NamedTuple

import httpx
import psutil
import pytest
import schemathesis
import yaml
from hypothesis import HealthCheck, given, settings
from schemathesis.specs.openapi.checks import positive_data_acceptance

from browser import browser, find_browser
from medvie_rl.data.pages import PAGE_ENDINGS
from medvie_rl.data.store import open_split
from page_files import bar, drawing, encoded, pdf, png_header
from runs import ROOT, run
from shared_documents import MISSING, REAL

KEY = "a key of the test"
SCHEMA = "prescription_slip"
START_SECONDS = 240
NUM_CLIENTS, CROWD_SECONDS = 50, 300


class Served(NamedTuple):
    """A service that runs, and what it has printed."""

    url: str
    process: subprocess.Popen[bytes]
    log: Path

    def extract(self, content: bytes, name: str = "slip.png", **fields: str) -> httpx.Response:
        return httpx.post(
            f"{self.url}/extract", files={"file": (name, content)}, data=fields, headers={"X-API-Key": KEY}, timeout=300
        )


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    """The embedded policy, started as users start it, with a key and short limits."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    log = tmp_path_factory.mktemp("served") / "log.txt"
    limits = ("--max-mib", "8", "--max-pages", "4", "--seconds", "240")
    how = ("--traces", "2", "--set", "max_response_tokens=96", *limits)
    command = [sys.executable, "-m", "medvie_rl", "serve", "--policy", "medvie_rl/nano/policy", "--port", str(port)]
    with log.open("wb") as file:
        process = subprocess.Popen(
            [*command, *how], cwd=ROOT, stdout=file, stderr=file, env=os.environ | {"MEDVIE_API_KEY": KEY}
        )
    made = Served(f"http://127.0.0.1:{port}", process, log)
    try:
        deadline = time.monotonic() + START_SECONDS
        while not is_ready(made):
            assert process.poll() is None and time.monotonic() < deadline, log.read_text()
            time.sleep(0.5)
        yield made
        assert process.poll() is None, "it never dies"
        process.send_signal(signal.SIGTERM)
        assert process.wait(60) == 143, log.read_text()
    finally:
        process.kill()
        process.wait()


def is_ready(service: Served) -> bool:
    try:
        return httpx.get(f"{service.url}/readyz", timeout=10).status_code == 200
    except httpx.TransportError:
        return False


@pytest.fixture(scope="module")
def slips() -> list[bytes]:
    test = open_split(ROOT / "medvie_rl/nano/slips", "test")
    chosen = [document for document in test.documents if document.schema == SCHEMA][:8]
    return [next(iter(test.images(document).values())) for document in chosen]


def test_a_document_gets_its_fields(served: Served, slips: list[bytes]) -> None:
    answer = served.extract(slips[0], "a b.png", schema=SCHEMA).json()
    (made,) = answer["documents"]
    assert (made["id"], made["image"]) == ("a b", "a b.png") and made["status"] in ("ok", "repaired")
    assert made["fields"].keys() <= made["confidence"].keys() and "pages" not in made
    content = (ROOT / "conf/schemas" / f"{SCHEMA}.yaml").read_text(encoding="utf-8")
    inline = json.dumps(yaml.safe_load(content))
    (again,) = served.extract(slips[0], "a b.png", inline_schema=inline).json()["documents"]
    assert again["fields"] == made["fields"]


def test_a_pdf_is_one_document_or_each_of_its_pages_is(served: Served) -> None:
    content = pdf(bar(1), bar(40))
    (whole,) = served.extract(content, "letter.pdf", schema=SCHEMA).json()["documents"]
    assert whole["status"] == "too_many_pages" and "--pages each" in whole["problem"]
    each = served.extract(content, "letter.pdf", schema=SCHEMA, pages="each", with_pages="true").json()["documents"]
    assert [made["id"] for made in each] == ["letter#page=1", "letter#page=2"]
    assert all(made["pages"][0].startswith("data:image/jpeg;base64,") for made in each)


def test_it_says_what_it_is_and_how_it_fares(served: Served) -> None:
    assert httpx.get(f"{served.url}/healthz").json() == {"status": "ok"}
    schemas = httpx.get(f"{served.url}/schemas", headers={"X-API-Key": KEY}).json()
    assert "dose" in [key["key"] for key in schemas[SCHEMA]["keys"]]
    text = httpx.get(f"{served.url}/metrics").text
    assert 'medvie_requests_total{path="/extract",status="200"}' in text and "medvie_waiting_documents 0.0" in text
    page = httpx.get(served.url)
    assert "default-src 'none'" in page.headers["Content-Security-Policy"] and "{{nonce}}" not in page.text


def bad_requests(slip: bytes) -> Mapping[str, tuple[dict[str, Any], int, str]]:
    """What (arguments of a request) should be refused with which status and words."""
    inline = {"name": "s", "document_type": "s", "description": "s", "keys": []}
    good = {"file": ("slip.png", slip)}

    def upload(content: bytes) -> dict[str, Any]:
        return {"files": {"file": ("x", content)}, "data": {"schema": SCHEMA}}

    def schema(content: str) -> dict[str, Any]:
        return {"files": good, "data": {"inline_schema": content}}

    return {
        "nothing": ({}, 422, "file: Field required"),
        "no file": ({"data": {"schema": SCHEMA}}, 422, "file: Field required"),
        "JSON in place of a form": ({"json": {"file": "x"}}, 422, "file: Field required"),
        "a text in place of a file": ({"data": {"file": "text", "schema": SCHEMA}}, 422, "file: "),
        "an empty file": (upload(b""), 422, "it is empty"),
        "a text file": (upload(b"hello"), 422, "it is a text, which begins with 'hello'"),
        "binary noise": (upload(b"\xff\xfe\0\1" * 99), 422, "no image, PDF or DICOM file by its content"),
        "half an image": (upload(slip[: len(slip) // 2]), 422, "cut off"),
        "a damaged image": (upload(slip[:200] + b"\0" * 100 + slip[300:]), 422, "damaged"),
        "half a PDF": (upload(pdf(bar(1))[:200]), 422, "as a PDF"),
        "a bomb": (upload(png_header(60_000, 60_000)), 422, "megapixels"),
        "too many pages": (upload(pdf(*[bar(1)] * 5)), 422, "5 pages, at most 4"),
        "too many bytes": (upload(b"x" * (9 << 20)), 413, "at most 8 MiB"),
        "no schema": ({"files": good}, 422, "name one of the service's schemas"),
        "two schemas": ({"files": good, "data": {"schema": SCHEMA, "inline_schema": "{}"}}, 422, "name one of"),
        "an unknown schema": ({"files": good, "data": {"schema": "../x"}}, 422, "no schema '../x'; there are"),
        "a schema that is no JSON": (schema("{"), 422, "inline_schema: Expecting"),
        "a schema that is a list": (schema("[]"), 422, "inline_schema: "),
        "a schema without keys": (schema(json.dumps(inline)), 422, "it needs at least one key"),
        "a schema with an unknown kind": (
            schema(json.dumps(inline | {"keys": [{"key": "a", "description": "a", "kind": "dose"}]})), 422, "'kind'"),
        "a schema that is too deep": (schema("[" * 50_000), 422, "inline_schema: "),
        "a schema that is too long": (schema(" " * 100_001), 422, "at most 100000 characters"),
        "an unknown mode of pages": (
            {"files": good, "data": {"schema": SCHEMA, "pages": "all"}}, 422, "pages: Input should be"),
        "no yes or no": (
            {"files": good, "data": {"schema": SCHEMA, "with_pages": "maybe"}}, 422, "with_pages: Input should be"),
        "a long language": (
            {"files": good, "data": {"schema": SCHEMA, "language": "x" * 99}}, 422, "language: String should have"),
    }  # fmt: skip


FORM = {"Content-Type": "multipart/form-data; boundary=x"}


def endless_form() -> Iterator[bytes]:
    """A file of which nobody says how long it is."""
    yield b'--x\r\nContent-Disposition: form-data; name="file"; filename="a"\r\n\r\n'
    for _ in range(64):
        yield b"0" * (1 << 20)


def test_what_cannot_be_served_is_refused_with_a_reason(served: Served, slips: list[bytes]) -> None:
    for name, (request, status, words) in bad_requests(slips[0]).items():
        response = httpx.post(f"{served.url}/extract", headers={"X-API-Key": KEY}, timeout=60, **request)
        assert (response.status_code, words in response.json()["detail"]) == (status, True), (name, response.text)
    broken = httpx.post(
        f"{served.url}/extract", content=b"--x\r\nbroken", headers=FORM | {"X-API-Key": KEY}, timeout=60
    )
    assert 400 <= broken.status_code < 500 and broken.json()["detail"]
    endless = httpx.post(f"{served.url}/extract", content=endless_form(), headers=FORM | {"X-API-Key": KEY}, timeout=60)
    assert (endless.status_code, "at most 8 MiB" in endless.json()["detail"]) == (413, True)
    for headers in ({}, {"X-API-Key": "wrong"}, {"X-API-Key": "é".encode()}):
        assert httpx.get(f"{served.url}/schemas", headers=headers).status_code == 401
    assert httpx.get(f"{served.url}/nothing", headers={"X-API-Key": KEY}).status_code == 404
    assert httpx.get(f"{served.url}/extract", headers={"X-API-Key": KEY}).status_code == 405
    assert served.extract(slips[0], schema=SCHEMA).status_code == 200


def test_no_request_is_logged(served: Served, slips: list[bytes]) -> None:
    served.extract(slips[0], "Ana Ruiz.png", schema=SCHEMA)
    served.extract(b"secret of a patient", "Ana Ruiz.png", schema="secret of a patient")
    log = served.log.read_text(encoding="utf-8")
    assert "Ana" not in log and "secret" not in log and "Traceback" not in log


def test_the_fuzzer_finds_no_server_error(served: Served) -> None:
    api = schemathesis.openapi.from_url(f"{served.url}/openapi.json")
    for found in api.get_all_operations():

        @settings(max_examples=25, deadline=None, suppress_health_check=list(HealthCheck), derandomize=True)
        @given(case=found.ok().as_strategy())
        def check(case: schemathesis.Case) -> None:
            # What the description allows is not all that can be answered: any bytes may be a file, few are an image.
            case.call_and_validate(headers={"X-API-Key": KEY}, timeout=60, excluded_checks=[positive_data_acceptance])

        check()


@pytest.mark.skipif(find_browser() is None, reason="no Chromium or Chrome on this machine")
def test_a_person_corrects_an_answer_and_imports_it(served: Served, slips: list[bytes], tmp_path: Path) -> None:
    with browser(str(find_browser()), tmp_path / "profile") as page:
        page.open(served.url)
        page.wait_for("!document.getElementById('key-label').hidden")  # it asks for the key
        page.value(f"document.getElementById('key').value = {KEY!r}")
        page.value("document.getElementById('key').dispatchEvent(new Event('change'))")
        page.wait_for("document.getElementById('schema').options.length > 3")
        page.value(f"document.getElementById('schema').value = {SCHEMA!r}")
        drop = """(content => { const bytes = Uint8Array.from(atob(content), sign => sign.charCodeAt(0));
          const data = new DataTransfer(); data.items.add(new File([bytes], "slip one.png"));
          document.dispatchEvent(new DragEvent("drop", {dataTransfer: data, cancelable: true})); })"""
        page.value(f"{drop}({base64.b64encode(slips[0]).decode()!r})")
        page.wait_for("!document.getElementById('result').hidden", seconds=120)
        assert page.value("document.querySelector('#pages img').naturalWidth") > 50
        assert page.value("document.querySelectorAll('.field').length") == 7
        page.value("document.querySelector('[data-key=drug]').value = 'Zink'")
        page.value("document.querySelector('[data-key=patient]').value = ''")
        page.value("document.querySelector('[data-key=sex]').value = 'female'")
        annotation = page.value("JSON.stringify(annotation())")
        for width in (390, 1280):
            page.resize(width)
            assert page.value("document.documentElement.scrollWidth") <= width
        assert [text for text in page.complaints if "401" not in text] == []
        assert {address.split("/")[2] for address in page.requests if address.startswith("http")} == {served.url[7:]}
    fields = json.loads(annotation)["fields"]
    assert fields["drug"] == "Zink" and "patient" not in fields
    (tmp_path / "slip one.png").write_bytes(slips[0])
    (tmp_path / "slip one.jsonl").write_text(annotation + "\n", encoding="utf-8")
    schema = ROOT / "conf/schemas" / f"{SCHEMA}.yaml"
    command = ["data", "import", tmp_path / "slip one.jsonl", "--schema", schema, "--out", tmp_path / "d"]
    result = run([sys.executable, "-m", "medvie_rl", *map(str, command)])
    assert result.returncode == 0, result.stdout + result.stderr
    imported = [document for name in ("train", "validation", "test") for document in _documents(tmp_path / "d", name)]
    assert [document.annotation for document in imported] == [fields]


def _documents(folder: Path, split: str) -> Iterator[Any]:
    if (folder / f"{split}.parquet").is_file():
        yield from open_split(folder, split)


def test_photos_of_any_size_are_taken(served: Served) -> None:
    photo = encoded(drawing(size=(4000, 3000)), "JPEG")
    started = time.monotonic()
    (made,) = served.extract(photo, "photo.jpg", schema=SCHEMA).json()["documents"]
    print(f"12 megapixels: {time.monotonic() - started:.1f} s")
    assert made["status"] in ("ok", "repaired")


@pytest.mark.full
@pytest.mark.skipif(not REAL.is_dir(), reason=MISSING)
def test_every_real_image_is_taken(served: Served) -> None:
    seconds = []
    for path in sorted(path for path in REAL.rglob("*") if path.suffix in PAGE_ENDINGS):
        started = time.monotonic()
        response = served.extract(path.read_bytes(), path.name, schema="prescription")
        seconds.append(time.monotonic() - started)
        assert response.status_code == 200, (path.name, response.text)
    memory = psutil.Process(served.process.pid).memory_info().rss
    print(f"{len(seconds)} images, at most {max(seconds):.1f} s, {memory / 2**30:.1f} GiB")


@pytest.mark.full
@pytest.mark.timeout(CROWD_SECONDS + 300)
def test_a_crowd_is_served_for_minutes(served: Served, slips: list[bytes]) -> None:
    statuses: Counter[int] = Counter()
    seconds: list[float] = []

    async def client(http: httpx.AsyncClient, number: int, until: float) -> None:
        while time.monotonic() < until:
            started = time.monotonic()
            files = {"file": ("slip.png", slips[number % len(slips)])}
            response = await http.post(f"{served.url}/extract", files=files, data={"schema": SCHEMA})
            statuses[response.status_code] += 1
            seconds.append(time.monotonic() - started)

    async def crowd() -> None:
        limits = httpx.Limits(max_connections=NUM_CLIENTS)
        async with httpx.AsyncClient(headers={"X-API-Key": KEY}, timeout=300, limits=limits) as http:
            until = time.monotonic() + CROWD_SECONDS
            await asyncio.gather(*(client(http, number, until) for number in range(NUM_CLIENTS)))

    asyncio.run(crowd())
    assert statuses.keys() == {200}, statuses
    cuts = quantiles(seconds, n=20)
    print(f"{statuses[200]} answers, median {cuts[9]:.1f} s, 95% within {cuts[18]:.1f} s")
