"""rcnnkit see …: what networks look at."""

import typer

from rcnnkit.cli.see.channels import channels
from rcnnkit.cli.see.occlusion import occlusion

app = typer.Typer(
    help="See what the channels of a network respond to, and which part of a picture a detection depends on.",
    no_args_is_help=True,
)
app.command()(channels)
app.command()(occlusion)
