"""The jobs on the disk: a table in SQLite, and a file for each video that is done, in one folder.

    jobs.sqlite              one row a job, with the request that makes its video
    video_<hex>.mp4          a video; .part.mp4 while it is written
    video_<hex>.pictures     those that it begins and ends with, until it is done
    server-<hex>.lock        held by a server for as long as it lives: whose jobs nobody works on is seen by that

Several servers may share the folder: each works on the jobs that it took, and sees those of all. A job whose server is
dead is taken by another (`adopt`); one that two servers died of is not tried again. Every change is one transaction.
"""

from __future__ import annotations

import fcntl
import os
import sqlite3
import time
import uuid
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import msgspec

from tutti.errors import InvalidRequest, NotFound, StoreError
from tutti.request import MediaInput, Request

QUEUED, IN_PROGRESS, COMPLETED, FAILED = "queued", "in_progress", "completed", "failed"
_TRIES = 2  # servers that may die while they work on a job
_SCHEMA = """
create table if not exists jobs (
    number integer primary key autoincrement,
    id text not null unique,
    caller text not null,
    server text not null,
    request blob not null,
    status text not null,
    progress integer not null default 0,
    tries integer not null default 0,
    created integer not null,
    completed integer,
    code text not null default '',
    message text not null default ''
)
"""
_FIELDS = "number, id, caller, server, request, status, progress, tries, created, completed, code, message"


class Job(msgspec.Struct, frozen=True):
    """A row. `caller` is the key it was asked for with, or ""; times are in seconds since the epoch."""

    number: int
    id: str
    caller: str
    server: str
    request: bytes  # JSON of a `Request` that is complete but for its pictures' arrays
    status: str
    progress: int
    tries: int
    created: int
    completed: int | None
    code: str
    message: str

    @property
    def ended(self) -> bool:
        """Whether nothing is to be done for it any more."""
        return self.status in (COMPLETED, FAILED)

    @property
    def readable(self) -> bool:
        """Whether `read` can."""
        try:
            self.read()
        except StoreError:
            return False
        return True

    def read(self) -> Request:
        """What was asked for. Raises StoreError where another version wrote it so that we cannot."""
        try:
            return msgspec.json.decode(self.request, type=Request)
        except msgspec.DecodeError as error:
            raise StoreError(
                f"the video {self.id} was asked of another version of Tutti: ask again"
            ) from error


