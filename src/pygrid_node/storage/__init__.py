"""What the node remembers, in SQL. The only package that knows SQLAlchemy."""
