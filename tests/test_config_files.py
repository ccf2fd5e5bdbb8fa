# SPDX-License-Identifier: Apache-2.0
"""From whom a configuration file is taken that was only found, and what one may not do, whoever wrote it."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from otel_hwmetrics.config import Config, files, resolve

SAID = "sample_interval = 7\n"

_another_users: set[tuple[int, int]] = set()


@pytest.fixture(autouse=True)
def owners(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Let `give_away` work for those who are not root, who cannot."""

    def owned(look: Callable[..., os.stat_result]) -> Callable[..., os.stat_result]:
        def owned_look(path: str | Path | int, **more: object) -> os.stat_result:
            found = look(path, **more)
            if (found.st_dev, found.st_ino) in _another_users:
                return os.stat_result((*found[:4], os.geteuid() + 1, *found[5:]))
            return found

        return owned_look

    if os.geteuid() != 0:
        monkeypatch.setattr(os, "stat", owned(os.stat))
        monkeypatch.setattr(os, "lstat", owned(os.lstat))
        monkeypatch.setattr(os, "fstat", owned(os.fstat))
    yield
    _another_users.clear()


def give_away(path: Path) -> None:
    """Make it another user's; of a link the link itself."""
    if os.geteuid() == 0:
        os.chown(path, 1, -1, follow_symlinks=False)
    else:
        found = os.lstat(path)
        _another_users.add((found.st_dev, found.st_ino))


def interval(directory: Path) -> float:
    """The option that the file sets; nothing is wrong with any."""
    resolved = resolve(environ={}, directory=directory)
    assert resolved.errors == ()
    return resolved.config.sample_interval


def test_a_file_is_taken_from_its_user_and_from_whom_the_directory_belongs_to(tmp_path: Path) -> None:
    """In a container the directory is often another user's, with all that is in it: who owns it has the script there, too."""
    file = tmp_path / "hwmetrics.toml"
    file.write_text(SAID)
    assert interval(tmp_path) == 7
    give_away(file)
    give_away(tmp_path)
    assert interval(tmp_path) == 7