class JobStore:
    """The jobs in one folder, for one server. Not for several threads."""

    def __init__(self, folder: Path) -> None:
        """Raises StoreError on a folder that cannot be written."""
        self.folder = folder
        self._server = uuid.uuid4().hex
        try:
            folder.mkdir(parents=True, exist_ok=True)
            self._lock = _locked(self._lock_file(self._server))
            self._table = sqlite3.connect(folder / "jobs.sqlite", isolation_level=None, timeout=10)
            self._table.execute("pragma journal_mode = wal")
            self._table.execute("pragma synchronous = normal")
            self._table.execute(_SCHEMA)
        except (OSError, sqlite3.Error) as error:
            raise StoreError(
                f"videos cannot be kept in {folder} ({error}); TUTTI_VIDEOS names another folder"
            ) from error

    @staticmethod
    def exists(folder: Path) -> bool:
        """Whether there are jobs in a folder."""
        return (folder / "jobs.sqlite").is_file()

    def close(self) -> None:
        """Leave what is not done to the next server."""
        with _told(self.folder):
            self._table.execute(
                "update jobs set status = ?, progress = 0 where server = ? and status = ?",
                (QUEUED, self._server, IN_PROGRESS),
            )
            self._table.close()
        self._lock_file(self._server).unlink(missing_ok=True)
        os.close(self._lock)

    def film(self, id: str) -> Path:
        """Where the video of a job is once it is done."""
        return self.folder / f"{id}.mp4"

    def part(self, id: str) -> Path:
        """Where it is before."""
        return self.folder / f"{id}.part.mp4"

    def pictures(self, id: str) -> Path:
        """Where its pictures are until it is done, if it has any."""
        return self.folder / f"{id}.pictures"

    def add(self, caller: str | None, request: Request) -> Job:
        """A new job, of this server. Raises StoreError."""
        pictures = tuple(part for part in request.parts if isinstance(part, MediaInput))
        if pictures:
            try:
                self.pictures(request.id).write_bytes(msgspec.msgpack.encode(pictures))
            except OSError as error:
                raise StoreError(f"pictures cannot be kept in {self.folder}: {error}") from error
        with _told(self.folder):
            self._table.execute(
                "insert into jobs (id, caller, server, request, status, created) values (?, ?, ?, ?, ?, ?)",
                (
                    request.id,
                    caller or "",
                    self._server,
                    msgspec.json.encode(_lighter(request)),
                    QUEUED,
                    int(time.time()),
                ),
            )
        return self.get(caller, request.id)

    def request(self, job: Job) -> Request:
        """The request that makes the video of a job. Raises StoreError, also where its pictures are gone or damaged."""
        request = job.read()
        if not any(isinstance(part, MediaInput) for part in request.parts):
            return request
        try:
            data = self.pictures(job.id).read_bytes()
            kept = msgspec.msgpack.decode(data, type=tuple[MediaInput, ...])
            if not all(map(_whole, kept)):
                raise StoreError("they are not what was sent")
        except (OSError, msgspec.DecodeError, StoreError) as error:
            raise StoreError(
                f"the pictures that the video {job.id} was to be made from cannot be read any more ({error}): ask again"
            ) from error
        pictures = iter(kept)
        parts = tuple(next(pictures) if isinstance(part, MediaInput) else part for part in request.parts)
        return msgspec.structs.replace(request, parts=parts)

    def get(self, caller: str | None, id: str) -> Job:
        """A job of this caller. Raises NotFound."""
        found = self._select("where id = ? and caller = ?", id, caller or "")
        if not found:
            raise NotFound(f"There is no video {id!r}.", param="video_id")
        return found[0]

    def page(
        self, caller: str | None, after: str | None, limit: int, *, newest_first: bool
    ) -> tuple[list[Job], bool]:
        """So many jobs of this caller after the one of that id, and whether there are more. Raises InvalidRequest."""
        where, values = "where caller = ?", [caller or ""]
        if after is not None:
            try:
                place = self.get(caller, after).number
            except NotFound as error:
                raise InvalidRequest(f"after: there is no video {after!r}.", param="after") from error
            where, values = f"{where} and number {'<' if newest_first else '>'} ?", [*values, str(place)]
        order = "desc" if newest_first else "asc"
        found = self._select(f"{where} order by number {order} limit {limit + 1}", *values)
        return found[:limit], len(found) > limit

    def progress(self, id: str, percent: int) -> bool:
        """Note how far it is; whether there is such a job of this server still."""
        return self._update(id, "status = ?, progress = ?", IN_PROGRESS, percent)

    def complete(self, id: str) -> bool:
        """Its video is there: `part` becomes `film`. Whether it was still wanted."""
        self.part(id).rename(self.film(id))
        done = "status = ?, progress = 100, completed = ?, code = '', message = ''"
        wanted = self._update(id, done, COMPLETED, int(time.time()))
        if not wanted:
            self._remove_files(id)
        self.pictures(id).unlink(missing_ok=True)
        return wanted

    def fail(self, id: str, code: str, message: str) -> None:
        """It cannot be made."""
        self._update(id, "status = ?, code = ?, message = ?", FAILED, code, message)
        self._remove_files(id)

    def delete(self, id: str) -> None:
        """Forget it; a server that works on it sees that."""
        self._remove_files(id)
        with _told(self.folder):
            self._table.execute("delete from jobs where id = ?", (id,))

    def orphans(self) -> list[Job]:
        """The jobs that are not done and whose servers are dead."""
        waiting = self._select("where status in (?, ?) and server <> ?", QUEUED, IN_PROGRESS, self._server)
        dead = {server for server in {job.server for job in waiting} if self._is_dead(server)}
        return [job for job in waiting if job.server in dead]

    def adopt(self, job: Job) -> Job | None:
        """Make an orphan this server's; None where another server was quicker, or where it is not tried again."""
        tries = job.tries + (job.status == IN_PROGRESS)
        with _told(self.folder):
            taken = self._table.execute(
                "update jobs set server = ?, status = ?, progress = 0, tries = ? where id = ? and server = ?",
                (self._server, QUEUED, tries, job.id, job.server),
            )
        if not taken.rowcount:
            return None
        if tries >= _TRIES:
            self.fail(job.id, "server_died", f"The server died {tries} times while it made this video.")
            return None
        return self.get(job.caller, job.id)

    def _select(self, rest: str, *values: str) -> list[Job]:
        with _told(self.folder):
            rows = self._table.execute(f"select {_FIELDS} from jobs {rest}", values).fetchall()
        return [Job(*row) for row in rows]

    def _update(self, id: str, fields: str, *values: str | int) -> bool:
        with _told(self.folder):
            done = self._table.execute(
                f"update jobs set {fields} where id = ? and server = ?", (*values, id, self._server)
            )
        return done.rowcount > 0

    def _remove_files(self, id: str) -> None:
        self.part(id).unlink(missing_ok=True)
        self.film(id).unlink(missing_ok=True)
        self.pictures(id).unlink(missing_ok=True)

    def _lock_file(self, server: str) -> Path:
        return self.folder / f"server-{server}.lock"

    def _is_dead(self, server: str) -> bool:
        """Whether nobody holds the lock of a server; what is left of it goes."""
        path = self._lock_file(server)
        try:
            descriptor = os.open(path, os.O_RDWR | os.O_CLOEXEC)
        except FileNotFoundError:
            return True
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return False
        else:
            with suppress(FileNotFoundError):
                path.unlink()
            return True
        finally:
            os.close(descriptor)


def _lighter(request: Request) -> Request:
    """`request` without the arrays of its pictures."""
    parts = tuple(
        msgspec.structs.replace(part, arrays={}) if isinstance(part, MediaInput) else part
        for part in request.parts
    )
    return msgspec.structs.replace(request, parts=parts)


def _whole(picture: MediaInput) -> bool:
    """Whether the arrays are those that the picture's name was made of."""
    from tutti.models.processor.media import ReadMedium

    named = ReadMedium(picture.modality, picture.arrays, 0, attributes=picture.attributes)
    return named.digest == picture.digest


def _locked(path: Path) -> int:
    """A descriptor that holds the lock at `path`, which is new."""
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
    fcntl.flock(descriptor, fcntl.LOCK_EX)
    return descriptor


@contextmanager
def _told(folder: Path) -> Iterator[None]:
    """What SQLite raises, as an error of ours."""
    try:
        yield
    except sqlite3.Error as error:
        raise StoreError(f"the jobs in {folder} cannot be read or written: {error}") from error
