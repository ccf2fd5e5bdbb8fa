# SPDX-License-Identifier: Apache-2.0
"""Which AMD GPUs are met, by which way, and what they are called."""

from __future__ import annotations

import ctypes
import gc
import importlib
import importlib.util
import logging
import os
import sys
import types
from collections.abc import Callable
from pathlib import Path

import pytest

from otel_hwmetrics.catalog import gpu as rows
from otel_hwmetrics.sources.base import SourceUnavailable
from otel_hwmetrics.sources.gpu.amd import AmdSource, library
from otel_hwmetrics.sources.gpu.amd.sysfs import Address
from sources.gpu.amd.machines import (
    FILES,
    FOR_NOW,
    FOREVER,
    Board,
    Smi,
    SmiException,
    SmiLibraryException,
    Tree,
    imported,
    opened,
)

FIRST = Board("0000:03:00.0", FILES | {"unique_id": b"aaaa000000000001\n"})
SECOND = Board("0000:83:00.0", FILES | {"unique_id": b"bbbb000000000002\n", "product_name": b"AMD INSTINCT MI250\n"})
THIRD = Board("0001:03:00.0", FILES | {"unique_id": b"cccc000000000003\n"})


def met(source: AmdSource) -> list[tuple[object, object, object]]:
    """Id, index and ordinal of the GPUs that a look tells of, in its order."""
    found = [reading.attributes for reading in source.read().readings if reading.metric is rows.UTILIZATION]
    return [(each["hw.id"], each["hwmetrics.gpu.index"], each.get("hwmetrics.cuda.ordinal")) for each in found]


def refusal(tree: Tree, smi: Smi | None = None, **arguments: object) -> SourceUnavailable:
    """Why the source cannot be opened."""
    with pytest.raises(SourceUnavailable) as caught, opened(tree, smi, **arguments):  # type: ignore[arg-type]
        pass
    assert caught.value.source == "amd"
    return caught.value


# Where there is none.


