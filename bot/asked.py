"""What the command line's words mean: faults, processes, and a scenario with another rate or number of users."""

from __future__ import annotations

import re
from collections.abc import Sequence

from pydantic import ValidationError

from bot.live.profile import Live, LiveProfile
from bot.profile import Closed, Fault, Poisson, Profile

_FAULT = re.compile(r"(kill|pause|terminate) (\S+) at (\d+(?:\.\d+)?)(?: for (\d+(?:\.\d+)?))?")
FAULT_FORM = "'kill NAME at SECONDS', 'pause NAME at SECONDS for SECONDS' or 'terminate NAME at SECONDS'"


class NotUnderstood(Exception):
    """Words that mean nothing here. The text says what would."""


def pids_of(words: Sequence[str]) -> dict[str, int]:
    """NAME=PID each. Raises NotUnderstood."""
    pids = {}
    for word in words:
        name, _, pid = word.partition("=")
        if not name or not pid.isdecimal():
            raise NotUnderstood(f"--pid {word!r} must be NAME=PID, as server=4711")
        pids[name] = int(pid)
    return pids


def commands_of(words: Sequence[str]) -> dict[str, str]:
    """NAME=COMMAND each. Raises NotUnderstood."""
    commands = {}
    for word in words:
        name, _, command = word.partition("=")
        if not name or not command.strip():
            raise NotUnderstood(f"--restart {word!r} must be NAME=COMMAND, as server='make run'")
        commands[name] = command
    return commands


def faults_of(words: Sequence[str]) -> tuple[Fault, ...]:
    """Faults in a few words each. Raises NotUnderstood."""
    faults = []
    for word in words:
        match = _FAULT.fullmatch(word.strip())
        if match is None:
            raise NotUnderstood(f"--fault {word!r} must be {FAULT_FORM}")
        do, what, at, seconds = match.groups()
        given = {"do": do, "what": what, "at": at} | ({"seconds": seconds} if seconds else {})
        try:
            faults.append(Fault.model_validate(given))
        except ValidationError as error:
            problem = error.errors()[0]
            raise NotUnderstood(f"--fault {word!r}: {problem['loc'][0]} {problem['msg']}") from None
    return tuple(faults)


def scenario(
    profile: Profile, *, users: int | None, rate: float | None, p99: float | None, faults: tuple[Fault, ...]
) -> Profile:
    """The profile with what the command line says instead. Raises NotUnderstood."""
    changed: dict[str, object] = {"faults": faults} if faults else {}
    arrivals = profile.arrivals
    if users is not None and rate is not None:
        raise NotUnderstood("--users is a closed loop and --rate an open one: give one of them")
    if p99:
        changed["objectives"] = profile.objectives.model_copy(update={"p99_result_seconds": p99})
    if users is not None:
        think = arrivals.think_seconds if isinstance(arrivals, Closed) else Closed.model_fields["think_seconds"].default
        changed["arrivals"] = Closed(process="closed", users=users, think_seconds=think)
    if rate is not None:
        if rate <= 0:
            raise NotUnderstood(f"--rate must be more than 0 visitors a second, not {rate:g}")
        connections = arrivals.users if isinstance(arrivals, Closed) else arrivals.connections
        changed["arrivals"] = Poisson(process="poisson", rate=rate, connections=connections)
    return profile.model_copy(update=changed)


def live_scenario(profile: LiveProfile, *, faults: tuple[Fault, ...], **said: object) -> LiveProfile:
    """The same for live sessions; what is None or "" is not said. Raises NotUnderstood."""
    changed = {name: value for name, value in said.items() if value not in (None, "")}
    try:
        live = Live.model_validate(profile.live.model_dump() | changed)
    except ValidationError as error:
        problem = error.errors()[0]
        raise NotUnderstood(f"--{str(problem['loc'][0]).replace('_', '-')}: {problem['msg']}") from None
    return profile.model_copy(update={"live": live} | ({"faults": faults} if faults else {}))
