"""An exported graph in, the same function with fewer nodes out: the ground that Q/DQ stands on.

ONNX Runtime's own basic rules fold every shape and constant (they keep standard operators); then
rules of ours that it lacks. All are exact up to float32 rounding.
"""

import tempfile
from collections import Counter
from pathlib import Path

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import ModelProto, NodeProto, helper, numpy_helper

from calibration.graph import constants, drop_unused, readers_of, shapes
from cropseg_edge.engines.onnxruntime import first_line, runtime_errors
from cropseg_edge.errors import BundleError

STANDARD = ("", "ai.onnx")
PLAIN = {  # a transposed convolution's attributes where they change nothing
    "auto_pad": b"NOTSET",
    "dilations": [1, 1],
    "group": 1,
    "output_padding": [0, 0],
    "pads": [0, 0, 0, 0],
}
SHORT_RUN = 16  # floats; below it ONNX Runtime spends more on broadcasting than on adding


def simplify(graph: bytes, *, widen: bool = True) -> ModelProto:
    """Fold shapes, constants and BatchNormalization before 1x1 convolutions; write slow nodes anew.

    Args:
        graph: ONNX with static shapes.
        widen: write constants out that ONNX Runtime broadcasts slowly, and transposed convolutions
            as plain ones, which it quantizes. TensorRT does not mind them.

    Returns:
        The model in standard operators only, initializers in place of Constant nodes.

    Raises:
        BundleError: ONNX Runtime does not understand the graph.
    """
    model = onnx.shape_inference.infer_shapes(_fold_constants(graph))
    _fold_batch_norms(model)
    _drop_copies(model)
    if widen:
        _widen_constants(model)
        _plain_convolutions(model)
    _rename_inlined(model)
    _name_nodes(model)
    _share_constants(model)
    drop_unused(model)
    del model.graph.value_info[:]
    return onnx.shape_inference.infer_shapes(model)


def _fold_constants(graph: bytes) -> ModelProto:
    import onnxruntime as ort

    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "folded.onnx"
        options = ort.SessionOptions()
        options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_ENABLE_BASIC
        options.optimized_model_filepath = str(path)
        options.log_severity_level = 4
        try:
            ort.InferenceSession(graph, options, providers=["CPUExecutionProvider"])
        except runtime_errors() as error:
            raise BundleError(f"ONNX Runtime refuses the graph: {first_line(error)}") from error
        model = onnx.load(path)
    kept = [opset for opset in model.opset_import if opset.domain in STANDARD]
    del model.opset_import[:]
    model.opset_import.extend(kept)
    return model


def _fold_batch_norms(model: ModelProto) -> None:
    """Conv1x1(BN(x)) = Conv1x1'(x), where nothing else reads BN(x)."""
    values, graph = constants(model), model.graph
    readers = readers_of(model)
    for norm in [node for node in graph.node if node.op_type == "BatchNormalization"]:
        following = readers.get(norm.output[0], [])
        if len(following) != 1 or not _is_pointwise(following[0], values):
            continue
        conv = following[0]
        scale, shift, mean, variance = (values[name] for name in norm.input[1:5])
        epsilon = next((a.f for a in norm.attribute if a.name == "epsilon"), 1e-5)
        factor = scale / np.sqrt(variance + epsilon)
        weight = values[conv.input[1]]
        bias = values[conv.input[2]] if len(conv.input) > 2 else np.zeros(len(weight), np.float32)
        offset = weight[:, :, 0, 0] @ (shift - mean * factor)
        folded = {
            "weight": weight * factor[None, :, None, None],
            "bias": bias + offset,
        }
        names = [f"{conv.name}/{key}" for key in folded]
        graph.initializer.extend(
            numpy_helper.from_array(array.astype(np.float32), name)
            for name, array in zip(names, folded.values(), strict=True)
        )
        conv.input[:] = [norm.input[0], *names]
        graph.node.remove(norm)


def _is_pointwise(node: NodeProto, values: dict[str, NDArray[np.generic]]) -> bool:
    attributes = {a.name: helper.get_attribute_value(a) for a in node.attribute}
    return (
        node.op_type == "Conv"
        and node.input[1] in values
        and values[node.input[1]].shape[2:] == (1, 1)
        and attributes.get("group", 1) == 1
        and not any(attributes.get("pads", ()))
    )


def _drop_copies(model: ModelProto) -> None:
    """Let readers of a Pad by nothing or a Slice of all read what it copies: windows that fit."""
    known, values = shapes(model), constants(model)
    outputs = {tensor.name for tensor in model.graph.output}
    same: dict[str, str] = {}
    for node in list(model.graph.node):
        node.input[:] = [same.get(name, name) for name in node.input]
        if node.output[0] in outputs or not _copies(node, known, values):
            continue
        same[node.output[0]] = node.input[0]
        model.graph.node.remove(node)


def _copies(
    node: NodeProto,
    known: dict[str, tuple[int, ...]],
    values: dict[str, NDArray[np.generic]],
) -> bool:
    shape = known.get(node.input[0], ())
    if not shape or 0 in shape or shape != known.get(node.output[0]):
        return False
    if node.op_type == "Pad":
        return len(node.input) > 1 and node.input[1] in values and not values[node.input[1]].any()
    steps = values.get(node.input[4]) if len(node.input) > 4 else np.ones(1)
    return node.op_type == "Slice" and steps is not None and bool((steps == 1).all())


