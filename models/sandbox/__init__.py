"""The sandbox: a simulated world with known truth that plays all four roles, without model or cost.

World = (version, profile, seed). `world.toml` is its one frozen file; a role is given its own
section of it and the shared language, and never looks into another's.
"""
