"""The command line's commands and their options. What a command does is imported when it is called: --help stays quick."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from atelier.account_commands import audit, keys, users
from atelier.choices import MarkPosition, MarkSize, SumBy, adapter, content, named_inputs, size

app = typer.Typer(
    help="An image-generation server that paints everyone's pictures together, each in its own style.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,  # they show local variables: tokens, prompts
    add_completion=False,
)

webhooks = typer.Typer(
    help="Calls to webhooks that were not made yet, were given up, or may have arrived. Works beside a running server.",
    no_args_is_help=True,
)
app.add_typer(webhooks, name="webhooks")

app.add_typer(users, name="users")
app.add_typer(keys, name="keys")
app.command()(audit)

UINT32 = 2**32 - 1  # beyond, the wire cannot say it; what is too much below is for the server to say

Server = Annotated[
    str, typer.Option(envvar="ATELIER_SERVER", help="Where the server listens, as a Twisted endpoint string.")
]
Token = Annotated[
    str, typer.Option(envvar="ATELIER_TOKEN", help="Who you are, where the server asks.", show_envvar=True)
]
AsJson = Annotated[bool, typer.Option("--json", help="JSON on stdout, and nothing else.")]
JobId = Annotated[str, typer.Argument(metavar="JOB_ID")]

HERE = "tcp:127.0.0.1:9000"


@app.command()
def serve(
    processes: Annotated[
        int | None,
        typer.Option(min=1, help="So many, alike, on the same addresses. [env: ATELIER_PROCESSES]"),
    ] = None,
    plan: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Which processes there are, as TOML (docs/operations.md).")
    ] = None,
) -> None:
    """Run the server. Settings come from the environment and from .env (docs/configuration.md)."""
    from atelier.serve import serve

    raise typer.Exit(serve(processes, plan))


@app.command()
def generate(
    prompts: Annotated[
        list[str] | None, typer.Argument(metavar="PROMPT...", help="All are painted at once.", show_default=False)
    ] = None,
    surprise: Annotated[
        bool, typer.Option("--surprise", help="A text model goes on from each prompt, or writes one of its own.")
    ] = False,
    count: Annotated[int, typer.Option(min=1, max=4, help="Images per prompt.")] = 1,
    adapters: Annotated[
        list[str] | None,
        typer.Option("--adapter", metavar="NAME[:SCALE]", help="A style; may be given several times."),
    ] = None,
    steps: Annotated[int | None, typer.Option(min=1, max=UINT32)] = None,
    guidance: Annotated[float | None, typer.Option(help="0 to 50; 1 or less: none.")] = None,
    seed: Annotated[
        int | None,
        typer.Option(min=0, max=2**64 - 1, help="Image i is painted with seed + i; the same for each prompt."),
    ] = None,
    solver: Annotated[str, typer.Option(help="One of the model's (`atelier models`); its first if not given.")] = "",
    picture_size: Annotated[str | None, typer.Option("--size", metavar="WxH", help="Pixels.")] = None,
    init_image: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Start from this PNG, JPEG or WebP instead of noise.")
    ] = None,
    strength: Annotated[
        float | None, typer.Option(help="With --init-image: the share of the steps that is made; 0.75 if not given.")
    ] = None,
    model: Annotated[str, typer.Option(help="Instead of the server's default.")] = "",
    negative: Annotated[str, typer.Option(help="What should not be there.")] = "",
    priority: Annotated[int, typer.Option(min=-100, max=100, help="Higher is seated earlier.")] = 0,
    sign: Annotated[str | None, typer.Option(metavar="TEXT|FILE.png", help="A visible mark on the picture.")] = None,
    position: Annotated[MarkPosition, typer.Option(help="Where the mark stands.")] = MarkPosition.BOTTOM_RIGHT,
    sign_size: Annotated[MarkSize, typer.Option(help="Its share of the picture's width.")] = MarkSize.MEDIUM,
    opacity: Annotated[float | None, typer.Option(min=0, max=1, help="Of the mark.")] = None,
    artist: Annotated[str, typer.Option(help="Written into the picture's metadata, with --sign.")] = "",
    preview_every: Annotated[int, typer.Option(min=0, max=UINT32, help="Also keep a preview every so many steps.")] = 0,
    out: Annotated[Path, typer.Option(file_okay=False, help="Folder for the pictures.")] = Path("outputs"),
    as_json: AsJson = False,
    server: Server = HERE,
    token: Token = "",
) -> None:
    """Paint pictures: every prompt at once, over one connection."""
    from atelier.generate import generate
    from atelier.running import run
    from atelier.signing import signature
    from bot.orders import SubmitFields

    width, height = size(picture_size) if picture_size else (None, None)
    fields = SubmitFields(
        model=model,
        negative_prompt=negative,
        width=width,
        height=height,
        num_inference_steps=steps,
        guidance_scale=guidance,
        seed=seed,
        num_images=count,
        adapters=[adapter(text) for text in adapters or ()],
        solver=solver,
        priority=priority,
        init_image=content(init_image, "--init-image") if init_image else b"",
        strength=strength,
        signature=signature(sign, position, sign_size, opacity, artist),
        preview_every_steps=preview_every,
    )
    if not prompts and not surprise:
        raise typer.BadParameter("give one, or --surprise", param_hint="PROMPT")
    asked = prompts or [""]
    raise typer.Exit(
        run(lambda reactor: generate(reactor, server, token, asked, fields, out, as_json=as_json, surprise=surprise))
    )


@app.command()
def predict(
    prompt: Annotated[str, typer.Argument(help="What a text goes on from.")] = "",
    model: Annotated[
        str, typer.Option(help="Any that paints nothing; the server's first that writes if not given.")
    ] = "",
    inputs: Annotated[
        list[str] | None,
        typer.Option(
            "--input", metavar="NAME=VALUE", help="Of the model's input_schema; JSON, or else a text. Several."
        ),
    ] = None,
    as_json: AsJson = False,
    server: Server = HERE,
    token: Token = "",
) -> None:
    """Ask a model that paints nothing: a text is printed as it is written."""
    from atelier.running import run
    from atelier.writing import predict

    given = {**({"prompt": prompt} if prompt else {}), **named_inputs(inputs or ())}
    raise typer.Exit(run(lambda reactor: predict(reactor, server, token, model, given, as_json=as_json)))


@app.command()
def watch(
    job_id: JobId,
    out: Annotated[Path | None, typer.Option(file_okay=False, help="Also fetch the pictures into this folder.")] = None,
    as_json: AsJson = False,
    server: Server = HERE,
    token: Token = "",
) -> None:
    """Follow a job until it ends. Ctrl-C stops watching; the job goes on."""
    from atelier.running import run
    from atelier.watch import watch

    raise typer.Exit(run(lambda reactor: watch(reactor, server, token, job_id, out, as_json=as_json)))


@app.command()
def cancel(job_id: JobId, server: Server = HERE, token: Token = "") -> None:
    """Stop a job."""
    from atelier.asking import cancel
    from atelier.running import run

    raise typer.Exit(run(lambda reactor: cancel(reactor, server, token, job_id)))


@app.command()
def status(as_json: AsJson = False, server: Server = HERE, token: Token = "") -> None:
    """How the server is doing."""
    from atelier.asking import status
    from atelier.running import run

    raise typer.Exit(run(lambda reactor: status(reactor, server, token, as_json=as_json)))


@app.command()
def models(as_json: AsJson = False, server: Server = HERE, token: Token = "") -> None:
    """What the server can paint with."""
    from atelier.asking import models
    from atelier.running import run

    raise typer.Exit(run(lambda reactor: models(reactor, server, token, as_json=as_json)))


@app.command()
def demo(
    out: Annotated[Path, typer.Option(file_okay=False, help="Folder for the pictures.")] = Path("outputs"),
    count: Annotated[
        int | None, typer.Option(min=1, max=30, help="Fewer of the ten prompts, or of the mixed jobs.")
    ] = None,
    mix: Annotated[
        bool, typer.Option("--mixed", help="Thirty jobs of all kinds instead: priorities, owners, sizes, five cancels.")
    ] = False,
) -> None:
    """Start a server on a free port, paint ten prompts at once, and stop it again.

    The server of the demo has the built-in settings: ATELIER_ variables, the other names of settings and .env are left aside.
    """
    from atelier.demo import PROMPTS, demo
    from atelier.mixed import JOBS, mixed
    from atelier.running import run

    if mix:
        raise typer.Exit(run(lambda reactor: mixed(reactor, out, count or JOBS)))
    if count is not None and count > len(PROMPTS):
        raise typer.BadParameter(
            f"{count} is more than the {len(PROMPTS)} prompts there are without --mixed", param_hint="'--count'"
        )
    raise typer.Exit(run(lambda reactor: demo(reactor, out, count or len(PROMPTS))))


dlq = typer.Typer(help="Messages of RabbitMQ that were refused (docs/rabbitmq.md).", no_args_is_help=True)
app.add_typer(dlq, name="dlq")


@dlq.command("list")
def dlq_list(
    limit: Annotated[int, typer.Option(min=1, max=10_000, help="At most so many, the oldest first.")] = 50,
    as_json: AsJson = False,
) -> None:
    """Show them, each with its reason."""
    from atelier.dlq import show
    from atelier.running import run

    raise typer.Exit(run(lambda reactor: show(reactor, limit, as_json=as_json)))


@dlq.command("replay")
def dlq_replay(
    key: Annotated[str, typer.Option(help="Only the message of this task_id.")] = "",
    code: Annotated[str, typer.Option(help="Only those refused with this code.")] = "",
) -> None:
    """Publish them anew where they came from, for another try. What is still wrong with them is refused again."""
    from atelier.dlq import replay
    from atelier.running import run

    raise typer.Exit(run(lambda reactor: replay(reactor, key, code)))


@dlq.command("purge")
def dlq_purge(
    yes: Annotated[bool, typer.Option("--yes", help="They cannot be had back.")] = False,
) -> None:
    """Throw all of them away."""
    from atelier.dlq import purge
    from atelier.running import run

    if not yes:
        raise typer.BadParameter("they cannot be had back; say so", param_hint="'--yes'")
    raise typer.Exit(run(purge))


settings = typer.Typer(help="Settings that a node hands out to many (docs/operations.md).", no_args_is_help=True)
app.add_typer(settings, name="settings")


@settings.command("check")
def check_settings(
    folder: Annotated[Path, typer.Argument(metavar="FOLDER", help="As ATELIER_SETTINGS_DIR has it.")],
) -> None:
    """Say what is wrong with a folder, by file and variable; status 2 where something is."""
    from atelier.settings_check import check

    raise typer.Exit(check(folder))


Unknown = Annotated[bool, typer.Option("--unknown", help="Those that may have arrived, and must not be made twice.")]
GivenUp = Annotated[bool, typer.Option("--failed", help="Those that were given up.")]
CallIds = Annotated[list[str] | None, typer.Argument(metavar="ID...", help="As `atelier webhooks list` shows them.")]
AllUnknown = Annotated[bool, typer.Option("--all-unknown", help="All that may have arrived.")]
AllGivenUp = Annotated[bool, typer.Option("--all-failed", help="All that were given up.")]


@webhooks.command("list")
def list_webhooks(
    unknown: Unknown = False,
    failed: GivenUp = False,
    most: Annotated[int, typer.Option("--most", min=1, max=100_000, help="The oldest so many.")] = 100,
    as_json: AsJson = False,
) -> None:
    """What is not told yet, and what a person should look at."""
    from atelier.webhooks import show

    raise typer.Exit(show(unknown=unknown, failed=failed, most=most, as_json=as_json))


@webhooks.command("retry")
def retry_webhooks(ids: CallIds = None, all_unknown: AllUnknown = False, all_failed: AllGivenUp = False) -> None:
    """Make calls again, now. A `failed` that may have arrived makes some backends refund a second time: ask there first."""
    from atelier.webhooks import retry

    raise typer.Exit(retry(ids or (), unknown=all_unknown, failed=all_failed))


@webhooks.command("dismiss")
def dismiss_webhooks(ids: CallIds = None, all_unknown: AllUnknown = False, all_failed: AllGivenUp = False) -> None:
    """Calls that somebody has seen to are listed no more, and never made again."""
    from atelier.webhooks import dismiss

    raise typer.Exit(dismiss(ids or (), unknown=all_unknown, failed=all_failed))


@app.command()
def usage(
    owner: Annotated[str, typer.Option(help="Of one owner; of all if not given.")] = "",
    since: Annotated[str, typer.Option("--from", metavar="DAY", help="The first day (UTC): 2026-11-01.")] = "",
    until: Annotated[str, typer.Option("--to", metavar="DAY", help="The last day; today if not given.")] = "",
    by: Annotated[
        list[SumBy] | None,
        typer.Option(help="What is added up by; may be given several times. Days and owners if not."),
    ] = None,
    as_csv: Annotated[bool, typer.Option("--csv", help="Comma-separated values on stdout.")] = False,
    as_json: AsJson = False,
) -> None:
    """What owners used: jobs, pictures, cost, seconds of the device, prices. Works beside a running server."""
    from atelier.usage import show

    raise typer.Exit(show(owner, since, until, by or (SumBy.DAY, SumBy.OWNER), as_json=as_json, as_csv=as_csv))


@app.command()
def quota(
    owner: Annotated[str, typer.Argument(metavar="OWNER")] = "",
    pictures: Annotated[int | None, typer.Option(min=0, max=10**9, help="A day (UTC). 0: none at all.")] = None,
    cost: Annotated[float | None, typer.Option(min=0, max=1e12, help="The same of cost (docs/limits.md).")] = None,
    unlimited: Annotated[
        bool, typer.Option("--unlimited", help="As much as they like, whatever the settings say.")
    ] = False,
    default: Annotated[bool, typer.Option("--default", help="As the settings say.")] = False,
    as_json: AsJson = False,
) -> None:
    """Show or set what an owner may have in a day, instead of DAILY_PICTURES and DAILY_COST; holds from the next job on."""
    from atelier.usage import quota as run_quota

    raise typer.Exit(run_quota(owner, pictures, cost, unlimited=unlimited, default=default, as_json=as_json))
