"""What the use cases need from the outside world. Adapters implement these; tests bring fakes.

Every method may raise `Upstream` when the outside system doesn't answer; only other errors are named.
"""

from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Protocol

from orchestration.domain.credentials import StoredKey
from orchestration.domain.cycle import Progress, Report, Tally
from orchestration.domain.entities import Caller, Dataset, Model, User, Wanted
from orchestration.domain.node import ListedStack, Node, NodeStack, Quota

Clock = Callable[[], float]
"""What time it is, in seconds since the epoch."""


class TokenVerifier(Protocol):
    """Knows whether a Cognito access token holds."""

    def verify(self, token: str) -> Caller:
        """Return whose token it is. Raises Unauthenticated; never repeats the token."""


class Datasets(Protocol):
    """The dataset table."""

    def get(self, dataset_id: str) -> Dataset:
        """Return the dataset. Raises NotFound."""

    def mark_set_up(self, dataset_id: str) -> None:
        """Note that the app is set up."""

    def publish_node(self, dataset_id: str, address: str) -> None:
        """Show the marketplace where the node is."""

    def unpublish_node(self, dataset_id: str) -> None:
        """Show the marketplace that there is no node."""


class Users(Protocol):
    """The user table."""

    def named(self, username: str) -> User:
        """Return the user with this Cognito username. Raises NotFound."""

    def mask_legacy_key(self, user: User, hint: str) -> None:
        """Replace the row's plaintext key by `hint`, provided it still is the one in `user`."""


class ApiKeys(Protocol):
    """The key table."""

    def find(self, key_hash: str) -> StoredKey | None:
        """Return the key with this SHA-256 (hex), or None."""

    def of(self, owner: str) -> Sequence[StoredKey]:
        """Return all keys of one app developer."""

    def put(self, key: StoredKey) -> None:
        """Write a key, or its new expiry."""

    def used(self, key: StoredKey, now: float) -> None:
        """Note that a key was used; no error if it is gone."""


@dataclass(frozen=True, slots=True)
class AuditEntry:
    """Who did what to what, with what result: `ok`, or why not."""

    actor: str
    """A username, or `service` for what nobody asked for."""
    action: str
    subject: str
    """`dataset:`, `model:` or `user:`, and the id."""
    result: str


class AuditLog(Protocol):
    """What an operator can look up afterwards."""

    def record(self, entry: AuditEntry) -> None:
        """Note it. Never raises."""


class Models(Protocol):
    """The model table. Ids keep their letter case; where an item is missing, its lower-case id is tried."""

    def get(self, model_id: str) -> Model:
        """Return the model with its running tally, read consistently. Raises NotFound."""

    def accept(self, model: Model, wanted: Wanted, now: float) -> Model:
        """Record what `/create` asked for, and when. Raises Conflict when it stopped training meanwhile."""

    def on_dataset(self, dataset_id: str) -> Sequence[Model]:
        """Return the active models of a dataset, eventually consistent; malformed rows are skipped."""

    def datasets_due(self) -> Collection[str]:
        """Return the datasets with complete models whose file isn't in the bucket yet."""

    def to_retrieve(self, dataset_id: str) -> Sequence[Model]:
        """Return the complete models whose file isn't in the bucket yet, eventually consistent."""

    def count(self, model: Model, report: Report) -> Tally | None:
        """Add one device's report to the running cycle, atomically; None when the model no longer trains."""

    def reject(self, model: Model) -> None:
        """Count a report that was not believed, for owner and operator to see."""

    def close_cycle(self, model: Model, progress: Progress, now: float) -> bool:
        """Close the cycle that `model` shows and settle it; False if somebody else has closed it.

        Every report is counted either in the closed cycle or in the next one, never in both or none.
        """

    def settle(self, model: Model) -> None:
        """Finish a closing that was cut short; nothing if there is none."""

    def retrieved(self, model: Model, download_key: str, link: str) -> None:
        """Note that the file is in the bucket, provided its retrieval is still due."""

    def relink(self, model: Model, download_key: str, link: str) -> bool:
        """Replace the download link, provided there still is the one of `model`; else False."""

    def not_retrieved(self, model: Model, cause: str) -> None:
        """Keep the cause of the last failure, for the owner and the operator."""

    def withdraw(self, model: Model, now: float) -> None:
        """End the training, take back the download link; nothing is retrieved any more."""

    def publish_node(self, model: Model, address: str) -> None:
        """Show the owner where the node is."""

    def unpublish_node(self, dataset_id: str) -> None:
        """Clear the node's address from every model of the dataset that shows one."""


