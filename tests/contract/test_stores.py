"""Every store keeps the same promises: SQLite, and PostgreSQL on a throw-away cluster."""

import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import sqlalchemy as sa
from tests.postgresql import Cluster

from haldane.adapters.sql import META, open_store
from haldane.adapters.sql_labels import Room
from haldane.domain.labels import Receipt
from haldane.domain.rollout import RolloutId
from haldane.ports import Malformed, Unavailable
from haldane.testing.contracts.store import StoreContract, Stores, rollout_named
from haldane.testing.pairs import pairs


class TestSqlite(StoreContract):
    @pytest.fixture
    def stores(self, tmp_path: Path) -> Iterator[Stores]:
        made = Stores(lambda: open_store(f"sqlite:///{tmp_path / 'haldane.db'}"))
        yield made
        made.close()


@pytest.fixture(scope="module")
def postgresql(need_binary: Callable[[str], str], free_port: Callable[[], int]) -> Iterator[str]:
    """The URL of an empty cluster that is gone after the tests."""
    initdb, pg_ctl, port = need_binary("initdb"), need_binary("pg_ctl"), free_port()
    with tempfile.TemporaryDirectory(prefix="haldane-pg-") as name:
        cluster = Cluster(Path(name), initdb=initdb, pg_ctl=pg_ctl, port=port).start()
        try:
            yield cluster.url
        finally:
            cluster.stop()


class TestPostgresql(StoreContract):
    @pytest.fixture
    def stores(self, postgresql: str) -> Iterator[Stores]:
        engine = sa.create_engine(postgresql)
        META.drop_all(engine)
        engine.dispose()
        made = Stores(lambda: open_store(postgresql))
        yield made
        made.close()


def test_a_postgresql_that_is_away_for_a_moment_is_used_again(postgresql: str) -> None:
    store = open_store(postgresql)
    admin = sa.create_engine(postgresql, isolation_level="AUTOCOMMIT")
    with admin.connect() as connection:
        connection.exec_driver_sql(
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE pid <> pg_backend_pid()"
        )
    admin.dispose()
    assert isinstance(store.live(), list)
    store.close()


def test_a_store_that_cannot_be_reached_is_unavailable_and_says_so_without_its_password(
    free_port: Callable[[], int],
) -> None:
    for url in (
        f"postgresql+psycopg://agent:hunter2@127.0.0.1:{free_port()}/postgres",
        "postgresql+psycopg://agent:hunter2@host:hunter2/postgres",
        "hunter2",
        "nonsense://agent:hunter2@host/postgres",
    ):
        with pytest.raises(Unavailable) as caught:
            open_store(url)
        assert "hunter2" not in str(caught.value)


@pytest.mark.parametrize("url", ["sqlite://", "sqlite:///", "sqlite:///:memory:"])
def test_a_store_that_would_be_forgotten_is_refused(url: str) -> None:
    with pytest.raises(Unavailable, match="name a file"):
        open_store(url)


def test_a_store_whose_file_cannot_be_made_is_unavailable(tmp_path: Path) -> None:
    with pytest.raises(Unavailable):
        open_store(f"sqlite:///{tmp_path / 'nowhere' / 'haldane.db'}")


def test_a_pair_log_of_a_newer_schema_is_refused_with_a_clear_word(tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path / 'haldane.db'}"
    store = open_store(url)
    store.commit(rollout_named("a"), None, [])
    store.append_evidence(RolloutId("a"), pairs(1))
    with sa.create_engine(url).begin() as connection:
        connection.execute(sa.text('UPDATE pair_batches SET "schema" = 3'))
    with pytest.raises(Malformed, match="schema 3"):
        list(store.evidence(RolloutId("a")))
    store.close()


def test_pairs_and_labels_are_bounded_and_what_found_no_room_is_counted(tmp_path: Path) -> None:
    store = open_store(f"sqlite:///{tmp_path / 'haldane.db'}", room=Room(awaiting=3, labels=3))
    contract = StoreContract()
    assert contract.wait(store, "a", 1, 2) == 0
    assert contract.wait(store, "a", 3, 4, 5) == 2
    contract.put(store, 1, 2, 3)
    assert contract.put(store, 8, 9) == Receipt(accepted=2, unknown=2, dropped=2)
    assert contract.found(store, "a")[0] == [3]
    store.close()
