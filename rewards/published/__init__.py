"""The field's published metrics over plain JSON pairs (truth, answer), so that results compare with published tables.

ANLS* (Peer et al. 2024, arXiv 2402.03848) by its authors' package; Donut's tree edit accuracy and field F1 (Kim et al.
2022, arXiv 2111.15664) and KIEval (Khang et al. 2025, arXiv 2503.05488) from their definitions. None of them knows what
kind of value a key holds: they compare text.

Truth and answer are values as `json.loads` makes them. An answer of None is a response without valid JSON; one nested
deeper than MAX_DEPTH counts as None. A truth nested that deep is a ValueError. No other value raises. ANLS* and the
tree edit accuracy are None, not computed, for documents too large for them (MAX_PAIRS, MAX_NODES).
"""

from rewards.published.anls import MAX_PAIRS, anls_star
from rewards.published.donut import MAX_NODES, donut_f1, donut_nted_accuracy
from rewards.published.kieval import KIEvalScores, kieval
from rewards.published.pairs import MAX_DEPTH, Pair

__all__ = [
    "MAX_DEPTH",
    "MAX_NODES",
    "MAX_PAIRS",
    "KIEvalScores",
    "Pair",
    "anls_star",
    "donut_f1",
    "donut_nted_accuracy",
    "kieval",
]
