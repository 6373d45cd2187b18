"""`python -m grotto.cli`: the command line where the `grotto` script is not on the path."""

from grotto.cli import main

main(prog_name="grotto")
