"""ViT-Adapter: a convolutional pyramid that talks with a plain ViT by deformable attention.

Chen et al.: "Vision Transformer Adapter for Dense Predictions", ICLR 2023 (arXiv 2205.08534).
"""

import torch
from torch import Tensor, nn

from training.models.deformable_attention import DeformableAttention, Shapes, reference_points
from training.models.fade import bilinear_like
from training.models.vit import EPS, DropPath, VisionTransformer


def conv_norm_relu(
    cin: int, cout: int, kernel: int = 3, stride: int = 1, padding: int = 1
) -> nn.Sequential:
    """Convolution without bias, batch norm, ReLU."""
    conv = nn.Conv2d(cin, cout, kernel, stride, padding, bias=False)
    nn.init.kaiming_normal_(conv.weight, mode="fan_out", nonlinearity="relu")
    return nn.Sequential(conv, nn.BatchNorm2d(cout), nn.ReLU(inplace=True))


class SpatialPrior(nn.Module):
    """Stem and pyramid: local detail at strides 2, 4, 8, 16 and 32 (section 3.2).

    With `fine`, the picture comes at that multiple of the size that strides count from.
    """

    def __init__(self, stem: int, width: int, fine: int = 1) -> None:
        super().__init__()
        self.stem = nn.Sequential(
            conv_norm_relu(3, stem, 3 * fine, 2 * fine, fine),
            conv_norm_relu(stem, stem),
            conv_norm_relu(stem, stem),
        )
        self.pool = nn.MaxPool2d(3, 2, 1)
        self.down = nn.ModuleList(
            [
                conv_norm_relu(stem, 2 * stem, stride=2),
                conv_norm_relu(2 * stem, 4 * stem, stride=2),
                conv_norm_relu(4 * stem, 4 * stem, stride=2),
            ]
        )
        self.project = nn.ModuleList(
            nn.Conv2d(c, width, 1) for c in (stem, 2 * stem, 4 * stem, 4 * stem)
        )

    def forward(self, image: Tensor) -> tuple[Tensor, list[Tensor]]:
        """Stem map [B, stem, H/2, W/2] and four maps [B, d, ...] at strides 4, 8, 16, 32."""
        stem = self.stem(image)
        maps = [self.pool(stem)]
        for down in self.down:
            maps.append(down(maps[-1]))
        return stem, [project(x) for project, x in zip(self.project, maps, strict=True)]


class ConvFfn(nn.Module):
    """Feed-forward with a depth-wise convolution on each of the three token maps (CFFN)."""

    def __init__(self, width: int, ratio: float) -> None:
        super().__init__()
        hidden = int(width * ratio)
        self.fc1 = nn.Linear(width, hidden)
        self.conv = nn.Conv2d(hidden, hidden, 3, padding=1, groups=hidden)
        self.act = nn.GELU()
        self.fc2 = nn.Linear(hidden, width)

    def forward(self, x: Tensor, shapes: Shapes) -> Tensor:
        x = self.fc1(x)
        chunks = x.split([h * w for h, w in shapes], 1)
        maps = [
            self.conv(chunk.transpose(1, 2).unflatten(2, shape)).flatten(2).transpose(1, 2)
            for chunk, shape in zip(chunks, shapes, strict=True)
        ]
        return self.fc2(self.act(torch.cat(maps, 1)))


class Injector(nn.Module):
    """Pyramid to ViT: x + gamma * attention(x, c), gamma starting near zero."""

    def __init__(
        self, width: int, heads: int, points: int, value_ratio: float, init: float
    ) -> None:
        super().__init__()
        self.norm_query = nn.LayerNorm(width, eps=EPS)
        self.norm_value = nn.LayerNorm(width, eps=EPS)
        self.attn = DeformableAttention(width, 3, heads, points, value_ratio)
        self.gamma = nn.Parameter(torch.full((width,), init))

    def forward(self, x: Tensor, c: Tensor, reference: Tensor, shapes: Shapes) -> Tensor:
        attended = self.attn(self.norm_query(x), reference, self.norm_value(c), shapes)
        return x + self.gamma * attended


