"""Collects from nodes: trained models go to the bucket, lost progress goes to the records."""

import gc
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from threading import Lock

import structlog

from orchestration.domain.credentials import new_download_key
from orchestration.domain.entities import MOST_FAILURES, Model
from orchestration.domain.errors import Conflict, NotFound, OrchestrationError
from orchestration.domain.node import Node
from orchestration.domain.ports import (
    AuditEntry,
    AuditLog,
    Clock,
    ModelBucket,
    Models,
    NodeSecrets,
    NodeServer,
)
from orchestration.domain.progress import ProgressService, lost_progress
from orchestration.domain.schedule import Schedule

log = structlog.get_logger(__name__)

LOOK_INTERVAL = 30.0
"""Seconds between two looks for a model that was accepted and not yet uploaded: devices wait for it."""

MISSED = (
    "The model was not on its node within an hour, so the node no longer runs for it. "
    "A call of /create starts another hour."
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Retrieval:
    """Retrieves trained models. `link_of(model_id, download_key)` returns the download link."""

    models: Models
    server: NodeServer
    secrets: NodeSecrets
    bucket: ModelBucket
    link_of: Callable[[str, str], str]
    audit: AuditLog
    clock: Clock
    schedule: Schedule = field(default_factory=Schedule)
    """When each model whose retrieval failed is tried again. A try downloads two checkpoints."""
    lock: Lock = field(default_factory=Lock)
    """Held during a retrieval: several threads reconcile, and memory suffices for one model at a time."""

    def retrieve_due(self, node: Node, address: str) -> None:
        """Retrieve every completed model of a node's dataset.

        If one fails, the reason is recorded for its owner, and it is tried again after a pause.
        """
        for model in self.models.to_retrieve(node.dataset_id):
            if self._is_time_for(model):
                with self.lock:
                    if self._is_time_for(model):  # else it has just failed in another thread
                        self._try(model, node, address)

    def is_awaited(self, node: Node, address: str) -> bool:
        """Return whether a node that answers has a completed model that still awaits its retrieval."""
        listed = [*self.models.to_retrieve(node.dataset_id), *self.models.on_dataset(node.dataset_id)]
        return any(map(self._awaits, listed)) and self.server.answers(address, node.node_id)

    def _awaits(self, listed: Model) -> bool:
        """Read a model again: the index that has listed it may lag. One that can't be read is not awaited."""
        with suppress(NotFound, Conflict):
            return self.models.get(listed.model_id).awaits_retrieval
        return False

    def _is_time_for(self, model: Model) -> bool:
        return self.schedule.is_due(model.model_id, self.clock())

    def _try(self, model: Model, node: Node, address: str) -> None:
        try:
            current = self.models.get(model.model_id)
            if current.retrieval_due:  # else another thread was first
                self._retrieve(current, node, address)
            self.schedule.remove(model.model_id)
        except OrchestrationError as error:
            self.schedule.back_off(model.model_id, self.clock())
            self._record_failure(model, str(error))
        else:
            return
        # An error of botocore and its traceback refer to each other, and the traceback to the model's bytes.
        # They must be gone before the next model is downloaded.
        gc.collect()

    def _record_failure(self, model: Model, reason: str) -> None:
        log.warning("model.not_retrieved", model_id=model.model_id, error=reason)
        if (failures := model.retrieval_failures + 1) >= MOST_FAILURES:
            reason += f" After {failures} failures, the model no longer keeps its node running."
        if self.models.not_retrieved(model, reason) == MOST_FAILURES:
            log.error("model.alarm", model_id=model.model_id, dataset_id=model.dataset_id, reason=reason)
            self.audit.record(AuditEntry("service", "model.retrieve", f"model:{model.model_id}", reason))

    def _retrieve(self, model: Model, node: Node, address: str) -> None:
        """Store the file first, record it last: if the process dies in between, both are done again."""
        credential = self.secrets.credential(node)
        self.bucket.store(model, self.server.trained_model(address, model, credential))
        download_key = model.download_key or new_download_key()
        self.models.retrieved(model, download_key, self.link_of(model.model_id, download_key))
        self.audit.record(AuditEntry("service", "model.retrieve", f"model:{model.model_id}", "ok"))
        log.info("model.retrieved", model_id=model.model_id)


@dataclass(frozen=True, slots=True, kw_only=True)
class Resync:
    """Asks a node what it has not told: whether a model was uploaded, and how far a silent one is.

    A model is silent if the node has not reported progress for `silent_after` seconds. The original node
    sends each report once, so a report that is lost is lost for good, and tells nothing about uploads.
    """

    models: Models
    server: NodeServer
    secrets: NodeSecrets
    progress: ProgressService
    audit: AuditLog
    clock: Clock
    silent_after: float
    schedule: Schedule = field(default_factory=Schedule)

    def resync_silent(self, node: Node, address: str) -> None:
        """Correct the progress of every silent model of a node that answers, and look for uploaded ones."""
        now = self.clock()
        for model in self.models.on_dataset(node.dataset_id):
            is_overdue = model.is_overdue(now, node.ready_at)
            if not model.is_training or not (is_overdue or self.schedule.is_due(model.model_id, now)):
                continue
            if not model.is_hosted:
                self._look_for(model, node, address, is_overdue=is_overdue)
            elif now - model.progress_at > self.silent_after:
                self.schedule.set(model.model_id, now + self.silent_after)
                self._resync(model.model_id, node, address)

    def _look_for(self, model: Model, node: Node, address: str, *, is_overdue: bool) -> None:
        """Record that the node hosts the model, if it does; else look again soon, or later if it is overdue.

        A node no longer runs for a model that is overdue, once it has answered that it doesn't host it.
        """
        try:
            if self.server.hosts(address, model, self.secrets.credential(node)):
                self.models.record_hosted(model, self.clock())
                self.schedule.remove(model.model_id)
                log.info("model.hosted", model_id=model.model_id, node_id=node.node_id)
                return
            if is_overdue and self.models.release(model, MISSED, self.clock()):
                log.info("model.released", model_id=model.model_id, node_id=node.node_id)
                self.audit.record(AuditEntry("service", "model.upload", f"model:{model.model_id}", MISSED))
        except OrchestrationError as error:
            log.warning("model.not_looked_for", model_id=model.model_id, error=str(error))
        now = self.clock()
        if is_overdue:
            self.schedule.back_off(model.model_id, now)
        else:
            self.schedule.set(model.model_id, now + LOOK_INTERVAL)

    def _resync(self, model_id: str, node: Node, address: str) -> None:
        try:
            model = self.models.get(model_id)  # `on_dataset` leaves out the history
            checkpoint = self.server.newest_checkpoint(
                address, model, self.secrets.credential(node), beyond=model.totals.cycle + 1
            )
            progress = lost_progress(model, checkpoint)
            if progress is not None and self.progress.record(model.name_on_node, progress, node=node):
                log.warning("model.resynced", model_id=model_id, cycle=progress.cycle)
        except OrchestrationError as error:
            log.warning("model.not_resynced", model_id=model_id, error=str(error))
