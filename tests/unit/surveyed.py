"""Projects of other queues, as source, with what a survey has to find in them.

A comment `#:` says what is to be found on its line: marks and names as the report has them. Nothing may be found on a
line without one.
"""

CELERY = {
    "shop/celery.py": """
from celery import Celery
from celery.schedules import crontab

app = Celery("shop")  #: = Celery
app.config_from_object("django.conf:settings", namespace="CELERY")  #: = app.config_from_object
app.conf.beat_schedule = {  #: = app.conf.beat_schedule
    "night": {"task": "shop.tasks.clean", "schedule": crontab(hour=3)},  #: = CELERY_BEAT_SCHEDULE['night'], = crontab
}
app.conf.update(task_soft_time_limit=60)  #: ? app.conf.update, = task_soft_time_limit=


@app.on_after_configure.connect  #: = @app.on_after_configure.connect
def add(sender, **kwargs):
    sender.add_periodic_task(10.0, clean.s())
""",
    "shop/tasks.py": """
from celery import chain, chord, group, shared_task
from celery.exceptions import SoftTimeLimitExceeded
from celery.signals import task_failure

from . import signature
from .celery import app


@shared_task(  #: = @shared_task
    bind=True,  #: = bind=
    autoretry_for=(OSError,),  #: = autoretry_for=
    max_retries=3,  #: ? max_retries=
    retry_backoff=True,  #: = retry_backoff=
    rate_limit="10/m",  #: - rate_limit=
    odd=1,  #: ? odd=
)
def send_mail(self, pk):
    try:
        post(pk)
    except SoftTimeLimitExceeded:  #: = SoftTimeLimitExceeded
        raise self.retry(countdown=60)  #: = self.retry
    self.update_state(state="PROGRESS")  #: - self.update_state
    return self.request.retries  #: = self.request.retries


@app.task  #: = @app.task
def clean(days):
    chain(send_mail.s(1), send_mail.si(2)).delay()  #: = .delay(), - chain, - .s(), - .si()
    chord([send_mail.s(1)])(send_mail.s(2))  #: - chord, - .s()
    group(send_mail.s(pk) for pk in days)()  #: ? group, - .s()
    send_mail(1)  #: = send_mail()
    app.control.revoke("x", terminate=True)  #: = app.control.revoke


@task_failure.connect  #: = @task_failure.connect
def told(**kwargs):
    pass


def post(pk):
    self = object()
    self.update_state = 1
    return signature(pk)
""",
    "shop/views.py": """
from celery.result import AsyncResult
from django.db import transaction

from . import tasks
from .tasks import send_mail as mail


def order(request):
    mail.delay(1)  #: = .delay()
    transaction.on_commit(lambda: mail.delay(1))  #: = transaction.on_commit(), = .delay()
    tasks.clean.apply_async(args=[1], countdown=60, expires=5)  #: = .apply_async(), = args=, = countdown=, - expires=
    request.user.mailer.delay(3)  #: = .delay()
    return AsyncResult("x").get(timeout=3)  #: = AsyncResult('x').get, = AsyncResult
""",
    "shop/pages.py": """
from web import app


@app.route("/")
def page():
    return app.task
""",
    "shop/settings.py": """
INSTALLED_APPS = ["shop", "django_celery_beat"]  #: = 'django_celery_beat'
CELERY_BROKER_URL = "redis://"  #: = CELERY_BROKER_URL
CELERY_WORKER_MAX_TASKS_PER_CHILD = 100  #: = CELERY_WORKER_MAX_TASKS_PER_CHILD
CELERY_SOMETHING = {"a": 1}  #: ? CELERY_SOMETHING
""",
}
DJANGO_Q = {
    "tasks.py": """
from django.core.mail import send_mail
from django_q.models import Schedule
from django_q.tasks import async_chain, async_task, result, schedule

async_task(send_mail, "subject", hook="shop.hooks.sent", group="mail")  #: = async_task, ? hook=, - group=
schedule("shop.tasks.clean", cron="0 3 * * *", repeats=-1)  #: = schedule, = cron=, ? repeats=
Schedule.objects.create(func="shop.tasks.clean", minutes=5)  #: = Schedule.objects.create, = func=, = minutes=
async_chain([("math.sqrt", (4,))])  #: - async_chain
result("id", 200)  #: = result
""",
    "settings.py": """
INSTALLED_APPS = []
INSTALLED_APPS += ["django_q.apps.DjangoQConfig"]  #: = 'django_q.apps.DjangoQConfig'
Q_CLUSTER = {  #: = Q_CLUSTER
    "workers": 4,  #: = Q_CLUSTER['workers']
    "max_attempts": 1,  #: ? Q_CLUSTER['max_attempts']
    "cpu_affinity": 1,  #: - Q_CLUSTER['cpu_affinity']
    "odd": 1,  #: ? Q_CLUSTER['odd']
}
""",
}
RQ = {
    "tasks.py": """
import django_rq
from django_rq import job
from rq import Queue, Retry, get_current_job


@job("low", timeout=60, retry=Retry(max=3))  #: = @job, = timeout=, = retry=, = Retry
def report(year):
    get_current_job().meta["done"] = 1  #: = get_current_job().meta, = get_current_job


queue = Queue("high")  #: = Queue
queue.enqueue(report, 2026, job_timeout=5, depends_on=None)  #: = queue.enqueue, = job_timeout=, - depends_on=
report.delay(2026)  #: = .delay()
django_rq.get_queue("low").enqueue_in(5, report)  #: = django_rq.get_queue('low').enqueue_in, = django_rq.get_queue


def later():
    scheduler = django_rq.get_scheduler("low")  #: = django_rq.get_scheduler
    own = django_rq.get_queue("low")  #: = django_rq.get_queue
    own.enqueue_at(None, report)  #: = own.enqueue_at
    report(1)  #: = report()
""",
    "settings.py": """
RQ_QUEUES = {"low": {"HOST": "x", "DEFAULT_TIMEOUT": 360}}  #: = RQ_QUEUES, = RQ_QUEUES[...]['DEFAULT_TIMEOUT']
""",
}
DRAMATIQ = {
    "tasks.py": """
import dramatiq
from dramatiq import group, pipeline


@dramatiq.actor(max_retries=3)  #: = @dramatiq.actor, ? max_retries=
def charge(order):
    pass


@dramatiq.actor(time_limit=1000, max_age=5)  #: = @dramatiq.actor, = time_limit=, - max_age=
def refund(order):
    pass


charge.send(7)  #: = .send()
charge.send_with_options(args=(7,), delay=1000)  #: = .send_with_options(), = args=, = delay=
pipeline([charge.message(7)]).run()  #: - pipeline, - .message()
""",
    "views.py": """
import signals
from tasks import charge


def pay(request, socket):
    charge.send(1)  #: = .send()
    socket.send(b"")
    signals.paid.send(sender=None)
""",
}
HUEY = {
    "tasks.py": """
from huey import crontab
from huey.contrib.djhuey import db_periodic_task, db_task, lock_task


@db_task(retries=2, retry_delay=60)  #: = @db_task, ? retries=, = retry_delay=
def index(pk):
    pass


@db_periodic_task(crontab(minute="0", hour="3"))  #: = @db_periodic_task, = crontab
@lock_task("clean")  #: ? @lock_task
def clean():
    pass


index(1)  #: = index()
index.schedule(args=(1,), delay=60)  #: = .schedule(), = args=, = delay=
""",
    "other.py": """
from config import huey


@huey.task()  #: = @huey.task
def own():
    pass


def index(pk):
    pass


index(1)
""",
    "settings.py": """
HUEY = {  #: = HUEY
    "immediate": False,  #: = HUEY['immediate']
    "consumer": {"workers": 4},  #: = HUEY['consumer'], = HUEY[...]['workers']
}
""",
}
DJANGO_TASKS = {
    "tasks.py": """
from django.tasks import task
from steady_queue.concurrency import limits_concurrency
from steady_queue.recurring_task import recurring


@recurring(schedule="0 12 * * *", key="noon")  #: = @recurring, = schedule=, = key=
@limits_concurrency(key="x", to=2)  #: ? @limits_concurrency, ? key=, - to=
@task(priority=5)  #: = @task, = priority=
def ring():
    pass


ring.enqueue()
""",
    "settings.py": """
TASKS = {
    "default": {
        "BACKEND": "django_tasks_db.DatabaseBackend",  #: = 'django_tasks_db.DatabaseBackend'
        "OPTIONS": {"id_function": "uuid.uuid4"},  #: - TASKS[...][...]['id_function']
    },
    "ours": {"BACKEND": "jobsup.backend.JobsupBackend", "QUEUES": []},
}
""",
}
BY_HAND = {
    "shop/views.py": """
import subprocess
import threading
from multiprocessing import Process, Queue

from django.db import connections


def order(request):
    subprocess.run(["convert"])  #: ? subprocess.run
    threading.Thread(target=print).start()  #: ? threading.Thread
    answers = Queue()
    connections.close_all()  #: ? connections.close_all
    Process(target=print, args=(answers,)).start()  #: ? Process
""",
    "shop/scripts.py": """
import os
import subprocess


def build():
    subprocess.run(["make"])
    os.fork()  #: ? os.fork


def view(request):
    subprocess.run(["convert"])  #: ? subprocess.run
""",
}
PROJECTS = {
    "celery": CELERY,
    "django-q": DJANGO_Q,
    "rq": RQ,
    "dramatiq": DRAMATIQ,
    "huey": HUEY,
    "django.tasks": DJANGO_TASKS,
    "by hand": BY_HAND,
}
