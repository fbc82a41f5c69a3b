"""Trust: which faults the scores see, and what a monitor that acts on them saves."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ranvier.claims import Arm, Bound, Claim, Metric, Order, Outcome, Scale, Trial, bars
from ranvier.claims.figure import Figure
from ranvier.claims.rules import Check, Holds, verdict_of
from ranvier.claims.table import Table

_PAPER = (
    "Darabi et al. (2023), STARNet, abstract and section on likelihood regret; Trivedi et al. (2025), "
    "Intelligent Sensing-to-Action for Robust Autonomy at the Edge, DATE"
)
_FAULTS: dict[str, tuple[str, float]] = {
    "ghosts": ("ghosts", 0.05), "near": ("near_ghosts", 0.10), "frozen": ("frozen", 1.0), "bias": ("bias", 0.5),
    "missing": ("missing", 0.5), "burst": ("event_burst", 1.0), "delay": ("delay", 0.5), "fog": ("fog", 0.5),
    "stuck": ("stuck_beams", 0.05),
}  # fmt: skip
_PLAIN = {
    "ghosts": "spoofed echoes, 5 %", "near": "near spoofed echoes, 10 %", "frozen": "frozen scan",
    "bias": "ranges 0.5 m too far", "missing": "dropout, 50 %", "burst": "event burst", "delay": "scans 0.5 s late",
    "fog": "fog, half the sight", "stuck": "stuck beams, 5 %",
}  # fmt: skip


def detect(trial: Trial) -> Mapping[str, Outcome]:
    """Scores fitted to clean runs in validation worlds; means of ten scans, clean against faulty, in test worlds."""
    import torch

    from ranvier.loop import GapFollow, PersistenceMap, Sensors, faults
    from ranvier.loop.sensing import build
    from ranvier.loop.trust import LikelihoodRegret, auroc
    from ranvier.loop.trust.calibration import clean_features, make_score, watch

    s = trial.settings

    def features(worlds: int, seed: int, found: list[Any]) -> torch.Tensor:
        kept = watch(PersistenceMap(), build("priority:6", gate=True), GapFollow(), worlds, seed=seed, ticks=s["ticks"],
                     sensors=Sensors.default(found), noise_seed=trial.seed)  # fmt: skip
        stacked, ready = torch.stack(kept.features), torch.stack(kept.ready)
        if seed >= 20_000:
            return clean_features(kept)
        # windows of ten scans of agents that still drive, from 3 s on
        windows = [
            stacked[t : t + 10, row]
            for t in range(30, len(stacked) - 10, 10)
            for row in range(worlds)
            if bool(ready[t : t + 10, row].all())
        ]
        return torch.stack(windows)

    clean = features(s["worlds"] * 2, 20_000, [])
    base = features(s["worlds"], 0, [])
    regret = make_score("likelihood_regret", clean, steps=s["steps"], seed=trial.seed)
    scores: dict[str, Any] = {
        "residual": make_score("residual", clean), "mahalanobis": make_score("mahalanobis", clean), "regret": regret,
        "regret spsa": LikelihoodRegret(regret.vae, "spsa"), "regret lora": LikelihoodRegret(regret.vae, "lora"),
    }  # fmt: skip

    def mean_of(score: Any, windows: torch.Tensor) -> torch.Tensor:
        return score(windows.flatten(0, 1)).view(windows.shape[:2]).mean(1)

    quiet = {name: mean_of(score, base) for name, score in scores.items()}
    values: dict[str, dict[str, float]] = {name: {} for name in scores}
    for key, (fault, severity) in _FAULTS.items():
        loud = features(s["worlds"], 0, [faults.build(fault, severity, start=3.0)])
        for name, score in scores.items():
            found = mean_of(score, loud)
            label = torch.arange(len(quiet[name]) + len(found)) >= len(quiet[name])
            values[name][key] = auroc(torch.cat([quiet[name], found]), label)
    for entry in values.values():
        entry["mean"] = sum(entry[k] for k in _FAULTS) / len(_FAULTS)
    return {name: Outcome(entry) for name, entry in values.items()}


def _beats(table: Table) -> tuple[Holds, str]:
    keys = ("frozen", "bias", "burst")
    gaps = {k: table.difference(k, "regret", "residual") for k in keys}
    said = [verdict_of(gap) for gap in gaps.values()]
    word: Holds = "fails" if "fails" in said else "undecided" if "undecided" in said else "holds"
    return word, "; ".join(f"{k}: {gap}" for k, gap in gaps.items())


def _not_worse(table: Table) -> tuple[Holds, str]:
    gap = table.difference("mean", "regret", "residual")
    return verdict_of(gap, -0.01), f"regret − residual: {gap}"


def _near_gradient(table: Table) -> tuple[Holds, str]:
    gap = table.difference("mean", "regret spsa", "regret")
    return verdict_of(gap, -0.03), f"spsa − gradient: {gap}"


DETECTION = Claim(
    name="loop_trust_detection",
    title="Likelihood regret tells broken sensors from sound ones",
    system="sensing to action",
    paper=_PAPER,
    statement="The regret of a variational autoencoder on features of the task shows untrustworthy "
    "sensor data, without "
    "labels and, by simultaneous perturbation, without gradients.",
    question="On nine faults in a closed loop that senses 6 of 30 sectors: does the regret reach an AUROC of 0.95 on "
    "means of ten scans, and is it better than the plain residual of the prediction?",
    data="simulated on purpose; scores fitted on clean runs in validation worlds, tested on faults in test worlds",
    arms=(
        Arm("residual", "mean of min(|measured − predicted range|, 1 m)"),
        Arm("mahalanobis", "distance of the 24 features from their clean mean"),
        Arm("regret", "likelihood regret, 20 steps of Adam"),
        Arm("regret spsa", "likelihood regret, 50 steps of simultaneous perturbation"),
        Arm("regret lora", "likelihood regret, rank-2 change of the encoder's last layer"),
    ),
    metrics=(
        Metric("mean", "Mean over faults", "AUROC", digits=3),
        *(Metric(key, text, "AUROC", digits=3) for key, text in _PLAIN.items()),
    ),
    rules=(
        Bound("ghosts", "regret", at_least=0.97),
        *(Bound(key, "regret", at_least=0.95) for key in ("near", "frozen", "bias", "missing")),
        Check("mean AUROC of regret ≥ residual − 0.01", _not_worse),
        Check("regret is better than residual on frozen scans, bias and event bursts", _beats),
        Check("mean AUROC of spsa within 0.03 of the gradient's", _near_gradient),
        *(Bound(key, "regret", at_least=0.95, essential=False) for key in ("delay", "fog", "stuck", "burst")),
    ),
    scales={
        "quick": Scale((0, 1, 2), 8, {"worlds": 20, "ticks": 150, "steps": 1500}),
        "full": Scale((0, 1, 2), 60, {"worlds": 200, "ticks": 300, "steps": 6000}),
    },
    run=detect,
    joint=True,
)


def fall_back(trial: Trial) -> Outcome:
    """Success and collisions under faults that begin after 3 s and stay; delay, recovery and false alarms."""
    import statistics

    from ranvier.loop import GapFollow, LidarNav2D, PersistenceMap, SenseActLoop, Sensors, faults
    from ranvier.loop.sensing import build
    from ranvier.loop.trust import calibrate

    assert trial.arm is not None
    s = trial.settings
    first = trial.seed * s["worlds"]

    def parts() -> tuple[Any, Any, Any]:
        return PersistenceMap(), build("priority:6", gate=True), GapFollow()

    monitor = (
        calibrate(*parts(), worlds=s["calibration"], noise_seed=trial.seed) if trial.arm.settings["acts"] else None
    )

    def drive(found: list[Any], on_tick: Any = None) -> Any:
        loop = SenseActLoop(LidarNav2D(s["worlds"]), Sensors.default(found), *parts(), monitor, strict=True)
        return loop.run(s["worlds"], first, noise_seed=trial.seed, on_tick=on_tick)

    values: dict[str, float] = {}
    delays: list[float] = []
    for key in ("near", "dead", "missing90", "frozen", "stuck", "fog", "delay"):
        name, severity = {"dead": ("dead", 1.0), "missing90": ("missing", 0.9), **_FAULTS}[key]
        report = drive([faults.build(name, severity, start=3.0)])
        values[f"success {key}"], values[f"collision {key}"] = report.success, report.collision
        if key in ("near", "dead", "missing90", "frozen"):
            delays += [
                e.first_alarm_us * 1e-6 - 3 if e.first_alarm_us is not None else 50.0
                for e in report.episodes
                if e.ticks > 40
            ]
    speeds: list[Any] = []
    nominal = drive([], lambda lp, tick: speeds.append((tick.command.velocity.norm(dim=-1), lp.env.active.clone())))
    values["success clean"] = nominal.success
    usual = [float(v[a].mean()) for v, a in speeds[20:150] if bool(a.any())]
    target = 0.9 * statistics.fmean(usual)
    speeds.clear()
    drive([faults.build("near_ghosts", 0.1, start=3.0, duration=5.0)],
          lambda lp, tick: speeds.append((tick.command.velocity.norm(dim=-1), lp.env.active.clone())))  # fmt: skip
    back: list[float] = []
    for row in range(s["worlds"]):
        times = [t for t in range(80, len(speeds)) if float(speeds[t][0][row]) >= target]
        if len(speeds) > 80 and bool(speeds[80][1][row]):
            back.append((times[0] - 80) * 0.1 if times else 42.0)
    values["recovery"] = statistics.median(back) if back else 42.0
    values["delay"] = statistics.median(delays)
    values["false alarms"] = nominal.false_alarms_per_1000_s
    return Outcome(values)


def figures(table: Table) -> list[Figure]:
    """What the monitor saves."""
    return [
        bars(table, "success near", "Success with 10 % near spoofed echoes"),
        bars(table, "collision dead", "Collisions with a dead LiDAR"),
    ]


FALLBACK = Claim(
    name="loop_trust_fallback",
    title="A monitor that acts saves the task when sensors fail",
    system="sensing to action",
    paper=_PAPER,
    statement="Filtering out untrusted streams wins back about a tenth of the accuracy that corrupted "
    "sensors cost; in a "
    "loop, where errors feed on themselves, it should decide between reaching the goal and not.",
    question="With faults that begin after 3 s and stay: success, collisions, delay of detection, "
    "recovery, false alarms.",
    data="simulated on purpose; 40 test worlds a seed, other ones each; calibrated in validation worlds",
    arms=(
        Arm("trusting", "no monitor", {"acts": False}),
        Arm("monitored", "residual and agreement with the event ring, fallback states", {"acts": True}),
    ),
    metrics=(
        Metric("success near", "Success, 10 % near spoofed echoes", digits=3),
        Metric("collision dead", "Collisions, dead LiDAR", higher_is_better=False, digits=3),
        Metric("delay", "Median delay of detection", "s", higher_is_better=False),
        Metric("recovery", "Median time to 90 % speed after the fault", "s", higher_is_better=False),
        Metric("false alarms", "Alarms without a fault", "in 1,000 s", higher_is_better=False),
        Metric("success clean", "Success without faults", digits=3),
        *(
            Metric(f"{what} {key}", f"{what.capitalize()}, {text}", higher_is_better=what == "success", digits=3)
            for key, text in (("near", "near spoofed"), ("dead", "dead"), ("missing90", "90 % dropout"),
                              ("frozen", "frozen"), ("stuck", "stuck beams"), ("fog", "fog"), ("delay", "0.5 s late"))
            for what in ("success", "collision")
            if f"{what} {key}" not in ("success near", "collision dead")
        ),
    ),
    rules=(
        Order("success near", ("trusting", "monitored"), margin=0.5),
        Bound("collision dead", "monitored", at_most=0.1),
        Bound("delay", "monitored", at_most=1.0),
        Bound("recovery", "monitored", at_most=3.0),
        Bound("false alarms", "monitored", at_most=1.0),
        Order("success missing90", ("trusting", "monitored"), essential=False),
        Order("success fog", ("trusting", "monitored"), essential=False),
        Order("collision frozen", ("trusting", "monitored"), falling=True, essential=False),
    ),
    scales={
        "quick": Scale((0, 1, 2), 6, {"worlds": 40, "calibration": 60}),
        "full": Scale((0, 1, 2, 3, 4), 30, {"worlds": 40, "calibration": 300}),
    },
    run=fall_back,
    figures=figures,
    comment="Thresholds come from clean validation runs. The fallback drives on what the ring of event pixels says of "
    "ranges; an echo or a gap that ring and memory contradict is not used. Collisions include "
    "those of moving discs with "
    "agents that stand still.",
)  # fmt: skip

CLAIMS = (DETECTION, FALLBACK)
