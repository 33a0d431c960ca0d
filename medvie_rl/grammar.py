"""The grammar of an answer, from the document's schema: reasoning where it is asked for, then one JSON object.

The text is what vLLM takes as the grammar of structured outputs: EBNF in the dialect of Lark that llguidance reads
(https://github.com/guidance-ai/llguidance, docs/syntax.md and docs/parametric.md). Names in capitals are terminals.

What it lets through:

- the asked keys alone, each at most once, in any order, any of them left out: a key that is not on the document is best
  left out, and an order of its own would cost a policy all keys that it has passed;
- values by kind: strings, for a number or quantity also a JSON number, for a boolean also true and false, a list for
  `many`, a list of rows with the asked columns for a table. The form is constrained, not what is said: were an enum one
  of its choices, a policy that wants to write "n/a" would have to choose one. For the same reason any value may be
  null, which says as much as leaving the key out;
- blanks between tokens, strings with JSON's escapes and without control characters; nothing behind the object.

Reasoning, strings, lists and numbers are bounded, far above what documents hold: a policy that repeats itself comes to
its end instead of being cut off.

It is for evaluation and extraction only: what a grammar forbids has no probability, so that logprobs under it are not
those of the policy.
"""

import json
from collections.abc import Mapping, Sequence
from typing import Any

from rewards.parsing import REASONING_END, REASONING_START
from rewards.schema import FieldSpec, Schema

MAX_KEYS = 64  # of one object: llguidance notes in the bits of one integer which have been given
_MAX_ITEMS = 256  # of a list
_MAX_TEXT, _MAX_SHORT = 4000, 300  # characters; no longer value of a kind other than `_TEXTS` can be right

_BLANK = r"[ \t\r\n]{0,40}"
_HEX = "[0-9a-fA-F]"
_ESCAPED = (
    r'\\(["\\\/bfnrt]'
    rf"|u([0-9a-ce-fA-CE-F]{_HEX}{{3}}|[dD][0-7]{_HEX}{{2}}"
    rf"|[dD][89abAB]{_HEX}{{2}}\\u[dD][c-fC-F]{_HEX}{{2}}))"  # surrogates in pairs
)
_CHARACTER = rf'([^"\\\x00-\x1f\x7f]|{_ESCAPED})'
_TERMINALS = rf"""
BLANKS: /{_BLANK}/
COLON: /{_BLANK}:{_BLANK}/
COMMA: /{_BLANK},{_BLANK}/
OPEN_OBJECT: /\{{{_BLANK}/
CLOSE_OBJECT: /{_BLANK}\}}/
OPEN_LIST: /\[{_BLANK}/
CLOSE_LIST: /{_BLANK}\]/
TEXT: /"{_CHARACTER}{{0,{_MAX_TEXT}}}"/
SHORT: /"{_CHARACTER}{{0,{_MAX_SHORT}}}"/
NUMBER: /-?(0|[1-9][0-9]{{0,14}})(\.[0-9]{{1,10}})?/
"""
_TEXTS = ("text", "free_text", "person_name", "code")
_BARE = {"number": " | NUMBER", "quantity": " | NUMBER", "boolean": ' | "true" | "false"'}  # beside strings


def answer_grammar(
    schema: Schema,
    keys: Sequence[str],
    *,
    columns: Mapping[str, Sequence[str]] | None = None,
    max_reasoning: int = 0,
    reasoning_tokens: bool = False,
) -> str:
    """The grammar of answers to a query for `keys`; `columns` names the asked columns of tables asked in part.

    A reasoning block of at most `max_reasoning` characters may come first; 0: none may. `reasoning_tokens` says how the
    policy writes its tags (see `has_reasoning_tokens`). Raises ValueError for more than MAX_KEYS keys or columns, and
    KeyError for a key that the schema does not have.
    """
    asked = schema.restricted(columns or {})
    rules: list[str] = []
    answer = _object(rules, "answer", [asked.field(key) for key in keys])
    if max_reasoning:
        rules += _reasoning(max_reasoning, tokens=reasoning_tokens)
    start = f"(reasoning BLANKS)? {answer}" if max_reasoning else answer
    return "\n".join([f"start: {start}", *rules, _TERMINALS])


def policy_grammar(
    tokenizer: Any,
    schema: Schema,
    keys: Sequence[str],
    *,
    reasoning: bool,
    max_response_tokens: int,
    columns: Mapping[str, Sequence[str]] | None = None,
) -> str:
    """The same for a policy with this tokenizer, whose responses have so many tokens at most."""
    return answer_grammar(
        schema,
        keys,
        columns=columns,
        max_reasoning=max_reasoning_characters(max_response_tokens) if reasoning else 0,
        reasoning_tokens=has_reasoning_tokens(tokenizer),
    )


def has_reasoning_tokens(tokenizer: Any) -> bool:
    """Whether a Hugging Face tokenizer has one token for each of the reasoning's tags; else they are spelled."""
    return {REASONING_START, REASONING_END} <= set(tokenizer.get_added_vocab())


def max_reasoning_characters(max_response_tokens: int) -> int:
    """A bound on the reasoning that leaves room for the answer: half of the tokens, where a token is four letters."""
    return 2 * max_response_tokens


def _reasoning(max_characters: int, *, tokens: bool) -> list[str]:
    """The block ends with its first closing tag. Tags that are tokens are none of the characters of a terminal."""
    if tokens:
        free = f"THOUGHT: /([^<]|<+[^<\\/]){{0,{max_characters}}}/"
        return [f"reasoning: {REASONING_START} THOUGHT {REASONING_END}", free]
    end = REASONING_END.replace("/", r"\/")
    return [f"reasoning[lazy]: /{REASONING_START}(?s:.){{0,{max_characters}}}{end}/"]


def _object(rules: list[str], name: str, members: Sequence[FieldSpec]) -> str:
    """Add the rules of an object with some of `members`, each once; returns the object's rule.

    Bit i of the rules' parameter says whether member i has been given.
    """
    if len(members) > MAX_KEYS:
        raise ValueError(
            f"a constrained answer has at most {MAX_KEYS} keys (a row: columns), got {len(members)}; ask for fewer at "
            "once, or answer without the constraint"
        )
    given = [
        f"{_literal(member.key)} COLON {_value(rules, f'{name}_{index}', member)} {name}_more::set_bit({index}) "
        f"%if bit_clear({index})"
        for index, member in enumerate(members)
    ]
    rules += [
        f"{name}: OPEN_OBJECT ({name}_member::0x0 | CLOSE_OBJECT)",
        f"{name}_member::_ : " + "\n  | ".join(given),
        f"{name}_more::_ : CLOSE_OBJECT\n  | COMMA {name}_member::_ %if not(is_ones([0:{len(members)}]))",
    ]
    return name


def _value(rules: list[str], name: str, spec: FieldSpec) -> str:
    item = _object(rules, f"{name}_row", spec.columns) if spec.columns else _scalar(spec)
    if not spec.columns and not spec.many:
        return f'({item} | "null")'
    rules.append(f"{name}_list: OPEN_LIST ({item} (COMMA {item}){{0,{_MAX_ITEMS - 1}}})? CLOSE_LIST")
    return f'({name}_list | "null")'


def _scalar(spec: FieldSpec) -> str:
    if spec.kind in _TEXTS:
        return "TEXT"
    return f"(SHORT{_BARE.get(spec.kind, '')})"


def _literal(text: str) -> str:
    """A JSON string as a terminal of the grammar."""
    return json.dumps(json.dumps(text, ensure_ascii=False), ensure_ascii=False)
