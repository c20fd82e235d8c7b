"""Background jobs for Django with nothing but the database.

`from jobsup import task` is the decorator of `django.tasks` with the options of this backend.
"""

from jobsup.tasks import task

__all__ = ["__version__", "task"]
__version__ = "0.1.0"
