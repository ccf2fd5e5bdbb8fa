# SPDX-License-Identifier: Apache-2.0
"""What the table says of every XID, and of those that people look up first."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from otel_hwmetrics.catalog import xid
from otel_hwmetrics.catalog.xid import UNKNOWN, XIDS, Recovery, Severity, Xid, describe

ROWS = list(XIDS.values())
IDS = [str(row.code) for row in ROWS]

UNUSED = {5, 10, 15, 17, 23, *range(49, 54), 55, 87, 90, 91}
"""Codes up to 172 that NVIDIA's catalogs, the present one and that for older boards, do not use."""

RESET_BY_CATALOG = {46, 62, 64, 95, 109, 110, 119, 120, 136, 140, 143, 155, 156, 158}
"""Codes whose immediate action is a reset of the GPU in NVIDIA's catalog."""

RESTART_BY_CATALOG = {
    8,
    11,
    13,
    25,
    31,
    32,
    *range(39, 42),
    60,
    68,
    69,
    *range(70, 73),
    *range(75, 78),
    80,
    *range(82, 87),
}
RESTART_BY_CATALOG |= {88, 89, 94, *range(96, 106), *range(126, 136), 139}
"""Codes whose immediate action is to start the application again."""

IGNORED_BY_CATALOG = {14, 37, 38, 43, 44, 63, 66, 67, 92, 93, 106, 107, 108, 121, 137, 141, 152, 153, 157, 160, 161}
"""Codes whose immediate action is none."""


def test_table_has_every_code_that_the_catalogs_use_and_no_other() -> None:
    """Codes 1 to 172 but for the unused ones, and NVML's number for a code that it does not know."""
    assert set(XIDS) == set(range(1, 173)) - UNUSED | {UNKNOWN}
    assert all(code == row.code for code, row in XIDS.items())


def test_no_code_is_described_twice_and_no_name_is_used_twice() -> None:
    """Two rows of one code would hide one; two codes of one name could not be told apart in an alert."""
    assert len(xid._ROWS) == len(XIDS)
    assert len({row.name for row in ROWS}) == len(ROWS)


@pytest.mark.parametrize("row", ROWS, ids=IDS)
def test_row_is_well_formed(row: Xid) -> None:
    """A name of a few words, and two texts that are one sentence each and fit a line of a log."""
    assert row.name == row.name.strip()
    assert 3 <= len(row.name) <= 45
    assert not row.name.endswith(".")
    for text in (row.meaning, row.advice):
        assert text[0].isupper()
        assert text.endswith(".")
        assert ". " not in text
        assert 15 <= len(text) <= 130


@pytest.mark.parametrize("row", ROWS, ids=IDS)
def test_critical_is_what_takes_the_gpu_out_of_service(row: Xid) -> None:
    """A code is critical if and only if the GPU must be reset or the node rebooted."""
    assert (row.severity is Severity.CRITICAL) == (row.recovery in {Recovery.RESET, Recovery.REBOOT})


@pytest.mark.parametrize("row", ROWS, ids=IDS)
def test_what_is_the_jobs_own_fault_is_no_fault_of_the_gpu(row: Xid) -> None:
    """Never critical, never for a reset, and not a reason to look at the hardware."""
    if row.application:
        assert row.severity is not Severity.CRITICAL
        assert row.recovery in {Recovery.NOTHING, Recovery.RESTART}
        assert not row.hardware


@pytest.mark.parametrize("row", ROWS, ids=IDS)
def test_info_needs_nothing_but_what_the_job_has_brought_on_itself(row: Xid) -> None:
    """What is only good to know neither ends a job nor points at hardware."""
    if row.severity is Severity.INFO:
        assert row.recovery is Recovery.NOTHING or row.application
        assert not row.hardware


@pytest.mark.parametrize(
    ("code", "severity", "recovery"),
    [
        (13, Severity.WARNING, Recovery.RESTART),
        (31, Severity.WARNING, Recovery.RESTART),
        (43, Severity.INFO, Recovery.RESTART),
        (45, Severity.INFO, Recovery.RESTART),
    ],
)
def test_noise_is_downgraded(code: int, severity: Severity, recovery: Recovery) -> None:
    """The four codes that every crash and every Ctrl-C brings are the job's, and at most a warning."""
    row = describe(code)
    assert row.application
    assert (row.severity, row.recovery) == (severity, recovery)


@pytest.mark.parametrize(
    ("code", "severity", "recovery", "hardware"),
    [
        (48, Severity.CRITICAL, Recovery.RESET, True),
        (54, Severity.CRITICAL, Recovery.REBOOT, True),
        (63, Severity.INFO, Recovery.NOTHING, False),
        (64, Severity.CRITICAL, Recovery.RESET, True),
        (74, Severity.CRITICAL, Recovery.RESET, True),
        (79, Severity.CRITICAL, Recovery.REBOOT, True),
        (92, Severity.WARNING, Recovery.NOTHING, True),
        (94, Severity.WARNING, Recovery.RESTART, True),
        (95, Severity.CRITICAL, Recovery.RESET, True),
        (119, Severity.CRITICAL, Recovery.RESET, False),
        (120, Severity.CRITICAL, Recovery.RESET, False),
        (121, Severity.INFO, Recovery.NOTHING, False),
        (140, Severity.CRITICAL, Recovery.RESET, True),
        (145, Severity.WARNING, Recovery.RESTART, True),
        (151, Severity.CRITICAL, Recovery.REBOOT, False),
        (154, Severity.WARNING, Recovery.NOTHING, False),
    ],
)
def test_codes_that_matter_are_as_documented(
    code: int, severity: Severity, recovery: Recovery, *, hardware: bool
) -> None:
    """Those that operators act on."""
    row = describe(code)
    assert (row.severity, row.recovery, row.hardware) == (severity, recovery, hardware)
    assert not row.application


@pytest.mark.parametrize("code", sorted(RESET_BY_CATALOG))
def test_what_the_catalog_resets_is_reset(code: int) -> None:
    """NVIDIA's immediate action RESET_GPU is ours."""
    assert describe(code).recovery is Recovery.RESET


@pytest.mark.parametrize("code", sorted(RESTART_BY_CATALOG))
def test_what_the_catalog_restarts_is_restarted(code: int) -> None:
    """NVIDIA's immediate action RESTART_APP is ours."""
    assert describe(code).recovery is Recovery.RESTART


@pytest.mark.parametrize("code", sorted(IGNORED_BY_CATALOG))
def test_what_the_catalog_ignores_alarms_nobody(code: int) -> None:
    """NVIDIA's immediate action IGNORE is never critical."""
    assert describe(code).severity is not Severity.CRITICAL


def test_only_one_code_says_that_the_gpu_is_gone() -> None:
    """79, fallen off the bus."""
    assert [row.code for row in ROWS if row.gone] == [79]


@given(st.integers(0, 2**64 - 1).filter(lambda code: code not in XIDS))
def test_a_code_of_a_newer_driver_is_described_as_unlisted(code: int) -> None:
    """It keeps its number, is a warning, invents no meaning and says where to look."""
    row = describe(code)
    assert (row.code, row.name, row.severity) == (code, "unlisted", Severity.WARNING)
    assert "dmesg" in row.advice
    assert (row.application, row.hardware, row.gone) == (False, False, False)
