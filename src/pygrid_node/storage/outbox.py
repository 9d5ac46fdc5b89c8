"""Progress messages that the orchestration node has not taken yet."""

from sqlalchemy import delete, select

from pygrid_node.entities import Progress
from pygrid_node.storage.database import Database
from pygrid_node.storage.schema import outbox


class Outbox:
    """Messages in the order of their writing; `CycleStore.close` writes them."""

    def __init__(self, database: Database) -> None:
        """Keep them in `database`."""
        self._database = database

    def waiting(self) -> list[int]:
        """The processes that have messages waiting."""
        with self._database.reading() as connection:
            return list(connection.execute(select(outbox.c.process_id).distinct()).scalars())

    def first(self, process_id: int) -> Progress | None:
        """The oldest message of a process."""
        query = select(outbox).where(outbox.c.process_id == process_id).order_by(outbox.c.id).limit(1)
        with self._database.reading() as connection:
            row = connection.execute(query).first()
        return None if row is None else Progress(row.id, row.process_id, row.body)

    def remove(self, progress: Progress) -> None:
        """Forget a message: it was taken, or never will be."""
        with self._database.writing() as connection:
            connection.execute(delete(outbox).where(outbox.c.id == progress.id))
