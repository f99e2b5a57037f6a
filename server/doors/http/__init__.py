"""The HTTP door: FastAPI in the reactor's loop. `app.make_app` puts it together; docs/http.md is for its users.

A dialect is a module that offers `routes(parts) -> APIRouter`, and stands in the list in `app`.
"""
