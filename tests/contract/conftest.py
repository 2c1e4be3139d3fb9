"""The stores that the contract is tested on. A test with ``store`` or ``make_store`` runs once for each."""

from __future__ import annotations

import uuid
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from tornado.ioloop import IOLoop

from store.base import Store
from store.mongo import MongoStore
from store.sqlite import SqliteStore
from tests.support.mongod import Mongod, database_url, drop_database, shared_mongod
from tests.support.waiting import GUARD_S

MakeStore = Callable[[], Store]


@pytest.fixture(scope="session")
def mongo_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """Address of the server that all tests share."""
    with shared_mongod(tmp_path_factory.mktemp("mongod")) as url:
        yield url


@pytest.fixture
def mongo_url(mongo_server: str) -> Iterator[str]:
    """A database for one test."""
    name = f"test_{uuid.uuid4().hex[:16]}"
    yield database_url(mongo_server, name)
    drop_database(mongo_server, name)


@pytest.fixture
def mongod(tmp_path: Path) -> Iterator[Mongod]:
    """A server process for one test alone, which may stop or kill it."""
    server = Mongod(tmp_path / "mongod")
    server.start()
    yield server
    server.kill()


@pytest.fixture(params=["sqlite", "mongo"])
def make_store(request: pytest.FixtureRequest, tmp_path: Path) -> MakeStore:
    """Makes stores, not yet open, each time on the same data."""
    if request.param == "sqlite":
        return lambda: SqliteStore(tmp_path / "store.db", lock_timeout_s=5, answer_s=GUARD_S)
    url: str = request.getfixturevalue("mongo_url")
    return lambda: MongoStore(url, answer_s=GUARD_S)


@pytest.fixture
def make_fresh(request: pytest.FixtureRequest, tmp_path: Path) -> dict[str, MakeStore]:
    """Makes stores, not yet open, each time without anything in them."""

    def mongo() -> Store:
        name = f"test_{uuid.uuid4().hex[:16]}"
        server: str = request.getfixturevalue("mongo_server")
        request.addfinalizer(lambda: drop_database(server, name))
        return MongoStore(database_url(server, name), answer_s=GUARD_S)

    def sqlite() -> Store:
        return SqliteStore(tmp_path / f"{uuid.uuid4().hex}.db", lock_timeout_s=5, answer_s=GUARD_S)

    return {"sqlite": sqlite, "mongo": mongo}


@pytest.fixture
def store(io_loop: IOLoop, make_store: MakeStore) -> Iterator[Store]:
    """An open store without anything in it."""
    opened = make_store()
    io_loop.run_sync(opened.open)
    yield opened
    io_loop.run_sync(opened.close)
