"""Graph: the processes of one run, started together, watched, and stopped for certain."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from types import TracebackType

Value = bool | int | float | str


class GraphError(Exception):
    """A process of the graph died or did not stop."""


class Graph:
    """Runs nodes of this package as processes, each with a log file in `logs`.

    Leaving the context stops what still runs: SIGTERM, and SIGKILL after four seconds.
    """

    def __init__(self, logs: Path, environment: Mapping[str, str]) -> None:
        self._logs = logs
        self._environment = {**os.environ, **environment}
        self._processes: dict[str, subprocess.Popen[bytes]] = {}
        logs.mkdir(parents=True, exist_ok=True)

    def start(
        self, module: str, parameters: Mapping[str, Value], remap: Mapping[str, str] | None = None
    ) -> subprocess.Popen[bytes]:
        """Start `cropseg_ros.<module>` with these parameters and remapped names."""
        command = [sys.executable, "-m", f"cropseg_ros.{module}", "--ros-args"]
        for name, value in parameters.items():
            command += ["-p", f"{name}:={json.dumps(value)}"]  # JSON is YAML: "0" stays a string
        for name, other in (remap or {}).items():
            command += ["-r", f"{name}:={other}"]
        with self.log(module).open("wb") as log, _signals_wait():
            # A session of its own: Ctrl-C reaches the driver alone, which ends the run in order.
            process = subprocess.Popen(
                command,
                env=self._environment,
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
            self._processes[module] = process
        return process

    def log(self, module: str) -> Path:
        """The log file of a process."""
        return self._logs / f"{module}.log"

    def ended(self, module: str) -> bool:
        """Whether a process has ended well.

        Raises:
            GraphError: it ended with an error; the message holds the end of its log.
        """
        code = self._processes[module].poll()
        if code:
            lines = self.log(module).read_text(errors="replace").splitlines()
            tail = "\n  ".join(lines[-5:])
            raise GraphError(
                f"{module} died with exit code {code}; {self.log(module)} ends with\n  {tail}"
            )
        return code is not None

    def check(self) -> None:
        """Raise a `GraphError` if any process died."""
        for module in self._processes:
            self.ended(module)

    def forget(self, module: str) -> None:
        """Watch a process no longer, whatever it ended with."""
        del self._processes[module]

    def stop(self, module: str, *, number: int = signal.SIGTERM, timeout_s: float = 4.0) -> None:
        """End a process with a signal.

        Raises:
            GraphError: it had to be killed, or it ended with an error.
        """
        process = self._processes[module]
        if process.poll() is None:
            process.send_signal(number)
        try:
            process.wait(timeout_s)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
            raise GraphError(
                f"{module} did not stop within {timeout_s:g} s and was killed"
            ) from None
        # A signal that comes while Python is on its way out meets the default handler.
        if process.returncode != -number:
            self.ended(module)

    def __enter__(self) -> Graph:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        running = [process for process in self._processes.values() if process.poll() is None]
        for process in running:
            process.terminate()
        deadline = time.monotonic() + 4.0
        for process in running:
            try:
                process.wait(max(0.0, deadline - time.monotonic()))
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()


@contextmanager
def _signals_wait() -> Iterator[None]:
    """SIGINT and SIGTERM take effect after the block, so that no process is started unnoted."""
    came: list[int] = []
    handlers = {
        number: signal.signal(number, lambda number, frame: came.append(number))
        for number in (signal.SIGINT, signal.SIGTERM)
    }
    try:
        yield
    finally:
        for number, handler in handlers.items():
            signal.signal(number, handler)
        for number in came:
            signal.raise_signal(number)
