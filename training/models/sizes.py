"""The named sizes of networks, as plain values."""

from dataclasses import asdict, dataclass
from typing import Literal

from training.models.vit import EPS, Position


@dataclass(frozen=True)
class ModelSize:
    """Everything that decides the network's shape; written into checkpoints and bundles.

    `groups` are the trunk's blocks of each interaction, (first, last), last included. `fade_steps`
    puts FADE into the decoder's x2 steps, too; the last one, on the logits, is FADE unless
    `last_step` says otherwise. `detail` shows the decoder's features to the stem's map before it.
    `fine` is how much larger the picture comes than strides count: the stem's first convolution
    reads 3 * fine pixels every 2 * fine. `subpixel` squared is how many logits the last FADE's
    guide gives for each of its pixels. `window` is the side of the squares of tokens among which
    the trunk's blocks attend, but for the `global_blocks`, which see all; 0 is none, and what a
    trunk with relative or rotary positions or prefix tokens has.
    `position`, `prefix`, `layer_scale` and `eps` follow the weights that a trunk starts from:
    see `training.models.pretrained.fit_size`. A segformer takes width, depth, heads and
    decoder_width from here and leaves the rest: see `training.models.segformer`.
    """

    name: str
    width: int
    depth: int
    heads: int
    groups: tuple[tuple[int, int], ...]
    stem: int
    adapter_heads: int
    decoder_width: int
    value_ratio: float = 1.0
    ffn_ratio: float = 0.25
    points: int = 4
    extra_extractors: int = 2
    mlp_ratio: float = 4.0
    drop_path: float = 0.0
    fade_steps: bool = True
    lite: bool = False
    compressed: int = 64
    detail: bool = False
    fine: int = 1
    subpixel: int = 1
    window: int = 0
    global_blocks: tuple[int, ...] = ()
    grid: tuple[int, int] = (32, 32)
    last_step: Literal["fade", "bilinear"] = "fade"
    layer_scale: float | None = None
    injector_init: float = 0.0
    position: Position = "absolute"
    prefix: int = 0
    eps: float = EPS
    architecture: Literal["adapter", "segformer"] = "adapter"


def quarters(depth: int) -> tuple[tuple[int, int], ...]:
    """Four interactions of `depth / 4` blocks each."""
    n = depth // 4
    return tuple((i * n, (i + 1) * n - 1) for i in range(4))


NANO = ModelSize(
    name="nano",
    width=64,
    depth=8,
    heads=2,
    groups=quarters(8),
    stem=48,
    adapter_heads=4,
    decoder_width=48,
    value_ratio=0.5,
    extra_extractors=0,
    drop_path=0.05,
    fade_steps=False,
    lite=True,
    detail=True,
    fine=2,
    subpixel=2,
    window=11,
    global_blocks=(3, 7),
    grid=(30, 40),
)
TINY = ModelSize(
    name="tiny",
    width=128,
    depth=8,
    heads=4,
    groups=quarters(8),
    stem=48,
    adapter_heads=4,
    decoder_width=64,
    value_ratio=0.5,
    extra_extractors=0,
    drop_path=0.1,
    fade_steps=False,
    lite=True,
    detail=True,
    fine=2,
    subpixel=2,
    window=10,
    global_blocks=(3, 7),
    grid=(30, 40),
)
SMALL = ModelSize(
    name="small",
    width=384,
    depth=12,
    heads=6,
    groups=quarters(12),
    stem=64,
    adapter_heads=6,
    decoder_width=128,
    drop_path=0.2,
    detail=True,
)
BASE = ModelSize(
    name="base",
    width=768,
    depth=12,
    heads=12,
    groups=quarters(12),
    stem=64,
    adapter_heads=12,
    decoder_width=256,
    value_ratio=0.5,
    drop_path=0.3,
    detail=True,
)
LARGE = ModelSize(
    name="large",
    width=1024,
    depth=24,
    heads=16,
    groups=quarters(24),
    stem=64,
    adapter_heads=16,
    decoder_width=256,
    value_ratio=0.5,
    drop_path=0.3,
    detail=True,
    layer_scale=1e-6,
    injector_init=1e-6,
)
SIZES = {size.name: size for size in (NANO, TINY, SMALL, BASE, LARGE)}
SEGFORMER_B0 = ModelSize(
    name="segformer-b0",
    architecture="segformer",
    width=32,
    depth=2,
    heads=1,
    groups=(),
    stem=0,
    adapter_heads=0,
    decoder_width=256,
    drop_path=0.1,
)
COMPARISONS = {SEGFORMER_B0.name: SEGFORMER_B0}  # can be trained, not exported


def describe(size: ModelSize) -> dict[str, object]:
    """The size as plain values, for YAML and JSON."""
    return asdict(size)
