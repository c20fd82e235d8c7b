"""The statements of a claim: how ready jobs are found, locked and taken.

MATERIALIZED: the planner may otherwise run the subquery again for every row that it joins and lock more than the limit
(the same surprise is described in Oban's basic engine). SKIP LOCKED: claimers do not wait for each other's rows. The
statement commits by itself: nothing stays locked while a job runs.
"""

from __future__ import annotations

from collections.abc import Mapping

RIVALS = 64
"""How many rows of other claimers a claim over several queues can step over."""

RECENT_KEYS = 50_000
"""Among how many of the newest jobs queues and priorities are looked for; that takes some tens of milliseconds."""

# Claimers of the same queues in single file, a few files in all. A statement of its own before the claim, so that the
# claim's snapshot is younger than the lock; else it would try all that others have taken meanwhile. Sent in one go:
# the lock goes with the commit, and a client that freezes in between cannot hold it. The settings go with it as well:
# whatever the statistics say, a claim walks along the index, since of a table that looks small the planner would sort
# all that is ready, and all that was. And with a million ready jobs it would think the claim so costly that the server
# compiles it, each time anew: that takes 8 ms, as long as a claim of 700 jobs.
LANE = (
    "SELECT pg_advisory_xact_lock(7829367, %(lane)s), set_config('enable_seqscan', 'off', true), "
    "set_config('enable_bitmapscan', 'off', true), set_config('jit', 'off', true); "
)

# A claim from one queue, which most are, is planned once for a session that keeps its plans: the planning costs more
# than a claim of a few jobs. The plan must not go by the parameters, or it would be made anew all the same. So it
# reckons with a tenth of all that is ready, and would join that with the whole table.
LANE_OF_PLANS = LANE.replace(
    "; ",
    ", set_config('plan_cache_mode', 'force_generic_plan', true), set_config('enable_mergejoin', 'off', true), "
    "set_config('enable_hashjoin', 'off', true); ",
)
PREPARE = "PREPARE {name}(text, int, bigint) AS {sql}; "
EXECUTE = "EXECUTE {name}(%(queue)s, %(limit)s, %(run)s)"

# How many entries of the index this session has read so far; the ones whose rows turned out to be dead are among them.
READ = "pg_stat_get_xact_tuples_returned('jobsup_job_ready'::regclass)"
BEGUN = f"begun AS MATERIALIZED (SELECT {READ} AS before)"
# The last row has how many of them this statement has read, and which queues it looked at: those that are not paused.
COUNTED = f"SELECT * FROM taken UNION ALL SELECT {READ} - before, NULL, NULL, {{served}} FROM begun"  # noqa: S608
ALL_SERVED = "(SELECT json_agg(name)::text FROM served)"
FIRST = "(SELECT before FROM begun) IS NOT NULL"
NOT_PAUSED = "NOT EXISTS (SELECT FROM jobsup_queue WHERE name = {queue} AND paused_at IS NOT NULL)"

TAKE = """
    UPDATE jobsup_job AS job SET status = 2, claimed_by = %(run)s, attempt = LEAST(job.attempt + 1, 32767), worker = ''
    FROM picked WHERE job.id = picked.id
    RETURNING job.id, job.priority, picked.rank, job.queue
"""

# One queue: locked where it is found. That the queue is not paused is asked once.
PICK = f"""picked AS MATERIALIZED (
        SELECT id, 0 AS rank FROM jobsup_job WHERE status = 0 AND queue = %(queue)s
            AND {NOT_PAUSED.format(queue="%(queue)s")} AND {{first}}
        ORDER BY priority DESC, id LIMIT %(limit)s FOR UPDATE SKIP LOCKED
    )
"""  # noqa: S608  # constants

# Over several queues: the first rows of each by its own walk on the index, then the best of those. `queue IN (...)`
# with one ORDER BY would sort every ready row. Only what is taken is locked, and some more candidates are looked at
# than are wanted, so that simultaneous claimers find others than those that somebody has just locked.
# IS NOT DISTINCT FROM, which no index can serve: they are to be found by their keys. With statistics of a time at which
# nothing was ready the index of ready jobs looks as good, and is then read once for each of them.
SERVED = f"""served AS MATERIALIZED (
        SELECT name, rank, room
        FROM unnest(%(names)s::text[], %(ranks)s::int[], %(rooms)s::int[]) AS queues(name, rank, room)
        WHERE {NOT_PAUSED.format(queue="queues.name")} AND {{first}}
    ), seen AS MATERIALIZED (
        SELECT job.id, job.priority, served.rank FROM served CROSS JOIN LATERAL ({{walk}} LIMIT %(candidates)s) AS job
        WHERE served.room IS NULL
    )"""  # noqa: S608
