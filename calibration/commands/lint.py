"""`lint`: the rules of TensorRT on every graph that a bundle has for it."""

from pathlib import Path

import click


@click.command()
@click.argument("bundle", required=False, type=click.Path(path_type=Path))
def lint(bundle: Path | None) -> None:
    """Check BUNDLE's TensorRT graphs (default: the shipped bundle), or a single .onnx file.

    Where a bundle has none for TensorRT, `cropseg build` takes ONNX Runtime's, so that one is
    checked. Fails with exit code 1 where a rule is broken, naming the node; with 2 where a graph
    cannot be read.

    \b
    Examples:
      python -m calibration lint nano.cropseg
      python -m calibration lint model.onnx
    """
    import onnx
    from google.protobuf.message import DecodeError  # what onnx reads files with

    from calibration.lint import RULES
    from calibration.lint import lint as check
    from cropseg_edge.bundle import read_bundle
    from cropseg_edge.engines.onnxruntime import first_line
    from cropseg_edge.errors import BundleError

    if bundle is not None and bundle.suffix == ".onnx":
        graphs = {bundle.name: bundle.read_bytes()}
    else:
        checked = read_bundle(bundle)
        precisions = checked.manifest.precisions("tensorrt")
        graphs = {f"tensorrt {p}": checked.graph("tensorrt", p) for p in precisions}
        if "tensorrt" not in checked.manifest.graphs:
            name = "onnxruntime fp32 (the bundle has no graph of TensorRT's own)"
            graphs = {name: graphs.pop("tensorrt fp32"), **graphs}
    broken = 0
    for name, data in graphs.items():
        try:
            model = onnx.load_from_string(data)
            onnx.checker.check_model(model)
        except (onnx.checker.ValidationError, DecodeError, ValueError) as error:
            raise BundleError(f"{name} is not a valid ONNX graph: {first_line(error)}") from error
        findings = check(model)
        broken += len(findings)
        for finding in findings:
            click.echo(f"{name}: {finding.rule}: {finding.node}: {finding.message}")
        click.echo(f"{name}: {len(RULES)} rules, {len(findings)} findings")
    if broken:
        raise click.exceptions.Exit(1)
