"""One sample, one step at a time: the compiled engine beside torch, torch.compile, ONNX Runtime and other libraries.

Three nets (learned delays at the size of SHD, a conv net at the size of N-MNIST, a small transformer) with random
weights whose norms are set to a firing rate. All contenders have the same weights with norms folded in, carry their
state from step to step and get the same input; peers bring their own LIF neuron. Times are wall clock, medians over
steps, contenders in turn. Outputs are compared with the graph's first, and what differs is marked.
"""

from __future__ import annotations

import argparse
import copy
import itertools
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

import ranvier
from benchmarks.engine_peers import Foreign, OwnLIF, swapped
from benchmarks.timing import store
from ranvier.infer import compile as build
from ranvier.infer.plan import follow
from ranvier.infer.plan import replace as put
from ranvier.layers.quant import fold_bn
from ranvier.neurons import LIF

Step = Callable[[np.ndarray], np.ndarray]
RATES = (0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.4, 0.8)


def delays_net() -> nn.Module:
    return ranvier.create_model("delay_mlp_shd")


def conv_net() -> nn.Module:
    return ranvier.create_model("spiking_conv_net", in_channels=2, img_size=34, channels=(16, 32), hidden=128)


def transformer() -> nn.Module:
    return ranvier.create_model("spikformer", in_channels=2, img_size=32, embed_dim=64, depth=2, num_heads=4)


PROBLEMS: dict[str, tuple[Callable[[], nn.Module], tuple[int, ...], float]] = {
    "delays (SHD size)": (delays_net, (140, 1, 1), 0.03),
    "conv net (N-MNIST size)": (conv_net, (2, 34, 34), 0.03),
    "spiking transformer": (transformer, (2, 32, 32), 0.05),
}


def firing(model: nn.Module, x: Tensor, rate: float) -> nn.Module:
    """Sets the bias of every norm in front of neurons so that the neurons behind it fire at `rate`."""
    model.eval()
    norms = [m for m in model.modules() if isinstance(m, nn.BatchNorm1d | nn.BatchNorm2d)]
    order: list[nn.Module] = []
    handles = [
        m.register_forward_hook(lambda m, *_: order.append(m))
        for m in model.modules()
        if m in norms or isinstance(m, LIF)
    ]
    with torch.no_grad():
        model(x)
    for handle in handles:
        handle.remove()
    pairs = [(a, b) for a, b in itertools.pairwise(order) if not isinstance(a, LIF) and isinstance(b, LIF)]
    with torch.no_grad():
        for norm in norms:
            norm.momentum = None
        model.train()
        model(x)
        model.eval()
        for norm, neuron in pairs:
            found: list[float] = []
            handle = neuron.register_forward_hook(lambda _, __, y, found=found: found.append(float(y.mean())))
            low, high = -8.0, 8.0
            for _ in range(10):
                norm.bias.fill_((low + high) / 2)
                model(x)
                low, high = (low, (low + high) / 2) if found[-1] > rate else ((low + high) / 2, high)
            handle.remove()
    return model


def folded(model: nn.Module, x: Tensor) -> nn.Module:
    """Norms into weights, where convolutions and linear layers come before them."""
    net = copy.deepcopy(model).eval().requires_grad_(False)
    with torch.no_grad():
        plan = follow(net, x)
        for name, chain in plan.fold.items():
            layer = net.get_submodule(name)
            for after in chain:
                layer = fold_bn(layer, net.get_submodule(after))
                put(net, after, nn.Identity())
            put(net, name, layer)
        for i, layer in enumerate(getattr(net, "delays", [])[: len(getattr(net, "norms", []))]):
            norm = net.norms[i]
            g = norm.weight * (norm.running_var + norm.eps).rsqrt()
            layer.weight.mul_(g.view(-1, 1, 1))
            layer.bias = nn.Parameter(norm.bias - norm.running_mean * g, requires_grad=False)
            net.norms[i] = nn.Identity()
    return net


def stepping(net: nn.Module, call: Callable[[Tensor], Tensor] | None = None) -> tuple[Step, Callable[[], None]]:
    call = net if call is None else call

    def step(x: np.ndarray) -> np.ndarray:
        with torch.inference_mode():
            return call(torch.from_numpy(x)[None, None])[0, 0].numpy()

    def reset() -> None:
        with torch.inference_mode():  # what was made in it can be changed only in it
            for module in net.modules():
                if hasattr(module, "forget"):
                    module.forget()

    return step, reset


