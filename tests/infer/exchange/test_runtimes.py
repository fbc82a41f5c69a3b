"""ONNX files in ONNX Runtime, exported programs in a process without this library."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from tests.compat import old_export
from tests.warm import with_torch
from torch import nn

import ranvier
from ranvier.errors import ArgumentError, ShapeError
from ranvier.infer.exchange import export_onnx, export_torch
from ranvier.infer.exchange.traced import plain_copy, step_net
from ranvier.layers.delays import DelayConv2d, DelayLinear, DenseDelayLinear
from ranvier.neurons import PSN

pytestmark = pytest.mark.filterwarnings("ignore")  # of the exporters, about themselves


@pytest.fixture(scope="module")
def delays() -> nn.Module:
    torch.manual_seed(0)
    return ranvier.create_model("delay_mlp_shd", hidden=[16], in_channels=10, max_delay=5).eval()


@old_export
def test_one_step_of_onnx_in_a_loop_is_the_net(tmp_path: Path, delays: nn.Module) -> None:
    runtime: Any = pytest.importorskip("onnxruntime")
    onnx: Any = pytest.importorskip("onnx")
    pytest.importorskip("onnxscript")
    done = export_onnx(delays, tmp_path / "step.onnx", T=4)
    assert done.difference is not None and done.difference < 1e-5
    session = runtime.InferenceSession(str(done.path), providers=["CPUExecutionProvider"])
    assert [i.name for i in session.get_inputs()] == list(done.inputs)
    facts = {p.key: p.value for p in onnx.load(done.path).metadata_props}
    initial = json.loads(facts["ranvier"])["initial"]
    state = [np.full(shape, initial[n], np.float32) for n, shape in list(done.inputs.items())[1:]]
    x = (torch.rand(12, 1, 10, 1, 1) < 0.5).float()
    got = []
    for x_t in x.numpy():
        y, *state = session.run(None, dict(zip(done.inputs, [x_t, *state], strict=True)))
        got.append(y)
    with torch.no_grad():
        np.testing.assert_allclose(np.stack(got), delays(x).numpy(), atol=1e-5)


@old_export
def test_a_sequence_in_onnx(tmp_path: Path) -> None:
    runtime: Any = pytest.importorskip("onnxruntime")
    pytest.importorskip("onnxscript")
    net = ranvier.create_model("spiking_mlp", hidden=[12], neuron={"type": "plif", "v_reset": -0.2}).eval()
    done = export_onnx(net, tmp_path / "sub" / "all.onnx", mode="sequence", T=3, batch=2)
    assert done.steps == 3 and done.inputs["x"] == (3, 2, 1, 8, 8)
    session = runtime.InferenceSession(str(done.path), providers=["CPUExecutionProvider"])
    x = torch.rand(3, 2, 1, 8, 8)
    with torch.no_grad():
        np.testing.assert_allclose(session.run(None, {"x": x.numpy()})[0], net(x).numpy(), atol=1e-5)
    assert list((tmp_path / "sub").iterdir()) == [done.path]  # nothing is left beside it


_ALONE = """
import sys, torch
program = torch.export.load(sys.argv[1]).module()
x, want = torch.load(sys.argv[2], weights_only=True)
assert "ranvier" not in sys.modules
with torch.no_grad():
    assert torch.allclose(program(x), want, atol=1e-6)
"""


@old_export
def test_an_exported_program_runs_alone(tmp_path: Path, delays: nn.Module) -> None:
    done = export_torch(delays, tmp_path / "net.pt2", T=6, batch=2)
    assert done.difference is not None and done.difference < 1e-6
    x = (torch.rand(6, 2, 10, 1, 1) < 0.5).float()
    with torch.no_grad():
        torch.save((x, delays(x)), tmp_path / "io.pt")
    said = with_torch().run(
        "import warnings; warnings.simplefilter('ignore')\n" + _ALONE, done.path, tmp_path / "io.pt"
    )
    assert said.returncode == 0, said.stderr


def test_what_cannot_be_read_again_is_not_left(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fails(*_: object) -> None:
        raise RuntimeError("SerializeError: no such node")

    (tmp_path / "net.pt2").write_bytes(b"an older one")
    monkeypatch.setattr(torch.export, "load", fails)
    net = ranvier.create_model("spiking_mlp", img_size=4, hidden=(3,)).eval()
    with pytest.raises(ArgumentError, match=r"torch.export of PyTorch .* cannot read what it wrote.* no such node"):
        export_torch(net, tmp_path / "net.pt2", T=2)
    assert [f.read_bytes() for f in tmp_path.iterdir()] == [b"an older one"]


def test_one_step_of_an_exported_program(tmp_path: Path) -> None:
    net = ranvier.create_model("spiking_conv_net", img_size=8, channels=(3,), hidden=6).eval()
    done = export_torch(net, tmp_path / "step.pt2", mode="step", T=3)
    assert done.difference == 0.0 and set(done.initial.values()) == {0.0}
    assert list(done.outputs)[1:] == [n.replace("state.", "next.") for n in list(done.inputs)[1:]]


@pytest.mark.parametrize("layer", [DelayLinear(6, 4, 5, kernel_count=2), DelayLinear(6, 4, 3, groups=2, bias=True),
                                   DenseDelayLinear(6, 4, 3)])  # fmt: skip
def test_plain_delays_are_the_layers(layer: nn.Module) -> None:
    x = (torch.rand(9, 2, 6) < 0.4).double()
    net = nn.Sequential(layer).double().eval()
    plain = plain_copy(net)
    with torch.no_grad():
        torch.testing.assert_close(plain(x), net(x), rtol=0, atol=1e-12)
        with ranvier.carry(plain):
            torch.testing.assert_close(torch.cat([plain(x[:2]), plain(x[2:])]), net(x), rtol=0, atol=1e-12)


def test_plain_delays_inside_a_convolution() -> None:
    net = DelayConv2d(2, 3, 3, 4).double().eval()
    x = (torch.rand(6, 1, 2, 5, 5) < 0.4).double()
    with torch.no_grad():
        torch.testing.assert_close(plain_copy(net)(x), net(x), rtol=0, atol=1e-12)


def test_every_state_is_an_argument() -> None:
    net = ranvier.create_model("spikformer", img_size=16, in_channels=2, depth=1).eval()
    x = torch.rand(3, 1, 2, 16, 16)
    step = step_net(plain_copy(net), x)
    state, out = tuple(step.initial), []
    with torch.no_grad():
        for x_t in x:
            y, *state = step(x_t, *state)
            out.append(y)
        torch.testing.assert_close(torch.stack(out), net(x), rtol=0, atol=1e-5)


def test_what_cannot_be_written_is_named(tmp_path: Path, delays: nn.Module) -> None:
    with pytest.raises(ArgumentError, match="all steps at once"):
        export_torch(nn.Sequential(PSN(4)), tmp_path / "a.pt2", mode="step", example=torch.rand(4, 1, 3))
    with pytest.raises(ArgumentError, match="mode"):
        export_torch(delays, tmp_path / "a.pt2", mode="steps")  # pyright: ignore[reportArgumentType]
    with pytest.raises(ArgumentError, match="batch"):
        export_torch(delays, tmp_path / "a.pt2", batch=0)
    with pytest.raises(ShapeError, match="too short"):
        export_torch(delays, tmp_path / "a.pt2", example=torch.rand(3, 1, 10, 1, 1), T=9)
    assert not (tmp_path / "a.pt2").exists()
