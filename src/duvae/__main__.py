"""`python -m duvae` is `duvae`."""

from duvae.cli import main

main()
