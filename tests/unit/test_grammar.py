"""The grammar of answers, in the engine's own matcher: every annotation is an answer, whatever is malformed is none."""

import json
import random
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import llguidance
import llguidance.hf
import pytest
from transformers import AutoTokenizer, PreTrainedTokenizerFast

import shared_documents
from medvie_rl.data.store import open_split
from medvie_rl.data.synth.kinds import KINDS, LANGUAGES
from medvie_rl.edits import PRESCRIPTION
from medvie_rl.grammar import MAX_KEYS, answer_grammar, has_reasoning_tokens
from rewards.schema import FieldSpec, Schema, load_schema

ROOT = Path(__file__).resolve().parents[2]
POLICY = ROOT / "medvie_rl" / "nano" / "policy"
SCHEMAS = {schema.name: schema for schema in map(load_schema, sorted((ROOT / "conf" / "schemas").glob("*.yaml")))}
TABLE = SCHEMAS["prescription"]
Tokenizer = llguidance.LLTokenizer


@pytest.fixture(scope="module")
def with_tags() -> Tokenizer:
    """Of the nano policy, which has a token for each tag of reasoning."""
    tokenizer = AutoTokenizer.from_pretrained(POLICY)
    assert has_reasoning_tokens(tokenizer)
    return llguidance.hf.from_tokenizer(tokenizer)


@pytest.fixture(scope="module")
def spelling(tmp_path_factory: pytest.TempPathFactory) -> Tokenizer:
    """The same without these tokens: tags are spelled, as Qwen2.5-VL does."""
    content = json.loads((POLICY / "tokenizer.json").read_text())
    content["added_tokens"] = [token for token in content["added_tokens"] if "think" not in token["content"]]
    path = tmp_path_factory.mktemp("spelling") / "tokenizer.json"
    path.write_text(json.dumps(content))
    tokenizer = PreTrainedTokenizerFast(tokenizer_file=str(path), eos_token="<|im_end|>")
    assert not has_reasoning_tokens(tokenizer)
    return llguidance.hf.from_tokenizer(tokenizer)


def accepts(tokenizer: Tokenizer, grammar: str, text: str) -> bool:
    """Whether the whole text is an answer, and nothing may come behind it."""
    matcher = llguidance.LLMatcher(tokenizer, grammar, log_level=1)
    assert not matcher.get_error()
    tokens = tokenizer.tokenize_str(text)
    if matcher.validate_tokens(tokens) < len(tokens):
        return False
    assert matcher.consume_tokens(tokens)
    return bool(matcher.is_accepting())


def direct(schema: Schema = TABLE) -> str:
    return answer_grammar(schema, schema.keys)


def layouts(answer: Mapping[str, Any]) -> Iterator[str]:
    yield json.dumps(answer, ensure_ascii=False, separators=(",", ":"))
    yield json.dumps(answer)
    yield json.dumps(answer, ensure_ascii=False, indent=4)
    yield json.dumps(dict(reversed(answer.items())), ensure_ascii=False, indent="\t")


def synthetic() -> Iterator[tuple[Schema, Mapping[str, Any]]]:
    for kind, compose in KINDS.items():
        for language in LANGUAGES[kind]:
            for index in range(6):
                content = compose(random.Random(f"{kind} {language} {index}"), language)
                yield SCHEMAS[content.schema], content.annotation


def shipped() -> Iterator[tuple[Schema, Mapping[str, Any]]]:
    for split in ("train", "validation", "test"):
        for document in open_split(ROOT / "medvie_rl" / "nano" / "slips", split):
            yield SCHEMAS[document.schema], document.annotation


def real() -> Iterator[tuple[Schema, Mapping[str, Any]]]:
    if not shared_documents.REAL.is_dir():
        pytest.skip(shared_documents.MISSING)
    for folder, path in shared_documents.SCHEMAS.items():
        schema = load_schema(path)
        for line in (shared_documents.REAL / folder / "annotations.jsonl").read_text(encoding="utf-8").splitlines():
            given = {key: value for key, value in json.loads(line)["fields"].items() if key in schema.keys}
            many = {key for key in given if schema.field(key).many and not isinstance(given[key], list)}
            yield schema, {key: [value] if key in many else value for key, value in given.items()}


@pytest.mark.parametrize("documents", [shipped, synthetic, real])
def test_every_annotation_is_an_answer(
    documents: Callable[[], Iterator[tuple[Schema, Mapping[str, Any]]]], with_tags: Tokenizer
) -> None:
    grammars: dict[str, str] = {}
    num_answers = 0
    for schema, annotation in documents():
        grammar = grammars.setdefault(schema.name, direct(schema))
        for text in layouts(annotation):
            assert accepts(with_tags, grammar, text), text
            num_answers += 1
    assert num_answers > 100


@pytest.mark.parametrize("name", sorted(SCHEMAS))
def test_every_schema_has_a_grammar_in_both_modes(name: str, with_tags: Tokenizer, spelling: Tokenizer) -> None:
    schema = SCHEMAS[name]
    for tokenizer, tokens in ((with_tags, True), (spelling, False)):
        grammar = answer_grammar(schema, schema.keys, max_reasoning=512, reasoning_tokens=tokens)
        nothing = json.dumps(dict.fromkeys(schema.keys))
        assert accepts(tokenizer, grammar, f"<think>\nall < 3 {{a}}\n</think>\n{nothing}")
        assert accepts(tokenizer, grammar, "{}")
        assert not accepts(tokenizer, grammar, f"{{{json.dumps(schema.keys[0] + 'x')}:null}}")


