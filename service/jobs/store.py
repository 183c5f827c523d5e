"""Keeps the jobs: what was accepted is there after a crash, exactly once."""

import sqlite3
from pathlib import Path

from service.errors import JobsFullError
from service.jobs.database import Database
from service.jobs.job import Ending, Job, State

VERSION = 1
# Bodies lie in tables of their own: SQLite writes a whole row again when a word of it changes.
SCHEMA = """
CREATE TABLE jobs (
    seq INTEGER PRIMARY KEY AUTOINCREMENT,
    name TEXT NOT NULL UNIQUE,
    client TEXT NOT NULL,
    request_id TEXT,
    digest BLOB NOT NULL,
    model TEXT NOT NULL,
    method TEXT NOT NULL,
    timeout REAL NOT NULL,
    ttl REAL NOT NULL,
    created REAL NOT NULL,
    expires REAL NOT NULL,
    state TEXT NOT NULL DEFAULT 'queued',
    attempts INTEGER NOT NULL DEFAULT 0,
    not_before REAL NOT NULL DEFAULT 0,
    started REAL,
    ended REAL,
    size INTEGER NOT NULL,
    UNIQUE (client, request_id)
);
CREATE TABLE requests (seq INTEGER PRIMARY KEY REFERENCES jobs ON DELETE CASCADE, body BLOB NOT NULL);
CREATE TABLE results (seq INTEGER PRIMARY KEY REFERENCES jobs ON DELETE CASCADE, body BLOB NOT NULL);
CREATE INDEX jobs_of_client ON jobs (client, started);
CREATE INDEX jobs_by_state ON jobs (state, not_before);
CREATE INDEX jobs_by_expiry ON jobs (expires)
"""
_JOB = """
SELECT name, client, IFNULL(request_id, ''), digest, model, method, timeout, ttl, created, expires, state, attempts,
       started, ended, IFNULL(body, x'') AS result, seq
FROM jobs LEFT JOIN results USING (seq)
"""
# The client who has waited longest since a job of theirs was begun; of their jobs the oldest.
_NEXT = """
SELECT name FROM jobs WHERE state = 'queued' AND not_before <= ?
ORDER BY IFNULL((SELECT MAX(other.started) FROM jobs AS other WHERE other.client = jobs.client), 0), seq LIMIT 1
"""