def test_in_a_directory_of_everybody_nobody_is_no_owner(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """In a rootless container root, whose /tmp is, and whoever puts a file there have the same number."""
    (tmp_path / "hwmetrics.toml").write_text(SAID)
    give_away(tmp_path)
    give_away(tmp_path / "hwmetrics.toml")
    monkeypatch.setattr(files, "_NOBODY", os.stat(tmp_path).st_uid)
    assert interval(tmp_path) == 7
    tmp_path.chmod(0o1777)
    assert interval(tmp_path) == Config().sample_interval
    assert "belongs to another user" in caplog.text


@pytest.mark.parametrize("name", files.NAMES)
@pytest.mark.parametrize("how", ["another user's", "another user's link", "for everybody to write"])
def test_a_file_that_anybody_may_have_put_there_is_not_read(
    tmp_path: Path, name: str, how: str, caplog: pytest.LogCaptureFixture
) -> None:
    """One line says so, and how to have it read; the job goes on without."""
    directory, file = tmp_path / "job", tmp_path / "job" / name
    directory.mkdir()
    told = SAID if name == "hwmetrics.toml" else f"[tool.otel_hwmetrics]\n{SAID}"
    if how == "another user's link":
        (tmp_path / "of_ours").write_text(told)
        file.symlink_to(tmp_path / "of_ours")
        give_away(file)
    else:
        file.write_text(told)
        file.chmod(0o666) if how == "for everybody to write" else give_away(file)
    assert interval(directory) == Config().sample_interval
    [line] = [record.getMessage() for record in caplog.records]
    assert str(file) in line
    assert "OTEL_PYTHON_HWMETRICS_CONFIG_FILE" in line
    named = resolve(environ={"OTEL_PYTHON_HWMETRICS_CONFIG_FILE": str(file)}, directory=directory)
    assert named.config.sample_interval == 7


def test_another_users_file_that_does_not_speak_of_us_is_passed_over_in_silence(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """Be it broken."""
    (tmp_path / "pyproject.toml").write_text("[tool.ruff\n")
    (tmp_path / "pyproject.toml").chmod(0o666)
    assert interval(tmp_path) == Config().sample_interval
    assert caplog.records == []


def test_beside_a_file_that_is_not_read_the_next_one_is(tmp_path: Path) -> None:
    """So nobody can switch a project's own settings off by one more file."""
    (tmp_path / "pyproject.toml").write_text(f"[tool.otel_hwmetrics]\n{SAID}")
    (tmp_path / "hwmetrics.toml").write_text("sample_interval = 9\n")
    give_away(tmp_path / "hwmetrics.toml")
    assert interval(tmp_path) == 7


HOSTILE = 'enabled = false\nnotify = "jsons://evil.example.com"\n'


@pytest.mark.parametrize("name", files.NAMES)
def test_what_is_judged_is_what_is_taken(tmp_path: Path, name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Though its owner writes something else to it as soon as somebody has read it."""
    file = tmp_path / name
    file.write_text(SAID if name == "hwmetrics.toml" else "[tool.ruff]\n")
    if name == "pyproject.toml":
        give_away(file)
    judge = files._found

    def judge_and_change(path: Path) -> bytes:
        raw = judge(path)
        file.write_text(HOSTILE if name == "hwmetrics.toml" else f"[tool.otel_hwmetrics]\n{HOSTILE}")
        return raw

    monkeypatch.setattr(files, "_found", judge_and_change)
    assert interval(tmp_path) == (7 if name == "hwmetrics.toml" else Config().sample_interval)
    assert resolve(environ={}, directory=tmp_path).config.enabled is (name != "hwmetrics.toml")


def put_there_after(monkeypatch: pytest.MonkeyPatch, put: Callable[[], None]) -> None:
    """Have somebody put another file in the place of a configuration once it has been seen that there is one."""
    seen = os.path.isfile

    def seen_and_gone(path: str | Path) -> bool:
        there = seen(path)
        if there:
            put()
        return there

    monkeypatch.setattr(os.path, "isfile", seen_and_gone)


@pytest.mark.parametrize("name", files.NAMES)
def test_a_pipe_that_is_put_in_the_place_of_a_file_is_not_waited_at(
    tmp_path: Path, name: str, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """Nobody could tell how long the job would stand."""
    file = tmp_path / name
    file.write_text(SAID)

    def put() -> None:
        file.unlink()
        os.mkfifo(file)

    put_there_after(monkeypatch, put)
    assert interval(tmp_path) == Config().sample_interval
    assert "is not read: it is no file" in caplog.text


def test_a_file_that_takes_the_place_of_another_while_it_is_judged_is_not_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What was opened was another user's, and by its name it is this user's."""
    (tmp_path / "evil").write_text(HOSTILE)
    (tmp_path / "hwmetrics.toml").symlink_to("evil")
    give_away(tmp_path / "evil")
    look = os.lstat

    def changed(path: str | Path) -> os.stat_result:
        (tmp_path / "ours").write_text(SAID)
        (tmp_path / "ours").rename(tmp_path / "hwmetrics.toml")
        return look(path)

    monkeypatch.setattr(os, "lstat", changed)
    assert resolve(environ={}, directory=tmp_path).config == Config()


def test_a_file_that_may_not_be_read_does_not_keep_the_job_from_its_beginning(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """Anybody could leave one."""
    (tmp_path / "hwmetrics.toml").write_text(SAID)

    def refuse(path: str, flags: int) -> int:
        raise PermissionError(13, "Permission denied", path)

    monkeypatch.setattr(files, "_at_once", refuse)
    assert interval(tmp_path) == Config().sample_interval
    assert "is not read: Permission denied" in caplog.text


@pytest.mark.parametrize(
    "parameter",
    [
        "template",
        "keyfile",
        "subfile",
        "TEMPLATE",
        "pgppub",
        "pgpprv",
        "%74emplate",
        "%20template",
        "x=1;template",
        "x&template%09",
    ],
)
def test_a_file_that_was_found_names_no_file_of_this_machine_to_be_sent(tmp_path: Path, parameter: str) -> None:
    """Apprise reads it, and sends a template's text wherever the address leads. Whoever runs the job may say so."""
    address = f"workflows://example.com:443/workflow/hunter2/?{parameter}=/home/me/.kaggle/kaggle.json"
    (tmp_path / "hwmetrics.toml").write_text(f'notify = ["json://localhost", "{address}"]\n{SAID}')
    resolved = resolve(environ={}, directory=tmp_path)
    assert resolved.config.notify == ()
    assert resolved.config.sample_interval == 7
    [error] = resolved.errors
    assert "template=" in str(error)
    assert "hunter2" not in str(error)
    by_environment = resolve(environ={"OTEL_PYTHON_HWMETRICS_NOTIFY": address}, directory=tmp_path)
    assert by_environment.config.notify == (address,)


@pytest.mark.parametrize(
    "hostile",
    [
        pytest.param("a." * 500_000 + "a = 1", id="a key of many parts"),
        pytest.param("a = " + "[" * 900_000, id="arrays in arrays"),
        pytest.param("a = " + "{a=" * 300_000, id="tables in tables"),
        pytest.param("a = 1" + "1" * 900_000, id="a number of many digits"),
        pytest.param("#" * (files.LARGEST + 1), id="a large file"),
        pytest.param("[[a]]\n" * 150_000, id="many tables"),
    ],
)
def test_a_file_that_would_keep_its_reader_busy_is_told_of(tmp_path: Path, hostile: str) -> None:
    """Within a moment; and nothing of it counts."""
    (tmp_path / "hwmetrics.toml").write_text(hostile)
    began = time.process_time()
    resolved = resolve(environ={}, directory=tmp_path)
    assert time.process_time() - began < 5
    assert resolved.config == Config()
    assert resolved.errors


def test_a_pipe_in_the_directory_is_not_waited_at(tmp_path: Path) -> None:
    """It is no file."""
    os.mkfifo(tmp_path / "hwmetrics.toml")
    assert interval(tmp_path) == Config().sample_interval


def test_addresses_are_not_shown_by_chance() -> None:
    """Where a configuration is printed, as a whole, in parts or by a tool that shows the variables of a frame."""
    from dataclasses import asdict

    config = resolve({"notify": "json://me:hunter2@example.com"}, {}, Path(os.devnull)).config
    for shown in (repr(config), str(config), repr(asdict(config)), f"{config.notify}", repr(vars(config))):
        assert "hunter2" not in shown
    assert config.notify == ("json://me:hunter2@example.com",)


def test_a_wrong_value_is_told_without_the_secret_in_it() -> None:
    """Also of an option that is no secret, in which somebody put one, and of one that is too long to be shown whole."""
    wrong = {
        "alert_channels": "slack://hunter2/B/C",
        "sample_interval": "https://me:hunter2@example.com",
        "gpus": f"{'x' * 180} token=hunter2hunter2",
        "metrics": {"password": "hunter2"},
        "notify": "hunter2",
        "rules": {"gpu_hot": {"threshold": "api_key=hunter2", "Message": {"token": "hunter2"}}},
    }
    from otel_hwmetrics.alerts.rulebook import rulebook

    resolved = resolve(wrong, {}, Path(os.devnull))
    told = [str(error) for error in (*resolved.errors, *rulebook(resolved.config).errors)]
    assert len(told) == 7
    assert not any("hunter" in each for each in told), told
