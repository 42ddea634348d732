"""The segmentation node's parameters: defaults, descriptions, ranges, and reasons for refusing."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from rcl_interfaces.msg import FloatingPointRange, IntegerRange, ParameterDescriptor
from rclpy.exceptions import InvalidTopicNameException
from rclpy.node import Node
from rclpy.validate_topic_name import validate_topic_name

from cropseg_edge.engines.choice import CHOICES
from cropseg_edge.mask import MOST_MARGIN
from cropseg_ros.qos import RELIABILITY

TRANSPORTS = ("raw", "compressed")
PRECISIONS = ("", "fp32", "fp16", "int8")


@dataclass(frozen=True)
class Settings:
    """The parameters' values; the names are the parameters' names."""

    bundle: str
    engine: str
    precision: str
    build_if_missing: bool
    image_topic: str
    transport: str
    reliability: str
    depth: int
    threads: int
    max_age_ms: int
    crop_margin: int
    weed_confidence: float
    publish_confidence: bool
    publish_overlay: bool
    autostart: bool


@dataclass(frozen=True)
class _Parameter:
    default: Any
    description: str
    limits: tuple[float, float] | None = None
    choices: tuple[str, ...] = ()
    live: bool = False  # may change while the node is configured


PARAMETERS = {
    "bundle": _Parameter("", "Model bundle, a .cropseg file; empty for the one that is shipped."),
    "engine": _Parameter(
        "auto",
        "tensorrt: an engine that was accepted on this device (`cropseg build`). onnxruntime: the "
        "CPU. auto: the first where there is one, else the second.",
        choices=CHOICES,
    ),
    "precision": _Parameter(
        "",
        "Precision of the network; empty: the fastest accepted TensorRT engine, or the bundle's "
        "own choice for ONNX Runtime.",
        choices=PRECISIONS,
    ),
    "build_if_missing": _Parameter(
        False,
        "Build and try TensorRT engines in configure where none is accepted. Takes minutes.",
    ),
    "image_topic": _Parameter("image", "Camera topic; remapping `image` works as well."),
    "transport": _Parameter(
        "raw",
        "raw: sensor_msgs/Image on image_topic. compressed: sensor_msgs/CompressedImage on "
        "<image_topic>/compressed.",
        choices=TRANSPORTS,
    ),
    "reliability": _Parameter(
        "best_effort",
        "QoS reliability of the image subscription.",
        choices=tuple(RELIABILITY),
    ),
    "depth": _Parameter(1, "QoS depth of the image subscription.", limits=(1, 10)),
    "threads": _Parameter(
        0, "Threads of the engine and the upsampler; 0: as many as fit this computer.", (0, 64)
    ),
    "max_age_ms": _Parameter(
        200,
        "Without a valid mask for this long, or for three frame periods if that is longer, the "
        "status becomes INVALID; so does that of a mask whose image is older.",
        limits=(50, 10_000),
        live=True,
    ),
    "crop_margin": _Parameter(
        0,
        "Pixels of the image around crop, along rows and columns, that become unknown (255), to be "
        "spared as crop is.",
        limits=(0, MOST_MARGIN),
        live=True,
    ),
    "weed_confidence": _Parameter(
        0.0,
        "Weed of which the network is less sure becomes unknown (255), to be spared as crop is. "
        "A double: write 1.0, not 1.",
        limits=(0.0, 1.0),
        live=True,
    ),
    "publish_confidence": _Parameter(
        True, "Publish ~/confidence while somebody subscribes to it.", live=True
    ),
    "publish_overlay": _Parameter(
        True, "Publish ~/overlay while somebody subscribes to it.", live=True
    ),
    "autostart": _Parameter(False, "Configure and activate at once, without a manager.", live=True),
}


def declare(node: Node) -> None:
    """Declare all parameters.

    Raises:
        InvalidParameterValueException, InvalidParameterTypeException: a value given at the start
            is refused.
    """
    for name, parameter in PARAMETERS.items():
        descriptor = ParameterDescriptor(description=parameter.description)
        if parameter.choices:
            descriptor.additional_constraints = f"one of: {', '.join(parameter.choices)}"
        if parameter.limits:
            low, high = parameter.limits
            if isinstance(parameter.default, int):
                descriptor.integer_range = [IntegerRange(from_value=low, to_value=high, step=1)]
            else:
                between = FloatingPointRange(from_value=low, to_value=high)
                descriptor.floating_point_range = [between]
        node.declare_parameter(name, parameter.default, descriptor)


def read(node: Node) -> Settings:
    """The values now in force."""
    return Settings(**{name: node.get_parameter(name).value for name in PARAMETERS})


def refusal(name: str, value: Any, *, configured: bool) -> str:
    """Why a value is refused; empty if it is accepted."""
    parameter = PARAMETERS.get(name)
    if parameter is None:  # one of rclpy's own, such as use_sim_time
        return ""
    if configured and not parameter.live:
        return f"{name} is read in configure: clean the node up first, then set it"
    if parameter.choices and value not in parameter.choices:
        return f"{name} must be one of {', '.join(parameter.choices)}, not {value!r}"
    if parameter.limits and type(value) is type(parameter.default):
        low, high = parameter.limits
        if not low <= value <= high:
            return f"{name} must be from {low} to {high}, not {value}"
    if name == "image_topic":
        try:
            validate_topic_name(value)
        except InvalidTopicNameException as error:
            return f"image_topic is not a topic name: {' '.join(str(error).split())}"
    return ""
