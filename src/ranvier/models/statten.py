"""The Spike-driven Transformer with attention over blocks of time and space (STAtten): its sizes."""

from __future__ import annotations

from typing import Any

from ranvier.models.card import ModelCard, Paper, Reported
from ranvier.models.registry import register_model
from ranvier.models.spike_driven import SpikeDrivenTransformer

_PAPER = Paper("Spiking Transformer with Spatial-Temporal Attention", "CVPR 2025", "arXiv:2409.19764")
_SOURCE = "Lee et al., CVPR 2025"
_CHUNKS = "the last chunk is shorter where the chunk does not divide the steps; the release stops with an error"


def _register(
    name: str,
    params: int,
    summary: str,
    shape: tuple[int, int, int],
    reported: tuple[Reported, ...],
    *,
    num_classes: int = 10,
    T: int = 4,
    chunk: int = 2,
    events: bool = False,
    **preset: Any,
) -> None:
    card = ModelCard(
        name=name,
        family="statten",
        params=params,
        summary=summary,
        input_shape=shape,
        num_classes=num_classes,
        T=T,
        spike_type="integer" if events else "binary",
        spike_driven=not events,
        violations=("integers 0 to 2 enter the last projection of the attention: y ⊙ x + x",) if events else (),
        streams=False,
        paper=_PAPER,
        code="https://github.com/Intelligent-Computing-Lab-Panda/STAtten",
        reported=reported,
        deviations=(_CHUNKS,),
    )
    preset |= {"in_channels": shape[0], "img_size": shape[1], "num_classes": num_classes, "T": T}
    options: dict[str, Any] = {"chunk": chunk, "events": True} if events else {"chunk": chunk}
    register_model(card, SpikeDrivenTransformer, attention="statten", attention_options=options, **preset)


_register(
    "statten_sdt", 646_042, "two blocks of width 128, chunks of 2 steps; small images of any size", (3, 32, 32), ()
)  # fmt: skip
_register(
    "statten_cifar_2_512", 10_233_418, "two blocks of width 512 on CIFAR, chunks of 2 steps", (3, 32, 32),
    (Reported("cifar10", 96.03, _SOURCE, T=4), Reported("cifar100", 79.85, _SOURCE, T=4)),
    embed_dim=512, depth=2, num_heads=8, pools="0011",
)  # fmt: skip
_register(
    "statten_8_512", 29_689_384, "eight blocks of width 512 on ImageNet, chunks of 2 steps", (3, 224, 224), (),
    num_classes=1000, embed_dim=512, depth=8, num_heads=8, pools="1111",
)  # fmt: skip
_register(
    "statten_8_768", 66_338_632, "eight blocks of width 768 on ImageNet, chunks of 2 steps", (3, 224, 224),
    (Reported("imagenet", 78.0, _SOURCE, T=4),),
    num_classes=1000, embed_dim=768, depth=8, num_heads=8, pools="1111",
)  # fmt: skip
_register(
    "statten_dvs_2_256", 2_566_666, "two blocks of width 256 on 64x64 events (CIFAR10-DVS), chunks of 4 steps",
    (2, 64, 64), (Reported("cifar10dvs", 83.9, _SOURCE, T=16),), T=16, chunk=4, events=True,
    embed_dim=256, depth=2, num_heads=8, pools="0011",
)  # fmt: skip
_register(
    "statten_ncaltech_2_256", 2_590_053, "two blocks of width 256 on 64x64 events (N-Caltech101), chunks of 4 steps",
    (2, 64, 64), (Reported("ncaltech101", 84.25, _SOURCE, T=16),), num_classes=101, T=16, chunk=4, events=True,
    embed_dim=256, depth=2, num_heads=8, pools="0011",
)  # fmt: skip
