"""What the board does meanwhile: watts by rail and this process's memory, read twice a second."""

import threading
from types import TracebackType

from cropseg_edge.doctor.power import watts
from cropseg_edge.doctor.system import System

_PERIOD_S = 0.5


class Sensors:
    """Reads in a thread of its own between entering and leaving; a few file reads each time."""

    def __init__(self, system: System, period_s: float = _PERIOD_S) -> None:
        self._system, self._period_s = system, period_s
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, name="sensors", daemon=True)
        self._watts: dict[str, list[float]] = {}
        self._resident_mb: list[int] = []
        self._available_mb: list[int] = []

    def __enter__(self) -> "Sensors":
        self._thread.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._stop.set()
        self._thread.join()

    def watts(self) -> dict[str, dict[str, float]]:
        """Mean and max by rail; empty where the board does not tell."""
        return {
            rail: {"mean": round(sum(values) / len(values), 2), "max": round(max(values), 2)}
            for rail, values in self._watts.items()
        }

    def resident_mb(self) -> int | None:
        """The most memory that the process had, a GPU's not counted; None if Linux keeps it."""
        return max(self._resident_mb, default=None)

    def available_mb(self) -> int | None:
        """The least memory that the computer had left; None where Linux does not tell."""
        return min(self._available_mb, default=None)

    def read(self) -> None:
        """Take one sample."""
        for rail, value in watts(self._system).items():
            self._watts.setdefault(rail, []).append(value)
        self._resident_mb += self._megabytes("/proc/self/status", "VmRSS:")
        self._available_mb += self._megabytes("/proc/meminfo", "MemAvailable:")

    def _megabytes(self, path: str, key: str) -> list[int]:
        lines = (self._system.read(path) or "").splitlines()
        return [int(line.split()[1]) // 1024 for line in lines if line.startswith(key)]

    def _run(self) -> None:
        self.read()
        while not self._stop.wait(self._period_s):
            self.read()
