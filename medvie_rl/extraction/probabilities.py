"""How probable the policy found the values of its answer: the probability of their tokens."""

import json
import math
import re
from collections.abc import Iterator, Sequence
from itertools import accumulate
from typing import Any

from medvie_rl.extraction.places import Place
from rewards.parsing import REASONING_END
from rollout.types import Rollout

_TOKENS = re.compile(r'"(?:[^"\\]|\\.)*"|[{}\[\],:]|[^ \t\n\r"{}\[\],:]+', re.DOTALL)


def value_probabilities(tokenizer: Any, rollout: Rollout) -> dict[Place, float]:
    """The probability of every value of a clean answer, in (0, 1]: the product over all tokens that it has a part in.

    `tokenizer` is a Hugging Face one with a `tokenizers` backend. Empty where the texts of the tokens do not add up to
    the response's, as with an unfinished character at its end.
    """
    text, pieces = rollout.text, list(_pieces(tokenizer, rollout.token_ids))
    ends = list(accumulate(map(len, pieces)))
    if "".join(pieces)[: len(text)] != text:
        return {}
    found = {}
    for place, start, end in value_spans(text):
        logprobs = [
            logprob
            for piece, piece_end, logprob in zip(pieces, ends, rollout.logprobs, strict=True)
            if piece_end > start and piece_end - len(piece) < end
        ]
        found[place] = math.exp(math.fsum(logprobs))
    return found


def value_spans(text: str) -> Iterator[tuple[Place, int, int]]:
    """(place, start, end) of every scalar of the JSON object at the end of a response that was read strictly; of a key
    that is given again, the first."""
    start = text.find("{", text.rfind(REASONING_END) + 1)
    if start < 0:
        return
    seen: set[Place] = set()
    path: list[str | int] = []
    containers: list[str] = []
    expects_key = False
    for token in _TOKENS.finditer(text, start):
        sign = token[0][0]
        if sign in "{[":
            containers.append(sign)
            path.append(0 if sign == "[" else "")
            expects_key = sign == "{"
        elif sign in "}]":
            containers.pop()
            path.pop()
            if not containers:
                return
        elif sign == ",":
            last = path[-1]
            path[-1] = last + 1 if isinstance(last, int) else ""
            expects_key = containers[-1] == "{"
        elif sign == ":":
            expects_key = False
        elif expects_key:
            path[-1] = str(json.loads(token[0]))
        elif (place := tuple(path)) not in seen:
            seen.add(place)
            yield place, token.start(), token.end()


def _pieces(tokenizer: Any, token_ids: Sequence[int]) -> Iterator[str]:
    """The text that each token adds; none for one that leaves a character unfinished."""
    from tokenizers.decoders import DecodeStream

    stream = DecodeStream(skip_special_tokens=False)
    for token_id in token_ids:
        yield stream.step(tokenizer.backend_tokenizer, token_id) or ""
