"""What the help of every command has, and what a mistyped word is answered."""

import argparse
import textwrap
from collections.abc import Iterator, Sequence
from typing import Any, TypeAlias

from medvie_rl.errors import did_you_mean

Commands: TypeAlias = "argparse._SubParsersAction[CommandParser]"
_WIDTH = 110
_GAP = 2  # columns between an example and what it does


class CommandParser(argparse.ArgumentParser):
    """A parser that names the nearest word where one is not known (Python 3.14 does so by itself)."""

    def _check_value(self, action: argparse.Action, value: Any) -> None:
        if action.choices is not None and value not in action.choices:
            known = [str(choice) for choice in action.choices]
            what = "unknown" if isinstance(action, argparse._SubParsersAction) else "invalid choice:"
            near = did_you_mean(str(value), known)
            raise argparse.ArgumentError(action, f"{what} {value!r}{near} (choose from {', '.join(known)})")


def add_command(
    commands: Commands,
    name: str,
    *,
    help: str,
    description: str,
    examples: Sequence[tuple[str, str]],
    notes: str = "",
) -> CommandParser:
    """A command with a paragraph on what it does, examples (a command line, and what it is for) and further notes."""
    return commands.add_parser(
        name,
        help=help,
        description=_paragraphs(description),
        epilog="\n".join(filter(None, (examples_text(examples), _paragraphs(notes)))),
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )


def add_group(commands: Commands, name: str, *, help: str) -> Commands:
    """A command that has commands of its own."""
    group = commands.add_parser(name, help=help, description=f"{help[0].upper()}{help[1:]}.")
    return group.add_subparsers(required=True, metavar="COMMAND")


def leaves(parser: argparse.ArgumentParser) -> Iterator[argparse.ArgumentParser]:
    """The parsers of all commands that do something: those that have no commands of their own."""
    groups = [action for action in parser._actions if isinstance(action, argparse._SubParsersAction)]
    for group in groups:
        for command in group.choices.values():
            yield from leaves(command)
    if not groups:
        yield parser


def add_verbose(parser: argparse.ArgumentParser) -> None:
    """Let every command that the parser has by now be asked for what is else kept quiet."""
    for command in leaves(parser):
        command.add_argument(
            "--verbose", action="store_true", help="also show what Ray, vLLM, transformers and the like have to say"
        )


def add_overrides(command: argparse.ArgumentParser, help: str) -> None:
    """The settings of a configuration that are changed on the command line."""
    overrides = command.add_argument("overrides", nargs="*", metavar="key=value", help=help)
    overrides.completer = complete_key  # type: ignore[attr-defined]  # where argcomplete looks for it


def complete_key(prefix: str, **_: object) -> list[str]:
    """The settings that a word begins, for shells: with their parents, or, in full, ready for a value."""
    from medvie_rl.config import setting_names

    return [f"{name}=" for name in setting_names() if name.startswith(prefix)]


def examples_text(examples: Sequence[tuple[str, str]]) -> str:
    """The lines below `examples:`, what they do in a column behind them, or, where that is too wide, below each."""
    width = max(len(command) for command, _ in examples) + _GAP
    if width + max(len(what) for _, what in examples) > _WIDTH:
        return "\n".join(["examples:", *(f"  {command}\n      {what}" for command, what in examples), ""])
    return "\n".join(["examples:", *(f"  {command:<{width}}{what}".rstrip() for command, what in examples), ""])


def _paragraphs(text: str) -> str:
    """The text in lines, a paragraph for each of its own."""
    return "\n\n".join(textwrap.fill(part, _WIDTH) for part in text.split("\n\n"))
