"""Hosted models: processes, their plans and their checkpoints."""

import json
from collections.abc import Mapping
from functools import partial
from typing import Any

from sqlalchemy import Connection, insert, select
from sqlalchemy.exc import IntegrityError

from pygrid_node.entities import ParameterSpec, Process, Upload
from pygrid_node.errors import AlreadyExists, InvalidRequest, ModelNotFound, PlanNotFound, ProcessNotFound
from pygrid_node.server_config import ServerConfig
from pygrid_node.storage.blobs import Blob, Packed, pack, pack_plan, unpack_plan
from pygrid_node.storage.database import Database, can_be_kept
from pygrid_node.storage.schema import checkpoint_parts, checkpoints, cycles, plans, processes

FORMS = ("torchscript", "tfjs", "list")


class ProcessStore:
    """Keeps processes. Absence is an error of `pygrid_node.errors`, never None."""

    def __init__(self, database: Database) -> None:
        """Keep them in `database`."""
        self._database = database
        # A process never changes and is never deleted; each of a worker's messages asks for its own.
        self._by_id: dict[int, Process] = {}
        self._by_name: dict[tuple[str, str], Process] = {}

    def add(self, upload: Upload, now: float) -> None:
        """Keep an upload and open its first cycle, or nothing at all.

        Raises `AlreadyExists` if its name and version are taken, and `InvalidRequest` for a name that no
        database could hold.
        """
        if not can_be_kept("".join((upload.name, upload.version, *upload.plans))):
            raise InvalidRequest("A name holds a character that is none.")
        model = pack([upload.model])
        with self._database.writing() as connection:
            process_id = _insert_process(connection, upload)
            for name, forms in upload.plans.items():
                bodies = {form: pack_plan(getattr(forms, form)) for form in FORMS}
                connection.execute(insert(plans).values(process_id=process_id, name=name, **bodies))
            insert_checkpoint(connection, process_id, 1, model)
            connection.execute(insert(cycles).values(first_cycle(process_id, upload.server_config, now)))

    def find(self, name: Any, version: Any = None) -> Process:
        """The process of a name and version; without a version the one that came last.

        Raises `ProcessNotFound`.
        """
        if not isinstance(name, str) or not can_be_kept(name + str(version)):
            raise ProcessNotFound
        if known := self._by_name.get((name, str(version))):
            return known
        query = select(processes).where(processes.c.name == name).order_by(processes.c.id.desc())
        if version:
            query = query.where(processes.c.version == str(version))
        return self._read(query)

    def get(self, process_id: int) -> Process:
        """The process of a number; raises `ProcessNotFound`."""
        if known := self._by_id.get(process_id):
            return known
        return self._read(select(processes).where(processes.c.id == process_id))

    def averaging_plan(self, process_id: int) -> bytes:
        """The averaging plan as it was uploaded; empty for the mean."""
        with self._database.reading() as connection:
            query = select(processes.c.averaging_plan).where(processes.c.id == process_id)
            body: bytes = connection.execute(query).scalar_one()
        return body

    def plan(self, plan_id: int, form: str) -> tuple[int, bytes]:
        """A training plan's process, and the plan itself in one of `FORMS`; raises `PlanNotFound`."""
        with self._database.reading() as connection:
            query = select(plans.c.process_id, plans.c[form]).where(plans.c.id == plan_id)
            if (row := connection.execute(query).first()) is None:
                raise PlanNotFound
            return row[0], unpack_plan(row[1])

    def checkpoint(self, process_id: int, number: int | None = None) -> Blob:
        """A serialized state: checkpoint `number` (1 is the upload), or else the newest.

        Raises `ModelNotFound`.
        """
        query = select(checkpoints.c.number, checkpoints.c.body).where(checkpoints.c.process_id == process_id)
        if number is not None:
            query = query.where(checkpoints.c.number == number)
        with self._database.reading() as connection:
            row = connection.execute(query.order_by(checkpoints.c.number.desc()).limit(1)).first()
        if row is None:
            raise ModelNotFound
        return Blob(row.body, partial(self._checkpoint_part, process_id, row.number))

    def _checkpoint_part(self, process_id: int, number: int, part: int) -> bytes | None:
        key = (checkpoint_parts.c.process_id == process_id) & (checkpoint_parts.c.number == number)
        query = select(checkpoint_parts.c.body).where(key & (checkpoint_parts.c.part == part))
        with self._database.reading() as connection:
            return connection.execute(query).scalar()

    def _read(self, query: Any) -> Process:
        with self._database.reading() as connection:
            if (row := connection.execute(query.limit(1)).mappings().first()) is None:
                raise ProcessNotFound
            named = select(plans.c.name, plans.c.id).where(plans.c.process_id == row["id"])
            plan_ids = {plan.name: plan.id for plan in connection.execute(named.order_by(plans.c.id))}
        process = _process(dict(row), plan_ids)
        self._by_id[process.id] = self._by_name[process.name, process.version] = process
        return process


def first_cycle(process_id: int, config: ServerConfig, now: float) -> dict[str, Any]:
    """The row of a process's first cycle; `cycle_store` makes the later ones from it."""
    return {
        "process_id": process_id,
        "number": 1,
        "ends_at": now + config.cycle_length,
        "wanted": config.wanted,
        "needed": config.needed,
        "counted": 0,
    }


def insert_checkpoint(connection: Connection, process_id: int, number: int, state: Packed) -> None:
    """Keep a checkpoint within a transaction."""
    key = {"process_id": process_id, "number": number}
    connection.execute(insert(checkpoints).values(key | {"body": state.first}))
    for part, body in enumerate(state.others, start=1):
        connection.execute(insert(checkpoint_parts).values(key | {"part": part, "body": body}))


def _insert_process(connection: Connection, upload: Upload) -> int:
    row = insert(processes).values(
        name=upload.name,
        version=upload.version,
        client_config=json.dumps(upload.client_config),
        server_config=json.dumps(upload.server_config.given),
        parameters=json.dumps([[spec.dtype, spec.shape] for spec in upload.parameters]),
        averaging_plan=upload.averaging_plan,
    )
    try:
        process_id: int = connection.execute(row.returning(processes.c.id)).scalar_one()
    except IntegrityError as error:
        raise AlreadyExists from error
    return process_id


def _process(row: Mapping[str, Any], plan_ids: dict[str, int]) -> Process:
    return Process(
        id=row["id"],
        name=row["name"],
        version=row["version"],
        client_config=json.loads(row["client_config"]),
        server_config=ServerConfig.parse(json.loads(row["server_config"])),
        parameters=tuple(
            ParameterSpec(dtype, tuple(shape)) for dtype, shape in json.loads(row["parameters"])
        ),
        plans=plan_ids,
    )