def onnx_step(model: nn.Module, x: Tensor, folder: Path) -> tuple[Step, Callable[[], None]]:
    """The step form of the ONNX export, its states handed back in."""
    import onnxruntime

    written = ranvier.infer.export_onnx(model, folder / "net.onnx", mode="step", example=x, check=False)
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    session = onnxruntime.InferenceSession(str(written.path), options, providers=["CPUExecutionProvider"])
    names = list(written.inputs)
    kinds = {"tensor(float)": np.float32, "tensor(int64)": np.int64, "tensor(bool)": np.bool_}
    types = {i.name: kinds[i.type] for i in session.get_inputs()}
    state: dict[str, np.ndarray] = {}

    def reset() -> None:
        for name in names[1:]:
            state[name] = np.full(written.inputs[name], written.initial.get(name) or 0, types[name])

    def step(x_t: np.ndarray) -> np.ndarray:
        made = session.run(None, {names[0]: x_t.reshape(written.inputs[names[0]]), **state})
        state.update(zip(names[1:], made[1:], strict=True))
        return made[0].reshape(-1)

    reset()
    return step, reset


def contenders(
    model: nn.Module, x: Tensor, peers: bool, folder: Path, tally: dict[str, int]
) -> dict[str, tuple[Step, Callable[[], None]]]:
    """Everything that is timed, by name; `tally` gets the operations of the event-driven and of the dense net."""
    engine = build(model, x, verify=False)
    print(engine.report(), flush=True)
    tally |= {
        "additions a step": round(sum(row.additions or 0 for row in engine.report().layers)),
        "products of the dense net": round(sum(op.source.size * op.work for op in engine.ops if op.source is not None)),
    }
    flat = folded(model, x[:1])
    memory = ranvier.state.Memory()

    def carried(x_t: np.ndarray) -> np.ndarray:
        with torch.inference_mode(), ranvier.carry(flat, memory):
            return flat(torch.from_numpy(x_t)[None, None])[0, 0].numpy()

    own = swapped(flat, OwnLIF)
    found: dict[str, tuple[Step, Callable[[], None]]] = {
        "ranvier engine": (engine.step, engine.reset),
        "ranvier graph": (carried, memory.reset),
        "torch eager": stepping(own),
    }
    attempts: dict[str, Callable[[], tuple[Step, Callable[[], None]]]] = {}
    if peers:

        def compiled() -> tuple[Step, Callable[[], None]]:
            twin = copy.deepcopy(own)
            return stepping(twin, torch.compile(twin))

        attempts["torch.compile"] = compiled
        attempts["ONNX Runtime"] = lambda: onnx_step(flat, x[:1], folder)
        for library in ("spikingjelly", "snntorch", "norse", "sinabs"):
            attempts[library] = lambda library=library: stepping(swapped(flat, lambda n: Foreign(library, n)))
    for name, make in attempts.items():
        try:
            step, reset = make()
            reset()
            for x_t in x[:3, 0].numpy():
                step(x_t)
            found[name] = (step, reset)
        except Exception as error:
            print(f"{name}: not run ({type(error).__name__}: {str(error).splitlines()[0][:160] if str(error) else ''})")
    return found


def gate(title: str, model: nn.Module, x: Tensor) -> None:
    """No time before the engine gives the graph's outputs, at every step. In float64: in float32 a folded weight may
    round a membrane to the other side of its threshold, in the engine as in any other program."""
    exact = build(model, x.double(), precision="float64", verify=False)
    with torch.no_grad():
        wanted = copy.deepcopy(model).double()(x.double())[:, 0].numpy()
    worst = float(np.abs(exact.run(x[:, 0].double().numpy()) - wanted).max())
    if worst > 1e-9 * max(1.0, float(np.abs(wanted).max())):
        sys.exit(f"{title}: the engine's outputs differ from the graph's by {worst:.1e}; no time is printed")


def compare(title: str, rate: float, peers: bool, steps: int, rounds: int) -> dict[str, Any]:
    make, shape, density = PROBLEMS[title]
    torch.manual_seed(0)
    x = (torch.rand(steps, 1, *shape) < density).float()
    model = firing(make(), (torch.rand(48, 1, *shape) < density).float(), rate)
    with torch.no_grad():
        wanted = model(x)[:, 0].numpy()
    frames = x[:, 0].numpy()
    gate(title, model, x)
    with tempfile.TemporaryDirectory() as folder:
        tally: dict[str, int] = {}
        found = contenders(model, x, peers, Path(folder), tally)
        times: dict[str, list[float]] = {name: [] for name in found}
        equal: dict[str, bool] = {}
        for turn in range(rounds + 1):
            for name, (step, reset) in found.items():
                reset()
                made: list[np.ndarray] = []
                for x_t in frames:
                    start = time.perf_counter()
                    y = step(x_t)
                    passed = time.perf_counter() - start
                    if turn:
                        times[name].append(passed * 1e6)
                    else:
                        made.append(np.array(y).reshape(-1))
                if not turn:
                    equal[name] = bool(np.abs(np.stack(made) - wanted).max() < 1e-3 * max(1.0, np.abs(wanted).max()))
    median = {name: statistics.median(t) for name, t in times.items()}
    ours = median["ranvier engine"]
    print(f"\n{title}, neurons firing at {rate:.1%}, {steps} steps, {rounds} rounds")
    rows: dict[str, Any] = {}
    for name in sorted(median, key=lambda n: median[n]):
        tail = sorted(times[name])[int(0.99 * len(times[name]))]
        rows[name] = {"median_us": round(median[name], 2), "p99_us": round(tail, 2), "same_outputs": equal[name],
                      "times_ours": round(median[name] / ours, 2)}  # fmt: skip
        note = "" if equal[name] else "  other outputs (its own reset or rounding)"
        print(f"  {name:16} {median[name]:9.1f} us   p99 {tail:9.1f} us   {median[name] / ours:6.1f}x{note}")
    print(f"  {tally}")
    return {"net": title, "rate": rate, "us": rows, "operations": tally}


