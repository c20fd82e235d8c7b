"""An app whose tasks have schedules; only the tests of schedules install it."""
