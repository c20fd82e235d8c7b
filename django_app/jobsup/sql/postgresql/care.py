"""How the tables are stored and vacuumed on PostgreSQL; other databases have no such thing."""

from __future__ import annotations

from django.db.backends.base.schema import BaseDatabaseSchemaEditor
from django.db.migrations.operations.base import Operation
from django.db.migrations.state import ProjectState

Values = dict[str, int | float]

# A table is vacuumed once 1 % of it is dead, and without the pauses that are meant for tables that matter less: the
# defaults (20 %, 2 ms after each few pages) let a queue grow faster than it is cleaned. A claim, a mark and an end are
# three new versions of a row; with a quarter of each page left free they mostly find room beside the old one, and the
# mark, which touches no index, needs no entry in any.
BUSY: Values = {
    "fillfactor": 75,
    "autovacuum_vacuum_scale_factor": 0.01,
    "autovacuum_vacuum_threshold": 500,
    "autovacuum_vacuum_cost_delay": 0,
    "autovacuum_analyze_scale_factor": 0.02,
    "autovacuum_analyze_threshold": 500,
}
# One row per run, written by every beat.
SMALL: Values = {
    "fillfactor": 70,
    "autovacuum_vacuum_scale_factor": 0.01,
    "autovacuum_vacuum_threshold": 50,
    "autovacuum_vacuum_cost_delay": 0,
}
# Written once, and removed with its job.
CALM: Values = {
    "autovacuum_vacuum_scale_factor": 0.01,
    "autovacuum_vacuum_threshold": 500,
    "autovacuum_vacuum_cost_delay": 0,
}

# Which of a run's jobs are to be cancelled is asked every few seconds. The index of its claims keeps an entry of every
# job that it ever had while a transaction is open; this one has none, unless somebody asks for it.
ASKED = "jobsup_job_asked"
ASKED_INDEX = f"CREATE INDEX {ASKED} ON {{table}} (claimed_by) WHERE status = 2 AND cancel_asked_at IS NOT NULL"


class OnPostgreSQL(Operation):
    """Execute statements on a model's table, and others backwards; does nothing on other databases.

    Args:
        model_name: whose table it is; `{table}` in the statements stands for its quoted name.
        forwards: the statements.
        backwards: what undoes them.
    """

    reduces_to_sql = True
    reversible = True

    def __init__(self, model_name: str, forwards: str, backwards: str) -> None:
        self.model_name, self.forwards, self.backwards = model_name, forwards, backwards

    def state_forwards(self, app_label: str, state: ProjectState) -> None:
        """Change nothing: models do not know of it."""

    def database_forwards(
        self, app_label: str, schema_editor: BaseDatabaseSchemaEditor, from_state: ProjectState, to_state: ProjectState
    ) -> None:
        """Execute the statements."""
        self._execute(app_label, schema_editor, to_state, self.forwards)

    def database_backwards(
        self, app_label: str, schema_editor: BaseDatabaseSchemaEditor, from_state: ProjectState, to_state: ProjectState
    ) -> None:
        """Undo them."""
        self._execute(app_label, schema_editor, to_state, self.backwards)

    def describe(self) -> str:
        """Return what the log of migrations says."""
        return f"On PostgreSQL: {self.forwards}"

    def _execute(self, app_label: str, editor: BaseDatabaseSchemaEditor, state: ProjectState, sql: str) -> None:
        connection, model = editor.connection, state.apps.get_model(app_label, self.model_name)
        if connection.vendor == "postgresql" and self.allow_migrate_model(connection.alias, model):
            editor.execute(sql.format(table=editor.quote_name(model._meta.db_table)))  # noqa: SLF001  # public


def stored(model_name: str, values: Values) -> OnPostgreSQL:
    """Return the operation that sets storage parameters of a model's table; no row is rewritten.

    Args:
        model_name: whose table it is.
        values: the parameters.
    """
    settings = ", ".join(f"{name} = {value}" for name, value in values.items())
    return OnPostgreSQL(
        model_name, f"ALTER TABLE {{table}} SET ({settings})", f"ALTER TABLE {{table}} RESET ({', '.join(values)})"
    )
