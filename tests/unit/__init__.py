"""Pure tests: no process, no database, under two seconds together."""
