"""What the routes of predictions have in common: models found by their names, predictions made, waited for and told."""

from __future__ import annotations

from fastapi import Request, Response
from fastapi.responses import JSONResponse

from server.commands import CheckSubmit, GetJob, GetModel, Predict, Submit
from server.doors.http.parts import HttpParts, carry_out, has_ended, look_at, submit
from server.doors.http.pictures import base_url
from server.doors.http.predictions.answers import prediction_body
from server.doors.http.predictions.asking import (
    ModelPredictionRequest,
    PredictionRequest,
    command_of,
    in_words_of_input,
    picture_input,
    predict_of,
    words_for_model,
)
from server.doors.http.predictions.images import Images
from server.doors.http.predictions.wishes import Preference, cancel_after, preference
from server.doors.http.waiting import wait_for_end
from server.errors import Code, Refusal
from server.job import JobState
from server.model_names import not_here
from server.prediction import STATUSES
from server.replies import FoundModel, JobView, ModelView


class Predictions:
    """What the routes have in common."""

    def __init__(self, parts: HttpParts) -> None:
        self.parts = parts
        self.images = Images(parts.outgoing, parts.request_limits.max_init_image_bytes)
        self.since = parts.clock.seconds()

    async def model(self, owner: str, model_owner: str, name: str, version: str = "") -> FoundModel:
        """The one of a path. Raises Refusal (MODEL_NOT_FOUND)."""
        wanted = f"{model_owner}/{name}:{version}" if version else f"{model_owner}/{name}"
        return await self._find_model(owner, wanted, "version" if version else "model")

    async def offered(self, owner: str, model_owner: str, name: str) -> ModelView:
        """The same, of which there is a version that can be used. Raises Refusal (MODEL_NOT_FOUND)."""
        found = (await self.model(owner, model_owner, name)).model
        if isinstance(found, ModelView):
            return found
        raise not_here(f"{model_owner}/{name}", (view.name for view in self.parts.health.models()), "model")

    async def model_asked_for(self, owner: str, asked: PredictionRequest) -> FoundModel:
        """The most exact one of those that are named. Raises Refusal: none is named, one that is not here, or two that differ."""
        named = words_for_model(asked)
        found = [(field, word, await self._find_model(owner, word, field)) for field, word in named]
        best = next((one for _, _, one in found if one.version is not None), found[0][2])
        for field, word, one in found:
            if not _is_same(one, best):
                raise Refusal.invalid(field, f"the same model as {named[0][0]}, or left out", word)
        return best

    async def _find_model(self, owner: str, wanted: str, field: str) -> FoundModel:
        found: FoundModel = await carry_out(self.parts, GetModel(owner=owner, model=wanted, field=field))
        return found

    async def find(self, owner: str, prediction_id: str) -> JobView:
        """A prediction by its id, or by the one that its owner gave it. Raises Refusal (JOB_NOT_FOUND)."""
        try:
            return await look_at(self.parts, owner, prediction_id)
        except Refusal as refusal:
            if refusal.code is not Code.JOB_NOT_FOUND:
                raise
            found: JobView = await carry_out(self.parts, GetJob(owner=owner, idempotency_key=prediction_id))
            return found

    async def create(
        self,
        request: Request,
        asked: ModelPredictionRequest,
        owner: str,
        model: FoundModel,
        prefer: str,
        after: str,
        key: str,
    ) -> Response:
        """Admit it, and wait as long as is wished for, counted from here."""
        began = self.parts.clock.seconds()
        wish, deadline = preference(prefer), cancel_after(after)
        command = await self._command(asked, owner, model, deadline, key)
        try:
            admitted = await submit(self.parts, command)
        except Refusal as refusal:
            raise (in_words_of_input(refusal) if isinstance(command, Submit) else refusal) from None
        view = self.parts.board.view(admitted.job)
        if wish.wait and not has_ended(view):
            left = max(0.0, wish.wait - (self.parts.clock.seconds() - began))
            view = await wait_for_end(self.parts, request, owner, admitted.job.id, left)
        return self._created(request, view, wish, duplicate=admitted.duplicate)

    async def _command(
        self, asked: ModelPredictionRequest, owner: str, model: FoundModel, deadline: float | None, key: str
    ) -> Submit | Predict:
        """By the kind of the model. Raises Refusal, RequestValidationError."""
        if not model.paints:
            return predict_of(asked, owner=owner, model=model.word, deadline_seconds=deadline, idempotency_key=key)
        given = picture_input(asked)

        def command(image: bytes) -> Submit:
            return command_of(
                asked,
                given,
                owner=owner,
                model=model.word,
                image=image,
                deadline_seconds=deadline,
                idempotency_key=key,
            )

        try:
            if not given.image:
                return command(b"")
            await carry_out(
                self.parts, CheckSubmit(command(b"?"))
            )  # nothing is fetched for what would be refused anyway
            return command(await self.images.read(given.image))
        except Refusal as refusal:
            raise in_words_of_input(refusal) from refusal

    def _created(self, request: Request, view: JobView, wish: Preference, *, duplicate: bool) -> Response:
        body = prediction_body(view, self.parts.board, base_url(self.parts, request))
        unended = not has_ended(view)
        if wish.wait and unended:  # Replicate's client takes any other status of a held answer for the end
            body["status"] = STATUSES[JobState.STARTING]
        headers = {"Location": body["urls"]["get"]}
        if wish.applied:
            headers["Preference-Applied"] = wish.applied
        status = 202 if unended and wish.applied else 201
        return JSONResponse(body, 200 if duplicate else status, headers)

    def told(self, request: Request, view: JobView) -> Response:
        """One, as it stands."""
        return JSONResponse(prediction_body(view, self.parts.board, base_url(self.parts, request)))


def _is_same(one: FoundModel, other: FoundModel) -> bool:
    """Whether two words may stand beside each other."""
    versions = {found.version.version.version for found in (one, other) if found.version is not None}
    return (one.model.record or one.model.card) == (other.model.record or other.model.card) and len(versions) < 2
