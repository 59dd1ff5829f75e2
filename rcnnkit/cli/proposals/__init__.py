"""rcnnkit proposals …: proposals computed, taken over and evaluated."""

import typer

from rcnnkit.cli.proposals.compute import compute
from rcnnkit.cli.proposals.evaluate import evaluate
from rcnnkit.cli.proposals.import_ import import_

app = typer.Typer(
    help="Compute proposals and keep them, import released ones, and measure how well they cover the objects.",
    no_args_is_help=True,
)
app.command()(compute)
app.command()(evaluate)
app.command("import")(import_)
