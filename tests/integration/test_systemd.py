"""The unit that comes with the node does under systemd itself what it promises."""

import signal

import pytest

from tests.nodes import LONG
from tests.peers import wait_until
from tests.systemd import Systemd, systemd

#: In place of the unit's two minutes, so that a test need not wait for them; the node's clock ticks every half second.
WATCHDOG = 5
#: What the unit says a stop takes at most, in seconds.
STOP = 45


@pytest.fixture
def own():
    with systemd() as started:
        started.install(f"WatchdogSec={WATCHDOG}\nTimeoutStopSec={STOP}")
        yield started


def test_the_unit_starts_reloads_and_stops_a_node(own):
    assert own.systemctl("start", "--no-block").accepted
    assert states_until_active(own) == ["activating", "active"]
    assert own.answers()
    assert own.run("stat", "--format=%U", f"/proc/{own.shown('MainPID')}").output == "fullfield\n"

    first = own.shown("MainPID")
    read = own.log.read_text().count("routes loaded")
    assert own.systemctl("reload").accepted
    # systemd 252 has it come back once the signal is sent; the node then says itself that it reloads, and has.
    wait_until(lambda: own.log.read_text().count("routes loaded") > read, what="the routes", seconds=LONG)
    wait_until(lambda: own.systemctl("is-active").output == "active\n", what="the node", seconds=LONG)
    assert own.shown("MainPID") == first
    assert own.answers()

    # One that takes longer than TimeoutStopSec is killed, and its result is "timeout".
    assert own.systemctl("stop").accepted
    assert (own.shown("ActiveState"), own.shown("Result"), own.shown("ExecMainStatus")) == ("inactive", "success", "0")
    assert own.shown("NRestarts") == "0"


def test_a_frozen_node_is_started_anew(own):
    assert own.systemctl("start").accepted
    frozen = own.shown("MainPID")
    assert own.run("kill", f"-{signal.SIGSTOP.value}", frozen).accepted
    wait_until(lambda: own.shown("NRestarts") == "1", what="the watchdog", seconds=LONG)
    wait_until(lambda: own.systemctl("is-active").accepted, what="the node", seconds=LONG)
    assert own.shown("MainPID") != frozen
    assert own.answers()
    assert own.systemctl("stop").accepted


def states_until_active(own: Systemd) -> list[str]:
    """The states that the unit goes through until it is active, each once."""
    seen: list[str] = []

    def active() -> bool:
        state = own.systemctl("is-active").output.strip()
        if state not in seen:
            seen.append(state)
        return state == "active"

    wait_until(active, what="the node", seconds=LONG)
    return seen
