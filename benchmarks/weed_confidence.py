"""What `--weed-confidence` costs and saves: weed that is still called weed, crop that is.

    python benchmarks/weed_confidence.py ROOT [--split dev] [--bundle B]

ROOT is a data root as for `cropseg eval`; its sets that label weeds are taken. Beside them stand 24
simulated fields in the sun (maize, beet and soybean, four seeds each, oblique and from above).
Shares of the class's pixels, pooled.
"""

import argparse
import sys
from collections import defaultdict
from collections.abc import Iterator
from itertools import product
from pathlib import Path

import numpy as np

from cropseg_edge.errors import CropSegError
from cropseg_edge.frames import Frame, open_source
from cropseg_edge.labelled import read_pair, read_root
from cropseg_edge.mask import CLASSES, CROP, WEED
from cropseg_edge.segmenter import Segmenter

LEAST = (0.0, 0.5, 0.6, 0.7, 0.8, 0.9, 0.95)
SEEDS = range(20, 24)


def simulated() -> Iterator[tuple[str, Frame]]:
    """Frames with truth, by the name of their group."""
    for camera, species, seed in product(("oblique", "nadir"), ("maize", "beet", "soybean"), SEEDS):
        spec = f"simulator:species={species},condition=sun,camera={camera},seed={seed},frames=1"
        yield from ((f"simulated, {camera}", frame) for frame in open_source(spec))


def photographs(root: Path, split: str) -> Iterator[tuple[str, Frame]]:
    """The same of a data root; pixels whose label leaves the class open are unknown."""
    for name, pairs in read_root(root, split).items():
        if not any(set(classes) == {WEED} for classes in pairs[0].meaning.values()):
            continue
        for pair in pairs:
            image, mask = read_pair(pair)
            truth = np.full_like(mask, 255)
            for value, classes in pair.meaning.items():
                if len(classes) == 1:
                    truth[mask == value] = next(iter(classes))
            yield name, Frame(image, 0, "", 0, pair.image.stem, truth=truth)


def main() -> None:
    """Measure and print a table in Markdown."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("root", type=Path)
    parser.add_argument("--split", default="dev")
    parser.add_argument("--bundle", type=Path, help="default: the shipped one")
    arguments = parser.parse_args()
    try:
        measure(arguments)
    except CropSegError as error:
        sys.exit(f"error: {error}")


def measure(arguments: argparse.Namespace) -> None:
    """Segment all and print."""
    totals: dict[str, np.ndarray] = defaultdict(lambda: np.zeros(len(CLASSES)))
    weeds: dict[str, np.ndarray] = defaultdict(lambda: np.zeros((len(LEAST), len(CLASSES))))
    with Segmenter(arguments.bundle) as segmenter:
        for frames in (photographs(arguments.root, arguments.split), simulated()):
            for name, frame in frames:
                mask = segmenter.segment(frame)
                assert frame.truth is not None
                for label in range(len(CLASSES)):
                    inside = frame.truth == label
                    sure = mask.confidence[inside & (mask.labels == WEED)]
                    totals[name][label] += inside.sum()
                    weeds[name][:, label] += [(sure >= 255 * least).sum() for least in LEAST]
    if all(name.startswith("simulated") for name in totals):
        print(f"no set of {arguments.root} labels weeds", file=sys.stderr)
    print("| weed called weed, crop called weed, % |" + "".join(f" {x:g} |" for x in LEAST))
    print("|---" * (len(LEAST) + 1) + "|")
    for name, total in totals.items():
        shares = 100 * weeds[name] / total
        cells = (f" {row[WEED]:.0f}, {row[CROP]:.2f} |" for row in shares)
        print(f"| {name} |" + "".join(cells))


if __name__ == "__main__":
    main()
