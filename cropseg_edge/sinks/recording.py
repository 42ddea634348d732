"""RunRecorder: everything that a run leaves behind, in one folder."""

import fcntl
import json
import logging
import os
import time
from collections.abc import Mapping
from contextlib import ExitStack
from pathlib import Path
from types import TracebackType
from typing import Any

from cropseg_edge.errors import ConfigError
from cropseg_edge.files import write_atomically
from cropseg_edge.frames.frame import Frame
from cropseg_edge.mask import CropMask
from cropseg_edge.sinks.masks import MaskSink
from cropseg_edge.sinks.mcap import McapSink
from cropseg_edge.sinks.overlay import OverlayPainter
from cropseg_edge.sinks.overlays import OverlaySink
from cropseg_edge.sinks.report import choose_stills, write_report
from cropseg_edge.sinks.sink import Sink
from cropseg_edge.sinks.statistics import COLUMNS, RunStatistics
from cropseg_edge.sinks.table import FrameTable
from cropseg_edge.sinks.versions import versions
from cropseg_edge.sinks.video import VideoSink

_LOG = logging.getLogger("cropseg_edge.sinks")


class RunRecorder:
    """Records a run into a folder: masks, overlays, frames.csv, summary.json and, where asked
    for, an overlay video, an MCAP bag and report.html.

    What an earlier run left in the folder under these names is removed first. A folder with masks,
    overlays or a frames.csv of something else is refused: they may be somebody's labels. So is one
    that another run is writing to.

    Args:
        out: the folder; made if missing.
        source: what the frames come from, as the user said it.
        bundle_name: name of the model bundle, from its manifest.
        bundle_sha256: hex digest of the bundle file.
        engine: engine and precision, for example "onnxruntime fp32".
        settings: what else decided the masks, where it is known.
        mcap: file for a bag with the frames and the masks; needs the extra `ros`.
        video: file for the overlay video, .webm or .mp4.
        report: write report.html (it shows overlays, so it implies `overlays`).
        overlays: write overlays/<name>.jpg.
        rate_hz: frame rate of the video; 10 by default.

    Raises:
        ConfigError: a file or folder cannot be written, its name does not fit, the folder holds
            masks, overlays or a frames.csv that no earlier run left there, or another run writes
            to it.
    """

    def __init__(
        self,
        out: Path,
        *,
        source: str,
        bundle_name: str,
        bundle_sha256: str,
        engine: str,
        settings: Mapping[str, float] | None = None,
        mcap: Path | None = None,
        video: Path | None = None,
        report: bool = False,
        overlays: bool = True,
        rate_hz: float | None = None,
    ) -> None:
        self.out = out
        self._head = {
            "source": source,
            "bundle": {"name": bundle_name, "sha256": bundle_sha256},
            "engine": engine,
            "settings": dict(settings or {}),
            "started": time.strftime("%Y-%m-%dT%H:%M:%S%z"),
        }
        self._report = report
        self._summary: dict[str, Any] | None = None
        painter = OverlayPainter()
        self._sinks: list[Sink] = []
        self._lock = ExitStack()
        try:
            _refuse_foreign(out)
            if video is not None:
                self._sinks.append(VideoSink(video, painter, rate_hz=rate_hz or 10.0))
            if mcap is not None:
                self._sinks.append(McapSink(mcap))
            out.mkdir(parents=True, exist_ok=True)
            _lock(out, self._lock)
            _clear(out)
            self._sinks.append(MaskSink(out / "masks"))
            if overlays or report:
                self._sinks.append(OverlaySink(out / "overlays", painter))
            self._table = FrameTable(out / "frames.csv")
        except OSError as error:
            self._lock.close()
            raise ConfigError(f"cannot write to {error.filename}: {error.strerror}") from error
        self._statistics = RunStatistics()

    def record(self, frame: Frame, mask: CropMask) -> None:
        """Write everything for one frame."""
        for sink in self._sinks:
            sink.write(frame, mask)
        self._table.write(self._statistics.add(frame, mask))

    def close(
        self, *, failed: int = 0, dropped: int = 0, seconds: float | None = None
    ) -> dict[str, Any]:
        """Finish all files; idempotent.

        Args:
            failed: how many frames the source could not read (`FrameSource.failed`).
            dropped: how many frames came faster than they could be segmented.
            seconds: from the first to the last frame, where it is not the time between the first
                and the last `record` (a run that is written down afterwards).

        Returns:
            The summary, as in summary.json.
        """
        if self._summary is None:
            with self._lock:
                self._finish(failed, dropped, seconds)
        assert self._summary is not None
        return self._summary

    def _finish(self, failed: int, dropped: int, seconds: float | None) -> None:
        with ExitStack() as files:  # closes all of them, also where one fails
            for sink in self._sinks:
                files.callback(sink.close)
            files.callback(self._table.close)
        self._summary = {
            **self._head,
            **self._statistics.summary(seconds),
            "failed": failed,
            "dropped": dropped,
            "versions": versions(),
        }
        if self._report:
            rows = self._statistics.rows
            stills = choose_stills(rows, self.out / "overlays")
            write_report(self.out, self._summary, rows, stills)
        text = json.dumps(self._summary, indent=2)
        write_atomically(self.out / "summary.json", text.encode())

    def __enter__(self) -> "RunRecorder":
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()


def _is_ours(table: Path) -> bool:
    """Whether a frames.csv begins as those of this recorder do."""
    with table.open(encoding="utf-8", errors="replace") as file:
        return file.readline(4096).startswith(",".join(COLUMNS))


def _refuse_foreign(out: Path) -> None:
    """ConfigError where a run would replace, or mix with, files that are not an earlier run's."""
    table = out / "frames.csv"
    if table.is_file():
        if not _is_ours(table):
            raise ConfigError(
                f"{table} is not an earlier run's (other columns); choose another --out"
            )
        return
    for folder in (out / "masks", out / "overlays"):
        if folder.is_dir() and any(folder.iterdir()):
            raise ConfigError(
                f"{folder} has files and {out} no frames.csv: they are not an earlier run's; "
                "choose another --out"
            )


def _lock(out: Path, held: ExitStack) -> None:
    """Keep other runs out of a folder until `held` is closed or this process ends.

    Raises:
        ConfigError: another run writes to it.
    """
    descriptor = os.open(out, os.O_RDONLY)
    held.callback(os.close, descriptor)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError as error:
        held.close()
        raise ConfigError(f"another run is writing to {out}; choose another --out") from error
    except OSError as error:  # some network file systems have no locks
        _LOG.warning("%s cannot be locked (%s): let no other run write to it", out, error.strerror)


def _clear(out: Path) -> None:
    """Remove the files of an earlier run, known by its frames.csv, so that no two runs mix."""
    if not (out / "frames.csv").exists():
        return
    # The table goes last: what is left of a clearing that was cut off is still known.
    for pattern in ("masks/*.png", "overlays/*.jpg", "summary.json", "report.html", "frames.csv"):
        for path in out.glob(pattern):
            path.unlink()
