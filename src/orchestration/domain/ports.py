"""What the use cases need from outside systems. The adapters implement these protocols.

Every method may raise `Upstream` when the outside system does not answer. Docstrings name the other errors.
"""

from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Protocol

from orchestration.domain.credentials import StoredKey
from orchestration.domain.cycle import Progress, Report
from orchestration.domain.entities import Caller, Dataset, Model, User
from orchestration.domain.node import ListedStack, Node, NodeStack, Quota

Clock = Callable[[], float]
"""Returns the time in seconds since the epoch."""

State = bytes | memoryview
"""The parameters of a model as its node serializes them. Up to hundreds of megabytes: don't copy it."""


class TokenVerifier(Protocol):
    """Verifies Cognito access tokens."""

    def verify(self, token: str) -> Caller:
        """Return the person to whom a token was issued.

        Raises Unauthenticated if the token is not valid; the message never contains the token.
        """


class Datasets(Protocol):
    """The dataset table, which the marketplace owns."""

    def get(self, dataset_id: str) -> Dataset:
        """Return the dataset. Raises NotFound if there is none, Conflict if its item is malformed."""

    def mark_set_up(self, dataset_id: str) -> None:
        """Record that a device of the app has called. Does nothing if the dataset is gone."""

    def publish_node(self, dataset_id: str, address: str) -> None:
        """Write the address of the dataset's node. Does nothing if the dataset is gone."""

    def unpublish_node(self, dataset_id: str) -> None:
        """Remove the address of the dataset's node. Does nothing if the dataset is gone."""


class Users(Protocol):
    """The user table, which the marketplace owns."""

    def named(self, username: str) -> Sequence[User]:
        """Return the rows with this Cognito username, usually one; an empty sequence if there are none.

        Users edit their rows, so a row may claim the username of another user.
        """

    def mask_legacy_key(self, user: User, hint: str) -> None:
        """Replace the plaintext key in the user's item by `hint`.

        Does nothing if the item no longer holds the key that was read with `user`.
        """


class ApiKeys(Protocol):
    """The table of API keys."""

    def find(self, key_hash: str) -> StoredKey | None:
        """Return the key with this hash (hex), or None."""

    def of(self, owner: str) -> Sequence[StoredKey]:
        """Return all keys of an app developer, an empty sequence if there are none."""

    def put(self, key: StoredKey) -> None:
        """Store a key, or an earlier end of the owner's key with the same hash.

        Does nothing if the key belongs to another owner, or ends earlier already.
        """

    def used(self, key: StoredKey, now: float) -> None:
        """Record when a key was used. Does nothing if the key is gone."""


SUBJECTS = ("dataset", "model", "user")
"""What an entry of the audit log can be about."""


@dataclass(frozen=True, slots=True)
class AuditEntry:
    """One action and its result."""

    actor: str
    """The caller's username, a node's id, or `service` for what the reconciler does on its own."""
    action: str
    subject: str
    """One of `SUBJECTS`, a colon and an id."""
    result: str
    """`ok`, or the status and the message of the error; why a node skipped a cycle."""


class AuditLog(Protocol):
    """The audit log, for operators."""

    def record(self, entry: AuditEntry) -> None:
        """Append an entry. Never raises: an action does not fail because it can't be audited."""


class DownloadLinks(Protocol):
    """Signs download links."""

    def link(self, model_id: str, download_key: str) -> str:
        """Return the link to a model, bound to a key that is stored with the model."""

    def verify(self, model_id: str, signed_key: str) -> str:
        """Return the download key inside a link's parameter `key`.

        Raises NotFound if the signature is not valid, whether or not the model exists.
        """


class UploadTokens(Protocol):
    """Signs upload tokens, which `/create` answers with and a node passes on with an upload."""

    def token(self, node_id: str, name: str, version: str) -> str:
        """Return a token for one model on one node, valid for an hour."""

    def is_valid(self, token: str, node_id: str, name: str, version: str) -> bool:
        """Return whether a token is valid for this model on this node. Never raises."""