class Extractor(nn.Module):
    """ViT to pyramid: deformable attention on one level, then the convolutional feed-forward."""

    def __init__(
        self,
        width: int,
        heads: int,
        points: int,
        value_ratio: float,
        ffn_ratio: float,
        drop_path: float,
    ) -> None:
        super().__init__()
        self.norm_query = nn.LayerNorm(width, eps=EPS)
        self.norm_value = nn.LayerNorm(width, eps=EPS)
        self.attn = DeformableAttention(width, 1, heads, points, value_ratio)
        self.norm_ffn = nn.LayerNorm(width, eps=EPS)
        self.ffn = ConvFfn(width, ffn_ratio)
        self.drop_path = DropPath(drop_path)

    def forward(
        self, c: Tensor, x: Tensor, reference: Tensor, size: tuple[int, int], shapes: Shapes
    ) -> Tensor:
        c = c + self.attn(self.norm_query(c), reference, self.norm_value(x), [size])
        return c + self.drop_path(self.ffn(self.norm_ffn(c), shapes))


class ViTAdapter(nn.Module):
    """The backbone: four feature maps [B, d, H/s, W/s], s = 4, 8, 16, 32, and the stem's.

    Args:
        vit: the trunk.
        stem: channels of the stem.
        groups: the trunk's blocks of each interaction, as (first, last), last included.
        heads, points, value_ratio: of the deformable attention.
        ffn_ratio: hidden width of the extractors' feed-forward relative to d.
        extra_extractors: how many more extractors follow the last interaction.
        fine: the picture comes at this multiple of the size that strides count from; the stem
            reads all of it, the trunk its averages over squares of that side.
        injector_init: initial gamma of the injectors.
    """

    def __init__(
        self,
        vit: VisionTransformer,
        width: int,
        *,
        stem: int = 64,
        groups: tuple[tuple[int, int], ...] = ((0, 2), (3, 5), (6, 8), (9, 11)),
        heads: int = 6,
        points: int = 4,
        value_ratio: float = 1.0,
        ffn_ratio: float = 0.25,
        extra_extractors: int = 2,
        injector_init: float = 0.0,
        drop_path: float = 0.0,
        fine: int = 1,
    ) -> None:
        super().__init__()
        self.vit = vit
        self.groups = groups
        self.fine = fine
        self.prior = SpatialPrior(stem, width, fine)
        self.coarse = nn.AvgPool2d(fine) if fine > 1 else nn.Identity()
        self.level_embed = nn.Parameter(torch.randn(3, width))
        self.injectors = nn.ModuleList(
            Injector(width, heads, points, value_ratio, injector_init) for _ in groups
        )
        self.extractors = nn.ModuleList(
            Extractor(width, heads, points, value_ratio, ffn_ratio, drop_path)
            for _ in range(len(groups) + extra_extractors)
        )
        self.up = nn.ConvTranspose2d(width, width, 2, 2)
        self.norms = nn.ModuleList(nn.BatchNorm2d(width) for _ in range(4))

    def forward(self, image: Tensor) -> tuple[Tensor, list[Tensor]]:
        """Stem map at stride 2 and the four maps of `image` [B, 3, fine * H, fine * W], H and W
        divisible by 32."""
        stem, (c1, *pyramid) = self.prior(image)
        shapes = [(int(m.shape[2]), int(m.shape[3])) for m in pyramid]
        tokens = [m.flatten(2).transpose(1, 2) + self.level_embed[i] for i, m in enumerate(pyramid)]
        c = torch.cat(tokens, 1)  # [B, 21N/4, d]
        x, prefix, size = self.vit.embed(self.coarse(image))  # [B, N, d]
        vit_points = reference_points([size], x.device, x.dtype)
        prior_points = reference_points(shapes, x.device, x.dtype)

        stages = []
        for i, (first, last) in enumerate(self.groups):
            x = self.vit.run(self.injectors[i], x, c, vit_points, shapes)
            x, prefix = self.vit.run_blocks(x, prefix, size, first, last)
            c = self.vit.run(self.extractors[i], c, x, prior_points, size, shapes)
            stages.append(x)
        for extractor in self.extractors[len(self.groups) :]:
            c = self.vit.run(extractor, c, x, prior_points, size, shapes)

        maps = [
            t.transpose(1, 2).unflatten(2, shape)
            for t, shape in zip(c.split([h * w for h, w in shapes], 1), shapes, strict=True)
        ]
        maps.insert(0, c1 + self.up(maps[0]))
        features = []
        for stage, feature, norm in zip(stages, maps, self.norms, strict=True):
            vit_map = stage.transpose(1, 2).unflatten(2, size)
            vit_map = bilinear_like(vit_map, feature.shape[-2:])
            features.append(norm(feature + vit_map))
        return stem, features
