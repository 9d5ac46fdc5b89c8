"""A picture of the loss falling."""

from collections.abc import Sequence
from pathlib import Path

import matplotlib as mpl
from matplotlib.figure import Figure


def draw(path: Path, losses: Sequence[float], floor: float) -> None:
    """Draw the mean loss of the phones, cycle by cycle, above the error of ordinary least squares."""
    mpl.use("Agg")
    figure = Figure(figsize=(7, 4), layout="constrained")
    axes = figure.subplots()
    axes.plot(range(1, len(losses) + 1), losses, marker="o", label="mean loss over 34 phones")
    axes.axhline(floor, linestyle="--", color="gray", label="ordinary least squares on all data in one place")
    axes.set_xlabel("cycle")
    axes.set_ylabel("mean squared error (1 = predicting the mean)")
    axes.set_title("Diabetes study: ten cycles of federated training")
    axes.set_xticks(range(1, len(losses) + 1))
    axes.legend()
    figure.savefig(path, dpi=120)
