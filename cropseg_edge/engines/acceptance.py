"""An engine is tried on a bundle's golden frames: are its masks right, and how fast is it?"""

import statistics
import time
from typing import NamedTuple

from cropseg_edge.bundle import Bundle
from cropseg_edge.bundle.verify import MIN_IOU, Parity, check_golden, mean_iou
from cropseg_edge.engines.protocol import FramePath, Watch
from cropseg_edge.errors import ParityError
from cropseg_edge.fade import decode
from cropseg_edge.letterbox import Letterbox

RUNS = 20
MOST_MS = 2000.0  # for the time alone, on a slow computer


class Trial(NamedTuple):
    """What a trial found.

    Attributes:
        parities: of the probabilities, one a golden frame.
        iou: lowest mask IoU, of probabilities and of the labels of whole frames.
        latency_ms: median time of a whole frame, from the picture to labels and confidence.
    """

    parities: list[Parity]
    iou: float
    latency_ms: float


def try_out(bundle: Bundle, path: FramePath, runs: int = RUNS) -> Trial:
    """Run the golden frames through a path, stage by stage and whole, then take the time.

    Beyond what `check_golden` asks of the probabilities, the labels of the whole frame must overlap
    those of the reference: IoU at least 0.99, at INT8 0.97.

    Raises:
        ParityError: a mask or a probability is further off than allowed, or not finite.
        EngineError: the engine failed.
    """
    precision = path.engine.precision
    parities = check_golden(bundle, path)
    ious = [parity.iou for parity in parities]
    letterbox, golden = Letterbox(bundle.manifest.input), bundle.golden()
    for number, (image, reference) in enumerate(golden):
        height, width = image.shape[:2]
        segmented = path.segment(image, Watch())
        affine = letterbox.affine(height, width, *reference.shape[1:])
        iou = mean_iou(segmented.labels, decode(reference, affine, height, width).labels)
        if segmented.fault or iou < MIN_IOU[precision]:
            raise ParityError(
                f"{bundle.path.name}: the {precision} labels of golden frame {number} are wrong: "
                f"{segmented.fault or f'IoU {iou:.3f}, allowed is {MIN_IOU[precision]:g}'}"
            )
        ious.append(iou)
    times: list[float] = []
    while len(times) < runs and sum(times) < MOST_MS:
        image = golden[len(times) % len(golden)][0]
        started = time.perf_counter()
        path.segment(image, Watch())
        times.append(1e3 * (time.perf_counter() - started))
    return Trial(parities, min(ious), statistics.median(times))
