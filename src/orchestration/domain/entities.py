"""Datasets, models and users of the marketplace, as frozen values."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from orchestration.domain.cycle import COMPLETE, NO_REPORTS, ClosedCycle, SealedCycle, Totals
from orchestration.domain.errors import AccessDenied, Conflict

MOST_FAILURES = 10
"""Failed retrievals after which a model no longer keeps its node running.

They take three hours with the pauses of `Schedule`: longer than most outages. After that, the model itself is
more likely to be the reason, and a node that waited for it would run, and cost money, for ever.
"""

UPLOAD_WITHIN = 3600.0
"""Seconds after `/create`, and after its node was ready, for which an accepted model waits for its upload.

artificienlib connects three minutes after `ready`, and an upload takes some minutes.
"""


@dataclass(frozen=True, slots=True)
class Caller:
    """A person whose Cognito token was verified."""

    username: str


@dataclass(frozen=True, slots=True)
class User:
    """A row of the user table: a data scientist, an app developer, or both."""

    user_id: str
    username: str
    purchased: frozenset[str]
    legacy_api_key: str | None = None
    """The plaintext key made at sign-up, as long as the row holds one."""


@dataclass(frozen=True, slots=True)
class Dataset:
    """A dataset that one app offers for training."""

    dataset_id: str
    owner: str
    is_set_up: bool = False
    """Whether a device of the app has called the service (`properlySetUp`)."""
    node_address: str | None = None
    """The node's address as the marketplace shows it; the node's record is authoritative."""


@dataclass(frozen=True, slots=True)
class Model:
    """A model that a data scientist trains on a dataset."""

    model_id: str
    owner: str
    dataset_id: str
    version: str
    is_active: bool
    percent_complete: int
    features: tuple[str, ...] = ()
    labels: tuple[str, ...] = ()
    hosted_as: str | None = None
    """The model's name on the node, if `/create` spelled it differently."""
    hosted_at: float = 0.0
    """When the node was first known to host the model; 0 before its upload."""
    released_at: float = 0.0
    """When the model stopped keeping its node running, because it was not uploaded in time; 0 for never."""
    networks: Mapping[str, float] = field(default_factory=dict, compare=False)
    """The networks from which its owner has called `/create`, with the time to ten minutes."""
    upload_failure: str = ""
    """Why an upload was refused, or is missing, since the last one that was stored."""
    retrieval_due: bool = False
    retrieval_failures: int = 0
    """Retrievals that have failed since the model was complete."""
    download_key: str | None = None
    """Key that the signature of the download link covers; set once the file is in the bucket."""
    node_address: str | None = None
    ended_at: float = 0.0
    """When the model was complete or withdrawn, in seconds since the epoch; 0 while it trains."""
    progress_at: float = 0.0
    """When its owner last requested its node, to the hour (before the upload, to ten minutes), or its node
    closed a cycle."""
    cycles: int | None = None
    """How many cycles the model has in all, once its node has said so; the original node does not."""
    totals: Totals = NO_REPORTS
    sealed: SealedCycle | None = None
    """A cycle that is closed but not yet in the history: a process died between the two."""
    history: tuple[ClosedCycle, ...] = ()
    """The last closed cycles, oldest first."""
    revision: int = field(default=0, compare=False)
    """How many changes of what the marketplace shows were recorded."""

    def must_belong_to(self, caller: Caller) -> None:
        """Raise AccessDenied unless the caller owns the model."""
        if self.owner != caller.username:
            raise AccessDenied("This model belongs to another user.")

    def must_train(self) -> None:
        """Raise Conflict if the model is complete or was withdrawn."""
        if not self.is_active:
            state = "is already trained" if self.percent_complete >= COMPLETE else "was withdrawn"
            raise Conflict(f"Model {self.model_id!r} {state}. Send it under a new name or version.")

    def must_be_as(self, features: Sequence[str], labels: Sequence[str], hosted_as: str | None) -> None:
        """Raise Conflict if a node hosts the model with other columns, or under another name."""
        if not self.is_hosted:
            return
        if hosted_as != self.hosted_as:
            raise Conflict(
                f"Model {self.model_id!r} is hosted as {self.name_on_node!r}. "
                "Send it under a new name or version."
            )
        if (tuple(features), tuple(labels)) != (self.features, self.labels):
            raise Conflict(
                f"Model {self.model_id!r} trains already, on the features {_listed(self.features)} and the "
                f"labels {_listed(self.labels)}. Send it under a new name or version."
            )

    @property
    def is_accepted(self) -> bool:
        """Whether `/create` has accepted the model, which artificienlib submits before."""
        return bool(self.features and self.labels)

    @property
    def is_hosted(self) -> bool:
        """Whether the model was uploaded to its node."""
        return self.hosted_at > 0

    @property
    def is_training(self) -> bool:
        """Whether the model trains once it is uploaded."""
        return self.is_active and self.is_accepted and self.percent_complete < COMPLETE

    @property
    def needs_node(self) -> bool:
        """Whether the model trains, and its upload is not overdue; it keeps its node running until stale."""
        return self.is_training and not self.released_at

    def is_overdue(self, now: float, ready_at: float) -> bool:
        """Whether the upload should have come by now, on a node that was ready at `ready_at`."""
        waits = self.needs_node and not self.is_hosted
        return waits and now >= max(self.progress_at, ready_at) + UPLOAD_WITHIN

    @property
    def awaits_retrieval(self) -> bool:
        """Whether the model is complete and keeps its node running until its file is in the bucket."""
        return self.retrieval_due and self.retrieval_failures < MOST_FAILURES

    def is_stale(self, now: float, stale_after: float) -> bool:
        """Whether the model has made no progress for `stale_after` seconds.

        It then no longer keeps its node running. A model without a recorded progress is never stale.
        """
        return 0 < self.progress_at < now - stale_after

    @property
    def name_on_node(self) -> str:
        """The model's name on the node."""
        return self.hosted_as or self.model_id


def _listed(columns: Sequence[str]) -> str:
    return ", ".join(map(repr, columns))
