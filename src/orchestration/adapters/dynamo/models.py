"""The model table: artificienlib writes its items, the marketplace reads them, this service adds attributes.

Devices report losses while a node closes the cycle they belong to, and every report must count in exactly one
cycle. Reading the counters, writing the history and setting them to zero would lose the reports in between.
So a cycle is sealed: one update renames the running counters to `sealed_...` and starts new ones, and every
report comes either before or after that update. A second update moves the sealed counters to the history. If
the process dies between the two, the next call for the model makes the second update; its condition, that the
same cycle is still sealed, keeps two processes from appending the cycle twice.
"""

import random
from collections.abc import Collection, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from typing import Any

import structlog
from boto3.dynamodb.conditions import Attr, ConditionBase, Key
from pydantic import ValidationError

from orchestration.adapters.dynamo.rows import ModelRow
from orchestration.adapters.dynamo.table import ConditionFailed, Item, Table
from orchestration.domain.cycle import Progress, Report, Totals
from orchestration.domain.entities import Model
from orchestration.domain.errors import Conflict, NotFound, Overtaken

log = structlog.get_logger(__name__)

HISTORY_LENGTH = 1000
"""Closed cycles kept. A DynamoDB item holds 400 kB; a closed cycle takes about 150 bytes."""

REQUEST_INTERVAL = 3600.0
"""Seconds between two writes of the time at which the owner requested the model."""

FOR_DEVICES = (
    "model_id,owner_name,dataset,version,active_status,percent_complete,features,labels,hosted_as,node_URL,"
    "progress_at,download_key,retrieval_due,retrieval_failures"
)
"""The attributes that a list of models is read with: all but counters and history."""

EXISTS = Attr("model_id").exists()
TRAINS = EXISTS & Attr("active_status").eq(1)
NO_REPORT_YET = Attr("devices_trained_this_cycle").eq(0)

SEALED: dict[str, tuple[str, Any]] = {
    "devices_trained_this_cycle": ("sealed_devices", 0),
    "loss_sum": ("sealed_loss_sum", 0),
    "acc_sum": ("sealed_acc_sum", 0),
    "acc_devices": ("sealed_acc_devices", 0),
    "loss_sample": ("sealed_loss_sample", {}),
}
"""Each counter of the running cycle: its name when sealed, and its value when the next cycle starts."""


