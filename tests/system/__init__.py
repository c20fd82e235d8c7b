"""Tests of the real commands as users run them, with real faults."""
