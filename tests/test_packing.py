"""Packed batches: every sequence by itself, nothing but valid steps."""

from __future__ import annotations

import copy
import pickle
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from tests.compat import old_opcheck
from tests.neurons.zoo import SPECS, STEPS, drive, title
from torch import Tensor, nn
from torch.nn.utils.rnn import PackedSequence, pack_padded_sequence

import ranvier
from ranvier.errors import ArgumentError, ShapeError, StateError
from ranvier.layers import ConvBNNeuron
from ranvier.neurons import LIF, NEURONS, PLIF, PSN, Neuron, NeuronFactory, build
from ranvier.packing import Packed, Packing

LENGTHS = (5, STEPS, 1, 7, 7)
packable = [s for s in SPECS if NEURONS[s["type"]].streams]


def cut(x: Tensor, lengths: tuple[int, ...] = LENGTHS) -> list[Tensor]:
    """The sequences `[T_i, ...]` of a padded batch, as leaves."""
    return [x[:n, i].detach().clone().requires_grad_() for i, n in enumerate(lengths)]


@given(st.lists(st.integers(1, 40), min_size=1, max_size=9))
def test_packing_is_torch_s_and_loses_nothing(lengths: list[int]) -> None:
    x = torch.randn(max(lengths), len(lengths), 2)
    packed = ranvier.pack(x, lengths)
    twin = pack_padded_sequence(x, torch.tensor(lengths), enforce_sorted=False)
    assert torch.equal(packed.packing.counts, twin.batch_sizes)
    sequences = cut(x, tuple(lengths))
    for batch in (packed, ranvier.pack(sequences), ranvier.pack(twin)):
        assert batch.lengths.tolist() == lengths and batch.data.shape == (sum(lengths), 2)
        for got, want in zip(batch.sequences(), sequences, strict=True):
            assert torch.equal(got, want)
        assert torch.equal(batch.last(), torch.stack([s[-1] for s in sequences]))
        torch.testing.assert_close(batch.mean(), torch.stack([s.mean(0) for s in sequences]))
        again = batch.padded(7.0)
        for i, n in enumerate(lengths):
            assert torch.equal(again[:n, i], x[:n, i]) and (again[n:, i] == 7).all()
    assert torch.equal(packed.sequence[: len(lengths)].sort().values, torch.arange(len(lengths)))