@dataclass(frozen=True, slots=True)
class DynamoModels:
    """Implements the port `Models`."""

    table: Table

    def get(self, model_id: str) -> Model:
        """Return the model. Its id is looked up as sent, then in lower case."""
        for candidate in _spellings(model_id):
            if item := self.table.get(model_id=candidate):
                return _row(item).entity()
        raise NotFound(f"There is no model {model_id!r}.")

    def accept(
        self,
        model: Model,
        features: Sequence[str],
        labels: Sequence[str],
        hosted_as: str | None,
        now: float,
    ) -> Model:
        """Write what a model trains on, unless it is written already: it is sent every 30 seconds."""
        is_written = (model.features, model.labels, model.hosted_as) == (
            tuple(features),
            tuple(labels),
            hosted_as,
        )
        if is_written and now - model.progress_at < REQUEST_INTERVAL:
            return model
        changes = {
            "features": list(features),
            "labels": list(labels),
            "hosted_as": hosted_as,
            "progress_at": now,
        }
        try:
            item = self._update(model.model_id, TRAINS & Attr("owner_name").eq(model.owner), put=changes)
        except ConditionFailed as error:
            raise Conflict(f"Model {model.model_id!r} is complete or withdrawn.") from error
        return _row(item).entity()

    def on_dataset(self, dataset_id: str) -> Sequence[Model]:
        """Return the dataset's active models."""
        key = Key("dataset").eq(dataset_id) & Key("active_status").eq(1)
        return self._query("dataset-active-index", key)

    def datasets_due(self) -> Collection[str]:
        """Return the datasets with models to retrieve. The index holds only those models."""
        due = self.table.scan("retrieval-due-index", ProjectionExpression="retrieval_due")
        return {item["retrieval_due"] for item in due}

    def to_retrieve(self, dataset_id: str) -> Sequence[Model]:
        """Return the dataset's complete models whose file isn't in the bucket yet."""
        return self._query("retrieval-due-index", Key("retrieval_due").eq(dataset_id))

    def count(self, model: Model, report: Report) -> None:
        """Add a report in one write; then write the means, unless a later report has written newer ones."""
        amounts: dict[str, float] = {
            "devices_trained_this_cycle": 1,
            "loss_sum": report.loss,
            "closed_cycles": 0,
        }
        if report.acc is not None:
            amounts |= {"acc_sum": report.acc, "acc_devices": 1}
        if not model.totals.sample:  # DynamoDB sets a value only inside a map that exists
            self._update_existing(model.model_id, default={"loss_sample": {}})
        # Chosen at random, so that two concurrent reports rarely overwrite each other.
        place = ("loss_sample", random.choice(model.totals.places()))  # noqa: S311 - no secret
        try:
            item = self._update(model.model_id, TRAINS, add=amounts, put_inside={place: report.loss})
        except ConditionFailed as error:
            raise Overtaken from error
        totals = _row(item).totals()
        counted = Attr("devices_trained_this_cycle").eq(totals.devices)
        self._show_means(model.model_id, totals, _in_cycle(totals.cycle) & counted)

    def reject(self, model: Model) -> None:
        """Add one to `rejected_reports`."""
        self._update_existing(model.model_id, add={"rejected_reports": 1})

    def _show_means(self, model_id: str, totals: Totals, unless_newer: ConditionBase) -> None:
        means = {"loss_this_cycle": totals.loss} if totals.devices else {}
        means |= {"median_loss_this_cycle": totals.median_loss} if totals.sample else {}
        means |= {"acc_this_cycle": totals.acc} if totals.acc_devices else {}
        try:
            if means:
                self._update(model_id, unless_newer, put=means, quietly=True)
        except ConditionFailed:
            log.debug("mean.superseded", model_id=model_id, devices=totals.devices)

    def close_cycle(self, model: Model, progress: Progress, now: float) -> None:
        """Seal the running cycle in one write, then finish closing it."""
        changes: dict[str, Any] = {
            "percent_complete": progress.percent_complete,
            "closed_cycles": progress.cycle or model.totals.cycle + 1,
            "sealed_at": now,
            "progress_at": now,
        }
        if progress.is_last:
            changes |= {"active_status": 0, "retrieval_due": model.dataset_id, "ended_at": now}
        unsealed = TRAINS & Attr("sealed_at").not_exists() & _in_cycle(model.totals.cycle)
        try:
            item = self._update(model.model_id, unsealed, put=changes, move=SEALED)
        except ConditionFailed as error:
            raise Overtaken from error
        self.finish_closing(_row(item).entity())

    def finish_closing(self, model: Model) -> None:
        """Append a sealed cycle to the history, once; show its means, unless the next cycle has some."""
        if model.sealed is None:
            return
        history = [asdict(cycle) for cycle in (*model.history, model.sealed.closed())][-HISTORY_LENGTH:]
        as_sealed = Attr("sealed_at").exists() & _in_cycle(model.sealed.cycle)
        sealed = ["sealed_at", *(target for target, _ in SEALED.values())]
        try:
            self._update(model.model_id, as_sealed, put={"history": history}, remove=sealed)
        except ConditionFailed:
            log.debug("cycle.closed_elsewhere", model_id=model.model_id, cycle=model.sealed.cycle)
            return
        self._show_means(model.model_id, model.sealed.totals, _in_cycle(model.sealed.cycle) & NO_REPORT_YET)

    def retrieved(self, model: Model, download_key: str, link: str) -> None:
        """Write key and link, unless the model was withdrawn since it was read."""
        changes = {"download_key": download_key, "download_link": link}
        gone = ("retrieval_due", "retrieval_error", "retrieval_failures")
        self._while_due(model, put=changes, remove=gone)

    def relink(self, model: Model, download_key: str, link: str) -> None:
        """Replace the download key, which voids the old link."""
        changes = {"download_key": download_key, "download_link": link}
        try:
            self._update(model.model_id, Attr("download_key").eq(model.download_key), put=changes)
        except ConditionFailed as error:
            raise Overtaken from error

    def not_retrieved(self, model: Model, error: str) -> int:
        """Set `retrieval_error` and add one to `retrieval_failures`."""
        item = self._while_due(model, put={"retrieval_error": error}, add={"retrieval_failures": 1})
        return int(item.get("retrieval_failures", 0))

    def _while_due(self, model: Model, **changes: Any) -> Item:
        try:
            return self._update(model.model_id, Attr("retrieval_due").exists(), **changes)
        except ConditionFailed:
            log.info("retrieval.no_longer_due", model_id=model.model_id)
            return {}

    def withdraw(self, model: Model, now: float) -> None:
        """End the training and remove the link. Withdrawing twice is the same as once."""
        day = datetime.fromtimestamp(now, UTC).isoformat()
        withdrawn = {"active_status": 0, "ended_at": now, "withdrawn_at": day}
        gone = ("retrieval_due", "retrieval_error", "retrieval_failures", "download_link", "download_key")
        self._update_existing(model.model_id, put=withdrawn, remove=gone)

    def publish_node(self, model: Model, address: str) -> None:
        """Set `node_URL`."""
        self._update_existing(model.model_id, put={"node_URL": address})

    def unpublish_node(self, dataset_id: str) -> None:
        """Remove `node_URL` from all models of the dataset."""
        shown = self.table.query(
            "dataset-active-index",
            Key("dataset").eq(dataset_id),
            FilterExpression=Attr("node_URL").exists(),
            ProjectionExpression="model_id",
        )
        for item in shown:
            with suppress(NotFound):  # the index may show a model that is gone
                self._update_existing(item["model_id"], remove=("node_URL",))

    def _update_existing(self, model_id: str, **changes: Any) -> None:
        try:
            self._update(model_id, EXISTS, **changes)
        except ConditionFailed as error:
            raise NotFound(f"There is no model {model_id!r}.") from error

    def _update(self, model_id: str, when: ConditionBase, **changes: Any) -> dict[str, Any]:
        return self.table.update({"model_id": model_id}, when=when, **changes)

    def _query(self, index: str, key: ConditionBase) -> Sequence[Model]:
        models = []
        for item in self.table.query(index, key, ProjectionExpression=FOR_DEVICES):
            try:
                models.append(ModelRow.model_validate(item).entity())
            except ValidationError as error:
                log.warning("model.malformed", model_id=item.get("model_id"), faults=_faults(error))
        return models


def _row(item: Item) -> ModelRow:
    try:
        return ModelRow.model_validate(item)
    except ValidationError as error:
        raise Conflict(f"The item of model {item['model_id']!r} is malformed: {_faults(error)}.") from error


def _in_cycle(cycle: int) -> ConditionBase:
    closed = Attr("closed_cycles")
    return closed.eq(cycle) if cycle else closed.eq(0) | closed.not_exists()


def _spellings(model_id: str) -> Sequence[str]:
    return list(dict.fromkeys((model_id, model_id.lower())))


def _faults(error: ValidationError) -> str:
    return ", ".join(".".join(map(str, fault["loc"])) for fault in error.errors())
