"""The numbers of jobsup's advisory locks on PostgreSQL; users' own should have another first number."""

LOCKS = 1785684595
"""The first number of all of them: the bytes of "jobs"."""

HUSH = 1
"""The second number of the lock by which a supervisor asks not to be woken."""
