"""What is evaluated: a bundle, a checkpoint or a baseline, as pictures in and masks out."""

import json
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from pathlib import Path

from cropseg_edge.errors import ConfigError
from cropseg_edge.evaluation import Segment
from cropseg_edge.labelled import Labels
from training.evaluation import colour_indices
from training.evaluation.keys import digest

SPECS = "exg, hsv, segformer=FOLDER, sam=FOLDER or checkpoint=FILE"


@dataclass(frozen=True)
class Method:
    """Something that segments pictures.

    Attributes:
        name: how tables call it.
        key: changes whenever its masks may; names the file that keeps its counts.
        segment: BGR uint8 [H, W, 3] to labels uint8 [H, W] (0, 1, 2, 255).
        note: what a reader must know of it.
        parameters: of its network; 0 for none.
        trained_on: names of the sets that it was trained on; None where that is not known.
    """

    name: str
    key: str
    segment: Segment
    note: str = ""
    parameters: int = 0
    trained_on: frozenset[str] | None = None


def open_model(path: Path, name: str = "", *, device: str = "cpu", threads: int | None) -> Method:
    """A bundle (as on the robot, in ONNX Runtime) or a checkpoint (in PyTorch).

    Raises:
        BundleError, ConfigError: the file is neither, or damaged.
    """
    if path.suffix == ".cropseg":
        return _bundle(path, name or path.stem, threads)
    return _checkpoint(path, name or f"{path.parent.name}/{path.name}", device)


def open_baseline(
    spec: str, *, device: str, threads: int | None, segformer_labels: Mapping[str, str]
) -> list[Method]:
    """The methods that a `--baseline` stands for: exg, hsv, or KIND=FILE, FOLDER or NAME.

    Raises:
        ConfigError: the specification or what it points to is not understood.
    """
    kind, _, source = spec.partition("=")
    if kind in colour_indices.BASELINES and not source:
        return [_index(name) for name in colour_indices.BASELINES[kind]]
    if kind == "checkpoint" and source:
        return [open_model(Path(source), device=device, threads=threads)]
    if kind == "segformer" and source:
        from training.evaluation.segformer import segformer

        network, key, note = segformer(source, segformer_labels, device)
        return [Method(f"SegFormer {Path(source).name}", key, network, note, network.parameters)]
    if kind == "sam" and source:
        from training.evaluation.sam import RULE, SamVegetation

        sam = SamVegetation.load(source, device)
        return [Method(f"SAM {Path(source).name}", sam.key, sam, RULE, sam.parameters)]
    raise ConfigError(f"--baseline must be {SPECS}; got {spec!r}")


def distinct(methods: Collection[Method]) -> list[Method]:
    """The methods without repeats.

    Raises:
        ConfigError: two different ones have one name.
    """
    unique = {method.key: method for method in methods}
    names = [method.name for method in unique.values()]
    if twice := {name for name in names if names.count(name) > 1}:
        raise ConfigError(
            f"several methods are called {', '.join(sorted(twice))}; tables need one name each: "
            "rename the files or their folders"
        )
    return list(unique.values())


def _index(name: str) -> Method:
    version = json.dumps(
        [colour_indices.VERSION, colour_indices.EXG_THRESHOLD, colour_indices.HSV_LOW]
    )
    note = "colour index; every plant is called crop"
    return Method(name, digest("index", name, version), colour_indices.INDICES[name], note)


def _bundle(path: Path, name: str, threads: int | None) -> Method:
    from cropseg_edge.bundle import read_bundle
    from cropseg_edge.frames.frame import Frame
    from cropseg_edge.segmenter import Segmenter

    bundle = read_bundle(path)
    segmenter = Segmenter(bundle, threads=threads)

    def segment(image: Labels) -> Labels:
        return segmenter.segment(Frame(image, 0, "", 0, "picture")).labels

    spec = bundle.manifest.input
    return Method(
        name,
        digest("bundle", bundle.sha256),
        segment,
        f"bundle, size {bundle.manifest.size}, input {spec.width}x{spec.height}, as on the robot",
        _graph_parameters(bundle.graph()),
        frozenset(record.name for record in bundle.manifest.training.datasets),
    )


def _checkpoint(path: Path, name: str, device: str) -> Method:
    from training.checkpoint import config_of, load_model
    from training.evaluation.networks import NetworkSegmenter, fitting, weights_key
    from training.provenance import sets_of

    model, state = load_model(path)
    frame = fitting(config_of(state).data.frame, model.multiple)
    network = NetworkSegmenter(model, frame, device=device)
    return Method(
        name,
        digest("checkpoint", weights_key(model), json.dumps(frame)),
        network,
        f"checkpoint, size {state['size']['name']}, step {state['step']}, "
        f"input {frame[0]}x{frame[1]}",
        network.parameters,
        frozenset(sets_of(state)),
    )


def _graph_parameters(graph: bytes) -> int:
    """Numbers in the weights of an ONNX graph: normalisations folded in, without the constants of
    its shapes, which the exporter names so."""
    import math

    import onnx

    loaded = onnx.load_from_string(graph)
    return sum(
        math.prod(tensor.dims)
        for tensor in loaded.graph.initializer
        if tensor.data_type == 1 and "Constant" not in tensor.name
    )
