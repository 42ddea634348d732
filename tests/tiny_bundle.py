"""A bundle whose network is a colour index: green pixels are crop, red ones weed, the rest soil.

It has the tensors of a real bundle and runs in a real engine, in a millisecond.
"""

from pathlib import Path

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from cropseg_edge.bundle import (
    Bundle,
    DatasetRecord,
    InputSpec,
    Manifest,
    TrainingRecord,
    UpsamplerSpec,
    UpsamplerTensors,
    encode_probabilities,
    write_bundle,
)

WIDTH, HEIGHT = 64, 48
MEAN, STD = (100.0, 110.0, 120.0), (50.0, 55.0, 60.0)


def tiny_graph(width: int = WIDTH, height: int = HEIGHT, side: int = 1) -> bytes:
    """ONNX with input `image` and the five outputs of the gated FADE stage, as bytes; `side` is
    that of the guide's sub-pixels, 1 or 2."""
    mean, std = np.array(MEAN, np.float32), np.array(STD, np.float32)
    # rows: background, crop, weed; columns: R, G, B of the picture in 0..255 units
    scores = np.array([[0, 0, 0], [-0.2, 0.2, 0], [0.2, -0.2, 0]], np.float32)
    bias = np.array([6, 0, 0], np.float32)
    weight = (scores * std)[:, :, None, None]
    offset = bias + scores @ mean
    rng = np.random.default_rng(1)
    tensors = {
        "weight": weight,
        "offset": offset,
        "wk": rng.normal(0, 0.05, (25, 3, 3, 3)).astype(np.float32),
        "bk": np.where(np.arange(25) == 12, 6, 0).astype(np.float32),  # mostly the centre tap
        "wg": np.zeros((1, 3, 1, 1), np.float32),
        "bg": np.zeros(1, np.float32),
    }
    node = helper.make_node
    nodes = [
        node("AveragePool", ["image"], ["half"], kernel_shape=[2, 2], strides=[2, 2]),
        node("AveragePool", ["half"], ["quarter"], kernel_shape=[2, 2], strides=[2, 2]),
        node("Conv", ["quarter", "weight", "offset"], ["logits"]),
        node("Conv", ["half", "wk", "bk"], ["kernels_high"], pads=[1, 1, 1, 1]),
        node("Conv", ["quarter", "wk"], ["kernels_low"], pads=[1, 1, 1, 1]),
        node("Conv", ["quarter", "wg", "bg"], ["gate"]),
    ]
    h, w = height // 4, width // 4
    if side == 1:
        nodes.append(node("Conv", ["half", "weight", "offset"], ["guide"]))
    else:  # every sub-pixel a pixel of the picture
        tensors["split"] = np.array([3, 2 * h, 2, 2 * w, 2])
        tensors["joined"] = np.array([1, 12, 2 * h, 2 * w])
        nodes += [
            node("Conv", ["image", "weight", "offset"], ["fine"]),
            node("Reshape", ["fine", "split"], ["cells"]),
            node("Transpose", ["cells"], ["moved"], perm=[0, 2, 4, 1, 3]),
            node("Reshape", ["moved", "joined"], ["guide"]),
        ]
    shapes = {
        "logits": [1, 3, h, w],
        "kernels_high": [1, 25, 2 * h, 2 * w],
        "kernels_low": [1, 25, h, w],
        "guide": [1, 3 * side**2, 2 * h, 2 * w],
        "gate": [1, 1, h, w],
    }
    graph = helper.make_graph(
        nodes,
        "tiny",
        [helper.make_tensor_value_info("image", TensorProto.FLOAT, [1, 3, height, width])],
        [helper.make_tensor_value_info(n, TensorProto.FLOAT, s) for n, s in shapes.items()],
        [numpy_helper.from_array(array, name) for name, array in tensors.items()],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    onnx.checker.check_model(model)
    return model.SerializeToString()


def tiny_manifest(golden: bool = False, width: int = WIDTH, height: int = HEIGHT) -> Manifest:
    """The manifest of the tiny bundle, without hashes."""
    names = {"image": "golden/0.png", "probabilities": "golden/0.probabilities.png"}
    frames = [names] if golden else []
    return Manifest(
        name="tiny",
        version="0.0.1",
        size="tiny",
        licence="Apache-2.0",
        classes=("background", "crop", "weed"),
        input=InputSpec(
            tensor="image", width=width, height=height, mean=MEAN, std=STD, color_order="rgb"
        ),
        graphs={"onnxruntime": "model.onnx"},
        upsampler=UpsamplerSpec(
            gated=True,
            lite=False,
            tensors=UpsamplerTensors(
                logits="logits",
                kernels_high="kernels_high",
                kernels_low="kernels_low",
                guide="guide",
                gate="gate",
            ),
        ),
        training=TrainingRecord(
            datasets=(DatasetRecord(name="none", licence="CC0-1.0", split="train", images=0),),
            steps=0,
            images_seen=0,
            code_version="0",
            note="a colour index, for tests",
        ),
        metrics={"none": {"vegetation.miou": 50.0}},
        golden=frames,
    )


def write_tiny_bundle(
    path: Path, width: int = WIDTH, height: int = HEIGHT, side: int = 1
) -> Bundle:
    """Write the tiny bundle, with one golden frame whose probabilities it computes itself."""
    import cv2

    from cropseg_edge.segmenter import Segmenter

    graph = {"model.onnx": tiny_graph(width, height, side)}
    draft = write_bundle(path, tiny_manifest(width=width, height=height), graph)
    image = np.full((height, width, 3), (70, 90, 110), np.uint8)
    image[10:30, 10:20] = (40, 180, 60)
    image[20:40, 35:50] = (40, 60, 190)
    with Segmenter(draft, threads=1) as segmenter:
        probabilities = segmenter.probabilities(image)
    members = {
        **graph,
        "golden/0.png": cv2.imencode(".png", image)[1].tobytes(),
        "golden/0.probabilities.png": encode_probabilities(probabilities),
    }
    return write_bundle(path, tiny_manifest(True, width, height), members)
