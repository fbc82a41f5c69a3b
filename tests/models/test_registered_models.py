"""What holds for every registered model."""

from __future__ import annotations

import copy
import json
import pickle
import random
from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn

import ranvier
from ranvier.layers.qcfs import QCFS
from ranvier.layers.quant import weight_size
from ranvier.models import MODELS, create_model, describe_models, model_card
from ranvier.neurons import Neuron
from ranvier.state import Stateful

Make = Callable[[str], nn.Module]
Input = Callable[..., Tensor]


def test_the_card_is_that_of_the_model(registered: str) -> None:
    card = model_card(registered)
    assert "trainable parameters" in card.counting, "count what this card counts here"
    with torch.device("meta"):
        model = create_model(registered)
    left_out = [p for m in model.modules() if isinstance(m, Neuron) for p in m.parameters()]
    count = sum(p.numel() for p in left_out) if "without the decays of the neurons" in card.counting else 0
    if "without the ceilings of activations" in card.counting:
        count += sum(isinstance(m, QCFS) for m in model.modules())
    assert weight_size(model).params == card.params + count
    assert model.card is card
    if card.task == "language":
        assert (model.num_classes, card.T) == (card.num_classes, card.input_shape[0])
    else:
        assert model.input_shape == card.input_shape
        assert (model.num_classes, model.T) == (card.num_classes, card.T)
    assert card.spike_driven == (not card.violations)
    assert json.loads(json.dumps(card.to_dict()))["name"] == registered


def test_forward_and_backward_in_training(
    architecture: str, small: Callable[..., nn.Module], random_input: Input
) -> None:
    model = small(architecture, num_classes=5).train()
    x = random_input(model, None, 3, torch.float32)
    logits = model(x)
    assert logits.shape == (4, 3, 5)
    nn.functional.cross_entropy(logits.mean(0), torch.tensor([0, 2, 4])).backward()
    for name, parameter in model.named_parameters():
        assert parameter.grad is not None and parameter.grad.isfinite().all(), name


def test_every_parameter_gets_a_gradient(architecture: str, streaming_model: Make, random_input: Input) -> None:
    # In evaluation mode: batch statistics would cancel the bias of a layer before them.
    model = streaming_model(architecture)
    logits = model(random_input(model, 4, 4))
    (logits * torch.randn_like(logits)).sum().backward()
    for name, parameter in model.named_parameters():
        assert parameter.grad is not None and parameter.grad.isfinite().all(), name
        assert parameter.grad.count_nonzero() > 0, f"{name} is dead"


def test_stream_in_any_chunks_is_the_full_pass(architecture: str, unchanged_model: Make, random_input: Input) -> None:
    if not model_card(architecture).streams:
        pytest.skip("looks at all steps at once")
    model = unchanged_model(architecture)
    x = random_input(model, 7, 2)
    # another one for every model: two chunks of two steps or more, two of one step, and the same in another order
    chunks = random.Random(architecture).sample([1, 2, 1, 3], 4)
    with torch.no_grad():
        full = model(x)
        assert full.std() > 0
        for sizes in (chunks, [chunks[-1], *chunks[:-1]]):
            with ranvier.carry(model) as memory:
                parts = [model(chunk) for chunk in x.split(sizes)]
            assert len(memory) > 0 or not any(isinstance(m, Stateful) for m in model.modules())
            torch.testing.assert_close(torch.cat(parts), full, rtol=0, atol=1e-12)


def test_output_does_not_depend_on_later_input(architecture: str, unchanged_model: Make, random_input: Input) -> None:
    if not model_card(architecture).streams:
        pytest.skip("looks at all steps at once")
    model = unchanged_model(architecture)
    x, later = random_input(model, 5, 2), random_input(model, 5, 2)
    with torch.no_grad():
        y, other = model(x), model(torch.cat([x[:3], later[3:]]))
    torch.testing.assert_close(other[:3], y[:3], rtol=0, atol=1e-12)
    assert not torch.equal(other[3:], y[3:])


def test_samples_and_calls_are_independent(architecture: str, unchanged_model: Make, random_input: Input) -> None:
    model = unchanged_model(architecture)
    x = random_input(model, 3, 5)
    with torch.no_grad():
        y = model(x)
        torch.testing.assert_close(model(x[:, 1:3]), y[:, 1:3], rtol=0, atol=1e-12)
        assert torch.equal(model(x), y)


def test_static_images_are_repeated(architecture: str, unchanged_model: Make, random_input: Input) -> None:
    if model_card(architecture).task == "language":
        pytest.skip("takes tokens")
    model = unchanged_model(architecture)
    x = random_input(model, None, 2)
    with torch.no_grad():
        torch.testing.assert_close(model(x), model(x.expand(4, *x.shape)), rtol=0, atol=1e-12)


def test_copies_and_pickles(architecture: str, unchanged_model: Make, random_input: Input) -> None:
    model = unchanged_model(architecture)
    x = random_input(model, 3, 2)
    with torch.no_grad():
        y = model(x)
        sent = pickle.loads(pickle.dumps(model))
        assert torch.equal(sent(x), y)
        with ranvier.carry(model):
            model(x)
            assert torch.equal(copy.deepcopy(model)(x), y)


def test_config_rebuilds_the_model(architecture: str, small: Callable[..., nn.Module]) -> None:
    model = small(architecture, num_classes=3)
    again = create_model(model.config["name"], **model.config["args"])
    again.load_state_dict(model.state_dict())
    assert again.num_classes == 3


@pytest.mark.parametrize("neuron", ["if", "plif", {"type": "plif", "per_channel": True}, "integer_lif"])
@pytest.mark.parametrize(
    "name", ["spikformer", "sdt", "qkformer", "spikingformer", "sglformer", "spikingresformer", "swformer"]
)
def test_transformers_take_any_neuron(
    name: str, neuron: str | dict[str, object], small: Callable[..., nn.Module], random_input: Input
) -> None:
    model = small(name, neuron=neuron)
    model(random_input(model, 2, 2, torch.float32)).sum().backward()
    for parameter_name, parameter in model.named_parameters():
        assert parameter.grad is not None and parameter.grad.isfinite().all(), parameter_name


@pytest.mark.parametrize("name", ["spikformer", "sdt", "qkformer", "spikingformer", "sglformer", "swformer"])
@pytest.mark.parametrize(("size", "channels"), [(8, 1), (16, 3), (32, 3), ((12, 20), 2)])
def test_family_models_fit_small_images(name: str, size: int, channels: int) -> None:
    model = create_model(name, img_size=size, in_channels=channels, embed_dim=32, num_classes=6, T=2)
    size = (size, size) if isinstance(size, int) else size
    assert model(torch.rand(3, channels, *size)).shape == (2, 3, 6)


def test_every_listed_model_is_described() -> None:
    described = {entry["name"]: entry for entry in describe_models("*_8_*")}
    assert set(described) == {name for name in MODELS if "_8_" in name}
    assert all(entry["trainable"] == entry["params"] for entry in described.values())
