# SPDX-License-Identifier: Apache-2.0
"""Where files go, that they are there whole or not at all, and which of them are removed."""

from __future__ import annotations

import errno
import logging
import os
import re
import secrets
import stat
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from otel_hwmetrics import folders
from otel_hwmetrics.folders import DRAFTS_FOR, KEEP, Folder, file_name, folder, runtime_folders

AT = 1_795_860_903_123_456_789
"""2026-11-28T10:15:03Z."""


def mode(path: str | Path) -> int:
    """The permissions of what is there itself, not of what it points to."""
    return stat.S_IMODE(os.lstat(path).st_mode)


def write(where: Folder, name: str, text: bytes = b"whole\n") -> Path:
    """Write one file of ours."""
    with where.new(name) as file:
        file.write(text)
    return Path(where / name)


HOMELESS = {"HOME": os.devnull}


_given_away: set[tuple[int, int]] = set()


def give_away(path: Path) -> None:
    """Make it another user's; where only root can, every test that looks is told so."""
    if os.geteuid() == 0:
        os.chown(path, 1, -1)
    else:
        _given_away.add((os.stat(path).st_dev, os.stat(path).st_ino))


@pytest.fixture(autouse=True)
def owners(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Let `give_away` work for those who are not root."""

    def mine(found: os.stat_result) -> bool:
        return found.st_uid == os.geteuid() and (found.st_dev, found.st_ino) not in _given_away

    if os.geteuid() != 0:
        monkeypatch.setattr("otel_hwmetrics.folders.folder.mine", mine)
        monkeypatch.setattr("otel_hwmetrics.folders.places.mine", mine)
    yield
    _given_away.clear()


@pytest.fixture
def temporary(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A temporary folder of the machine's, for everybody."""
    shared = tmp_path / "tmp"
    shared.mkdir(mode=0o777)
    monkeypatch.setattr(tempfile, "tempdir", str(shared))
    return shared


@pytest.mark.parametrize(
    ("directory", "environ", "expected"),
    [
        pytest.param("{0}/named", {"XDG_STATE_HOME": "{0}/xdg", "HOME": "{0}"}, "{0}/named", id="as the option says"),
        pytest.param("", {"XDG_STATE_HOME": "{0}/xdg", "HOME": "{0}"}, "{0}/xdg/otel_hwmetrics", id="by XDG"),
        pytest.param("", {"XDG_STATE_HOME": "", "HOME": "{0}"}, "{0}/.local/state/otel_hwmetrics", id="at home"),
        pytest.param("", {"XDG_STATE_HOME": "state", "HOME": "{0}"}, "{0}/.local/state/otel_hwmetrics", id="relative"),
        pytest.param("", {"HOME": "{0}/file"}, "{0}/tmp/otel_hwmetrics-{1}", id="home is no folder"),
        pytest.param("", {"HOME": "{0}/closed"}, "{0}/tmp/otel_hwmetrics-{1}", id="home cannot be written to"),
        pytest.param("", {"HOME": "home"}, "{0}/tmp/otel_hwmetrics-{1}", id="home is relative"),
        pytest.param("{0}/dangling", {"HOME": "{0}/file"}, "{0}/tmp/otel_hwmetrics-{1}", id="a link to nothing"),
    ],
)
def test_files_go_to_the_first_place_that_can_be_written_to(
    temporary: Path, monkeypatch: pytest.MonkeyPatch, directory: str, environ: dict[str, str], expected: str
) -> None:
    """The option, the user's state, a folder of ours in the temporary one; and nothing is made to find it."""
    tmp_path = temporary.parent
    (tmp_path / "file").touch()
    (tmp_path / "closed").mkdir()
    (tmp_path / "dangling").symlink_to(tmp_path / "nothing")
    # Permissions do not keep root out, as which these tests may run.
    monkeypatch.setattr(os, "access", lambda path, *_, **__: path != str(tmp_path / "closed"))
    before = sorted(tmp_path.rglob("*"))
    words = (tmp_path, os.geteuid())
    found = folder(directory.format(*words), {key: value.format(*words) for key, value in environ.items()})
    assert found is not None
    assert found.path == expected.format(*words)
    assert sorted(tmp_path.rglob("*")) == before


def test_a_relative_directory_stays_where_it_was(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The job may change its folder later; events name the whole path."""
    monkeypatch.chdir(tmp_path)
    found = folder("recordings")
    assert found is not None
    assert found.path == str(tmp_path / "recordings")


@pytest.mark.parametrize("home", ["{0}", os.devnull])
def test_a_named_directory_that_cannot_be_written_to_is_told_of(
    tmp_path: Path, temporary: Path, caplog: pytest.LogCaptureFixture, home: str
) -> None:
    """With the place that is used in its stead: at home, or the temporary one."""
    found = folder(f"{os.devnull}/recordings", {"HOME": home.format(tmp_path)})
    assert found is not None
    assert [record.levelno for record in caplog.records] == [logging.WARNING]
    assert f"{os.devnull}/recordings" in caplog.text
    assert found.path in caplog.text


def test_where_nothing_can_be_written_there_is_no_folder(monkeypatch: pytest.MonkeyPatch) -> None:
    """Neither at home nor in a temporary one."""

    def nowhere() -> str:
        raise FileNotFoundError(errno.ENOENT, "no usable temporary directory")

    monkeypatch.setattr(tempfile, "gettempdir", nowhere)
    assert folder("", HOMELESS) is None


@pytest.mark.parametrize("mask", [0o000, 0o022, 0o077])
def test_files_and_folders_are_for_their_user_alone(tmp_path: Path, mask: int) -> None:
    """0600 in 0700, those above it that were missing included, whatever the job's umask; what was there stays as it is."""
    there = tmp_path / "there"
    there.mkdir(mode=0o755)
    before = os.umask(mask)
    try:
        path = write(Folder(str(there / "state" / "ours")), "a.flight.jsonl")
    finally:
        os.umask(before)
    assert path.read_bytes() == b"whole\n"
    assert [mode(each) for each in (path, path.parent, path.parent.parent)] == [0o600, 0o700, 0o700]
    assert mode(there) == 0o755


def open_to_a_group(path: Path) -> None:
    """Make a folder."""
    path.mkdir()
    path.chmod(0o770)


@pytest.mark.parametrize(
    "take",
    [
        pytest.param(lambda ours: ours.symlink_to(ours.parent.parent / "theirs"), id="a link"),
        pytest.param(lambda ours: ours.symlink_to(ours.parent.parent / "nothing"), id="a link to nothing"),
        pytest.param(Path.touch, id="a file"),
        pytest.param(open_to_a_group, id="open to a group"),
    ],
)
def test_a_temporary_folder_that_is_not_ours_alone_is_not_used(
    tmp_path: Path, temporary: Path, take: Callable[[Path], object]
) -> None:
    """Somebody who guessed its name gets none of our files, and we get another folder."""
    theirs = tmp_path / "theirs"
    theirs.mkdir()
    guessed = temporary / f"otel_hwmetrics-{os.geteuid()}"
    take(guessed)
    found = folder("", HOMELESS)
    assert found is not None
    assert re.fullmatch(rf"{re.escape(str(guessed))}-[0-9a-f]{{8}}", found.path)
    assert mode(write(found, "a").parent) == 0o700
    assert list(theirs.iterdir()) == []


@pytest.mark.parametrize("how", ["a link", "open to a group", "another user's"])
@pytest.mark.parametrize("variable", ["HOME", "XDG_STATE_HOME"])
def test_a_customary_folder_that_is_not_ours_alone_is_not_used(
    temporary: Path, how: str, variable: str, caplog: pytest.LogCaptureFixture
) -> None:
    """The home of a job may be /tmp, where anybody may have made it before; a line says so."""
    parent = temporary if variable == "XDG_STATE_HOME" else temporary / ".local" / "state"
    elsewhere = temporary.parent / "elsewhere"
    elsewhere.mkdir(mode=0o777)
    parent.mkdir(parents=True, exist_ok=True)
    customary = parent / "otel_hwmetrics"
    if how == "a link":
        customary.symlink_to(elsewhere)
    elif how == "open to a group":
        open_to_a_group(customary)
    else:
        customary.mkdir(mode=0o700)
        give_away(customary)
    found = folder("", {"HOME": os.devnull, variable: str(temporary)})
    assert found is not None
    assert found.path == str(temporary / f"otel_hwmetrics-{os.geteuid()}")
    write(found, "a")
    assert list(elsewhere.iterdir()) == []
    assert f"{customary} is not this user's alone: files go to {found.path}" in caplog.text


def test_a_customary_folder_that_is_taken_before_it_is_used_is_not_written_to(temporary: Path) -> None:
    """What is seen at the start is not what is there an hour later."""
    found = folder("", {"XDG_STATE_HOME": str(temporary), "HOME": os.devnull})
    assert found is not None
    (temporary.parent / "elsewhere").mkdir(mode=0o777)
    Path(found.path).symlink_to(temporary.parent / "elsewhere")
    with pytest.raises(OSError), found.new("a"):  # noqa: PT011 - ELOOP or ENOTDIR
        pass
    assert list((temporary.parent / "elsewhere").iterdir()) == []


def test_a_temporary_folder_of_another_user_is_not_used(temporary: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Though its permissions are right."""
    guessed = temporary / f"otel_hwmetrics-{os.geteuid() + 1}"
    guessed.mkdir(mode=0o700)
    user = os.geteuid()
    monkeypatch.setattr(os, "geteuid", lambda: user + 1)
    found = folder("", HOMELESS)
    assert found is not None
    assert found.path != str(guessed)


def test_a_temporary_folder_that_is_taken_before_it_is_used_is_not_written_to(tmp_path: Path, temporary: Path) -> None:
    """Also when that happens after it was chosen."""
    found = folder("", HOMELESS)
    assert found is not None
    theirs = tmp_path / "theirs"
    theirs.mkdir()
    Path(found.path).symlink_to(theirs)
    with pytest.raises(OSError, match=r"directory|symbolic"):
        write(found, "a")
    found.prune("a")
    assert list(theirs.iterdir()) == []


def test_a_folder_of_ours_from_before_is_used_again(temporary: Path) -> None:
    """So that old files there are found, and removed."""
    for _ in range(2):
        found = folder("", HOMELESS)
        assert found is not None
        assert Path(found.path).name == f"otel_hwmetrics-{os.geteuid()}"
        write(found, "a")


@pytest.mark.parametrize("target", ["file", "nothing", "folder"])
def test_a_link_in_the_way_of_a_file_is_replaced_and_not_followed(tmp_path: Path, target: str) -> None:
    """What it points to stays as it was."""
    where = Folder(str(tmp_path / "ours"))
    write(where, "other")
    (tmp_path / "file").write_bytes(b"theirs")
    (tmp_path / "folder").mkdir()
    Path(where / "a").symlink_to(tmp_path / target)
    path = write(where, "a")
    assert not path.is_symlink()
    assert path.read_bytes() == b"whole\n"
    assert (tmp_path / "file").read_bytes() == b"theirs"
    assert not (tmp_path / "nothing").exists()
    assert list((tmp_path / "folder").iterdir()) == []


def test_a_link_in_the_way_of_the_unfinished_file_is_not_followed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Even if somebody guesses its name: nothing is written, and the link is not ours to remove."""
    monkeypatch.setattr(secrets, "token_hex", lambda _: "0badcafe")
    (tmp_path / ".a.0badcafe.part").symlink_to(tmp_path / "elsewhere")
    with pytest.raises(FileExistsError):
        write(Folder(str(tmp_path)), "a")
    assert sorted(each.name for each in tmp_path.iterdir()) == [".a.0badcafe.part"]


def test_a_folder_in_the_way_is_an_error_that_leaves_nothing(tmp_path: Path) -> None:
    """The unfinished file is gone."""
    (tmp_path / "a").mkdir()
    with pytest.raises(OSError, match="directory"):
        write(Folder(str(tmp_path)), "a")
    assert [each.name for each in tmp_path.iterdir()] == ["a"]


def test_until_it_is_whole_a_file_is_not_there(tmp_path: Path) -> None:
    """Under its own name; and what fails in the middle leaves nothing, the file from before stays."""
    where = Folder(str(tmp_path))
    with where.new("a") as file:
        file.write(b"half")
        file.flush()
        assert not Path(where / "a").exists()
        assert Path(file.name).read_bytes() == b"half"  # so another library can write it
    with pytest.raises(TypeError), where.new("a") as file:
        file.writelines([b"other", None])  # type: ignore[list-item]
    assert [(each.name, each.read_bytes()) for each in tmp_path.iterdir()] == [("a", b"half")]


def test_where_folders_cannot_be_opened_paths_do(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As on Windows: files are written whole, and old ones removed."""
    monkeypatch.setattr(os, "supports_dir_fd", os.supports_dir_fd - {os.open})
    where = Folder(str(tmp_path / "ours"))
    names = [file_name("hot", ".x", AT + second * 1_000_000_000, {}) for second in range(3)]
    for name in names:
        assert write(where, name).read_bytes() == b"whole\n"
    where.prune(".x", keep=1)
    assert os.listdir(where.path) == names[-1:]


def test_the_name_says_when_where_who_and_why() -> None:
    """The second in UTC, the machine, the rank where there is one, the process, the reason."""
    host, pid = os.uname().nodename.partition(".")[0], os.getpid()
    plain = re.sub(r"[^A-Za-z0-9._-]", "_", host)
    assert file_name("gpu_lost", ".flight.jsonl", AT, {}) == f"2026-11-28T10-15-03Z-{plain}-{pid}-gpu_lost.flight.jsonl"
    ranked = file_name("gpu_lost", ".flight.jsonl", AT, {"RANK": "3", "WORLD_SIZE": "8"})
    assert ranked == f"2026-11-28T10-15-03Z-{plain}-rank3-{pid}-gpu_lost.flight.jsonl"


@given(reason=st.text(max_size=300), host=st.text(max_size=300))
def test_whatever_the_words_a_name_is_a_plain_one_that_is_found_again(reason: str, host: str) -> None:
    """No separator, no control character, not hidden, short enough for a temporary name, and known as ours."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(folders, "host", lambda: host)
        name = file_name(reason, ".flight.jsonl", AT, {"RANK": "123456789"})
    assert re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9._-]*\.flight\.jsonl", name)
    assert len(name) < 230
    with tempfile.TemporaryDirectory() as path:
        write(Folder(path), name)
        write(Folder(path), "2026-11-28T10-15-04Z-x.flight.jsonl")
        Folder(path).prune(".flight.jsonl", keep=1)
        assert os.listdir(path) == ["2026-11-28T10-15-04Z-x.flight.jsonl"]


def test_the_oldest_files_of_a_kind_are_removed(tmp_path: Path) -> None:
    """Beyond the newest `KEEP`, by the time in their names; other kinds have their own count."""
    where = Folder(str(tmp_path))
    names = [file_name("hot", ".flight.jsonl", AT + second * 1_000_000_000, {}) for second in range(KEEP + 3)]
    for name in reversed(names):
        write(where, name)
    profile = write(where, file_name("hot", ".trace.json", 0, {}))
    where.prune(".flight.jsonl")
    where.prune(".trace.json")
    assert sorted(os.listdir(tmp_path)) == sorted([*names[3:], profile.name])


def test_a_large_job_keeps_two_files_a_rank(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """So that ranks that end together do not remove each other's on a file system that they share."""
    monkeypatch.setenv("RANK", "0")
    monkeypatch.setenv("WORLD_SIZE", "40")
    where = Folder(str(tmp_path))
    for second in range(90):
        write(where, file_name("sigterm", ".flight.jsonl", AT + second * 1_000_000_000))
    where.prune(".flight.jsonl")
    assert len(os.listdir(tmp_path)) == 80


OTHERS = (
    *("notes.txt", "run.flight.jsonl", "2026-11-28T10-15-03Z.flight.jsonl", "2026-11-28-node.flight.jsonl"),
    *("2026-11-28T10-15-03Z-node-1-x.flight.jsonl.bak", "old-2026-11-28T10-15-03Z-node-1-x.flight.jsonl"),
    *("2026-11-28T10-15-03Z-node-1-x.flight.json", "2026-11-28T10-15-03Z-node 1.flight.jsonl", ".x.part"),
)


def test_nothing_of_others_is_removed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Neither what is not called like ours, nor folders and links that are, nor the files of another user."""
    for name in OTHERS:
        (tmp_path / name).touch()
    (tmp_path / "2026-11-28T10-15-03Z-node-1-x.flight.jsonl").mkdir()
    (tmp_path / "2026-11-28T10-15-04Z-node-1-x.flight.jsonl").symlink_to(tmp_path / "notes.txt")
    before = sorted(os.listdir(tmp_path))
    where = Folder(str(tmp_path))
    newest = write(where, "2026-11-28T10-15-05Z-node-1-x.flight.jsonl").name
    where.prune(".flight.jsonl", keep=1)
    assert sorted(os.listdir(tmp_path)) == sorted([*before, newest])
    write(where, "2026-11-28T10-15-06Z-node-1-x.flight.jsonl")
    user = os.geteuid()
    monkeypatch.setattr(os, "geteuid", lambda: user + 1)
    where.prune(".flight.jsonl", keep=1)
    assert newest in os.listdir(tmp_path)


def test_unfinished_files_are_removed_once_nobody_can_be_writing_them(tmp_path: Path) -> None:
    """Those of a process that was killed; not those that are being written."""
    old, new = (tmp_path / f".2026-11-28T10-15-03Z-node-1-x.flight.jsonl.0000000{each}.part" for each in (1, 2))
    for path in (old, new):
        path.touch()
    past = time.time() - DRAFTS_FOR - 60
    os.utime(old, (past, past))
    Folder(str(tmp_path)).prune(".flight.jsonl")
    assert list(tmp_path.iterdir()) == [new]


def test_a_scratch_folder_is_for_its_user_alone_and_gone_at_the_end(tmp_path: Path) -> None:
    """With all that is in it, whatever happened; what a link in it points to stays."""
    where = Folder(str(tmp_path / "ours"))
    (tmp_path / "theirs").mkdir()
    (tmp_path / "theirs" / "file").touch()

    def fail() -> None:
        with where.scratch("2026-11-28T10-15-03Z-node-1-x.trace.json") as scratch:
            assert mode(scratch) == 0o700
            assert Path(scratch).parent == Path(where.path)
            Path(scratch, "folder").mkdir()
            Path(scratch, "folder", "file").touch()
            Path(scratch, "link").symlink_to(tmp_path / "theirs")
            raise KeyError

    with pytest.raises(KeyError):
        fail()
    assert os.listdir(where.path) == []
    assert os.listdir(tmp_path / "theirs") == ["file"]


KILLED = """
import os, sys
from otel_hwmetrics.folders import Folder, file_name
where, name = Folder(sys.argv[1]), file_name("hot", ".trace.json", 1, {})
with where.new(name) as file, where.scratch(name) as scratch:
    os.mkdir(os.path.join(scratch, "deeper"))
    open(os.path.join(scratch, "deeper", "trace.json"), "wb").close()
    os.symlink(sys.argv[2], os.path.join(scratch, "link"))
    os._exit(0)
"""


def test_what_a_killed_process_left_is_removed_once_it_is_old(tmp_path: Path) -> None:
    """Its scratch folder, too, as a whole; what a link in it points to stays, and so does a link that has such a name."""
    theirs = tmp_path / "theirs"
    theirs.mkdir()
    (theirs / "file").touch()
    where = Folder(str(tmp_path / "ours"))
    subprocess.run([sys.executable, "-c", KILLED, where.path, str(theirs)], check=True)
    left = os.listdir(where.path)
    assert len(left) == 2
    where.prune(".trace.json")
    assert sorted(os.listdir(where.path)) == sorted(left)
    link = ".2026-11-28T10-15-03Z-node-1-x.trace.json.00000001.part"
    Path(where / link).symlink_to(theirs)
    past = time.time() - DRAFTS_FOR - 60
    for name in (*left, link):
        os.utime(where / name, (past, past), follow_symlinks=False)
    where.prune(".trace.json")
    assert os.listdir(where.path) == [link]
    assert os.listdir(theirs) == ["file"]


def test_an_old_scratch_folder_of_another_user_stays(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Though root could remove it."""
    theirs = tmp_path / ".2026-11-28T10-15-03Z-node-1-x.trace.json.00000001.part"
    theirs.mkdir()
    os.utime(theirs, (1, 1))
    user = os.geteuid()
    with monkeypatch.context() as patched:
        patched.setattr(os, "geteuid", lambda: user + 1)
        Folder(str(tmp_path)).prune(".trace.json")
    assert theirs.is_dir()
    Folder(str(tmp_path)).prune(".trace.json")
    assert not theirs.exists()


def test_to_prune_what_is_not_there_is_nothing(tmp_path: Path) -> None:
    """No folder, no fault."""
    Folder(str(tmp_path / "none")).prune(".flight.jsonl")
    assert list(tmp_path.iterdir()) == []


WRITER = """
import sys
from otel_hwmetrics.folders import Folder, file_name
where = Folder(sys.argv[1])
print("ready", flush=True)
sys.stdin.readline()
for second in range(100):
    with where.new(file_name("hot", ".flight.jsonl", int(second * 1e9), {})) as file:
        for _ in range(100):
            file.write(b"x" * 1000)
    where.prune(".flight.jsonl", 20)
"""


@pytest.mark.parametrize("ahead", [0.0, 200 * 86400.0])
def test_nothing_is_older_than_the_clock_of_its_folder_says(
    tmp_path: Path, ahead: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One node whose clock is ahead does not remove what all others wrote to a server just now."""
    young, old, made = (f"2026-01-0{n}T00-00-00Z-vm-{n}-x.run.db" for n in (1, 2, 3))
    now = time.time()
    for name, age in ((young, 80), (old, 100), (made, 0)):
        (tmp_path / name).touch()
        os.utime(tmp_path / name, (now - age * 86400,) * 2)
    monkeypatch.setattr(time, "time", lambda: now + ahead)
    asked: list[str] = []

    def in_use(path: str) -> bool:
        asked.append(path)
        return True

    where = Folder(str(tmp_path))
    where.expire(".run.db", 90 * 86400.0, young=made, in_use=in_use)
    assert asked == [str(tmp_path / old)]
    assert (tmp_path / old).exists()
    where.expire(".run.db", 90 * 86400.0, young=made)
    assert {file.name for file in tmp_path.iterdir()} == {young, made}


def test_two_processes_share_a_folder(tmp_path: Path) -> None:
    """Each writes and prunes at the same time: no fault, no half file, no temporary one, and the count is kept."""
    where = str(tmp_path / "ours")
    writers = [
        subprocess.Popen(
            [sys.executable, "-c", WRITER, where],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        for _ in range(2)
    ]
    for writer in writers:
        assert writer.stdout is not None
        assert writer.stdout.readline() == "ready\n"
    told = [writer.communicate("go\n", timeout=60) for writer in writers]
    assert [writer.returncode for writer in writers] == [0, 0], told
    assert {os.path.getsize(os.path.join(where, name)) for name in os.listdir(where)} == {100_000}
    assert len(os.listdir(where)) == 20


@pytest.fixture
def places(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> dict[str, Path]:
    """The places in which processes of a user meet, in their order, each as the machine would have it."""
    found = {name: tmp_path / name for name in ("runtime", "shm", "job", "tmp")}
    for name, path in found.items():
        path.mkdir()
        path.chmod(0o700 if name in ("runtime", "job") else 0o1777)
    monkeypatch.setattr("otel_hwmetrics.folders.places.SHARED_MEMORY", str(found["shm"]))
    monkeypatch.setattr("otel_hwmetrics.folders.places.TEMPORARY", str(found["tmp"]))
    return found


def meet(places: dict[str, Path]) -> list[str]:
    """The names of the places where processes meet."""
    found = runtime_folders({"XDG_RUNTIME_DIR": str(places["runtime"]), "TMPDIR": str(places["job"])})
    for each in found:
        assert os.path.basename(each.path) == f"otel_hwmetrics-{os.geteuid()}"
        assert mode(each.path) == 0o700
    return [Path(each.path).parent.name for each in found]


def test_processes_meet_where_all_of_them_look(places: dict[str, Path]) -> None:
    """In one order, in folders of ours that are made; a place that is two, once."""
    assert meet(places) == meet(places) == ["runtime", "shm", "job", "tmp"]
    places["job"] = places["tmp"]
    assert meet(places) == ["runtime", "shm", "tmp"]
    link = places["shm"].parent / "link"
    link.symlink_to(places["shm"])
    assert meet({**places, "job": link}) == ["runtime", "shm", "tmp"]


def test_a_place_that_is_not_there_is_passed_over(places: dict[str, Path]) -> None:
    """Or of which nothing is said, or that is relative, or no folder, or cannot be a path."""
    (places["tmp"] / "file").touch()
    for odd in ("", "relative", f"{places['tmp']}/none", f"{places['tmp']}/file", "/nul\0l"):
        found = runtime_folders({"XDG_RUNTIME_DIR": odd, "TMPDIR": odd})
        assert [Path(each.path).parent.name for each in found] == ["shm", "tmp"], odd
    assert not (places["tmp"] / "none").exists()


def of_another(path: Path) -> None:
    """Make a folder of another user's, as whom nobody runs here."""
    path.mkdir(mode=0o700)
    give_away(path)


@pytest.mark.parametrize(
    "take",
    [
        pytest.param(lambda ours: ours.symlink_to(ours.parent.parent / "theirs"), id="a link"),
        pytest.param(lambda ours: ours.symlink_to(ours.parent.parent / "nothing"), id="a link to nothing"),
        pytest.param(lambda ours: ours.touch(), id="a file"),
        pytest.param(os.mkfifo, id="a pipe"),
        pytest.param(open_to_a_group, id="open to others"),
        pytest.param(of_another, id="another user's"),
    ],
)
def test_a_name_that_somebody_has_taken_is_passed_over(places: dict[str, Path], take: Callable[[Path], None]) -> None:
    """No other name is tried in its stead, since the other ranks would not find it; nothing is written there."""
    (places["shm"].parent / "theirs").mkdir(mode=0o700)
    take(places["shm"] / f"otel_hwmetrics-{os.geteuid()}")
    assert meet(places) == ["runtime", "job", "tmp"]
    assert len(list(places["shm"].iterdir())) == 1
    assert list((places["shm"].parent / "theirs").iterdir()) == []


def test_a_place_where_others_may_rename_our_folder_is_passed_over(places: dict[str, Path]) -> None:
    """One that all may write to, without the sticky bit."""
    places["tmp"].chmod(0o777)
    places["job"].chmod(0o770)
    assert meet(places) == ["runtime", "shm"]


def test_the_runtime_folder_of_the_user_before_is_passed_over(places: dict[str, Path]) -> None:
    """Which the environment still names after `su`."""
    give_away(places["runtime"])
    assert meet(places) == ["shm", "job", "tmp"]


def test_a_folder_that_a_server_keeps_is_passed_over(places: dict[str, Path], monkeypatch: pytest.MonkeyPatch) -> None:
    """Other machines have it, too, and a lock there is for all of them, or hangs."""
    mounts = places["tmp"].parent / "mounts"
    line = "36 35 0:31 / {} rw,relatime shared:1 - {} server rw\n"
    mounts.write_text(
        line.format("/", "ext4") + line.format(places["job"], "nfs4") + line.format(f"{places['job']}/deeper", "ext4")
    )
    monkeypatch.setattr("otel_hwmetrics.folders.places.MOUNTS", str(mounts))
    assert meet(places) == ["runtime", "shm", "tmp"]
    mounts.write_text(mounts.read_text() + line.format(places["job"], "tmpfs"))
    assert meet(places) == ["runtime", "shm", "job", "tmp"]
    mounts.unlink()
    assert meet(places) == ["runtime", "shm", "job", "tmp"]


def test_where_there_are_no_owners_processes_do_not_meet(monkeypatch: pytest.MonkeyPatch) -> None:
    """On Windows."""
    monkeypatch.delattr(os, "geteuid")
    assert runtime_folders() == []


@pytest.mark.parametrize("mask", [0o000, 0o022, 0o077])
def test_a_file_that_stays_is_for_its_user_alone(tmp_path: Path, mask: int) -> None:
    """It is made once, and is the same for whoever opens it; programs that are started do not get it."""
    where = Folder(str(tmp_path / "ours"), alone=True)
    before = os.umask(mask)
    try:
        first, second = where.open_file("holder"), where.open_file("holder")
    finally:
        os.umask(before)
    try:
        os.write(first, b"told")
        assert os.pread(second, 10, 0) == b"told"
        assert not os.get_inheritable(first)
        assert mode(where / "holder") == 0o600
        assert mode(where.path) == 0o700
        assert where.leads_to("holder", first)
    finally:
        os.close(first)
        os.close(second)


def another_users(path: Path) -> None:
    """Make a file of another user's."""
    path.touch()
    give_away(path)


@pytest.mark.parametrize(
    "plant",
    [
        pytest.param(lambda path: path.symlink_to(path.parent.parent / "precious"), id="a link"),
        pytest.param(lambda path: path.symlink_to(path.parent.parent / "nothing"), id="a link to nothing"),
        pytest.param(lambda path: path.hardlink_to(path.parent.parent / "precious"), id="a second name"),
        pytest.param(os.mkfifo, id="a pipe"),
        pytest.param(Path.mkdir, id="a folder"),
        pytest.param(another_users, id="another user's"),
    ],
)
def test_what_was_planted_under_the_name_of_a_file_is_not_opened(tmp_path: Path, plant: Callable[[Path], None]) -> None:
    """Nor changed, nor waited at, and no descriptor is left open."""
    precious = tmp_path / "precious"
    precious.write_text("precious")
    precious.chmod(0o644)
    where = Folder(str(tmp_path / "ours"))
    where.make()
    plant(Path(where / "holder"))
    before = sorted(os.listdir("/proc/self/fd"))
    with pytest.raises(OSError, match="holder"):
        where.open_file("holder")
    assert sorted(os.listdir("/proc/self/fd")) == before
    assert precious.read_text() == "precious"
    assert mode(precious) == 0o644
    assert not (tmp_path / "nothing").exists()


def test_no_file_is_opened_in_a_folder_that_is_not_ours(tmp_path: Path) -> None:
    """Though the file would be."""
    where = Folder(str(tmp_path / "ours"), alone=True)
    open_to_a_group(tmp_path / "ours")
    with pytest.raises(PermissionError, match="alone"):
        where.open_file("holder")
    with pytest.raises(PermissionError, match="alone"):
        where.make()
    assert os.listdir(where.path) == []


def test_a_file_that_others_could_read_no_longer_is_for_them(tmp_path: Path) -> None:
    """A mode that somebody changed is put right."""
    where = Folder(str(tmp_path))
    os.close(where.open_file("holder"))
    os.chmod(where / "holder", 0o644)
    os.close(where.open_file("holder"))
    assert mode(where / "holder") == 0o600


@pytest.mark.parametrize("clean_up", ["file", "folder", "another"])
def test_it_is_seen_that_somebody_cleaned_up(tmp_path: Path, clean_up: str) -> None:
    """What is open is not what the next one finds."""
    where = Folder(str(tmp_path / "ours"), alone=True)
    descriptor = where.open_file("holder")
    try:
        os.unlink(where / "holder")
        if clean_up == "folder":
            os.rmdir(where.path)
        elif clean_up == "another":
            os.close(where.open_file("holder"))
        assert not where.leads_to("holder", descriptor)
    finally:
        os.close(descriptor)
