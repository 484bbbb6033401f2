"""`python -m drpo` is the `drpo` command."""

from drpo.cli import main

main()
