"""Tests with real worker processes whose work comes from a list."""
