"""`python -m danlu`."""

from danlu.cli import main

__all__: list[str] = []

main()
