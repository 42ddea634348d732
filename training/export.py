"""Checkpoint in, bundle out: two ONNX graphs, golden frames, proof that they match PyTorch."""

import io
import json
import logging
import warnings
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from calibration.fuse import fuse
from calibration.simplify import simplify
from cropseg_edge import __version__
from cropseg_edge.bundle import (
    Bundle,
    DatasetRecord,
    GoldenFrame,
    InputSpec,
    Manifest,
    TrainingRecord,
    UpsamplerSpec,
    UpsamplerTensors,
    encode_png,
    encode_probabilities,
    write_bundle,
)
from cropseg_edge.errors import ConfigError, ParityError
from cropseg_edge.fade import fade_probabilities
from cropseg_edge.letterbox import Letterbox
from cropseg_edge.mask import CLASSES
from cropseg_edge.simulator import FieldSimulator
from training.checkpoint import config_of, images_seen, load_model
from training.data.batches import MEAN, STD
from training.evaluation.networks import fitting
from training.models.deformable_attention import DeformableAttention
from training.models.fade import FadeInputs
from training.models.segmenter import CropSegmenter
from training.provenance import sets_of

log = logging.getLogger("training")
OPSET = 18  # read by TensorRT 10.3 and newer; from 20 on Gelu would become a node of its own
TOLERANCE = 1e-4
LICENCE = "CC-BY-SA-4.0"
OUTPUTS = ("logits", "kernels_high", "kernels_low", "guide", "gate")
GOLDEN = (
    ("maize", "sun", "oblique"),
    ("cereal", "cloud", "nadir"),
    ("soybean", "night", "oblique"),
)


class EngineGraph(nn.Module):
    """What the engine computes: image in, FADE's inputs out."""

    def __init__(self, model: CropSegmenter) -> None:
        super().__init__()
        self.model = model

    def forward(self, image: Tensor) -> FadeInputs:
        return self.model.predict(image)


def export_onnx(model: CropSegmenter, width: int, height: int, *, gather: bool) -> bytes:
    """The network up to FADE's inputs as ONNX, static shapes, batch 1, constants folded.

    Args:
        gather: write deformable attention as gathers, for TensorRT; otherwise as GridSample,
            which ONNX Runtime computes faster, each as one node.
    """
    for module in model.modules():
        if isinstance(module, DeformableAttention):
            module.gather = gather
    buffer = io.BytesIO()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch.onnx.export(
            EngineGraph(model).eval(),
            (torch.zeros(1, 3, height, width),),
            buffer,
            input_names=["image"],
            output_names=list(OUTPUTS),
            opset_version=OPSET,
            dynamo=False,
        )
    graph = simplify(buffer.getvalue(), widen=not gather)
    return (graph if gather else fuse(graph)).SerializeToString()


