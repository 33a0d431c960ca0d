"""Choosing a diverse subset: coverage against chance, on made-up features and on pages, and what the command writes."""

import hashlib
import json
import random
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from medvie_rl.data.features import document_features, layout_statistics, ngram_counts, num_columns, text_statistics
from medvie_rl.data.ocr import OcrCache, OcrLine
from medvie_rl.data.reading_order import Box
from medvie_rl.data.select import coverage, select_documents, type_quotas
from medvie_rl.data.select_command import select_from_dataset
from medvie_rl.data.slips import write_slips
from medvie_rl.data.store import Document, describe_image, open_split, write_split
from medvie_rl.errors import UserError
from shared_documents import MISSING, REAL

REAL_KINDS = ("medicine_boxes_en", "sroie_receipts", "vaipe_prescriptions_vi", "openi_radiology_rendered")


def document(name: str, kind: str = "slip", *, key: str = "", size: tuple[int, int] = (1, 1)) -> Document:
    return Document(
        id=name, document_type=kind, schema=kind, annotation={}, image_keys=(key or name,), image_sizes=(size,),
        annotated=False,
    )  # fmt: skip


def clusters(seed: int, sizes: list[int], columns: int = 20) -> np.ndarray[Any, np.dtype[np.float64]]:
    rng = np.random.default_rng(seed)
    centres = rng.normal(size=(len(sizes), columns)) * 5
    return np.concatenate(
        [centre + rng.normal(size=(size, columns)) for centre, size in zip(centres, sizes, strict=True)]
    )


def random_coverage(features: Any, num: int, trials: int = 50) -> tuple[float, float]:
    """The means of the largest and of the mean distances over random choices."""
    rng = random.Random(0)
    drawn = [coverage(features, rng.sample(range(len(features)), num)) for _ in range(trials)]
    return float(np.mean([largest for largest, _ in drawn])), float(np.mean([mean for _, mean in drawn]))


def test_picks_on_a_line_are_the_farthest_ones() -> None:
    documents = [document(f"d{index}") for index in range(6)]
    features = np.array([[0.0], [1.0], [2.0], [3.0], [9.0], [10.0]])
    chosen = select_documents(documents, features, num=3, seed=0)
    first = int(chosen.ids[0][1:])
    second = 5 if first <= 3 else 0
    assert chosen.ids[1] == f"d{second}"
    assert chosen.distances[1] == abs(features[second, 0] - features[first, 0])
    assert chosen.max_radius[0] == chosen.distances[1]
    assert chosen.max_radius[1] == chosen.distances[2]  # what is farthest is picked next
    assert len(chosen.clusters) == 6
    assert sum(chosen.sizes().values()) == 6


def test_ties_and_order_do_not_depend_on_the_order_of_the_documents() -> None:
    features = clusters(1, [30, 5, 5])
    features = np.concatenate([features, features])  # every document twice
    documents = [document(f"d{index:03}") for index in range(len(features))]
    order = list(range(len(features)))
    random.Random(3).shuffle(order)
    one = select_documents(documents, features, num=50, seed=7)
    other = select_documents([documents[index] for index in order], features[order], num=50, seed=7)
    assert (one.ids, one.distances) == (other.ids, other.distances)
    assert len(set(one.ids)) == 50
    assert one.max_radius[39] == 0.0  # 40 different rows
    assert set(one.distances[40:]) == {0.0}
    assert select_documents(documents, features, num=1, seed=8).ids != one.ids[:1]


def test_small_clusters_are_found_where_chance_misses_them() -> None:
    features = clusters(0, [400, 200, 20, 5, 5, 5, 5])
    documents = [document(f"d{index}") for index in range(len(features))]
    chosen = select_documents(documents, features, num=20, seed=0)
    picked = [int(name[1:]) for name in chosen.ids]
    assert {sum(index >= start for start in (400, 600, 620, 625, 630, 635)) for index in picked} == set(range(7))
    largest, mean = random_coverage(features, 20)
    assert chosen.max_radius[-1] == pytest.approx(coverage(features, picked)[0])
    assert chosen.mean_radius[-1] == pytest.approx(coverage(features, picked)[1])
    assert chosen.max_radius[-1] < 0.5 * largest
    assert chosen.mean_radius[-1] < 1.1 * mean


