"""Supervision of a fixed set of spawned worker processes that are fed with integers.

`spawnpool` knows pools, workers, lanes, signals and exits. It does not know what a job is: it moves primary
keys from a `Source` to workers and accounts for every one of them. It must never import Django.
"""
