"""`python -m tutti`: the same as the program `tutti`."""

from tutti.cli.main import main

main()
