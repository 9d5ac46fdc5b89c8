"""The data of the demo, and the known solution of its linear regression.

The data is the diabetes study of Efron, Hastie, Johnstone and Tibshirani, "Least Angle Regression" (2004). It
has ten measurements of each of 442 patients, and the progression of their disease a year later. It ships with
scikit-learn. In the demo each phone holds the records of 13 patients.
"""

from dataclasses import dataclass
from typing import Any

import numpy as np

PHONES = 34
CYCLES = 10
LEARNING_RATE = 0.2
"""Gradient descent on this data diverges above 2 / 8.05, where 8.05 is the error's largest curvature."""

Array = np.ndarray[Any, np.dtype[np.float32]]


@dataclass(frozen=True, slots=True)
class Records:
    """Standardized measurements of shape (patients, 10) and progression of shape (patients, 1)."""

    X: Array
    y: Array

    def __len__(self) -> int:
        return len(self.X)


def load() -> Records:
    """Return all patients' records, each column with mean 0 and standard deviation 1."""
    from sklearn.datasets import (
        load_diabetes,  # takes two seconds, which only the demo itself should wait for
    )

    X, y = load_diabetes(return_X_y=True, scaled=False)
    return Records(_standardized(X), _standardized(y[:, None]))


def shards(records: Records, phones: int = PHONES) -> list[Records]:
    """Return the records of each phone, in the study's order: 34 phones get 13 patients each."""
    return [
        Records(X, y) for X, y in zip(np.split(records.X, phones), np.split(records.y, phones), strict=True)
    ]


def pooled_descent(records: Records, rate: float = LEARNING_RATE, steps: int = CYCLES) -> list[Array]:
    """Return weight (1, 10) and bias (1,) after steps of gradient descent from 0 on all records together."""
    X, y = records.X.astype(np.float64), records.y.astype(np.float64)
    weight, bias = np.zeros((1, X.shape[1])), np.zeros(1)
    for _ in range(steps):
        residual = X @ weight.T + bias - y
        weight = weight - rate * 2 / len(X) * residual.T @ X
        bias = bias - rate * 2 / len(X) * residual.sum(axis=0)
    return [weight.astype(np.float32), bias.astype(np.float32)]


def mean_squared_error(records: Records, weight: Array, bias: Array) -> float:
    """Return the error of a linear model; a model that always predicts the mean has an error of 1."""
    return float(((records.X @ weight.T + bias - records.y) ** 2).mean())


def least_squares_error(records: Records) -> float:
    """Return the mean squared error of ordinary least squares, the smallest of any linear model."""
    X = np.hstack([records.X, np.ones((len(records), 1), np.float32)])
    solution, *_ = np.linalg.lstsq(X, records.y, rcond=None)
    return float(((X @ solution - records.y) ** 2).mean())


def _standardized(values: np.ndarray[Any, Any]) -> Array:
    result: Array = ((values - values.mean(axis=0)) / values.std(axis=0)).astype(np.float32)
    return result
