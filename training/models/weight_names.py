"""Names of a plain ViT's weights in any of the usual checkpoints in, one set of names out.

Known are timm's and the papers' own names (ViT, DeiT, AugReg, BEiT, DINO, DINOv2, DINOv3) and
those of Hugging Face `transformers`, old and new.
"""

import re
from collections.abc import Mapping
from typing import NamedTuple

from torch import Tensor

from cropseg_edge.errors import ConfigError

OUTER = re.compile(
    r"(module|model|backbone|vit|deit|beit|dinov2|dinov2_with_registers|dinov3_vit|encoder(?=\.layer)"
    r"|teacher|student|trunk)\."
)
BLOCK = re.compile(r"(?:layers?|blocks)\.(\d+)\.(.+)")
EMBEDDING_RULES = (
    (r"(?:embeddings\.)?cls_token", "cls"),
    (r"(?:embeddings\.)?(?:dist_token|distillation_token)", "dist"),
    (r"(?:embeddings\.)?(?:register_tokens|storage_tokens|reg_token)", "registers"),
    (r"embeddings\.position_embeddings|pos_embed", "positions"),
    (
        r"(?:embeddings\.patch_embeddings(?:\.projection)?|patch_embed\.proj)\.(weight|bias)",
        "patch.",
    ),
    (
        r".*rel(?:ative_position|_pos)_bias\.relative_position_bias_table"
        r"|shared_position_bias\.relative_position_bias_table",
        "table",
    ),
    (r"rope_embed(?:dings)?\..*", "rotary"),
)
ATTENTION = r"(?:attention\.attention|attention|attn)"
BLOCK_RULES = (
    (r"(?:norm1|layernorm_before)\.(weight|bias)", "norm1."),
    (r"(?:norm2|layernorm_after)\.(weight|bias)", "norm2."),
    (r"attn\.qkv\.(weight|bias|bias_mask)", "qkv."),
    (rf"{ATTENTION}\.(?:query|q_proj)\.(weight|bias)", "q."),
    (rf"{ATTENTION}\.(?:key|k_proj)\.(weight|bias)", "k."),
    (rf"{ATTENTION}\.(?:value|v_proj)\.(weight|bias)", "v."),
    (r"attn\.q_(bias)", "q."),
    (r"attn\.v_(bias)", "v."),
    (r"(?:attention\.output\.dense|attention\.o_proj|attn\.proj)\.(weight|bias)", "proj."),
    (r"(?:mlp\.fc1|mlp\.up_proj|intermediate\.dense)\.(weight|bias)", "fc1."),
    (r"(?:mlp\.fc2|mlp\.down_proj|output\.dense)\.(weight|bias)", "fc2."),
    (r"lambda_1|gamma_1|layer_scale1\.lambda1|ls1\.gamma", "scale1"),
    (r"lambda_2|gamma_2|layer_scale2\.lambda1|ls2\.gamma", "scale2"),
    (rf"(?:{ATTENTION}\.)?(?:relative_position_bias\.)?relative_position_bias_table", "table"),
)
GATED = re.compile(r"mlp\.(gate_proj|weights_in|w\d+|fc1_g)\.")


class Named(NamedTuple):
    """Weights by our names: of the embeddings, of each block, and the names that match nothing."""

    embedding: dict[str, Tensor]
    blocks: list[dict[str, Tensor]]
    unused: tuple[str, ...]


def rename(tensors: Mapping[str, Tensor]) -> Named:
    """Sort a checkpoint's tensors.

    Raises:
        ConfigError: no blocks of a plain ViT, a gap between them, or gated feed-forwards.
    """
    embedding: dict[str, Tensor] = {}
    blocks: dict[int, dict[str, Tensor]] = {}
    unused = []
    for original, tensor in tensors.items():
        name = original
        while match := OUTER.match(name):
            name = name[match.end() :]
        if match := BLOCK.fullmatch(name):
            if GATED.match(match[2]):
                raise ConfigError(f"gated feed-forwards (SwiGLU) are not supported: {original}")
            target, own = blocks.setdefault(int(match[1]), {}), ours(match[2], BLOCK_RULES)
        else:
            target, own = embedding, ours(name, EMBEDDING_RULES)
        if own is None:
            unused.append(original)
        else:
            target[own] = tensor
    if not blocks or sorted(blocks) != list(range(len(blocks))):
        raise ConfigError(
            "no plain ViT: expected the blocks 0, 1, 2, ... of a ViT, BEiT, DINOv2 or DINOv3, got "
            f"{sorted(blocks)} and names like {', '.join(list(tensors)[:3])}"
        )
    return Named(embedding, [blocks[i] for i in range(len(blocks))], tuple(unused))


def ours(name: str, rules: tuple[tuple[str, str], ...]) -> str | None:
    """Our name for one of a checkpoint's: what the rule says, with the part that it captured."""
    for pattern, own in rules:
        if match := re.fullmatch(pattern, name):
            return own + (match[1] if own.endswith(".") else "")
    return None
