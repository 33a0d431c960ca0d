"""The command `medvie completion`: shells ask the parser what could come next, by argcomplete."""

import argparse
import sys

from medvie_rl.parser import CommandParser, Commands, add_command

_SHELLS = ("bash", "zsh", "fish")
_USE = {
    "bash": 'eval "$(medvie completion bash)"',
    "zsh": 'eval "$(medvie completion zsh)"',
    "fish": "medvie completion fish | source",
}


def add_completion(commands: Commands) -> None:
    """Register the command."""
    completion = add_command(
        commands,
        "completion",
        help="let the Tab key complete commands, options, files and settings",
        description="Print what a shell has to be told. Put one of these lines into ~/.bashrc, ~/.zshrc (after "
        "compinit) or ~/.config/fish/config.fish:  " + ";  ".join(_USE.values()),
        examples=[
            ("medvie completion bash >> ~/.bashrc", "for every new bash"),
            ("medvie completion zsh >> ~/.zshrc", "for every new zsh"),
            ("medvie completion fish > ~/.config/fish/completions/medvie.fish", "for every new fish"),
        ],
    )
    completion.add_argument("shell", choices=_SHELLS, metavar="|".join(_SHELLS))
    completion.set_defaults(command=_completion)


def complete(parser: CommandParser) -> None:
    """Tell the shell what could come next, and end the process."""
    import argcomplete

    argcomplete.autocomplete(parser)


def _completion(options: argparse.Namespace) -> int:
    from argcomplete.shell_integration import shellcode

    sys.stdout.write(shellcode(["medvie"], shell=options.shell))
    return 0
