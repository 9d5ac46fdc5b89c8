"""Ending a cycle: the mean of its diffs becomes the next checkpoint."""

import threading
import time
from collections.abc import Callable, Iterator, Sequence

import numpy as np
import structlog

from pygrid_node.averaging.rules import Arrays, averaging_rule
from pygrid_node.entities import Process
from pygrid_node.storage.cycles import CycleStore
from pygrid_node.storage.processes import ProcessStore
from pygrid_wire import Tensor, decode_tensors, encode_tensors

_log = structlog.get_logger()


class Stopping(Exception):
    """The node goes down; the cycle is closed after the next start."""


class CycleCloser:
    """Averages full cycles: slow work outside of transactions, then one that decides who was first."""

    def __init__(
        self, processes: ProcessStore, cycles: CycleStore, clock: Callable[[], float] = time.time
    ) -> None:
        """Read and write these stores."""
        self._processes = processes
        self._cycles = cycles
        self._clock = clock
        self._stopping = threading.Event()

    def stop(self) -> None:
        """Have the averaging that runs end at its next diff, with `Stopping`."""
        self._stopping.set()

    def close(self, cycle_id: int) -> None:
        """End a full cycle, unless somebody else has: `new = old - average`, calculated in float64."""
        cycle = self._cycles.cycle(cycle_id)
        if cycle is None or cycle.is_closed:
            return
        process = self._processes.get(cycle.process_id)
        old = decode_tensors(self._processes.checkpoint(process.id, cycle.number))
        average = self._average(process, cycle_id)
        if average is None:
            return
        new = _stepped(old, average)
        if not all(np.isfinite(tensor.values).all() for tensor in new):
            # Every diff was finite: an overflow, or an averaging plan that divides by zero. The cycle ends
            # all the same, else its model would be stuck for good.
            _log.warning("average_not_finite", model=process.name, cycle=cycle.number)
            new = old
        if self._cycles.close(cycle, process, encode_tensors(new), self._clock()):
            _log.info("cycle_closed", model=process.name, cycle=cycle.number, diffs=cycle.counted)

    def _average(self, process: Process, cycle_id: int) -> Arrays | None:
        """The average; None if the diffs went away, which they do when somebody else closes the cycle."""
        config = process.server_config
        plan = self._processes.averaging_plan(process.id)
        rule = averaging_rule(
            plan, process.parameters, iterative=config.iterative_plan, max_diffs=config.max_diffs
        )
        try:
            return rule.average(self._diffs(cycle_id))
        except _Gone:
            return None

    def _diffs(self, cycle_id: int) -> Iterator[Arrays]:
        """One diff after the other, so that only one is in memory."""
        ids = self._cycles.diff_ids(cycle_id)
        if not ids:
            raise _Gone
        for diff_id in ids:
            if self._stopping.is_set():
                raise Stopping
            if (body := self._cycles.diff(diff_id)) is None:
                raise _Gone
            yield [tensor.values.astype(np.float64) for tensor in decode_tensors(body)]


class _Gone(Exception):
    """A diff of a cycle that was closed by somebody else."""


def _stepped(old: Sequence[Tensor], average: Arrays) -> list[Tensor]:
    pairs = zip(old, average, strict=True)
    with np.errstate(all="ignore"):
        return [tensor.with_values(tensor.values.astype(np.float64) - step) for tensor, step in pairs]
