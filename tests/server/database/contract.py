"""What every `JobStore` must do, and what a node's records must. A store's test file derives from these and gives its store."""

from __future__ import annotations

from dataclasses import replace
from typing import Any, Protocol

import pytest

from ai.types import AdapterUse, CustomRequest, GenerationRequest, InitImage, SavedImage, TextRequest
from server.database.sql import EVENTS_OF_A_LIFE
from server.errors import Code, JobFailure
from server.events import Artifact
from server.interfaces import Claims, Forgetting, JobStore, Latents, Leases, Takings
from server.job import TERMINAL, TRANSITIONS, IllegalTransition, Job, JobState, LeaseLost, moved
from server.listing import JobPage, place_of
from server.webhook import HookEvent, HookKind, Webhook
from tests.server.moving import move_job
from tests.server.pictures import a_png
from watermark import ImageMark, Signature, TextMark

REQUEST = GenerationRequest(
    request_id="job-1",
    model="demo",
    prompt="별 ✨ \U0001f600",
    negative_prompt="'; drop table jobs; --",
    width=64,
    height=72,
    num_inference_steps=20,
    guidance_scale=4.5,
    seed=2**63 - 5,
    num_images=4,
    adapters=(AdapterUse("ink.v2", -0.5), AdapterUse("chalk"), AdapterUse("ink.v2", 1 / 3)),
    owner="ada",
    priority=-100,
    deadline_seconds=60.5,
    preview_every=3,
    init_image=InitImage(2, 1, bytes(range(250, 256))),
    strength=0.3,
    refiner_strength=0.25,
)
ARTIFACT = Artifact(
    image_index=3,
    key="jobs/job-1/3.png",
    url="https://pictures.test/jobs/job-1/3.png",
    size=123,
    sha256="ab" * 32,
    content_type="image/png",
    width=64,
    height=72,
    seed=2**63 - 2,
)

FAILURE = JobFailure(Code.GPU_OUT_OF_MEMORY, "no room", field="width", limit="64", retry_after_seconds=1.5)


def a_job(job_id: str = "job-1", **changes: Any) -> Job:
    """A job that was never stored."""
    job = Job(
        id=job_id,
        owner="ada",
        idempotency_key="",
        body_hash="00" * 32,
        request=replace(REQUEST, request_id=job_id),
        signature=Signature(TextMark("Ada"), artist="Ada L."),
        deadline_seconds=60.5,
        created_at=1_700_000_000.25,
    )
    return replace(job, **changes)


WAYS: dict[JobState, tuple[JobState, ...]] = {
    JobState.QUEUED: (),
    JobState.STARTING: (JobState.STARTING,),
    JobState.PROCESSING: (JobState.STARTING, JobState.PROCESSING),
    JobState.RETRYING: (JobState.STARTING, JobState.RETRYING),
    JobState.SUCCEEDED: (JobState.STARTING, JobState.PROCESSING, JobState.SUCCEEDED),
    JobState.FAILED: (JobState.FAILED,),
    JobState.CANCELED: (JobState.CANCELED,),
}


async def brought_to(store: JobStore, state: JobState, job: Job) -> Job:
    """A stored job in `state`."""
    await store.admit(job)
    kept = job
    for number, step in enumerate(WAYS[state], start=1):
        kept = await move_job(store, job.id, step, fence=1, at=job.created_at + number, last_event=number)
    return kept


