"""Builders of entities, and of items as the marketplace and artificienlib write them."""

from dataclasses import asdict
from typing import Any

from orchestration.adapters.dynamo.nodes import ATTRIBUTES
from orchestration.adapters.dynamo.table import stored
from orchestration.domain.cycle import ClosedCycle, SealedCycle, Totals
from orchestration.domain.entities import Caller, Dataset, Model, User
from orchestration.domain.node import Node, node_id_of

NOON = 1_700_000_000.0
"""The time at which every test starts, in seconds since the epoch."""

DATASET = "Heart Rate ü"
"""The id of a dataset, which is free text."""
MODEL = "net-1-ada"
SCIENTIST = Caller("ada")
DEVELOPER = Caller("devi")
STRANGER = Caller("mallory")
NETWORK = "127.0.0.0/24"
"""The network of Flask's test client, from which the scientist calls `/create`."""
LEGACY_KEY = "0123456789-sign-up-key"


def a_model(**changes: Any) -> Model:
    """Return a model that `/create` has accepted, that its node hosts, and that trains."""
    usual: dict[str, Any] = {
        "model_id": MODEL,
        "owner": SCIENTIST.username,
        "dataset_id": DATASET,
        "version": "1",
        "is_active": True,
        "percent_complete": 0,
        "features": ("age", "bmi"),
        "labels": ("progression",),
        "hosted_at": NOON,
        "networks": {NETWORK: NOON},
        "progress_at": NOON,
    }
    return Model(**usual | changes)


def a_submission(**changes: Any) -> Model:
    """Return a model as artificienlib submits it, before `/create`."""
    return a_model(
        **{"features": (), "labels": (), "hosted_at": 0.0, "networks": {}, "progress_at": 0.0} | changes
    )


def a_dataset(**changes: Any) -> Dataset:
    """Return a dataset whose app has called once."""
    usual: dict[str, Any] = {
        "dataset_id": DATASET,
        "owner": DEVELOPER.username,
        "is_set_up": True,
    }
    return Dataset(**usual | changes)


def a_user(**changes: Any) -> User:
    """Return the data scientist, who has bought the dataset."""
    usual: dict[str, Any] = {
        "user_id": "ada@example.org",
        "username": SCIENTIST.username,
        "purchased": frozenset({DATASET}),
    }
    return User(**usual | changes)


def a_developer(**changes: Any) -> User:
    """Return the app developer, whose shipped app contains the sign-up key."""
    usual: dict[str, Any] = {
        "user_id": "devi@example.org",
        "username": DEVELOPER.username,
        "purchased": frozenset(),
        "legacy_api_key": LEGACY_KEY,
    }
    return User(**usual | changes)


def a_node(dataset_id: str = DATASET, **changes: Any) -> Node:
    """Return the record of a dataset's node."""
    return Node(node_id_of(dataset_id), dataset_id, **changes)


def some_totals(**changes: Any) -> Totals:
    """Return the totals of a running cycle."""
    usual: dict[str, Any] = {"cycle": 0, "devices": 0, "loss_sum": 0.0, "acc_sum": 0.0, "acc_devices": 0}
    return Totals(**usual | changes)


def a_closed_cycle(**changes: Any) -> ClosedCycle:
    """Return one entry of a model's history."""
    usual: dict[str, Any] = {
        "cycle": 1,
        "percent_complete": 10,
        "loss": 0.5,
        "acc": -1.0,
        "devices": 2,
        "closed_at": NOON,
    }
    return ClosedCycle(**usual | changes)


def a_sealed_cycle(**changes: Any) -> SealedCycle:
    """Return a cycle that is closed but not yet in the history."""
    usual: dict[str, Any] = {
        "cycle": 1,
        "percent_complete": 10,
        "totals": some_totals(devices=2, loss_sum=1.0),
        "sealed_at": NOON,
    }
    return SealedCycle(**usual | changes)


