"""The service's routes.

What a client sends is never logged, nor repeated in an error, but for the names of fields and of schemas.
"""

import contextlib
import hmac
import secrets
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from enum import StrEnum
from functools import cache
from pathlib import Path
from typing import Annotated, Any

from fastapi import Depends, FastAPI, File, Form, Request, Response, UploadFile
from fastapi.exceptions import RequestValidationError
from fastapi.responses import HTMLResponse, JSONResponse
from fastapi.security import APIKeyHeader
from pydantic import BaseModel, Field
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from medvie_rl.serving.service import RequestError, Service

_PAGE = Path(__file__).parent / "page.html"
_CHUNK = 1 << 20
_FORM_BYTES = 1 << 20  # that the other fields of a form may have
_OPEN = ("/", "/healthz", "/readyz", "/metrics", "/openapi.json")  # no key is needed
_KEY = APIKeyHeader(name="X-API-Key", auto_error=False, description="where the service was started with a key")


class PagesMode(StrEnum):
    """Whether a file with several pages is one document, or each page is."""

    TOGETHER = "together"
    EACH = "each"


class Line(BaseModel):
    """One document's answer, as `medvie extract` writes it."""

    id: str
    image: str
    document_type: str
    status: str = Field(description="ok, repaired, too_long, too_many_pages, or why there is no answer")
    fields: dict[str, Any] | None = None
    confidence: dict[str, Any] | None = Field(None, description="of every value, in the shape of the fields")
    calibrated: bool | None = Field(None, description="whether confidences are probabilities of being right")
    review: list[str] | None = Field(None, description="places that someone should look at, such as drugs[0].dose")
    not_on_page: list[str] | None = None
    notes: list[str] | None = None
    repairs: list[str] | None = None
    problem: str | None = None
    response: str | None = None
    pages: list[str] | None = Field(None, description="pictures of the pages as data URIs, where asked for")


class Answer(BaseModel):
    """The answers for one file, with the seconds that they took."""

    documents: list[Line]
    seconds: float


class Problem(BaseModel):
    """What went wrong, and what to do."""

    detail: str


_PROBLEMS: dict[int | str, dict[str, Any]] = {
    status: {"model": Problem, "description": text}
    for status, text in {
        401: "no key, or a wrong one",
        413: "the upload is too large",
        422: "the request, the file or the schema cannot be used",
        503: "too many documents wait, or the engine is not there yet",
        504: "no answer in time",
    }.items()
}


