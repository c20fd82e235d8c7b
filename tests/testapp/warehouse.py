"""An app that uses SQLAlchemy beside Django, on the same server: parts in a warehouse.

Its engine is registered with jobsup. In a supervisor somebody uses it whenever Django connects, as a stranger might.
"""

from __future__ import annotations

import multiprocessing
import os
import time
from typing import Any

import psycopg2
from django.apps import AppConfig
from django.db import connections
from django.db.backends.signals import connection_created
from sqlalchemy import Engine, create_engine, text
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column, scoped_session
from sqlalchemy.orm import Session as OrmSession

from jobsup import task
from jobsup.sqlalchemy import register


class Base(DeclarativeBase):
    """Of the models."""


class Part(Base):
    """Something in the warehouse."""

    __tablename__ = "warehouse_part"

    id: Mapped[int] = mapped_column(primary_key=True)
    name: Mapped[str]


def connect() -> Any:
    """Connect to the database behind `default`; the server is told by whom."""
    known = connections["default"].get_connection_params()
    place = {name: known[name] for name in ("dbname", "user", "host", "port") if name in known}
    return psycopg2.connect(**place, application_name=f"warehouse {os.getpid()}")


def make_engine() -> Engine:
    """Return an engine."""
    return create_engine("postgresql+psycopg2://", creator=connect, pool_size=2)


def make_session() -> OrmSession:
    """Return a session on the engine of this process."""
    return OrmSession(engine())


engine = register(make_engine)
Session: scoped_session[OrmSession] = scoped_session(make_session)  # type: ignore[arg-type]  # any callable will do
register(engine, Session)
kept: list[Any] = []
"""Keeps what must not be collected."""


class Warehouse(AppConfig):
    """The app."""

    name = "tests.testapp.warehouse"
    label = "warehouse"

    def ready(self) -> None:
        """Have a supervisor use the engine now and then."""
        if multiprocessing.parent_process() is None:
            connection_created.connect(use)


def use(**_kwargs: Any) -> None:
    """Use a session and leave it in a transaction."""
    Session.execute(text("SELECT 1"))


def _sessions() -> dict[str, Any]:
    """Return what the next job must find as the first one did, the process and the server's."""
    found = {
        "pid": os.getpid(),
        "new": Session.registry.has(),
        "out": engine().pool.checkedout(),  # type: ignore[attr-defined]
    }
    found["session"] = Session.scalar(text("SELECT pg_backend_pid()"))
    found["timeout"] = Session.scalar(text("SELECT current_setting('statement_timeout')"))
    found["pending"] = len(Session.new) + len(Session.dirty) + len(Session.identity_map)
    return found


@task
def look() -> dict[str, Any]:
    """Return what a job finds."""
    return _sessions()


@task
def stock(name: str, way: str) -> dict[str, Any]:
    """Put a part on the shelf, and end in one of many ways; return what this job found."""
    found = _sessions()
    Session.add(Part(name=name))
    if way == "committed":
        Session.commit()
    elif way == "flushed":
        Session.flush()
    elif way == "failed":
        Session.flush()
        raise ValueError("the shelf broke")
    elif way == "slow":
        Session.flush()
        time.sleep(3600)
    elif way == "open":
        kept.append(engine().connect())
        kept[-1].execute(text("INSERT INTO warehouse_part (name) VALUES ('never')"))
    elif way == "raw":
        kept.append(engine().raw_connection())
        kept[-1].cursor().execute("INSERT INTO warehouse_part (name) VALUES ('never')")
    elif way == "marked":
        Session.execute(text("SET statement_timeout = 12345"))
        Session.commit()
    elif way == "lock":
        Session.execute(text("SELECT pg_advisory_lock(7)"))
    return found