class Nodes(Protocol):
    """Our own record of every node. Every write is conditional on what the caller has seen."""

    def get(self, node_id: str) -> Node | None:
        """Return the record, read consistently, or None."""

    def all(self) -> Iterable[Node]:
        """Return every record."""

    def ask(self, dataset_id: str, now: float, asked_by: str) -> Node:
        """Wish the dataset's node up, making its record if there is none."""

    def wake(self, node: Node, now: float, asked_by: str, wake_at: float) -> bool:
        """Wish it up for a device, the next may at `wake_at`; False if somebody was here since `node`."""

    def device_seen(self, dataset_id: str, now: float) -> None:
        """Note that a device has shown a valid key, making the record if there is none."""

    def progress_seen(self, node: Node, now: float) -> None:
        """Note that the node has closed a cycle."""

    def let_go(self, node: Node, wake_at: float | None = None) -> bool:
        """Wish it down, provided nobody has asked for it since `node` was read.

        With `wake_at`, no device wakes it before.
        """

    def claim(self, node: Node, now: float, quota: Quota) -> Node | None:
        """Begin the next generation and charge it to who asked; None if somebody else has.

        Raises QuotaExceeded.
        """

    def release(self, node: Node, changes: Mapping[str, object]) -> Node | None:
        """Note that it is absent, with these changes, and charge it to nobody; None as for `change`."""

    def change(self, node: Node, changes: Mapping[str, object]) -> Node | None:
        """Write these fields, provided that what a decision rests on is still as in `node`; else None.

        That is its wish, generation, status, and how often its stack was asked to go.
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
    """What a node and this service prove themselves to each other with, by HTTP Basic."""

    user: str
    password: str = field(repr=False)


class NodeSecrets(Protocol):
    """Where a node's credential and database address are kept for it."""

    def ensure(self, node: Node) -> NodeSecret:
        """Make the secret of this generation, or return the one that is there."""

    def credential(self, node: Node) -> NodeCredential:
        """Return what the node of this generation knows. Raises Upstream, also if there is no secret."""

    def discard(self, node: Node) -> None:
        """Delete the secret of this generation; no error if there is none."""

    def all(self) -> Iterable[tuple[str, int]]:
        """Return node id and generation of every secret there is, in no order; raises while it is read."""


class NodeDatabases(Protocol):
    """The nodes' databases: one each, and one login each that opens no other.

    A node's state is in its database, so that outlives its stack: a node that goes idle, or is retired with
    unfinished models, finds them in its next generation. Only the password is of a generation.
    """

    def new_url(self, node: Node) -> str:
        """Make up the URL that this generation is to be given, with a new password; nothing is asked or made.

        It ends in a slash; the node appends its database's name.
        """

    def ensure(self, node: Node, database_url: str) -> None:
        """See to it that the database is there and `database_url`, of this generation, opens it; never waits.

        Again is the same, and a generation that is over takes nothing back. Raises DatabaseWaking.
        """

    def discard(self, node: Node) -> None:
        """Drop the database with all models in it, and the login; no error if there are none.

        For the node of a dataset that is gone for good; retiring a node never calls this. Raises
        DatabaseWaking.
        """

    def all(self) -> Iterable[str]:
        """Return the ids of all nodes that have a database or a login, sorted. Raises DatabaseWaking."""


class Deletion(StrEnum):
    """How a stack is asked to go."""

    PLAIN = "plain"
    RETAINING = "retaining"  # what could not be deleted is left behind
    BY_FORCE = "by force"


class NodeStacks(Protocol):
    """CloudFormation, as far as nodes are concerned.

    What changes a stack takes one that was described, raises StackFailed when CloudFormation refuses, and is
    the same wish when it is called again for the same record: asked twice, done once.
    """

    def describe(self, node: Node) -> NodeStack:
        """Return the stack of this generation: by its ARN once that is known, else by its name."""

    def all(self) -> Iterable[ListedStack]:
        """Return every stack with our tag that isn't deleted, page by page, seconds apart; it may lag."""

    def explain(self, node: Node, stack: NodeStack) -> str:
        """Return the root cause of a failure, for a data scientist, or nothing if none is known."""

    def launch(self, node: Node, secret_reference: str) -> str | None:
        """Create the stack of this generation and return its ARN; None if it is there already."""

    def delete(self, node: Node, stack: NodeStack, how: Deletion) -> Sequence[str]:
        """Have the stack deleted, no error if it is gone; return what is to be left behind."""

    def cancel_update(self, node: Node, stack: NodeStack) -> None:
        """Call back an update that is under way."""

    def roll_back(self, node: Node, stack: NodeStack) -> None:
        """Roll back an update that failed."""

    def continue_rollback(self, node: Node, stack: NodeStack) -> None:
        """Go on with a rollback that failed."""


class NodeServer(Protocol):
    """A PyGrid node, as seen from here.

    Its checkpoints are asked for with its credential: our node wants to see it, the original doesn't look.
    """

    def answers(self, address: str, node_id: str) -> bool:
        """Whether the node with this id is there and well. Never raises."""

    def newest_checkpoint(self, address: str, model: Model, credential: NodeCredential, beyond: int) -> int:
        """Return the number of the newest checkpoint; at least `beyond`, which is known to be there.

        Checkpoint 1 is the upload, each cycle makes the next one. Raises NodeUnreachable, UnusableModel.
        """

    def trained_model(self, address: str, model: Model, credential: NodeCredential) -> bytes:
        """Return the newest checkpoint's protobuf, checked against the shapes of the first.

        Raises NodeUnreachable, UnusableModel.
        """


class ModelBucket(Protocol):
    """The private bucket of trained models."""

    def store(self, model: Model, state: bytes) -> None:
        """Keep the protobuf and its safetensors form; again is the same. Raises UnusableModel."""

    def fresh_url(self, model_id: str) -> str:
        """Return a presigned URL of the safetensors file, good for a few minutes."""
