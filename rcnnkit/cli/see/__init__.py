"""rcnnkit see …: what networks look at."""

import typer

from rcnnkit.cli.see.channels import channels
from rcnnkit.cli.see.occlusion import occlusion
from rcnnkit.cli.see.transform import transform

app = typer.Typer(
    help="See what the channels of a network respond to, which part of a picture a detection depends on, and what a"
    " spatial transformer makes of windows.",
    no_args_is_help=True,
)
app.command()(channels)
app.command()(occlusion)
app.command()(transform)