FREE = """
        SELECT job.id, seen.priority, seen.rank
        FROM seen JOIN jobsup_job AS job ON job.id = seen.id AND job.status IS NOT DISTINCT FROM 0
        ORDER BY seen.rank, seen.priority DESC, seen.id LIMIT %(limit)s FOR UPDATE OF job SKIP LOCKED
"""
PICK_OF_SEVERAL = f"{SERVED}, picked AS MATERIALIZED ({FREE})"

# Where a queue has room for some only, these are locked where they are found: how many of a queue will be taken is
# not known before. Those that then are too many for the limit are let go with the commit, at once. The second LIMIT
# there is for the planner, which cannot know what the first one will be.
PICK_WITHIN = f"""{SERVED}, free AS MATERIALIZED ({FREE}), few AS MATERIALIZED (
        SELECT job.id, job.priority, served.rank FROM served CROSS JOIN LATERAL (
            SELECT * FROM ({{walk_and_lock}}) AS first LIMIT %(limit)s
        ) AS job WHERE served.room > 0
    ), picked AS MATERIALIZED (
        SELECT id, rank FROM (SELECT * FROM free UNION ALL SELECT * FROM few) AS found
        ORDER BY rank, priority DESC, id LIMIT %(limit)s
    )
"""  # noqa: S608

# Everything that is ready in a queue, best first.
WALK = "SELECT id, priority FROM jobsup_job WHERE status = 0 AND queue = served.name ORDER BY priority DESC, id"

# The same in steps: between the priorities that are known, and from the floor of each. A condition on all of them
# together would be tried on every entry from the first one on; each of these begins where it says. A step is taken
# when the one before did not have enough.
STEPS = """steps AS MATERIALIZED (
        SELECT * FROM unnest(%(queues)s::text[], %(above)s::int[], %(priorities)s::int[], %(after)s::bigint[],
                             %(upto)s::bigint[]) AS steps(queue, above, priority, after, upto)
    )"""
WALK_IN_STEPS = """
            SELECT found.id, found.priority FROM steps CROSS JOIN LATERAL (
                SELECT * FROM (
                    SELECT id, priority FROM jobsup_job WHERE status = 0 AND queue = served.name
                        AND priority < steps.above AND priority > steps.priority
                    ORDER BY priority DESC, id LIMIT %(candidates)s {lock}
                ) AS between
                UNION ALL
                SELECT * FROM (
                    SELECT id, priority FROM jobsup_job WHERE status = 0 AND queue = served.name
                        AND priority = steps.priority AND id > steps.after AND id <= steps.upto
                    ORDER BY id LIMIT %(candidates)s {lock}
                ) AS from_the_floor
            ) AS found WHERE steps.queue = served.name
"""
LOCK = "FOR UPDATE SKIP LOCKED"

FROM_FLOORS = f"""
    WITH {BEGUN}, {STEPS}, {PICK_WITHIN}, taken AS ({TAKE}) {COUNTED}
""".format(
    first=FIRST,
    served=ALL_SERVED,
    walk=WALK_IN_STEPS.format(lock=""),
    walk_and_lock=f"{WALK_IN_STEPS.format(lock=LOCK)} LIMIT served.room",
)


def plain(queues: int, rooms: Mapping[str, int], *, counted: bool) -> str:
    """Return the statement that claims from the beginning.

    Args:
        queues: from how many of them.
        rooms: of which queues only so many are wanted.
        counted: whether to count the entries of the index that it reads.
    """
    pick = PICK_WITHIN if rooms else PICK if queues == 1 else PICK_OF_SEVERAL
    pick = pick.format(first=FIRST if counted else "true", walk=WALK, walk_and_lock=f"{WALK} LIMIT served.room {LOCK}")
    if not counted:
        return f"WITH {pick} {TAKE}"
    served = "json_build_array(%(queue)s::text)::text" if pick.startswith("picked") else ALL_SERVED
    return f"WITH {BEGUN}, {pick}, taken AS ({TAKE}) {COUNTED.format(served=served)}"


def prepared(sql: str, name: str) -> str:
    """Return what prepares a statement that claims from one queue without limits, under a name."""
    return PREPARE.format(name=name, sql=sql % {"queue": "$1", "limit": "$2", "run": "$3"})


RECENT = """
    SELECT queue, priority, max(id)
    FROM (SELECT id, queue, priority FROM jobsup_job ORDER BY id DESC LIMIT %s) AS job
    WHERE queue = ANY(%s) GROUP BY queue, priority
"""

# The names of queues with ready jobs between those that are known, the first of each gap.
NEW_QUEUES = """
    SELECT (SELECT min(queue) FROM jobsup_job WHERE status = 0 AND queue > gap.above AND queue < gap.below)
    FROM unnest(%s::text[], %s::text[]) AS gap(above, below) WHERE gap.below IS NOT NULL
    UNION ALL
    SELECT (SELECT min(queue) FROM jobsup_job WHERE status = 0 AND queue > %s)
"""