class Models(Protocol):
    """The models: as artificienlib submits them, and this service's own record of each accepted one.

    The library's rights allow anybody to write any attribute of any submitted item. So a submission says only
    whose model it is, of which version, and for which dataset, until `/create` has accepted it. From then on
    everything is decided by the record. One record exists for all spellings of a name that differ in case
    only. The submitted item shows the record to the marketplace.
    """

    def get(self, model_id: str) -> Model:
        """Return the record of a model, or what was submitted, read consistently. Raises NotFound, Conflict.

        The id is looked up as given, then in lower case. A record is also found by its name on the node.
        """

    def hosted(self, name: str) -> Model:
        """Return the record of the model with exactly this name on its node. Raises NotFound."""

    def accept(
        self,
        model: Model,
        features: Sequence[str],
        labels: Sequence[str],
        hosted_as: str | None,
        now: float,
        network: str | None = None,
    ) -> Model:
        """Record what a model trains on and when its owner requested its node; return the record.

        `network` is where the request comes from, if that is known. `hosted_as` is the node's name for the
        model, if it differs from the id. Restores the submitted item where it doesn't show the record.
        Raises Conflict if another model has the name in any spelling, the model has completed or was
        withdrawn, or it is hosted with other columns or under another name: devices may have been given them.
        Raises Overtaken.
        """

    def show(self, model: Model) -> None:
        """Restore the submitted item where it doesn't show the record, as after it was sent again."""

    def record_hosted(self, model: Model, now: float) -> None:
        """Record that the node hosts the model, and forget refused and missing uploads. Idempotent."""

    def release(self, model: Model, reason: str, now: float) -> bool:
        """Record that a model that is not uploaded no longer keeps its node running, and tell its owner.

        Return False if it was uploaded, requested or released since `model` was read.
        """

    def upload_failed(self, model: Model, failure: str, now: float, *, is_new: bool = False) -> bool:
        """Record why an upload was refused; return False if one was recorded within a minute.

        With `is_new`, return False only if the same failure was recorded last.
        """

    def on_dataset(self, dataset_id: str) -> Sequence[Model]:
        """Return the records of a dataset's active models, without counters and histories.

        Eventually consistent. Malformed items are logged and left out.
        """

    def datasets_due(self) -> Collection[str]:
        """Return the ids of all datasets with completed models that are not in the bucket yet."""

    def to_retrieve(self, dataset_id: str) -> Sequence[Model]:
        """Return the completed models of a dataset that are not in the bucket yet. Eventually consistent."""

    def count(self, model: Model, report: Report) -> None:
        """Add one device's report to the running cycle, atomically.

        Raises Overtaken if the model no longer trains.
        """

    def reject(self, model: Model) -> None:
        """Count a report that was refused."""

    def close_cycle(self, model: Model, progress: Progress, now: float) -> None:
        """Close the cycle that was running when `model` was read.

        Each report is counted either in the closed cycle or in the next one, never in both, never in
        neither. Raises Overtaken if another process has closed the cycle.
        """

    def finish_closing(self, model: Model) -> None:
        """Complete a closing that was interrupted. Does nothing if none was, or another process has."""

    def retrieved(self, model: Model, download_key: str, link: str) -> None:
        """Record that the trained model is in the bucket, with its link. Does nothing if it was withdrawn."""

    def relink(self, model: Model, download_key: str, link: str) -> None:
        """Replace the download link. Raises Overtaken if the link has changed since `model` was read."""

    def not_retrieved(self, model: Model, error: str) -> int:
        """Record why the last retrieval failed, and return how many have.

        Does nothing if the model was withdrawn, and returns 0.
        """

    def withdraw(self, model: Model, now: float) -> None:
        """End the training and remove the download link. Raises NotFound if the model is gone."""

    def publish_node(self, model: Model, address: str) -> None:
        """Write the address of the model's node. Raises NotFound if the model is gone."""

    def unpublish_node(self, dataset_id: str) -> None:
        """Remove the node's address from every model of the dataset that has one."""


