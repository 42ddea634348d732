"""The named sizes, one code path. `build("nano")` gives a network with fresh weights."""

from dataclasses import asdict, dataclass

from training.models.adapter import ViTAdapter
from training.models.fade import FadeUpsampler
from training.models.segmenter import CropSegmenter, DetailBlock, FpnDecoder
from training.models.vit import VisionTransformer


@dataclass(frozen=True)
class ModelSize:
    """Everything that decides the network's shape; written into checkpoints and bundles.

    `groups` are the trunk's blocks of each interaction, (first, last), last included. `fade_steps`
    puts FADE into the decoder's x2 steps, too; the last one, on the logits, is always FADE.
    `detail` shows the decoder's features to the stem's map before that last FADE.
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
    grid: tuple[int, int] = (32, 32)


SIZES = {
    size.name: size
    for size in (
        ModelSize(
            name="nano",
            width=64,
            depth=8,
            heads=2,
            groups=((0, 1), (2, 3), (4, 5), (6, 7)),
            stem=32,
            adapter_heads=4,
            decoder_width=48,
            value_ratio=0.5,
            extra_extractors=0,
            drop_path=0.05,
            fade_steps=False,
            lite=True,
            detail=True,
            grid=(30, 40),
        ),
        ModelSize(
            name="large",
            width=1024,
            depth=24,
            heads=16,
            groups=((0, 5), (6, 11), (12, 17), (18, 23)),
            stem=64,
            adapter_heads=16,
            decoder_width=256,
            value_ratio=0.5,
            drop_path=0.3,
        ),
    )
}


def build(size: str | ModelSize) -> CropSegmenter:
    """A network of the named or given size.

    Raises:
        KeyError: the name is not in `SIZES`.
    """
    s = SIZES[size] if isinstance(size, str) else size
    vit = VisionTransformer(
        s.width, s.depth, s.heads, mlp_ratio=s.mlp_ratio, grid=s.grid, drop_path=s.drop_path
    )
    backbone = ViTAdapter(
        vit,
        s.width,
        stem=s.stem,
        groups=s.groups,
        heads=s.adapter_heads,
        points=s.points,
        value_ratio=s.value_ratio,
        ffn_ratio=s.ffn_ratio,
        extra_extractors=s.extra_extractors,
        drop_path=s.drop_path,
    )
    decoder = FpnDecoder(s.width, s.decoder_width, fade_steps=s.fade_steps, lite=s.lite)
    upsampler = FadeUpsampler(s.stem, s.decoder_width, s.compressed, lite=s.lite, output_channels=3)
    detail = DetailBlock(s.stem, s.decoder_width) if s.detail else None
    return CropSegmenter(backbone, decoder, upsampler, s.decoder_width, detail)


def describe(size: ModelSize) -> dict[str, object]:
    """The size as plain values, for YAML and JSON."""
    return asdict(size)
