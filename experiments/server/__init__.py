"""The tracking server: start, stop, back up, restore, clean, move to PostgreSQL."""
