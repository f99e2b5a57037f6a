"""The application: every route, and what all requests pass."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from fastapi import APIRouter, FastAPI
from starlette.middleware.cors import CORSMiddleware

from server import __version__
from server.doors.http import (
    accounts,
    adapters,
    batches,
    errors,
    generate,
    health,
    jobs,
    measured,
    models,
    openai_images,
    pages,
    pictures,
    predictions,
    settings,
    usage,
    visibility,
)
from server.doors.http.measured import Measured
from server.doors.http.middleware import Doorstep
from server.doors.http.parts import HttpParts
from server.doors.http.shortcuts import Shortcuts

Routes = Callable[[HttpParts], APIRouter]

DIALECTS: Sequence[Routes] = (
    health.routes,
    generate.routes,  # with /health, which is asked for most
    batches.routes,  # before a job that could be called `batch`
    jobs.routes,
    usage.routes,  # before a model that could be called `metrics`
    models.routes,  # before a model that could be called `promote`
    predictions.routes,
    openai_images.routes,
    adapters.routes,
    pictures.routes,
    visibility.routes,
    accounts.routes,
    settings.routes,
    measured.routes,
    pages.routes,
)
"""Everything that is served, in the order in which paths are tried: each router that is passed costs 5 µs."""

_SENT = (
    "Authorization",
    "X-API-Key",
    "Content-Type",
    "Idempotency-Key",
    "Last-Event-ID",
    "Prefer",
    "Cancel-After",
    "X-Request-ID",
)
_READ = (
    "X-Request-ID",
    "Location",
    "Retry-After",
    "ETag",
    "Preference-Applied",
    "RateLimit",
    "RateLimit-Policy",
    "X-RateLimit-Limit",
    "X-RateLimit-Remaining",
    "X-RateLimit-Reset",
)


def make_app(parts: HttpParts) -> FastAPI:
    """The ASGI application. It has no state but `parts`, and begins nothing."""
    app = FastAPI(
        title="Atelier",
        version=__version__,
        description="Pictures for everyone at once, each in its own style.",
        openapi_url=None,  # it would be written anew for each request; server.doors.http.pages has ours
        docs_url=None,  # they would load their scripts from elsewhere; ours are there, too
        redoc_url=None,
        telemetry={
            "tracing": False,
            "metrics": False,
            "logs": False,
        },  # we have our own; this looks for itself at each request
        responses=errors.documented(400, 401, 403, 413, 422, 500, 503),
        exception_handlers=errors.handlers(parts.clock),
    )
    app.state.parts = parts
    routers = [routes(parts) for routes in DIALECTS]
    app.state.routes = [route for router in routers for route in router.routes]
    for router in routers:
        app.include_router(router)
    app.add_middleware(
        Shortcuts, routes=app.state.routes, by_body={"submit_job": jobs.shortcut(parts)}, clock=parts.clock
    )
    app.add_middleware(Doorstep, parts=parts)
    if parts.measures is not None:
        app.add_middleware(Measured, meter=parts.measures.meter, clock=parts.clock)
    if parts.cors_origins:  # outermost: a refusal has to be readable by the page, too
        app.add_middleware(
            CORSMiddleware,
            allow_origins=parts.cors_origins,
            allow_methods=("GET", "HEAD", "POST", "PUT", "PATCH", "DELETE"),
            allow_headers=_SENT,
            expose_headers=_READ,
        )
    return app
