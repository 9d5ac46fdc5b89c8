"""What Alembic runs to get its connection: the one that `upgrade` was given."""

from alembic import context

from pygrid_node.storage.schema import metadata

context.configure(connection=context.config.attributes["connection"], target_metadata=metadata)
context.run_migrations()
