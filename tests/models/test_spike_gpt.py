"""SpikeGPT: sizes, the release's equations written out, streaming, start, generation, the release's names."""

from __future__ import annotations

import copy
import math
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from safetensors.torch import save_file
from torch import Tensor

import ranvier
from ranvier.errors import ArgumentError, ShapeError, StateError
from ranvier.models import (
    OfficialMismatchError,
    SpikeGPT,
    SpikeGPTForSequenceClassification,
    create_model,
    load_official,
    model_card,
    next_token_probabilities,
    trainable_params,
)


def lively(**options: Any) -> SpikeGPT:
    """A small model in float64 whose neurons fire."""
    model = (
        SpikeGPT(**{"vocab_size": 13, "n_layer": 3, "n_embd": 16, "init": "torch_default", **options}).double().eval()
    )
    for name, parameter in model.named_parameters():
        if name.endswith(("att.output.weight", "ffn.value.weight")):
            torch.nn.init.normal_(parameter)
    return model


def tokens(*shape: int, vocab: int = 13) -> Tensor:
    return torch.randint(vocab, shape)


def release(weights: dict[str, Tensor], ids: Tensor, layers: int, binary: bool) -> Tensor:
    """The published equations on the release's state dict, a token after the other, for one text `[T]`."""
    d = weights["emb.weight"].shape[1]
    zero = torch.zeros(d, dtype=torch.float64)
    state: list[dict[str, Tensor]] = [
        {"a": zero, "f": zero, "num": zero, "den": zero, "v1": zero, "v2": zero} for _ in range(layers)
    ]
    out: list[Tensor] = []

    def norm(x: Tensor, name: str) -> Tensor:
        return F.layer_norm(x, (d,), weights[f"{name}.weight"], weights[f"{name}.bias"])

    def mix(x: Tensor, last: Tensor, share: Tensor) -> Tensor:
        return x * share.view(-1) + last * (1 - share.view(-1))

    def fire(x: Tensor, s: dict[str, Tensor], key: str) -> Tensor:
        h = (s[key] + x) / 2
        spike = (h >= 1).double()
        s[key] = h * (1 - spike)
        return spike

    for token in ids:
        x = weights["emb.weight"][token]
        x = (x >= 0).double() if binary else x
        for i, s in enumerate(state):
            at, ff = f"blocks.{i}.att", f"blocks.{i}.ffn"
            x = norm(x, "blocks.0.ln0") if i == 0 else x
            y = norm(x, f"blocks.{i}.ln1")
            k = weights[f"{at}.key.weight"] @ mix(y, s["a"], weights[f"{at}.time_mix_k"])
            v = weights[f"{at}.value.weight"] @ mix(y, s["a"], weights[f"{at}.time_mix_v"])
            r = torch.sigmoid(weights[f"{at}.receptance.weight"] @ mix(y, s["a"], weights[f"{at}.time_mix_r"]))
            now = torch.exp(weights[f"{at}.time_first"] + k)
            wkv = (s["num"] + now * v) / (s["den"] + now)
            decay = torch.exp(-torch.exp(weights[f"{at}.time_decay"]))
            s["num"], s["den"], s["a"] = decay * s["num"] + k.exp() * v, decay * s["den"] + k.exp(), y
            x = x + fire(weights[f"{at}.output.weight"] @ (r * wkv), s, "v1")
            y = norm(x, f"blocks.{i}.ln2")
            k = (weights[f"{ff}.key.weight"] @ mix(y, s["f"], weights[f"{ff}.time_mix_k"])).relu().square()
            r = torch.sigmoid(weights[f"{ff}.receptance.weight"] @ mix(y, s["f"], weights[f"{ff}.time_mix_r"]))
            s["f"] = y
            x = x + fire(r * (weights[f"{ff}.value.weight"] @ k), s, "v2")
        out.append(weights["head.weight"] @ norm(x, "ln_out"))
    return torch.stack(out)


def to_release(model: SpikeGPT) -> dict[str, Tensor]:
    return {name.replace(".wkv.", "."): t.detach().clone() for name, t in model.state_dict().items()}


