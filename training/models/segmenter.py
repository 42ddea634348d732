"""The whole network: ViT-Adapter, a top-down decoder and FADE on the class logits."""

from torch import Tensor, nn

from cropseg_edge.errors import ConfigError
from training.models.adapter import ViTAdapter, conv_norm_relu
from training.models.fade import BilinearUpsampler, FadeInputs, FadeUpsampler, bilinear_like, fade


class FpnDecoder(nn.Module):
    """Top-down pyramid: laterals of one width, x2 steps by FADE or bilinear, a 3x3 at the end."""

    def __init__(
        self, channels: int, width: int, *, fade_steps: bool, lite: bool, compressed: int = 64
    ) -> None:
        super().__init__()
        self.laterals = nn.ModuleList(nn.Conv2d(channels, width, 1) for _ in range(4))
        self.steps = nn.ModuleList(
            FadeUpsampler(width, width, compressed, gated=True, lite=lite)
            for _ in range(3 if fade_steps else 0)
        )
        self.fuse = conv_norm_relu(width, width)

    def forward(self, features: list[Tensor]) -> Tensor:
        """[B, width, H/4, W/4] from four maps at strides 4, 8, 16 and 32."""
        maps = [lateral(f) for lateral, f in zip(self.laterals, features, strict=True)]
        top = maps[3]
        for level in (2, 1, 0):
            if len(self.steps):
                top = self.steps[level](maps[level], top)
            else:
                top = maps[level] + bilinear_like(top, maps[level].shape[-2:])
        return self.fuse(top)


class DetailBlock(nn.Module):
    """The stem's map, told by the decoder what it shows: stem + BN(conv3x3(ReLU(stem + up(D)))).

    A few convolutions at stride 2 know colour but not meaning; FADE's kernels and guide, which draw
    thin leaves, need both. The block starts as the identity.
    """

    def __init__(self, stem: int, decoder_width: int) -> None:
        super().__init__()
        self.project = nn.Conv2d(decoder_width, stem, 1, bias=False)
        self.conv = nn.Conv2d(stem, stem, 3, padding=1, bias=False)
        self.norm = nn.BatchNorm2d(stem)
        nn.init.zeros_(self.norm.weight)

    def forward(self, stem: Tensor, decoded: Tensor) -> Tensor:
        """[B, stem, H/2, W/2] from the stem's map and the decoder's [B, width, H/4, W/4]."""
        context = bilinear_like(self.project(decoded), stem.shape[-2:])
        return stem + self.norm(self.conv((stem + context).relu()))


class CropSegmenter(nn.Module):
    """Image in, class logits out, at stride 2 or, with sub-pixels in FADE's guide, finer.

    `predict` ends at FADE's inputs, which is where the engine on the robot ends; `forward` goes
    on through FADE. Both take float [B, 3, H, W], RGB, normalised; H and W divisible by
    `multiple`. Strides count from the picture's size divided by `fine`. With a
    `BilinearUpsampler`, the comparison, there is no `predict`.
    """

    def __init__(
        self,
        backbone: ViTAdapter,
        decoder: FpnDecoder,
        upsampler: FadeUpsampler | BilinearUpsampler,
        decoder_width: int,
        detail: DetailBlock | None = None,
        classes: int = 3,
        dropout: float = 0.1,
    ) -> None:
        super().__init__()
        self.backbone = backbone
        self.fine = backbone.fine
        self.multiple = 32 * self.fine
        self.decoder = decoder
        self.detail = detail
        self.upsampler = upsampler
        self.dropout = nn.Dropout2d(dropout)
        self.classifier = nn.Conv2d(decoder_width, classes, 1)

    def features(self, image: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """The stem's map at stride 2; at stride 4 the decoder's map and the class logits."""
        stem, features = self.backbone(image)
        decoded = self.dropout(self.decoder(features))
        if self.detail is not None:
            stem = self.detail(stem, decoded)
        return stem, decoded, self.classifier(decoded)

    def predict(self, image: Tensor) -> FadeInputs:
        """FADE's inputs: logits at stride 4, kernels at strides 2 and 4, guide and gate."""
        if not isinstance(self.upsampler, FadeUpsampler):
            raise ConfigError(
                "this network ends in a bilinear step, which is for comparison only: the robot's "
                "runtime expects FADE's inputs; train with last_step: fade"
            )
        return self.upsampler.predict(*self.features(image))

    def forward(self, image: Tensor) -> Tensor:
        """Class logits [B, classes, s*H/2, s*W/2], H and W without `fine`, s FADE's `subpixel`."""
        if isinstance(self.upsampler, FadeUpsampler):
            return fade(self.predict(image))
        stem, _, logits = self.features(image)
        return self.upsampler(stem, logits)
