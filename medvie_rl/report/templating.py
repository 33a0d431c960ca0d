"""Fills in the HTML templates: whatever a document, an answer or a name says is text there."""

from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup

from medvie_rl.report.charts import number
from medvie_rl.report.classes import CLASSES

_TEMPLATES = Path(__file__).parent / "templates"
_CONTROL = {code: chr(0x2400 + code) for code in range(32) if chr(code) not in "\t\n\r"} | {0x7F: "␡"}


def render(template: str, context: Mapping[str, Any], **more: Any) -> bytes:
    """The page that a template makes of a context; style sheet and classes of values are in it for all."""
    page = _environment().get_template(template).render(**context, **more)
    return page.encode("utf-8", "backslashreplace")  # a half of a surrogate pair is no text


@cache
def _environment() -> Environment:
    environment = Environment(
        loader=FileSystemLoader(_TEMPLATES),
        autoescape=True,
        undefined=StrictUndefined,
        finalize=_visible,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters |= {"number": number, "signed": "{:+.3f}".format, "three": "{:.3f}".format}
    environment.globals |= {
        "classes": CLASSES,
        "style": Markup((_TEMPLATES / "style.css").read_text(encoding="utf-8")),
    }
    return environment


def _visible(value: Any) -> Any:
    """Text with its control characters as signs: what a policy wrote may hold any."""
    return value.translate(_CONTROL) if isinstance(value, str) and not isinstance(value, Markup) else value