def make_app(start: Callable[[], Service], *, api_key: str = "") -> FastAPI:
    """The application; `start` makes the service when the server starts. With `api_key` requests must bring it."""

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        app.state.service = service = start()
        yield
        service.close()

    app = FastAPI(
        title="medvie", lifespan=lifespan, docs_url=None, redoc_url=None,
        description="Turns images of medical documents into JSON, with a confidence for every field.",
    )  # fmt: skip

    @app.middleware("http")
    async def observe(request: Request, call_next: Callable[[Request], Awaitable[Response]]) -> Response:
        started = time.monotonic()
        if problem := _refusal(request, api_key):
            response: Response = problem
        else:
            response = await call_next(request)
        route = request.scope.get("route")
        path = getattr(route, "path", "other")
        _service(request).metrics.observe_request(path, response.status_code, time.monotonic() - started)
        return response

    app.add_middleware(_BoundedBody)  # outermost: before anything of a body is kept

    @app.exception_handler(RequestError)
    async def refused(request: Request, error: RequestError) -> JSONResponse:
        headers = {"Retry-After": "5"} if error.status == 503 else {}
        return JSONResponse({"detail": error.detail}, status_code=error.status, headers=headers)

    @app.exception_handler(RequestValidationError)
    async def invalid(request: Request, error: RequestValidationError) -> JSONResponse:
        told = [f"{'.'.join(map(str, entry['loc'][1:])) or 'body'}: {entry['msg']}" for entry in error.errors()]
        return JSONResponse({"detail": "; ".join(told)}, status_code=422)

    @app.exception_handler(HTTPException)
    async def http_problem(request: Request, error: HTTPException) -> JSONResponse:
        return JSONResponse({"detail": str(error.detail)}, status_code=error.status_code, headers=error.headers)

    @app.exception_handler(Exception)
    async def failed(request: Request, error: Exception) -> JSONResponse:
        return JSONResponse({"detail": "the service failed; its log says why"}, status_code=500)

    @app.post("/extract", responses=_PROBLEMS, response_model_exclude_none=True, summary="Fields of a document")
    async def extract(
        request: Request,
        file: Annotated[UploadFile, File(description="an image, a PDF, a TIFF or a DICOM file")],
        schema_name: Annotated[str, Form(alias="schema", description="name of one of the service's schemas")] = "",
        inline_schema: Annotated[str, Form(description="in its place: a schema as JSON")] = "",
        pages: Annotated[PagesMode, Form(description="is a file one document, or each of its pages?")] = (
            PagesMode.TOGETHER
        ),
        language: Annotated[str, Form(description="of the pages, ISO 639-1", max_length=8)] = "",
        with_pages: Annotated[bool, Form(description="answer with pictures of the pages")] = False,
        _: Annotated[str | None, Depends(_KEY)] = None,
    ) -> Answer:
        started, service = time.monotonic(), _service(request)
        if not service.is_ready:
            raise RequestError(503, service.problem() or "the engine is starting; try again later")
        chosen = service.schema(schema_name, inline_schema)
        content = await _read(file, service.limits.max_bytes)
        made = await service.extract(
            content,
            file.filename or "document",
            chosen,
            each_page=pages is PagesMode.EACH,
            language=language,
            with_pages=with_pages,
        )
        for entry in made:
            service.metrics.observe_line(entry["status"], len(entry.get("review", [])))
        return Answer(documents=[Line(**entry) for entry in made], seconds=round(time.monotonic() - started, 3))

    @app.get("/schemas", responses={401: _PROBLEMS[401]}, summary="What can be asked for")
    async def schemas(request: Request, _: Annotated[str | None, Depends(_KEY)] = None) -> dict[str, Any]:
        return {
            name: {
                "document_type": schema.document_type,
                "description": schema.description,
                "keys": [
                    {
                        "key": spec.key,
                        "kind": spec.kind,
                        "description": spec.description,
                        "many": spec.many,
                        "choices": list(spec.choices),
                        "columns": [column.key for column in spec.columns],
                    }
                    for spec in schema.fields
                ],
            }
            for name, schema in sorted(_service(request).schemas.items())
        }

    @app.get("/healthz", responses={503: _PROBLEMS[503]}, summary="Is the process well? If not, start it anew")
    async def health(request: Request) -> dict[str, str]:
        if problem := _service(request).problem():
            raise RequestError(503, problem)
        return {"status": "ok"}

    @app.get("/readyz", responses={503: _PROBLEMS[503]}, summary="Can documents be answered now?")
    async def ready(request: Request) -> dict[str, str]:
        if not _service(request).is_ready:
            raise RequestError(503, _service(request).problem() or "the engine is starting")
        return {"status": "ok"}

    @app.get("/metrics", response_class=Response, summary="Prometheus metrics")
    async def metrics(request: Request) -> Response:
        return Response(_service(request).metrics.text(), media_type="text/plain; version=0.0.4")

    @app.get("/", response_class=HTMLResponse, include_in_schema=False)
    async def page() -> HTMLResponse:
        nonce = secrets.token_urlsafe(16)
        policy = (
            f"default-src 'none'; script-src 'nonce-{nonce}'; style-src 'nonce-{nonce}'; img-src data: blob:; "
            "connect-src 'self'; form-action 'none'; base-uri 'none'; frame-ancestors 'none'"
        )
        headers = {"Content-Security-Policy": policy, "Referrer-Policy": "no-referrer", "Cache-Control": "no-store"}
        return HTMLResponse(_page().replace("{{nonce}}", nonce), headers=headers)

    return app


class _BoundedBody:
    """Stops reading a body that becomes too large, whatever its client said of its length: the parser of forms would
    write all of it to the disk."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        limit: int = scope["app"].state.service.limits.max_bytes
        size = 0

        def is_too_large() -> bool:
            return size > limit + _FORM_BYTES

        async def bounded() -> Message:
            nonlocal size
            message = await receive()
            size += len(message.get("body", b""))
            return {"type": "http.disconnect"} if is_too_large() else message

        async def send_unless_too_large(message: Message) -> None:
            if not is_too_large():
                await send(message)

        with contextlib.suppress(ClientDisconnect):
            await self._app(scope, bounded, send_unless_too_large)
        if is_too_large():
            await JSONResponse({"detail": _too_large(limit)}, status_code=413)(scope, receive, send)


def _service(request: Request) -> Service:
    service: Service = request.app.state.service
    return service


def _refusal(request: Request, api_key: str) -> JSONResponse | None:
    """Of a request without the key, or of one that says itself that it is too large."""
    if api_key and request.url.path not in _OPEN:
        given = request.headers.get("X-API-Key", "")
        if not hmac.compare_digest(given.encode(), api_key.encode()):
            return JSONResponse({"detail": "send the service's key in the header X-API-Key"}, status_code=401)
    length = request.headers.get("Content-Length", "")
    limit = _service(request).limits.max_bytes
    if length.isdecimal() and int(length) > limit + _FORM_BYTES:
        return JSONResponse({"detail": _too_large(limit)}, status_code=413)
    return None


async def _read(file: UploadFile, limit: int) -> bytes:
    parts, size = [], 0
    while part := await file.read(_CHUNK):
        size += len(part)
        if size > limit:
            raise RequestError(413, _too_large(limit))
        parts.append(part)
    if not size:
        raise RequestError(422, "file: it is empty")
    return b"".join(parts)


def _too_large(limit: int) -> str:
    return f"at most {limit / 2**20:g} MiB are taken; make the image smaller, or send its pages one by one"


@cache
def _page() -> str:
    return _PAGE.read_text(encoding="utf-8")
