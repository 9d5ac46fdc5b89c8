"""What the node keeps, as plain values."""

from dataclasses import dataclass
from typing import Any

from pygrid_node.server_config import ServerConfig
from pygrid_wire import Bytes, PlanForms, Tensor


@dataclass(frozen=True, slots=True)
class ParameterSpec:
    """What one parameter of a model looks like; a diff must look the same."""

    dtype: str
    shape: tuple[int, ...]

    @classmethod
    def of(cls, tensor: Tensor) -> "ParameterSpec":
        """The look of a tensor."""
        return cls(tensor.dtype, tensor.shape)


@dataclass(frozen=True, slots=True)
class Upload:
    """An upload that has been checked in every respect but whether its name is taken."""

    name: str
    version: str
    client_config: dict[str, Any]
    server_config: ServerConfig
    model: Bytes
    parameters: tuple[ParameterSpec, ...]
    plans: dict[str, PlanForms]
    averaging_plan: Bytes


@dataclass(frozen=True, slots=True)
class Process:
    """A hosted model with its rules. `id` is what workers call the model id."""

    id: int
    name: str
    version: str
    client_config: dict[str, Any]
    server_config: ServerConfig
    parameters: tuple[ParameterSpec, ...]
    plans: dict[str, int]


@dataclass(frozen=True, slots=True)
class Worker:
    """Somebody who authenticated for a process."""

    id: str
    process_id: int


@dataclass(frozen=True, slots=True)
class Cycle:
    """One round of training: starts from checkpoint `number`, ends in checkpoint `number + 1`."""

    id: int
    process_id: int
    number: int
    ends_at: float  # seconds since the epoch
    wanted: int
    needed: int
    counted: int
    is_closed: bool

    @property
    def is_full(self) -> bool:
        """Whether it has all the diffs that it will average."""
        return self.counted >= self.wanted


@dataclass(frozen=True, slots=True)
class Assignment:
    """A worker's place in a cycle, and the key that proves it."""

    id: int
    process_id: int
    cycle_id: int
    request_key: str


@dataclass(frozen=True, slots=True)
class Place:
    """What decides whether a worker gets another place: its cycle's number, and what became of it."""

    number: int
    is_counted: bool
    lapses_at: float  # seconds since the epoch; afterwards somebody else may have it


@dataclass(frozen=True, slots=True)
class Progress:
    """A message to the orchestration node that waits to be taken."""

    id: int
    process_id: int
    body: str
