"""Format `funsd`: forms as entities, `annotations/*.json` beside `images/*`.

Each file has `form`, a list of entities with `id`, `text`, `label` (question, answer, header, other) and `linking`,
pairs of ids from a question to its answers. The text of the question is the name of a key: it is matched to the schema
by the key's name or description, or by the mapping file. Several answers to a question are a list for keys that hold
lists, in the order of the file, else one text. The folders training_data and testing_data of the original are the
splits.
"""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from medvie_rl.data.importing.records import Names, Note, Record, Rejection
from medvie_rl.data.importing.texts import read_json
from medvie_rl.errors import UserError

_FOLDERS = {"training_data": "train", "testing_data": "test"}
_ANNOTATIONS, _IMAGES = "annotations", "images"


def form_folders(source: Path) -> list[tuple[Path, str]]:
    """The folders that hold `annotations/*.json`, each with its split ("" for none)."""
    own = source.parent if source.name == _ANNOTATIONS else source
    found = [(own, "")] + [(own / name, split) for name, split in _FOLDERS.items()]
    return [(folder, split) for folder, split in found if any((folder / _ANNOTATIONS).glob("*.json"))]


def read(source: Path, names: Names) -> Iterator[Record | Rejection | Note]:
    """The forms of a source; raises UserError if it has none."""
    folders = form_folders(source)
    if not folders:
        raise UserError(f"{source}: expected {_ANNOTATIONS}/*.json with 'form' beside {_IMAGES}/")
    for folder, split in folders:
        images = _images(folder)
        for path in sorted((folder / _ANNOTATIONS).glob("*.json")):
            try:
                yield from _entries(path, folder, images, split)
            except ValueError as error:
                yield Rejection(str(path), str(error).removeprefix(f"{path}: "))


def _images(folder: Path) -> dict[str, list[str]]:
    images: dict[str, list[str]] = {}
    if (folder / _IMAGES).is_dir():
        for path in sorted((folder / _IMAGES).iterdir()):
            images.setdefault(path.stem, []).append(f"{_IMAGES}/{path.name}")
    return images


def _entries(path: Path, folder: Path, images: dict[str, list[str]], split: str) -> Iterator[Record | Note]:
    content = read_json(path)
    form = content.get("form") if isinstance(content, dict) else None
    if not isinstance(form, list) or not all(isinstance(entity, dict) for entity in form):
        raise ValueError("expected an object with 'form': a list of entities")
    files = images.get(path.stem, [])
    if len(files) != 1:
        found = f"there are {', '.join(files)}" if files else "there is none"
        raise ValueError(f"expected one image {_IMAGES}/{path.stem}.*, {found}")
    fields, num_loose = _answers(form)
    yield Record(where=str(path), folder=folder, files=(files[0],), fields=fields, loose=True, joined=True, split=split)
    if num_loose:
        yield Note("answer without a question, left out", num_loose)


def _answers(form: list[dict[str, Any]]) -> tuple[dict[str, Any], int]:
    """Question -> answer or answers, and how many answers belong to no question."""
    by_id: dict[Any, dict[str, Any]] = {}
    for entity in form:
        number = entity.get("id")
        if not isinstance(number, int | str) or number in by_id:
            raise ValueError(f"every entity needs an 'id' of its own, got {number!r}")
        by_id[number] = entity
    pairs: dict[tuple[Any, Any], None] = {}
    for entity in form:
        for link in entity.get("linking") or []:
            if not isinstance(link, list) or len(link) != 2 or any(end not in by_id for end in link):
                raise ValueError(f"entity {entity['id']!r}: 'linking' must be pairs of ids of this form, got {link!r}")
            first, second = link
            if (_label(by_id[first]), _label(by_id[second])) == ("answer", "question"):
                first, second = second, first
            pairs[first, second] = None
    fields: dict[str, Any] = {}
    for number, entity in by_id.items():
        if _label(entity) != "question":
            continue
        answers = [_text(other) for key, other in by_id.items() if (number, key) in pairs and _label(other) == "answer"]
        question = _text(entity)
        if question and any(answers):
            fields.setdefault(question, []).extend(answer for answer in answers if answer)
    answered = {second for first, second in pairs if _label(by_id[first]) == "question"}
    num_loose = sum(_label(entity) == "answer" and key not in answered for key, entity in by_id.items())
    return fields, num_loose


def _label(entity: dict[str, Any]) -> str:
    return str(entity.get("label", "")).lower()


def _text(entity: dict[str, Any]) -> str:
    return " ".join(str(entity.get("text") or "").split())