def test_every_type_gets_its_share_of_the_picks() -> None:
    types = ["report"] * 90 + ["slip"] * 9 + ["photo"]
    assert type_quotas(types, 10) == {"report": 8, "slip": 1, "photo": 1}
    assert type_quotas(types, 2) == {"report": 1, "slip": 1, "photo": 1}  # the greedy choice says which two
    assert type_quotas(types, 100) == {"report": 90, "slip": 9, "photo": 1}
    features = np.arange(100.0).reshape(100, 1)
    documents = [document(f"d{index}", kind) for index, kind in enumerate(types)]
    chosen = select_documents(documents, features, num=10, seed=0)
    kinds = [types[int(name[1:])] for name in chosen.ids]
    assert {kind: kinds.count(kind) for kind in set(kinds)} == {"report": 8, "slip": 1, "photo": 1}
    few = select_documents(documents, features, num=2, seed=0)
    assert sorted(few.quotas.values()) == [0, 1, 1]
    free = select_documents(documents, features, num=10, seed=0, stratify=False)
    assert free.quotas == {}
    assert free.max_radius[-1] <= chosen.max_radius[-1]


def test_more_picks_than_documents_are_all_of_them() -> None:
    chosen = select_documents([document("a"), document("b")], np.array([[0.0], [1.0]]), num=9, seed=0)
    assert sorted(chosen.ids) == ["a", "b"]
    assert chosen.max_radius[-1] == 0.0


@pytest.mark.parametrize("features", [np.zeros((1, 2)), np.full((2, 2), np.nan), np.zeros(2)])
def test_features_that_do_not_fit_are_refused(features: Any) -> None:
    with pytest.raises(ValueError, match=r"expected finite features \[2, columns\], got an array"):
        select_documents([document("a"), document("b")], features, num=1, seed=0)


def line(text: str, x0: float, y0: float, width: float = 0.1) -> OcrLine:
    return OcrLine(text=text, box=Box(x0, y0, x0 + width, y0 + 0.02), confidence=1.0)


def test_layout_statistics_tell_a_table_from_a_letter() -> None:
    table = [line("a", x0, y0) for y0 in (0.1, 0.2, 0.3) for x0 in (0.1, 0.4, 0.7)]
    letter = [line("a", 0.1, y0, 0.8) for y0 in (0.1, 0.2, 0.3, 0.4)]
    assert (num_columns(table), num_columns(letter), num_columns([])) == (3, 1, 0)
    assert layout_statistics(table)[[3, 4]].tolist() == [3.0, 1.0]  # lines a row, share of rows with three or more
    assert layout_statistics(letter)[[3, 4]].tolist() == [1.0, 0.0]
    grid = layout_statistics([line("a", 0.0, 0.0, 0.25)])[6:].reshape(4, 4)
    assert grid[0].tolist() == pytest.approx([0.25 * 0.02 * 16, 0, 0, 0])
    assert grid[1:].sum() == 0


def test_text_statistics_count_digits_and_scripts() -> None:
    digits, capitals, marks, accents, _, latin, cyrillic, *_ = text_statistics("Ab1é да.").tolist()
    assert (digits, marks) == pytest.approx((1 / 7, 1 / 7))
    assert (capitals, accents, latin, cyrillic) == pytest.approx((1 / 5, 3 / 5, 3 / 5, 2 / 5))
    assert ngram_counts("Dose 12 mg").tolist() == ngram_counts("dose  98 MG").tolist()
    assert (ngram_counts("dose") ** 2).sum() == pytest.approx(1.0)
    assert ngram_counts("").sum() >= 0


