"""`medvie serve`."""

import argparse
import os
from pathlib import Path

from medvie_rl.environment import set_environment
from medvie_rl.errors import UserError
from medvie_rl.interrupts import interrupt_at_sigterm
from medvie_rl.parser import Commands, add_command

KEY_VARIABLE = "MEDVIE_API_KEY"
_LOOPBACK = ("127.0.0.1", "::1", "localhost")


def add_serve(commands: Commands) -> None:
    """The command `serve`."""
    from medvie_rl.extraction.command import add_asking

    serve = add_command(
        commands,
        "serve",
        help="answer documents over HTTP, and show them on a page to be corrected",
        description="An HTTP service for one policy: POST /extract, /schemas, /healthz, /readyz, /metrics "
        "(Prometheus), /openapi.json, and a page at /. Requests that wait are sampled together. Nothing that clients "
        "send is logged or kept.",
        examples=[
            ("medvie serve --policy runs/RUN/best", "then open http://127.0.0.1:8000"),
            ("medvie serve --policy runs/RUN/best --schemas my_schemas --port 9000 --traces 9", "of your own"),
        ],
        notes="A client: curl -F file=@slip.png -F schema=visit_slip http://127.0.0.1:8000/extract\n\n"
        f"With {KEY_VARIABLE} in the environment every request must bring that key in the header X-API-Key; to listen "
        "beyond this machine needs it, and something in front that speaks TLS.",
    )
    add_asking(serve)
    serve.add_argument("--schemas", type=Path, default=Path("conf/schemas"), help="folder of the schemas to offer")
    serve.add_argument("--host", default="127.0.0.1", help="address to listen on (default: this machine only)")
    serve.add_argument("--port", type=int, default=8000)
    serve.add_argument("--max-mib", type=float, default=32.0, help="largest upload in MiB (default: 32)")
    serve.add_argument("--max-pages", type=int, default=20, help="of a file (default: 20)")
    serve.add_argument("--seconds", type=float, default=60.0, help="until an answer (default: 60)")
    serve.add_argument("--max-waiting", type=int, default=256, help="documents in the queue (default: 256)")
    serve.set_defaults(command=_serve)


def _serve(options: argparse.Namespace) -> int:
    set_environment(allow_downloads=False)
    api_key = os.environ.get(KEY_VARIABLE, "")
    if options.host not in _LOOPBACK and not api_key:
        raise UserError(
            f"--host {options.host}: whoever reaches it could use the service; set {KEY_VARIABLE} to a key that "
            "clients must bring, or listen on 127.0.0.1"
        )
    for name in ("max_mib", "max_pages", "seconds", "max_waiting"):
        if getattr(options, name) <= 0:
            raise UserError(f"--{name.replace('_', '-')}: expected more than 0, got {getattr(options, name)}")

    import uvicorn

    from medvie_rl.data.load import load_schemas
    from medvie_rl.extraction.calibration import read_calibration
    from medvie_rl.extraction.command import asking_of
    from medvie_rl.extraction.extractor import Extractor
    from medvie_rl.serving.app import make_app
    from medvie_rl.serving.metrics import Metrics
    from medvie_rl.serving.service import Limits, Service

    calibration = read_calibration(options.policy)
    extractor = Extractor(asking_of(options, calibration))  # what cannot be used is said before anything starts
    schemas = load_schemas(options.schemas)
    limits = Limits(
        max_bytes=int(options.max_mib * 2**20),
        max_pages=options.max_pages,
        seconds=options.seconds,
        max_waiting=options.max_waiting,
    )
    app = make_app(lambda: Service(extractor, schemas, limits, Metrics(), calibration), api_key=api_key)
    print(f"http://{options.host}:{options.port} (the engine is starting; /readyz tells when it is there)", flush=True)
    server = uvicorn.Server(
        uvicorn.Config(app, host=options.host, port=options.port, log_level="warning", timeout_graceful_shutdown=10)
    )
    interrupt_at_sigterm()  # which uvicorn raises again when it has ended
    server.run()
    return 0 if server.started else 1
