"""Creating models by name: other spellings, unknown names and keywords."""

from __future__ import annotations

import pytest

from ranvier.errors import ArgumentError, UnknownNameError
from ranvier.models import create_model, list_models


def test_other_spellings_of_arguments_are_accepted() -> None:
    model = create_model(
        "sdt", embed_dims=32, depths=1, heads=2, image_size=8, in_chans=1, pooling_stat="0000", steps=3
    )
    assert (model.img_size, model.in_channels, model.T, len(model.blocks)) == ((8, 8), 1, 3, 1)
    with pytest.raises(ArgumentError, match="twice"):
        create_model("sdt", embed_dim=32, embed_dims=32)


def test_unknown_names_and_keywords_name_the_nearest() -> None:
    with pytest.raises(UnknownNameError, match="did you mean 'spikformer'"):
        create_model("spikeformer")
    with pytest.raises(ArgumentError, match="did you mean 'embed_dim'"):
        create_model("spikformer", embeddim=3)


@pytest.mark.parametrize("name", ["spikformer", "sdt", "qkformer"])
@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"embed_dim": 0}, "embed_dim"),
        ({"depth": 0}, "depth"),
        ({"num_heads": 5}, "num_heads must divide"),
        ({"mlp_ratio": -1}, "mlp_ratio"),
        ({"pools": "2222"}, "pools"),
        ({"img_size": 0}, "img_size"),
    ],
)
def test_bad_sizes_name_themselves(name: str, arguments: dict[str, object], message: str) -> None:
    with pytest.raises(ArgumentError, match=message):
        create_model(name, **arguments)


def test_listing_by_pattern_and_family() -> None:
    assert list_models("sdt_8_*") == ["sdt_8_384", "sdt_8_512", "sdt_8_768"]
    assert {"qkformer", "qkformer_10_384"} <= set(list_models(family="qkformer"))
    assert all(name.startswith("qkformer") for name in list_models(family="qkformer"))


def test_any_model_takes_bits() -> None:
    from ranvier.layers.quant import quantized_layers

    model = create_model("spikformer", img_size=8, in_channels=1, bits=4)
    assert len(quantized_layers(model)) == 18 and model.config["args"]["bits"] == 4
    again = create_model(model.config["name"], **model.config["args"])
    again.load_state_dict(model.state_dict())
    assert not quantized_layers(create_model("spikformer", img_size=8, bits=None))
    with pytest.raises(ArgumentError, match="bits must be"):
        create_model("spiking_mlp", bits=9)
