"""What is remembered of a run: its SQLite file, from schema to resume."""
