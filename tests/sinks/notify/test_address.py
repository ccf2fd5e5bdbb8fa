# SPDX-License-Identifier: Apache-2.0
"""Addresses: which can be used, what is said of the others, and what is asked of each."""

from __future__ import annotations

import json
import subprocess
import sys
from typing import Any

import pytest
from apprise import OverflowMode
from hypothesis import given, settings
from hypothesis import strategies as st

from otel_hwmetrics.sinks.notify import Notifier, check
from otel_hwmetrics.sinks.notify.address import NEEDED, TIMEOUT, load

SECRET = st.text("ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789", min_size=24, max_size=24)
PLACES = (
    "json://{secret}@host.example/",
    "json://me:{secret}@host.example:8080/",
    "jsons://host.example/services/{secret}",
    "json://host.example/?+Authorization={secret}",
    "form://host.example/?-token={secret}",
    "xml://host.example/?token={secret}",
    "mailto://me:{secret}@gmail.com",
    "mailtos://smtp.example:587?user=me&pass={secret}&from=a@example.org&to=b@example.org",
    "mailto://me:{secret}@example.org?+X-Token={secret}",
    "slack://T1JJ3T3L2/A1BRTD4JD/{secret}",
    "slack://{secret}/A1BRTD4JD/TIiajkdnlazkcOXrIdevi7FQ",
    "https://hooks.slack.com/services/T1JJ3T3L2/A1BRTD4JD/{secret}",
    "discord://4174216298/{secret}",
    "tgram://123456789:{secret}/12315544",
    "pagerduty://{secret}@{secret}",
    "workflows://host.example:443/643a8e35/{secret}",
    "ntfy://{secret}",
    "ntfys://me:{secret}@ntfy.example/{secret}",
    "gotify://host.example/{secret}",
    "opsgenie://{secret}",
    "mmost://host.example/{secret}",
    "pover://{secret}@{secret}",
    "gchat://space/{secret}/{secret}",
    "hassio://host.example/{secret}",
    "ifttt://{secret}@event/?+x={secret}",
    "splunk://{secret}",
    "nothing://{secret}:{secret}@host/{secret}?a={secret}",
    "https://host.example/{secret}",
    "slack://{secret}",
    "pagerduty://{secret}",
    "tgram://{secret}",
    "json://[{secret}",
    "{secret}://host",
)
"""Where addresses have secrets; some of them cannot be used."""

WITHOUT = """
import json, sys
for name in {blocked!r}:
    sys.modules[name] = None
import otel_hwmetrics.sinks.notify as notify
loaded = sorted(set(sys.modules) & {needed!r})
problems = notify.check(["json://host/"])
notifier = notify.Notifier(["json://host/"])
notifier.stop(0)
print(json.dumps([loaded, problems]))
"""


def usable(*addresses: str) -> list[Any]:
    """What Apprise makes of addresses, all of which can be used."""
    found, problems = load(addresses)
    assert problems == []
    return [address._sender[0] for address in found]


def ran(code: str) -> Any:
    """What a fresh interpreter prints, where every warning is an error."""
    done = subprocess.run([sys.executable, "-W", "error", "-c", code], capture_output=True, text=True, check=True)
    assert done.stderr == ""
    return json.loads(done.stdout)


@pytest.mark.parametrize(
    "address",
    [
        "json://localhost",
        "slack://T1JJ3T3L2/A1BRTD4JD/TIiajkdnlazkcOXrIdevi7FQ/#general",
        "https://hooks.slack.com/services/T1JJ3T3L2/A1BRTD4JD/TIiajkdnlazkcOXrIdevi7FQ",
        "mailto://me:secret@gmail.com",
        "mailtos://me:secret@smtp.example.org:587?from=a@example.org&to=b@example.org",
        "pagerduty://A1BRTD4JD@TIiajkdnlazkcOXrIdevi7FQ",
        "workflows://host.example:443/643a8e35/sig1SECRETsig1",
        "tgram://123456789:abcdefg_hijklmnop/12315544",
        "discord://4174216298/JHMHI8qBe7bk2ZwO5U711o3dV_js",
    ],
)
def test_an_address_of_a_known_form_is_good(address: str) -> None:
    """Slack, e-mail, PagerDuty, Teams, Telegram, Discord, and what a service itself shows as its address."""
    assert check([address]) == []


