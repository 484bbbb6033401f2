"""What was measured, each with the command that reproduces its table."""