def _widen_constants(model: ModelProto) -> None:
    """Repeat a constant whose last axes are short until its runs are long: 1.1 ms to 0.1 ms."""
    values, known = constants(model), shapes(model)
    made: dict[tuple[str, tuple[int, ...]], str] = {}
    for node in model.graph.node:
        if node.op_type not in ("Add", "Mul"):
            continue
        shape = known.get(node.output[0], ())
        for at, name in enumerate(node.input):
            if name not in values or not shape or 0 in shape:
                continue
            wide = _wider(values[name].shape, shape)
            if wide == values[name].shape:
                continue
            if (name, wide) not in made:
                made[name, wide] = f"{name}/{'x'.join(map(str, wide))}"
                array = np.ascontiguousarray(np.broadcast_to(values[name], wide))
                tensor = numpy_helper.from_array(array, made[name, wide])
                model.graph.initializer.append(tensor)
            node.input[at] = made[name, wide]


def _wider(shape: tuple[int, ...], full: tuple[int, ...]) -> tuple[int, ...]:
    """The constant's shape with as many last axes written out as its runs need."""
    aligned = [1] * (len(full) - len(shape)) + list(shape)
    same = [a == b for a, b in zip(aligned, full, strict=True)]
    run = 1
    for size, equal in zip(reversed(full), reversed(same), strict=True):
        if not equal:
            break
        run *= size
    if run in (1, int(np.prod(full))) or run >= SHORT_RUN:  # scalars and equal shapes are fast
        return shape
    first = next(i for i, size in enumerate(aligned) if size != 1)
    wide, run = list(aligned), 1
    for axis in range(len(full) - 1, -1, -1):
        if axis < first and run >= SHORT_RUN:
            break
        wide[axis] = full[axis]
        run *= full[axis]
    return tuple(wide)


def _plain_convolutions(model: ModelProto) -> None:
    """A ConvTranspose 2x2 of stride 2 is a 1x1 convolution to four times the channels, shuffled.

    Shuffled with the channels last, as ONNX Runtime's integers lie: whole pixels are moved.
    """
    values, known = constants(model), shapes(model)
    outputs = {tensor.name for tensor in model.graph.output}
    for node in list(model.graph.node):
        weight = values.get(node.input[1]) if node.op_type == "ConvTranspose" else None
        shape = {a.name: helper.get_attribute_value(a) for a in node.attribute}
        if weight is None or weight.shape[2:] != (2, 2) or shape.get("strides") != [2, 2]:
            continue
        others = {k: v for k, v in shape.items() if k not in ("strides", "kernel_shape")}
        if any(v != PLAIN.get(k) for k, v in others.items()) or node.output[0] in outputs:
            continue
        if len(node.input) < 3 or node.input[2] not in values:
            continue
        channels, out = weight.shape[:2]
        batch, _, height, width = known[node.input[0]]
        flat = weight.transpose(2, 3, 1, 0).reshape(-1, channels, 1, 1)  # [2 x 2 x out, in, 1, 1]
        base = node.output[0]
        tensors = {
            "weight": np.ascontiguousarray(flat),
            "bias": np.tile(values[node.input[2]], 4),
            "cells": np.array([batch, height, width, 2, 2, out]),
            "pixels": np.array([batch, 2 * height, 2 * width, out]),
        }
        model.graph.initializer.extend(
            numpy_helper.from_array(array, f"{base}/{key}") for key, array in tensors.items()
        )
        steps = (
            ("Conv", ("weight", "bias"), {"kernel_shape": [1, 1]}),
            ("Transpose", (), {"perm": [0, 2, 3, 1]}),
            ("Reshape", ("cells",), {}),
            ("Transpose", (), {"perm": [0, 1, 3, 2, 4, 5]}),
            ("Reshape", ("pixels",), {}),
            ("Transpose", (), {"perm": [0, 3, 1, 2]}),
        )
        at, tensor = list(model.graph.node).index(node), node.input[0]
        model.graph.node.remove(node)
        for step, (kind, inputs, attributes) in enumerate(steps):
            last = step == len(steps) - 1
            name = node.name if step == 0 else f"{node.name}/{step}"
            made = base if last else f"{base}/{step}"
            sources = [tensor, *(f"{base}/{key}" for key in inputs)]
            step_node = helper.make_node(kind, sources, [made], name, **attributes)
            model.graph.node.insert(at + step, step_node)
            tensor = made


def _rename_inlined(model: ModelProto) -> None:
    """Give what came out of a function a name that ONNX Runtime does not give the next time."""
    tensors = [*model.graph.initializer, *model.graph.node, *model.graph.value_info]
    taken = {t.name for t in tensors} | {name for node in model.graph.node for name in node.output}
    names = {}
    for name in sorted(name for name in taken if name.startswith("_inlfunc_")):
        names[name] = name.removeprefix("_inlfunc_")
        while names[name] in taken:
            names[name] += "_"
        taken.add(names[name])
    for thing in tensors:
        thing.name = names.get(thing.name, thing.name)
    for node in model.graph.node:
        node.input[:] = [names.get(name, name) for name in node.input]
        node.output[:] = [names.get(name, name) for name in node.output]


def _name_nodes(model: ModelProto) -> None:
    seen: Counter[str] = Counter()
    for node in model.graph.node:
        node.name = node.name or f"{node.op_type}/{node.output[0]}"
        seen[node.name] += 1
        if seen[node.name] > 1:
            node.name = f"{node.name}/{seen[node.name]}"


def _share_constants(model: ModelProto) -> None:
    """Let equal constants be one: every deformable attention has the same grid of points."""
    first: dict[bytes, str] = {}
    shared = {}
    for tensor in model.graph.initializer:
        nameless = onnx.TensorProto()
        nameless.CopyFrom(tensor)
        nameless.name = ""
        shared[tensor.name] = first.setdefault(nameless.SerializeToString(), tensor.name)
    for node in model.graph.node:
        for at, name in enumerate(node.input):
            node.input[at] = shared.get(name, name)
