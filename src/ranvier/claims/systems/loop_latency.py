"""How much late feedback costs, with and without prediction of where the agent will be."""

from __future__ import annotations

from collections.abc import Callable

from ranvier.claims import Arm, Claim, Metric, Outcome, Scale, Trial, curves
from ranvier.claims.figure import Figure
from ranvier.claims.rules import Check, Holds
from ranvier.claims.table import Table

_DELAYS = (0, 50, 100, 200, 400)


def run(trial: Trial) -> Outcome:
    """The same worlds at every delay; ticks that come while a cycle runs are left out."""
    from ranvier.loop import GapFollow, LatencyModel, LidarNav2D, PersistenceMap, SenseActLoop
    from ranvier.loop.predict.plain import NoMemory
    from ranvier.loop.sensing import build

    assert trial.arm is not None
    a, s = trial.arm.settings, trial.settings
    values: dict[str, float] = {}
    for delay in _DELAYS:
        loop = SenseActLoop(
            LidarNav2D(s["worlds"]), None, PersistenceMap() if a["memory"] else NoMemory(),
            build(a["policy"], gate=True), GapFollow(), latency=LatencyModel(extra_us=1000.0 * delay),
            compensate=a["compensate"], strict=True,
        )  # fmt: skip
        report = loop.run(s["worlds"], trial.seed * s["worlds"], noise_seed=trial.seed)
        values[f"success {delay}"] = report.success
        values[f"return {delay}"] = report.mean_return
    values["loss 50"] = values["success 0"] - values["success 50"]
    values["loss 200"] = values["success 0"] - values["success 200"]
    return Outcome(values, {"success": [(float(d), values[f"success {d}"]) for d in _DELAYS],
                            "return": [(float(d), values[f"return {d}"]) for d in _DELAYS]})  # fmt: skip


def _half(delay: int) -> Callable[[Table], tuple[Holds, str]]:
    def test(table: Table) -> tuple[Holds, str]:
        from ranvier.claims.rules import verdict_of
        from ranvier.claims.spread import Spread

        plain, ahead = table.values(f"loss {delay}", "no prediction"), table.values(f"loss {delay}", "prediction")
        room = Spread.of([0.5 * p - a for p, a in zip(plain, ahead, strict=True)])
        detail = f"lost without: {Spread.of(plain)}, with: {Spread.of(ahead)}"
        return verdict_of(room), detail

    return test


def figures(table: Table) -> list[Figure]:
    """Success and return over the delay."""
    return [
        curves(table, "success", "Success over feedback delay", "added computation, ms", "success"),
        curves(table, "return", "Return over feedback delay", "added computation, ms", "return"),
    ]


CLAIM = Claim(
    name="loop_latency",
    title="Prediction makes up for late feedback",
    system="sensing to action",
    paper="Trivedi et al. (2025), Intelligent Sensing-to-Action for Robust Autonomy at the Edge, DATE, section on "
    "synchronisation and delays",
    statement="Delays between sensing and action upset closed loops; prediction should make up for them.",
    question="With 50 ms more of computation, does a loop that remembers echoes and predicts the view from where its "
    "command will take effect lose at most half of what a loop without prediction loses?",
    data="simulated on purpose; 60 test worlds a seed, other ones each",
    arms=(
        Arm("prediction", "6 sectors, memory of echoes, view predicted for the moment of action",
            {"policy": "priority:6", "memory": True, "compensate": True}),
        Arm("memory only", "6 sectors, memory of echoes, view as of the moment of sensing",
            {"policy": "priority:6", "memory": True, "compensate": False}),
        Arm("no prediction", "all sectors at every tick, nothing remembered, nothing predicted",
            {"policy": "full", "memory": False, "compensate": False}),
    ),
    metrics=(
        Metric("loss 50", "Success lost at 50 ms", higher_is_better=False, digits=3),
        Metric("loss 200", "Success lost at 200 ms", higher_is_better=False, digits=3),
        *(Metric(f"success {d}", f"Success at {d} ms", digits=3) for d in _DELAYS),
        *(Metric(f"return {d}", f"Return at {d} ms", digits=3) for d in _DELAYS),
    ),
    rules=(
        Check("at 50 ms, prediction loses at most half of what no prediction loses", _half(50)),
        Check("the same at 200 ms, where ticks are left out", _half(200), essential=False),
    ),
    scales={
        "quick": Scale((0, 1, 2), 5, {"worlds": 60}),
        "full": Scale((0, 1, 2, 3, 4), 15, {"worlds": 200}),
    },
    run=run,
    figures=figures,
    comment="Without prediction the loop gets all sectors, since with six of thirty and no memory it "
    "would hardly move.",
)  # fmt: skip
