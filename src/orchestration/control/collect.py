"""Brings trained models from their node into the bucket, and hands them to their owner."""

import secrets
from collections.abc import Callable
from dataclasses import dataclass, field

import structlog

from orchestration.domain.decision import pause_after
from orchestration.domain.entities import Caller, Model
from orchestration.domain.errors import Conflict, NotFound, Upstream
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

log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class RetrievalService:
    """Fetches what is due; `link_of(model_id, download_key)` builds the stable download link."""

    models: Models
    server: NodeServer
    secrets: NodeSecrets
    bucket: ModelBucket
    link_of: Callable[[str, str], str]
    audit: AuditLog
    clock: Clock
    next_turn: dict[str, tuple[float, int]] = field(default_factory=dict)
    """When each model that could not be fetched is tried again, and how often it was; a try is two models."""

    def retrieve_due(self, node: Node, address: str) -> None:
        """Retrieve every complete model of the node's dataset.

        What fails stays due, and its cause is kept; it is tried again after a while, an hour at most.
        """
        now = self.clock()
        for model in self.models.to_retrieve(node.dataset_id):
            turn, failures = self.next_turn.get(model.model_id, (0.0, 0))
            if now < turn:
                continue
            try:
                self._retrieve(model, node, address)
                self.next_turn.pop(model.model_id, None)
            except Upstream as error:
                log.warning("model.not_retrieved", model_id=model.model_id, cause=str(error))
                self.next_turn[model.model_id] = (now + pause_after(failures + 1), failures + 1)
                self.models.not_retrieved(model, str(error))

    def _retrieve(self, model: Model, node: Node, address: str) -> None:
        """The file first, the word that it is there last: dying in between only means doing it again."""
        credential = self.secrets.credential(node)
        self.bucket.store(model, self.server.trained_model(address, model, credential))
        download_key = model.download_key or new_download_key()
        self.models.retrieved(model, download_key, self.link_of(model.model_id, download_key))
        self.audit.record(AuditEntry("service", "model.retrieve", f"model:{model.model_id}", "ok"))
        log.info("model.retrieved", model_id=model.model_id)


@dataclass(frozen=True, slots=True)
class DownloadService:
    """Lets the holder of a download link have the file; `link_of(model_id, download_key)` builds links."""

    models: Models
    fresh_url: Callable[[str], str]
    link_of: Callable[[str, str], str]

    def url(self, model_id: str, download_key: str) -> str:
        """Return a presigned URL for a link whose signature was checked.

        Raises NotFound once the link is taken back.
        """
        model = self.models.get(model_id)
        if model.download_key is None or not secrets.compare_digest(model.download_key, download_key):
            raise NotFound("This download link is no longer valid.")
        return self.fresh_url(model.model_id)

    def rotate(self, model_id: str, *, caller: Caller) -> str:
        """Give the model's owner a new link and void the old one. Raises NotFound, AccessDenied, Conflict."""
        model = self.models.get(model_id)
        model.must_belong_to(caller)
        download_key = new_download_key()
        link = self.link_of(model.model_id, download_key)
        if model.download_key is None or not self.models.relink(model, download_key, link):
            raise Conflict(f"Model {model.model_id!r} has no download link to replace.")
        return link


def new_download_key() -> str:
    """Return what a link's signature is bound to; 128 random bits."""
    return secrets.token_urlsafe(16)
