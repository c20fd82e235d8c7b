"""A Django app with jobs to run and a table in which they leave their traces."""
