"""The commands of rcnnkit as one application, and how it ends."""

from __future__ import annotations

import logging
import os
import sys
import warnings
from typing import Annotated, Any

import typer
from typer.core import TyperCommand

from rcnnkit import __version__
from rcnnkit.cli.align import align
from rcnnkit.cli.attack import attack
from rcnnkit.cli.benchmark import benchmark
from rcnnkit.cli.check import check
from rcnnkit.cli.compare import compare
from rcnnkit.cli.compress import compress
from rcnnkit.cli.convert import convert
from rcnnkit.cli.crop import crop
from rcnnkit.cli.demo import demo
from rcnnkit.cli.detect import detect
from rcnnkit.cli.errors import complain
from rcnnkit.cli.evaluate import evaluate
from rcnnkit.cli.export import export
from rcnnkit.cli.ground import ground
from rcnnkit.cli.import_ import import_
from rcnnkit.cli.info import info
from rcnnkit.cli.label import label
from rcnnkit.cli.occlude import occlude
from rcnnkit.cli.options import console
from rcnnkit.cli.pack import pack
from rcnnkit.cli.proposals import app as proposals
from rcnnkit.cli.search import search
from rcnnkit.cli.see import app as see
from rcnnkit.cli.serve import serve
from rcnnkit.cli.settings import settings
from rcnnkit.cli.split import split
from rcnnkit.cli.suggest import suggest
from rcnnkit.cli.svms import svms
from rcnnkit.cli.train import train
from rcnnkit.terminal import Console, Formatter, escape_what_streams_lack

# Flags of earlier versions, and today's.
RENAMED = {
    "benchmark": {"--dtype": "--precision", "--proposals": "--max-proposals"},
    "info": {"--json": "--as-json"},
}


class Command(TyperCommand):
    """Answers the earlier spelling of a flag with today's."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        for flag in (argument.partition("=")[0] for argument in args):
            if new := RENAMED.get(self.name or "", {}).get(flag):
                ctx.fail(f"{flag} is now {new}")
        return super().parse_args(ctx, args)


app = typer.Typer(no_args_is_help=True, add_completion=False, pretty_exceptions_enable=False)
app.command()(train)
app.command()(suggest)
app.command()(settings)
app.command()(check)
app.command()(evaluate)
app.command()(compare)
app.command()(detect)
app.command()(label)
app.command()(align)
app.command()(ground)
app.command()(search)
app.command()(attack)
app.command()(occlude)
app.command("import")(import_)
app.command()(export)
app.command()(serve)
app.command(cls=Command)(info)
app.command()(compress)
app.command()(svms)
app.command()(crop)
app.command()(convert)
app.command()(pack)
app.command()(split)
app.command()(demo)
app.command(cls=Command)(benchmark)
app.add_typer(proposals, name="proposals")
app.add_typer(see, name="see")


def _show_version(wanted: bool) -> None:
    if wanted:
        print(f"rcnnkit {__version__}")
        raise typer.Exit


@app.callback()
def rcnnkit(
    version: Annotated[
        bool, typer.Option("--version", callback=_show_version, is_eager=True, help="Show the version and exit.")
    ] = False,
) -> None:
    """The R-CNN family: train detectors, evaluate them, find things in pictures."""


def main() -> None:
    """Run the command; what the user can fix is said in words, without a stack trace."""
    escape_what_streams_lack()
    if "torch" not in sys.modules and "OMP_WAIT_POLICY" not in os.environ:  # OpenMP reads this when torch loads it
        # Threads that wait spin for 0.1 ms, in place of some 10, and sleep then. If they spin on a busy machine, they
        # keep a core from the thread that they wait for.
        os.environ.setdefault("GOMP_SPINCOUNT", "2000")
    handler: logging.Handler
    if sys.stderr.isatty():
        from rich.logging import RichHandler

        handler = RichHandler(console=Console(stderr=True), show_time=False, show_path=False)
        handler.setFormatter(Formatter())
    else:  # a file or a pipe gets a message in one line
        handler = logging.StreamHandler()
        handler.setFormatter(Formatter("%(levelname)s %(message)s"))
    log = logging.getLogger("rcnnkit")
    log.addHandler(handler)
    log.setLevel(logging.INFO)
    try:
        (app if "RCNNKIT_TRACEBACK" in os.environ else _run)()
    finally:
        log.removeHandler(handler)


def _run() -> None:
    warnings.filterwarnings("ignore", module="torch")
    try:
        app()
    except KeyboardInterrupt:
        sys.exit(130)
    except Exception as error:
        from rcnnkit.training.gradient import NonFiniteLoss
        from rcnnkit.training.stopping import Interrupted

        if isinstance(error, Interrupted):
            console.print(str(error))
            sys.exit(128 + error.signal)
        if not isinstance(error, (ValueError, OSError, NonFiniteLoss)):
            raise
        complain(error)
        sys.exit(1)
