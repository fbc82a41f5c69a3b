"""Parameter counts of the publications, to the digit, and the closed forms behind them."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from ranvier.models import create_model, model_card

PUBLISHED = {
    "spikformer_8_384": 16_816_024,
    "spikformer_6_512": 23_373_352,
    "spikformer_8_512": 29_689_384,
    "spikformer_10_512": 36_005_416,
    "spikformer_8_768": 66_338_632,
    "spikformer_cifar_4_256": 4_155_178,
    "spikformer_cifar_2_384": 5_765_050,
    "spikformer_cifar_4_384": 9_324_730,
    "sdt_8_384": 16_816_024,
    "sdt_6_512": 23_373_352,
    "sdt_8_512": 29_689_384,
    "sdt_10_512": 36_005_416,
    "sdt_8_768": 66_338_632,
    "sdt_cifar_2_512": 10_233_418,
    "sdt_dvs_2_256": 2_566_666,
    "qkformer_10_384": 16_473_688,
    "qkformer_10_512": 29_079_336,
    "qkformer_10_768": 64_962_760,
    "qkformer_cifar_4_384": 6_706_234,
    "qkformer_cifar10dvs": 1_504_138,
    "qkformer_dvs_gesture": 1_999_371,
    "spikingformer_8_384": 16_816_024,
    "spikingformer_8_512": 29_689_384,
    "spikingformer_8_768": 66_338_632,
    "spikingformer_cifar_4_256": 4_152_106,
    "spikingformer_cifar_2_384": 5_762_746,
    "spikingformer_cifar_4_384": 9_320_122,
    "sglformer_8_384": 16_239_640,
    "sglformer_8_512": 28_658_728,
    "sglformer_8_768": 64_006_216,
    "sglformer_cifar_1_384": 8_852_874,
    "sglformer_dvs_1_256": 4_164_434,
    "spikingresformer_ti": 11_180_992,
    "spikingresformer_s": 17_813_824,
    "spikingresformer_m": 35_601_472,
    "spikingresformer_l": 60_375_680,
    "spikingresformer_cifar": 10_793_152,
    "spikingresformer_dvs_gesture": 2_709_830,
    "swformer_6_512": 21_806_632,
    "swformer_8_512": 27_600_424,
    "swformer_8_384": 15_642_520,
    "swformer_cifar_4_384": 7_022_458,
    "swformer_dvs_2_256": 2_157_834,
}
CIFAR100 = {"spikformer_cifar_4_384": 9_359_380, "sdt_cifar_2_512": 10_279_588, "qkformer_cifar_4_384": 6_740_884}


def size(name: str, **overrides: object) -> int:
    with torch.device("meta"):
        model = create_model(name, **overrides)
    return sum(p.numel() for p in model.parameters())


@pytest.mark.parametrize("name", PUBLISHED)
def test_published(name: str) -> None:
    assert size(name) == model_card(name).params == PUBLISHED[name]


@pytest.mark.parametrize("name", CIFAR100)
def test_published_for_cifar100(name: str) -> None:
    assert size(name, num_classes=100) == CIFAR100[name]


VARIANTS: list[tuple[str, dict[str, int], int]] = [
    ("sglformer_cifar_1_384", {"num_classes": 100}, 8_887_524),
    ("sglformer_dvs_1_256", {"T": 10}, 4_066_130),
    ("spikingresformer_cifar", {"num_classes": 100}, 10_827_712),
    ("spikingresformer_s", {"num_classes": 10}, 17_306_944),
    ("spikingresformer_s", {"num_classes": 100}, 17_353_024),
    ("swformer_cifar_4_384", {"num_classes": 100}, 7_057_108),
    ("swformer_6_512", {"num_blocks": 4}, 18_462_760),
    ("swformer_8_512", {"num_blocks": 4}, 23_141_928),
    ("swformer_dvs_2_256", {"num_blocks": 16}, 2_056_266),
]


@pytest.mark.parametrize(("name", "overrides", "expected"), VARIANTS)
def test_published_variants(name: str, overrides: dict[str, int], expected: int) -> None:
    assert size(name, **overrides) == expected


@settings(max_examples=20)
@given(
    dim=st.integers(1, 20).map(lambda n: 32 * n), depth=st.integers(1, 4), c=st.integers(1, 4),
    classes=st.integers(1, 200),
    name=st.sampled_from(["spikformer_8_384", "spikformer_cifar_4_384", "sdt_8_384", "spikingformer_8_384"]),
)  # fmt: skip
def test_closed_form(dim: int, depth: int, c: int, classes: int, name: str) -> None:
    convs = 9 * (c * dim // 8 + dim**2 // 32 + dim**2 // 8 + dim**2 // 2 + dim**2)
    norms = 2 * (dim // 8 + dim // 4 + dim // 2 + 2 * dim)
    block = 12 * dim**2 + (27 if "cifar" in name else 24) * dim
    expected = convs + norms + depth * block + dim * classes + classes
    assert size(name, embed_dim=dim, depth=depth, in_channels=c, num_classes=classes, num_heads=8) == expected


@settings(max_examples=20)
@given(dim=st.integers(1, 12).map(lambda n: 32 * n), depth=st.integers(2, 6), ratio=st.sampled_from([1, 2, 4]))
def test_closed_form_of_qkformer(dim: int, depth: int, ratio: int) -> None:
    def mlp(d: int) -> int:
        return 2 * ratio * d * d + 3 * ratio * d + 3 * d

    def conv(i: int, o: int, kernel: int = 3) -> int:
        return kernel**2 * i * o + 2 * o

    first, second = dim // 4, dim // 2
    embeds = conv(3, first // 2) + conv(first // 2, first) + conv(first // 2, first, 1)
    embeds += sum(conv(i, 2 * i) + conv(2 * i, 2 * i) + conv(i, 2 * i, 1) for i in (first, second))
    gated = sum(3 * d * d + 7 * d + mlp(d) for d in (first, second))
    attended = (depth - 2) * (4 * dim**2 + 9 * dim + mlp(dim))
    sizes = {"embed_dim": dim, "depth": depth, "mlp_ratio": ratio}
    assert size("qkformer_cifar_4_384", **sizes) == embeds + gated + attended + 10 * dim + 10
