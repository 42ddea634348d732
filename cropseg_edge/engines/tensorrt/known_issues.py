"""Combinations of TensorRT and network that others found broken: a table, with its sources.

A hit is a warning, never a verdict: whether an engine is right is decided on the device, by the
golden frames.
"""

from typing import NamedTuple

Version = tuple[int, int]
_TRACKER = "https://github.com/NVIDIA/TensorRT/issues/"


class KnownIssue(NamedTuple):
    """One combination.

    Attributes:
        name: short, for lists.
        since, before: the versions (major, minor) that have it; `before` None: not fixed yet.
        precisions: at which it was seen.
        operator: of ONNX, without which a graph is not affected; empty: any graph.
        symptom: what is seen.
        remedy: what to do.
        sources: where it was reported.
    """

    name: str
    since: Version
    before: Version | None
    precisions: tuple[str, ...]
    operator: str
    symptom: str
    remedy: str
    sources: tuple[str, ...]


KNOWN_ISSUES = (
    KnownIssue(
        name="vit-fp16",
        since=(10, 3),
        before=(10, 5),
        precisions=("fp16", "int8"),
        operator="",
        symptom="vision transformers in FP16 give masks of one class, or NaN",
        remedy="use the precision that passes `cropseg verify` (FP32 at worst), or JetPack 7.2",
        sources=(
            _TRACKER + "4723",
            _TRACKER + "4742",
            _TRACKER + "4419",
            "https://github.com/ika-rwth-aachen/ros2-depth-anything-v3-trt/issues/16",
        ),
    ),
    KnownIssue(
        name="gridsample",
        since=(10, 14),
        before=None,
        precisions=("fp32", "fp16", "int8"),
        operator="GridSample",
        symptom="deformable attention written with GridSample is compiled to wrong numbers",
        remedy="export the bundle again: its TensorRT graph gathers instead of GridSample",
        sources=(_TRACKER + "4813", "https://github.com/pytorch/TensorRT/issues/4074"),
    ),
)


def known_issues(
    version: str, precision: str | None = None, graph: bytes | None = None
) -> list[KnownIssue]:
    """What is known of a TensorRT version, for a precision and a graph where they are given.

    Args:
        version: as `tensorrt.__version__`, such as "10.3.0"; what cannot be read matches nothing.
        precision: fp32, fp16 or int8; None: any.
        graph: the ONNX file; None: any.
    """
    here = parse_version(version)
    return [
        issue
        for issue in KNOWN_ISSUES
        if here is not None
        and issue.since <= here
        and (issue.before is None or here < issue.before)
        and (precision is None or precision in issue.precisions)
        and (graph is None or issue.operator.encode() in graph)
    ]


def parse_version(version: str) -> Version | None:
    """(major, minor) of "10.3.0"; None where that cannot be read."""
    parts = version.split(".")[:2]
    if len(parts) < 2 or not all(part.isdecimal() for part in parts):
        return None
    major, minor = (int(part) for part in parts)
    return (major, minor)
