"""The rcnnkit command: the one front door; a file a command.

Each command imports what it needs when it runs: `rcnnkit --help` should not wait for torch.
"""

from rcnnkit.cli.application import app, main

__all__ = ["app", "main"]
