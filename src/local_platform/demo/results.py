"""Checks the results of the demo against the study's known solution, and plots the loss."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from local_platform.demo import study

PARAMETER_TOLERANCE = 1e-5
"""Largest difference of a parameter from gradient descent on pooled data: float32, over ten cycles."""
ERROR_RATIO = 1.03
"""Largest ratio of the model's error to the error of ordinary least squares."""
LOSS_TOLERANCE = 1e-5
"""Largest difference of a cycle's mean loss from gradient descent on pooled data."""
LOSS_TOLERANCE_AFTER_KILL = 0.01
"""Of the mean over all cycles: a phone that got no answer has sent its report again, in any cycle."""
REPORTS = study.PHONES * study.CYCLES

Losses = np.ndarray[Any, np.dtype[np.float64]]


@dataclass(frozen=True, slots=True)
class Check:
    """A statement that must be true at the end of the demo, and the measured figure."""

    claim: str
    holds: bool
    figure: str


def check_training(times: Sequence[int]) -> Check:
    """Check how many times each phone trained."""
    expected = [study.CYCLES] * study.PHONES
    return Check("Each phone trained once in each cycle", list(times) == expected, f"{sum(times)} reports")


def check_model(records: study.Records, tensors: Mapping[str, np.ndarray[Any, Any]]) -> list[Check]:
    """Check the trained parameters against gradient descent and least squares on all records together."""
    weight, bias = tensors["param_000"], tensors["param_001"]
    pooled = study.pooled_descent(records)
    difference = max(
        float(np.abs(ours - theirs).max()) for ours, theirs in zip((weight, bias), pooled, strict=True)
    )
    ratio = study.mean_squared_error(records, weight, bias) / study.least_squares_error(records)
    return [
        Check(
            "The model equals training on pooled data",
            difference <= PARAMETER_TOLERANCE,
            f"at most {difference:.1e} off",
        ),
        Check("Its error is near that of least squares", ratio <= ERROR_RATIO, f"ratio {ratio:.4f}"),
    ]


def check_losses(
    records: study.Records, history: Sequence[Mapping[str, Any]], *, killed: bool
) -> list[Check]:
    """Check the mean losses that the service collated, against the error before each step on pooled data.

    Each cycle has one report of each phone. If the service was `killed`, only the sum over all cycles is
    checked: a report doesn't name its cycle, a phone that got no answer has sent its report again, and the
    node doesn't wait for the service as long as that takes to start.
    """
    counted = [int(cycle["devices"]) for cycle in history]
    losses = np.array([float(cycle["loss"]) for cycle in history])
    checks = _check_sums if killed else _check_cycles
    first, last = losses[0], losses[-1]
    return [
        *checks(counted, losses, np.array(expected_losses(records))),
        Check("The loss fell", bool(last < first), f"from {first:.3f} to {last:.3f}"),
    ]


def _check_cycles(counted: list[int], losses: Losses, expected: Losses) -> list[Check]:
    has_all = counted == [study.PHONES] * study.CYCLES
    difference = float(np.abs(losses - expected).max()) if len(losses) == len(expected) else np.inf
    figure = f"{study.PHONES} in each cycle" if has_all else " ".join(map(str, counted))
    return [
        Check("Every loss report was counted once, in its cycle", has_all, figure),
        Check("Each mean loss is correct", difference <= LOSS_TOLERANCE, f"at most {difference:.1e} off"),
    ]


def _check_sums(counted: list[int], losses: Losses, expected: Losses) -> list[Check]:
    total = sum(counted)
    difference = abs(float(losses @ np.array(counted)) / max(total, 1) - float(expected.mean()))
    is_near = difference <= LOSS_TOLERANCE_AFTER_KILL
    return [
        Check(
            "Every loss report was counted at least once", total >= REPORTS, f"{total} of {REPORTS} reports"
        ),
        Check("The mean loss is correct", is_near, f"{difference:.1e} off"),
    ]


def expected_losses(records: study.Records) -> list[float]:
    """Return the error of gradient descent on all records before each step."""
    descent = [study.pooled_descent(records, steps=done) for done in range(study.CYCLES)]
    return [study.mean_squared_error(records, *parameters) for parameters in descent]


def plot_losses(path: Path, losses: Sequence[float], least_squares_error: float) -> None:
    """Save a plot of the phones' mean loss in each cycle, above the error of ordinary least squares."""
    import matplotlib as mpl  # takes a second, which only the demo itself should wait for
    from matplotlib.figure import Figure

    mpl.use("Agg")
    cycles = range(1, len(losses) + 1)
    figure = Figure(figsize=(7, 4), layout="constrained")
    axes = figure.subplots()
    axes.plot(cycles, losses, marker="o", label=f"mean loss of {study.PHONES} phones")
    axes.axhline(
        least_squares_error,
        linestyle="--",
        color="gray",
        label="ordinary least squares on pooled data",
    )
    axes.set_xlabel("cycle")
    axes.set_ylabel("mean squared error (1 = predicting the mean)")
    axes.set_title(f"Diabetes study: {len(losses)} cycles of federated training")
    axes.set_xticks(cycles)
    axes.legend()
    figure.savefig(path, dpi=120)