class Nodes(Protocol):
    """The service's own record of every node.

    Writes that depend on what was read are conditional, and raise Overtaken if the record has changed since.
    """

    def get(self, node_id: str) -> Node | None:
        """Return the record, read consistently, or None."""

    def all(self) -> Iterable[Node]:
        """Return every record, read consistently, page by page."""

    def request(self, dataset_id: str, now: float, requested_by: str) -> Node:
        """Record that a dataset's node should run, and return the record, which is created if missing.

        The record is marked for the reconciler's attention, as by `wake` and `let_go`.
        """

    def wake(self, node: Node, now: float, requested_by: str, wake_at: float) -> None:
        """Record that a stopped node should run, for a device; not again before `wake_at`.

        Raises Overtaken if another device has woken the node, or it was launched.
        """

    def let_go(self, node: Node, wake_at: float | None = None) -> None:
        """Record that a node should stop; with `wake_at`, no device wakes it before that time.

        Raises Overtaken if the node was requested since `node` was read.
        """

    def needing_attention(self) -> Collection[str]:
        """Return the ids of all nodes that are marked for attention. Eventually consistent."""

    def take_attention(self, node_id: str) -> None:
        """Remove the mark. Raises Overtaken if another process has removed it."""

    def device_seen(self, dataset_id: str, now: float) -> None:
        """Record that a device has shown a valid key. The record is created if missing."""

    def progress_seen(self, node: Node, now: float) -> None:
        """Record that a node has closed a cycle."""

    def check_quota(self, buyer: str, quota: Quota) -> None:
        """Raise QuotaExceeded if no node may be launched for this buyer now. Only `claim` is binding."""

    def claim(self, node: Node, now: float, quota: Quota) -> Node:
        """Start the next generation, count it on its buyer's quota, and return the record.

        Raises QuotaExceeded; Overtaken if another process has started it.
        """

    def release(self, node: Node, changes: Mapping[str, object]) -> Node:
        """Record that a generation has ended, with these changes; stop counting it on its buyer's quota.

        Raises Overtaken as `change` does.
        """

    def change(self, node: Node, changes: Mapping[str, object]) -> Node:
        """Write these fields and return the record.

        Raises Overtaken if generation, status, desired state or number of deletions are not as in `node`:
        everything that decisions rest on.
        """


@dataclass(frozen=True, slots=True)
class NodeSecret:
    """The secret of one generation of a node: where it is kept, and its SHA-256 (hex)."""

    reference: str
    secret_hash: str
    database_url: str = field(repr=False)
    """Of the node's own database, with the password of this generation."""


@dataclass(frozen=True, slots=True)
class NodeCredential:
    """Credential with which a node and this service authenticate to each other, by HTTP Basic."""

    user: str
    password: str = field(repr=False)


class NodeSecrets(Protocol):
    """The store of each node's credential and database URL."""

    def ensure(self, node: Node) -> NodeSecret:
        """Return the secret of this generation, which is created if it is missing."""

    def credential(self, node: Node) -> NodeCredential:
        """Return the credential of this generation. Raises Upstream, also if there is no secret."""

    def discard(self, node: Node) -> None:
        """Delete the secret of this generation; no error if there is none."""

    def all(self) -> Iterable[tuple[str, int]]:
        """Return node id and generation of every secret, unordered. Iterating may raise Upstream."""


class NodeDatabases(Protocol):
    """The nodes' databases: one each, and one login each that opens no other.

    A node's state is in its database, which is kept when its stack is deleted: the next generation finds the
    unfinished models. Each generation has a new password.
    """

    def new_url(self, node: Node) -> str:
        """Return a URL for this generation, with a new password. Calls nothing and creates nothing.

        The URL ends in a slash; the node appends its database's name.
        """

    def ensure(self, node: Node, database_url: str) -> None:
        """Create the database if it is missing, and make `database_url` of this generation valid for it.

        Idempotent; a call for a past generation does not restore its password. Does not wait for a paused
        database: raises DatabaseWaking.
        """

    def discard(self, node: Node) -> None:
        """Drop the database with all models in it, and the login; no error if there are none.

        For the node of a deleted dataset; retiring a node never calls this. Raises DatabaseWaking.
        """

    def all(self) -> Iterable[str]:
        """Return the ids of all nodes that have a database or a login, sorted. Raises DatabaseWaking."""


