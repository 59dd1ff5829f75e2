"""`python -m rcnnkit`, and so `torchrun -m rcnnkit train …`."""

from rcnnkit.cli import main

main()
