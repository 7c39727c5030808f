"""Entry points for `torch.hub`; `models.hub` explains them.

encoder, predictor = torch.hub.load("path/to/this/repository", "vjepa2_vit_large", source="local")
"""

from models.hub import (
    vjepa2_ac_vit_giant,
    vjepa2_preprocessor,
    vjepa2_vit_giant,
    vjepa2_vit_giant_384,
    vjepa2_vit_huge,
    vjepa2_vit_large,
)

__all__ = [
    "vjepa2_ac_vit_giant",
    "vjepa2_preprocessor",
    "vjepa2_vit_giant",
    "vjepa2_vit_giant_384",
    "vjepa2_vit_huge",
    "vjepa2_vit_large",
]

dependencies = ["torch", "numpy", "pydantic", "safetensors", "rich"]
