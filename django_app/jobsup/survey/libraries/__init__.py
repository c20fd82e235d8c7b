"""The libraries that a survey knows."""

from jobsup.survey.libraries.celery import LIBRARY as CELERY
from jobsup.survey.libraries.django_q import LIBRARY as DJANGO_Q
from jobsup.survey.libraries.django_tasks import LIBRARY as DJANGO_TASKS
from jobsup.survey.libraries.dramatiq import LIBRARY as DRAMATIQ
from jobsup.survey.libraries.homemade import LIBRARY as HOMEMADE
from jobsup.survey.libraries.huey import LIBRARY as HUEY
from jobsup.survey.libraries.rq import LIBRARY as RQ

LIBRARIES = (CELERY, DJANGO_Q, RQ, DRAMATIQ, HUEY, DJANGO_TASKS, HOMEMADE)
"""In the order in which they are reported."""
