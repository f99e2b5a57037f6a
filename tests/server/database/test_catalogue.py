"""Registered models and adapters, in SQLite and PostgreSQL."""

from __future__ import annotations

import asyncio
from dataclasses import replace

import pytest
from sqlalchemy import text

from ai.types import AdapterUse, GenerationRequest
from server.database.catalogue import SqlCatalogue
from server.database.reading import Reader
from server.database.writing import GroupWriter
from server.errors import Code, Refusal
from server.model_records import AdapterRecord, CheckState, ModelRecord, VersionRecord, Visibility
from server.pools import InlinePool
from tests.server.database.contract import a_job
from tests.server.database.opened import Opened
from tests.server.pictures import a_png
from watermark import ImageMark, Signature

FIRST = VersionRecord(version="1.0.0", path="fox", input_schema={"steps": {"type": "integer"}}, weight=1)
FOX = ModelRecord(
    id="0123456789abcdef",
    owner="ada",
    name="fox",
    description="a fox\0",
    model_type="text-to-image",
    visibility=Visibility.PRIVATE,
    created_at=10.0,
    updated_at=10.0,
    versions=(FIRST,),
    previous={"0.9": 3},
)
INK = AdapterRecord(
    id="fedcba9876543210",
    owner="ada",
    name="ink",
    description="",
    base="demo",
    family="sd15",
    visibility=Visibility.PUBLIC,
    licence="CC-BY-4.0",
    artist="Ines Linhart",
    signature=Signature(ImageMark(a_png(8, 4)), artist="Ines Linhart"),
    size_bytes=1000,
    rank=4,
    sha256="a" * 64,
    content_id="b" * 64,
    created_at=11.0,
    updated_at=11.0,
)


def a_store(database: Opened) -> SqlCatalogue:
    """As a node has it."""
    pool = InlinePool()
    return SqlCatalogue(GroupWriter(database.writing, pool), Reader(database.reading, pool), lambda: 100.0)


@pytest.fixture
def store(database: Opened) -> SqlCatalogue:
    """An empty one."""
    with database.writing.connect() as connection:
        connection.execute(text("DELETE FROM catalogue"))
        connection.execute(text("DELETE FROM catalogue_revision"))
        connection.commit()
    return a_store(database)


async def test_what_was_added_is_told_as_it_was(store: SqlCatalogue) -> None:
    """With its bytes; once to each who asks for what is new."""
    await store.add(FOX, most=1)
    await store.add(INK, most=1)
    changes = await store.changes(0)
    assert list(changes.records) == [FOX, INK]
    assert list((await store.changes(changes.revision)).records) == []


async def test_a_name_is_one_owner_s_once(store: SqlCatalogue) -> None:
    """Another owner may have it too, and one of another kind; a deleted one is no more."""
    await store.add(FOX, most=5)
    with pytest.raises(Refusal) as caught:
        await store.add(replace(FOX, id="1" * 16), most=5)
    assert (caught.value.code, caught.value.field) == (Code.INVALID_PARAMETER, "name")
    await store.add(replace(FOX, id="2" * 16, owner="bob"), most=5)
    await store.add(replace(INK, name="fox"), most=5)
    await store.change(FOX.id, lambda record: replace(record, deleted=True))
    await store.add(replace(FOX, id="3" * 16), most=1)


async def test_an_owner_has_so_many(store: SqlCatalogue) -> None:
    """Of a kind."""
    await store.add(FOX, most=1)
    with pytest.raises(Refusal) as caught:
        await store.add(replace(FOX, id="1" * 16, name="other"), most=1)
    assert caught.value.code is Code.RESOURCE_EXHAUSTED


async def test_changes_come_in_their_order(store: SqlCatalogue) -> None:
    """Each record once, as it is now, those that were deleted too."""
    await store.add(FOX, most=5)
    await store.add(INK, most=5)
    seen = (await store.changes(0)).revision

    def checked(record: ModelRecord) -> ModelRecord:
        return replace(record, versions=(replace(record.versions[0], state=CheckState.READY),))

    assert (await store.change(FOX.id, checked)).versions[0].state is CheckState.READY
    await store.change(INK.id, lambda record: replace(record, deleted=True))
    found = (await store.changes(seen)).records
    assert [record.id for record in found] == [FOX.id, INK.id]
    assert [record.deleted for record in found] == [False, True]


async def test_nodes_that_change_one_record_lose_nothing(database: Opened, store: SqlCatalogue) -> None:
    """Each edits what the other has left."""
    await store.add(FOX, most=5)
    other = a_store(database)

    def longer(record: ModelRecord) -> ModelRecord:
        return replace(record, description=record.description + "x")

    await asyncio.gather(*(one.change(FOX.id, longer) for one in (store, other) for _ in range(5)))
    (found,) = (await store.changes(0)).records
    assert found.description == FOX.description + "x" * 10


async def test_what_is_not_there_is_not_changed(store: SqlCatalogue) -> None:
    """Nor what was deleted; an edit that refuses leaves it as it was."""
    await store.add(FOX, most=5)

    def refuse(record: ModelRecord) -> ModelRecord:
        raise Refusal.invalid("version", "another", record.name)

    with pytest.raises(Refusal, match="version must be another"):
        await store.change(FOX.id, refuse)
    assert list((await store.changes(0)).records) == [FOX]
    await store.change(FOX.id, lambda record: replace(record, deleted=True))
    with pytest.raises(Refusal, match="not here any more"):
        await store.change(FOX.id, lambda record: record)


async def test_what_live_jobs_name_is_in_use(database: Opened, store: SqlCatalogue) -> None:
    """As a model or an adapter, exactly; not in their prompts."""
    name = FOX.card_name("1.0.0")
    job = a_job()
    assert isinstance(job.request, GenerationRequest)
    worn = (AdapterUse("ada/ink:aa"),)
    job = replace(job, request=replace(job.request, model=name, adapters=worn, prompt='wears "ada/other:bb"'))
    assert not await store.in_use(name)
    await database.store.admit(job)
    assert await store.in_use(name)
    assert await store.in_use("ada/ink:aa")
    assert not await store.in_use("ada/ink:a_")
    assert not await store.in_use("ada/other:bb")
    assert not await store.in_use(name[:-1])


async def test_what_was_deleted_long_ago_is_forgotten(store: SqlCatalogue) -> None:
    """And told once, so that its files can go."""
    await store.add(FOX, most=5)
    await store.add(INK, most=5)
    await store.change(FOX.id, lambda record: replace(record, deleted=True))
    assert list(await store.deleted(before=100.0)) == []
    assert [record.id for record in await store.deleted(before=101.0)] == [FOX.id]
    await store.forget([FOX.id, INK.id])
    assert list(await store.deleted(before=101.0)) == []
    assert [record.id for record in (await store.changes(0)).records] == [INK.id]
