"""Closing a cycle: the average of its diffs becomes the next checkpoint."""

import time
from collections.abc import Callable, Iterator, Sequence

import numpy as np
import structlog
from sqlalchemy.exc import SQLAlchemyError

from pygrid_node.averaging.plans import Arrays, AveragingRule, averaging_rule
from pygrid_node.entities import Cycle, HostedModel
from pygrid_node.errors import InvalidRequest
from pygrid_node.storage.blobs import Deleted
from pygrid_node.storage.cycles import CycleStore
from pygrid_node.storage.models import ModelStore
from pygrid_wire import Tensor, decode_tensors, encode_tensors

_log = structlog.get_logger()


# Bytes of arrays from which on the averaging of a model is large.
_LARGE = 8 * 1024**2
_MOST_ATTEMPTS = 3


class CycleCloser:
    """Averages due cycles outside of transactions; one last transaction closes the cycle."""

    def __init__(
        self,
        models: ModelStore,
        cycles: CycleStore,
        clock: Callable[[], float] = time.time,
        min_reports: int = 1,
        most_memory: int | None = None,
    ) -> None:
        """Use these stores. If cycles have `min_reports` above 1, average them by the mean only.

        Averaging fails if it needs arrays of more than `most_memory` bytes.
        """
        self._models = models
        self._cycles = cycles
        self._clock = clock
        self._min_reports = min_reports
        self._most_memory = most_memory
        # The cycles with an attempt that has neither succeeded nor failed.
        self._attempted: set[int] = set()

    def is_large(self, cycle_id: int) -> bool:
        """Return whether averaging a cycle takes much memory, or may do so because it has failed before."""
        if (cycle := self._cycles.cycle(cycle_id)) is None or cycle.attempts:
            return True
        model = self._models.get(cycle.model_id)
        try:
            return self._rule(model).memory(model.parameters) > _LARGE
        except InvalidRequest:
            return True

    def close(self, cycle_id: int) -> Iterator[None]:
        """Close a due cycle: `new = old - average`, calculated in float64.

        Iterate over the result: each step adds one diff and the last one is the transaction, so an iteration
        that stops early has changed nothing. Nothing happens if the cycle is not due.

        The cycle is sealed first: from then on it accepts no diff. Otherwise a worker whose report arrives
        during the averaging would get "success" for a diff that no checkpoint ever contains.

        Replicas do not lock a cycle, since a replica that died would keep the lock. Several may average the
        same cycle; the first transaction closes it and deletes its diffs, and the others find that and stop.

        The averaging may need more memory than there is, and the end of the process is then all that is seen
        of the failure. So an attempt is counted before it starts, and a cycle whose attempts have failed
        three times is skipped: it is closed without its diffs. A failure of the database does not end an
        attempt; the next call goes on with it.
        """
        if (cycle := self._cycles.seal(cycle_id, self._clock())) is None:
            return
        model = self._models.get(cycle.model_id)
        if cycle.id not in self._attempted:
            if cycle.attempts >= _MOST_ATTEMPTS:
                self._skip(cycle, model)
                return
            self._cycles.begin_attempt(cycle.id)
            self._attempted.add(cycle.id)
        try:
            yield from self._average(cycle, model)
        except SQLAlchemyError:
            raise
        except Exception:
            self._attempted.discard(cycle.id)
            raise
        self._attempted.discard(cycle.id)

    def stop(self) -> None:
        """Take back the attempts that have not ended: the node is stopped, and they have not failed."""
        if self._attempted:
            try:
                self._cycles.take_back_attempts(self._attempted)
            except SQLAlchemyError:
                _log.exception("attempts.not_taken_back", cycles=sorted(self._attempted))

    def _average(self, cycle: Cycle, model: HostedModel) -> Iterator[None]:
        rule = self._rule(model)
        try:
            for body in self._cycles.diffs(cycle):
                rule.add([tensor.values for tensor in decode_tensors(body)])
                del body  # the next one, or the old checkpoint, is read into memory now
                yield
        except Deleted:
            return
        self._finish(cycle, model, rule)

    def _rule(self, model: HostedModel) -> AveragingRule:
        # With a minimum, a plan that returns one of its diffs would undo it. The upload was checked to be the
        # mean, but by examples, and not at all if it is older than the setting.
        plan = b"" if self._min_reports > 1 else self._models.averaging_plan(model.id)
        return averaging_rule(plan, model.parameters, model.server_config.diffs_at_once, self._most_memory)

    def _skip(self, cycle: Cycle, model: HostedModel) -> None:
        reason = (
            f"Cycle {cycle.number} was closed without its reports, and the model is unchanged:"
            f" averaging them failed {cycle.attempts} times."
        )
        if self._cycles.skip(cycle, model, reason, self._clock()):
            _log.error("cycle.skipped", model=model.name, cycle=cycle.number, diffs=cycle.counted)

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
