"""Supervision of a fixed set of spawned worker processes that are fed with integers.

`spawnpool` knows pools, workers, lanes, signals and exits. It does not know what a job is: it moves primary
keys from a `Source` to workers and accounts for every one of them. It must never import Django.

Where to find what the design speaks of:

- the decisions: `machine`, made of `roster` (which workers there are; its `end` is the ladder, SIGABRT, then SIGKILL)
  and `dispatch` (which keys are claimed and who gets them)
- the loop that performs them: `supervisor`; the worker's own loop: `worker`
- the protocol of reports from a worker: `reports`; what carries keys and reports: `lanes`
- the settings of a pool: `limits`
- one worker process, spawned, watched and signalled: `process`; signals to the supervisor: `signals`
- one holder of a name at a time: `runfile`
- what must still reach the source: `owed`; the seam to it: `source`
- connections that others close in time: `hooks`
"""
