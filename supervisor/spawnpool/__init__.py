"""Supervision of a fixed set of spawned worker processes that are fed with integers.

`spawnpool` knows pools, workers, lanes, signals and exits. It does not know what a job is: it moves primary
keys from a `Source` to workers and accounts for every one of them. It must never import Django.

Where to find what the design speaks of:

- the decisions: `machine`, made of `roster` (which workers there are; its `end` is the ladder, SIGABRT, then SIGKILL),
  `dispatch` (which keys are claimed and who gets them) and `oversight` (keys that run for too long, need too much
  memory or are cancelled); `restarts` (back-off and intensity), `wear` (which workers have served
  their time), `deaths` (what the end of one means)
- the loop that performs them: `supervisor`; the worker's own loop: `worker`
- the worker processes: `crew` (all of them), `hands` (one), `process` (spawned, watched, signalled), `memory` (what the
  kernel tells of theirs), `reaper` (children that are no workers)
- what goes between them: `lanes` (keys down, reports up), `reports` (their bytes), `card` (interruptions, last words),
  `bounds` (the limits of a key)
- the settings of a pool: `limits`
- signals to the supervisor: `signals`; requests: `control` and its other side, `client`; what it shows: `front`,
  `snapshot`, `picture`, `titles`, `notify` (the service manager)
- one holder of a name at a time: `runfile`; becoming a daemon: `daemonize`, `logfile`, `pidfile`
- what is asked of the source, and what must still reach it: `dealings`; the seam to it: `source`
- connections that others close in time: `hooks`
"""
