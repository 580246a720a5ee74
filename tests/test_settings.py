"""Settings come from the environment alone, and a bad one stops the start with a message that helps."""

from dataclasses import FrozenInstanceError, fields
from pathlib import Path

import pytest

from errors import SettingInvalid
from settings import Settings

GIB = 2**30


def read(**env: str) -> Settings:
    """Read settings from these variables alone."""
    return Settings.from_environment(env)


def refused(**env: str) -> str:
    """Return why these variables are refused."""
    with pytest.raises(SettingInvalid) as refusal:
        read(**env)
    return str(refusal.value)


def test_defaults_are_enough() -> None:
    """An empty environment gives SQLite files, a spool folder and the documented limits."""
    settings = read()
    assert (settings.target_url, settings.catalog_url) == ("sqlite:///var/target.db", "sqlite:///var/catalog.db")
    assert (settings.spool_url, settings.port, settings.secret_key) == ("file:var/spool", 8000, None)
    assert (settings.max_upload_bytes, settings.max_expanded_bytes, settings.max_field_chars) == (5 * GIB, 50 * GIB, 1_048_576)
    assert (settings.lease_seconds, settings.heartbeat_seconds, settings.chunk_records) == (30, 5, 5000)


def test_settings_are_frozen() -> None:
    """Nothing can change a setting after the start."""
    with pytest.raises(FrozenInstanceError):
        read().port = 1  # type: ignore[misc]


def test_database_url_serves_both() -> None:
    """DATABASE_URL alone, in the spelling of hosted databases, names target and catalog; a variable of its own wins."""
    both = read(DATABASE_URL="postgres://u:p@h/d")
    assert both.target_url == both.catalog_url == "postgresql://u:p@h/d"
    assert read(DATABASE_URL="postgres://h/d", TARGET_URL="sqlite:///t.db").target_url == "sqlite:///t.db"


def test_one_sqlite_file_for_both_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Target and catalog may not be one SQLite file, however its path is written, a hard link included."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "a.db").touch()
    (tmp_path / "link.db").hardlink_to(tmp_path / "a.db")
    for catalog in ("sqlite:///a.db", f"sqlite:///{tmp_path}/a.db", "sqlite:///../" + tmp_path.name + "/a.db", "sqlite:///link.db"):
        assert "CATALOG_URL" in refused(TARGET_URL="sqlite:///a.db", CATALOG_URL=catalog)
    assert "TARGET_URL" in refused(DATABASE_URL="sqlite:///a.db")
    assert read(TARGET_URL="sqlite:///a.db", CATALOG_URL="sqlite:///b.db").catalog_url == "sqlite:///b.db"


@pytest.mark.parametrize(
    ("name", "value", "allowed"),
    [
        ("TARGET_URL", "mysql://h/d", "sqlite:///relative/path.db"),
        ("TARGET_URL", "sqlite://", "sqlite:///relative/path.db"),
        ("TARGET_URL", "sqlite:///:memory:", "sqlite:///relative/path.db"),
        ("SPOOL_URL", "ftp://bucket", "file:relative/folder"),
        ("SPOOL_URL", "s3://bucket?region=x", "file:relative/folder"),
        ("SPOOL_URL", "file:", "file:relative/folder"),
        ("REDIS_URL", "localhost:6379", "redis://host:6379/0"),
        ("PORT", "0", "from 1 to 65535"),
        ("PORT", "99999", "from 1 to 65535"),
        ("PORT", "٣", "from 1 to 65535"),
        ("MAX_UPLOAD_BYTES", "-1", "512 KiB"),
        ("MAX_UPLOAD_BYTES", "5 GB", "5 GiB"),
        ("MAX_COLUMNS", "1e3", "whole number"),
        ("LEASE_SECONDS", "inf", "number of seconds"),
        ("LEASE_SECONDS", "0", "number of seconds"),
        ("PUBLIC_URL", "imports.example.org", "https://imports.example.org"),
        ("SECRET_KEY", "short", "32 characters"),
        ("LOG_FORMAT", "xml", "logfmt, json"),
    ],
)
def test_a_bad_value_is_named(name: str, value: str, allowed: str) -> None:
    """The message names the variable, the value (but for secrets) and what is allowed."""
    message = refused(**{name: value})
    assert message.startswith(f"{name} is ") and allowed in message
    is_secret = name in {"TARGET_URL", "REDIS_URL", "SECRET_KEY"}
    assert ("***" in message) if is_secret else (repr(value) in message)


def test_a_password_is_not_shown() -> None:
    """Neither a refused URL nor the settings themselves bring a password into the logs."""
    assert "hunter2" not in repr(read(TARGET_URL="postgresql://u:hunter2@h/d", REDIS_URL="redis://:hunter2@h"))
    assert "hunter2" not in refused(TARGET_URL="mysql://u:hunter2@h/d") + refused(REDIS_URL="http://:hunter2@h")


def test_heartbeats_fit_into_the_lease() -> None:
    """A heartbeat that could come after the lease's end is refused."""
    assert "HEARTBEAT_SECONDS is 16" in refused(HEARTBEAT_SECONDS="16")
    assert read(HEARTBEAT_SECONDS="0.1", LEASE_SECONDS="0.2").heartbeat_seconds == 0.1


def test_a_secret_may_come_from_a_file(tmp_path: Path) -> None:
    """NAME_FILE names a file with the value, also for DATABASE_URL; both at once, or no such file, is refused."""
    path = tmp_path / "secret"
    path.write_text("postgres://u:p@h/d\n")
    assert read(TARGET_URL_FILE=str(path)).target_url == "postgresql://u:p@h/d"
    assert read(DATABASE_URL_FILE=str(path)).catalog_url == "postgresql://u:p@h/d"
    assert "only one" in refused(TARGET_URL_FILE=str(path), TARGET_URL="sqlite:///x.db")
    assert "REDIS_URL_FILE is /nowhere" in refused(REDIS_URL_FILE="/nowhere")


def test_empty_means_unset() -> None:
    """A variable that is set to nothing counts as unset."""
    assert read(PORT="", SECRET_KEY="") == read()


def test_every_setting_is_described() -> None:
    """Each setting says in a sentence what it is for, and its default is itself an allowed value."""
    for field in fields(Settings):
        assert field.metadata["about"].endswith("."), field.name
        assert field.metadata["default"] is None or field.metadata["reader"](field.metadata["default"]) is not None