def one_layer(net: nn.Module, shape: tuple[int, ...], rate: float, rounds: int = 60) -> dict[str, float]:
    """Median microseconds of the engine's two kernels and of torch's, on spikes of density `rate`."""
    x = (torch.rand(8, 1, *shape) < rate).float()
    engines = {mode: build(nn.Sequential(net), x, modes=mode, verify=False) for mode in ("event", "dense")}
    layer = next(i for i, op in enumerate(engines["dense"].ops) if len(op.variants) > 1)
    event = next(i for i, op in enumerate(engines["event"].ops) if len(op.variants) > 1)
    times: dict[str, list[float]] = {"event": [], "dense": [], "torch": []}
    with torch.inference_mode():
        for number in range(rounds):
            x_t = x[number % 8, 0].numpy()
            for mode, at in (("event", event), ("dense", layer)):
                engine = engines[mode]
                engine.step(x_t)
                start = time.perf_counter()
                engine._driver.drive(*engine._arenas, engine.table, engine.reals, at, at + 1)
                times[mode].append(time.perf_counter() - start)
            batch = x[number % 8]
            net(batch)
            start = time.perf_counter()
            net(batch)
            times["torch"].append(time.perf_counter() - start)
    return {name: round(statistics.median(t) * 1e6, 2) for name, t in times.items()}


class OverTime(nn.Module):
    """A layer without time on `[T, B, ...]` or `[B, ...]`."""

    def __init__(self, layer: nn.Module, dims: int) -> None:
        super().__init__()
        self.layer, self.dims = layer, dims

    def forward(self, x: Tensor) -> Tensor:
        return self.layer(x.flatten(0, 1)).unflatten(0, x.shape[:2]) if x.dim() == self.dims + 2 else self.layer(x)


def curve(quick: bool) -> list[dict[str, Any]]:
    """Time of a layer as a function of the density of its input."""
    side = 1024 if quick else 4096
    layers: dict[str, tuple[nn.Module, tuple[int, ...]]] = {
        f"linear {side}-{side}": (OverTime(nn.Linear(side, side, bias=False), 1), (side,)),
        "conv 32-64 3x3 on 17x17": (OverTime(nn.Conv2d(32, 64, 3, padding=1, bias=False), 3), (32, 17, 17)),
    }
    rows: list[dict[str, Any]] = []
    for title, (net, shape) in layers.items():
        net.requires_grad_(False)
        crossed: float | None = None
        for rate in RATES:
            times = one_layer(net, shape, rate)
            fastest = min(times["dense"], times["torch"])
            if crossed is None and times["event"] > fastest:
                crossed = rate
            rows.append({"layer": title, "rate": rate, "us": times})
            print(f"{title:26} {rate:6.1%}  event {times['event']:9.1f}  dense {times['dense']:9.1f}  torch "
                  f"{times['torch']:9.1f} us", flush=True)  # fmt: skip
        print(f"{title}: dense is faster from {'none of these rates' if crossed is None else f'{crossed:.1%}'} on")
    return rows


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="fewer steps and rates; nothing is stored")
    parser.add_argument("--no-peers", action="store_true", help="torch eager only")
    parser.add_argument("--only", help="part of a net's name, or 'curve'")
    options = parser.parse_args()
    torch.set_num_threads(1)
    steps, rounds = (50, 2) if options.quick else (200, 5)
    rows: dict[str, Any] = {"nets": [], "rates": [], "layers": []}
    for title in PROBLEMS:
        if options.only is None or options.only in title:
            rows["nets"].append(compare(title, 0.05, not options.no_peers, steps, rounds))
    if options.only is None or options.only == "curve":
        for title in list(PROBLEMS)[:2]:
            for rate in (0.02, 0.2) if options.quick else RATES:
                rows["rates"].append(compare(title, rate, False, steps, max(1, rounds // 2)))
        rows["layers"] = curve(options.quick)
    if not options.quick and options.only is None and not options.no_peers:
        print(store("engine", "python -m benchmarks engine", rows))


if __name__ == "__main__":
    main()
