"""What README and guides tell people to type is what the commands take, and the files that they name are there."""

import re
import shlex
from collections.abc import Iterator
from pathlib import Path

import pytest

from medvie_rl.cli import build_parser

ROOT = Path(__file__).parents[2]
PAGES = sorted([ROOT / "README.md", *(ROOT / "docs").glob("*.md")])
NAMED = re.compile(r"(?<![\w/.-])((?:conf|docs|cluster|medvie_rl|rewards|rollout|learner)/[\w./-]*\.\w+)")
LINK = re.compile(r"\]\(([^)#:]+)(?:#([\w-]+))?\)")
NOT_HERE = ("conf/schemas/my_schema.yaml", "conf/my_run.yaml")  # what readers make themselves


def commands(page: Path) -> Iterator[str]:
    """The lines of code blocks that begin with `medvie`, without what a shell would make of a comment or a pipe."""
    fenced = False
    text = page.read_text(encoding="utf-8").replace("\\\n", " ")
    for line in text.splitlines():
        if line.startswith("```"):
            fenced = not fenced
        elif fenced or re.match(r" {4,}\S", line):
            command = line.strip().removeprefix("$ ")
            if command.startswith("medvie ") and "[" not in command:  # that is a synopsis
                yield command


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_every_command_is_one(page: Path) -> None:
    for command in commands(page):
        words = shlex.split(command, comments=True)
        words = words[: next((index for index, word in enumerate(words) if word in ("&", "|", "||", ">")), len(words))]
        options, rest = build_parser().parse_known_args(words[1:])
        assert all("=" in word and hasattr(options, "overrides") for word in rest), command


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_what_is_named_is_there(page: Path) -> None:
    text = page.read_text(encoding="utf-8")
    for name in NAMED.findall(text):
        assert (ROOT / name).exists() or name in NOT_HERE, name
    for target, heading in LINK.findall(text):
        other = (page.parent / target).resolve()
        assert other.exists(), target
        if heading:
            titles = re.findall(r"^#+ (.*)$", other.read_text(encoding="utf-8"), re.MULTILINE)
            slugs = {re.sub(r"[^\w -]", "", title.lower()).replace(" ", "-") for title in titles}
            assert heading in slugs, f"{target}#{heading}"