@pytest.mark.parametrize(
    ("address", "said"),
    [
        ("slak://T1JJ3T3L2/A1BRTD4JD/TIiajkdn", "its scheme is none that Apprise knows; did you mean slack://?"),
        ("zzzz://host", "its scheme is none that Apprise knows; https://appriseit.com/services/"),
        ("slack://T1JJ3T3L2", "something is missing or wrong after slack://"),
        (
            "https://host.example/hook",
            "it is a web address, of no service that Apprise knows; json:// and jsons:// post",
        ),
    ],
)
def test_of_an_address_that_is_not_it_is_said_which_and_what_to_do(address: str, said: str) -> None:
    """By its place among them; the good ones are used in any case."""
    (problem,) = check(["json://localhost", address])
    assert problem.startswith(f"option 'notify': address 2 of 2 cannot be used: {said}")
    assert len(Notifier(["json://localhost", address])._couriers) == 1


def test_no_address_asks_for_nothing() -> None:
    """Nor is anything loaded for it."""
    assert check([]) == []
    assert Notifier([])._couriers == ()


@pytest.mark.parametrize("blocked", [list(NEEDED), ["apprise"], ["pybreaker"], ["tenacity"]])
def test_without_the_extra_it_is_said_how_to_install_it(blocked: list[str]) -> None:
    """Nothing is loaded at import, nothing raises, and what is missing is named."""
    loaded, problems = ran(WITHOUT.format(blocked=blocked, needed=set(NEEDED) - set(blocked)))
    assert loaded == []
    (problem,) = problems
    assert problem.endswith("pip install 'otel-hwmetrics[notify]'")
    assert all(name in problem for name in blocked)


def test_where_every_warning_is_an_error_addresses_are_good_all_the_same() -> None:
    """Apprise imports what Python has deprecated."""
    loaded, problems = ran(WITHOUT.format(blocked=[], needed=set(NEEDED)))
    assert loaded == []
    assert problems == []


@settings(deadline=None)  # the machine may have others to serve
@given(st.sampled_from(PLACES), SECRET)
def test_no_form_of_an_address_shows_a_secret(place: str, secret: str) -> None:
    """Neither the name by which logs call it, nor what is said where it cannot be used; wherever the secret is."""
    found, problems = load([place.format(secret=secret), "json://localhost"])
    shown = " ".join([*problems, *(address.label for address in found), *map(repr, found)])
    assert "address 1 of 2" in shown
    assert not any(secret[at : at + 6].lower() in shown.lower() for at in range(len(secret) - 5))


@settings(deadline=None)  # the machine may have others to serve
@given(st.text())
def test_whatever_an_address_is_checking_it_does_not_raise(text: str) -> None:
    """It is good, or it is said that it is not."""
    assert len(check([text])) in (0, 1)


def test_a_service_has_ten_seconds_unless_its_address_says_otherwise() -> None:
    """To connect, and for each answer; a plugin that has a longer time of its own keeps it."""
    plain, said, mail = usable("json://localhost", "json://localhost?rto=2.5&cto=30", "mailto://me:secret@gmail.com")
    assert (plain.socket_connect_timeout, plain.socket_read_timeout) == (TIMEOUT, TIMEOUT)
    assert (said.socket_connect_timeout, said.socket_read_timeout) == (30.0, 2.5)
    assert mail.socket_connect_timeout > TIMEOUT


def test_a_message_that_is_too_long_for_a_service_is_cut_unless_its_address_says_otherwise() -> None:
    """Else a service would refuse it, each time."""
    plain, said = usable("json://localhost", "json://localhost?overflow=split")
    assert plain.overflow_mode is OverflowMode.TRUNCATE
    assert said.overflow_mode is OverflowMode.SPLIT
