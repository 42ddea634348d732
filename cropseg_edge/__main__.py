"""`python -m cropseg_edge` is `cropseg`."""

from cropseg_edge.cli.main import main

main()
