"""Where the tensors of the release belong: names, and weights in the layout of spconv."""

from __future__ import annotations

from torch import Tensor

from ranvier.layers.sparse import from_spconv
from ranvier.models.official import OfficialNames


def unpack_spconv(tensor: Tensor) -> Tensor:
    """A sparse weight of spconv 2, `[C_out, k, k, k, C_in]`, as ours; any other tensor as it is."""
    return from_spconv(tensor) if tensor.dim() == 5 else tensor


_ENCODER = (
    (r"(?:backbone\.)?(stem\.\d+\.\w+)", r"backbone.\1"),
    (r"(?:backbone\.)?(enc\.\d+\.(?:down|blocks)\..+)", r"backbone.\1"),
    (r"(?:backbone\.)?(final\.\w+)", r"\1"),
)
CLASSIFIER = OfficialNames(rules=_ENCODER, values=((r".*weight", unpack_spconv),))
SEGMENTOR = OfficialNames(
    rules=(*_ENCODER, (r"(?:backbone\.)?(dec\.\d+\.(?:up|fuse)\..+)", r"\1")), values=((r".*weight", unpack_spconv),)
)
DETECTOR = OfficialNames(
    rules=((r"((?:backbone_3d|backbone_2d|dense_head|roi_head)\..+)", r"\1"),),
    ignored=(r"global_step",),
    values=((r".*weight", unpack_spconv),),
)
