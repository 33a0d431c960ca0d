"""What README and guides tell people to type is what the commands take, and the files that they name are there."""

import re
from pathlib import Path

import pytest

from commands_of_pages import PAGES, ROOT, commands, words
from medvie_rl.cli import build_parser

NAMED = re.compile(r"(?<![\w/.-])((?:conf|docs|cluster|medvie_rl|rewards|rollout|learner)/[\w./-]*\.\w+)")
LINK = re.compile(r"\]\(([^)#:]+)(?:#([\w-]+))?\)")
NOT_HERE = ("conf/schemas/my_schema.yaml", "conf/my_run.yaml")  # what readers make themselves


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_every_command_is_one(page: Path) -> None:
    for command in commands(page):
        of_ours = re.sub(r"^.* python -m medvie_rl ", "medvie ", command)  # what a job on a cluster is given
        if not of_ours.startswith("medvie "):
            continue
        options, rest = build_parser().parse_known_args(words(of_ours))
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
