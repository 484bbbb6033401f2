"""A run as a trace for other tools: its spans, and the ways by which they leave."""
