"""Rows that are entered unless they are there already: one statement, on each database.

Another transaction that enters the same row is waited for; when it has committed, its row stands.
"""

from functools import cache
from typing import Any

from sqlalchemy import Executable, Table
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.orm import DeclarativeBase, Session

#: Of PostgreSQL and SQLite, which say it in the same words.
Insert = postgresql.Insert | sqlite.Insert


def enter(tx: Session, kind: type[DeclarativeBase], values: dict[str, Any]) -> int | None:
    """Enter a row; its number, or None if another row has what is to be unique.

    What the session has not flushed is not seen. Raises IntegrityError where another rule is broken.
    """
    connection = tx.connection()
    number: int | None = connection.execute(_unless_known(table_of(kind), connection.dialect.name), values).scalar()
    return number


def table_of(kind: type[DeclarativeBase]) -> Table:
    """The table of a class, for statements that need no objects."""
    assert isinstance(kind.__table__, Table)
    return kind.__table__


def insert_into(table: Table, dialect: str) -> Insert:
    """An INSERT that can say what to do on a conflict."""
    return postgresql.insert(table) if dialect == "postgresql" else sqlite.insert(table)


@cache
def _unless_known(table: Table, dialect: str) -> Executable:
    (number,) = table.primary_key.columns
    return insert_into(table, dialect).on_conflict_do_nothing().returning(number)
