"""Synthetic slips: deterministic, fitting their schemas, disjoint between splits, never-seen values in tests only."""

import io
import random
from pathlib import Path

import pytest
from PIL import Image

from medvie_rl.data.slip_content import LAYOUTS
from medvie_rl.data.synthetic import (
    ARRANGEMENTS,
    HEIGHT,
    KINDS,
    SALES,
    SPECIALTIES,
    WIDTH,
    draw_slip,
    draw_slips,
    draw_value,
    load_font,
)
from medvie_rl.data.vocabulary import CLOSED_KEYS, LATER, NEVER, SEEN, WORD_LISTS, is_never_seen, pseudo_word
from rewards.compare import same_meaning
from rewards.schema import load_schema

SCHEMAS = {
    f"{kind}_slip": load_schema(Path(__file__).parents[2] / "conf" / "schemas" / f"{kind}_slip.yaml")
    for kind in LAYOUTS
}


@pytest.mark.parametrize("kind", KINDS)
def test_same_arguments_give_the_same_bytes_and_others_do_not(kind: str) -> None:
    first = draw_slip(kind, split="train", seed=3, index=5)
    assert first == draw_slip(kind, split="train", seed=3, index=5)
    others = [("train", 3, 6), ("train", 4, 5), ("test", 3, 5), ("validation", 3, 5), ("pretrain", 3, 5)]
    for split, seed, index in others:
        assert draw_slip(kind, split=split, seed=seed, index=index).image != first.image


def test_every_annotation_fits_its_schema_and_leaves_keys_out() -> None:
    for slip in draw_slips("train", 200):
        schema = SCHEMAS[slip.schema]
        assert schema.validate_annotation(slip.annotation) == []
        assert slip.annotation.keys() == slip.printed.keys()
        assert 1 <= len(schema.keys) - len(slip.annotation) <= 3


def test_what_is_printed_means_what_is_annotated() -> None:
    for slip in draw_slips("test", 200):
        for key, value in slip.printed.items():
            line = slip.lines[value.line]
            assert key in line.keys
            assert line.text[value.start :].startswith(value.text)
            assert same_meaning(SCHEMAS[slip.schema].field(key), value.text, slip.annotation[key]), (key, value.text)


def test_lines_stay_on_the_paper_in_rows_of_their_own() -> None:
    num_lines = set()
    for slip in draw_slips("validation", 200):
        with Image.open(io.BytesIO(slip.image)) as image:
            assert (image.format, image.mode, image.size) == ("PNG", "L", (WIDTH, HEIGHT))
        rows = [line.row for line in slip.lines]
        assert rows == sorted(set(rows)) and rows[0] >= 0 and rows[-1] < HEIGHT // 16
        assert all(line.left + load_font(*slip.font).getlength(line.text) <= WIDTH for line in slip.lines)
        num_lines.add(len(rows))
    assert {3, 4, 5} <= num_lines <= {1, 2, 3, 4, 5, 6}


def test_splits_share_no_document() -> None:
    counts = {"pretrain": 2000, "train": 100, "validation": 60, "test": 300}
    contents = {
        split: {(slip.schema, tuple(sorted(slip.annotation.items()))) for slip in draw_slips(split, count)}
        for split, count in counts.items()
    }
    images = {split: {slip.image for slip in draw_slips(split, count)} for split, count in counts.items()}
    for split in counts:
        for other in counts:
            if split < other:
                assert not contents[split] & contents[other]
                assert not images[split] & images[other]


def test_word_lists_are_split_without_overlap() -> None:
    for name, words in WORD_LISTS.items():
        parts = [set(words.parts[part]) for part in (SEEN, LATER, NEVER)]
        assert sum(map(len, parts)) == len(set.union(*parts)), name
        assert min(map(len, parts)) >= 4


