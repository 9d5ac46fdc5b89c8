"""Use cases of nodes: may this model be uploaded, and how did the upload end (`/model_upload`)."""

from dataclasses import dataclass

import structlog

from orchestration.domain.entities import Model
from orchestration.domain.errors import AccessDenied, Conflict, NotFound
from orchestration.domain.node import Node
from orchestration.domain.ports import AuditEntry, AuditLog, Clock, Models, UploadTokens
from orchestration.domain.progress import ProgressService
from orchestration.domain.uploads import SEEN_WITHIN, Upload, UploadBinding, network_of

log = structlog.get_logger(__name__)

YOURS = "If it was yours, call /create from where you upload, and upload the model within an hour."
EXISTS = (
    "An upload was refused, because the node hosts this model already. "
    "If you have not uploaded it, withdraw the model and choose another name."
)


@dataclass(frozen=True, slots=True, kw_only=True)
class UploadService:
    """Use cases of uploads."""

    progress: ProgressService
    models: Models
    tokens: UploadTokens
    audit: AuditLog
    binding: UploadBinding
    clock: Clock

    def check(self, upload: Upload, *, node: Node) -> None:
        """Raise an error unless a node may host a model, and the upload is by whoever called `/create`.

        The owner of the model sees a refused upload in the answer of `/create` and in the audit log. Raises
        InvalidRequest, NotFound, AccessDenied; Conflict if the model is not accepted, or doesn't train.
        """
        network = None if upload.address is None else network_of(upload.address)
        model = self._training(upload, node)
        if refusal := self._refusal(upload, model, network, node):
            self._failed(model, refusal, node)
            raise AccessDenied(refusal)

    def stored(self, upload: Upload, *, node: Node) -> None:
        """Record that a node hosts a model, which devices train from now on. Raises as `check` does."""
        self.models.record_hosted(self._hosted(upload, node), self.clock())
        log.info("model.hosted", model_id=upload.model_id, node_id=node.node_id)

    def exists(self, upload: Upload, *, node: Node) -> None:
        """Record that a node has refused an upload, because it hosts the model already.

        The first upload may have been an attacker's, so the owner is told.
        """
        model = self._hosted(upload, node)
        if not model.is_hosted:
            self.models.record_hosted(model, self.clock())
        # A stranger's refused uploads, one a minute, must not hide this one.
        self._failed(model, EXISTS, node, is_new=True)

    def _hosted(self, upload: Upload, node: Node) -> Model:
        return self.progress.hosted(upload.model_id, upload.version, node=node)

    def _training(self, upload: Upload, node: Node) -> Model:
        try:
            model = self._hosted(upload, node)
        except NotFound:
            model = self.models.get(upload.model_id)
            if model.is_accepted or model.model_id != upload.model_id:
                raise
        if not model.is_training:
            raise Conflict(f"Model {upload.model_id!r} does not train. Call /create before the upload.")
        return model

    def _refusal(self, upload: Upload, model: Model, network: str | None, node: Node) -> str:
        """Return why an upload is not bound to the caller of `/create`, for the owner; "" if it is."""
        if self.binding is UploadBinding.OFF:
            return ""
        named = (node.node_id, upload.model_id, upload.version)
        if upload.token is not None and self.tokens.is_valid(upload.token, *named):
            return ""
        if self.binding is UploadBinding.TOKEN:
            return f"An upload without a valid upload token was refused. {YOURS}"
        if network is None:
            return "An upload was refused, because the node did not say where it came from."
        if self.clock() - model.networks.get(network, 0.0) > SEEN_WITHIN:
            return (
                f"An upload from {upload.address} was refused: within an hour, no address of its network "
                f"has called /create for this model. {YOURS}"
            )
        return ""

    def _failed(self, model: Model, failure: str, node: Node, *, is_new: bool = False) -> None:
        """Tell the owner, once a minute at most: anybody may upload, as often as they like."""
        if self.models.upload_failed(model, failure, self.clock(), is_new=is_new):
            entry = AuditEntry(node.node_id, "model.upload", f"model:{model.model_id}", failure)
            self.audit.record(entry)
