"""SegFormer (Xie et al., NeurIPS 2021) as a size for `train`, to compare with on the same data.

Built by `transformers` with fresh weights. It is for comparison: the robot's runtime ends in FADE,
so that it cannot be exported.
"""

from torch import Tensor, nn

from cropseg_edge.errors import ConfigError
from cropseg_edge.mask import CLASSES
from training.models.fade import FadeInputs
from training.models.sizes import ModelSize


class SegFormer(nn.Module):
    """Image in, class logits at stride 4 out; H and W divisible by `multiple`.

    `size.width`, `depth` and `heads` are those of the first stage, whose widths and heads grow by
    1, 2, 5, 8, as in B0 and B1; `decoder_width` is the decoder's.

    Raises:
        ConfigError: `transformers` is not installed.
    """

    fine, multiple = 1, 32

    def __init__(self, size: ModelSize) -> None:
        super().__init__()
        try:
            from transformers import SegformerConfig, SegformerForSemanticSegmentation
        except ImportError as error:
            raise ConfigError(f"{size.name} needs transformers; pip install it") from error
        growth = (1, 2, 5, 8)
        config = SegformerConfig(
            num_labels=len(CLASSES),
            id2label=dict(enumerate(CLASSES)),
            label2id={name: number for number, name in enumerate(CLASSES)},
            hidden_sizes=[size.width * factor for factor in growth],
            num_attention_heads=[size.heads * factor for factor in growth],
            depths=[size.depth] * 4,
            mlp_ratios=[int(size.mlp_ratio)] * 4,
            decoder_hidden_size=size.decoder_width,
            drop_path_rate=size.drop_path,
        )
        self.model = SegformerForSemanticSegmentation(config)

    def forward(self, image: Tensor) -> Tensor:
        """Class logits [B, 3, H/4, W/4] of `image` [B, 3, H, W], RGB, normalised."""
        return self.model(pixel_values=image).logits

    def predict(self, image: Tensor) -> FadeInputs:
        """There is none: ConfigError."""
        raise ConfigError(
            "SegFormer has no FADE inputs and is for comparison only; export one of our own sizes"
        )
