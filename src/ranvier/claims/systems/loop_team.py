"""Agents that share what they see, over a link that loses messages, with a liar among them."""

from __future__ import annotations

from ranvier.claims import Arm, Claim, Close, Metric, Order, Outcome, Scale, Trial, bars
from ranvier.claims.figure import Figure
from ranvier.claims.rules import Check, Holds, verdict_of
from ranvier.claims.table import Table


def run(trial: Trial) -> Outcome:
    """Three agents side by side; the arm's number of sectors and its link."""
    from ranvier.loop import Comms, GapFollow, LidarNav2D, PersistenceMap, SectorAuction, SenseActLoop
    from ranvier.loop.sensing import build

    assert trial.arm is not None
    a, s = trial.arm.settings, trial.settings
    comms = None
    if a.get("shares"):
        comms = Comms(a.get("loss", 0.0), auction=SectorAuction(), liars=tuple(a.get("liars", ())),
                      distrust=a.get("distrust", True))  # fmt: skip
    loop = SenseActLoop(
        LidarNav2D(s["worlds"], 3), None, PersistenceMap(), build(f"priority:{a['k']}", gate=True), GapFollow(), None,
        comms, strict=True,
    )  # fmt: skip
    report = loop.run(s["worlds"], trial.seed * s["worlds"], noise_seed=trial.seed)
    honest = [e for e in report.episodes if e.agent < 2]  # the third one lies in some arms
    split = report.energy()
    return Outcome(
        {
            "success": sum(e.success for e in honest) / len(honest), "sectors": report.sectors,
            "laser": split["lidar"], "radio": split["radio"], "energy": report.relative(),
        }
    )  # fmt: skip


def _equal(table: Table) -> tuple[Holds, str]:
    gap = table.difference("success", "sharing 4", "alone 6")
    return verdict_of(gap, -0.03), f"sharing 4 − alone 6: {gap}"


def figures(table: Table) -> list[Figure]:
    """Success of the honest agents."""
    return [bars(table, "success", "Success of the two honest agents")]


CLAIM = Claim(
    name="loop_team",
    title="Agents that share echoes sense less each",
    system="sensing to action",
    paper="Trivedi et al. (2025), Intelligent Sensing-to-Action for Robust Autonomy at the Edge, DATE, section on "
    "multi-agent loops",
    statement="Agents that share or complement their sensing need less of it each, if they know whom to trust.",
    question="Three agents that cross the plane side by side: is success with 4 shared sectors each as good as with 6 "
    "alone, what does the loss of messages cost, and does a lying agent harm the others?",
    data="simulated on purpose; 40 test worlds a seed, other ones each",
    arms=(
        Arm("alone 6", "6 sectors each, silence", {"k": 6}),
        Arm("alone 4", "4 sectors each, silence", {"k": 4}),
        Arm("sharing 4", "4 sectors each, shared", {"k": 4, "shares": True}),
        Arm("sharing 4, half lost", "every second message is lost", {"k": 4, "shares": True, "loss": 0.5}),
        Arm("sharing 4, liar", "the third agent sends near ghosts", {"k": 4, "shares": True, "liars": [2]}),
        Arm("liar believed", "the same without judging senders",
            {"k": 4, "shares": True, "liars": [2], "distrust": False}),
    ),
    metrics=(
        Metric("success", "Success of the honest two", digits=3),
        Metric("sectors", "Sectors a tick and agent", higher_is_better=False),
        Metric("laser", "Laser", "mJ a tick", higher_is_better=False, digits=3),
        Metric("radio", "Radio", "mJ a tick", higher_is_better=False, digits=4),
        Metric("energy", "Energy of all stages, share of full", higher_is_better=False, digits=4),
    ),
    rules=(
        Check("success with 4 shared sectors ≥ success with 6 alone − 0.03", _equal),
        Close("success", "sharing 4, liar", "sharing 4", 0.03),
        Order("success", ("alone 4", "sharing 4"), essential=False),
        Close("success", "sharing 4, half lost", "sharing 4", 0.03, essential=False),
        Order("success", ("liar believed", "sharing 4, liar"), essential=False),
    ),
    scales={
        "quick": Scale((0, 1, 2), 6, {"worlds": 40}),
        "full": Scale((0, 1, 2, 3, 4), 30, {"worlds": 200}),
    },
    run=run,
    figures=figures,
)  # fmt: skip
