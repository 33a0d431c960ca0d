"""The command `medvie edits`: what errors in a prescription cost."""

import argparse
from pathlib import Path

from medvie_rl.parser import Commands, add_command


def add_edits(commands: Commands) -> None:
    """Register the command."""
    edits = add_command(
        commands,
        "edits",
        help="what controlled edits of a prescription cost, by reward and metrics",
        description="Make the errors that matter in a prescription one at a time (a swapped quantity, g for mg, an "
        "invented drug), and print what each costs by our reward and by the published metrics.",
        examples=[
            ("medvie edits", "with the shipped schema"),
            ("medvie edits --schema conf/schemas/prescription_vi.yaml --markdown", "another schema, as Markdown"),
        ],
    )
    edits.add_argument(
        "--schema", type=Path, default=Path("conf/schemas/prescription.yaml"), help="with other weights, for instance"
    )
    edits.add_argument("--markdown", action="store_true", help="print a Markdown table")
    edits.set_defaults(command=_edits)


def _edits(options: argparse.Namespace) -> int:
    from rich.console import Console

    from medvie_rl.data.load import read_schema
    from medvie_rl.edits import edit_costs, markdown_of, table_of

    costs = edit_costs(read_schema(options.schema))
    if options.markdown:
        print(markdown_of(costs))
    else:
        Console().print(table_of(costs))
    return 0
