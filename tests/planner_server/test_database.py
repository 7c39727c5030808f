"""A database that cannot be used keeps the server from starting, with a line that says why and tells no password."""

import shutil
from pathlib import Path

import pytest
from sqlalchemy import text

from planner_server.errors import StartupError
from planner_server.store import database
from planner_server.store.database import open_database, sqlite_url


def refusal(url: str) -> str:
    with pytest.raises(StartupError) as caught:
        open_database(url)
    return caught.value.message


def test_a_database_that_cannot_be_reached_is_named_without_its_password() -> None:
    message = refusal("postgresql+psycopg://me:sesame@127.0.0.1:1/none?connect_timeout=1")
    assert "://...@127.0.0.1:1/none cannot be used" in message
    assert "sesame" not in message


@pytest.mark.parametrize(
    "url",
    [
        "nonsense://x",
        "me:sesame@127.0.0.1/none",  # no scheme
        "postgresql+psycopg://me:open@sesame@127.0.0.1:port/none",
        "postgresql+psycopg://me:open:sesame@127.0.0.1:port/none",
        "postgresql+psycopg://me:open@door:sesame@127.0.0.1/none",  # taken for a port
        "postgresql+psycopg://127.0.0.1:port/none?user=me&password=sesame",
        "postgresql+psycopg://127.0.0.1/none?port=1&password=open@sesame",
    ],
)
def test_what_is_no_address_of_a_database_is_refused_and_gives_no_password_away(url: str) -> None:
    message = refusal(url)
    assert "PLANNER_DATABASE_URL" in message
    assert "sesame" not in message


def test_a_server_installed_under_a_name_with_a_per_cent_sign_opens_its_database(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    elsewhere = tmp_path / "100%(odd)s"
    shutil.copytree(database._MIGRATIONS, elsewhere)
    monkeypatch.setattr(database, "_MIGRATIONS", elsewhere)
    open_database(sqlite_url(tmp_path / "planner.db")).dispose()


def test_a_file_that_is_no_database_is_refused_and_left_as_it_is(tmp_path: Path) -> None:
    path = tmp_path / "planner.db"
    path.write_bytes(b"somebody else's file " * 100)
    assert str(path) in refusal(sqlite_url(path))
    assert path.read_bytes() == b"somebody else's file " * 100


def test_a_database_of_a_newer_server_is_refused_and_left_as_it_is(tmp_path: Path) -> None:
    url = sqlite_url(tmp_path / "planner.db")
    engine = open_database(url)
    with engine.begin() as connection:
        connection.execute(text("UPDATE alembic_version SET version_num = '9999'"))
    message = refusal(url)
    assert "belongs to another version of the server" in message
    assert "PLANNER_DATA_DIR" in message
    with engine.connect() as connection:
        found = connection.execute(text("SELECT version_num FROM alembic_version")).scalar_one()
    assert found == "9999"
    engine.dispose()
