"""`cropseg verify`: the golden frames through the engines of this machine."""

from pathlib import Path
from typing import TYPE_CHECKING

import click

from cropseg_edge.cli.options import engine_option, precision_option, threads_option

if TYPE_CHECKING:
    from cropseg_edge.bundle import Bundle


@click.command()
@click.argument("bundle", required=False, type=click.Path(path_type=Path))
@engine_option
@precision_option
@threads_option
def verify(bundle: Path | None, engine: str, precision: str | None, threads: int | None) -> None:
    """Run the golden frames of BUNDLE (default: the shipped one) and compare.

    A TensorRT engine passes where no value is NaN or infinite and its masks overlap the
    reference's by 99 % (int8: 97 %; labels on less than 1 % of a frame do not count); it is used
    only then. One that fails is quarantined until it is built again or this package changes, and
    the next precision is tried, ONNX Runtime last. ONNX Runtime's probabilities must also agree to
    0.001 (fp32). Fails with exit code 2 where nothing passes.

    \b
    Examples:
      cropseg verify my_model.cropseg
      cropseg verify --engine tensorrt --precision fp16
    """
    from cropseg_edge.bundle import read_bundle
    from cropseg_edge.engines.acceptance import try_out
    from cropseg_edge.engines.choice import open_path
    from cropseg_edge.engines.tensorrt.platform import tensorrt_expected
    from cropseg_edge.errors import EngineError

    checked = read_bundle(bundle)
    if engine != "onnxruntime":
        try:
            _verify_tensorrt(checked, precision)
            return
        except EngineError as error:
            if engine == "tensorrt":
                raise
            if tensorrt_expected():
                click.echo(f"warning: {error}; ONNX Runtime on the CPU is tried", err=True)
    if engine == "auto" and precision not in (None, *checked.manifest.precisions("onnxruntime")):
        click.echo(
            f"warning: ONNX Runtime has no {precision} graph in this bundle; its default is tried",
            err=True,
        )
        precision = None
    path = open_path(checked, "onnxruntime", threads=threads, precision=precision)
    try:
        trial = try_out(checked, path)
    finally:
        path.close()
    for number, parity in enumerate(trial.parities):
        click.echo(
            f"golden frame {number}: probabilities differ by at most {parity.difference:.1e}, "
            f"mask IoU {parity.iou:.4f}"
        )
    click.echo(
        f"the bundle gives its reference results on this machine: onnxruntime "
        f"{path.engine.precision}, {trial.latency_ms:.1f} ms a frame"
    )


def _verify_tensorrt(bundle: "Bundle", precision: str | None) -> None:
    from cropseg_edge.engines.tensorrt.build import chain, try_engine
    from cropseg_edge.engines.tensorrt.fingerprint import fingerprint
    from cropseg_edge.engines.tensorrt.known_issues import known_issues
    from cropseg_edge.engines.tensorrt.platform import load_platform
    from cropseg_edge.engines.tensorrt.settings import BuildSettings
    from cropseg_edge.errors import EngineError

    platform = load_platform()
    version = platform.trt.__version__
    accepted = {}
    for name in [p for p in chain(bundle) if precision in (None, p)]:
        here = fingerprint(bundle, name, version, platform.device, BuildSettings())
        for issue in known_issues(version, name, bundle.graph("tensorrt", name)):
            click.echo(f"{name}: known problem {issue.name}: {issue.symptom}; {issue.remedy}")
        try:
            engine = platform.cache.read(bundle, name, here)
        except EngineError as error:
            click.echo(f"{name}: {error}")
            continue
        judged = try_engine(platform, bundle, name, engine, click.echo, must_keep=True)
        if judged is not None:
            accepted[name] = judged
    if not accepted:
        raise EngineError(
            f"no TensorRT engine of {bundle.path.name} passed; `cropseg build` makes them"
        )
    click.echo(f"ready: tensorrt {', '.join(accepted)}; `--engine auto` takes the fastest")