class JobStoreContract:
    """Derive, and override the fixture `store`."""

    @pytest.fixture
    def store(self) -> JobStore:
        """A store that holds nothing, and forgets nothing during a test."""
        raise NotImplementedError

    async def test_an_admitted_job_is_kept_as_it_is(self, store: JobStore) -> None:
        """Every field comes back, whatever characters and numbers it holds."""
        job = a_job(idempotency_key="key")
        assert await store.admit(job) == job
        assert await store.get("job-1") == job
        assert await store.find("ada", "key") == job

    async def test_a_text_s_job_is_kept_as_it_is(self, store: JobStore) -> None:
        """What was asked for, and what came of it: whatever characters both hold, also those that our own notes are made of."""
        request = TextRequest(
            request_id="job-1", model="words", prompt='{"job_inputs": "request"} \0 \u2028', max_length=9, temperature=0.5,
            top_p=0.9, top_k=3, seed=2**63 - 1, stop=("\n", "kind"),
        )  # fmt: skip
        job = a_job(request=request, signature=None)
        assert await store.admit(job) == job
        assert await store.get("job-1") == job
        begun = await move_job(store, "job-1", JobState.PROCESSING, fence=1, at=job.created_at + 1, last_event=1)
        ended = moved(
            begun,
            JobState.SUCCEEDED,
            at=job.created_at + 2,
            last_event=2,
            output="once\0\n\u2028 upon 🌳",
            figures={"output_token_count": 3},
        )
        assert await store.move(ended) == ended
        kept = await store.get("job-1")
        assert kept == ended
        assert await store.page("ada", JobPage()) == ([ended], False)

    async def test_a_custom_model_s_job_is_kept_as_it_is(self, store: JobStore) -> None:
        """With the bytes that came with it, until it has ended, whatever its input looks like; lists are without them."""
        given = {"image": "image/png, 3 bytes", "job_inputs": "request", "kind": {"job_inputs": "image"}}
        files = {"image": b"\0\xff\x01", "mask": b""}
        request = CustomRequest(request_id="job-1", model="scaler", input=given, files=files, seed=2**63 - 1)
        job = a_job(request=request, signature=None)
        assert await store.admit(job) == job
        kept = await store.get("job-1")
        assert kept == job
        assert kept is not None
        assert isinstance(kept.request, CustomRequest)
        assert (kept.request.input, kept.request.files) == (given, files)
        (listed,), _ = await store.page("ada", JobPage())
        assert isinstance(listed.request, CustomRequest)
        assert (listed.request.input, listed.request.files) == (given, {})
        begun = await move_job(store, "job-1", JobState.PROCESSING, fence=1, at=job.created_at + 1, last_event=1)
        assert isinstance(begun.request, CustomRequest)
        assert begun.request.files == files
        ended = moved(begun, JobState.SUCCEEDED, at=job.created_at + 2, last_event=2, output={"a": [1, None]})
        assert await store.move(ended) == ended
        last = await store.get("job-1")
        assert last is not None
        assert last.output == {"a": [1, None]}
        assert isinstance(last.request, CustomRequest)
        assert (last.request.input, last.request.files) == (given, {})

    async def test_what_is_not_there_is_none(self, store: JobStore) -> None:
        """By id and by key; an empty key finds nothing."""
        await store.admit(a_job())
        assert await store.get("job-2") is None
        assert await store.get("") is None
        assert await store.find("ada", "key") is None
        assert await store.find("ada", "") is None

    async def test_one_key_of_one_owner_is_one_job(self, store: JobStore) -> None:
        """The second job under a key is not kept; the first is returned."""
        first = a_job(idempotency_key="key")
        await store.admit(first)
        assert (await store.admit(a_job("job-2", idempotency_key="key", body_hash="11"))).id == "job-1"
        assert await store.get("job-2") is None

    async def test_a_key_belongs_to_its_owner(self, store: JobStore) -> None:
        """Two owners may use the same key, and neither finds the other's job."""
        await store.admit(a_job(idempotency_key="key"))
        bobs = a_job("job-2", owner="bob", idempotency_key="key")
        assert await store.admit(bobs) == bobs
        found = [await store.find(owner, "key") for owner in ("ada", "bob", "eve")]
        assert [job.id if job else None for job in found] == ["job-1", "job-2", None]

    async def test_jobs_without_a_key_are_all_different(self, store: JobStore) -> None:
        """No key is no key."""
        for job_id in ("job-1", "job-2"):
            assert (await store.admit(a_job(job_id))).id == job_id

    async def test_a_key_holds_when_its_job_has_ended(self, store: JobStore) -> None:
        """A repeated request finds the ended job with what came of it."""
        job = a_job(idempotency_key="key")
        ended = await brought_to(store, JobState.SUCCEEDED, job)
        assert await store.admit(a_job("job-2", idempotency_key="key")) == ended

    async def test_a_move_records_state_time_and_number(self, store: JobStore) -> None:
        """started_at is the first step's time and stays; completed_at is the end's."""
        await store.admit(a_job())
        starting = await move_job(store, "job-1", JobState.STARTING, fence=1, at=10.5, last_event=0)
        assert (starting.state, starting.started_at, starting.completed_at) == (JobState.STARTING, 10.5, None)
        processing = await move_job(store, "job-1", JobState.PROCESSING, fence=1, at=11.5, last_event=7)
        assert (processing.started_at, processing.completed_at, processing.last_event) == (10.5, None, 7)
        done = await move_job(
            store,
            "job-1",
            JobState.SUCCEEDED,
            fence=1,
            at=12.5,
            last_event=9,
            artifacts=(ARTIFACT,),
            warnings=("cut", "별"),
        )
        assert (done.started_at, done.completed_at, done.last_event) == (10.5, 12.5, 9)
        assert (done.artifacts, done.warnings, done.failure) == ((ARTIFACT,), ("cut", "별"), None)
        assert await store.get("job-1") == done

    async def test_a_failure_is_kept_with_all_it_says(self, store: JobStore) -> None:
        """Code, text, field, limit and retry time."""
        await store.admit(a_job())
        await move_job(store, "job-1", JobState.FAILED, fence=1, at=1.0, last_event=1, failure=FAILURE)
        failed = await store.get("job-1")
        assert failed is not None
        assert failed.failure is not None
        assert vars(failed.failure) == vars(FAILURE)

    @pytest.mark.parametrize("old", JobState)
    async def test_every_illegal_move_raises_and_changes_nothing(self, store: JobStore, old: JobState) -> None:
        """The store holds to the job's table."""
        for new in JobState:
            before = await brought_to(store, old, a_job(f"job-{new}"))
            assert before.state is old
            if new in TRANSITIONS[old]:
                assert (await move_job(store, before.id, new, fence=1, at=99.0, last_event=9)).state is new
                continue
            with pytest.raises(IllegalTransition):
                await move_job(store, before.id, new, fence=1, at=99.0, last_event=9, warnings=("x",))
            assert await store.get(before.id) == before

    async def test_the_same_move_twice_is_one(self, store: JobStore) -> None:
        """Where an answer was lost, asking again changes nothing; the same state at another time is another move."""
        await store.admit(a_job())
        moves: list[dict[str, Any]] = [
            {"state": JobState.STARTING, "at": 10.5, "last_event": 0},
            {"state": JobState.PROCESSING, "at": 11.5, "last_event": 3},
            {"state": JobState.SUCCEEDED, "at": 12.5, "last_event": 9, "artifacts": (ARTIFACT,), "warnings": ("cut",)},
        ]
        for move in moves:
            first = await move_job(store, "job-1", fence=1, **move)
            assert await move_job(store, "job-1", fence=1, **move) == first
        with pytest.raises(IllegalTransition):
            await move_job(store, "job-1", fence=1, **{**moves[-1], "at": 13.5})

    async def test_who_does_not_hold_the_lease_moves_nothing(self, store: JobStore) -> None:
        """A fence that is not the job's, and a job that is not there."""
        job = a_job()
        await store.admit(job)
        for job_id, fence in (("job-1", 0), ("job-1", 2), ("job-2", 1)):
            with pytest.raises(LeaseLost):
                await store.move(moved(a_job(job_id, fence=fence), JobState.CANCELED, at=1.0, last_event=1))
        assert await store.get("job-1") == job

    async def test_work_that_is_begun_is_counted(self, store: JobStore) -> None:
        """Once for each time that the job starts."""
        job = await brought_to(store, JobState.STARTING, a_job())
        assert (job.attempts, job.retries) == (1, 0)

    async def test_a_retry_is_counted_as_such(self, store: JobStore) -> None:
        """Not as a beginning that came to nothing; it has its reason until the job is queued anew."""
        await brought_to(store, JobState.PROCESSING, a_job())
        again = await move_job(store, "job-1", JobState.RETRYING, fence=1, at=4.0, last_event=4, failure=FAILURE)
        assert (again.attempts, again.retries, again.started_at) == (0, 1, 1_700_000_001.25)
        assert str(again.failure) == str(FAILURE)
        queued = await move_job(store, "job-1", JobState.QUEUED, fence=1, at=5.0, last_event=5)
        assert (queued.failure, queued.retries) == (None, 1)
        before_it_began = await move_job(store, "job-1", JobState.RETRYING, fence=1, at=6.0, last_event=6)
        assert (before_it_began.attempts, before_it_began.retries) == (0, 2)

    async def test_whom_a_job_is_told_is_kept_with_it(self, store: JobStore) -> None:
        """Every field of its webhook, and the key that a door chose for its picture."""
        hook = Webhook(
            kind=HookKind.BACKEND,
            url="https://backend.test",
            events=frozenset({HookEvent.START, HookEvent.COMPLETED}),
            generation_id=2**40,
            prompt_tags=("별", "\0"),
        )
        job = a_job(webhook=hook, object_key="generations/gen-1.png")
        assert await store.admit(job) == job
        assert await store.get("job-1") == job

    async def test_pictures_that_came_with_a_job_are_kept_until_it_has_ended(self, store: JobStore) -> None:
        """Byte for byte while it may be painted again, and no longer than that."""
        job = a_job(signature=Signature(ImageMark(a_png(40, 30)), opacity=0.5))
        assert await store.admit(job) == job
        assert await store.get("job-1") == job
        for number, state in enumerate(WAYS[JobState.PROCESSING]):
            await move_job(store, "job-1", state, fence=1, at=number + 1.0, last_event=number)
        kept = await store.get("job-1")
        assert kept is not None
        assert (kept.signature, kept.request) == (job.signature, job.pictures_asked)
        ended = await move_job(store, "job-1", JobState.SUCCEEDED, fence=1, at=9.0, last_event=9)
        assert (ended.signature, ended.pictures_asked.init_image) == (None, None)
        assert await store.get("job-1") == ended

    async def test_jobs_do_not_touch_each_other(self, store: JobStore) -> None:
        """A move is one job's."""
        await store.admit(a_job())
        other = a_job("job-2")
        await store.admit(other)
        await move_job(store, "job-1", JobState.CANCELED, fence=1, at=1.0, last_event=1)
        assert await store.get("job-2") == other

    # Lists

    async def test_a_list_has_the_owner_s_own_jobs_newest_first(self, store: JobStore) -> None:
        """Those of one moment by their ids; nobody else's, and none for whoever has none."""
        for number, (owner, at) in enumerate([("ada", 3.0), ("bob", 4.0), ("ada", 9.0), ("ada", 3.0), ("ada", 1.5)], 1):
            await store.admit(a_job(f"job-{number}", owner=owner, created_at=at))
        found, more = await store.page("ada", JobPage())
        assert ([job.id for job in found], more) == (["job-3", "job-4", "job-1", "job-5"], False)
        assert await store.page("eve", JobPage()) == ([], False)

    async def test_a_list_goes_on_from_where_a_page_ended(self, store: JobStore) -> None:
        """Page by page and upwards again, with nothing twice and nothing left out, also where jobs are of one moment."""
        ids = [f"job-{number}" for number in range(1, 8)]
        for number, job_id in enumerate(ids):
            await store.admit(a_job(job_id, created_at=100.0 + number // 3))
        down: list[list[str]] = []
        page, more = JobPage(most=3), True
        while more:
            found, more = await store.page("ada", page)
            down.append([job.id for job in found])
            page = JobPage(most=3, before=place_of(found[-1]))
        assert down == [["job-7", "job-6", "job-5"], ["job-4", "job-3", "job-2"], ["job-1"]]
        above, more = await store.page("ada", JobPage(most=3, after=place_of(found[0])))
        assert ([job.id for job in above], more) == (["job-4", "job-3", "job-2"], True)
        above, more = await store.page("ada", JobPage(most=3, after=place_of(above[0])))
        assert ([job.id for job in above], more) == (["job-7", "job-6", "job-5"], False)

    async def test_a_list_may_be_of_idempotency_keys(self, store: JobStore) -> None:
        """Of the owner's own jobs alone, by whatever characters; keys that nobody has are left out."""
        for job_id, owner, key in [
            ("job-1", "ada", "a"),
            ("job-2", "bob", "b"),
            ("job-3", "ada", "ü☆"),
            ("job-4", "ada", ""),
        ]:
            await store.admit(a_job(job_id, owner=owner, idempotency_key=key, created_at=100.0))
        found, more = await store.page("ada", JobPage(keys=frozenset({"a", "b", "ü☆", "none"})))
        assert ([job.id for job in found], more) == (["job-3", "job-1"], False)
        assert await store.page("ada", JobPage(keys=frozenset({"b"}))) == ([], False)

    async def test_a_list_may_leave_out_the_newest_and_other_states(self, store: JobStore) -> None:
        """By number, and by the states that are asked for; failed jobs are told apart by what failed them."""
        late = JobFailure(Code.DEADLINE_EXCEEDED, 'it said "code":10143, too')
        for number, state in enumerate(JobState):
            await brought_to(store, state, a_job(f"job-{number}", created_at=100.0 + number))
        await store.admit(a_job("job-9", created_at=200.0))
        await move_job(store, "job-9", JobState.FAILED, fence=1, at=201.0, last_event=1, failure=late)
        await store.admit(a_job("job-8", created_at=150.0, deadline_seconds=None))
        await move_job(store, "job-8", JobState.FAILED, fence=1, at=151.0, last_event=1, failure=late)
        found, more = await store.page("ada", JobPage(skip=3, most=2))
        assert ([job.id for job in found], more) == (["job-5", "job-4"], True)

        async def states(**wanted: Any) -> list[str]:
            found, _ = await store.page("ada", JobPage(**wanted))
            return [job.id for job in found]

        assert await states(states=frozenset({JobState.SUCCEEDED, JobState.QUEUED})) == ["job-4", "job-0"]
        failed = frozenset({JobState.FAILED, JobState.CANCELED})
        assert await states(states=failed) == ["job-9", "job-8", "job-6", "job-5"]
        assert await states(states=failed, overdue=True) == ["job-9", "job-6"]
        assert await states(states=failed, overdue=False) == ["job-8", "job-6", "job-5"]

    async def test_a_listed_job_is_whole_but_for_pictures_that_came_with_it(self, store: JobStore) -> None:
        """Its own pictures and its webhook are there; nobody reads megabytes for a list."""
        hook = Webhook(kind=HookKind.GENERIC, url="https://hooks.test/1")
        job = a_job(signature=Signature(ImageMark(a_png(40, 30))), webhook=hook)
        await store.admit(job)
        (live,), _ = await store.page("ada", JobPage())
        assert live == replace(job, signature=None, request=replace(job.pictures_asked, init_image=None))
        await brought_to(store, JobState.PROCESSING, a_job("job-2", created_at=job.created_at + 9))
        await move_job(store, "job-2", JobState.SUCCEEDED, fence=1, at=9.0, last_event=9, artifacts=(ARTIFACT,))
        (ended, _), _ = await store.page("ada", JobPage())
        assert ended == await store.get("job-2")
        assert ended.artifacts == (ARTIFACT,)


class RecordsStore(JobStore, Latents, Leases, Claims, Takings, Forgetting, Protocol):
    """Everything that a node asks of its records."""


CREATED = 1_700_000_000.25  # when `a_job` was
LEASE = 30.0  # seconds


class RecordsContract:
    """Derive, and override the fixture `nodes`."""

    @pytest.fixture
    def nodes(self) -> tuple[RecordsStore, RecordsStore]:
        """Two nodes' stores on the same empty records, with leases of LEASE seconds."""
        raise NotImplementedError

    @pytest.mark.parametrize("state", WAYS)
    async def test_a_node_that_begins_takes_up_its_earlier_life_s_jobs(
        self, nodes: tuple[RecordsStore, RecordsStore], state: JobState
    ) -> None:
        """Queued anew, at once and only if they have not ended, with numbers for events that nobody has heard yet."""
        before = await brought_to(nodes[0], state, a_job())
        taken = await nodes[0].take_up(at=CREATED + 1, begin=True)
        if state in TERMINAL:
            assert taken == []
            assert await nodes[0].get("job-1") == before
            return
        expected = replace(
            before, state=JobState.QUEUED, started_at=None, fence=2, last_event=before.last_event + EVENTS_OF_A_LIFE,
        )  # fmt: skip
        assert taken == [expected]
        assert await nodes[1].get("job-1") == expected

    async def test_jobs_are_taken_up_in_the_order_in_which_they_came(
        self, nodes: tuple[RecordsStore, RecordsStore]
    ) -> None:
        """Whoever waited longest waits no longer than before."""
        for number in (3, 1, 2):
            await nodes[0].admit(a_job(f"job-{number}", created_at=CREATED + number))
        taken = await nodes[0].take_up(at=CREATED, begin=True)
        assert [job.id for job in taken] == ["job-1", "job-2", "job-3"]

    async def test_another_node_s_jobs_are_its_own_until_its_lease_expires(
        self, nodes: tuple[RecordsStore, RecordsStore]
    ) -> None:
        """And each renewal moves that on."""
        mine, other = nodes
        await other.admit(a_job())
        assert await mine.take_up(at=CREATED + LEASE - 1, begin=True) == []
        await other.renew(at=CREATED + 20)
        assert await mine.take_up(at=CREATED + LEASE + 1, begin=True) == []
        taken = await mine.take_up(at=CREATED + 20 + LEASE + 1, begin=False)
        assert [job.id for job in taken] == ["job-1"]
        assert await other.take_up(at=CREATED + 20 + LEASE + 2, begin=True) == []

    async def test_a_job_of_nobody_s_is_taken_by_one_node(self, nodes: tuple[RecordsStore, RecordsStore]) -> None:
        """By name alone: whoever looks for what others left does not see it; once taken, it is taken from nobody."""
        mine, other = nodes
        await mine.admit(a_job(), leased=False)
        assert await mine.take_up(at=CREATED + 10 * LEASE, begin=True) == []
        taken = await other.take("job-1", at=CREATED + 1)
        assert taken is not None
        assert (taken.state, taken.fence, taken.last_event) == (JobState.QUEUED, 2, EVENTS_OF_A_LIFE)
        assert await mine.take("job-1", at=CREATED + 2) is None
        assert await other.take("job-1", at=CREATED + 10 * LEASE) is None
        again = await mine.take("job-1", at=CREATED + 1 + LEASE)
        assert again is not None
        assert again.fence == 3

    async def test_jobs_that_nobody_has_taken_are_found(self, nodes: tuple[RecordsStore, RecordsStore]) -> None:
        """The oldest first, for whoever wonders where they are; neither one that is somebody's nor one that has ended."""
        mine, other = nodes
        for number in (3, 1, 2, 4, 5):
            await mine.admit(a_job(f"job-{number}", created_at=CREATED + number), leased=False)
        await mine.admit(a_job("job-6"))
        assert await other.unclaimed(since=CREATED + 10, most=9) == [f"job-{number}" for number in (1, 2, 3, 4, 5)]
        await mine.take("job-2", at=CREATED + 3)
        ended = await mine.take("job-3", at=CREATED + 3)
        assert ended is not None
        await mine.move(moved(ended, JobState.CANCELED, at=CREATED + 4, last_event=9))
        assert await other.unclaimed(since=CREATED + 5, most=9) == ["job-1", "job-4"]
        assert await other.unclaimed(since=CREATED + 5, most=1) == ["job-1"]

    async def test_how_far_images_are_is_kept_for_whoever_takes_the_job_up(
        self, nodes: tuple[RecordsStore, RecordsStore]
    ) -> None:
        """The latest word of each holder, and of nobody else; it goes with the job's end."""
        stale, holder = nodes
        await brought_to(stale, JobState.PROCESSING, a_job())
        assert await stale.latents("job-1") == ()
        await stale.keep_latents("job-1", [SavedImage(0, 3, b"three"), SavedImage(1, 2, b"")], fence=1)
        await stale.keep_latents("job-1", [SavedImage(2, 9, b"\0nine"), SavedImage(0, 4, b"four")], fence=1)
        await holder.take_up(at=CREATED + LEASE + 1, begin=False)
        await stale.keep_latents("job-1", [SavedImage(0, 9, b"stale")], fence=1)
        assert await holder.latents("job-1") == (SavedImage(0, 4, b"four"), SavedImage(2, 9, b"\0nine"))
        await move_job(holder, "job-1", JobState.CANCELED, fence=2, at=9.0, last_event=200_000)
        assert await holder.latents("job-1") == ()
        await holder.keep_latents("job-1", [SavedImage(0, 9, b"late")], fence=2)
        assert await holder.latents("job-1") == ()

    @pytest.mark.parametrize("state", sorted(TERMINAL))
    async def test_an_ended_job_is_not_taken(self, nodes: tuple[RecordsStore, RecordsStore], state: JobState) -> None:
        """Nor one that never was."""
        await brought_to(nodes[0], state, a_job())
        assert await nodes[1].take("job-1", at=CREATED + 10 * LEASE) is None
        assert await nodes[1].take("job-2", at=CREATED) is None

    async def test_a_job_is_taken_away_from_whoever_runs_it(self, nodes: tuple[RecordsStore, RecordsStore]) -> None:
        """Who had it is told that it has not, and can write nothing more; nobody takes his own away, or what has ended."""
        runs, takes = nodes
        before = await brought_to(runs, JobState.PROCESSING, a_job())
        await runs.admit(a_job("job-2"))
        assert await runs.held() == {"job-1", "job-2"}
        taken = await takes.take_away("job-1", at=CREATED + 1)
        assert taken is not None
        assert (taken.state, taken.fence) == (JobState.QUEUED, before.fence + 1)
        assert await runs.held() == {"job-2"}
        assert await takes.held() == {"job-1"}
        with pytest.raises(LeaseLost):
            await runs.move(moved(before, JobState.FAILED, at=9.0, last_event=9, failure=FAILURE))
        assert await takes.take_away("job-1", at=CREATED + 2) is None
        await takes.move(moved(taken, JobState.CANCELED, at=9.0, last_event=taken.last_event + 1))
        assert await takes.held() == frozenset()
        assert await runs.take_away("job-1", at=CREATED + 3) is None
        assert await runs.take_away("job-3", at=CREATED + 3) is None

    async def test_a_node_does_not_take_from_itself(self, nodes: tuple[RecordsStore, RecordsStore]) -> None:
        """A lease that it could not renew for a while is its own still, if nobody else took it."""
        await nodes[0].admit(a_job())
        assert await nodes[0].take_up(at=CREATED + 10 * LEASE, begin=False) == []

    async def test_a_stale_holder_writes_nothing(self, nodes: tuple[RecordsStore, RecordsStore]) -> None:
        """It painted on while another took the job up; only the new holder's word counts."""
        stale, holder = nodes
        await brought_to(stale, JobState.PROCESSING, a_job())
        (taken,) = await holder.take_up(at=CREATED + LEASE + 1, begin=False)
        with pytest.raises(LeaseLost):
            await move_job(stale, "job-1", JobState.SUCCEEDED, fence=1, at=9.0, last_event=9, artifacts=(ARTIFACT,))
        assert await stale.get("job-1") == taken
        for number, state in enumerate(WAYS[JobState.SUCCEEDED]):
            await move_job(holder, "job-1", state, fence=2, at=10.0 + number, last_event=taken.last_event + number)
        with pytest.raises(LeaseLost):
            await move_job(stale, "job-1", JobState.FAILED, fence=1, at=20.0, last_event=9)

    async def test_what_is_given_back_can_be_taken_up_at_once(self, nodes: tuple[RecordsStore, RecordsStore]) -> None:
        """By any node, and an attempt that a stop cut short does not count."""
        await brought_to(nodes[0], JobState.PROCESSING, a_job())
        await nodes[0].admit(a_job("job-2"))
        await brought_to(nodes[0], JobState.FAILED, a_job("job-3"))
        await nodes[0].give_back(at=CREATED + 1)
        taken = await nodes[1].take_up(at=CREATED + 2, begin=False)
        assert {(job.id, job.state, job.attempts) for job in taken} == {
            ("job-1", JobState.QUEUED, 0),
            ("job-2", JobState.QUEUED, 0),
        }

    async def _three_ended(self, store: JobStore) -> None:
        """job-1 ended at 1003, job-2 at 2003, job-3 at 3003, each with a picture of 123 bytes; job-4 did not end."""
        for number in (2, 3, 1):
            job = a_job(f"job-{number}", created_at=number * 1000.0, idempotency_key=f"key-{number}")
            await brought_to(store, JobState.PROCESSING, job)
            await move_job(
                store, job.id, JobState.SUCCEEDED, fence=1, at=job.created_at + 3, last_event=3, artifacts=(ARTIFACT,)
            )
        await store.admit(a_job("job-4", created_at=0.0))

    @pytest.mark.parametrize(
        ("limits", "forgotten"),
        [
            ({}, []),
            ({"beyond": 2}, ["job-1"]),
            ({"beyond": 0}, ["job-1", "job-2", "job-3"]),
            ({"beyond": 0, "most": 2}, ["job-1", "job-2"]),
            ({"ended_before": 2003.0}, ["job-1"]),
            ({"ended_before": 2003.5}, ["job-1", "job-2"]),
            ({"more_bytes_than": 369}, []),
            ({"more_bytes_than": 368}, ["job-1"]),
            ({"more_bytes_than": 0}, ["job-1", "job-2", "job-3"]),
        ],
    )
    async def test_what_ended_first_is_forgotten_first(
        self, nodes: tuple[RecordsStore, RecordsStore], limits: dict[str, Any], forgotten: list[str]
    ) -> None:
        """Beyond each limit; never a job that has not ended, however old."""
        store = nodes[0]
        await self._three_ended(store)
        generous = {"beyond": 10, "ended_before": 0.0, "more_bytes_than": 10_000, "most": 10}
        old = await store.oldest(**{**generous, **limits})
        assert [job.id for job in old] == forgotten
        assert all(job.artifacts == (ARTIFACT,) for job in old)

    async def test_a_forgotten_job_is_gone_with_its_key(self, nodes: tuple[RecordsStore, RecordsStore]) -> None:
        """The key is free for a new job; others, and what has not ended, stay."""
        store = nodes[0]
        await self._three_ended(store)
        await store.forget(["job-1", "job-4", "job-9"])
        kept = [await store.get(f"job-{number}") for number in (1, 2, 3, 4)]
        assert [job is not None for job in kept] == [False, True, True, True]
        again = a_job("job-5", idempotency_key="key-1")
        assert await store.admit(again) == again
