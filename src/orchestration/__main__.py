"""`python -m orchestration`: the `artificien` command where the package is not installed, as in the image."""

from orchestration.cli import main

main()
