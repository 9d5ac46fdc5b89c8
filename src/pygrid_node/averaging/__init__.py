"""Averages the diffs of a cycle into the next checkpoint."""
