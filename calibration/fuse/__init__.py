"""Groups of nodes as one node of the domain `cropseg`, for ONNX Runtime on the CPU.

A node's body stays in the graph as an ONNX function of standard operators, so that any runtime can
run it. ONNX Runtime with the compiled operators (`cropseg_edge/engines/operators`) takes those
instead. `simplify` opens the functions again.
"""

from onnx import ModelProto, helper, shape_inference

from calibration.fuse.attention import fuse_attention
from calibration.fuse.body import DOMAIN, OPSET
from calibration.fuse.deformable import fuse_deformable_attention
from calibration.fuse.depthwise import fuse_depthwise_convolutions
from calibration.graph import drop_unused, sort_nodes

__all__ = ["fuse"]


def fuse(model: ModelProto) -> ModelProto:
    """The model, float32 and of static shapes, with one node for each attention of either kind and
    each depthwise convolution that ONNX Runtime computes slowly.

    Raises:
        ValueError: it is not of the opset that the bodies are written in, or was fused before.
    """
    opsets = {opset.domain: opset.version for opset in model.opset_import}
    if opsets != {"": OPSET}:
        raise ValueError(f"fuse takes a graph of opset {OPSET} alone, got {opsets}")
    model = shape_inference.infer_shapes(model)
    for rule in (fuse_deformable_attention, fuse_attention, fuse_depthwise_convolutions):
        rule(model)
    if model.functions:
        model.opset_import.append(helper.make_opsetid(DOMAIN, 1))
    sort_nodes(model)
    drop_unused(model)
    return model
