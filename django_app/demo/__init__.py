"""A site that shows jobsup at work: it reads the source of Python's standard library, in parallel."""
