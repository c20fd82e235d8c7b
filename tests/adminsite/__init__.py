"""A project with Django's admin."""
