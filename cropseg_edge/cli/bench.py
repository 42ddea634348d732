"""`cropseg bench`: how long each stage takes on this machine, and which deadlines it keeps."""

from pathlib import Path
from typing import TYPE_CHECKING

import click
from click.core import ParameterSource

from cropseg_edge.cli.options import (
    check_json_file,
    engine_option,
    finite,
    json_option,
    precision_option,
    threads_option,
    write_json,
)

if TYPE_CHECKING:
    from cropseg_edge.engines.choice import EngineChoice

_PATH = click.Path(path_type=Path)


@click.command()
@click.argument("bundle", required=False, type=_PATH)
@click.option("--source", help="Whose frames to segment.  [default: the simulator, 640x480]")
@click.option("--topic", help="Image topic, where the source is a bag with several.")
@engine_option
@precision_option
@click.option(
    "--rate",
    type=click.FloatRange(0.01, 1000),
    callback=finite,
    metavar="HZ",
    help="Release frames at this rate and count missed deadlines; default: one after the other.",
)
@click.option("--frames", type=click.IntRange(1), default=200, show_default=True)
@click.option(
    "--seconds",
    type=click.FloatRange(0, min_open=True),
    callback=finite,
    help="Instead of --frames.",
)
@click.option("--warm-up", type=click.IntRange(0), default=10, show_default=True)
@threads_option
@json_option
@click.option(
    "--compare", type=_PATH, nargs=2, metavar="A B", help="Compare two such files instead."
)
def bench(
    bundle: Path | None,
    source: str | None,
    topic: str | None,
    engine: "EngineChoice",
    precision: str | None,
    rate: float | None,
    frames: int,
    seconds: float | None,
    warm_up: int,
    threads: int | None,
    json_file: Path | None,
    compare: tuple[Path, Path] | None,
) -> None:
    """Measure BUNDLE (default: the shipped one) on this machine.

    Up to 16 frames of the source are decoded or rendered before, and taken in turn. With --rate
    they are released like a camera's, only the latest one waits, a frame's latency counts from its
    release, and its deadline is the next release; frames that were skipped missed theirs. Exit code
    2 where the engine failed on a frame, 70 where it failed for good.

    \b
    Examples:
      cropseg bench
      cropseg bench --rate 10 --seconds 60 --json bench.json
      cropseg bench --source simulator:width=1920,height=1080,frames=8
      cropseg bench my_model.cropseg --source field.mp4 --engine onnxruntime --precision int8
      cropseg bench --compare before.json after.json
    """
    if compare:
        _refuse_other_options()
        _compare(*compare)
        return
    to_stdout = check_json_file(json_file)

    from cropseg_edge.benchmark import SOURCE, benchmark, load_frames, table
    from cropseg_edge.errors import DeviceLostError, EngineError
    from cropseg_edge.segmenter import Segmenter

    held, described = load_frames(source or SOURCE, topic=topic)
    with Segmenter(bundle, threads=threads, engine=engine, precision=precision) as segmenter:
        document = benchmark(
            segmenter, held, rate_hz=rate, count=frames, seconds=seconds, warm_up=warm_up
        )
    described["note"] = "decoding or rendering the frames, done before"
    document = {**document, "source": described}
    if not to_stdout:
        click.echo(table(document))
    if json_file is not None:
        write_json(json_file, document)
    if segmenter.lost:  # in the last frame
        raise DeviceLostError(segmenter.lost)
    measured = document["measured"]
    if failures := measured["engine_failures"]:
        raise EngineError(
            f"the engine failed on {failures} of {measured['frames']} frames; see the reasons"
        )


def _refuse_other_options() -> None:
    context = click.get_current_context()
    given = [
        parameter.opts[-1] if isinstance(parameter, click.Option) else "BUNDLE"
        for parameter in context.command.params
        if parameter.name != "compare"
        and context.get_parameter_source(parameter.name or "") is ParameterSource.COMMANDLINE
    ]
    if given:
        raise click.UsageError(
            f"--compare only shows two files and measures nothing; leave out {', '.join(given)}"
        )


def _compare(first: Path, second: Path) -> None:
    import json

    from cropseg_edge.benchmark import comparison
    from cropseg_edge.errors import ConfigError

    documents = []
    for path in (first, second):
        try:
            documents.append(json.loads(path.read_text()))
        except ValueError as error:
            raise ConfigError(f"{path} is not JSON: {error}") from error
    click.echo(comparison(documents[0], documents[1], (first.name, second.name)))