def export_bundle(
    checkpoint: Path,
    out: Path,
    *,
    width: int | None = None,
    height: int | None = None,
    version: str = __version__,
    metrics: Path | None = None,
    note: str = "",
) -> Bundle:
    """Write the bundle of a checkpoint.

    Args:
        width, height: of the network's input, pixels; None takes the frame that it was trained
            for, rounded up to what it takes.
        metrics: JSON of `cropseg eval --json` to put into the manifest.
        note: what else should be known of the training.

    Raises:
        ParityError: ONNX Runtime and PyTorch differ by more than 1e-4 in a probability.
        ConfigError: unreadable checkpoint or metrics, a name that does not end in .cropseg or in a
            folder that is not there, or a size that the network cannot take.
    """
    if out.suffix != ".cropseg":
        raise ConfigError(f"a bundle's name ends in .cropseg, got {out}")
    if not out.parent.is_dir():
        raise ConfigError(f"{out} cannot be written: there is no folder {out.parent}")
    figures = read_metrics(metrics) if metrics else {}
    model, state = load_model(checkpoint)
    step, fine = model.multiple, model.fine
    for name, value in (("--width", width), ("--height", height)):
        if value is not None and (value < step or value % step):
            raise ConfigError(f"{name} must be one of the multiples of {step}, got {value}")
    frame = fitting(config_of(state).data.frame, step)
    width, height = width or frame[0], height or frame[1]
    frames = [golden_frame(*what, width // fine, height // fine) for what in GOLDEN]
    expected = [reference_probabilities(model, frame) for frame in frames]
    members: dict[str, bytes] = {}
    graphs = {"onnxruntime": "model.onnx", "tensorrt": "model.tensorrt.onnx"}
    for engine, name in graphs.items():
        members[name] = export_onnx(model, width, height, gather=engine == "tensorrt")
        worst = max(
            float(np.abs(onnx_probabilities(session, frame, fine) - reference).max())
            for session in [open_session(members[name])]
            for frame, reference in zip(frames, expected, strict=True)
        )
        log.info("%s agrees with PyTorch to %.1e on the golden frames", name, worst)
        if not worst <= TOLERANCE:
            raise ParityError(
                f"{name}: probabilities differ from PyTorch's by {worst:.2e}, more than "
                f"{TOLERANCE:.0e}; nothing was written"
            )
    golden = []
    for i, (frame, reference) in enumerate(zip(frames, expected, strict=True)):
        record = GoldenFrame(image=f"golden/{i}.png", probabilities=f"golden/{i}.probabilities.png")
        members[record.image] = encode_png(frame)
        members[record.probabilities] = encode_probabilities(reference)
        golden.append(record)
    steps = state["step"] + state.get("steps_before", 0)
    manifest = Manifest(
        name=f"cropseg-{state['size']['name']}",
        version=version,
        size=state["size"]["name"],
        licence=LICENCE,
        classes=CLASSES,
        input=InputSpec(
            tensor="image", width=width, height=height, mean=MEAN, std=STD, color_order="rgb"
        ),
        graphs=graphs,
        upsampler=UpsamplerSpec(
            gated=True,
            lite=state["size"]["lite"],
            tensors=UpsamplerTensors(**{name: name for name in OUTPUTS}),
        ),
        training=TrainingRecord(
            datasets=tuple(
                DatasetRecord(name=name, **record) for name, record in sets_of(state).items()
            ),
            steps=steps,
            images_seen=images_seen(state),
            code_version=__version__,
            note=note,
        ),
        metrics=figures,
        golden=tuple(golden),
    )
    bundle = write_bundle(out, manifest, members)
    log.info("%s: %.1f MB, sha256 %s", out, out.stat().st_size / 1e6, bundle.sha256)
    return bundle


def golden_frame(
    species: str, condition: str, camera: str, width: int, height: int
) -> NDArray[np.uint8]:
    """A simulated frame, uint8 BGR."""
    simulator = FieldSimulator(species, condition, camera, seed=1, width=width, height=height)
    return simulator.render(0).image


def network_input(frame: NDArray[np.uint8], fine: int) -> NDArray[np.float32]:
    """The input float32 [1, 3, fine * H, fine * W] of a frame uint8 [H, W, 3] BGR."""
    height, width = (fine * side for side in frame.shape[:2])
    spec = InputSpec(
        tensor="image", width=width, height=height, mean=MEAN, std=STD, color_order="rgb"
    )
    return Letterbox(spec).fill(frame)


@torch.no_grad()
def reference_probabilities(model: CropSegmenter, frame: NDArray[np.uint8]) -> NDArray[np.float32]:
    """PyTorch's class probabilities after FADE, float32 [3, h, w], for uint8 [H, W, 3] BGR."""
    image = torch.from_numpy(network_input(frame, model.fine))
    return model(image)[0].softmax(0).numpy()


def open_session(graph: bytes):
    """An ONNX Runtime session on the CPU."""
    import onnxruntime

    return onnxruntime.InferenceSession(graph, providers=["CPUExecutionProvider"])


def onnx_probabilities(session, frame: NDArray[np.uint8], fine: int) -> NDArray[np.float32]:
    """The same through ONNX Runtime and the FADE stage that runs on the robot."""
    outputs = session.run(list(OUTPUTS), {"image": network_input(frame, fine)})
    return fade_probabilities(*outputs)


def read_metrics(path: Path) -> dict[str, dict[str, float]]:
    """Data set to figure to percent, from an evaluation's JSON."""
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
        figures = content.get("datasets", content)
        return {
            name: {key: float(value) for key, value in values.items()}
            for name, values in figures.items()
        }
    except (OSError, ValueError, TypeError, AttributeError) as error:
        raise ConfigError(
            f"the metrics {path} must be JSON of `cropseg eval ROOT --split ...`: {error}"
        ) from error
