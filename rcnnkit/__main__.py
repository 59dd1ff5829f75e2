"""`python -m rcnnkit` is the rcnnkit command."""

from rcnnkit.cli import main

main()
