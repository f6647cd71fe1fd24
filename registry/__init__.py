"""What is on record: PostgreSQL through SQLAlchemy, its schema in migrations/."""
