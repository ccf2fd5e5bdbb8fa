# SPDX-License-Identifier: Apache-2.0
"""Which disks and interfaces count: what passes through the machine is counted once."""

from __future__ import annotations

from pathlib import Path

import pytest

from otel_hwmetrics.catalog import system as rows
from otel_hwmetrics.model import Series
from otel_hwmetrics.sources.system.devices import JUDGED_FOR, Counted, disks_that_count, interfaces_that_count


def disks(root: Path, *entries: str) -> str:
    """A sysfs of block devices. ``a<b,c`` stands on b and c; ``a=0`` has no capacity."""
    for entry in entries:
        name, _, below = entry.partition("<")
        name, _, size = name.partition("=")
        folder = root / "block" / name
        (folder / "slaves").mkdir(parents=True)
        (folder / "size").write_text(f"{size or 1000}\n")
        for other in filter(None, below.split(",")):
            (folder / "slaves" / other).touch()
    return str(root)


def interfaces(root: Path, *entries: str) -> str:
    """A sysfs of interfaces: a name and the entries of its folder; ``type=`` where it is no Ethernet."""
    net = root / "class" / "net"
    for entry in entries:
        name, *what = entry.split()
        (net / name).mkdir(parents=True)
        (net / name / "type").write_text("1\n")
        for each in what:
            if each.startswith("type="):
                (net / name / "type").write_text(each.removeprefix("type=") + "\n")
            elif each.startswith("master="):
                (net / name / "master").symlink_to(net / each.removeprefix("master="))
            else:
                (net / name / each).mkdir()
    return str(root)


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("sda", True),
        ("nvme0n1", True),
        ("dm-0", True),
        ("cciss/c0d0", True),
        ("sda1", False),
        ("nvme0n1p1", False),
        ("loop0", False),
        ("ram0", False),
        ("zram0", False),
        ("nbd0", False),
        ("nbd1", True),
        ("sr0", False),
        ("zd0", False),
        ("dm-1", False),
        ("md127", False),
        ("bcache0", False),
    ],
)
def test_a_disk_is_a_whole_device_of_its_own(tmp_path: Path, name: str, *, expected: bool) -> None:
    """No partition, whose bytes its disk counts too; no loop, no memory, nothing that stands on others or is empty."""
    root = disks(
        tmp_path,
        *("sda", "nvme0n1", "dm-0", "cciss!c0d0", "loop0", "ram0", "zram0", "nbd0=0", "nbd1", "sr0", "zd0"),
        *("dm-1<sda", "md127<sda,nvme0n1", "bcache0<sda"),
    )
    assert (name in disks_that_count([name, "sda"], root)) is expected


def test_stacked_disks_count_where_nothing_is_seen_below_them(tmp_path: Path) -> None:
    """In a container that is shown the volume and not its disk."""
    assert disks_that_count(["dm-0", "loop0"], disks(tmp_path, "dm-0<sda", "loop0")) == ["dm-0"]


def test_where_there_is_no_sysfs_partitions_are_known_by_their_names(tmp_path: Path) -> None:
    """Of a disk that is there, too: nvme0n10 is none of nvme0n1."""
    names = ["sda", "sda1", "sda12", "sdb1", "sdaa", "nvme0n1", "nvme0n1p1", "nvme0n10", "dm-1", "dm-10", "mmcblk0p2"]
    told = ["sda", "sdb1", "sdaa", "nvme0n1", "nvme0n10", "dm-1", "dm-10", "mmcblk0p2"]
    assert disks_that_count(names, str(tmp_path / "absent")) == told


SERVER = (
    "lo type=772",
    "eth0 device master=bond0",
    "eth1 device master=bond0",
    "ib0 device type=32",
    "bond0 bonding lower_eth0 lower_eth1 master=br0",
    "bond0.7 lower_bond0",
    "br0 bridge lower_bond0",
    "veth1 master=docker0",
    "docker0 bridge lower_veth1",
    "macvlan0 lower_eth0",
    "tun0 type=65534",
    "ifb0",
    "dummy0",
)


@pytest.mark.parametrize(
    ("there", "told"),
    [
        pytest.param(SERVER, ["eth0", "eth1", "ib0"], id="cards below bonds and bridges"),
        pytest.param(("eth0 device", "enP1 device master=eth0"), ["eth0"], id="a card passed through below netvsc"),
        pytest.param(("lo type=772", "eth0"), ["eth0"], id="a container"),
        pytest.param(
            (
                "eth0",
                "tunl0 type=768",
                "veth1 master=docker0",
                "docker0 bridge lower_veth1",
                "ifb0",
                "eth0.5 lower_eth0",
            ),
            ["eth0"],
            id="containers in a container",
        ),
        pytest.param(("lo type=772", "tun0 type=65534"), ["tun0"], id="a tunnel alone"),
        pytest.param(("lo type=772",), [], id="no network"),
    ],
)
def test_an_interface_counts_where_the_bytes_leave_the_machine(
    tmp_path: Path, there: tuple[str, ...], told: list[str]
) -> None:
    """Hardware does, wherever there is some; else the ends of virtual cables; never loopback."""
    names = [entry.split()[0] for entry in there]
    assert interfaces_that_count(names, interfaces(tmp_path, *there)) == told


def test_where_there_is_no_sysfs_all_but_loopback_count(tmp_path: Path) -> None:
    """There is nothing to tell them apart by."""
    assert interfaces_that_count(["lo", "eth0", "veth1"], str(tmp_path / "absent")) == ["eth0", "veth1"]


def test_an_interface_that_is_gone_before_it_is_judged_is_none(tmp_path: Path) -> None:
    """Its folder vanished between the table and the look."""
    assert interfaces_that_count(["eth0", "eth9"], interfaces(tmp_path, "eth0 device")) == ["eth0"]


def test_devices_are_judged_anew_when_they_change_and_each_minute() -> None:
    """Not at each look; what stays keeps its series, what goes is forgotten, what comes is met."""
    judged: list[list[str]] = []

    def judge(names: object) -> list[str]:
        judged.append(sorted(names))  # type: ignore[call-overload]
        return judged[-1]

    counted = Counted(judge, lambda name: (Series(rows.DISK_IO_TIME, {rows.DEVICE: name}),))
    first = counted.among({b"a": 0, b"b": 0}.keys(), 0.0)
    assert counted.among({b"b": 1, b"a": 1}.keys(), 1.0) is first
    assert len(judged) == 1
    second = counted.among({b"b": 0, b"c": 0}.keys(), 2.0)
    assert list(second) == [b"b", b"c"]
    assert second[b"b"] is first[b"b"]
    counted.among({b"b": 0, b"c": 0}.keys(), 2.0 + JUDGED_FOR)
    assert judged == [["a", "b"], ["b", "c"], ["b", "c"]]
    assert counted.among({b"a": 0}.keys(), 100.0)[b"a"] is not first[b"a"]


def test_a_name_that_is_no_text_is_told_with_marks() -> None:
    """Interfaces may be called anything; an exporter writes UTF-8."""
    counted = Counted(list, lambda name: (Series(rows.DISK_IO_TIME, {rows.DEVICE: name}),))
    ((key, (series,)),) = counted.among({b"eth\xff": 0}.keys(), 0.0).items()
    assert key == b"eth\xff"
    assert series.attributes == {rows.DEVICE: "eth\ufffd"}