def test_only_the_test_split_has_never_seen_values() -> None:
    shares = {}
    for split in ("pretrain", "train", "validation", "test"):
        closed = [
            is_never_seen(key, value)
            for slip in draw_slips(split, 400)
            for key, value in slip.annotation.items()
            if key in CLOSED_KEYS
        ]
        shares[split] = sum(closed) / len(closed)
    assert shares["pretrain"] == shares["train"] == shares["validation"] == 0
    assert 0.25 < shares["test"] < 0.55  # a name is never-seen as soon as one of its two words is


def test_never_seen_knows_lists_by_key() -> None:
    drug = WORD_LISTS["drug"].parts[NEVER][0]
    assert is_never_seen("drug", drug)
    assert not is_never_seen("freq", drug)
    assert is_never_seen("patient", f"{WORD_LISTS['first'].parts[SEEN][0]} {WORD_LISTS['last'].parts[NEVER][0]}")
    assert not is_never_seen("patient", f"{WORD_LISTS['first'].parts[SEEN][0]} {WORD_LISTS['last'].parts[LATER][0]}")


def test_made_up_words_are_capitalised_words() -> None:
    words = [pseudo_word(random.Random(seed)) for seed in range(200)]
    assert all(word.isalpha() and word[0].isupper() and 2 <= len(word) <= 11 for word in words)
    assert len(set(words)) > 190


def test_unknown_kind_and_split_are_refused_by_name() -> None:
    with pytest.raises(ValueError, match="no slips of kind 'letter'; there are prescription"):
        draw_slip("letter", split="train", seed=0, index=0)
    with pytest.raises(ValueError, match="no split 'dev'; there are pretrain"):
        draw_slip("visit", split="dev", seed=0, index=0)


def test_drawn_values_follow_the_schema() -> None:
    rng = random.Random(0)
    for schema in SCHEMAS.values():
        annotation = {key: draw_value(key, split="pretrain", rng=rng) for key in schema.keys}
        assert schema.validate_annotation(annotation) == []


@pytest.mark.parametrize("kinds", [SPECIALTIES, SALES])
@pytest.mark.parametrize("arrangement", ARRANGEMENTS)
def test_other_kinds_and_arrangements_print_what_they_annotate(kinds: tuple[str, ...], arrangement: str) -> None:
    for slip in draw_slips("test", 60, kinds=kinds, arrangement=arrangement):
        schema = SCHEMAS[slip.schema]
        assert schema.validate_annotation(slip.annotation) == []
        for key, value in slip.printed.items():
            line = slip.lines[value.line]
            assert key in line.keys and line.text[value.start :].startswith(value.text)
            assert same_meaning(schema.field(key), value.text, slip.annotation[key]), (key, value.text)
        assert all(line.left + load_font(*slip.font).getlength(line.text) <= WIDTH for line in slip.lines)
        assert all(0 <= line.row < HEIGHT // 16 for line in slip.lines)


def test_arrangements_are_what_their_names_say() -> None:
    orders = {kind: [[key for group in layout for key in group] for layout in LAYOUTS[kind]] for kind in KINDS}
    for slip in draw_slips("test", 80, arrangement="unseen"):
        keys = list(slip.printed)
        assert all(keys != [key for key in order if key in keys] for order in orders[slip.document_type])
    for slip in draw_slips("test", 80, arrangement="two_columns"):
        lefts = {line.left for line in slip.lines}
        assert len(lefts) == 2 and len({line.row for line in slip.lines}) == -(-len(slip.lines) // 2)
    for slip in draw_slips("test", 80, arrangement="table"):
        labels, values = ([line for line in slip.lines if bool(line.keys) is filled] for filled in (False, True))
        assert len(labels) == len(values) == len(slip.printed)
        assert max(line.left for line in labels) < min(line.left for line in values)
        assert not any(":" in line.text for line in labels)


def test_an_unknown_arrangement_is_named() -> None:
    with pytest.raises(ValueError, match="no slips of arrangement 'spiral'; there are usual, unseen"):
        draw_slip("visit", split="test", seed=0, index=0, arrangement="spiral")