ANSWER = json.dumps(PRESCRIPTION)


@pytest.mark.parametrize(
    "text",
    [
        ANSWER + ANSWER,
        ANSWER + " That is all.",
        "Here it is: " + ANSWER,
        f"```json\n{ANSWER}\n```",
        f"[{ANSWER}]",
        ANSWER[:-1],
        '{"patients":"a"}',
        '{"date":"1","patient":"a","date":"1"}',
        '{"medicines":[{"name":"a","name":"b"}]}',
        '{"medicines":[{"test":"a"}]}',
        '{"medicines":["Aspirin"]}',
        '{"medicines":{"name":"a"}}',
        '{"diagnosis":"flu"}',
        '{"diagnosis":[["flu"]]}',
        '{"diagnosis":' + "[" * 50,
        '{"patient":{"name":"a"}}',
        '{"patient":["a"]}',
        '{"patient":7}',
        '{"patient":"a",}',
        '{,"patient":"a"}',
        '{"patient" "a"}',
        "{'patient':'a'}",
        '{"patient":"a\nb"}',
        '{"patient":"a\x00"}',
        '{"patient":"a\\x"}',
        '{"patient":"\\ud83d"}',
        '{"patient":"\\ude00\\ud83d"}',
        '{"medicines":[{"dose":05}]}',
        '{"medicines":[{"dose":NaN}]}',
        '{"medicines":[{"dose":1e999}]}',
        '{"date":true}',
        '{"date":"' + "1" * 301 + '"}',
        "<think>a</think>" + ANSWER,
        "",
    ],
)
def test_what_is_malformed_is_no_answer(text: str, with_tags: Tokenizer) -> None:
    assert not accepts(with_tags, direct(), text)


@pytest.mark.parametrize(
    "text",
    [
        '{"patient":""}',
        '{"patient":null,"medicines":null,"diagnosis":[]}',
        '{"patient":"a\\"b\\\\c\\/d\\n\\u00e9\\ud83d\\ude00 é 中文 😀"}',
        '{"medicines":[{"dose":5,"usage":[]},{"dose":-0.5},{},{"dose":"5 mg"}]}',
        '{ "date" : "1" ,\r\n\t"patient" : "a" }',
        '{"date":"' + "1" * 300 + '"}',
    ],
)
def test_what_json_allows_is_an_answer(text: str, with_tags: Tokenizer) -> None:
    assert accepts(with_tags, direct(), text)
    json.loads(text)


def test_a_boolean_is_true_false_or_what_is_printed(with_tags: Tokenizer) -> None:
    grammar = direct(SCHEMAS["laboratory_report"])
    for value, is_answer in (("true", True), ("false", True), ('"yes"', True), ("null", True), ("yes", False)):
        assert accepts(with_tags, grammar, f'{{"fasting":{value}}}') is is_answer


def test_only_what_is_asked_is_an_answer(with_tags: Tokenizer) -> None:
    grammar = answer_grammar(TABLE, ("medicines", "date"), columns={"medicines": ("dose",)})
    assert accepts(with_tags, grammar, '{"date":"1","medicines":[{"dose":"5 mg"}]}')
    assert not accepts(with_tags, grammar, '{"patient":"a"}')
    assert not accepts(with_tags, grammar, '{"medicines":[{"name":"a"}]}')
    with pytest.raises(KeyError, match="has no key 'dates'"):
        answer_grammar(TABLE, ("dates",))


@pytest.mark.parametrize("tokens", [True, False])
def test_reasoning_is_one_bounded_block(tokens: bool, request: pytest.FixtureRequest) -> None:
    tokenizer = request.getfixturevalue("with_tags" if tokens else "spelling")
    grammar = answer_grammar(TABLE, TABLE.keys, max_reasoning=50, reasoning_tokens=tokens)
    for text, is_answer in (
        ("<think>" + "é" * 50 + "</think>{}", True),
        ("<think>" + "é" * 51 + "</think>{}", False),
        ("<think></think>{}", True),
        ("{}", True),
        ("<think>a{}", False),
        ("<think>a</think>", False),
        ("<think>a</think>b</think>{}", False),
        ("<think>a</think><think>b</think>{}", False),
        ("Well: <think>a</think>{}", False),
        ("a</think>{}", False),
    ):
        assert accepts(tokenizer, grammar, text) is is_answer, text


def test_odd_names_are_quoted_and_too_many_refused(with_tags: Tokenizer) -> None:
    names = ('a "b"', "c\\d", "Ngày khám", "日期", "😀", "a/b", "line\nbreak", "%if", "date", "date of birth")
    fields = tuple(FieldSpec(key=name, description="a value", kind="text") for name in names)
    schema = Schema(name="odd", document_type="odd", description="", fields=fields)
    for text in layouts(dict.fromkeys(names, "v")):
        if "\\u" not in text:  # keys are written as they are
            assert accepts(with_tags, direct(schema), text)
    many = tuple(FieldSpec(key=f"k{index}", description="a value", kind="text") for index in range(MAX_KEYS + 1))
    schema = Schema(name="many", document_type="many", description="", fields=many)
    whole = json.dumps({key: "v" for key in schema.keys[:MAX_KEYS]})
    grammar = answer_grammar(schema, schema.keys[:MAX_KEYS])
    assert accepts(with_tags, grammar, whole)
    assert not accepts(with_tags, grammar, whole[:-1] + ',"k5":"v"}')
    with pytest.raises(ValueError, match=r"at most 64 keys .*, got 65; ask for fewer at once"):
        direct(schema)
