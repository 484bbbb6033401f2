"""Texts and figures of a run, added up: pure functions that know no file."""
