"""Finds out what became of models that have been silent too long: the original node never says it twice."""

from dataclasses import dataclass, field

import structlog

from orchestration.domain.errors import Contended, Upstream
from orchestration.domain.healing import progress_from
from orchestration.domain.node import Node
from orchestration.domain.ports import Clock, Models, NodeSecrets, NodeServer
from orchestration.domain.progress import TrainingService

log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class HealingService:
    """`silent_after`: after how many seconds without progress a model is asked for, and how often then."""

    models: Models
    server: NodeServer
    secrets: NodeSecrets
    training: TrainingService
    clock: Clock
    silent_after: float
    next_turn: dict[str, float] = field(default_factory=dict)
    """When each silent model's turn comes again; forgotten, it is asked for once more."""

    def heal(self, node: Node, address: str) -> None:
        """Look at the silent models of a node that answers."""
        now = self.clock()
        for model in self.models.on_dataset(node.dataset_id):
            is_silent = model.is_training and now - model.progress_at > self.silent_after
            if is_silent and now >= self.next_turn.get(model.model_id, 0.0):
                self.next_turn[model.model_id] = now + self.silent_after
                self._heal(model.model_id, node, address)

    def _heal(self, model_id: str, node: Node, address: str) -> None:
        model = self.models.get(model_id)  # the index shows no history
        try:
            checkpoint = self.server.newest_checkpoint(
                address, model, self.secrets.credential(node), beyond=model.tally.cycle + 1
            )
            progress = progress_from(model, checkpoint)
            if progress is not None and self.training.record_progress(model_id, progress, node=node):
                log.warning("model.healed", model_id=model_id, cycle=progress.cycle)
        except (Upstream, Contended) as error:
            log.warning("model.not_healed", model_id=model_id, cause=str(error))
