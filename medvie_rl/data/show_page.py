"""The contact sheet: one HTML file without scripts, with the images inside, that needs no network.

A page is shown as wide as its column; a click opens it in full width over the sheet, another one closes it.
"""

from collections.abc import Mapping, Sequence
from html import escape
from pathlib import Path
from typing import Any

from medvie_rl.data.inline_image import inline_image
from medvie_rl.data.show import Shown, column_names, facts, ordered_keys, rows_of, value_lines
from medvie_rl.progress import UNSEEN, Progress

_SIDE = 1400  # pixels of an inlined page's longer side at most

# No script, and none allowed: what annotations say is text, whatever it looks like.
_HEAD = """<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta http-equiv="Content-Security-Policy" content="default-src 'none'; img-src data:; style-src 'unsafe-inline'">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>{title}</title>
<style>
:root { color-scheme: light dark; --back: #f6f7f9; --card: #fff; --text: #1c2430; --faint: #5d6878; --line: #d9dee6;
  --accent: #1f6feb; --bad: #b42318; }
@media (prefers-color-scheme: dark) { :root { --back: #12161c; --card: #1b2129; --text: #e5e9ef; --faint: #9aa6b5;
  --line: #323b47; --accent: #6ea8fe; --bad: #ff8a80; } }
* { box-sizing: border-box; }
body { margin: 0 auto; padding: 24px; max-width: 1500px; background: var(--back); color: var(--text);
  font: 15px/1.45 system-ui, -apple-system, "Segoe UI", Roboto, "Noto Sans", sans-serif; }
h1 { font-size: 20px; margin: 0 0 4px; overflow-wrap: anywhere; }
h2 { font-size: 16px; margin: 0; overflow-wrap: anywhere; }
p { margin: 2px 0 14px; color: var(--faint); overflow-wrap: anywhere; }
.problem { color: var(--bad); }
article { background: var(--card); border: 1px solid var(--line); border-radius: 8px; padding: 16px; margin: 16px 0; }
.beside { display: grid; grid-template-columns: minmax(0, 1fr) minmax(0, 1fr); gap: 20px; align-items: start; }
@media (max-width: 900px) { .beside { grid-template-columns: minmax(0, 1fr); } }
.page { display: block; margin-bottom: 12px; cursor: zoom-in; }
.page input { position: absolute; opacity: 0; width: 1px; height: 1px; }
.page img { display: block; width: 100%; height: auto; border: 1px solid var(--line); background: #fff; }
.page input:focus-visible + img { outline: 3px solid var(--accent); }
.page input:checked + img { position: fixed; inset: 0; z-index: 1; width: 100vw; height: 100vh; object-fit: contain;
  background: #000d; border: 0; cursor: zoom-out; }
table { border-collapse: collapse; width: 100%; }
td, th { text-align: left; vertical-align: top; padding: 5px 10px 5px 0; border-bottom: 1px solid var(--line);
  overflow-wrap: anywhere; }
table.rows th, table.rows td { overflow-wrap: break-word; font-size: 13px; padding-right: 8px; }
.keys > tbody > tr > th { width: 34%; font-weight: 600; }
.keys small { display: block; font-weight: 400; color: var(--faint); }
.rows th { font-size: 13px; color: var(--faint); font-weight: 600; }
.scroll { overflow-x: auto; }
.absent { color: var(--faint); }
</style>
</head>
<body>
"""


def write_page(path: Path, title: str, shown: Sequence[Shown], progress: Progress = UNSEEN) -> None:
    """Write the contact sheet of documents as one HTML file; raises OSError if it cannot be written."""
    progress.begin(len(shown))
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("w", encoding="utf-8") as file:
        file.write(_HEAD.replace("{title}", escape(title)))
        file.write(f"<h1>{escape(title)}</h1>\n<p>{len(shown)} documents. Click a page to see it larger.</p>\n")
        for item in progress.each(shown):
            file.write(_article(item))
        file.write("</body>\n</html>\n")


def _article(item: Shown) -> str:
    pages = "".join(_page(content, f"page {index + 1}") for index, content in enumerate(item.pages))
    problem = f'<p class="problem">{escape(item.problem)}</p>' if item.problem else ""
    return (
        f"<article>\n<h2>{escape(item.document.id)}</h2>\n<p>{escape(facts(item))}</p>\n{problem}"
        f'<div class="beside">\n<div>{pages}</div>\n<div>{_annotation(item)}</div>\n</div>\n</article>\n'
    )


def _page(content: bytes, name: str) -> str:
    """An image in a label: the checkbox in it holds whether it is shown large, so that no script is needed."""
    image = inline_image(content, side=_SIDE)
    return (
        f'<label class="page"><input type="checkbox" aria-label="{name}, larger">'
        f'<img alt="{name}" width="{image.width}" height="{image.height}" src="{image.uri}"></label>'
    )


def _annotation(item: Shown) -> str:
    if not item.document.annotated:
        return '<p class="absent">not annotated</p>'
    keys = ordered_keys(item)
    rows = [_key_row(item, key) for key in keys]
    absent = [key for key in item.schema.keys if _is_absent(item, key)] if item.schema else []
    note = f'<p class="absent">not on the document: {escape(", ".join(absent))}</p>' if absent else ""
    return f'<table class="keys"><tbody>\n{"".join(rows)}</tbody></table>\n{note}'


def _is_absent(item: Shown, key: str) -> bool:
    """Whether the annotation says nothing for a key."""
    return not value_lines(item.document.annotation.get(key))


def _key_row(item: Shown, key: str) -> str:
    if _is_absent(item, key):
        return ""
    known = item.schema is not None and key in item.schema.keys
    description = item.schema.field(key).description if item.schema is not None and known else "not in the schema"
    value = item.document.annotation[key]
    rows = rows_of(value)
    shown = _rows(rows) if rows else _lines(value)
    style = "" if known else ' class="problem"'
    return f"<tr><th{style}>{escape(key)}<small>{escape(description)}</small></th><td>{shown}</td></tr>\n"


def _rows(rows: Sequence[Mapping[str, Any]]) -> str:
    names = column_names(rows)
    head = "".join(f"<th>{escape(name)}</th>" for name in names)
    body = "".join("<tr>" + "".join(f"<td>{_lines(row.get(name))}</td>" for name in names) + "</tr>" for row in rows)
    return f'<div class="scroll"><table class="rows"><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table></div>'


def _lines(value: Any) -> str:
    return "<br>".join(escape(line) for line in value_lines(value))
