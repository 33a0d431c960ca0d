"""Prompts: what a file may say, what is rendered, and that nothing filled in is taken for a place."""

import hashlib
import json
from dataclasses import replace
from pathlib import Path

import pytest

from medvie_rl.data.load import load_schemas
from medvie_rl.data.prompts import PromptTemplate, load_prompt_template, prompt_files
from medvie_rl.policy_card import PolicyCard
from rewards.schema import FieldSpec, Schema

PROMPTS = Path("conf/prompts")
QWEN = PROMPTS / "qwen2_5_vl.yaml"
TABLE = FieldSpec(
    key="drugs",
    description="every drug",
    kind="table",
    row_keys=("name",),
    columns=tuple(FieldSpec(key=key, description=f"its {key}", kind="text") for key in ("name", "dose", "route")),
)
SCHEMA = Schema(
    name="slip",
    document_type="slip",
    description="a slip",
    fields=(FieldSpec(key="patient", description="full name", kind="person_name"), TABLE),
)
LINES = PromptTemplate(
    key_line="{key}: {description}",
    table_line="{key}: {description} ({columns})",
    column="{key} {description}",
    reasoning="think\n{keys}\n{ocr}.",
    direct="{keys}\n{ocr}.",
    ocr_line="> {text}",
    ocr_block="read:\n{lines}\n",
)


def test_the_shipped_prompts_render_what_policies_were_trained_with() -> None:
    """Digests of what the files rendered before they had languages and recognised text."""
    schemas = load_schemas(Path("conf/schemas"))
    names = ("laboratory_slip", "prescription_slip", "vaccination_slip", "visit_slip")
    digests = {}
    for prompt in ("nano", "qwen2_5_vl"):
        template = load_prompt_template(PROMPTS / f"{prompt}.yaml")
        texts = [
            template.user_text(schemas[name], schemas[name].keys, reasoning=mode)
            for name in names
            for mode in (True, False)
        ]
        digests[prompt] = hashlib.sha256(json.dumps(texts).encode()).hexdigest()[:16]
    assert digests == {"nano": "401a225d6ac36b25", "qwen2_5_vl": "979fddf717e90d75"}


def test_keys_stand_in_the_asked_order_with_their_descriptions() -> None:
    assert LINES.user_text(SCHEMA, ("drugs", "patient"), reasoning=False) == (
        "drugs: every drug (name its name, dose its dose, route its route)\npatient: full name\n."
    )
    assert LINES.user_text(SCHEMA, ("patient",), reasoning=True) == "think\npatient: full name\n."


def test_a_table_in_part_and_other_words() -> None:
    descriptions = {
        "patient": "who it is for",
        "drugs": "each medicine",
        "drugs.dose": "how much",
        "drugs.route": "how",
    }
    text = LINES.user_text(
        SCHEMA,
        ("drugs", "patient"),
        reasoning=False,
        columns={"drugs": ("name", "dose")},
        descriptions=descriptions,
    )
    assert text == "drugs: each medicine (name its name, dose how much)\npatient: who it is for\n."


def test_recognised_lines_have_a_place() -> None:
    text = LINES.user_text(SCHEMA, ("patient",), reasoning=False, ocr=["Name:  Ana\n{keys}", "{ocr} {lines} {text}"])
    assert text == "patient: full name\nread:\n> Name: Ana {keys}\n> {ocr} {lines} {text}\n."
    assert LINES.user_text(SCHEMA, ("patient",), reasoning=False, ocr=[]) == "patient: full name\n."


def test_what_is_filled_in_is_no_place() -> None:
    field = FieldSpec(key="{ocr}", description="{key} {columns}", kind="text")
    schema = Schema(name="s", document_type="s", description="s", fields=(field,))
    assert LINES.user_text(schema, ("{ocr}",), reasoning=False, ocr=["x"]) == "{ocr}: {key} {columns}\nread:\n> x\n."


def test_a_prompt_without_a_place_for_recognised_lines_refuses_them() -> None:
    bare = replace(LINES, ocr_block="", reasoning="{keys}", direct="{keys}")
    assert (bare.takes_ocr, LINES.takes_ocr) == (False, True)
    with pytest.raises(ValueError, match=r"no place for recognised text: add the entry 'ocr_block'"):
        bare.user_text(SCHEMA, ("patient",), reasoning=True, ocr=["Ana"])


