"""Stress: the load is raised until the objective breaks; then far beyond, where the server has to turn visitors away in good
order; then back, and it has to be as quick as before.

    baseline → × GROWTH, again and again → between the last good rate and the first bad one → overload → recovery
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from bot.figures import Figures
from bot.ledger import Accounts, Finding
from bot.profile import Poisson, Profile
from bot.run import Run

GROWTH = 1.6  # of the rate, from step to step
REFINEMENTS = 2  # steps between the last good rate and the first bad one: the knee to about 15 %
STEPS = 16  # at most: 1.6 to the power of 16 is 1,800 times the first rate
OVERLOAD = 3.0  # times the knee, at least
OVERFLOW = 1.5  # times the jobs that may be pending, at least, within the overload
RECOVERED = 1.5  # times the baseline's p99 …
SLACK = 0.25  # … and seconds beside: a step of a batch more or less
RECOVERY_TIME = 60.0  # seconds, at most
PROBE = 2.0  # seconds of the baseline's load at a time
CONNECTIONS = 20


@dataclass(frozen=True, slots=True)
class Step:
    """A rate, and what it was like. Visitors a second; seconds."""

    what: str
    rate: float
    held: bool
    throughput: float
    p50: float | None
    p99: float | None
    refused: int
    failed: int

    def as_json(self) -> dict[str, Any]:
        """For the record."""
        return {name: getattr(self, name) for name in self.__slots__}


class Stress:
    """The search. `seconds` is a step's length."""

    def __init__(self, run: Run, first_rate: float, seconds: float) -> None:
        self._run = run
        self._first_rate = first_rate
        self._seconds = seconds
        self._objective = run.options.profile.objectives.p99_result_seconds or 10.0
        self._over = 0.0  # when the overload was
        self.steps: list[Step] = []

    async def search(self) -> dict[str, Any]:
        """All of it."""
        run = self._run
        baseline = await self._step("baseline", self._first_rate)
        if not baseline.held:
            text = (
                f"{baseline.rate:g} a second is too much already: p99 {_shown(baseline.p99)}, aim {self._objective:g} s"
            )
            run.findings.append(Finding("the objective holds at first", False, f"{text}; give a lower --rate"))
            return self._record(None, baseline, {})
        knee = await self._knee(baseline)
        overload: dict[str, Any] = {}
        if not run.stop.is_set():
            overload = await self._overload(knee.rate)
            overload["recovery_seconds"] = await self._recovery(baseline)
        return self._record(knee, baseline, overload)

    async def _knee(self, baseline: Step) -> Step:
        """The highest rate that held."""
        good, bad = baseline, None
        while bad is None and len(self.steps) < STEPS and not self._run.stop.is_set():
            step = await self._step("raise", good.rate * GROWTH)
            good, bad = (step, None) if step.held else (good, step)
        for _ in range(REFINEMENTS):
            if bad is None or self._run.stop.is_set():
                break
            step = await self._step("refine", (good.rate * bad.rate) ** 0.5)
            good, bad = (step, bad) if step.held else (good, step)
        text = f"{good.rate:.2f} a second hold p99 ≤ {self._objective:g} s"
        text += f", {bad.rate:.2f} do not" if bad else "; nothing broke it so far"
        self._run.findings.append(Finding("the knee", True, text))
        return good

    async def _step(self, what: str, rate: float) -> Step:
        self._run.doing = f"{what}: {rate:.2f} visitors a second"
        figures, _ = await self._run.shift(self._at(rate), self._seconds)
        return self._noted(what, rate, figures)

    async def _overload(self, knee: float) -> dict[str, Any]:
        """More than it can keep: it has to say so, and when to come again."""
        room = self._run.door.room or 0
        rate = max(OVERLOAD * knee, OVERFLOW * room / self._seconds)
        self._run.doing = f"overload: {rate:.1f} visitors a second"
        self._over = self._run.now() + self._run.crew.lead + self._seconds
        figures, accounts = await self._run.shift(self._at(rate), self._seconds, cancel_rest=True)
        step = self._noted("overload", rate, figures)
        self._judge_shedding(step, accounts)
        counts = figures.counts()
        share = counts["refused"] / counts["intended"] if counts["intended"] else 0.0
        return {"rate": rate, "shed_share": share, "codes": dict(figures.codes)}

    def _judge_shedding(self, step: Step, accounts: Accounts) -> None:
        text = (
            f"{step.refused} turned away with RESOURCE_EXHAUSTED and a time to come again, at {step.rate:.1f} a second"
        )
        passed = step.refused > 0 and not accounts.misjudged
        if accounts.misjudged:
            text = next(iter(accounts.misjudged.values()))
        elif not step.refused:
            text = f"nobody was turned away at {step.rate:.1f} a second, {OVERLOAD:g} times the knee"
        self._run.findings.append(Finding("it sheds what it cannot keep", passed, text, tuple(accounts.misjudged)))

    async def _recovery(self, baseline: Step) -> float | None:
        """Seconds from the end of the overload until a probe is as quick as the baseline was; None if none is."""
        aim = (baseline.p99 or 0.0) * RECOVERED + SLACK
        recovered: float | None = None
        p99: float | None = None
        while recovered is None and self._run.now() - self._over < RECOVERY_TIME and not self._run.stop.is_set():
            self._run.doing = "recovery: the first rate again"
            probe = self._run.now() - self._over
            figures, _ = await self._run.shift(self._at(self._first_rate), PROBE)
            p99 = figures.latencies["result"].percentile(99)
            recovered = probe if p99 is not None and p99 <= aim else None
        text = f"{recovered:.1f} s after the overload" if recovered is not None else f"not within {RECOVERY_TIME:g} s"
        text = f"{text}: p99 {_shown(p99)}, at first {_shown(baseline.p99)}"
        self._run.findings.append(Finding("it is as quick as before", recovered is not None, text))
        return recovered

    def _noted(self, what: str, rate: float, figures: Figures) -> Step:
        counts = figures.counts()
        p99 = figures.latencies["result"].percentile(99)
        held = counts["refused"] == counts["failed"] == 0 and p99 is not None and p99 <= self._objective
        step = Step(
            what=what, rate=rate, held=held, throughput=counts["succeeded"] / self._seconds,
            p50=figures.latencies["result"].percentile(50), p99=p99, refused=counts["refused"], failed=counts["failed"],
        )  # fmt: skip
        self.steps.append(step)
        return step

    def _at(self, rate: float) -> Profile:
        arrivals = Poisson(process="poisson", rate=rate, connections=CONNECTIONS)
        return self._run.options.profile.model_copy(update={"arrivals": arrivals})

    def _record(self, knee: Step | None, baseline: Step, overload: dict[str, Any]) -> dict[str, Any]:
        return {
            "objective_p99_seconds": self._objective,
            "baseline_p99_seconds": baseline.p99,
            "knee_rate": knee.rate if knee else None,
            "overload": overload,
            "steps": [step.as_json() for step in self.steps],
        }


def _shown(seconds: float | None) -> str:
    return f"{seconds:.2f} s" if seconds is not None else "unknown"
