"""Soft comparison of free text: how much of it is word for word right, unless what differs turns the meaning.

Words are compared, not letters: a misspelt word costs its wrong letters, another word costs the whole of it, so that
"hypotension" for "hypertension" is not a slip of two letters. What turns a meaning must be the same, in the same order:
numbers with the unit or word behind them, signs beside them, codes ("T4"), negations and sides with the word that they
belong to, and a list of words such as "before", "twice" and "upper". The list is short and cannot be complete: between
any two other words of equal length the cost is the same, whatever they mean.
"""

import re
from decimal import Decimal
from functools import lru_cache
from typing import NamedTuple

from rapidfuzz.distance import Levenshtein

from rewards.units import read_unit

MAX_CHARACTERS = 10_000  # of each text, as it is written and folded; beyond it only equal texts are near

_HAN = "\u3400-\u9fff"
_NUMBER = r"(?<![^\W_])[0-9]++(?:[.,:][0-9]++)*+"
_TOKEN = re.compile(
    rf"(?P<number>{_NUMBER})|(?P<han>[{_HAN}])|(?P<word>(?:(?![{_HAN}])[^\W_])++(?:'(?:(?![{_HAN}])[^\W_])++)?+)"
    r"|(?P<sign>[-+<>≤≥~±%‰°/=×^])"
)
# What stands behind a number: "5 mg/kg", "37.5 °c", "3-cm", "10 units"; a word that is no unit counts as well.
_BEHIND = re.compile(r"[ -]?((?:° ?)?[^\W\d_]++(?:\^?[23](?![0-9]))?(?: ?/ ?[^\W\d_]++(?:\^?[23](?![0-9]))?)*+|[%‰])")
_WITHOUT = re.compile(r"\b[ws]/o\b")

# In English, German, French, Spanish, Portuguese, Italian and Vietnamese; Chinese signs count one by one.
_NEGATIONS = """
no not none never nor neither without denies denied deny negative absent absence cannot non
kein keine keinen keiner keinem keines nicht ohne nie weder negativ
pas sans aucun aucune jamais ni négatif négative
sin ningún ninguno ninguna niega nunca negativo negativa
não sem nenhum nenhuma nega
senza nessun nessuno nessuna né
không chưa chẳng
"""
_LEFT = """
left links linke linken linker linkes linksseitig li gauche izquierdo izquierda esquerdo esquerda sinistro sinistra trái
"""
_RIGHT = """
right rechts rechte rechten rechter rechtes rechtsseitig re droit droite derecho derecha direito direita destro destra
phải
"""
# Each word is a turn of its own: it may be neither lost nor changed.
_TURNING = """
before after upper lower bilateral unilateral proximal distal anterior posterior medial lateral
increase increased increasing decrease decreased decreasing higher lower elevated reduced out
benign malignant positive acute chronic daily weekly monthly hourly once twice thrice every
morning noon afternoon evening night bedtime
zero one two three four five six seven eight nine ten eleven twelve fifteen twenty thirty fifty half
rll lll rul lul rml od os ou bid tid qid qd qod prn
vor nach obere oberen obere untere unteren erhöht erniedrigt täglich wöchentlich monatlich einmal zweimal dreimal
morgens mittags abends nachts ein zwei drei vier fünf sechs akut chronisch
avant après matin midi soir nuit une deux trois fois antes después mañana noche día semana dos tres vez veces
antes depois manhã tarde noite dia prima dopo mattina sera notte
trước sau sáng trưa chiều tối ngày tuần
"""
_TURNS = {word: "no" for word in _NEGATIONS.split()}
_TURNS |= {word: "left" for word in _LEFT.split()} | {word: "right" for word in _RIGHT.split()}
_ALONE = frozenset(_TURNING.split())
_HAN_TURNS = frozenset("不无無未没沒否非左右上下前后後早晚阳陽阴陰高低大小一二两兩三四五六七八九十")
_ROMAN = frozenset(["ii", "iii", "iv", "vi", "vii", "viii", "ix", "xi", "xii"])
_GRADES = frozenset(
    ["grade", "stage", "type", "class", "grad", "stadium", "typ", "klasse", "grado", "tipo", "degré", "stade", "degree"]
)
_PREFIXES = ("un", "non", "in", "im", "ir", "dis", "ab", "a", "an", "de")
_OPPOSED = (("hyper", "hypo"), ("in", "de"), ("in", "ex"), ("pre", "post"), ("intra", "extra"), ("supra", "infra"))
_MIN_SLIP, _LONG_SLIP = 5, 9  # letters of a word that may have one, or two, of them wrong