def test_a_machine_without_a_gpu(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It is said why, at the cost of listing a directory: the library is not even looked for."""
    monkeypatch.setattr(library, "load", lambda _: pytest.fail("looked for the library"))
    listed: list[str] = []
    genuine = os.listdir
    monkeypatch.setattr(os, "listdir", lambda path: listed.append(path) or genuine(path))  # type: ignore[func-returns-value]
    for root in (tmp_path / "no such folder", tmp_path):
        with pytest.raises(SourceUnavailable, match="no AMD GPU here"):
            AmdSource("visible", {}, root=str(root)).open()
    assert len(listed) == 2


@pytest.mark.parametrize("vendor", [b"0x10de\n", b"0x8086\n", b"0x1022\n", b"", b"garbage"])
def test_gpus_of_others_are_left_alone(tmp_path: Path, vendor: bytes) -> None:
    """A card of another maker is none of this source's."""
    tree = Tree(tmp_path, Board(files={"vendor": vendor}))
    assert "no AMD GPU" in refusal(tree).reason


# How they are found.


def test_files_alone(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """Without amdsmi the GPUs are there all the same, in the order of their addresses, and the log says why."""
    with caplog.at_level(logging.INFO), opened(Tree(tmp_path, SECOND, THIRD, FIRST)) as source:
        told = met(source)
    assert told == [
        ("GPU-aaaa000000000001", 0, 2),
        ("GPU-bbbb000000000002", 1, 0),  # the compute driver numbers them as it met them
        ("GPU-cccc000000000003", 2, 1),
    ]
    assert "amdsmi cannot be imported" in caplog.text


def handles_of(*addresses: str, uuids: tuple[str, ...] | None = None) -> Smi:
    """A library with GPUs at these addresses."""
    names = uuids or tuple(f"uuid-{place}" for place in range(len(addresses)))
    return Smi(
        len(addresses),
        per_gpu={
            place: {
                "amdsmi_get_gpu_device_bdf": lambda address=address: address,
                "amdsmi_get_gpu_device_uuid": lambda name=names[place]: name,
            }
            for place, address in enumerate(addresses)
        },
    )


def test_by_the_library(tmp_path: Path) -> None:
    """The library's GPUs in its order, each with its files and with ROCm's number for it."""
    smi = handles_of(FIRST.address, SECOND.address)
    with opened(Tree(tmp_path, SECOND, FIRST), smi, gpus="visible") as source:
        assert met(source) == [("uuid-1", 1, 0), ("uuid-0", 0, 1)]
        assert {bench.subject.card.address for bench in source._benches if bench.subject.card} == {
            Address(0, 0x03, 0, 0),
            Address(0, 0x83, 0, 0),
        }
    assert smi.calls["amdsmi_shut_down"] == 0, "PyTorch may be using it"


def test_a_divided_gpu(tmp_path: Path) -> None:
    """Parts of one GPU are GPUs to the library; they have the files of the whole, and their own numbers."""
    tree = Tree(tmp_path, FIRST)
    nodes = tmp_path / "class" / "kfd" / "kfd" / "topology" / "nodes"
    Tree._node(nodes / "2", {"simd_count": 104, "domain": 0, "location_id": 0x301})
    with opened(tree, handles_of(FIRST.address, "0000:03:00.1"), gpus="visible") as source:
        assert met(source) == [("uuid-0", 0, 0), ("uuid-1", 1, 1)]
        assert [bench.subject.card is not None for bench in source._benches] == [True, True]


def test_names_that_are_not_unique(tmp_path: Path) -> None:
    """Models without a serial number have one UUID for all of a kind: then where it is says which it is."""
    smi = handles_of(FIRST.address, SECOND.address, THIRD.address, uuids=("same", "same", "own"))
    with opened(Tree(tmp_path, FIRST, SECOND, THIRD), smi) as source:
        assert [told[0] for told in met(source)] == ["PCI-0000:03:00.0", "PCI-0000:83:00.0", "own"]


@pytest.mark.parametrize("function", ["device_bdf", "device_uuid", "asic_info", "driver_info"])
@pytest.mark.parametrize("error", [FOREVER[0], FOR_NOW[0], lambda: SmiException("garbage"), lambda: ValueError("text")])
def test_a_gpu_that_does_not_say_which_it_is(tmp_path: Path, function: str, error: Callable[[], Exception]) -> None:
    """Whatever it does not tell the files do, or it is left out; the figures are there."""
    smi = Smi()
    smi.fail(f"amdsmi_get_gpu_{function}", error)
    with opened(Tree(tmp_path, FIRST), smi) as source:
        batch = source.read()
    (attributes,) = [reading.attributes for reading in batch.readings if reading.metric is rows.UTILIZATION]
    if function == "device_uuid":
        assert attributes["hw.id"] == "GPU-aaaa000000000001"
    if function == "asic_info":
        assert attributes["hw.model"] == "AMD INSTINCT MI210"
    assert ("hw.driver_version" in attributes) is (function != "driver_info")


def test_the_drivers_own_version(tmp_path: Path) -> None:
    """A driver that did not come with the kernel has a version of its own, told by a file, too."""
    tree = Tree(tmp_path, FIRST)
    (tmp_path / "module" / "amdgpu").mkdir(parents=True)
    (tmp_path / "module" / "amdgpu" / "version").write_text("6.14.14\n")
    with opened(tree) as source:
        assert {reading.attributes["hw.driver_version"] for reading in source.read().readings} == {"6.14.14"}


# A library that is no help.


@pytest.mark.parametrize("code", [4, 18, 32, 34, 10, 2**32 - 1])
@pytest.mark.parametrize("call", ["amdsmi_init", "amdsmi_get_processor_handles"])
def test_a_library_that_does_not_start(tmp_path: Path, caplog: pytest.LogCaptureFixture, call: str, code: int) -> None:
    """The files are read instead, and the log says why, in one line."""
    smi = Smi()
    smi.fail(call, lambda: SmiLibraryException(code))
    with caplog.at_level(logging.INFO), opened(Tree(tmp_path, FIRST), smi) as source:
        assert met(source) == [("GPU-aaaa000000000001", 0, 0)]
    assert len(caplog.records) == 1
    assert "SmiLibraryException" in caplog.text


def test_a_library_without_gpus(tmp_path: Path) -> None:
    """One that lists none, as in some containers, does not hide those that the kernel shows."""
    with opened(Tree(tmp_path, FIRST), Smi(0)) as source:
        assert met(source) == [("GPU-aaaa000000000001", 0, 0)]


def test_another_package_of_that_name(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """A module that has none of the functions is not ROCm's."""
    tree = Tree(tmp_path, FIRST)
    with caplog.at_level(logging.INFO), imported(types.ModuleType("amdsmi")):  # type: ignore[arg-type]
        source = AmdSource("all", {}, root=str(tree.root))
        source.open()
        source.close()
    assert "is not ROCm's" in caplog.text


IMPORTS = {
    "ImportError": "import no_such_module_of_rocm",
    "KeyError": "print('cannot find it'); {}['libamd_smi.so']",
    "OSError": "raise OSError('libamd_smi.so: cannot open shared object file')",
    "AttributeError": "import ctypes; ctypes.CDLL(None).amdsmi_no_such_symbol",
}


@pytest.mark.parametrize("found", [True, False], ids=("library found", "no library"))
@pytest.mark.parametrize("error", IMPORTS)
def test_an_import_that_fails(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    caplog: pytest.LogCaptureFixture,
    error: str,
    *,
    found: bool,
) -> None:
    """Whichever way the binding fails; and where ROCm is not installed it is not imported, since it prints."""
    (tmp_path / "site").mkdir()
    (tmp_path / "site" / "amdsmi.py").write_text(IMPORTS[error])
    monkeypatch.syspath_prepend(str(tmp_path / "site"))
    monkeypatch.delitem(sys.modules, "amdsmi", raising=False)
    if found:
        monkeypatch.setattr(library, "_is_here", lambda _: True)
    with caplog.at_level(logging.INFO):
        source = AmdSource("all", {"ROCM_PATH": str(tmp_path)}, root=str(Tree(tmp_path / "sys", FIRST).root))
        source.open()
        source.close()
    assert ("cannot be imported" if found else "libamd_smi.so is not found") in caplog.text
    assert "amdsmi" not in sys.modules
    if not found:
        assert capsys.readouterr().out == ""


# Which of them are the job's.


def test_somebody_elses_gpus_are_hidden_by_the_kernel(tmp_path: Path) -> None:
    """In a container the compute driver shows what was passed into it, and ROCm numbers those alone."""
    hidden = Board(FIRST.address, FIRST.files, node=False)
    tree = Tree(tmp_path, hidden, SECOND)
    with opened(tree, gpus="visible") as source:
        assert met(source) == [("GPU-bbbb000000000002", 1, 0)]
    with opened(tree, gpus="all") as source:
        assert met(source) == [("GPU-aaaa000000000001", 0, None), ("GPU-bbbb000000000002", 1, 0)]


def test_variables_choose(tmp_path: Path) -> None:
    """ROCm's variables leave the job some of the GPUs, in an order of the job's."""
    tree = Tree(tmp_path, FIRST, SECOND, THIRD)
    with opened(tree, gpus="visible", environ={"ROCR_VISIBLE_DEVICES": "GPU-cccc,0"}) as source:
        assert [told[1:] for told in met(source)] == [(2, 0), (0, 1)]
    with opened(tree, gpus="visible", environ={"CUDA_VISIBLE_DEVICES": "1"}) as source:
        assert [told[1:] for told in met(source)] == [(1, 0)]
    with opened(tree, gpus="all", environ={"HIP_VISIBLE_DEVICES": "1"}) as source:
        assert [told[1:] for told in met(source)] == [(0, None), (1, 0), (2, None)]


def test_nothing_left(tmp_path: Path) -> None:
    """A job that may see none is told which variable did it, and how to see them all the same."""
    error = refusal(Tree(tmp_path, FIRST, SECOND), gpus="visible", environ={"ROCR_VISIBLE_DEVICES": ""})
    assert error.reason == "ROCR_VISIBLE_DEVICES='' leaves this job none of the machine's 2 AMD GPUs"
    assert "gpus=all" in error.remedy
    (tmp_path / "b").mkdir()
    board = Board(node=False)
    assert "the environment leaves" in refusal(Tree(tmp_path / "b", board), gpus="visible").reason


def test_without_the_compute_driver(tmp_path: Path) -> None:
    """Variables count in the order of addresses, and by what numbers the job calls them is not known."""
    tree = Tree(tmp_path, SECOND, FIRST, kfd=False)
    with opened(tree, gpus="visible", environ={"HIP_VISIBLE_DEVICES": "1"}) as source:
        assert met(source) == [("GPU-bbbb000000000002", 1, None)]


INTEGRATED = Board("0000:c5:00.0", FILES | {"unique_id": b"0\n", "gpu_metrics": b"\x78\x00\x02\x01" + b"\0" * 116})


@pytest.mark.parametrize(
    ("boards", "nvidia", "environ", "expected"),
    [
        pytest.param((INTEGRATED,), False, {}, ["0000:c5"], id="the only one"),
        pytest.param((INTEGRATED, FIRST), False, {}, ["0000:03"], id="beside one of AMD's"),
        pytest.param((INTEGRATED,), True, {}, [], id="beside one of NVIDIA's"),
        pytest.param((INTEGRATED,), True, {"HIP_VISIBLE_DEVICES": "0"}, ["0000:c5"], id="chosen"),
        pytest.param((INTEGRATED,), True, {"CUDA_VISIBLE_DEVICES": "0"}, [], id="CUDA's variable chooses NVIDIA's"),
    ],
)
def test_graphics_inside_a_cpu(
    tmp_path: Path, boards: tuple[Board, ...], *, nvidia: bool, environ: dict[str, str], expected: list[str]
) -> None:
    """Nobody trains on them beside a real GPU, and they would be told of as idle for ever; alone they may be meant."""
    tree = Tree(tmp_path, *boards)
    if nvidia:
        (tmp_path / "bus" / "pci" / "drivers" / "nvidia").mkdir(parents=True)
    if not expected:
        assert "graphics" in refusal(tree, gpus="visible", environ=environ).reason
        with opened(tree, gpus="all", environ=environ) as source:
            assert len(met(source)) == len(boards)
        return
    with opened(tree, gpus="visible", environ=environ) as source:
        assert [str(bench.subject.card.address)[:7] for bench in source._benches if bench.subject.card] == expected


def test_closing_lets_go_of_every_file(tmp_path: Path) -> None:
    """After close no descriptor of the source's is open; it may be opened again."""
    source = AmdSource("all", {}, root=str(Tree(tmp_path, FIRST, SECOND).root))
    gc.collect()  # what others have left open
    before = len(os.listdir("/proc/self/fd")) if os.path.isdir("/proc/self/fd") else 0
    with imported(None):
        for _ in range(2):
            source.open()
            assert source.read().readings
            source.close()
            assert source.read().readings == []
    assert (len(os.listdir("/proc/self/fd")) if before else 0) == before


def test_it_may_hang() -> None:
    """The driver may block, so the source has a thread of its own."""
    assert AmdSource.may_hang
    assert AmdSource.name == "amd"


@pytest.mark.parametrize(
    ("spec", "loads", "expected"),
    [
        (None, True, "amdsmi is not installed"),
        (types.SimpleNamespace(origin="/site/amdsmi/__init__.py"), False, "libamd_smi.so is not found"),
        (types.SimpleNamespace(origin="/site/amdsmi/__init__.py"), True, "amdsmi cannot be imported"),
    ],
)
def test_the_library_is_looked_for_where_the_binding_looks(
    monkeypatch: pytest.MonkeyPatch, spec: object, *, loads: bool, expected: str
) -> None:
    """In ROCm's folder, by its name alone, and beside the binding; it is imported only if it is in one of these."""
    tried: list[str] = []

    def load(path: str) -> None:
        tried.append(path)
        if not loads or len(tried) < 3:
            raise OSError(path)

    monkeypatch.delitem(sys.modules, "amdsmi", raising=False)
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: spec if name == "amdsmi" else None)
    monkeypatch.setattr(importlib, "import_module", lambda name: {}[name] if loads else pytest.fail("imported it"))
    monkeypatch.setattr(ctypes, "CDLL", load)
    with pytest.raises(SourceUnavailable, match=expected):
        library.load({"ROCM_PATH": "/rocm"})
    places = ["/rocm/lib/libamd_smi.so", "libamd_smi.so", "/site/amdsmi/libamd_smi.so"]
    assert tried == (places if spec is not None else [])


def test_a_gpu_without_a_firmware_table_is_no_graphics(tmp_path: Path) -> None:
    """What cannot be told from graphics inside a CPU is kept."""
    bare = Board(files={name: content for name, content in FIRST.files.items() if name != "gpu_metrics"})
    with opened(Tree(tmp_path, bare), gpus="visible") as source:
        assert met(source) == [("GPU-aaaa000000000001", 0, 0)]
