"""The bots' command line: a command for each kind of run, and what to do with their reports. docs/bots.md shows all of it."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any

import typer
from pydantic import SecretStr

from bot.profile import library

app = typer.Typer(
    help="Bots that use an Atelier server as people do, count what becomes of it, and tell.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,  # they show local variables: tokens
    add_completion=False,
)

KINDS = {  # kind: what it does, the profile and the seconds that it has if none are given
    "load": ("One scenario at its own rate, and what it is like for those who come.", "game-lobby", 30.0),
    "stress": (
        "Raise the load until the objective breaks; find the knee, the shedding, the recovery.",
        "shop-backend",
        10.0,
    ),
    "soak": ("The same load for long, and whether anything of the server grows.", "artists-evening", 7200.0),
    "failover": ("Kill and pause processes under load, and account for every job.", "shop-backend", 40.0),
    "concurrency": (
        "Many at the same moment: logins, equal keys, cancel races, broken connections.",
        "game-lobby",
        60.0,
    ),
}

Server = Annotated[
    str,
    typer.Option(
        envvar="ATELIER_SERVER",
        help="Where it listens: a Twisted endpoint string, or a URL. Empty: this machine, as usual.",
    ),
]
Token = Annotated[str, typer.Option(envvar="ATELIER_TOKEN", help="Who the bots are, where the server asks.")]
Door = Annotated[str, typer.Option(help="By which protocol: tcp, http or amqp.")]
ProfileName = Annotated[
    str, typer.Option("--profile", metavar="NAME|FILE", help=f"{', '.join(library())}, or a .toml file.")
]
Seconds = Annotated[float, typer.Option(min=0.1, help="How long visitors come; of stress, how long each step is.")]
Count = Annotated[int, typer.Option(min=1, help="Visits, at most.")]
Users = Annotated[int | None, typer.Option(help="A closed loop of so many users, instead of the profile's arrivals.")]
Rate = Annotated[
    float | None, typer.Option(help="An open loop of so many visitors a second; of stress, the first rate.")
]
P99 = Annotated[
    float | None, typer.Option(min=0, help="The objective, instead of the profile's: p99 to the result, seconds.")
]
Seed = Annotated[int | None, typer.Option(min=0, help="Of all choices, instead of the profile's.")]
Processes = Annotated[int, typer.Option(min=1, max=256, help="Share the bots among so many processes.")]
Idle = Annotated[int, typer.Option(min=0, help="Connections beside, that are held and not used.")]
Drain = Annotated[float, typer.Option(min=0, help="Seconds that jobs get to end when no more visitors come.")]
WarmUp = Annotated[
    float | None, typer.Option(min=0, help="Of a soak: seconds before slopes are judged, instead of a fifth of it.")
]
Reconnect = Annotated[float, typer.Option(min=0, help="Seconds after which a server that is away is given up.")]
Pids = Annotated[
    list[str] | None, typer.Option("--pid", metavar="NAME=PID", help="A process to watch, and to do faults to.")
]
Faults = Annotated[
    list[str] | None, typer.Option("--fault", metavar="WORDS", help="'pause server at 5 for 2', 'kill db at 9'.")
]
Restarts = Annotated[
    list[str] | None, typer.Option("--restart", metavar="NAME=COMMAND", help="How a killed process is started again.")
]
Sample = Annotated[
    int, typer.Option(min=0, max=200, help="Pictures to show, and to compare with the same request alone.")
]
Compare = Annotated[bool, typer.Option("--compare/--no-compare", help="Whether the sample is asked for again, alone.")]
Tolerance = Annotated[int, typer.Option(min=0, max=255, help="Levels by which it may differ: docs/promises.md.")]
Artifacts = Annotated[
    Path | None,
    typer.Option(
        file_okay=False, help="With amqp: where the server stores pictures (DATA_DIR/artifacts), to check them."
    ),
]
Out = Annotated[Path, typer.Option(file_okay=False, help="Folder for the report: one .json and one .html.")]


def _kind_command(kind: str, about: str, usual_profile: str, usual_seconds: float) -> Callable[..., None]:
    def command(
        server: Server = "",
        token: Token = "",
        door: Door = "tcp",
        profile: ProfileName = usual_profile,
        seconds: Seconds = usual_seconds,
        count: Count = 1_000_000,
        users: Users = None,
        rate: Rate = None,
        p99: P99 = None,
        seed: Seed = None,
        processes: Processes = 1,
        idle: Idle = 0,
        drain: Drain = 120.0,
        warm_up: WarmUp = None,
        reconnect_for: Reconnect = 60.0,
        pids: Pids = None,
        faults: Faults = None,
        restarts: Restarts = None,
        sample: Sample = 12,
        compare: Compare = True,
        tolerance: Tolerance = 1,
        artifacts: Artifacts = None,
        out: Out = Path("outputs/bots"),
    ) -> None:
        from bot.asked import commands_of, faults_of, pids_of, scenario
        from bot.executing import execute
        from bot.profile import load_profile
        from bot.run import Options
        from bot.where import USUAL, Where, known_door

        def options() -> Options:
            given = scenario(load_profile(profile), users=users, rate=rate, p99=p99, faults=faults_of(faults or ()))
            where = Where(
                kind=known_door(door),
                address=server or USUAL[known_door(door)],
                token=SecretStr(token),
                reconnect_for=reconnect_for,
                artifacts=artifacts.resolve() if artifacts else None,
            )
            return Options(
                kind=kind, where=where, profile=given, seconds=seconds, count=count, drain=drain, warm_up=warm_up,
                processes=processes, idle_connections=idle, seed=seed, pids=pids_of(pids or ()),
                restarts=commands_of(restarts or ()), sample=sample, again=compare, tolerance=tolerance, out=out,
            )  # fmt: skip

        async def work(reactor: Any, stop: Any) -> int:
            return await execute(reactor, options(), stop)

        _run(work)

    command.__doc__ = about
    return command


for _kind, (_about, _profile, _seconds) in KINDS.items():
    app.command(_kind)(_kind_command(_kind, _about, _profile, _seconds))


@app.command()
def live(
    server: Server = "",
    token: Token = "",
    profile: Annotated[
        str, typer.Option("--profile", metavar="NAME|FILE", help=f"{', '.join(library(live=True))}, or a .toml file.")
    ] = "face-tracking",
    seconds: Annotated[float, typer.Option(min=0.1, help="How long frames are sent.")] = 20.0,
    sessions: Annotated[int | None, typer.Option(min=1, help="So many, instead of the profile's.")] = None,
    rate: Annotated[float | None, typer.Option(help="Frames a second of each, instead of the profile's.")] = None,
    aligned: Annotated[
        bool | None, typer.Option("--aligned/--unaligned", help="Frames just before the tick, or whenever it comes.")
    ] = None,
    model: Annotated[str, typer.Option(help="A stream model, instead of the profile's.")] = "",
    source: Annotated[str, typer.Option(help="A source of the operator's sends the frames.")] = "",
    record: Annotated[str, typer.Option(help="A file for the first session's frames: a source can play it.")] = "",
    p99: P99 = None,
    seed: Seed = None,
    processes: Processes = 1,
    reconnect_for: Reconnect = 60.0,
    pids: Pids = None,
    faults: Faults = None,
    restarts: Restarts = None,
    out: Out = Path("outputs/bots"),
) -> None:
    """Live sessions on a stream model, frame by frame: latency, what is dropped, who starves."""
    from bot.asked import commands_of, faults_of, live_scenario, pids_of
    from bot.executing import execute
    from bot.live.profile import LiveProfile
    from bot.profile import read_profile
    from bot.run import Options
    from bot.where import USUAL, Where

    def options() -> Options:
        given = live_scenario(
            read_profile(profile, LiveProfile), faults=faults_of(faults or ()),
            sessions=sessions, rate=rate, aligned=aligned, model=model, source=source, record=record,
            p99_seconds=p99,
        )  # fmt: skip
        where = Where(address=server or USUAL["tcp"], token=SecretStr(token), reconnect_for=reconnect_for)
        return Options(
            kind="live", where=where, profile=given, seconds=seconds, processes=processes, seed=seed, sample=0,
            pids=pids_of(pids or ()), restarts=commands_of(restarts or ()), out=out,
        )  # fmt: skip

    async def work(reactor: Any, stop: Any) -> int:
        return await execute(reactor, options(), stop)

    _run(work)


@app.command()
def profiles() -> None:
    """The ready scenarios."""
    from bot.live.profile import LiveProfile
    from bot.profile import Profile, read_profile

    for name in [*library(), *library(live=True)]:
        ready = read_profile(name, LiveProfile if name in library(live=True) else Profile)
        print(f"{name:18} {ready.about}")  # noqa: T201


@app.command()
def compare(
    first: Annotated[Path, typer.Argument(help="A run's .json.")],
    second: Annotated[Path, typer.Argument(help="Another's.")],
    out: Annotated[Path, typer.Option(dir_okay=False, help="The page.")] = Path("outputs/bots/compare.html"),
) -> None:
    """Two runs side by side."""
    from bot.errors import ClientError
    from bot.executing import NONSENSE, tell
    from bot.report.comparing import compare_files

    try:
        compare_files(first, second, out)
    except ClientError as error:
        tell(str(error))
        raise typer.Exit(NONSENSE) from None


@app.command()
def report(record: Annotated[Path, typer.Argument(help="A run's .json.")]) -> None:
    """Draw a run's page anew from its record."""
    from bot.errors import ClientError
    from bot.executing import NONSENSE, tell
    from bot.report.page import page_of
    from bot.report.record import read_record
    from bot.report.writing import write_text

    try:
        page = record.with_suffix(".html")
        write_text(page, page_of(read_record(record)))
        print(page)  # noqa: T201
    except ClientError as error:
        tell(str(error))
        raise typer.Exit(NONSENSE) from None


@app.command(hidden=True)
def part() -> None:
    """One of several processes of a run; its parent speaks to it."""
    from bot.crew import be_a_part

    _run(be_a_part)


def _run(work: Any) -> None:
    from bot.executing import on_reactor

    raise typer.Exit(on_reactor(work))
