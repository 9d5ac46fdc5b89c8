"""Runs the `artificien` command as `python -m orchestration`, where the package is not installed."""

from orchestration.cli import main

main()
