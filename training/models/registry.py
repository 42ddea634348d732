"""A network of a named size, one code path: `build("nano")` gives one with fresh weights."""

from training.models.adapter import ViTAdapter
from training.models.fade import BilinearUpsampler, FadeUpsampler
from training.models.segformer import SegFormer
from training.models.segmenter import CropSegmenter, DetailBlock, FpnDecoder
from training.models.sizes import COMPARISONS, SIZES, ModelSize
from training.models.vit import VisionTransformer


def build(size: str | ModelSize) -> CropSegmenter | SegFormer:
    """A network of the named or given size.

    Raises:
        KeyError: the name is not in `SIZES`, nor in `COMPARISONS`.
        ConfigError: it is a SegFormer, and `transformers` is not installed.
    """
    s = (SIZES | COMPARISONS)[size] if isinstance(size, str) else size
    if s.architecture == "segformer":
        return SegFormer(s)
    vit = VisionTransformer(
        s.width,
        s.depth,
        s.heads,
        mlp_ratio=s.mlp_ratio,
        grid=s.grid,
        drop_path=s.drop_path,
        layer_scale=s.layer_scale,
        position=s.position,
        prefix=s.prefix,
        eps=s.eps,
        window=s.window,
        global_blocks=s.global_blocks,
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
        injector_init=s.injector_init,
        drop_path=s.drop_path,
        fine=s.fine,
    )
    decoder = FpnDecoder(
        s.width, s.decoder_width, fade_steps=s.fade_steps, lite=s.lite, compressed=s.compressed
    )
    upsampler: FadeUpsampler | BilinearUpsampler
    if s.last_step == "fade":
        upsampler = FadeUpsampler(
            s.stem,
            s.decoder_width,
            s.compressed,
            lite=s.lite,
            output_channels=3,
            subpixel=s.subpixel,
        )
    else:
        upsampler = BilinearUpsampler(s.stem, 3)
    detail = DetailBlock(s.stem, s.decoder_width) if s.detail else None
    return CropSegmenter(backbone, decoder, upsampler, s.decoder_width, detail)
