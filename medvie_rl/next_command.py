"""The last line of a command: what to type next."""

import shlex


def next_command(*words: object) -> str:
    """The words of a `medvie` command as that line, in quotes where a shell needs them."""
    return f"next: medvie {shlex.join(map(str, words))}"
