"""What happens to the SQLite store's file, and what the store then does."""

from __future__ import annotations

import asyncio
import os
import resource
import signal
import sqlite3
import stat
import subprocess
import sys
import tempfile
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import asynccontextmanager, closing, contextmanager
from pathlib import Path

import pytest

from sidecar.errors import InvalidValue, StoreError, StoreUnavailable, StoreUnusable
from sidecar.ports import Store
from sidecar.records import AccessKey, ApiKey, App, Changes, NewUser, Session, SigningKey, User
from sidecar.stores import open_store
from sidecar.stores.sqlite import SqliteStore, changes, schema
from tests.running import locked

NOBODY = 65534
SESSION = Session("s", 1, created_at=1000.0, last_used_at=1000.0, expires_at=2000.0)


def opened(path: Path, busy_timeout: float = 5.0) -> SqliteStore:
    store = open_store(f"sqlite:///{path}", busy_timeout=busy_timeout)
    assert isinstance(store, SqliteStore)
    return store


@asynccontextmanager
async def using(path: Path, busy_timeout: float = 5.0) -> AsyncIterator[SqliteStore]:
    store = opened(path, busy_timeout)
    try:
        yield store
    finally:
        await store.close()


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "store.db"


@pytest.fixture
async def store(path: Path) -> AsyncIterator[SqliteStore]:
    """A store that waits for other writers for a fifth of a second, with one session."""
    async with using(path, busy_timeout=0.2) as store:
        await store.sessions.add(SESSION)
        yield store


def names(directory: Path) -> list[str]:
    return sorted(each.name for each in directory.iterdir())


