"""The actions of `manage.py jobs`, one module each."""