@pytest.mark.parametrize(
    ("name", "params"),
    [
        ("spike_gpt_41m", 41_226_240), ("spike_gpt_47m", 47_173_632), ("spike_gpt_216m", 215_399_424),
        ("spike_gpt_261m", 261_456_384),
    ],
)  # fmt: skip
def test_published_sizes(name: str, params: int) -> None:
    assert trainable_params(name) == model_card(name).params == params
    with torch.device("meta"):
        model = create_model(name)
    layers, dim, vocab = len(model.blocks), model.emb.embedding_dim, model.vocab_size
    assert params == layers * (13 * dim**2 + 11 * dim) + 2 * vocab * dim + 4 * dim
    for position in ("input", "none"):
        with torch.device("meta"):
            other = create_model(name, spike_position=position)
        assert sum(p.numel() for p in other.parameters()) == params


@pytest.mark.parametrize("binary", [True, False])
def test_is_the_release_with_its_weights(binary: bool, tmp_path: Path) -> None:
    model, other = lively(binary_embedding=binary), lively(binary_embedding=binary, init="normal")
    ids = tokens(40)
    with torch.no_grad():
        expected = release(to_release(model), ids, 3, binary)
        torch.testing.assert_close(model(ids), expected, rtol=0, atol=1e-10)
        file = tmp_path / "release.pth"
        torch.save({f"module.{k}": v for k, v in to_release(model).items()}, file)
        report = load_official(other, file)
        assert report.complete and torch.equal(other(ids), model(ids))
        save_file({**to_release(model), "pos_emb": torch.zeros(1, 4)}, tmp_path / "release.safetensors")
        assert load_official(lively(), tmp_path / "release.safetensors").ignored == ("pos_emb",)
    with pytest.raises(OfficialMismatchError):
        load_official(lively(n_embd=8), file)


