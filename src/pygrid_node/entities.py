"""Entities as plain values, and the rules of a cycle: when it ends and which workers it admits."""

import math
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from pygrid_node.server_config import ServerConfig
from pygrid_wire import Bytes, EncodedTensor, PlanForms, Tensor, number_sizes

# Seconds that a worker has to wait if the cycle is late: its end depends on the next valid diff.
_WAIT_WHEN_LATE = 30


@dataclass(frozen=True, slots=True)
class ParameterSpec:
    """Dtype and shape of one parameter of a model; every diff must have the same."""

    dtype: str
    shape: tuple[int, ...]

    @classmethod
    def of(cls, tensor: Tensor | EncodedTensor) -> "ParameterSpec":
        """Return the spec of a tensor."""
        return cls(tensor.dtype, tensor.shape)

    @property
    def nbytes(self) -> int:
        """Size of the decoded tensor in bytes."""
        return math.prod(self.shape) * number_sizes(self.dtype).decoded

    @property
    def most_encoded(self) -> int:
        """The most bytes that the tensor's numbers take in a state."""
        return math.prod(self.shape) * number_sizes(self.dtype).encoded

    def __str__(self) -> str:
        """Return for instance `float32[3, 1]`."""
        return f"{self.dtype}{list(self.shape)}"


@dataclass(frozen=True, slots=True)
class UploadRequest:
    """A request to upload a model: what the orchestrator is asked about."""

    name: str
    version: str
    address: str
    token: str | None = None


@dataclass(frozen=True, slots=True)
class Upload:
    """A checked upload; only its name may turn out to be taken."""

    name: str
    version: str
    client_config: dict[str, Any]
    server_config: ServerConfig
    model: Bytes
    parameters: tuple[ParameterSpec, ...]
    plans: dict[str, PlanForms]
    averaging_plan: Bytes


@dataclass(frozen=True, slots=True)
class HostedModel:
    """A model with its rules. Workers know `id` as the model id; PyGrid calls this a process."""

    id: int
    name: str
    version: str
    client_config: dict[str, Any]
    server_config: ServerConfig
    parameters: tuple[ParameterSpec, ...]
    plans: dict[str, int]


@dataclass(frozen=True, slots=True)
class Worker:
    """A device that has authenticated for a model."""

    id: str
    model_id: int


@dataclass(frozen=True, slots=True)
class Assignment:
    """A worker's right to report in a cycle, and the key that proves it."""

    id: int
    model_id: int
    cycle_id: int
    request_key: str


@dataclass(frozen=True, slots=True)
class Lease:
    """State of a worker's assignment in a cycle: until `expires_at`, no other worker may take it over."""

    cycle_number: int
    is_counted: bool
    expires_at: float  # seconds since the epoch


@dataclass(frozen=True, slots=True)
class Cycle:
    """One round of training: from checkpoint `number` to checkpoint `number + 1`.

    `wanted` diffs end it at once; `needed` diffs are enough when its time is over.
    """

    id: int
    model_id: int
    number: int
    ends_at: float  # seconds since the epoch
    wanted: int
    needed: int
    counted: int
    is_closed: bool
    attempts: int = 0  # to close it, those that run now included
    opens_at: float | None = None  # at the latest; None if it is open

    def is_pending(self, now: float) -> bool:
        """Return whether the cycle is not open yet: the orchestrator has not closed the one before it."""
        return self.opens_at is not None and now < self.opens_at

    def is_due(self, now: float) -> bool:
        """Return whether the cycle must be averaged: it has all diffs, or enough when its time is over."""
        is_full = self.counted >= self.wanted
        is_late = now >= self.ends_at and self.counted >= self.needed
        return not self.is_closed and (is_full or is_late)

    def admits(self, leases: Iterable[Lease], reuse_after: int, now: float) -> bool:
        """Return whether a worker may have an assignment in this cycle, if one is free.

        `leases` are the worker's own, of all cycles of the model. In this cycle it may have one only if that
        has expired unused, and the last cycle that counted its diff must be `reuse_after` cycles ago.
        """
        for lease in leases:
            if lease.cycle_number == self.number and (lease.is_counted or lease.expires_at > now):
                return False
            if lease.is_counted and lease.cycle_number + reuse_after > self.number:
                return False
        return True

    def wait(self, next_expiry: float | None, now: float) -> int:
        """Return whole seconds until a worker should try again: the cycle ends or a lease expires."""
        ahead = [time for time in (self.ends_at, next_expiry) if time is not None and time > now]
        return math.ceil(min(ahead) - now) if ahead else _WAIT_WHEN_LATE


@dataclass(frozen=True, slots=True)
class Progress:
    """A message to the orchestrator that it has not accepted yet."""

    id: int
    model_id: int
    body: str
