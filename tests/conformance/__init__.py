"""One suite of promises, run against every implementation of the same seam."""
