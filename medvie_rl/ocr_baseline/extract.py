"""The OCR baseline: from the recognised lines of a document's pages to its fields, by rules that only a schema drives.

No rule knows a template, nothing is learned, and what there is no evidence of is left out. Pure functions of the lines.
"""

import hashlib
from collections.abc import Sequence
from functools import cache
from pathlib import Path
from typing import Any

from medvie_rl.data.ocr import OcrLine
from medvie_rl.ocr_baseline.fields import find_fields
from medvie_rl.ocr_baseline.page import Cell, Page
from medvie_rl.ocr_baseline.tables import find_rows
from rewards.schema import Schema


def extract_fields(schema: Schema, pages: Sequence[Sequence[OcrLine]]) -> dict[str, Any]:
    """The fields of a document that its recognised lines show, in the schema's order."""
    scalars = [spec for spec in schema.fields if not spec.columns]
    used: set[Cell] = set()
    found: dict[str, Any] = {}
    cells = [Page(lines, scalars) for lines in pages]
    for table in (spec for spec in schema.fields if spec.columns):
        rows = find_rows(table, cells, used)
        if rows:
            found[table.key] = rows
    found |= find_fields(scalars, cells, used)
    return {key: found[key] for key in schema.keys if key in found}


@cache
def rules_digest() -> str:
    """sha256 of the rules' source: what they find depends on nothing else besides the lines and the schema."""
    files = sorted(Path(__file__).parent.glob("*.py"))
    return hashlib.sha256(b"".join(path.read_bytes() for path in files)).hexdigest()
