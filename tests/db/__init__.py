"""Tests of everything that writes to the database, on each database."""
