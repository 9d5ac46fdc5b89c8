"""The node's database. Only this package imports SQLAlchemy."""
