"""The configuration: one folder per axis for Hydra, `schema` for what each value may be.

Knows nothing of graphs, models or files of runs.
"""
