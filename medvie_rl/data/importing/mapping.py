"""The mapping file: which name of the source is which key of the schema.

store: company            # a key
total.cash: total         # an object in an object, joined by a point
menu.nm: items.name       # a column of a table
"""

import difflib
from collections.abc import Mapping
from pathlib import Path

import yaml  # type: ignore[import-untyped,unused-ignore]

from medvie_rl.data.importing.texts import check_text, read_text
from medvie_rl.errors import UserError
from rewards.schema import Schema


def load_mapping(path: Path, schemas: Mapping[str, Schema]) -> dict[str, str]:
    """Read a mapping file; raises UserError naming the file and what is wrong, such as a key that no schema has."""
    if not path.is_file():
        raise UserError(f"{path}: no such mapping file; expected YAML lines 'name in the source: key of the schema'")
    try:
        content = yaml.safe_load(check_text(read_text(path)))
    except (yaml.YAMLError, ValueError) as error:
        raise UserError(f"{path}: not readable as YAML: {error}") from error
    if not isinstance(content, dict) or not content:
        raise UserError(f"{path}: expected lines 'name in the source: key of the schema', got {type(content).__name__}")
    mapping = {}
    for name, key in content.items():
        if not isinstance(name, str | int) or not isinstance(key, str):
            raise UserError(f"{path}: {name!r}: {key!r}: expected two texts; quote them")
        mapping[str(name)] = key
    check_mapping(mapping, schemas, where=f"{path}: ")
    return mapping


def check_mapping(mapping: Mapping[str, str], schemas: Mapping[str, Schema], *, where: str = "") -> None:
    """Raise UserError if a target is neither a key of a schema nor a "table.column" of one."""
    known = [name for schema in schemas.values() for name in target_names(schema)]
    for name, key in mapping.items():
        if key not in known:
            close = difflib.get_close_matches(key, known, n=1)
            hint = f"; did you mean {close[0]!r}?" if close else f"; there are {', '.join(dict.fromkeys(known))}"
            raise UserError(f"{where}{name!r}: no schema has the key {key!r}{hint}")


def target_names(schema: Schema) -> list[str]:
    """All keys and all columns ("table.column") of a schema."""
    columns = [f"{spec.key}.{column.key}" for spec in schema.fields for column in spec.columns]
    return [*schema.keys, *columns]