class JobStore:
    """The jobs of all clients, with their requests until they end and their results after that.

    Every method may raise StorageFullError or StorageUnavailableError, and has then changed nothing.
    """

    def __init__(self, path: Path | None, per_client: int, most_bytes: int) -> None:
        """Open the database.

        Args:
            path: the file; None to keep the jobs in memory.
            per_client: jobs that one client may have.
            most_bytes: bytes of requests and results that may be kept.

        Raises:
            UnusableDatabaseError: it cannot be used.
        """
        self._per_client = per_client
        self._most_bytes = most_bytes
        self.database = Database(path, SCHEMA, VERSION)

    async def check_room(self, client: str, size: int) -> None:
        """See whether there is room for one more job of a client, with a request of `size` bytes.

        Raises:
            JobsFullError: there is none.
        """

        def check(connection: sqlite3.Connection) -> None:
            (count,) = connection.execute("SELECT COUNT(*) FROM jobs WHERE client = ?", [client]).fetchone()
            if count >= self._per_client:
                raise JobsFullError("the client has as many jobs as it may have; delete some that have ended")
            self._check_bytes(connection, size)

        await self.database.do(check)

    async def add(self, job: Job, request: bytes) -> None:
        """Keep a new job."""

        def insert(connection: sqlite3.Connection) -> None:
            cursor = connection.execute(
                "INSERT INTO jobs"
                " (name, client, request_id, digest, model, method, timeout, ttl, created, expires, size)"
                " VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
                (job.name, job.client, job.request_id or None, job.digest, job.model, job.method, job.timeout, job.ttl,
                 job.created, job.expires, len(request)),
            )  # fmt: skip
            connection.execute("INSERT INTO requests VALUES (?, ?)", (cursor.lastrowid, request))

        await self.database.do(insert)

    async def get(self, client: str, name: str) -> Job | None:
        """A client's job by name."""
        return await self._one("client = ? AND name = ?", client, name)

    async def find(self, client: str, request_id: str) -> Job | None:
        """A client's job by the client's own id."""
        return await self._one("client = ? AND request_id = ?", client, request_id)

    async def page(
        self, client: str, done: bool | None, before: int | None, limit: int, most_bytes: int
    ) -> tuple[list[Job], int | None]:
        """Some of a client's jobs, newest first, and where the next page begins, or None after the last one.

        Args:
            client: whose.
            done: only those that have ended, or only those that have not.
            before: where the page begins: what the page before gave; None for the first one.
            limit: at most so many jobs.
            most_bytes: no more jobs once their results have so many bytes.
        """

        def read(connection: sqlite3.Connection) -> tuple[list[Job], int | None]:
            jobs: list[Job] = []
            size, last = 0, None
            rows = connection.execute(
                f"{_JOB} WHERE client = ? AND (? IS NULL OR (ended IS NOT NULL) = ?) AND (? IS NULL OR seq < ?)"
                " ORDER BY seq DESC",
                (client, done, done, before, before),
            )
            for row in rows:
                if jobs and (len(jobs) == limit or size + len(row["result"]) > most_bytes):
                    return jobs, last
                jobs.append(_job(row))
                size += len(row["result"])
                last = row["seq"]
            return jobs, None

        return await self.database.do(read)

    async def claim(self, now: float) -> tuple[Job, bytes] | None:
        """Begin the job whose turn it is: it, and its request."""

        def begin(connection: sqlite3.Connection) -> tuple[Job, bytes] | None:
            found = connection.execute(_NEXT, [now]).fetchone()
            if found is None:
                return None
            connection.execute(
                "UPDATE jobs SET state = 'running', started = ?, attempts = attempts + 1 WHERE name = ?",
                (now, found["name"]),
            )
            row = _select(connection, "name = ?", found["name"]).fetchone()
            (request,) = connection.execute("SELECT body FROM requests WHERE seq = ?", [row["seq"]]).fetchone()
            return _job(row), request

        return await self.database.do(begin)

    async def postpone(self, name: str, until: float, *, counts: bool) -> None:
        """Let a running job wait again; `counts` says whether the attempt counts as one."""
        await self.database.do(
            lambda connection: connection.execute(
                "UPDATE jobs SET state = 'queued', not_before = ?, attempts = attempts - ? WHERE name = ?"
                " AND state = 'running'",
                (until, 0 if counts else 1, name),
            )
        )

    async def requeue(self, *, counts: bool) -> None:
        """Let every running job wait again: at the end of the service, or, where it counts, after it has died."""
        await self.database.do(
            lambda connection: connection.execute(
                "UPDATE jobs SET state = 'queued', attempts = attempts - ? WHERE state = 'running'", [not counts]
            )
        )

    async def finish(self, name: str, ending: Ending, now: float) -> Job | None:
        """End a job: its result is kept and its request deleted. None where it has ended already, or is gone.

        Raises:
            JobsFullError: there is no room for the result.
        """

        def end(connection: sqlite3.Connection) -> Job | None:
            row = _select(connection, "name = ? AND ended IS NULL", name).fetchone()
            if row is None:
                return None
            connection.execute("DELETE FROM requests WHERE seq = ?", [row["seq"]])
            connection.execute(
                "UPDATE jobs SET state = ?, ended = ?, expires = ? + ttl, size = 0 WHERE seq = ?",
                (ending.state, now, now, row["seq"]),
            )
            if ending.state == State.SUCCEEDED:
                self._check_bytes(connection, len(ending.result))
            connection.execute("UPDATE jobs SET size = ? WHERE seq = ?", (len(ending.result), row["seq"]))
            connection.execute("INSERT INTO results VALUES (?, ?)", (row["seq"], ending.result))
            return _job(_select(connection, "name = ?", name).fetchone())

        return await self.database.do(end, scrub=True)

    async def delete(self, client: str, name: str) -> bool:
        """Forget a client's job; whether there was one."""

        def remove(connection: sqlite3.Connection) -> bool:
            cursor = connection.execute("DELETE FROM jobs WHERE client = ? AND name = ?", (client, name))
            return cursor.rowcount > 0

        return await self.database.do(remove, scrub=True)

    async def forget_expired(self, now: float) -> list[str]:
        """Forget the ended jobs whose time is over; gives the names of the others whose time is over."""

        def sweep(connection: sqlite3.Connection) -> tuple[int, list[str]]:
            gone = connection.execute("DELETE FROM jobs WHERE ended IS NOT NULL AND expires <= ?", [now]).rowcount
            late = connection.execute("SELECT name FROM jobs WHERE ended IS NULL AND expires <= ?", [now])
            return gone, [row["name"] for row in late]

        gone, late = await self.database.do(sweep)
        if gone:
            await self.database.do(lambda connection: None, scrub=True)
        return late

    async def counts(self) -> dict[State, int]:
        """How many jobs there are in each state."""

        def count(connection: sqlite3.Connection) -> dict[State, int]:
            found = dict.fromkeys(State, 0)
            for state, number in connection.execute("SELECT state, COUNT(*) FROM jobs GROUP BY state"):
                found[State(state)] = number
            return found

        return await self.database.do(count)

    def close(self) -> None:
        """Close the database."""
        self.database.close()

    async def _one(self, condition: str, *values: str) -> Job | None:
        row = await self.database.do(lambda connection: _select(connection, condition, *values).fetchone())
        return None if row is None else _job(row)

    def _check_bytes(self, connection: sqlite3.Connection, size: int) -> None:
        (used,) = connection.execute("SELECT IFNULL(SUM(size), 0) FROM jobs").fetchone()
        if used + size > self._most_bytes:
            raise JobsFullError("all jobs together have as many bytes as they may have")


def _select(connection: sqlite3.Connection, condition: str, *values: str) -> sqlite3.Cursor:
    return connection.execute(f"{_JOB} WHERE {condition}", values)


def _job(row: sqlite3.Row) -> Job:
    *values, body, _ = tuple(row)
    fields = dict(zip(Job.__dataclass_fields__, [*values, body], strict=True))
    return Job(**{**fields, "state": State(fields["state"])})
