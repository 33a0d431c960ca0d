"""`medvie data select`: chooses a diverse subset of a split, explains it, and writes what came of it."""

import json
import sys
from collections.abc import Sequence
from pathlib import Path

from rich.console import Console
from rich.table import Table

from medvie_rl.data.features import document_features
from medvie_rl.data.ocr import OcrCache, cache_folder
from medvie_rl.data.select import Selection, select_documents
from medvie_rl.data.store import POOL, Document, Split, list_splits, open_split, write_split
from medvie_rl.errors import UserError
from medvie_rl.files import check_new_folder
from medvie_rl.next_command import next_command
from medvie_rl.progress import show_progress

_LOG_WIDTH = 120  # columns where output is no terminal
_SHOWN = 40  # clusters in the printed table; selection.json has all


def select_from_dataset(
    dataset: str,
    *,
    num: int,
    split: str = POOL,
    seed: int = 0,
    light: bool = False,
    stratify: bool = True,
    ocr_cache: str = "",
    json_path: Path | None = None,
    out: Path | None = None,
    plot: Path | None = None,
) -> int:
    """Choose `num` documents of a split, write the selection and print why; see `medvie data select --help`.

    Returns 0, or 3 if some documents could not be read. Raises UserError for what cannot be used.
    """
    if num < 1:
        raise UserError(f"--num: expected at least 1, got {num}")
    if out is not None:
        check_new_folder(out)
    try:
        source = open_split(dataset, split)
        cache = None if light else OcrCache(cache_folder(dataset, ocr_cache))
        with show_progress("looking at" if light else "reading") as progress:
            features = document_features(source.documents, source, cache, progress=progress)
        if not features.documents:
            raise UserError(f"{dataset}: split '{split}' has no document that can be read; nothing to choose from")
        selection = select_documents(features.documents, features.matrix, num=num, seed=seed, stratify=stratify)
        if out is not None:
            _write_chosen(dataset, source, split, selection, out)
    except ValueError as error:
        raise UserError(str(error)) from error
    json_path = json_path or Path("selection.json")
    settings = {"dataset": dataset, "split": split, "seed": seed, "features": "light" if light else "full"}
    _write_json(json_path, settings, selection, features.documents, features.problems)
    if plot is not None:
        draw_curve(selection, plot)
    _print(selection, features.documents)
    for problem in features.problems:
        print(f"left out: {problem}", file=sys.stderr)
    written = ", ".join(str(path) for path in (json_path, out, plot) if path is not None)
    print(f"{len(selection.ids)} of {len(features.documents)} documents chosen: {written}")
    print(_next(dataset, num, split, out))
    return 3 if features.problems else 0


def _next(dataset: str, num: int, split: str, out: Path | None) -> str:
    """Documents are chosen to be annotated if nobody has yet, else to be trained on."""
    if out is None:
        return next_command("data", "select", dataset, "--num", num, "--split", split, "--out", "data/chosen")
    if split == POOL:
        tasks = ("--format", "label-studio", "--schema", "SCHEMA.yaml", "--out", "for_label_studio")
        return next_command("data", "export", out, *tasks)
    return next_command("data", "check", out)


def cluster_table(selection: Selection, documents: Sequence[Document]) -> Table:
    """One row a pick: how many documents it stands for, its type, and how far it was from all picks before it."""
    of_id = {document.id: document for document in documents}
    table = Table(title="clusters, in the order of choice", title_justify="left")
    for name in ("cluster", "size", "document", "type", "language", "why"):
        table.add_column(name, justify="right" if name in ("cluster", "size") else "left", overflow="fold")
    sizes = selection.sizes()
    for rank, (pick, distance) in enumerate(zip(selection.ids, selection.distances, strict=True), start=1):
        if rank > _SHOWN:
            table.add_row("...", "", f"{len(selection.ids) - _SHOWN} more", "", "", "")
            break
        why = "drawn by the seed" if rank == 1 else f"farthest from the picks before it: {distance:.2f}"
        document = of_id[pick]
        table.add_row(str(rank), str(sizes[pick]), pick, document.document_type, document.language, why)
    return table


def draw_curve(selection: Selection, path: Path) -> None:
    """Draw how well the picks cover all documents, by their number."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    figure, axes = pyplot.subplots(figsize=(6, 4), layout="constrained")
    numbers = range(1, len(selection.ids) + 1)
    axes.plot(numbers, selection.max_radius, label="largest")
    axes.plot(numbers, selection.mean_radius, label="mean")
    axes.set_xlabel("documents picked")
    axes.set_ylabel("distance to the nearest pick")
    axes.set_ylim(bottom=0)
    axes.legend()
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=120)
    pyplot.close(figure)


def _print(selection: Selection, documents: Sequence[Document]) -> None:
    console = Console(highlight=False)
    if not console.is_terminal:
        console.width = _LOG_WIDTH
    console.print(cluster_table(selection, documents))
    if selection.quotas:
        shares = ", ".join(f"{name} {num}" for name, num in sorted(selection.quotas.items()))
        console.print(f"picks by document type: {shares}")
    if missed := sorted(name for name, num in selection.quotas.items() if num == 0):
        console.print(f"document types without a pick, since --num is smaller than their number: {', '.join(missed)}")
    steps = sorted({1, *(2**power for power in range(1, 20) if 2**power < len(selection.ids)), len(selection.ids)})
    curve = ", ".join(f"{num}: {selection.max_radius[num - 1]:.2f}" for num in steps)
    console.print(f"largest distance of a document to its nearest pick, by number of picks: {curve}")


def _write_json(
    path: Path,
    settings: dict[str, object],
    selection: Selection,
    documents: Sequence[Document],
    problems: Sequence[str],
) -> None:
    of_id = {document.id: document for document in documents}
    sizes = selection.sizes()
    picks = zip(selection.ids, selection.distances, selection.max_radius, selection.mean_radius, strict=True)
    content = settings | {
        "num_documents": len(documents),
        "ids": list(selection.ids),
        "quotas": selection.quotas,
        "curve": [
            {
                "picked": rank,
                "id": pick,
                "document_type": of_id[pick].document_type,
                "distance": distance,
                "cluster_size": sizes[pick],
                "max_radius": largest,
                "mean_radius": mean,
            }
            for rank, (pick, distance, largest, mean) in enumerate(picks, start=1)
        ],
        "clusters": selection.clusters,
        "left_out": list(problems),
    }
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(content, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")


def _write_chosen(dataset: str, source: Split, split: str, selection: Selection, out: Path) -> None:
    """The picks as the same split of a new dataset; held-out splits go along, so that it can be trained on."""
    chosen = set(selection.ids)
    write_split(out, split, source.embedded(document for document in source.documents if document.id in chosen))
    if split != POOL:
        for other in list_splits(dataset):
            if other not in (split, POOL):
                held_out = open_split(dataset, other)
                write_split(out, other, held_out.embedded(held_out.documents))
