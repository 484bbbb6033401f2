"""What a run prints, and where it stands, on a terminal; nothing in a text acts on it."""
