"""Ending a cycle: the average of its diffs becomes the next checkpoint."""

import time
from collections.abc import Callable, Iterator, Sequence

import numpy as np
import structlog

from pygrid_node.averaging.rules import Arrays, AveragingRule, averaging_rule
from pygrid_node.entities import Cycle, Process
from pygrid_node.storage.cycles import CycleStore
from pygrid_node.storage.models import ProcessStore
from pygrid_wire import Tensor, decode_tensors, encode_tensors

_log = structlog.get_logger()


class CycleCloser:
    """Averages due cycles: slow work outside of transactions, then one that decides who was first."""

    def __init__(
        self, processes: ProcessStore, cycles: CycleStore, clock: Callable[[], float] = time.time
    ) -> None:
        """Read and write these stores."""
        self._processes = processes
        self._cycles = cycles
        self._clock = clock

    def close(self, cycle_id: int) -> Iterator[None]:
        """End a due cycle, unless somebody else has: `new = old - average`, calculated in float64.

        To be iterated over: each step takes one diff, so that others can work between two; the last one is
        the transaction. Whoever stops before has changed nothing.
        """
        self._cycles.seal(cycle_id, self._clock())
        cycle = self._cycles.cycle(cycle_id)
        if cycle is None or cycle.is_closed or not cycle.is_full:
            return
        process = self._processes.get(cycle.process_id)
        rule = self._rule(process)
        diff_ids = self._cycles.diff_ids(cycle_id)
        for diff_id in diff_ids:
            # Whoever closes a cycle deletes its diffs.
            if (body := self._cycles.diff(diff_id)) is None:
                return
            rule.add([tensor.values for tensor in decode_tensors(body)])
            del body
            yield
        if diff_ids:
            self._finish(cycle, process, rule)

    def _finish(self, cycle: Cycle, process: Process, rule: AveragingRule) -> None:
        old = decode_tensors(self._processes.checkpoint(process.id, cycle.number).read())
        new = _stepped(old, rule.average())
        if not all(np.isfinite(tensor.values).all() for tensor in new):
            # Every diff was finite: an overflow, or an averaging plan that divides by zero. The cycle ends
            # all the same, else its model would be stuck for good.
            _log.warning("average_not_finite", model=process.name, cycle=cycle.number)
            new = old
        state = encode_tensors(new)
        del old, new  # the model is held once while it is packed and kept
        if self._cycles.close(cycle, process, state, self._clock()):
            _log.info("cycle_closed", model=process.name, cycle=cycle.number, diffs=cycle.counted)

    def _rule(self, process: Process) -> AveragingRule:
        plan = self._processes.averaging_plan(process.id)
        return averaging_rule(plan, process.parameters, process.server_config.diffs_at_once)


def _stepped(old: Sequence[Tensor], average: Arrays) -> list[Tensor]:
    """The new tensors; takes the average apart, so that there is one large float64 array less with each."""
    new = []
    average.reverse()
    with np.errstate(all="ignore"):
        for tensor in old:
            step = average.pop()
            new.append(tensor.with_values(np.subtract(tensor.values, step, out=step)))
    return new