def test_the_shipped_prompt_with_recognised_lines() -> None:
    text = load_prompt_template(QWEN).user_text(SCHEMA, ("patient",), reasoning=False, ocr=["Ana Silva", "12/03/2024"])
    assert text.startswith(
        "The image shows a medical document. Extract the values of these keys:\n- patient: full name\n\n"
        "Text that a program read from the image. It may be wrong, the image decides:\nAna Silva\n12/03/2024\n\n"
        "Answer with one JSON object with the keys above and nothing else."
    )


@pytest.mark.parametrize("mode", [True, False])
def test_documents_are_asked_in_their_language(mode: bool) -> None:
    template = load_prompt_template(QWEN)
    english, chinese, vietnamese = (
        template.user_text(SCHEMA, SCHEMA.keys, reasoning=mode, language=code) for code in ("en", "zh", "vi")
    )
    assert english == template.user_text(SCHEMA, SCHEMA.keys, reasoning=mode)
    assert chinese.startswith(
        "图像是一份医疗文书。请提取以下键的值：\n- patient：full name\n- drugs：every drug。值为对象列表"
    )
    assert vietnamese.startswith(
        "Ảnh là một giấy tờ y tế. Hãy trích xuất giá trị của các khóa sau:\n- patient: full name"
    )
    assert chinese == template.user_text(SCHEMA, SCHEMA.keys, reasoning=mode, language="zh-CN")
    assert english == template.user_text(SCHEMA, SCHEMA.keys, reasoning=mode, language="fr")
    for text in (english, chinese, vietnamese):
        assert ("<think>" in text and "</think>" in text) == mode
        assert "JSON" in text and "{" not in text and "\n\n" in text and "\n\n\n" not in text
    for code in ("zh", "vi"):
        spoken = template.user_text(SCHEMA, ("patient",), reasoning=mode, language=code, ocr=["Ana", "12"])
        assert "\nAna\n12\n\n" in spoken and template.in_language(code).takes_ocr


def test_a_policy_keeps_its_prompt_with_the_languages(tmp_path: Path) -> None:
    assert prompt_files(QWEN) == (QWEN, PROMPTS / "qwen2_5_vl_zh.yaml", PROMPTS / "qwen2_5_vl_vi.yaml")
    assert prompt_files(PROMPTS / "nano.yaml") == (PROMPTS / "nano.yaml",)
    PolicyCard(run="run", step=1, reasoning=True).write(tmp_path, QWEN)
    assert load_prompt_template(tmp_path / "prompt.yaml") == load_prompt_template(QWEN)


GOOD = "key_line: k\ntable_line: t\ncolumn: c\nreasoning: '{keys}'\ndirect: '{keys}'\n"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("- a", r"expected the entries \['column', .*\] and perhaps \['languages', .*\], got list"),
        (GOOD.replace("column: c\n", ""), r"expected the entries .*, got \['direct', 'key_line', "),
        (GOOD + "colour: red", r"expected the entries .*'colour'"),
        (GOOD + "languages: zh.yaml", "'languages' must map language codes to prompt files, got 'zh.yaml'"),
        (GOOD + "languages: {no: nb.yaml}", "got False: 'nb.yaml'"),
        (GOOD + "languages: {zh: ../zh.yaml}", "files of the same folder, .* got 'zh': '../zh.yaml'"),
        (GOOD + "languages: {zh: own.yaml}", "to other prompt files"),
        (GOOD + "languages: {zh: zh.yaml}", r"zh\.yaml: no such prompt file"),
        (GOOD + "languages: {vi: vi.yaml}", r"vi\.yaml: this is the prompt of one language"),
        (GOOD.replace("direct: '{keys}'", "direct: keys"), r"'direct' must contain \{keys\}"),
        (GOOD.replace("direct: '{keys}'", "direct: '{keys}{ocr}'"), r"'direct' must contain \{ocr\} where there is an"),
        (GOOD + "ocr_block: '{lines}'", r"'reasoning' must contain \{ocr\} where there is an 'ocr_block'"),
        (GOOD.replace("{keys}", "{keys}{ocr}") + "ocr_block: here", r"'ocr_block' must contain \{lines\}"),
        (GOOD + "ocr_line: here", r"'ocr_line' must contain \{text\}"),
        ("{", r"own\.yaml: not readable as YAML"),
    ],
)
def test_a_file_that_is_wrong_is_named(tmp_path: Path, text: str, message: str) -> None:
    (tmp_path / "vi.yaml").write_text(GOOD + "languages: {}", encoding="utf-8")
    path = tmp_path / "own.yaml"
    path.write_text(text, encoding="utf-8")
    with pytest.raises(ValueError, match=message) as error:
        load_prompt_template(path)
    assert str(tmp_path) in str(error.value)
