"""The training table: this service's own record of each accepted model. The model table shows it.

A record is found by its name in lower case, so that one model has all spellings of a name that differ in case
only: whoever is accepted first has them.

Devices report losses while a node closes the cycle they belong to, and every report must count in exactly one
cycle. Reading the counters, writing the history and setting them to zero would lose the reports in between.
So a cycle is sealed: one update renames the running counters to `sealed_...` and starts new ones, and every
report comes either before or after that update. A second update moves the sealed counters to the history. If
the process dies between the two, the next call for the model makes the second update; its condition, that the
same cycle is still sealed, keeps two processes from appending the cycle twice.

Each change is written to the record first and then shown in the model's item. The state from which the change
can be made again is removed last: the sealed counters, `retrieval_due`, `shown_on`. So if the process dies in
between, the next one shows the change.
"""

import random
from collections.abc import Collection, Mapping, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from typing import Any

import structlog
from boto3.dynamodb.conditions import Attr, ConditionBase, Key
from pydantic import ValidationError

from orchestration.adapters.dynamo.model_items import ModelItems, history_of
from orchestration.adapters.dynamo.rows import ModelRow, faults_of
from orchestration.adapters.dynamo.table import ConditionFailed, Item, Table, stored
from orchestration.domain.cycle import Progress, Report
from orchestration.domain.entities import Model
from orchestration.domain.errors import Conflict, NotFound, Overtaken

log = structlog.get_logger(__name__)

REQUEST_INTERVAL = 3600.0
"""Seconds between two writes of the time at which the owner requested a hosted model."""

NETWORK_INTERVAL = 600.0
"""Seconds between two writes of the time at which a network was seen, or an unhosted model requested."""
MOST_NETWORKS = 16
FAILURE_INTERVAL = 60.0
"""Seconds between two records of refused uploads."""

TRAINS = Attr("active_status").eq(1)
SHOWN = {"revision": 1}
"""Added with each change of what the marketplace shows."""

SEALED: dict[str, tuple[str, Any]] = {
    "devices_trained_this_cycle": ("sealed_devices", 0),
    "loss_sum": ("sealed_loss_sum", 0),
    "acc_sum": ("sealed_acc_sum", 0),
    "acc_devices": ("sealed_acc_devices", 0),
    "loss_sample": ("sealed_loss_sample", {}),
}
"""Each counter of the running cycle: its name when sealed, and its value when the next cycle starts."""

FIRST_CYCLE: dict[str, Any] = {"closed_cycles": 0} | {name: start for name, (_, start) in SEALED.items()}


