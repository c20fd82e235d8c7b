"""All actions, in the order in which the help shows them."""

from __future__ import annotations

from jobsup.cli.cancel import CANCEL
from jobsup.cli.desk import Action
from jobsup.cli.doctor import DOCTOR
from jobsup.cli.listing import LIST
from jobsup.cli.pausing import PAUSE, RESUME
from jobsup.cli.priority import PRIORITY
from jobsup.cli.prune import PRUNE
from jobsup.cli.retry import RETRY
from jobsup.cli.running import RUN
from jobsup.cli.schedules import SCHEDULES
from jobsup.cli.show import SHOW
from jobsup.cli.stats import STATS
from jobsup.cli.top import TOP
from jobsup.cli.torture import TORTURE
from jobsup.cli.waiting import WAIT

ACTIONS: tuple[Action, ...] = (
    LIST, SHOW, STATS, TOP, DOCTOR, RUN, CANCEL, RETRY, PRIORITY, PAUSE, RESUME, SCHEDULES, WAIT, PRUNE, TORTURE,
)  # fmt: skip
