"""From a source's frames to recorded masks: what `cropseg run` does, as a function."""

import logging
import os
from collections.abc import Iterator
from contextlib import closing
from itertools import islice
from pathlib import Path
from typing import Any

from cropseg_edge.engines.choice import EngineChoice
from cropseg_edge.errors import ConfigError, DeviceLostError, FrameError
from cropseg_edge.frames.frame import Frame, FrameSource
from cropseg_edge.frames.open import open_source
from cropseg_edge.mask import CropMask
from cropseg_edge.segmenter import Segmenter
from cropseg_edge.sinks import RunRecorder

log = logging.getLogger("cropseg_edge.run")


def run_source(
    source: str,
    out: Path,
    *,
    bundle: Path | None = None,
    max_frames: int | None = None,
    mcap: Path | None = None,
    video: Path | None = None,
    report: bool = False,
    topic: str | None = None,
    engine: EngineChoice = "auto",
    precision: str | None = None,
    threads: int | None = None,
    crop_margin: int = 0,
    weed_confidence: float = 0.0,
) -> dict[str, Any]:
    """Segment the frames of a source and record them; see `cropseg run --help`.

    Frames that cannot be used are logged at WARNING and counted. The output folder is not touched
    before the first frame has a mask; what was recorded is finished even when the source fails.

    Returns:
        The summary, as in summary.json.

    Raises:
        FrameError: the source cannot be opened, fails, or has no frame that can be used.
        ConfigError: an output cannot be written, or would replace the source.
        BundleError, EngineError: the model cannot be used.
        DeviceLostError: the GPU failed for good, or a TensorRT engine on several frames in a row.
    """
    if os.path.exists(source):  # else a camera, a URL, the simulator
        _spare(Path(source).resolve(), out, mcap, video)
    with (
        closing(open_source(source, topic=topic)) as frames,
        Segmenter(
            bundle,
            threads=threads,
            engine=engine,
            precision=precision,
            crop_margin=crop_margin,
            weed_confidence=weed_confidence,
        ) as segmenter,
    ):
        segmenter.warm_up()
        masks = _Masks(frames, segmenter)
        results = islice(masks, max_frames)
        first = next(results, None)
        if first is None:
            raise FrameError(
                f"{source}: not one frame could be used ({masks.refused + frames.failed} refused)"
            )
        recorder = RunRecorder(
            out,
            source=source,
            bundle_name=segmenter.bundle.manifest.name,
            bundle_sha256=segmenter.bundle.sha256,
            engine=f"{segmenter.engine.name} {segmenter.engine.precision}",
            settings={"crop_margin": crop_margin, "weed_confidence": weed_confidence},
            mcap=mcap,
            video=video,
            report=report,
            rate_hz=frames.rate_hz,
        )
        try:
            recorder.record(*first)
            for frame, mask in results:
                recorder.record(frame, mask)
        finally:
            summary = recorder.close(failed=frames.failed + masks.refused)
        if segmenter.lost:  # in the last frame
            raise DeviceLostError(segmenter.lost)
    return summary


def _spare(source: Path, out: Path, *files: Path | None) -> None:
    """ConfigError where writing the outputs would replace or remove what is read."""
    for file in filter(None, files):
        if file.resolve() == source:
            raise ConfigError(f"{file} is the source itself; give the output another name")
        if source in file.resolve().parents:
            raise ConfigError(f"{file} is in the source folder; write it to another folder")
    for folder in (out / "masks", out / "overlays"):
        if folder.resolve() in (source, *source.parents):
            raise ConfigError(
                f"the source is in {folder}, which a run clears first; choose another --out"
            )


class _Masks:
    """Frames with their masks; what the segmenter refuses is logged, counted and left out."""

    def __init__(self, frames: FrameSource, segmenter: Segmenter) -> None:
        self._frames = frames
        self._segmenter = segmenter
        self.refused = 0

    def __iter__(self) -> Iterator[tuple[Frame, CropMask]]:
        for frame in self._frames:
            try:
                mask = self._segmenter.segment(frame)
            except FrameError as error:
                self.refused += 1
                log.warning("%s; skipped", error)
                continue
            yield frame, mask