def mode(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


def version(path: Path) -> int:
    with closing(sqlite3.connect(path)) as connection:
        found: int = connection.execute("PRAGMA user_version").fetchone()[0]
        return found


def in_another_process(program: str, *arguments: str | Path) -> str:
    run = [sys.executable, "-c", program, *map(str, arguments)]
    return subprocess.run(run, check=True, capture_output=True, text=True, timeout=60).stdout


def overwrite(path: Path, content: bytes) -> None:
    """Overwrites the file in place, as `cp` does; in another process, as this one's closing would drop
    SQLite's locks."""
    program = "import sys; open(sys.argv[1], 'wb').write(bytes.fromhex(sys.argv[2]))"
    in_another_process(program, path, content.hex())


async def touch(store: Store) -> bool:
    return await store.sessions.touch("s", now=1060.0, unused_since=1000.0)


async def use(store: Store) -> bool:
    return await store.nonces.use("n", now=1060.0, expires_at=2000.0)


async def add(store: Store) -> int:
    return (await store.counters.add("c", now=1060.0, ends_at=2000.0)).count


async def revoke(store: Store) -> int:
    return await store.sessions.revoke(["s"])


# --- a new file ----------------------------------------------------------------------------------


async def test_the_file_its_journals_and_its_directories_are_private(tmp_path: Path) -> None:
    path = tmp_path / "missing" / "too" / "store.db"
    before = os.umask(0)
    try:
        async with using(path) as store:
            await store.sessions.add(SESSION)
            modes = {each.name: mode(each) for each in path.parent.iterdir()}
    finally:
        os.umask(before)

    assert modes == {"store.db": 0o600, "store.db-wal": 0o600, "store.db-shm": 0o600}
    assert [mode(path.parent), mode(path.parent.parent)] == [0o700, 0o700]


async def test_a_closed_store_is_one_file(path: Path) -> None:
    async with using(path) as store:
        await store.sessions.add(SESSION)
    assert names(path.parent) == ["store.db"]


async def test_the_address_is_relative_or_absolute(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    for url in ("sqlite:///a b%41.db", f"sqlite:///{tmp_path}/absolute.db"):
        store = open_store(url)
        await store.sessions.add(SESSION)
        await store.close()
    assert names(tmp_path) == ["a b%41.db", "absolute.db"]


@pytest.mark.parametrize(
    "url",
    ["", "store.db", "sqlite:", "sqlite://", "sqlite:///", "sqlite://host/db", "sqlite:////tmp/", "sqlite:///a?b=c",
     "sqlite:///a\0b", "SQLITE:///x", "postgresql://me:hunter2@host/db"],
)  # fmt: skip
def test_an_address_that_names_no_store_is_refused(url: str) -> None:
    with pytest.raises(InvalidValue, match="sqlite://") as refused:
        open_store(url)
    assert "hunter2" not in str(refused.value)


@pytest.fixture
def empty_file(path: Path) -> Path:
    path.touch()
    return path


async def test_an_empty_file_becomes_a_store(empty_file: Path) -> None:
    async with using(empty_file) as store:
        await store.sessions.add(SESSION)
        assert await store.sessions.find("s") == SESSION
    assert version(empty_file) == len(schema.MIGRATIONS)


FIRST = """
import asyncio, sys
from sidecar.records import SigningKey
from sidecar.stores import open_store

async def main():
    store = open_store(f"sqlite:///{sys.argv[1]}")
    sys.stdin.readline()
    await store.signing_keys.add_first(SigningKey(sys.argv[2], "HS256", b"", 1.0))
    print((await store.secret("cookie")).hex(), [key.id for key in await store.signing_keys.list(now=1.0)])
    await store.close()

asyncio.run(main())
"""


def test_processes_that_start_at_once_share_one_store(path: Path) -> None:
    run = [sys.executable, "-c", FIRST, str(path)]
    processes = [
        subprocess.Popen([*run, str(number)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        for number in range(6)
    ]
    answers = {process.communicate("\n", timeout=60)[0] for process in processes}

    assert [process.returncode for process in processes] == [0] * 6
    assert len(answers) == 1


# --- a file that must not be used ----------------------------------------------------------------


def sqlite_file(path: Path, *statements: str) -> None:
    with closing(sqlite3.connect(path)) as connection:
        for statement in statements:
            connection.execute(statement)
        connection.commit()


NOT_OURS: dict[str, tuple[Callable[[Path], object], str]] = {
    "a text": (lambda path: path.write_text("users:\n- ann\n"), "not an SQLite database"),
    "a long text": (lambda path: path.write_text("ann\n" * 5000), "not an SQLite database"),
    "zeros": (lambda path: path.write_bytes(bytes(8192)), "not an SQLite database"),
    "one byte": (lambda path: path.write_bytes(b"S"), "not an SQLite database"),
    "another application's": (
        lambda path: sqlite_file(path, "PRAGMA application_id = 7", "CREATE TABLE users (id)"),
        "another application",
    ),
    "nobody's, in WAL mode": (
        lambda path: sqlite_file(path, "PRAGMA journal_mode = WAL", "CREATE TABLE users (id)"),
        "another application",
    ),
}


@pytest.mark.parametrize(("make", "message"), NOT_OURS.values(), ids=NOT_OURS)
def test_a_file_that_is_not_ours_is_refused_and_left_as_it_is(
    path: Path, make: Callable[[Path], object], message: str
) -> None:
    make(path)
    before = path.read_bytes(), path.stat().st_mtime_ns
    with pytest.raises(StoreUnusable, match=message) as refused:
        opened(path)

    assert str(path) in str(refused.value)
    assert "\n" not in str(refused.value)
    assert (path.read_bytes(), path.stat().st_mtime_ns) == before
    assert list(path.parent.iterdir()) == [path]


@pytest.mark.parametrize("kind", ["directory", "pipe", "dangling link", "below a file"])
def test_what_is_not_a_file_is_refused(path: Path, kind: str) -> None:
    if kind == "directory":
        path.mkdir()
    elif kind == "pipe":
        os.mkfifo(path)
    elif kind == "dangling link":
        path.symlink_to(path.parent / "nowhere")
    else:
        path.write_text("")
        path /= "store.db"
    with pytest.raises(StoreUnusable, match=str(path)):
        opened(path)


async def test_a_newer_schema_is_refused_with_both_versions(path: Path) -> None:
    async with using(path) as store:
        await store.sessions.add(SESSION)
    known = len(schema.MIGRATIONS)
    sqlite_file(path, f"PRAGMA user_version = {known + 7}")
    with pytest.raises(StoreUnusable, match=rf"version {known + 7}.* up to {known}\b"):
        opened(path)
    assert version(path) == known + 7


@contextmanager
def unprivileged() -> Iterator[None]:
    """As a user whom permissions bind: root may write everything."""
    if os.geteuid() != 0:
        yield
        return
    os.seteuid(NOBODY)
    try:
        yield
    finally:
        os.seteuid(0)


@pytest.fixture
def open_directory() -> Iterator[Path]:
    """A directory that every user can reach: pytest's own are private."""
    with tempfile.TemporaryDirectory(dir="/tmp") as directory:
        Path(directory).chmod(0o777)
        yield Path(directory)


@contextmanager
def permitted(path: Path, permissions: int) -> Iterator[None]:
    """The file or directory has other permissions."""
    before = mode(path)
    path.chmod(permissions)
    try:
        yield
    finally:
        path.chmod(before)


def test_a_directory_that_cannot_be_written_is_named(open_directory: Path) -> None:
    refused = pytest.raises(StoreUnusable, match=f"write in {open_directory}")
    with permitted(open_directory, 0o555), unprivileged(), refused:
        opened(open_directory / "store.db")
    assert names(open_directory) == []


async def test_a_file_in_a_directory_that_cannot_be_written_is_refused(open_directory: Path) -> None:
    path = open_directory / "store.db"
    async with using(path) as store:
        await store.sessions.add(SESSION)
    refused = pytest.raises(StoreUnusable, match="its directory")
    with permitted(path, 0o666), permitted(open_directory, 0o555), unprivileged(), refused:
        opened(path)


# --- migrations ----------------------------------------------------------------------------------


@pytest.fixture
def next_version(monkeypatch: pytest.MonkeyPatch) -> Callable[..., int]:
    """Gives the schema one more migration of these statements; the version that it leads to."""

    def add(*statements: str) -> int:
        monkeypatch.setattr(schema, "MIGRATIONS", (*schema.MIGRATIONS, statements))
        return len(schema.MIGRATIONS)

    return add


async def test_an_older_schema_is_migrated_with_its_data(
    path: Path, next_version: Callable[..., int]
) -> None:
    async with using(path) as store:
        await store.sessions.add(SESSION)
    newer = next_version("CREATE TABLE news (id)", "INSERT INTO news VALUES (1)")

    async with using(path) as store, using(path) as again:
        assert await store.sessions.find("s") == await again.sessions.find("s") == SESSION
    assert version(path) == newer
    sqlite_file(path, "INSERT INTO news SELECT 2 FROM news")


async def test_a_migration_that_fails_changes_nothing(path: Path, next_version: Callable[..., int]) -> None:
    await opened(path).close()
    before = version(path)
    next_version("CREATE TABLE news (id)", "INSERT INTO nothing VALUES (1)")

    with pytest.raises(StoreError):
        opened(path)
    assert version(path) == before
    sqlite_file(path, "CREATE TABLE news (id)")


def make_version_1(path: Path) -> None:
    with closing(sqlite3.connect(path)) as connection:
        connection.executescript(Path(__file__).with_name("version_1.sql").read_text())


@pytest.fixture
def version_1(path: Path) -> Path:
    make_version_1(path)
    return path


def layout(path: Path) -> set[tuple[str, ...]]:
    with closing(sqlite3.connect(path)) as connection:
        assert connection.execute("PRAGMA integrity_check").fetchall() == [("ok",)]
        return set(connection.execute("SELECT type, name, tbl_name, sql FROM sqlite_master"))


async def test_a_file_of_version_1_keeps_all_it_has_and_becomes_as_a_new_one(version_1: Path) -> None:
    assert version(version_1) == 1
    async with using(version_1) as store:
        (ann,) = await store.users.list()
        assert (ann.username, ann.emails, ann.permissions) == ("ann", ("ann@example.com",), ("read", "write"))
        assert await store.sessions.find("s") == SESSION
        assert await store.api_keys.list() == [ApiKey("k", ann.id, "ci", ("read",), created_at=1000.0)]
        assert await store.access_keys.list() == [AccessKey("a", "backend", created_at=1000.0)]
        assert await store.apps.list() == [App("wiki", "Wiki", disabled=False, created_at=1000.0)]
        key = SigningKey("1", "ES256", b"\x00 key \xff", created_at=1000.0)
        assert await store.signing_keys.list(now=1000.0) == [key]
        assert await store.secret("cookie") == b"\xab" * 32
        assert await store.changes.since(4) == Changes(4)
        await store.check()
        assert [await use(store), await use(store)] == [True, False]
        assert [await add(store), await add(store)] == [1, 2]

    new = version_1.with_name("new.db")
    await opened(new).close()
    assert version(version_1) == version(new) == len(schema.MIGRATIONS)
    assert layout(version_1) == layout(new)


async def test_a_file_of_version_2_keeps_its_nonces(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with monkeypatch.context() as before:
        before.setattr(schema, "MIGRATIONS", schema.MIGRATIONS[:2])
        async with using(path) as store:
            assert await use(store)
    assert version(path) == 2
    async with using(path) as store:
        assert not await use(store)
        assert [await add(store), await add(store)] == [1, 2]
    assert version(path) == len(schema.MIGRATIONS)


def test_an_older_file_that_is_locked_is_left_for_later(version_1: Path) -> None:
    with locked(version_1), pytest.raises(StoreUnavailable, match="another writer"):
        opened(version_1, busy_timeout=0.05)
    assert version(version_1) == 1


def test_an_older_file_that_is_read_only_cannot_be_used(open_directory: Path) -> None:
    path = open_directory / "store.db"
    make_version_1(path)
    refused = pytest.raises(StoreUnusable, match="read-only")
    with permitted(path, 0o444), unprivileged(), refused:
        opened(path)
    assert version(path) == 1


USE = """
import asyncio, sys
from sidecar.stores import open_store

async def main():
    store = open_store(f"sqlite:///{sys.argv[1]}")
    sys.stdin.readline()
    for nonce in map(str, range(50)):
        if await store.nonces.use(nonce, now=1.0, expires_at=2.0):
            print(nonce)
    await store.close()

asyncio.run(main())
"""


def test_processes_that_migrate_one_file_share_its_nonces(version_1: Path) -> None:
    run = [sys.executable, "-c", USE, str(version_1)]
    processes = [
        subprocess.Popen(run, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) for _ in range(4)
    ]
    used = [nonce for process in processes for nonce in process.communicate("\n", timeout=60)[0].split()]

    assert [process.returncode for process in processes] == [0] * 4
    assert sorted(used, key=int) == [str(number) for number in range(50)]


# --- another writer ------------------------------------------------------------------------------


async def test_a_locked_store_still_reads_and_says_soon_that_it_cannot_write(
    store: SqliteStore, path: Path
) -> None:
    with locked(path):
        started = time.perf_counter()
        with pytest.raises(StoreUnavailable, match=r"another write"):
            await touch(store)
        assert time.perf_counter() - started < 1
        with pytest.raises(StoreUnavailable, match="another writer"):
            await revoke(store)

        assert await store.sessions.find("s") == SESSION
        await store.check()
        await store.changes.since(0)

    assert await touch(store)
    assert await revoke(store) == 1


@contextmanager
def locked_by_a_process(path: Path) -> Iterator[None]:
    program = (
        "import sqlite3, sys; c = sqlite3.connect(sys.argv[1], isolation_level=None);"
        "c.execute('BEGIN EXCLUSIVE'); print('locked', flush=True); sys.stdin.readline()"
    )
    run = [sys.executable, "-c", program, str(path)]
    with subprocess.Popen(run, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "locked\n"
        yield
        process.communicate("\n", timeout=60)


async def test_a_store_locked_by_another_process_still_reads(store: SqliteStore, path: Path) -> None:
    with locked_by_a_process(path):
        with pytest.raises(StoreUnavailable):
            await touch(store)
        assert await store.sessions.find("s") == SESSION
    assert await touch(store)


async def test_a_write_that_matters_waits_and_a_touch_does_not_wait_behind_it(path: Path) -> None:
    async with using(path) as store:
        await store.sessions.add(SESSION)
        with locked(path):
            revoking = asyncio.create_task(revoke(store))
            await asyncio.sleep(0)  # which starts it
            with pytest.raises(StoreUnavailable):
                await touch(store)
            assert not revoking.done()
        assert await revoking == 1
        assert await store.sessions.find("s") is None


async def test_a_nonce_does_not_wait_for_another_writer_and_is_then_unused(path: Path) -> None:
    async with using(path) as store:
        with locked(path):
            started = time.perf_counter()
            with pytest.raises(StoreUnavailable, match="another write"):
                await use(store)
            assert time.perf_counter() - started < 1
        assert [await use(store), await use(store)] == [True, False]


async def test_a_count_does_not_wait_for_another_writer_and_is_then_not_counted(path: Path) -> None:
    async with using(path) as store:
        with locked(path):
            started = time.perf_counter()
            for write in (add(store), store.counters.put([]), store.counters.clear(["c"])):
                with pytest.raises(StoreUnavailable, match="another write"):
                    await write
            assert time.perf_counter() - started < 1
            assert await store.counters.find("c", now=1060.0) is None
        assert await add(store) == 1


USE_AND_CRASH = """
import asyncio, os, signal, sys
from sidecar.stores import open_store

async def main():
    store = open_store(f"sqlite:///{sys.argv[1]}")
    assert await store.nonces.use("n", now=1.0, expires_at=2000.0)
    assert await store.counters.add("c", now=1.0, ends_at=2000.0)
    os.kill(os.getpid(), signal.SIGKILL)

asyncio.run(main())
"""


def use_and_crash(path: Path) -> None:
    run = [sys.executable, "-c", USE_AND_CRASH, str(path)]
    assert subprocess.run(run, check=False, timeout=60).returncode == -signal.SIGKILL


async def test_a_nonce_stays_used_and_a_count_counted_when_the_process_crashes(path: Path) -> None:
    use_and_crash(path)
    async with using(path) as store:
        assert not await use(store)
        assert await add(store) == 2


async def test_a_cancelled_write_is_done_wholly_or_not_at_all(path: Path) -> None:
    def adding(store: Store, name: str) -> asyncio.Task[User]:
        new = NewUser(name, (f"{name}@x.com",), roles=("dev",))
        return asyncio.create_task(store.users.add(new, now=1, by="cli"))

    async with using(path) as store:
        with locked(path):
            begun, queued = adding(store, "begun"), adding(store, "queued")
            await asyncio.sleep(0)  # which starts both
            with pytest.raises(StoreUnavailable):
                await touch(store)  # by the time that this gives up, the first one waits for the lock
            begun.cancel()
            queued.cancel()
            await asyncio.wait({begun, queued})
        after = await store.users.add(NewUser("after"), now=1, by="cli")
        users = await store.users.list()

    assert [user.username for user in users] == ["begun", "after"]
    assert (users[0].emails, users[0].roles) == (("begun@x.com",), ("dev",))
    assert users[1] == after


# --- a disk that does not take or give -----------------------------------------------------------


@contextmanager
def full_disk(path: Path) -> Iterator[None]:
    """No file can become longer than the journal is now."""
    unlimited = resource.getrlimit(resource.RLIMIT_FSIZE)
    length = path.with_name(path.name + "-wal").stat().st_size
    resource.setrlimit(resource.RLIMIT_FSIZE, (length, unlimited[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, unlimited)


def full_file(store: SqliteStore) -> None:
    """The database may have no page more; SQLite says of it what it says of a full disk."""
    writer = store._database._writer
    (pages,) = writer.execute("PRAGMA page_count").fetchone()
    writer.execute(f"PRAGMA max_page_count = {pages}")


async def test_a_journal_that_cannot_grow_stops_writes_alone(store: SqliteStore, path: Path) -> None:
    with full_disk(path):
        for write in (touch, use, add, revoke):
            with pytest.raises(StoreUnavailable, match=r"disk"):
                await write(store)
        assert await store.sessions.find("s") == SESSION
        await store.check()

    assert await touch(store)
    assert await use(store)
    assert await revoke(store) == 1


async def add_users(store: Store, number: int) -> None:
    for each in range(number):
        await store.users.add(NewUser(f"{each}" * 100), now=1, by="cli")


async def test_a_full_disk_stops_writes_alone(store: SqliteStore) -> None:
    full_file(store)
    before = await store.changes.since(0)
    with pytest.raises(StoreUnavailable, match="the disk is full"):
        await add_users(store, 1000)
    assert await store.sessions.find("s") == SESSION
    assert await store.changes.since(before.latest) == before

    store._database._writer.execute("PRAGMA max_page_count = 1000000")
    assert await revoke(store) == 1


async def test_a_store_that_is_only_to_be_read_is_not_written(path: Path, store: SqliteStore) -> None:
    reader = open_store(f"sqlite:///{path}", read_only=True)
    try:
        assert await reader.sessions.find("s") == SESSION
        with pytest.raises(StoreUnavailable):
            await reader.sessions.revoke(["s"])
        with pytest.raises(StoreUnavailable):
            await reader.sessions.touch("s", now=1500.0, unused_since=1500.0)
    finally:
        await reader.close()
    assert await store.sessions.find("s") == SESSION


CRASH = """
import asyncio, os, sys
from sidecar.records import NewUser
from sidecar.stores import open_store

async def main():
    store = open_store(f"sqlite:///{sys.argv[1]}")
    await store.users.add(NewUser("ann"), now=1, by="cli")
    os._exit(0)

asyncio.run(main())
"""


def test_reading_alone_leaves_the_journal_of_a_crashed_server_as_it_is(path: Path) -> None:
    asyncio.run(opened(path).close())
    in_another_process(CRASH, path)
    journal = path.with_name(path.name + "-wal")
    before = names(path.parent), path.read_bytes(), journal.read_bytes()
    asyncio.run(open_store(f"sqlite:///{path}", read_only=True).close())

    assert before[2]
    assert (names(path.parent), path.read_bytes(), journal.read_bytes()) == before
    with closing(sqlite3.connect(path)) as connection:
        assert connection.execute("SELECT username FROM users").fetchall() == [("ann",)]


async def test_reading_alone_leaves_no_journal_behind(path: Path) -> None:
    await opened(path).close()
    await open_store(f"sqlite:///{path}", read_only=True).close()

    assert names(path.parent) == [path.name]


async def test_who_may_not_write_beside_the_file_is_told_whom_to_run_as(open_directory: Path) -> None:
    path = open_directory / "store.db"
    await opened(path).close()
    told = pytest.raises(StoreUnusable, match="run this as the user that the sidecar runs as")
    with permitted(open_directory, 0o555), permitted(path, 0o444), unprivileged(), told:
        open_store(f"sqlite:///{path}", read_only=True)


def test_a_store_that_is_only_to_be_read_is_not_made(path: Path) -> None:
    with pytest.raises(StoreUnusable):
        open_store(f"sqlite:///{path}", read_only=True)
    assert not path.exists()


async def test_a_file_that_is_read_only_is_still_read(open_directory: Path) -> None:
    path = open_directory / "store.db"
    async with using(path) as store:
        await store.sessions.add(SESSION)

    with permitted(path, 0o444), unprivileged():
        async with using(path) as store:
            for write in (touch, use, add, revoke):
                with pytest.raises(StoreUnavailable, match="read-only"):
                    await write(store)
            assert await store.sessions.find("s") == SESSION
            await store.check()


def roots(path: Path, table: str) -> list[int]:
    """The first pages of the table and of its indexes."""
    select = "SELECT rootpage FROM sqlite_master WHERE tbl_name = ? ORDER BY type DESC"
    with closing(sqlite3.connect(path)) as connection:
        return [page for (page,) in connection.execute(select, (table,))]


def damage(path: Path, page: int) -> None:
    with path.open("r+b") as file:
        file.seek((page - 1) * 4096)
        file.write(b"\xff" * 4096)


async def test_a_damaged_page_is_an_outage_and_never_an_answer(path: Path) -> None:
    async with using(path) as store:
        await store.sessions.add(SESSION)
    damage(path, roots(path, "sessions")[0])

    async with using(path) as store:
        for operation in (store.sessions.find("s"), store.check(), touch(store), revoke(store)):
            with pytest.raises(StoreUnavailable, match="damaged"):
                await operation


def copy_without(table: str, path: Path) -> Path:
    """A copy of the file in which this table is damaged."""
    copy = path.with_name(table)
    copy.write_bytes(path.read_bytes())
    for page in roots(path, table):
        damage(copy, page)
    return copy


async def test_a_check_reads_every_table(path: Path) -> None:
    await opened(path).close()
    tables = {table for _, _, table, _ in layout(path) if not table.startswith("sqlite_")}
    assert {"nonces", "counters"} <= tables
    for table in tables:
        async with using(copy_without(table, path)) as store:
            with pytest.raises(StoreUnavailable, match="damaged"):
                await store.check()


# --- a file that is no longer there --------------------------------------------------------------


def replace(path: Path, make: Callable[[Path], object]) -> None:
    other = path.with_name("other")
    make(other)
    other.replace(path)


async def replace_by_another_store(path: Path) -> None:
    await opened(path.with_name("other")).close()
    path.with_name("other").replace(path)


def replace_by_directory(path: Path) -> None:
    path.unlink()
    path.mkdir()


LOST: dict[str, Callable[[Path], object]] = {
    "removed": lambda path: path.unlink(),
    "emptied": lambda path: overwrite(path, b""),
    "overwritten by garbage": lambda path: overwrite(path, b"garbage " * 2048),
    "replaced by garbage": lambda path: replace(path, lambda other: other.write_bytes(b"garbage")),
    "replaced by a directory": replace_by_directory,
}


def content(path: Path) -> bytes | str | None:
    if path.is_dir():
        return "directory"
    return path.read_bytes() if path.exists() else None


@pytest.mark.parametrize("lose", LOST.values(), ids=LOST)
async def test_a_lost_file_is_an_outage_and_is_never_made_again(
    path: Path, lose: Callable[[Path], object]
) -> None:
    store = opened(path)
    await store.sessions.add(SESSION)
    position = (await store.changes.since(0)).latest
    assert await store.sessions.find("s") == SESSION
    lose(path)
    lost = content(path)

    attempts: list[Awaitable[object]] = [
        store.changes.since(position),
        store.check(),
        touch(store),
        use(store),
        add(store),
        revoke(store),
        store.sessions.find("s"),
        store.users.list(),
        store.backup(str(path.with_name("backup"))),
    ]
    for attempt in attempts:
        with pytest.raises(StoreUnavailable, match=str(path)):
            await attempt
    await store.close()

    assert content(path) == lost
    assert "backup" not in names(path.parent)


async def test_a_file_replaced_by_another_store_is_an_outage(store: SqliteStore, path: Path) -> None:
    await replace_by_another_store(path)
    for attempt in (store.changes.since(1), store.sessions.find("s"), revoke(store)):
        with pytest.raises(StoreUnavailable, match="another file"):
            await attempt


@contextmanager
def away(path: Path) -> Iterator[None]:
    elsewhere = path.rename(path.with_name("elsewhere"))
    yield
    elsewhere.rename(path)


async def test_a_file_that_comes_back_is_used_again(store: SqliteStore, path: Path) -> None:
    with away(path):
        for attempt in (store.check(), store.sessions.find("s"), revoke(store)):
            with pytest.raises(StoreUnavailable, match="gone"):
                await attempt

    assert await store.sessions.find("s") == SESSION
    assert await revoke(store) == 1


async def test_a_store_that_is_closed_says_so(path: Path) -> None:
    store = opened(path)
    await store.close()
    for attempt in (store.sessions.find("s"), revoke(store), use(store), add(store), store.check()):
        with pytest.raises(StoreUnavailable, match="closed"):
            await attempt


async def test_closing_one_store_leaves_the_locks_of_another_in_the_process(
    store: SqliteStore, path: Path
) -> None:
    await opened(path).close()
    # A process that finds no lock takes itself for the last one, and deletes the journal under our hands.
    select = (
        "import sqlite3, sys; c = sqlite3.connect(sys.argv[1]); c.execute('SELECT * FROM apps'); c.close()"
    )
    in_another_process(select, path)

    assert "store.db-wal" in names(path.parent)
    assert await revoke(store) == 1
    async with using(path) as again:
        assert await again.sessions.find("s") is None


async def test_a_restored_backup_is_behind_and_concerns_everybody(tmp_path: Path, store: SqliteStore) -> None:
    copy = tmp_path / "copy.db"
    await store.backup(str(copy))
    await revoke(store)
    position = (await store.changes.since(0)).latest

    async with using(copy) as restored:
        assert await restored.changes.since(position) == Changes(position - 1, everybody=True)
        assert await restored.sessions.find("s") == SESSION


async def test_changes_that_are_no_longer_kept_concern_everybody(
    store: SqliteStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(changes, "KEPT", 2)
    first = (await store.changes.since(0)).latest
    for number in range(4):
        await store.sessions.add(Session(str(number), number, 1.0, 1.0, 2.0))
        await store.sessions.revoke([str(number)])
    last = (await store.changes.since(0)).latest

    assert last == first + 4
    assert await store.changes.since(first) == Changes(last, everybody=True)
    assert await store.changes.since(last - 1) == Changes(last, frozenset({3}))


async def test_one_change_stands_for_very_many_users(store: SqliteStore) -> None:
    users = [str(user) for user in range(changes.MOST + 1)]
    await asyncio.gather(*(store.sessions.add(Session(user, int(user), 1.0, 1.0, 2.0)) for user in users))
    before = await store.changes.since(0)
    await store.sessions.revoke(users)
    assert await store.changes.since(before.latest) == Changes(before.latest + 1, everybody=True)


# --- backups -------------------------------------------------------------------------------------


async def test_a_backup_is_a_private_store_that_others_may_write_during(
    tmp_path: Path, store: SqliteStore
) -> None:
    target = tmp_path / "copy.db"
    before = os.umask(0)
    try:
        assert await use(store)
        await asyncio.gather(store.backup(str(target)), touch(store))
    finally:
        os.umask(before)

    assert mode(target) == 0o600
    assert [name for name in names(tmp_path) if name.startswith("copy")] == ["copy.db"]
    async with using(target) as copy:
        found = await copy.sessions.find("s")
        assert found is not None
        assert found.user_id == SESSION.user_id
        assert not await use(copy)


@pytest.fixture
def occupied(tmp_path: Path) -> Path:
    (tmp_path / "text").write_text("mine")
    (tmp_path / "directory").mkdir()
    return tmp_path


@pytest.mark.parametrize("target", ["store.db", "text", "missing/copy.db", "directory"])
async def test_a_backup_to_what_is_no_new_file_is_refused(
    occupied: Path, store: SqliteStore, target: str
) -> None:
    with pytest.raises(InvalidValue, match=target):
        await store.backup(str(occupied / target))
    assert content(occupied / "text") == b"mine"
    await store.check()


async def test_a_backup_that_fails_leaves_nothing(tmp_path: Path, store: SqliteStore, path: Path) -> None:
    names_before = names(tmp_path)
    with full_disk(path), pytest.raises(StoreUnavailable):
        await store.backup(str(tmp_path / "copy.db"))
    assert names(tmp_path) == names_before


# --- how it is kept and counted ------------------------------------------------------------------


def settings(connection: sqlite3.Connection) -> tuple[object, ...]:
    names = ("journal_mode", "synchronous", "busy_timeout", "foreign_keys", "cache_size", "mmap_size")
    return tuple(connection.execute(f"PRAGMA {name}").fetchone()[0] for name in names)


async def test_what_is_acknowledged_is_on_the_disk_but_for_notes(path: Path) -> None:
    full, normal = 2, 1
    async with using(path) as store:
        for _ in range(2):
            noted = await store._database.note("test", settings)
            written = await store._database.write("test", settings)
            assert noted == ("wal", normal, 100, 1, -8192, 0)
            assert written == ("wal", full, 5000, 1, -8192, 0)


async def test_every_operation_is_counted_with_its_result(path: Path) -> None:
    seen: list[tuple[str, str]] = []

    def observe(operation: str, result: str, seconds: float) -> None:
        assert 0 <= seconds < 60
        seen.append((operation, result))

    store = open_store(f"sqlite:///{path}", observe=observe)
    await store.sessions.add(SESSION)
    await store.sessions.find("s")
    await touch(store)
    with pytest.raises(InvalidValue):
        await store.backup(str(path))
    LOST["removed"](path)
    with pytest.raises(StoreUnavailable):
        await store.check()
    with pytest.raises(StoreUnavailable):
        await revoke(store)
    await store.close()

    assert seen == [
        ("sessions.add", "ok"),
        ("sessions.find", "ok"),
        ("sessions.touch", "ok"),
        ("store.backup", "ok"),
        ("store.check", "error"),
        ("sessions.revoke", "error"),
    ]