def submitted_item(model: Model | None = None, **changes: Any) -> dict[str, Any]:
    """Return the item of a model that artificienlib writes before `/create`."""
    model = model or a_submission()
    item: dict[str, Any] = {
        "model_id": model.model_id,
        "active_status": int(model.is_active),
        "version": model.version,
        "dataset": model.dataset_id,
        "date_submitted": "2023-11-14",
        "owner_name": model.owner,
        "percent_complete": 0,
        "devices_trained_this_cycle": 0,
        "loss_this_cycle": -1,
        "acc_this_cycle": -1,
    }
    return _written(item | changes)


def model_item(model: Model | None = None, **changes: Any) -> dict[str, Any]:
    """Return the record of an accepted model, as this service writes it."""
    model = model or a_model()
    item: dict[str, Any] = {
        "name": model.model_id.lower(),
        "model_id": model.model_id,
        "owner_name": model.owner,
        "dataset": model.dataset_id,
        "version": model.version,
        "active_status": int(model.is_active),
        "percent_complete": model.percent_complete,
        "features": list(model.features),
        "labels": list(model.labels),
        "hosted_as": model.hosted_as,
        "hosted_at": model.hosted_at or None,
        "released_at": model.released_at or None,
        "networks": dict(model.networks),
        "upload_failure": model.upload_failure or None,
        "trains_on": model.dataset_id if model.is_active else None,
        "node_URL": model.node_address,
        "shown_on": model.dataset_id if model.node_address else None,
        "download_key": model.download_key,
        "retrieval_due": model.dataset_id if model.retrieval_due else None,
        "retrieval_failures": model.retrieval_failures or None,
        "progress_at": model.progress_at,
        "ended_at": model.ended_at or None,
        "closed_cycles": model.totals.cycle,
        "revision": model.revision,
    }
    item |= _counters(model.totals)
    if model.sealed is not None:
        item |= {"sealed_at": model.sealed.sealed_at}
        item |= {_sealed(name): value for name, value in _counters(model.sealed.totals).items()}
    if model.history:
        item["history"] = [asdict(cycle) for cycle in model.history]
    return _written(item | changes)


def _counters(totals: Totals) -> dict[str, Any]:
    return {
        "devices_trained_this_cycle": totals.devices,
        "loss_sum": totals.loss_sum,
        "acc_sum": totals.acc_sum,
        "acc_devices": totals.acc_devices,
        "loss_sample": dict(totals.sample),
    }


def _sealed(name: str) -> str:
    return f"sealed_{name.removesuffix('_trained_this_cycle')}"


def node_item(node: Node) -> dict[str, Any]:
    """Return the item of a node, with every field."""
    return _written({ATTRIBUTES.get(name, name): value for name, value in asdict(node).items()})


def dataset_item(dataset: Dataset | None = None, **changes: Any) -> dict[str, Any]:
    """Return the item of a dataset, as the marketplace writes it."""
    dataset = dataset or a_dataset()
    item: dict[str, Any] = {
        "dataset_id": dataset.dataset_id,
        "owner_username": dataset.owner,
        "app": "Pulse",
        "category": "Health",
        "num_devices": 34,
        "hasNode": dataset.node_address is not None,
        "nodeURL": dataset.node_address,
        "properlySetUp": dataset.is_set_up,
    }
    return _written(item | changes)


def user_item(user: User | None = None, **changes: Any) -> dict[str, Any]:
    """Return the item of a user, as a sign-up writes it."""
    user = user or a_user()
    item: dict[str, Any] = {
        "user_id": user.user_id,
        "username": user.username,
        "user_account_email": user.user_id,
        "api_key": user.legacy_api_key,
        "datasets_purchased": sorted(user.purchased),
        "role": 0,
    }
    return _written(item | changes)


def _written(item: dict[str, Any]) -> dict[str, Any]:
    return {name: stored(value) for name, value in item.items() if value is not None}
