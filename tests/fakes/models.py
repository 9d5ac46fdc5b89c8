"""The model table: in memory, as strict as the real one."""

from collections import defaultdict
from collections.abc import Collection, Sequence
from dataclasses import asdict, replace
from typing import Any

from orchestration.domain.cycle import NO_REPORTS, Progress, Report, SealedCycle, Tally
from orchestration.domain.entities import Model, Wanted
from orchestration.domain.errors import Conflict, NotFound

ASKED_INTERVAL = 3600.0


class Rows(dict[str, Model]):
    """The rows by their ids, with an index by dataset: a large fleet asks for the models of one all day."""

    def __init__(self) -> None:
        super().__init__()
        self._by_dataset: defaultdict[str, dict[str, Model]] = defaultdict(dict)
        self._due: dict[str, str] = {}

    def __setitem__(self, model_id: str, model: Model) -> None:
        super().__setitem__(model_id, model)
        self._by_dataset[model.dataset_id][model_id] = model
        self._due.pop(model_id, None)
        if model.retrieval_due:
            self._due[model_id] = model.dataset_id

    def on_dataset(self, dataset_id: str) -> list[Model]:
        of_it = self._by_dataset.get(dataset_id, {})
        return [model for model_id, model in of_it.items() if self.get(model_id) is model]

    def datasets_due(self) -> set[str]:
        return {dataset_id for model_id, dataset_id in self._due.items() if model_id in self}


class FakeModels:
    """The model table. `contention`: so many closings fail, as if another call were closing the cycle."""

    def __init__(self) -> None:
        self.rows = Rows()
        self.links: dict[str, str] = {}
        self.causes: dict[str, str] = {}
        self.withdrawn_at: dict[str, float] = {}
        self.rejected: dict[str, int] = {}
        self.writes: list[str] = []
        self.contention = 0

    def add(self, model: Model) -> None:
        self.rows[model.model_id] = model

    def get(self, model_id: str) -> Model:
        for candidate in (model_id, model_id.lower()):
            if candidate in self.rows:
                return self.rows[candidate]
        raise NotFound(f"There is no model {model_id!r}.")

    def accept(self, model: Model, wanted: Wanted, now: float) -> Model:
        is_written = Wanted(model.features, model.labels, model.hosted_as) == wanted
        if is_written and now - model.progress_at < ASKED_INTERVAL:
            return model
        row = self.rows.get(model.model_id)
        if row is None or not row.is_active or row.owner != model.owner:
            raise Conflict(f"Model {model.model_id!r} is complete or withdrawn.")
        return self._update(model.model_id, **asdict(wanted), progress_at=now)

    def on_dataset(self, dataset_id: str) -> Sequence[Model]:
        return [row for row in self.rows.on_dataset(dataset_id) if row.is_active]

    def datasets_due(self) -> Collection[str]:
        return self.rows.datasets_due()

    def to_retrieve(self, dataset_id: str) -> Sequence[Model]:
        return [row for row in self.rows.on_dataset(dataset_id) if row.retrieval_due]

    def count(self, model: Model, report: Report) -> Tally | None:
        row = self.get(model.model_id)
        if not row.is_active:
            return None
        tally = replace(
            row.tally,
            devices=row.tally.devices + 1,
            loss_sum=float(row.tally.loss_sum + report.loss),
            sample={**row.tally.sample, row.tally.places()[0]: report.loss},
        )
        if report.acc is not None:
            tally = replace(tally, acc_sum=tally.acc_sum + report.acc, acc_devices=tally.acc_devices + 1)
        return self._update(row.model_id, tally=tally).tally

    def reject(self, model: Model) -> None:
        self.rejected[model.model_id] = self.rejected.get(model.model_id, 0) + 1

    def close_cycle(self, model: Model, progress: Progress, now: float) -> bool:
        row = self.rows.get(model.model_id)
        if self.contention:
            self.contention -= 1
            return False
        if row is None or not row.is_active or row.sealed or row.tally.cycle != model.tally.cycle:
            return False
        cycle = progress.cycle or row.tally.cycle + 1
        self._update(
            row.model_id,
            percent_complete=progress.percent_complete,
            progress_at=now,
            sealed=SealedCycle(cycle, progress.percent_complete, row.tally, now),
            tally=replace(NO_REPORTS, cycle=cycle),
            is_active=not progress.is_last,
            ended_at=now if progress.is_last else 0.0,
            retrieval_due=progress.is_last,
        )
        self.settle(self.rows[row.model_id])
        return True

    def settle(self, model: Model) -> None:
        row = self.rows.get(model.model_id)
        if model.sealed is None or row is None or row.sealed != model.sealed:
            return
        self._update(row.model_id, sealed=None, history=(*row.history, model.sealed.settled()))

    def retrieved(self, model: Model, download_key: str, link: str) -> None:
        if self.rows[model.model_id].retrieval_due:
            self._update(model.model_id, retrieval_due=False, download_key=download_key)
            self.links[model.model_id] = link
            self.causes.pop(model.model_id, None)

    def relink(self, model: Model, download_key: str, link: str) -> bool:
        if self.rows[model.model_id].download_key != model.download_key:
            return False
        self._update(model.model_id, download_key=download_key)
        self.links[model.model_id] = link
        return True

    def not_retrieved(self, model: Model, cause: str) -> None:
        if self.rows[model.model_id].retrieval_due:
            self.causes[model.model_id] = cause

    def withdraw(self, model: Model, now: float) -> None:
        self._update_existing(
            model.model_id, is_active=False, ended_at=now, retrieval_due=False, download_key=None
        )
        self.links.pop(model.model_id, None)
        self.causes.pop(model.model_id, None)
        self.withdrawn_at[model.model_id] = now

    def publish_node(self, model: Model, address: str) -> None:
        self._update_existing(model.model_id, node_address=address)

    def unpublish_node(self, dataset_id: str) -> None:
        for row in self.rows.on_dataset(dataset_id):
            if row.node_address is not None:
                self._update(row.model_id, node_address=None)

    def _update_existing(self, model_id: str, **changes: Any) -> None:
        if model_id not in self.rows:
            raise NotFound(f"There is no model {model_id!r}.")
        self._update(model_id, **changes)

    def _update(self, model_id: str, **changes: Any) -> Model:
        self.writes.append(model_id)
        self.rows[model_id] = replace(self.rows[model_id], **changes)
        return self.rows[model_id]
