"""The supervisor: keeps worker processes running, and starts another where one has died.

A worker's standard input is a pipe that nobody writes to. It ends when this process does, however that comes
about, and a worker that is told to watch it ends then too: none is left behind.
"""

import signal
import subprocess
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass

import structlog

log = structlog.get_logger()

_LOOK_SECONDS = 0.2
#: Wait before a worker that died is started again: doubles each time, unless the last one lived for long.
_FIRST_WAIT = 1.0
_LONGEST_WAIT = 60.0
_LONG_LIFE = 60.0


@dataclass
class _Post:
    """A place for a worker, and the process that fills it."""

    name: str
    command: Sequence[str]
    process: subprocess.Popen[bytes] | None = None
    started_at: float = 0.0
    start_at: float = 0.0
    wait: float = _FIRST_WAIT
    #: Why the process was killed, if this one did it.
    verdict: str | None = None


class Supervisor:
    """Runs one process for each command, from `start` to `stop`.

    commands: by the name of the worker.
    on_death: called with the worker's name and a sentence about each process that ended unasked, before another takes
        its place; what it raises is logged.
    """

    def __init__(self, commands: Mapping[str, Sequence[str]], on_death: Callable[[str, str], None]) -> None:
        self._posts = {name: _Post(name, command) for name, command in commands.items()}
        self._on_death = on_death
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._watch, name="supervisor", daemon=True)

    def start(self) -> None:
        """Start the processes, and watch them."""
        self._thread.start()

    def dismiss(self) -> None:
        """Ask the processes to end, and start no others; `stop` waits for them."""
        self._stopping.set()
        if self._thread.is_alive():
            self._thread.join()
        for process in self._processes():
            process.terminate()

    def stop(self, grace_seconds: float = 30) -> None:
        """Ask the processes to end, and kill those that have not ended when the time is over."""
        self.dismiss()
        end = time.monotonic() + grace_seconds
        for process in self._processes():
            with suppress(subprocess.TimeoutExpired):
                process.wait(max(0.0, end - time.monotonic()))
            if process.poll() is None:
                log.warning("worker killed, for it did not end", pid=process.pid)
                process.kill()
                process.wait()
            if process.stdin is not None:
                process.stdin.close()

    @property
    def pids(self) -> dict[str, int]:
        """The processes that run now, by the name of the worker."""
        posts = self._posts.items()
        return {name: p.pid for name, post in posts if (p := post.process) is not None and p.poll() is None}

    def replace(self, name: str, why: str) -> None:
        """Kill a worker's process; another takes its place as after any death."""
        post = self._posts[name]
        if post.process is not None and post.process.poll() is None:
            post.verdict = why
            post.process.kill()

    def _processes(self) -> list[subprocess.Popen[bytes]]:
        return [post.process for post in self._posts.values() if post.process is not None]

    def _watch(self) -> None:
        while True:
            for post in self._posts.values():
                self._look_after(post)
            if self._stopping.wait(_LOOK_SECONDS):
                return

    def _look_after(self, post: _Post) -> None:
        now = time.monotonic()
        if post.process is not None and post.process.poll() is not None:
            self._bury(post, now)
        if post.process is None and now >= post.start_at:
            try:
                post.process = subprocess.Popen(post.command, stdin=subprocess.PIPE)
            except OSError as error:
                self._say(post, f"a worker could not be started: {error.strerror}")
                self._put_off(post, now)
                return
            post.started_at = now
            log.info("worker started", pid=post.process.pid)

    def _bury(self, post: _Post, now: float) -> None:
        process, post.process = post.process, None
        assert process is not None
        if process.stdin is not None:
            process.stdin.close()
        if now - post.started_at > _LONG_LIFE:
            post.wait = _FIRST_WAIT
        because = f", for {post.verdict}" if post.verdict is not None else ""
        post.verdict = None
        self._say(post, f"worker process {process.pid} {_end_of(process.returncode)}{because}")
        self._put_off(post, now)

    def _put_off(self, post: _Post, now: float) -> None:
        post.start_at = now + post.wait
        post.wait = min(2 * post.wait, _LONGEST_WAIT)

    def _say(self, post: _Post, sentence: str) -> None:
        log.warning("worker died", reason=sentence)
        try:
            self._on_death(post.name, sentence)
        except Exception:
            log.exception("the death of a worker could not be noted")


def _end_of(code: int) -> str:
    if code >= 0:
        return f"ended with code {code}"
    try:
        return f"was killed by {signal.Signals(-code).name}"
    except ValueError:
        return f"was killed by signal {-code}"