@dataclass(frozen=True, slots=True)
class DynamoModels:
    """Implements the port `Models`; `table` is the training table."""

    table: Table
    items: ModelItems

    def get(self, model_id: str) -> Model:
        """Return the record, or what was submitted under this id as sent, then in lower case."""
        record = self._find(model_id)
        if record is not None and model_id == record.hosted_as:
            return record.entity()
        for spelling in dict.fromkeys((model_id, model_id.lower())):
            if record is not None and spelling == record.model_id:
                return record.entity()
            if submitted := self.items.submitted(spelling):
                return submitted
        raise NotFound(f"There is no model {model_id!r}.")

    def hosted(self, name: str) -> Model:
        """Return the record with this name on its node."""
        record = self._find(name)
        model = record.entity() if record else None
        if model is None or model.name_on_node != name:
            raise NotFound(f"There is no model {name!r}.")
        return model

    def accept(
        self,
        model: Model,
        features: Sequence[str],
        labels: Sequence[str],
        hosted_as: str | None,
        now: float,
        network: str | None = None,
    ) -> Model:
        """Write what a model trains on, unless it is written already: it is sent every 30 seconds."""
        columns = {"features": list(features), "labels": list(labels), "hosted_as": hosted_as}
        if not model.is_accepted:
            model = self._claim(model, columns, {network: now} if network else {}, now)
        self._check(model, columns)
        changes: dict[str, Any] = {}
        interval = REQUEST_INTERVAL if model.is_hosted else NETWORK_INTERVAL
        if not _has(model, columns) or now - model.progress_at >= interval or model.released_at:
            changes = {"put": {**columns, "progress_at": now, "released_at": None}, "add": SHOWN}
        if network and now - model.networks.get(network, 0.0) >= NETWORK_INTERVAL:
            changes |= _with_network(model.networks, network, now, changes.get("put", {}))
        if changes:
            model = self._renew(model, columns, changes)
        self.show(model)
        return model

    def _check(self, model: Model, columns: dict[str, Any]) -> None:
        """Raise Conflict if the model doesn't train, or devices may have been given other columns."""
        try:
            model.must_train()
            model.must_be_as(**columns)
        except Conflict:
            self.show(model)
            raise

    def _claim(self, model: Model, columns: dict[str, Any], networks: dict[str, float], now: float) -> Model:
        """Create the record, or return the one that another request of the owner has created."""
        record = FIRST_CYCLE | {
            "model_id": model.model_id,
            "owner_name": model.owner,
            "dataset": model.dataset_id,
            "version": model.version,
            "active_status": 1,
            "percent_complete": 0,
            "trains_on": model.dataset_id,
            "networks": networks,
            "progress_at": now,
            "revision": 1,
        }
        try:
            key = {"name": _name(model.model_id)}
            item = self.table.update(key, put=record | columns, when=Attr("name").not_exists())
        except ConditionFailed as error:
            claimed = self._existing(model)
            if (claimed.owner_name, claimed.dataset) != (model.owner, model.dataset_id):
                raise _taken(model) from error
            return claimed.entity()
        return _row(item).entity()

    def _renew(self, model: Model, columns: dict[str, Any], changes: dict[str, Any]) -> Model:
        when: ConditionBase = TRAINS
        if not _has(model, columns):
            when &= Attr("hosted_at").not_exists()
        try:
            return _row(self._update(model, when, **changes)).entity()
        except ConditionFailed as error:
            self._check(self._existing(model).entity(), columns)
            raise Overtaken from error

    def show(self, model: Model) -> None:
        """Show the record in an item that doesn't show it."""
        if model.is_accepted and not self.items.shows(model):
            row = self._existing(model)
            self._show(row, address=row.node_URL)

    def _show(self, row: ModelRow, address: str | None = None) -> None:
        """Show a record, unless a newer one is shown.

        The library's rights suffice to pretend that. So what the item says is compared with the record.
        """
        if not self.items.show(row, address=address):
            newest = self._existing(row.entity())
            if newest.revision == row.revision:
                self.items.show(row, address=address, is_newest=True)

    def record_hosted(self, model: Model, now: float) -> None:
        """Set `hosted_at`, unless it is set, and remove `upload_failure`, but not its time."""
        if not model.is_hosted or model.upload_failure:
            missed = ("upload_failure", "released_at")
            self._update(model, default={"hosted_at": now}, remove=missed, quietly=True)

    def release(self, model: Model, reason: str, now: float) -> bool:
        """Set `released_at`, and add the reason to `upload_failure`."""
        failure = self._existing(model).upload_failure
        if reason not in failure:
            failure = f"{failure} {reason}".strip()
        waiting = TRAINS & Attr("hosted_at").not_exists() & Attr("released_at").not_exists()
        unrequested = Attr("progress_at").eq(stored(model.progress_at))
        try:
            changes = {"released_at": now, "upload_failure": failure}
            self._update(model, waiting & unrequested, put=changes, quietly=True)
        except ConditionFailed:
            return False
        return True

    def upload_failed(self, model: Model, failure: str, now: float, *, is_new: bool = False) -> bool:
        """Set `upload_failure` and its time."""
        before, last = Attr("upload_failed_at"), Attr("upload_failure")
        when: ConditionBase = before.not_exists() | before.lte(stored(now - FAILURE_INTERVAL))
        if is_new:
            when = when | last.not_exists() | last.ne(failure)
        try:
            changes = {"upload_failure": failure, "upload_failed_at": now}
            self._update(model, when, put=changes, quietly=True)
        except ConditionFailed:
            return False
        return True

    def on_dataset(self, dataset_id: str) -> Sequence[Model]:
        """Return the dataset's active models."""
        return self._query("trains-on-index", Key("trains_on").eq(dataset_id))

    def datasets_due(self) -> Collection[str]:
        """Return the datasets with models to retrieve. The index holds only those models."""
        due = self.table.scan("retrieval-due-index", ProjectionExpression="retrieval_due")
        return {item["retrieval_due"] for item in due}

    def to_retrieve(self, dataset_id: str) -> Sequence[Model]:
        """Return the dataset's complete models whose file isn't in the bucket yet."""
        return self._query("retrieval-due-index", Key("retrieval_due").eq(dataset_id))

    def count(self, model: Model, report: Report) -> None:
        """Add a report in one write; then show the means, unless a later report has shown newer ones."""
        amounts: dict[str, float] = {"devices_trained_this_cycle": 1, "loss_sum": report.loss, **SHOWN}
        if report.acc is not None:
            amounts |= {"acc_sum": report.acc, "acc_devices": 1}
        place = model.totals.place(random.randrange)
        sampled = {} if place is None else {("loss_sample", place): report.loss}
        try:
            item = self._update(model, TRAINS, add=amounts, put_inside=sampled)
        except ConditionFailed as error:
            raise Overtaken from error
        self.items.show_counters(_row(item))

    def reject(self, model: Model) -> None:
        """Add one to `rejected_reports`."""
        self.items.show_counters(_row(self._update(model, add={"rejected_reports": 1, **SHOWN})))

    def close_cycle(self, model: Model, progress: Progress, now: float) -> None:
        """Seal the running cycle in one write, then finish closing it."""
        changes: dict[str, Any] = {
            "percent_complete": progress.percent_complete,
            "closed_cycles": progress.cycle or model.totals.cycle + 1,
            "sealed_at": now,
            "progress_at": now,
        }
        if progress.cycles is not None:
            changes["cycles"] = progress.cycles
        if progress.is_last:
            changes |= {"active_status": 0, "trains_on": None, "ended_at": now}
            changes["retrieval_due"] = model.dataset_id
        unsealed = TRAINS & Attr("sealed_at").not_exists() & Attr("closed_cycles").eq(model.totals.cycle)
        hosted = {"hosted_at": now}
        try:
            item = self._update(model, unsealed, put=changes, default=hosted, move=SEALED, add=SHOWN)
        except ConditionFailed as error:
            raise Overtaken from error
        self._finish(_row(item))

    def finish_closing(self, model: Model) -> None:
        """Show a sealed cycle and append it to the history, once."""
        if model.sealed is not None:
            row = self._existing(model)
            if row.sealed() is not None and row.closed_cycles == model.sealed.cycle:
                self._finish(row)

    def _finish(self, row: ModelRow) -> None:
        self._show(row)
        history = [asdict(cycle) for cycle in history_of(row)]
        as_sealed = Attr("sealed_at").exists() & Attr("closed_cycles").eq(row.closed_cycles)
        sealed = ["sealed_at", *(target for target, _ in SEALED.values())]
        try:
            self._update(row.entity(), as_sealed, put={"history": history}, remove=sealed, quietly=True)
        except ConditionFailed:
            log.debug("cycle.closed_elsewhere", model_id=row.model_id, cycle=row.closed_cycles)

    def retrieved(self, model: Model, download_key: str, link: str) -> None:
        """Write key and link, show them, and then only remove the mark, unless the model was withdrawn."""
        changes = {"download_key": download_key, "download_link": link}
        solved = ("retrieval_error", "retrieval_failures")
        if item := self._while_due(model, put=changes, remove=solved, add=SHOWN):
            self._show(_row(item))
            self._while_due(model, remove=("retrieval_due",))

    def relink(self, model: Model, download_key: str, link: str) -> None:
        """Replace the download key, which voids the old link."""
        changes = {"download_key": download_key, "download_link": link}
        unchanged = Attr("download_key").eq(model.download_key)
        try:
            self._show(_row(self._update(model, unchanged, put=changes, add=SHOWN)))
        except ConditionFailed as error:
            raise Overtaken from error

    def not_retrieved(self, model: Model, error: str) -> int:
        """Set `retrieval_error` and add one to `retrieval_failures`."""
        failed = {"retrieval_failures": 1, **SHOWN}
        item = self._while_due(model, put={"retrieval_error": error}, add=failed)
        if item is None:
            return 0
        with suppress(Conflict):  # a malformed record is a failure, too, but can't be shown
            self._show(_row(item))
        return int(item["retrieval_failures"])

    def _while_due(self, model: Model, **changes: Any) -> Item | None:
        try:
            return self._update(model, Attr("retrieval_due").exists(), **changes)
        except ConditionFailed:
            log.info("retrieval.no_longer_due", model_id=model.model_id)
            return None

    def withdraw(self, model: Model, now: float) -> None:
        """End the training and remove the link. Withdrawing twice is the same as once."""
        day = datetime.fromtimestamp(now, UTC).isoformat()
        withdrawn = {"active_status": 0, "ended_at": now, "withdrawn_at": day}
        retrieval = ("retrieval_due", "retrieval_error", "retrieval_failures")
        gone = ("trains_on", "download_link", "download_key", *retrieval)
        try:
            row = _row(self._update(model, put=withdrawn, remove=gone, add=SHOWN))
        except ConditionFailed:  # it was never accepted
            self.items.withdraw(model, withdrawn)
        else:
            self._show(row)

    def publish_node(self, model: Model, address: str) -> None:
        """Set `node_URL`: mark the record first, so that `unpublish_node` finds it, and set it there last."""
        marked = {"shown_on": model.dataset_id}
        try:
            self._update(model, put=marked, quietly=True)
            self.items.show_address(model.model_id, address)
            self._update(model, put={**marked, "node_URL": address}, quietly=True)
        except ConditionFailed as error:
            raise NotFound(f"There is no model {model.model_id!r}.") from error

    def unpublish_node(self, dataset_id: str) -> None:
        """Remove `node_URL` from all models of the dataset."""
        for item in self.table.query("shown-on-index", Key("shown_on").eq(dataset_id)):
            self.items.show_address(item["model_id"], None)
            with suppress(ConditionFailed):  # the index may show a record that is gone
                removed = ("node_URL", "shown_on")
                self.table.update(
                    {"name": item["name"]}, remove=removed, when=Attr("name").exists(), quietly=True
                )

    def _find(self, model_id: str) -> ModelRow | None:
        item = self.table.get(name=_name(model_id))
        return None if item is None else _row(item)

    def _existing(self, model: Model) -> ModelRow:
        """Return the record of a model, read again. Raises Conflict if another model has its name."""
        row = self._find(model.model_id)
        if row is None or row.model_id != model.model_id:
            raise _taken(model)
        return row

    def _update(self, model: Model, when: ConditionBase | None = None, **changes: Any) -> Item:
        """Update the record of a model. Raises ConditionFailed, also for the record of another model."""
        same = Attr("model_id").eq(model.model_id) & Attr("owner_name").eq(model.owner)
        key = {"name": _name(model.model_id)}
        return self.table.update(key, when=same if when is None else same & when, **changes)

    def _query(self, index: str, key: ConditionBase) -> Sequence[Model]:
        models = []
        for item in self.table.query(index, key):
            try:
                models.append(ModelRow.model_validate(item).entity())
            except ValidationError as error:
                log.warning("model.malformed", model_id=item.get("model_id"), faults=faults_of(error))
        return models


def _row(item: Item) -> ModelRow:
    try:
        return ModelRow.model_validate(item)
    except ValidationError as error:
        raise Conflict(f"The record of model {item['name']!r} is malformed: {faults_of(error)}.") from error


def _has(model: Model, columns: dict[str, Any]) -> bool:
    return columns == {
        "features": list(model.features),
        "labels": list(model.labels),
        "hosted_as": model.hosted_as,
    }


def _with_network(
    known: Mapping[str, float], network: str, now: float, put: dict[str, Any]
) -> dict[str, Any]:
    """Return the fields of a change that adds a network; beyond the most, it replaces the oldest."""
    if network in known or len(known) < MOST_NETWORKS:
        return {"put_inside": {("networks", network): now}}
    newest = sorted(known, key=lambda name: known[name])[1 - MOST_NETWORKS :]
    return {"put": {**put, "networks": {name: known[name] for name in newest} | {network: now}}}


def _name(model_id: str) -> str:
    return model_id.lower()


def _taken(model: Model) -> Conflict:
    return Conflict(
        f"Another model has the name {model.model_id!r}, perhaps in other letter case. "
        "Choose another name or version."
    )