class Deletion(StrEnum):
    """How a stack is deleted."""

    PLAIN = "plain"
    RETAINING = "retaining"  # retain the resources that could not be deleted
    BY_FORCE = "by force"


class NodeStacks(Protocol):
    """Node stacks on CloudFormation.

    Methods that change a stack take a stack that was described before. They raise StackFailed if
    CloudFormation refuses, and are idempotent: two calls for the same record have the effect of one.
    """

    def describe(self, node: Node) -> NodeStack:
        """Return the stack of this generation, looked up by its ARN if that is recorded, else by its name."""

    def all(self) -> Iterable[ListedStack]:
        """Return every undeleted stack with the service's tag, page by page. Eventually consistent."""

    def explain(self, node: Node, stack: NodeStack) -> str:
        """Return the root cause of a failure, for a data scientist, or "" if none is known."""

    def launch(self, node: Node, secret_reference: str) -> str | None:
        """Create the stack of this generation and return its ARN; None if it exists already."""

    def delete(self, node: Node, stack: NodeStack, how: Deletion) -> Sequence[str]:
        """Start the deletion of a stack, no error if it is deleted; return the retained resources."""

    def cancel_update(self, node: Node, stack: NodeStack) -> None:
        """Cancel an update that is under way."""

    def roll_back(self, node: Node, stack: NodeStack) -> None:
        """Roll back an update that failed."""

    def continue_rollback(self, node: Node, stack: NodeStack) -> None:
        """Continue the rollback of an update that failed."""


class NodeResources(Protocol):
    """What node stacks consist of and what costs money, found without CloudFormation."""

    def all(self) -> Collection[str]:
        """Return the ARNs of all resources that are named like those of a node."""

    def outside(self, arns: Iterable[str], stacks: Iterable[ListedStack]) -> Collection[str]:
        """Return those of these ARNs that belong to none of these stacks. Calls nothing."""


class NodeServer(Protocol):
    """HTTP client for PyGrid nodes.

    Requests for checkpoints carry the node's credential, which the original node ignores.
    """

    def answers(self, address: str, node_id: str) -> bool:
        """Whether the node with this id answers at the address and is healthy. Never raises."""

    def hosts(self, address: str, model: Model, credential: NodeCredential) -> bool:
        """Return whether the model was uploaded to the node. Raises NodeUnreachable, UnusableModel."""

    def newest_checkpoint(self, address: str, model: Model, credential: NodeCredential, beyond: int) -> int:
        """Return the number of the newest checkpoint; at least `beyond`, which is known to exist.

        Checkpoint 1 is the upload, and each cycle creates the next one. Raises NodeUnreachable,
        UnusableModel.
        """

    def trained_model(self, address: str, model: Model, credential: NodeCredential) -> State:
        """Return the newest checkpoint's protobuf, checked against the shapes of the first.

        Raises NodeUnreachable, UnusableModel.
        """


class ModelForm(StrEnum):
    """The forms in which a trained model can be downloaded."""

    SAFETENSORS = "safetensors"
    STATE = "state"  # the protobuf `State` of PyGrid, as the node sends it
    PKL = "pkl"  # the same bytes, as `torch.save` writes them: the file of the original service


class ModelBucket(Protocol):
    """The private bucket of trained models."""

    def store(self, model: Model, state: State) -> None:
        """Store the model in each form. Idempotent. Raises UnusableModel, Upstream."""

    def fresh_url(self, model_id: str, form: ModelForm) -> str:
        """Return a presigned URL of one form, valid for a few minutes."""