@pytest.fixture(scope="module")
def slips(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("data") / "slips"
    write_slips(folder, {"train": 40, "validation": 2, "test": 2}, seed=3, preview=None)
    return folder


def test_the_command_writes_the_selection_and_a_smaller_dataset(
    slips: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out, selection, plot = tmp_path / "few", tmp_path / "selection.json", tmp_path / "curve.png"
    code = select_from_dataset(
        str(slips), num=8, split="train", light=True, json_path=selection, out=out, plot=plot
    )  # fmt: skip
    written = json.loads(selection.read_text(encoding="utf-8"))
    kinds = {document.document_type for document in open_split(slips, "train")}
    assert code == 0
    assert len(written["ids"]) == 8
    assert {pick["document_type"] for pick in written["curve"]} == kinds
    assert sum(pick["cluster_size"] for pick in written["curve"]) == 40
    radii = [pick["max_radius"] for pick in written["curve"]]
    assert radii == sorted(radii, reverse=True)
    few = open_split(out, "train")
    assert {document.id for document in few} == set(written["ids"])
    original = open_split(slips, "train")
    for document in few:
        assert few.images(document) == original.images(document)
    assert [document.id for document in open_split(out, "test")] == [
        document.id for document in open_split(slips, "test")
    ]
    assert describe_image(plot.read_bytes())[1] == (720, 480)
    printed = capsys.readouterr().out
    assert "drawn by the seed" in printed
    assert "8 of 40 documents chosen" in printed
    assert not (slips / "ocr").exists()  # light
    with pytest.raises(UserError, match="is not empty; name a new one"):
        select_from_dataset(str(slips), num=8, split="train", light=True, json_path=selection, out=out)


def test_an_unreadable_document_is_named_and_the_others_are_chosen_from(
    slips: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    source = open_split(slips, "train")
    good = [(document, list(source.images(document).values())) for document in source.documents[:3]]
    broken = b"no image"
    bad = document("bad", key=hashlib.sha256(broken).hexdigest())
    write_split(tmp_path / "pool", "pool", [*good, (bad, [broken])])
    code = select_from_dataset(str(tmp_path / "pool"), num=2, light=True, json_path=tmp_path / "s.json")
    assert code == 3
    assert "left out: document 'bad': not a readable image" in capsys.readouterr().err
    assert len(json.loads((tmp_path / "s.json").read_text())["ids"]) == 2


def test_a_split_that_is_not_there_is_an_error(slips: Path) -> None:
    with pytest.raises(UserError, match=r"pool\.parquet: no such split; it has .*train"):
        select_from_dataset(str(slips), num=2)


@pytest.mark.skipif(not REAL.is_dir(), reason=MISSING)
def test_choosing_pages_of_many_kinds_beats_chance(slips: Path, tmp_path: Path) -> None:
    source = open_split(slips, "train")
    pages = [(document, list(source.images(document).values())) for document in source.documents[:24]]
    for kind in REAL_KINDS:
        for path in sorted((REAL / kind / "images").iterdir())[:3]:
            content = path.read_bytes()
            key, size = describe_image(content)
            pages.append((document(f"{kind}-{path.stem}", kind, key=key, size=size), [content]))
    write_split(tmp_path / "mixed", "pool", pages)
    mixed = open_split(tmp_path / "mixed", "pool")
    features = document_features(mixed.documents, mixed, None)
    assert (len(features.documents), features.problems) == (36, ())
    chosen = select_documents(features.documents, features.matrix, num=10, seed=0)
    kinds = {made.id: made.document_type for made in features.documents}
    assert {kinds[name] for name in chosen.ids} == set(kinds.values())
    largest, mean = random_coverage(features.matrix, 10)
    assert chosen.max_radius[-1] < 0.85 * largest
    assert chosen.mean_radius[-1] < 0.9 * mean


def test_the_text_of_a_page_sets_documents_apart(slips: Path, tmp_path: Path) -> None:
    source = open_split(slips, "train")
    names = [f"d{index}" for index in range(4)]
    first, second = [next(iter(source.images(made).values())) for made in source.documents[:2]]
    pages = []
    for name, content in zip(names, (first, first, second, first), strict=True):
        key, size = describe_image(content)
        pages.append((document(name, key=key, size=size), [content]))
    write_split(tmp_path / "four", "pool", pages)
    four = open_split(tmp_path / "four", "pool")
    cache = OcrCache(tmp_path / "four" / "ocr")
    features = document_features(four.documents, four, cache)
    assert cache.num_read == 2
    assert np.ptp(features.matrix[[0, 1, 3]], axis=0).max() == 0.0
    chosen = select_documents(features.documents, features.matrix, num=2, seed=0)
    assert "d2" in chosen.ids
    assert chosen.max_radius[1] == 0.0
    light = document_features(four.documents, four, None)
    assert features.matrix.shape[1] - light.matrix.shape[1] >= 128