def test_streaming_is_the_parallel_pass() -> None:
    """Seven layers: the release's runner, which rescales from the sixth on, fails here."""
    model = lively(n_layer=7)
    ids = tokens(50, 2)
    with torch.no_grad():
        whole = model(ids)
        steps, state = [], None
        for row in ids:
            logits, state = model.step(row, state)
            steps.append(logits)
        torch.testing.assert_close(torch.stack(steps), whole, rtol=0, atol=1e-10)
        last, state = model.prefill(ids[:30])
        torch.testing.assert_close(last, whole[29], rtol=0, atol=1e-10)
        rest, after = model(ids[30:], state=state, return_state=True)
        torch.testing.assert_close(rest, whole[30:], rtol=0, atol=1e-10)
        assert after.nbytes == state.nbytes == 7 * 7 * 16 * 8 * 2  # seven vectors a layer and text, whatever the length
        torch.testing.assert_close(model(ids[30:], state), rest, rtol=0, atol=0)
        broken = copy.deepcopy(model)
        for number, block in enumerate(broken.blocks):
            for weight in (block.att.output.weight, block.ffn.value.weight):
                weight.div_(2 ** (number // 6))
        broken.blocks[5].register_forward_hook(lambda _m, _a, out: out / 2)
        assert float((broken(ids) - whole).abs().max()) > 1e-2


def test_streaming_in_single_precision() -> None:
    model = lively().float()
    ids = tokens(64, 2)
    with torch.no_grad(), ranvier.carry(model):
        parts = torch.cat([model(chunk) for chunk in ids.split(1)])
    with torch.no_grad():
        whole = model(ids)
    # a spike whose input ties with the threshold may differ; all else agrees
    same = (parts - whole).abs().amax(-1) < 1e-4
    assert float(same.double().mean()) > 0.95


def test_training_in_chunks_is_the_long_pass() -> None:
    model = lively(dropout=0.0)
    ids, targets = tokens(24, 2), tokens(24, 2)

    def gradients(cuts: list[int]) -> list[Tensor]:
        model.zero_grad()
        with ranvier.carry(model):
            logits = torch.cat([model(part) for part in ids.split(cuts)])
        F.cross_entropy(logits.flatten(0, 1), targets.flatten()).backward()
        return [p.grad.clone() for p in model.parameters()]

    for a, b in zip(gradients([7, 9, 8]), gradients([24]), strict=True):
        torch.testing.assert_close(a, b, rtol=0, atol=1e-12)


@pytest.mark.parametrize("position", ["output", "input", "none"])
def test_spike_positions(position: str) -> None:
    model = lively(spike_position=position)
    neurons = [m for m in model.modules() if isinstance(m, ranvier.neurons.LIF)]
    assert len(neurons) == {"output": 6, "input": 21, "none": 0}[position]
    assert all(n.dynamics.detach_reset is False and float(n.decay()) == 0.5 for n in neurons)


def test_every_matrix_receives_spikes_at_the_input_position() -> None:
    model = lively(spike_position="input")
    seen: dict[str, bool] = {}
    for name, module in model.blocks.named_modules():
        if isinstance(module, torch.nn.Linear):
            module.register_forward_pre_hook(
                lambda _m, args, name=name: seen.__setitem__(name, bool(((args[0] == 0) | (args[0] == 1)).all()))
            )
    with torch.no_grad():
        model(tokens(20, 2))
    assert len(seen) == 21 and all(seen.values())


def test_ablations() -> None:
    ids = tokens(30, 2)
    with torch.no_grad():
        alone = lively(attend=False, membrane=False, n_layer=1)
        y, other = alone(ids), alone(torch.cat([tokens(28, 2), ids[28:]]))
        torch.testing.assert_close(y[-1], other[-1], rtol=0, atol=1e-12)  # no memory but of the token before
        assert not torch.equal(y[27], other[27])
        assert lively(membrane=False)(ids).isfinite().all()


def test_start_is_silent_and_learns() -> None:
    model = SpikeGPT(vocab_size=13, n_layer=2, n_embd=32, dropout=0.0).double()
    ids = tokens(16, 4)
    spikes: list[float] = []
    for block in model.blocks:
        for neuron in (block.lif1, block.lif2):
            neuron.register_forward_hook(lambda _m, _a, out: spikes.append(float(out.detach().sum())))
    logits = model(ids)
    loss = F.cross_entropy(logits.flatten(0, 1), ids.flatten())
    assert spikes == [0.0] * 4
    assert abs(float(loss.detach()) - math.log(13)) < 0.15
    loss.backward()
    assert float(model.blocks[0].att.output.weight.grad.abs().sum()) > 0
    assert float(model.blocks[1].ffn.value.weight.grad.abs().sum()) > 0
    first, last = model.blocks[0].att, model.blocks[1].att
    assert first.wkv.time_decay[0] == -5 and last.wkv.time_decay[-1] == 3
    assert last.wkv.time_decay[1].item() == pytest.approx(-5 + 8 * (1 / 31) ** 2.0)
    expected = [math.log(0.3) + 0.5 * z for z in (0, 1, -1, 0)]
    assert first.wkv.time_first[:4].tolist() == pytest.approx(expected)
    assert last.time_mix_v.flatten()[8].item() == pytest.approx((8 / 32) ** 0.5 + 0.3)
    assert not first.key.weight.any() and not first.receptance.weight.any()
    gram = first.value.weight @ first.value.weight.T
    torch.testing.assert_close(gram, torch.eye(32, dtype=torch.float64), rtol=0, atol=1e-6)


def test_optional_parts() -> None:
    assert sum(p.numel() for p in lively(ffn_pre=True).blocks[0].ffnPre.parameters()) == 9 * 16**2 + 2 * 16
    copier = lively(head_qk=4)
    ids = tokens(9, 2)
    with torch.no_grad():
        x = copier.features(ids)
        plain = copier.head(x)
        for b in range(2):
            for t in range(9):
                for s in range(t + 1):
                    score = copier.head_q(x[t, b]) @ copier.head_k(x[s, b]) / 4
                    plain[t, b, ids[s, b]] += score
        torch.testing.assert_close(copier(ids), plain, rtol=0, atol=1e-10)
        with pytest.raises(StateError, match="head_qk"), ranvier.carry(copier):
            copier(ids)


def test_batch_first_and_one_text() -> None:
    model = lively()
    other = lively(batch_first=True)
    other.load_state_dict(model.state_dict())
    ids = tokens(11, 3)
    with torch.no_grad():
        assert torch.equal(other(ids.T), model(ids).transpose(0, 1))
        torch.testing.assert_close(model(ids[:, 1]), model(ids)[:, 1], rtol=0, atol=1e-12)
        torch.testing.assert_close(other.step(ids[0])[0], model(ids[:1])[0], rtol=0, atol=1e-12)
    made = [m.generate(x, 5, seed=3) for m, x in ((model, ids), (other, ids.T))]
    assert torch.equal(made[0].T, made[1])


def test_generation() -> None:
    model = lively(dropout=0.5).train()
    prompt = tokens(6, 2)
    made = model.generate(prompt, 12, temperature=0.8, top_p=0.9, seed=1)
    assert made.shape == (12, 2) and model.training
    assert torch.equal(model.generate(prompt, 12, temperature=0.8, top_p=0.9, seed=1), made)
    assert not torch.equal(model.generate(prompt, 12, temperature=0.8, top_p=0.9, seed=2), made)
    model.eval()
    greedy = model.generate(prompt, 5, temperature=0)
    text = prompt
    with torch.no_grad():
        for _ in range(5):
            text = torch.cat([text, model(text)[-1].argmax(-1, keepdim=True).T])
    assert torch.equal(greedy, text[6:])
    assert model.generate(prompt[:, 0], 3, seed=0).shape == (3,)
    assert 0 not in model.generate(prompt, 60, seed=0, banned=(0,)).unique().tolist()
    assert model.generate(prompt, 0).shape == (0, 2)


def test_nucleus_by_hand() -> None:
    p = torch.tensor([0.05, 0.4, 0.1, 0.3, 0.15], dtype=torch.float64)
    kept = next_token_probabilities(p.log(), temperature=2.0, top_p=0.6)
    expected = torch.tensor([0, 0.4, 0, 0.3, 0], dtype=torch.float64).sqrt()
    torch.testing.assert_close(kept, expected / expected.sum())
    torch.testing.assert_close(next_token_probabilities(p.log()), p)
    only = torch.tensor([0, 1, 0, 0, 0], dtype=torch.float64)
    torch.testing.assert_close(next_token_probabilities(p.log(), top_p=0.3), only)
    torch.testing.assert_close(next_token_probabilities(p.log(), temperature=0), only)
    without = next_token_probabilities(p.log(), banned=(1,))
    torch.testing.assert_close(without, p.index_fill(0, torch.tensor([1]), 0) / 0.6)
    for options in ({"temperature": -1}, {"top_p": 0}, {"top_p": 1.5}, {"banned": (9,)}, {"banned": tuple(range(5))}):
        with pytest.raises(ArgumentError, match=next(iter(options))):
            next_token_probabilities(p.log(), **options)


def test_classification_ignores_padding() -> None:
    model = SpikeGPTForSequenceClassification(3, pad_token=12, vocab_size=13, n_layer=2, n_embd=16).double().eval()
    ids = tokens(10, 2, vocab=12)
    padded = torch.cat([ids, torch.full((4, 2), 12)])
    with torch.no_grad():
        assert model(ids).shape == (1, 2, 3) and model.num_classes == 3
        torch.testing.assert_close(model(padded), model(ids), rtol=0, atol=1e-12)


def test_long_prompts_are_read_in_parts(monkeypatch: pytest.MonkeyPatch) -> None:
    model, ids = lively(), tokens(23, 2)
    with torch.no_grad():
        last, state = model.prefill(ids)
        monkeypatch.setattr("ranvier.models.language.READ", 5)
        again, other = model.prefill(ids)
    torch.testing.assert_close(again, last, rtol=0, atol=1e-12)
    assert state.nbytes == other.nbytes
    assert model.generate(ids, 4, seed=0).shape == (4, 2)


def test_too_long_for_the_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(self: SpikeGPT, ids: Tensor) -> Tensor:
        raise RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried to allocate 10 bytes")

    monkeypatch.setattr(SpikeGPT, "tokens_to_logits", fail)
    with pytest.raises(ArgumentError, match="read the text in chunks"):
        lively()(tokens(3, 2))


@pytest.mark.parametrize(
    ("ids", "error", "message"),
    [
        (torch.tensor([[13]]), ArgumentError, r"ids must lie in 0 \.\. 12, got 13"),
        (torch.tensor([[-1]]), ArgumentError, "got -1"),
        (torch.zeros(0, 2, dtype=torch.int64), ShapeError, "at least one token"),
        (torch.zeros(2, 2), ArgumentError, "integers"),
        (torch.zeros(2, 2, 2, dtype=torch.int64), ShapeError, r"ids must be \[T, B\]"),
    ],
)
def test_bad_ids(ids: Tensor, error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        lively()(ids)


@pytest.mark.parametrize(
    "options", [{"n_layer": 0}, {"n_embd": 1}, {"spike_position": "both"}, {"init": "best"}, {"dropout": 1.0},
                {"vocab_size": 1}, {"head_qk": -1}],
)  # fmt: skip
def test_bad_options_name_themselves(options: dict[str, Any]) -> None:
    with pytest.raises(ArgumentError, match=next(iter(options))):
        SpikeGPT(**options)