class _Read(NamedTuple):
    """A folded text as its words, what turns its meaning, and the number of characters of its words."""

    words: tuple[str, ...]
    turns: tuple[tuple[str, ...], ...]
    size: int


def text_similarity(text: str, true: str, *, floor: float) -> float:
    """The share of two folded texts that is the same, in [0, 1]: 1 less the cost of what differs over the longer one.

    0 below `floor`, beyond `MAX_CHARACTERS`, and where something that turns the meaning differs.
    """
    if max(len(text), len(true)) > MAX_CHARACTERS:
        return 0.0
    answered, truth = _read(text), _read(true)
    longest = max(answered.size, truth.size)
    most = (1 - floor) * longest + 1e-9  # 2 changes in 10 characters are on a floor of 0.8
    if answered.turns != truth.turns or abs(answered.size - truth.size) > most:
        return 0.0
    cost = 0
    for edit in Levenshtein.opcodes(answered.words, truth.words):
        if edit.tag != "equal":
            given, wanted = answered.words[edit.src_start : edit.src_end], truth.words[edit.dest_start : edit.dest_end]
            costs = [_cost(*pair) for pair in zip(given, wanted, strict=True)] if edit.tag == "replace" else []
            if None in costs:
                return 0.0
            cost += sum(filter(None, costs)) if costs else sum(map(len, (*given, *wanted)))
            if cost > most:
                return 0.0
    return 1 - cost / longest if longest else 0.0


def _cost(word: str, true: str) -> int | None:
    """Characters that it costs to have one word in place of another; None where it is the opposite."""
    for first, second in ((word, true), (true, word)):
        if any(first == prefix + second for prefix in _PREFIXES):
            return None
        if any(first.startswith(one) and other + first.removeprefix(one) == second for one, other in _OPPOSED):
            return None
    shorter = min(len(word), len(true))
    if shorter >= _MIN_SLIP and word[0] == true[0] and word.isalpha() and true.isalpha():
        distance = int(Levenshtein.distance(word, true))
        if distance <= (2 if shorter >= _LONG_SLIP else 1):
            return distance
    return max(len(word), len(true))


@lru_cache(maxsize=1_024)
def _read(text: str) -> _Read:
    text = _WITHOUT.sub("without", text)
    words = tuple(_number(token[0]) if token["number"] else token[0] for token in _TOKEN.finditer(text))
    lowered = text.lower()  # the case of letters may count, but turns no meaning
    tokens = list(_TOKEN.finditer(lowered))
    turns = [turn for index in range(len(tokens)) if (turn := _turn(lowered, tokens, index))]
    return _Read(words, tuple(turns), sum(map(len, words)))


def _turn(text: str, tokens: list[re.Match[str]], index: int) -> tuple[str, ...] | None:
    token, word = tokens[index], tokens[index][0]
    if token["number"]:
        behind = _BEHIND.match(text, token.end())
        return "number", _number(word), read_unit(behind[1]).spelling if behind else ""
    if token["sign"]:
        return ("sign", word) if _counts(text, token) else None
    if token["han"]:
        return ("han", word, text[token.end() : token.end() + 1]) if word in _HAN_TURNS else None
    if word.endswith("n't"):
        word = "not"
    if word in _TURNS:
        following = next((other[0] for other in tokens[index + 1 :] if not other["sign"]), "")
        return _TURNS[word], following[:3]
    is_grade = word in _ROMAN or (word in "ivx" and index > 0 and tokens[index - 1][0] in _GRADES)
    if is_grade or word in _ALONE or not word.replace("'", "").isalpha():
        return "word", word
    return None


def _counts(text: str, token: re.Match[str]) -> bool:
    """Whether a sign belongs to a number or a result: "<5", "5-10", "(+)", "Rh-"; not the dash between two words."""
    before, behind = text[: token.start()].rstrip()[-1:], text[token.end() :].lstrip()[:1]
    if before.isdecimal() or behind.isdecimal() or (before in "(" and before and behind in ")"):
        return True
    beside, next_to = text[: token.start()][-1:], text[token.end() : token.end() + 1]
    return token[0] in "+-" and beside.isalnum() and not next_to.isalnum()


def _number(text: str) -> str:
    """One spelling of a numeral: "38.0" is "38", "5,4" is "5.4"."""
    numeral = text.replace(",", ".")
    if numeral.count(".") == 1 and ":" not in numeral and len(numeral) < 40:
        return f"{Decimal(numeral).normalize():f}"
    return numeral
