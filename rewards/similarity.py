"""Soft comparison of free text: how near two texts are, unless they differ where a difference turns the meaning."""

import re
from collections import Counter

from rapidfuzz.distance import Levenshtein

MAX_CHARACTERS = 10_000  # of each text, as it is written and folded; beyond it only equal texts are near

# With its comparator and the unit behind it: neither "5 g" nor "<5 mg" is near "5 mg".
_NUMBER = re.compile(
    r"([<>≤≥~]|(?<![\w.)])[+-])? ?([0-9]++(?:[.,:/][0-9]++)*+) ?"
    r"((?:kg|g|mg|μg|ug|mcg|ng|pg|l|dl|ml|μl|mm|cm|m|iu|u|mmol|μmol|mol|meq|%|h|d|s|min)(?![^\W_]))?"
)
# English, German, French, Spanish, Portuguese, Italian, Vietnamese; in Chinese each of the signs counts.
_NEGATIONS = """
no not none never nor neither without denies denied deny negative absent absence cannot non
kein keine keinen keiner keinem keines nicht ohne nie weder negativ
pas sans aucun aucune jamais ni négatif négative
sin ningún ninguno ninguna niega nunca negativo negativa
não sem nenhum nenhuma nega
senza nessun nessuno nessuna né
không chưa chẳng
"""
_LEFT = "left links linke linken linker linkes gauche izquierdo izquierda esquerdo esquerda sinistro sinistra trái"
_RIGHT = "right rechts rechte rechten rechter rechtes droit droite derecho derecha direito direita destro destra phải"
_TURNS = {
    word: turn for turn, words in {"no": _NEGATIONS, "left": _LEFT, "right": _RIGHT}.items() for word in words.split()
}
_PARTS = {**dict.fromkeys(("n't", *"不无無未没沒否非"), "no"), "左": "left", "右": "right"}
_WORD = re.compile(r"[^\W\d_]+")


def text_similarity(text: str, true: str, *, floor: float, ignore_blanks: bool = False) -> float:
    """Normalised edit similarity of two folded texts in [0, 1]: 1 less the share of changed characters.

    0 below `floor` and beyond `MAX_CHARACTERS`; and 0 where the sequences of numbers (with their units), or the counts
    of negations or of "left" and "right" differ: "5 mg" for "50 mg" or a lost "no" is few characters and another
    finding.
    """
    if max(len(text), len(true)) > MAX_CHARACTERS:
        return 0.0
    letters = [side.replace(" ", "") if ignore_blanks else side for side in (text, true)]
    longest = max(1, *map(len, letters))
    most_changes = int((1 - floor) * longest + 1e-9)  # 2 changes in 10 characters are on a floor of 0.8
    num_changes = Levenshtein.distance(*letters, score_cutoff=most_changes)
    if num_changes > most_changes or _turns(text.lower()) != _turns(true.lower()):
        return 0.0
    return 1 - num_changes / longest


def _turns(text: str) -> tuple[list[tuple[str, str, str]], Counter[str]]:
    """What turns the meaning of a text: its numbers in order, and how often it says no, left and right."""
    numbers = [(sign, number.replace(",", "."), unit) for sign, number, unit in _NUMBER.findall(text)]
    counts = Counter(_TURNS[word] for word in _WORD.findall(text) if word in _TURNS)
    for part, turn in _PARTS.items():
        counts[turn] += text.count(part)
    return numbers, counts
