"""The model table: artificienlib submits models in it, and the marketplace shows them from it.

Anybody with the library's rights may write any attribute of any item, in any type. So this service reads what
was submitted, and shows its own record in the item; it reads nothing back. `revision` is that of the record
which an item shows: of two processes, the one with the older record writes nothing.
"""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import structlog
from boto3.dynamodb.conditions import Attr, ConditionBase
from botocore.exceptions import ClientError
from pydantic import ValidationError

from orchestration.adapters.dynamo.rows import ModelRow, SubmissionRow, faults_of
from orchestration.adapters.dynamo.table import ConditionFailed, Table
from orchestration.aws import error_code, error_message
from orchestration.domain.cycle import UNMEASURED, ClosedCycle, Totals
from orchestration.domain.entities import Model
from orchestration.domain.errors import Conflict, NotFound, Upstream

log = structlog.get_logger(__name__)

HISTORY_LENGTH = 1000
"""Closed cycles kept. A DynamoDB item holds 400 kB; a closed cycle takes about 150 bytes."""

EXISTS = Attr("model_id").exists()


@dataclass(frozen=True, slots=True)
class ModelItems:
    """The items of the model table."""

    table: Table

    def submitted(self, model_id: str) -> Model | None:
        """Return the model that was submitted under exactly this id, or None. Raises Conflict."""
        item = self.table.get(model_id=model_id)
        if item is None:
            return None
        try:
            return SubmissionRow.model_validate(item).entity()
        except ValidationError as error:
            raise Conflict(f"The item of model {model_id!r} is malformed: {faults_of(error)}.") from error

    def shows(self, model: Model) -> bool:
        """Return whether the item shows this record; also True if there is no item.

        An item that the library has sent again lacks features and labels, which `show` writes.
        """
        expected = {
            "owner_name": model.owner,
            "dataset": model.dataset_id,
            "version": model.version,
            "features": list(model.features),
            "labels": list(model.labels),
            "revision": model.revision,
        }
        item = self.table.get(model_id=model.model_id)
        return item is None or all(item.get(name) == value for name, value in expected.items())

    def show(self, row: ModelRow, *, address: str | None = None, is_newest: bool = False) -> bool:
        """Show a record; return False if the item shows a newer one already.

        With `is_newest`, whatever the item says that it shows. `address` is written if it is given.
        """
        shown = _counters(row) | {
            "owner_name": row.owner_name,
            "dataset": row.dataset,
            "version": row.version,
            "features": list(row.features),
            "labels": list(row.labels),
            "history": [asdict(cycle) for cycle in history_of(row)] or None,
            "ended_at": row.ended_at or None,
            "withdrawn_at": row.withdrawn_at,
            "retrieval_error": row.retrieval_error,
            "download_link": row.download_link,
        }
        shown |= {"node_URL": address} if address else {}
        return self._show(row, shown, is_newest=is_newest)

    def show_counters(self, row: ModelRow) -> bool:
        """Show the counters and means of a record, unless the item shows a newer one already."""
        return self._show(row, _counters(row))

    def _show(self, row: ModelRow, shown: Mapping[str, Any], *, is_newest: bool = False) -> bool:
        shown_now = Attr("revision")  # of any type: see above
        older = shown_now.not_exists() | (shown_now.attribute_type("N") & shown_now.lte(row.revision))
        return self._write(row.model_id, shown, EXISTS if is_newest else EXISTS & older)

    def withdraw(self, model: Model, changes: Mapping[str, Any]) -> None:
        """End a model that was not accepted. Raises NotFound if it is gone, or is somebody else's by now."""
        same = EXISTS & Attr("owner_name").eq(model.owner)
        try:
            self.table.update({"model_id": model.model_id}, put=changes, when=same, quietly=True)
        except ConditionFailed as error:
            raise NotFound(f"There is no model {model.model_id!r}.") from error

    def show_address(self, model_id: str, address: str | None) -> None:
        """Set `node_URL`, or remove it. Does nothing if the item is gone."""
        self._write(model_id, {"node_URL": address}, EXISTS)

    def _write(self, model_id: str, shown: Mapping[str, Any], when: ConditionBase) -> bool:
        """Return whether the item was written. An item that takes no more delays no change of the record.

        Anybody with the library's rights may fill it up to DynamoDB's 400 kB; its owner can send it again.
        """
        try:
            self.table.update({"model_id": model_id}, put=shown, when=when, quietly=True)
        except ConditionFailed:
            return False
        except Upstream as error:
            refusal = error.__cause__
            if not isinstance(refusal, ClientError) or error_code(refusal) != "ValidationException":
                raise
            log.warning("model.not_shown", model_id=model_id, error=error_message(refusal))
            return False
        return True


def history_of(row: ModelRow) -> Sequence[ClosedCycle]:
    """Return the closed cycles of a record, including a sealed one."""
    sealed = row.sealed()
    return (*row.history, *([sealed.closed()] if sealed else ()))[-HISTORY_LENGTH:]


def _counters(row: ModelRow) -> dict[str, Any]:
    """Return what a report changes. The last means stay until the running cycle has some."""
    cycles: list[Totals | ClosedCycle] = [row.totals(), *reversed(history_of(row))]
    return {
        "active_status": row.active_status,
        "percent_complete": row.percent_complete,
        "devices_trained_this_cycle": row.devices_trained_this_cycle,
        "loss_this_cycle": next((cycle.loss for cycle in cycles if cycle.devices), UNMEASURED),
        "median_loss_this_cycle": next((cycle.median_loss for cycle in cycles if cycle.devices), None),
        "acc_this_cycle": next((cycle.acc for cycle in cycles if cycle.acc != UNMEASURED), UNMEASURED),
        "rejected_reports": row.rejected_reports or None,
        "revision": row.revision,
    }
