"""Hosted models, their plans and their checkpoints."""

import json
from collections.abc import Mapping
from functools import partial
from typing import Any

from sqlalchemy import Connection, insert, select
from sqlalchemy.exc import IntegrityError

from pygrid_node.entities import HostedModel, ParameterSpec, Upload
from pygrid_node.errors import AlreadyExists, CheckpointNotFound, InvalidRequest, ModelNotFound, PlanNotFound
from pygrid_node.server_config import ServerConfig
from pygrid_node.storage.blobs import Blob, Packed, pack, pack_plan, unpack_plan
from pygrid_node.storage.database import Database, is_storable
from pygrid_node.storage.schema import checkpoint_parts, checkpoints, cycles, plans, processes

FORMS = ("torchscript", "tfjs", "list")


class ModelStore:
    """Stores models. What does not exist raises an error of `pygrid_node.errors`."""

    def __init__(self, database: Database, min_reports: int = 1) -> None:
        """Use `database`. Raise the rules of stored models to `min_reports`, whatever their uploads say."""
        self._database = database
        self._min_reports = min_reports
        # A model's row never changes and is never deleted, and each message of a worker needs it.
        self._by_id: dict[int, HostedModel] = {}
        self._by_name: dict[tuple[str, str], HostedModel] = {}

    def add(self, upload: Upload, now: float) -> None:
        """Store an upload and open its first cycle, in one transaction.

        Raises `AlreadyExists` if its name and version are taken, and `InvalidRequest` for a name that the
        database cannot store.
        """
        if not is_storable("".join((upload.name, upload.version, *upload.plans))):
            raise InvalidRequest("A name holds a character that can't be stored.")
        model = pack(upload.model)
        with self._database.writing() as connection:
            model_id = _insert_model(connection, upload)
            for name, forms in upload.plans.items():
                bodies = {form: pack_plan(getattr(forms, form)) for form in FORMS}
                connection.execute(insert(plans).values(process_id=model_id, name=name, **bodies))
            insert_checkpoint(connection, model_id, 1, model)
            connection.execute(insert(cycles).values(first_cycle(model_id, upload.server_config, now)))

    def find(self, name: Any, version: Any = None) -> HostedModel:
        """Return the model of a name and version; without a version, the newest. Raises `ModelNotFound`."""
        if not isinstance(name, str) or not is_storable(name + str(version)):
            raise ModelNotFound
        if known := self._by_name.get((name, str(version))):
            return known
        query = select(processes).where(processes.c.name == name).order_by(processes.c.id.desc())
        if version:
            query = query.where(processes.c.version == str(version))
        return self._read(query)

    def get(self, model_id: int) -> HostedModel:
        """Return the model with this id. Raises `ModelNotFound`."""
        if known := self._by_id.get(model_id):
            return known
        return self._read(select(processes).where(processes.c.id == model_id))

    def averaging_plan(self, model_id: int) -> bytes:
        """Return the averaging plan as it was uploaded; empty for the mean."""
        with self._database.reading() as connection:
            query = select(processes.c.averaging_plan).where(processes.c.id == model_id)
            body: bytes = connection.execute(query).scalar_one()
        return body

    def plan(self, plan_id: int, form: str) -> tuple[int, bytes]:
        """Return the model id of a training plan, and the plan in one of `FORMS`. Raises `PlanNotFound`."""
        with self._database.reading() as connection:
            query = select(plans.c.process_id, plans.c[form]).where(plans.c.id == plan_id)
            if (row := connection.execute(query).first()) is None:
                raise PlanNotFound
            return row[0], unpack_plan(row[1])

    def checkpoint(self, model_id: int, number: int | None = None) -> Blob:
        """Return checkpoint `number` (1 is the upload) as a serialized state, by default the newest.

        Raises `CheckpointNotFound`.
        """
        query = select(checkpoints.c.number, checkpoints.c.body).where(checkpoints.c.process_id == model_id)
        if number is not None:
            query = query.where(checkpoints.c.number == number)
        with self._database.reading() as connection:
            row = connection.execute(query.order_by(checkpoints.c.number.desc()).limit(1)).first()
        if row is None:
            raise CheckpointNotFound
        return Blob(row.body, partial(self._checkpoint_part, model_id, row.number))

    def _checkpoint_part(self, model_id: int, number: int, part: int) -> bytes | None:
        key = (checkpoint_parts.c.process_id == model_id) & (checkpoint_parts.c.number == number)
        query = select(checkpoint_parts.c.body).where(key & (checkpoint_parts.c.part == part))
        with self._database.reading() as connection:
            return connection.execute(query).scalar()

    def _read(self, query: Any) -> HostedModel:
        with self._database.reading() as connection:
            if (row := connection.execute(query.limit(1)).mappings().first()) is None:
                raise ModelNotFound
            named = select(plans.c.name, plans.c.id).where(plans.c.process_id == row["id"])
            plan_ids = {plan.name: plan.id for plan in connection.execute(named.order_by(plans.c.id))}
        model = _model(dict(row), plan_ids, self._min_reports)
        self._by_id[model.id] = self._by_name[model.name, model.version] = model
        return model


def first_cycle(model_id: int, config: ServerConfig, opens_at: float) -> dict[str, Any]:
    """Return the row of a model's first cycle; the rows of later cycles are made from it."""
    return {
        "process_id": model_id,
        "number": 1,
        "ends_at": opens_at + config.cycle_length,
        "wanted": config.wanted,
        "needed": config.needed,
        "counted": 0,
    }


def insert_checkpoint(connection: Connection, model_id: int, number: int, state: Packed) -> None:
    """Store a checkpoint within a transaction."""
    key = {"process_id": model_id, "number": number}
    connection.execute(insert(checkpoints).values(key | {"body": state.first}))
    for part, body in enumerate(state.others, start=1):
        connection.execute(insert(checkpoint_parts).values(key | {"part": part, "body": body}))


def copy_checkpoint(connection: Connection, model_id: int, number: int) -> None:
    """Store a checkpoint once more, as the one after it, within a transaction; the database copies it."""
    for table in (checkpoints, checkpoint_parts):
        copied = [each + 1 if each is table.c.number else each for each in table.c]
        of_number = (table.c.process_id == model_id) & (table.c.number == number)
        connection.execute(insert(table).from_select(list(table.c), select(*copied).where(of_number)))


def _insert_model(connection: Connection, upload: Upload) -> int:
    row = insert(processes).values(
        name=upload.name,
        version=upload.version,
        client_config=json.dumps(upload.client_config),
        server_config=json.dumps(upload.server_config.given),
        parameters=json.dumps([[spec.dtype, spec.shape] for spec in upload.parameters]),
        averaging_plan=upload.averaging_plan,
    )
    try:
        model_id: int = connection.execute(row.returning(processes.c.id)).scalar_one()
    except IntegrityError as error:
        raise AlreadyExists from error
    return model_id


def _model(row: Mapping[str, Any], plan_ids: dict[str, int], min_reports: int) -> HostedModel:
    config = ServerConfig.parse(json.loads(row["server_config"]))
    return HostedModel(
        id=row["id"],
        name=row["name"],
        version=row["version"],
        client_config=json.loads(row["client_config"]),
        server_config=config.with_min_reports(min_reports),
        parameters=tuple(
            ParameterSpec(dtype, tuple(shape)) for dtype, shape in json.loads(row["parameters"])
        ),
        plans=plan_ids,
    )
