"""`cropseg run`: frames of any source in, masks and their records out."""

import signal
from pathlib import Path
from typing import TYPE_CHECKING

import click

from cropseg_edge.cli.options import engine_option, finite, precision_option, threads_option
from cropseg_edge.mask import MOST_MARGIN

if TYPE_CHECKING:
    from cropseg_edge.engines.choice import EngineChoice


@click.command()
@click.argument("source")
@click.option("--out", required=True, type=click.Path(path_type=Path), help="Folder to fill.")
@click.option("--bundle", type=click.Path(path_type=Path), help="Model; default: the shipped one.")
@click.option("--max-frames", type=click.IntRange(min=1), help="Stop after so many frames.")
@click.option("--mcap", type=click.Path(path_type=Path), help="Also write a ROS 2 bag (MCAP).")
@click.option("--video", type=click.Path(path_type=Path), help="Also write an overlay video.")
@click.option("--report", is_flag=True, help="Also write report.html.")
@click.option("--topic", help="Image topic, where the source is a bag with several.")
@click.option(
    "--crop-margin",
    type=click.IntRange(0, MOST_MARGIN),
    default=0,
    help="Pixels around crop that become unknown, to be spared as well.",
)
@click.option(
    "--weed-confidence",
    type=click.FloatRange(0, 1),
    callback=finite,
    default=0.0,
    help="Weed of which the network is less sure becomes unknown, too.",
)
@engine_option
@precision_option
@threads_option
def run(
    source: str,
    out: Path,
    bundle: Path | None,
    max_frames: int | None,
    mcap: Path | None,
    video: Path | None,
    report: bool,
    topic: str | None,
    crop_margin: int,
    weed_confidence: float,
    engine: "EngineChoice",
    precision: str | None,
    threads: int | None,
) -> None:
    """Segment every frame of SOURCE and write masks, overlays, frames.csv and summary.json.

    SOURCE is an image, a folder of images, a video, a ROS 2 bag, a camera (0, /dev/video0,
    rtsp://..., a GStreamer pipeline) or simulator:species=maize,frames=50. A frame that cannot be
    used is said and skipped; a live camera's frames are dropped rather than queued. Ctrl-C and
    SIGTERM end the run; what was recorded is finished.

    \b
    Examples:
      cropseg run field.mp4 --out out/field --report
      cropseg run drive.mcap --topic /camera/image_raw --out out/drive
      cropseg run simulator:species=beet,condition=night,frames=20 --out out/beets
    """
    from cropseg_edge.pipeline import run_source

    # `kill` and systemd end a run as Ctrl-C does: what was recorded is finished.
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    summary = run_source(
        source,
        out,
        bundle=bundle,
        max_frames=max_frames,
        mcap=mcap,
        video=video,
        report=report,
        topic=topic,
        engine=engine,
        precision=precision,
        threads=threads,
        crop_margin=crop_margin,
        weed_confidence=weed_confidence,
    )
    _show(summary, out)


def _show(summary: dict[str, object], out: Path) -> None:
    latency = summary["latency_ms"]
    assert isinstance(latency, dict)
    click.echo(f"{'stage':<12}{'p50':>9}{'p95':>9}{'p99':>9}  ms")
    for stage, figures in latency.items():
        values = "".join(f"{figures[key]:>9.1f}" for key in ("p50", "p95", "p99"))
        click.echo(f"{stage:<12}{values}")
    status = summary["status"]
    assert isinstance(status, dict)
    counts = ", ".join(f"{count} {name}" for name, count in status.items() if count)
    click.echo(f"{summary['frames']} frames ({counts}; {summary['failed']} unusable) in {out}")
    if isinstance(iou := summary.get("iou_percent"), dict):
        cover = summary["cover_percent"]
        assert isinstance(cover, dict)
        unknown = f", without the {cover['unknown']} % unknown" if cover["unknown"] else ""
        click.echo(
            f"IoU against ground truth{unknown}: vegetation {iou['vegetation']} %, "
            f"crop {iou['crop']} %"
        )
