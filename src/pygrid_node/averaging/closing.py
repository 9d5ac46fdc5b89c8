"""Closing a cycle: the average of its diffs becomes the next checkpoint."""

import time
from collections.abc import Callable, Iterator, Sequence

import numpy as np
import structlog

from pygrid_node.averaging.plans import Arrays, AveragingRule, Mean, averaging_rule
from pygrid_node.entities import Cycle, HostedModel
from pygrid_node.storage.blobs import Deleted
from pygrid_node.storage.cycles import CycleStore
from pygrid_node.storage.models import ModelStore
from pygrid_wire import Tensor, decode_tensors, encode_tensors

_log = structlog.get_logger()


class CycleCloser:
    """Averages due cycles outside of transactions; one last transaction closes the cycle."""

    def __init__(
        self,
        models: ModelStore,
        cycles: CycleStore,
        clock: Callable[[], float] = time.time,
        min_reports: int = 1,
    ) -> None:
        """Use these stores. If cycles have `min_reports` above 1, average them by the mean only."""
        self._models = models
        self._cycles = cycles
        self._clock = clock
        self._min_reports = min_reports

    def close(self, cycle_id: int) -> Iterator[None]:
        """Close a due cycle: `new = old - average`, calculated in float64.

        Iterate over the result: each step adds one diff and the last one is the transaction, so an iteration
        that stops early has changed nothing. Nothing happens if the cycle is not due.

        The cycle is sealed first: from then on it accepts no diff. Otherwise a worker whose report arrives
        during the averaging would get "success" for a diff that no checkpoint ever contains.

        Replicas do not lock a cycle, since a replica that died would keep the lock. Several may average the
        same cycle; the first transaction closes it and deletes its diffs, and the others find that and stop.
        """
        if (cycle := self._cycles.seal(cycle_id, self._clock())) is None:
            return
        model = self._models.get(cycle.model_id)
        rule = self._rule(model)
        try:
            for body in self._cycles.diffs(cycle):
                rule.add([tensor.values for tensor in decode_tensors(body)])
                yield
        except Deleted:
            return
        self._finish(cycle, model, rule)

    def _rule(self, model: HostedModel) -> AveragingRule:
        if self._min_reports > 1:
            # A plan that returns one of its diffs would undo the minimum. The upload was checked to be the
            # mean, but by examples, and not at all if it is older than the setting.
            return Mean()
        plan = self._models.averaging_plan(model.id)
        return averaging_rule(plan, model.parameters, model.server_config.diffs_at_once)

    def _finish(self, cycle: Cycle, model: HostedModel, rule: AveragingRule) -> None:
        old = decode_tensors(self._models.checkpoint(model.id, cycle.number).read())
        new = _subtracted(old, rule.average())
        if not all(np.isfinite(tensor.values).all() for tensor in new):
            # Every diff was finite, so this is an overflow, or an averaging plan that divides by zero. The
            # cycle is closed with the old numbers: repeating the averaging gives the same and blocks the
            # model.
            _log.warning("average.not_finite", model=model.name, cycle=cycle.number)
            new = old
        state = encode_tensors(new)
        del old, new  # so that only one copy of the model is in memory while it is stored
        if self._cycles.close(cycle, model, state, self._clock()):
            _log.info("cycle.closed", model=model.name, cycle=cycle.number, diffs=cycle.counted)


def _subtracted(old: Sequence[Tensor], average: Arrays) -> list[Tensor]:
    """Return the new tensors. Empties `average`, to free each large float64 array as soon as it is used."""
    new = []
    average.reverse()
    with np.errstate(all="ignore"):
        for tensor in old:
            step = average.pop()
            new.append(tensor.with_values(np.subtract(tensor.values, step, out=step)))
    return new
