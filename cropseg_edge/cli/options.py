"""Options that several commands share."""

import click

engine_option = click.option(
    "--engine",
    type=click.Choice(["auto", "tensorrt", "onnxruntime"]),
    default="auto",
    show_default=True,
    help="auto: a TensorRT engine accepted on this device, else ONNX Runtime on the CPU.",
)
precision_option = click.option(
    "--precision",
    type=click.Choice(["fp32", "fp16", "int8"]),
    help="Graph to run; default: the fastest accepted engine, or the bundle's own choice.",
)
