"""Datasets, models, users: what the marketplace is about, as frozen values."""

from dataclasses import dataclass

from orchestration.domain.cycle import COMPLETE, NO_REPORTS, ClosedCycle, SealedCycle, Totals
from orchestration.domain.errors import AccessDenied


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
    """The plaintext key of a sign-up, as long as the row still holds one."""


@dataclass(frozen=True, slots=True)
class Dataset:
    """What one app offers for training."""

    dataset_id: str
    owner: str
    is_set_up: bool = False
    """A device of the app has called us once (`properlySetUp`)."""
    node_address: str | None = None
    """Where the marketplace believes the node is; the node's own record is the truth."""


@dataclass(frozen=True, slots=True)
class Model:
    """What a data scientist trains on a dataset."""

    model_id: str
    owner: str
    dataset_id: str
    version: str
    is_active: bool
    percent_complete: int
    features: tuple[str, ...] = ()
    labels: tuple[str, ...] = ()
    hosted_as: str | None = None
    """The name under which the node knows it, where `/create` spelled it differently."""
    retrieval_due: bool = False
    download_key: str | None = None
    """What the signature of the download link is bound to; set once the file is in the bucket."""
    node_address: str | None = None
    ended_at: float = 0.0
    """When it was complete or withdrawn, in seconds since the epoch; 0 while it trains."""
    progress_at: float = 0.0
    """When its owner last asked for it, to the hour, or its node closed a cycle of it."""
    totals: Totals = NO_REPORTS
    sealed: SealedCycle | None = None
    """A cycle that is closed but not yet in the history: a process died between the two."""
    history: tuple[ClosedCycle, ...] = ()
    """The last closed cycles, oldest first."""

    def must_belong_to(self, caller: Caller) -> None:
        """Raise AccessDenied for anybody but the owner."""
        if self.owner != caller.username:
            raise AccessDenied("This model belongs to somebody else.")

    @property
    def is_accepted(self) -> bool:
        """`/create` has seen it: artificienlib writes items that nobody ever asked a node for."""
        return bool(self.features and self.labels)

    @property
    def is_training(self) -> bool:
        """Devices may work on it; it holds its node awake."""
        return self.is_active and self.is_accepted and self.percent_complete < COMPLETE

    def is_stale(self, now: float, stale_after: float) -> bool:
        """Whether it has made no progress for so many seconds; then it no longer holds its node awake.

        Of one that was accepted before this was noted, nobody can say.
        """
        return 0 < self.progress_at < now - stale_after

    @property
    def name_on_node(self) -> str:
        """What to ask the node for."""
        return self.hosted_as or self.model_id
