"""An SQLite database that the event loop can use: one connection, one thread, one transaction at a time."""

import asyncio
import contextlib
import os
import sqlite3
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TypeVar

from service.errors import ServiceError, StorageFullError, StorageUnavailableError

T = TypeVar("T")

_MEMORY = ":memory:"


class UnusableDatabaseError(Exception):
    """The database cannot be used. The message is for the operator and names no path."""


class Database:
    """Nobody else has the file open while this one does, and only the user of this process may read it.

    What is deleted is overwritten with zeros, and the write-ahead log is emptied after `do(.., scrub=True)`.
    """

    def __init__(self, path: Path | None, schema: str, version: int) -> None:
        """Open the file, and make the tables where it is new.

        Args:
            path: the file; its folder is made where it is missing. None for a database in memory.
            schema: the statements that make the tables.
            version: of the schema.

        Raises:
            UnusableDatabaseError: it is no database, a broken one, one of another version, in use, or not writable.
        """
        self._thread = ThreadPoolExecutor(1, "jobs")
        try:
            if path is not None:
                _make_private(path)
            self._connection = sqlite3.connect(
                path or _MEMORY, isolation_level=None, check_same_thread=False, timeout=1
            )
            self._connection.row_factory = sqlite3.Row
            try:
                _prepare(self._connection, schema, version)
            except BaseException:
                self._connection.close()
                raise
        except sqlite3.OperationalError as error:
            if error.sqlite_errorcode & 0xFF == sqlite3.SQLITE_BUSY:
                raise UnusableDatabaseError("another service uses the jobs database") from None
            raise UnusableDatabaseError(f"the jobs database cannot be opened: {error.sqlite_errorname}") from None
        except sqlite3.DatabaseError:
            raise UnusableDatabaseError("the jobs database is damaged, or no such database: move it away") from None
        except OSError as error:
            raise UnusableDatabaseError(f"the jobs database cannot be opened: {error.strerror}") from None

    async def do(self, work: Callable[[sqlite3.Connection], T], *, scrub: bool = False) -> T:
        """Do some work within one transaction: all of it is on the disk afterwards, or nothing.

        Args:
            work: is called in the database's thread. Whatever it raises undoes the transaction.
            scrub: leave nothing of what it deleted in the write-ahead log.

        Raises:
            StorageFullError: there is no room for it.
            StorageUnavailableError: the database cannot be read or written.
        """
        try:
            return await asyncio.get_running_loop().run_in_executor(self._thread, self._transaction, work, scrub)
        except sqlite3.Error as error:
            raise _service_error(error) from None

    def close(self) -> None:
        """Wait for what is being done, and close the file."""
        self._thread.shutdown()
        with contextlib.suppress(sqlite3.Error):
            self._connection.close()

    def _transaction(self, work: Callable[[sqlite3.Connection], T], scrub: bool) -> T:
        self._connection.execute("BEGIN IMMEDIATE")
        try:
            result = work(self._connection)
            self._connection.execute("COMMIT")
        except BaseException:
            if self._connection.in_transaction:  # a full disk ends the transaction by itself
                self._connection.execute("ROLLBACK")
            raise
        if scrub:
            with contextlib.suppress(sqlite3.Error):  # the work is done; the next one empties the log
                self._connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
        return result


def _make_private(path: Path) -> None:
    """Make the file, for this user alone, and its folder where that is missing."""
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    descriptor = os.open(path, os.O_CREAT | os.O_RDWR, 0o600)
    try:
        os.fchmod(descriptor, 0o600)  # SQLite gives the files beside it the same
    finally:
        os.close(descriptor)


def _prepare(connection: sqlite3.Connection, schema: str, version: int) -> None:
    # Exclusive: a second service would do every job a second time. The system lets go of the lock of a dead process.
    connection.execute("PRAGMA locking_mode = EXCLUSIVE")
    connection.execute("PRAGMA journal_mode = WAL")
    connection.execute("PRAGMA synchronous = FULL")
    connection.execute("PRAGMA secure_delete = ON")
    connection.execute("PRAGMA foreign_keys = ON")
    if connection.execute("PRAGMA quick_check(1)").fetchone()[0] != "ok":
        raise sqlite3.DatabaseError("quick_check")
    found = connection.execute("PRAGMA user_version").fetchone()[0]
    if found == 0:
        connection.executescript(f"BEGIN IMMEDIATE; {schema}; PRAGMA user_version = {version}; COMMIT")
    elif found != version:
        raise UnusableDatabaseError("the jobs database was made by another version of Whylight")
    else:
        connection.execute("BEGIN IMMEDIATE")  # takes the lock
        connection.execute("COMMIT")


def _service_error(error: sqlite3.Error) -> ServiceError:
    """What a client is told of a failure; SQLite's own text may name a file."""
    if getattr(error, "sqlite_errorcode", 0) & 0xFF == sqlite3.SQLITE_FULL:
        return StorageFullError("there is no room on the disk for jobs")
    return StorageUnavailableError("the jobs cannot be read or written now")
