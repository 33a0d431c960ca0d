"""The commands that README and guides show, for the tests that parse and execute them."""

import re
import shlex
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
PAGES = sorted([ROOT / "README.md", *(ROOT / "docs").glob("*.md")])
PROGRAMS = ("medvie", "make", "ray", "docker", "kubectl", "sbatch", "curl", "wandb", "eval")
_PATH = "<!-- the whole path -->"


def commands(page: Path) -> Iterator[str]:
    """The lines of a page's code blocks that call one of the programs, without comments and optional parts."""
    fenced = False
    for line in _joined(page.read_text(encoding="utf-8")).splitlines():
        if line.startswith("```"):
            fenced = not fenced
        elif fenced or re.match(r" {4,}\S", line):
            command = _bare(line)
            if command.split(" ")[0] in PROGRAMS:
                yield command


def whole_path() -> list[str]:
    """The lines behind a $ in README's block with the whole path, whatever they call."""
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    block = re.split(r"^```\w*$", text.partition(_PATH)[2], maxsplit=2, flags=re.MULTILINE)[1]
    return [_bare(line) for line in _joined(block).splitlines() if line.startswith("$ ")]


def words(command: str) -> list[str]:
    """What a `medvie` command hands to the program: its words up to what is the shell's own."""
    found = shlex.split(command)[1:]
    return found[: next((index for index, word in enumerate(found) if word in ("&", "|", "||", ">")), len(found))]


def _joined(text: str) -> str:
    return re.sub(r"\\\n\s*", "", text)


def _bare(line: str) -> str:
    return re.sub(r"\s+#.*$| \[[^\]]*\]", "", line.strip().removeprefix("$ ")).rstrip()
