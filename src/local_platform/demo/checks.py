"""What has to be true at the end of the demo, as pure functions of what was seen."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from local_platform.demo import study

CLOSE = 1e-5
"""By how much a parameter may differ from gradient descent in one place: float32 over ten cycles."""
WORSE = 1.03
"""How far above ordinary least squares the model's error may lie."""
SAME_LOSS = 1e-5
REPORTS = study.PHONES * study.CYCLES


@dataclass(frozen=True, slots=True)
class Check:
    """Something that has to be true, and the figure that shows it."""

    claim: str
    holds: bool
    figure: str


def of_training(times: Sequence[int]) -> Check:
    """Check how often each phone trained."""
    expected = [study.CYCLES] * study.PHONES
    return Check("each phone trained once in each cycle", list(times) == expected, f"{sum(times)} reports")


def of_model(records: study.Records, tensors: Mapping[str, np.ndarray[Any, Any]]) -> list[Check]:
    """Check the trained parameters against gradient descent and least squares on all data in one place."""
    weight, bias = tensors["param_000"], tensors["param_001"]
    pooled = study.pooled_descent(records)
    apart = max(
        float(np.abs(ours - theirs).max()) for ours, theirs in zip((weight, bias), pooled, strict=True)
    )
    ratio = study.mean_squared_error(records, weight, bias) / study.least_squares_error(records)
    return [
        Check("the model equals gradient descent on pooled data", apart <= CLOSE, f"{apart:.1e} apart"),
        Check("its error is near that of least squares", ratio <= WORSE, f"{ratio:.4f} x"),
    ]


def of_losses(records: study.Records, history: Sequence[Mapping[str, Any]], *, killed: bool) -> list[Check]:
    """Check the losses that the service collated, against the error before each step on pooled data.

    A report says no cycle, and a quick phone's can arrive before the node's word that the last cycle is over;
    so it is the sum over all cycles that must be right: each report is counted in exactly one of them. Where
    the service was `killed`, a phone that got no answer has sent its report again.
    """
    counted = sum(int(cycle["devices"]) for cycle in history)
    mean = sum(float(cycle["loss"]) * int(cycle["devices"]) for cycle in history) / max(counted, 1)
    descent = [study.pooled_descent(records, steps=done) for done in range(study.CYCLES)]
    expected = [study.mean_squared_error(records, *parameters) for parameters in descent]
    apart = abs(mean - float(np.mean(expected)))
    all_counted = counted >= REPORTS if killed else counted == REPORTS
    first, last = float(history[0]["loss"]), float(history[-1]["loss"])
    return [
        Check("each loss report is counted", all_counted, f"{counted} of {REPORTS}"),
        Check("their mean is right", apart <= (0.01 if killed else SAME_LOSS), f"{apart:.1e} apart"),
        Check("the loss has fallen", last < first, f"{first:.3f} to {last:.3f}"),
    ]
