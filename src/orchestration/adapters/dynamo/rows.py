"""The shapes of items: an item is checked before anything in it is used."""

from typing import Annotated, Any

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, StrictStr, ValidationError

from orchestration.domain.credentials import is_generated, is_hint
from orchestration.domain.cycle import ClosedCycle, SealedCycle, Totals
from orchestration.domain.entities import Dataset, Model, User

Name = Annotated[StrictStr, Field(min_length=1)]
Columns = Annotated[tuple[Name, ...], Field(min_length=1)]
Finite = Annotated[float, Field(allow_inf_nan=False)]
Count = Annotated[int, Field(ge=0)]
Sample = dict[str, Finite]


class Row(BaseModel):
    """An item. Attributes that this service does not use are ignored, all others are checked."""

    model_config = ConfigDict(frozen=True, extra="ignore")


class SubmissionRow(Row):
    """What this service reads of an item of the model table, which anybody's library may write."""

    model_id: Name
    owner_name: Name
    dataset: Name
    version: Name
    active_status: int

    def entity(self) -> Model:
        """Return a model that is not accepted."""
        return Model(
            model_id=self.model_id,
            owner=self.owner_name,
            dataset_id=self.dataset,
            version=self.version,
            is_active=self.active_status == 1,
            percent_complete=0,
        )


class ModelRow(SubmissionRow):
    """The record of an accepted model, an item of the training table."""

    percent_complete: Annotated[int, Field(ge=0, le=100)]
    features: Columns
    labels: Columns
    hosted_as: Name | None = None
    hosted_at: Finite = 0.0
    released_at: Finite = 0.0
    networks: dict[str, Finite] = {}
    upload_failure: str = ""
    retrieval_due: Name | None = None
    retrieval_error: str | None = None
    retrieval_failures: Count = 0
    download_key: Name | None = None
    download_link: Name | None = None
    node_URL: str | None = None  # noqa: N815 - the marketplace's name
    devices_trained_this_cycle: Count = 0
    closed_cycles: Count = 0
    loss_sum: Finite = 0.0
    acc_sum: Finite = 0.0
    acc_devices: Count = 0
    loss_sample: Sample = {}
    ended_at: Finite = 0.0
    withdrawn_at: str | None = None
    progress_at: Finite = 0.0
    cycles: Annotated[int, Field(ge=1)] | None = None
    sealed_at: Finite | None = None
    sealed_devices: Count = 0
    sealed_loss_sum: Finite = 0.0
    sealed_acc_sum: Finite = 0.0
    sealed_acc_devices: Count = 0
    sealed_loss_sample: Sample = {}
    history: tuple[ClosedCycle, ...] = ()
    rejected_reports: Count = 0
    revision: Count = 0

    def totals(self) -> Totals:
        """Return the counters of the running cycle."""
        return Totals(
            cycle=self.closed_cycles,
            devices=self.devices_trained_this_cycle,
            loss_sum=self.loss_sum,
            acc_sum=self.acc_sum,
            acc_devices=self.acc_devices,
            sample=self.loss_sample,
        )

    def sealed(self) -> SealedCycle | None:
        """Return the cycle that is closed but not yet in the history."""
        if self.sealed_at is None:
            return None
        totals = Totals(
            cycle=self.closed_cycles - 1,
            devices=self.sealed_devices,
            loss_sum=self.sealed_loss_sum,
            acc_sum=self.sealed_acc_sum,
            acc_devices=self.sealed_acc_devices,
            sample=self.sealed_loss_sample,
        )
        return SealedCycle(self.closed_cycles, self.percent_complete, totals, self.sealed_at)

    def entity(self) -> Model:
        """Return the domain's model."""
        return Model(
            model_id=self.model_id,
            owner=self.owner_name,
            dataset_id=self.dataset,
            version=self.version,
            is_active=self.active_status == 1,
            percent_complete=self.percent_complete,
            features=self.features,
            labels=self.labels,
            hosted_as=self.hosted_as,
            hosted_at=self.hosted_at,
            released_at=self.released_at,
            networks=self.networks,
            upload_failure=self.upload_failure,
            retrieval_due=self.retrieval_due is not None,
            retrieval_failures=self.retrieval_failures,
            download_key=self.download_key,
            node_address=self.node_URL,
            ended_at=self.ended_at,
            progress_at=self.progress_at,
            cycles=self.cycles,
            totals=self.totals(),
            sealed=self.sealed(),
            history=self.history,
            revision=self.revision,
        )


class DatasetRow(Row):
    """An item of the dataset table, as the marketplace writes it."""

    dataset_id: Name
    owner_username: Name
    properlySetUp: bool = False  # noqa: N815 - the marketplace's name
    nodeURL: str | None = None  # noqa: N815 - the marketplace's name

    def entity(self) -> Dataset:
        """Return the domain's dataset."""
        return Dataset(
            dataset_id=self.dataset_id,
            owner=self.owner_username,
            is_set_up=self.properlySetUp,
            node_address=self.nodeURL or None,
        )


def faults_of(error: ValidationError) -> str:
    """Return the names of the attributes that are missing or malformed."""
    return ", ".join(".".join(map(str, fault["loc"])) for fault in error.errors())


def _strings(value: Any) -> Any:
    """Return the strings of a list or a set: the marketplace has written both, and other values in them."""
    return [part for part in value if isinstance(part, str)] if isinstance(value, list | set) else ()


class UserRow(Row):
    """An item of the user table, as the marketplace writes it."""

    user_id: Name
    username: Name
    datasets_purchased: Annotated[frozenset[str], BeforeValidator(_strings)] = frozenset()
    api_key: Any = None

    def entity(self) -> User:
        """Return the domain's user. A hint is no key, and a generated key is valid only by its hash."""
        key = self.api_key if isinstance(self.api_key, str) and self.api_key else None
        legacy = None if key is None or is_hint(key) or is_generated(key) else key
        return User(self.user_id, self.username, self.datasets_purchased, legacy)