@pytest.mark.parametrize("spec", packable, ids=title)
@pytest.mark.parametrize("backend", ["auto", "reference"])
def test_a_neuron_runs_every_sequence_by_itself(
    spec: dict[str, Any], backend: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Spikes and gradients of one packed batch are those of the loop over its sequences."""
    monkeypatch.setenv("RANVIER_BACKEND", backend)
    torch.manual_seed(1)
    neuron = build(spec).double()
    leaves = cut(drive(spec, batch=len(LENGTHS)))
    alone = [neuron(s.unsqueeze(1)).squeeze(1) for s in leaves]
    upstream = [torch.randn_like(s) for s in alone]
    parameters = list(neuron.parameters())
    want = torch.autograd.grad(alone, [*leaves, *parameters], upstream)
    together = ranvier.pack(leaves).through(neuron).sequences()
    got = torch.autograd.grad(together, [*leaves, *parameters], upstream)
    for a, b in zip(together, alone, strict=True):
        assert torch.equal(a, b)
    for a, b in zip(got, want, strict=True):
        torch.testing.assert_close(a, b, atol=1e-10, rtol=1e-9)


@pytest.mark.parametrize(
    "neuron", [LIF(surrogate="atan"), PLIF(channels=70), build("alif")], ids=["lif", "plif", "alif"]
)
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.usefixtures("poisoned_empty")
def test_over_chunk_and_block_borders(neuron: Neuron, dtype: torch.dtype) -> None:
    """Long sequences, blocks of columns that end within a step, steps that end within a chunk."""
    lengths = (100, 3, 64, 33, 32, 65, 97, 1, 31, 64) * 2
    x = (torch.randn(100, len(lengths), 70) * 1.5).to(dtype)
    leaves = cut(x, lengths)
    alone = [neuron(s.unsqueeze(1)).squeeze(1) for s in leaves]
    upstream = [torch.randn_like(s) for s in alone]
    want = torch.autograd.grad(alone, leaves, upstream)
    threads = torch.get_num_threads()
    torch.set_num_threads(2)
    try:
        together = ranvier.pack(leaves).through(neuron).sequences()
        got = torch.autograd.grad(together, leaves, upstream)
    finally:
        torch.set_num_threads(threads)
    for a, b in zip([*together, *got], [*alone, *want], strict=True):
        torch.testing.assert_close(a, b, atol=2e-5, rtol=1e-4)


@pytest.mark.parametrize("spec", packable, ids=title)
def test_streams_in_packed_chunks(spec: dict[str, Any]) -> None:
    """Carried state belongs to the given sequences, whatever the order of their lengths in a chunk."""
    torch.manual_seed(1)
    neuron = build(spec).double()
    x = drive(spec, batch=3)
    if spec["type"] == "masked_psn":
        pytest.skip("has one row of weights a step, so all sequences of a stream must be as old")
    chunks = [(2, 4, 1), (3, 1, 5), (1, 2, 1)]
    with torch.no_grad(), ranvier.carry(neuron) as memory:
        starts, spikes = [0, 0, 0], [[], [], []]
        for chunk in chunks:
            batch = ranvier.pack([x[a : a + n, i] for i, (a, n) in enumerate(zip(starts, chunk, strict=True))])
            for kept, s in zip(spikes, batch.through(neuron).sequences(), strict=True):
                kept.append(s)
            starts = [a + n for a, n in zip(starts, chunk, strict=True)]
        assert len(memory) == 1
    for i, n in enumerate(starts):
        assert torch.equal(torch.cat(spikes[i]), neuron(x[:n, i : i + 1])[:, 0])


def net() -> nn.Module:
    class Net(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.conv = ConvBNNeuron(2, 4, NeuronFactory("lif"), pool=nn.MaxPool2d(2))
            self.linear = nn.Linear(4 * 9, 8)
            self.neuron = LIF(tau=3.0)
            self.head = nn.Linear(8, 5)

        def forward(self, x: Tensor) -> Tensor:
            return self.head(self.neuron(self.linear(self.conv(x).flatten(2))))

    return Net().double()


def test_a_whole_net_trains_on_valid_steps_only() -> None:
    """Batch statistics are those of the valid steps, and what stands in the padding changes nothing."""
    model = net()
    x, lengths = torch.randn(STEPS, len(LENGTHS), 2, 6, 6, dtype=torch.float64) * 2, torch.tensor(LENGTHS)
    labels = torch.tensor([0, 1, 2, 3, 4])
    outcomes = []
    for filler in (0.0, 1e6):
        padded = x.clone()
        for i, n in enumerate(LENGTHS):
            padded[n:, i] = filler
        twin = copy.deepcopy(model)
        out = ranvier.pack(padded, lengths).through(twin)
        loss = nn.functional.cross_entropy(out.mean(), labels)
        loss = loss + nn.functional.cross_entropy(out.data, labels[out.sequence])
        loss.backward()
        outcomes.append([loss.detach(), *(p.grad for p in twin.parameters()), *twin.buffers()])
    assert all(torch.equal(a, b) for a, b in zip(*outcomes, strict=True))
    valid = torch.cat(cut(x))
    twin = copy.deepcopy(model)
    conv = twin.conv.block.conv(valid)
    torch.testing.assert_close(_buffer(outcomes, model, "running_mean"), 0.1 * conv.mean((0, 2, 3)))


def _buffer(outcomes: list[list[Any]], model: nn.Module, name: str) -> Tensor:
    buffers = [n for n, _ in model.named_buffers()]
    at = next(i for i, n in enumerate(buffers) if n.endswith(name))
    return outcomes[0][-len(buffers) + at]


def test_in_eval_mode_a_net_does_with_each_sequence_what_it_does_alone() -> None:
    model = net().eval()
    leaves = cut(torch.randn(STEPS, len(LENGTHS), 2, 6, 6, dtype=torch.float64) * 3)
    out = ranvier.pack(leaves).through(model)
    for got, sequence in zip(out.sequences(), leaves, strict=True):
        torch.testing.assert_close(got, model(sequence.unsqueeze(1)).squeeze(1))
    grads = torch.autograd.grad(out.mean().square().sum(), leaves)
    alone = sum(model(s.unsqueeze(1)).mean(0).square().sum() for s in leaves)
    for got, want in zip(grads, torch.autograd.grad(alone, leaves), strict=True):
        torch.testing.assert_close(got, want)


def test_registered_models_take_packed_events() -> None:
    model = ranvier.create_model("spiking_mlp", in_channels=2, img_size=4, hidden=(8,)).eval()
    sequences = [torch.rand(n, 2, 4, 4) for n in (3, 6)]
    out = ranvier.pack(sequences).through(model).sequences()
    for got, s in zip(out, sequences, strict=True):
        torch.testing.assert_close(got, model(s.unsqueeze(1)).squeeze(1))


def test_backward_keeps_no_more_than_the_valid_steps() -> None:
    lengths = (640, 10, 10, 10, 10, 10, 10, 10)
    batch = ranvier.pack([torch.randn(n, 64) for n in lengths])
    batch.data.requires_grad_()
    kept: dict[int, int] = {}

    def pack_hook(t: Tensor) -> Tensor:
        kept[t.untyped_storage().data_ptr()] = t.untyped_storage().nbytes()
        return t

    with torch.autograd.graph.saved_tensors_hooks(pack_hook, lambda t: t):
        batch.through(LIF(surrogate="atan"))
    assert sum(kept.values()) <= 4.3 * sum(lengths) * 64  # with 8 bytes a step that say how many sequences run


def test_nothing_is_left_behind() -> None:
    model = nn.Sequential(nn.Linear(3, 3), LIF())
    batch = ranvier.pack([torch.randn(2, 3), torch.randn(4, 3)])
    with pytest.raises(RuntimeError):
        ranvier.pack([torch.randn(2, 9)]).through(model)
    batch.through(model)
    assert model[1]._packing is None
    assert model(torch.randn(5, 2, 3)).shape == (5, 2, 3)
    copy.deepcopy(model)
    pickle.loads(pickle.dumps(model))


class Mean(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return x.mean(0)


class Rearranged(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.neuron = LIF()

    def forward(self, x: Tensor) -> Tensor:
        return self.neuron(x.transpose(0, 1)).transpose(0, 1)


def test_bad_input_is_named() -> None:
    x = torch.randn(4, 3, 2)
    for lengths in ([1, 2], [1, 2, 5], [0, 1, 2], [1.0, 2.0, 3.0], None):
        with pytest.raises(ArgumentError, match="lengths"):
            ranvier.pack(x, lengths)
    with pytest.raises(ArgumentError, match="at least one sequence"):
        ranvier.pack([])
    with pytest.raises(ShapeError, match="differ in nothing else"):
        ranvier.pack([torch.randn(2, 3), torch.randn(2, 4)])
    with pytest.raises(ShapeError, match="T >= 1"):
        ranvier.pack([torch.randn(2, 3), torch.randn(0, 3)])
    with pytest.raises(ArgumentError, match="bring theirs"):
        ranvier.pack([x], [4])
    with pytest.raises(ArgumentError, match="brings its lengths"):
        ranvier.pack(PackedSequence(torch.randn(2, 1), torch.tensor([1, 1])), [2])
    batch = ranvier.pack(x, [4, 3, 2])
    with pytest.raises(StateError, match=r"net \(PSN\)"):
        batch.through(PSN(4))
    with pytest.raises(ShapeError, match="keep the time and batch axes"):
        batch.through(Mean())
    with pytest.raises(ShapeError, match="rearranged time"):
        batch.through(Rearranged())
    with pytest.raises(ShapeError, match="one row a valid step"):
        Packed(torch.zeros(3), Packing(torch.tensor([1, 1])))


@old_opcheck
def test_the_custom_ops_keep_torch_s_contract() -> None:
    from ranvier.ops.leaky_scan import op, packed_op  # noqa: F401

    batch = ranvier.pack([torch.randn(n, 3) for n in (40, 2)])
    x = batch.data.requires_grad_()
    options = op.pack(LIF(surrogate="atan").dynamics)
    arguments = (x, torch.zeros(()), torch.tensor(0.5), torch.tensor(1.0), batch.packing.counts, 2, 3, True, options)
    assert set(torch.library.opcheck(torch.ops.ranvier.leaky_scan_packed.default, arguments).values()) == {"SUCCESS"}


def test_inside_a_compiled_net() -> None:
    model = nn.Sequential(nn.Linear(3, 3), LIF())
    batch = ranvier.pack([torch.randn(2, 3), torch.randn(4, 3)])
    compiled = torch.compile(model, backend="aot_eager")
    torch.testing.assert_close(batch.through(compiled).data, batch.through(model).data)
    x = torch.randn(5, 2, 3)
    torch.testing.assert_close(compiled(x), model(x))


def test_statistics_count_valid_steps_only() -> None:
    """A net of neurons that fire whenever they see a one: its padding is silent, and does not show."""
    model = nn.Sequential(nn.Linear(3, 3, bias=False), LIF(tau=1.0, threshold=0.5))
    nn.init.eye_(model[0].weight)
    x = torch.zeros(8, 2, 3)
    x[:2, 0] = x[:, 1] = 1
    batch = ranvier.pack(x, [2, 8])
    report = ranvier.measure.count(model, batch)
    assert report.neurons[0].density == (1.0,) and report.neurons[0].neurons == 3
    assert report.neurons[0].spikes == 3 and report.rows[0].synops == 9 and report.samples == 10
    assert ranvier.measure.count(model, x, time_first=True).neurons[0].density[-1] == 0.5
    layer = ranvier.measure.health(model, batch).layers[0]
    assert layer.rate == 1 and layer.saturated == 1
    assert ranvier.measure.health(model, (batch, torch.tensor([0, 1]))).layers[0].rate == 1
    with pytest.raises(ArgumentError, match="packed"):
        ranvier.measure.latency(model, batch)
