"""Models from users: what is refused, what becomes of versions, what other nodes hear."""

from __future__ import annotations

import asyncio
from collections import Counter
from typing import Any

import pytest

from ai.types import ModelReady
from server.catalogue_commands import ChangeModel, RegisterModel, RemoveModel, RollBack, ShareTraffic
from server.commands import GetModel, ListModels, Submit
from server.errors import Code, RecordsUnavailable, Refusal
from server.model_records import CheckState, Visibility
from server.replies import ModelState
from tests.server.catalogue.registry import MemoryCatalogue, Node
from tests.server.fakes import settle
from tests.server.house import ADA, BOB


@pytest.fixture
def node() -> Node:
    """One."""
    return Node(MemoryCatalogue())


async def test_a_model_is_offered_when_it_was_looked_at(node: Node) -> None:
    """To its owner, by every name it has; the card says which version of which model."""
    record = await node.registered(description="foxes")
    version = record.versions[0]
    assert (version.state, version.weight, version.size_bytes, version.content_id) == (
        CheckState.READY,
        1,
        4000,
        "c" * 64,
    )
    name = record.card_name("1.0.0")
    assert name == f"ada/fox:1.0.0@{record.id}"
    assert node.painted() == ["demo", "other", name]
    for word in ("fox", "ada/fox", record.id, "ada/fox:1.0.0", name):
        assert node.catalogue.choose(ADA, word, "t").card.name == name
    job = await node.house.job(model="fox")
    assert job.request.model == name
    for word in ("fox", "ada/fox", record.id, "ada/fox:1.0.0", name):
        with pytest.raises(Refusal) as caught:
            node.catalogue.choose(BOB, word, "t")
        assert caught.value.code is Code.MODEL_NOT_FOUND
        assert "ada" not in caught.value.limit


async def test_own_names_come_before_the_settings(node: Node) -> None:
    """For their owner alone."""
    record = await node.registered("demo")
    assert node.catalogue.choose(ADA, "demo", "t").card.name == record.card_name("1.0.0")
    assert node.catalogue.choose(BOB, "demo", "t").card.name == "demo"
    assert node.catalogue.choose(ADA, "atelier/demo", "t").card.name == "demo"


@pytest.mark.parametrize(
    ("wish", "field"),
    [
        ({"name": "a/b"}, "name"),
        ({"name": "versions"}, "name"),
        ({"name": ""}, "name"),
        ({"version": "1:0"}, "version"),
        ({"version": "refiner"}, "version"),
        ({"model_type": "oracle"}, "model_type"),
        ({"path": "../etc"}, "model_path"),
        ({"hardware": "tpu"}, "hardware"),
        ({"hardware": "gpu"}, "hardware"),
        ({"input_schema": {"width": {"type": "colour"}}}, "input_schema.width.type"),
        ({"input_schema": {"colour": {"type": "string"}}}, "input_schema.colour"),
        ({"description": "x" * 2001}, "description"),
    ],
)
async def test_what_is_no_model_is_refused_at_once(node: Node, wish: dict[str, Any], field: str) -> None:
    """By the field; nothing is recorded."""
    with pytest.raises(Refusal) as caught:
        await node.registrar.register(RegisterModel(**{"owner": ADA, "name": "fox", "path": "fox", **wish}))
    assert caught.value.field == field
    assert node.store.records == {}


async def test_files_that_are_refused_stay_so_until_they_are_registered_again() -> None:
    """The reason is told to who looks, and to who asks for it; room in memory is one."""
    node = Node(MemoryCatalogue(), room=3999)
    record = await node.registered(path="pickled")
    assert (record.versions[0].state, record.versions[0].problem) == (CheckState.REFUSED, "a pickle")
    with pytest.raises(Refusal, match=r"ada/fox:1.0.0 was refused: a pickle"):
        node.catalogue.choose(ADA, "fox", "t")
    again = await node.registered(path="fox")
    assert "4,000 bytes, 3,999 may be used" in again.versions[0].problem
    listed: Any = node.house.handlers[ListModels](ListModels(ADA))
    assert [one.record.name for one in listed.unoffered] == ["fox"]


async def test_requests_fall_to_versions_by_weight_and_ticket(node: Node) -> None:
    """The same ticket always to the same; a named version is that one."""
    await node.registered()
    record = await node.registered(version="2")
    assert [one.weight for one in record.versions] == [1, 0]
    await node.registrar.share(ShareTraffic(owner=ADA, model="fox", weights={"1.0.0": 30, "2": 10}))
    drawn = [node.catalogue.choose(ADA, "fox", f"ticket {n}").card.name for n in range(400)]
    assert drawn == [node.catalogue.choose(ADA, "fox", f"ticket {n}").card.name for n in range(400)]
    count = Counter(drawn)
    assert 70 < count[record.card_name("2")] < 130
    assert node.catalogue.choose(ADA, "ada/fox:2", "x").card.name == record.card_name("2")
    one = await node.house.submit(Submit(owner=ADA, prompt="x", model="fox", idempotency_key="k"))
    two = await node.house.submit(Submit(owner=ADA, prompt="x", model="fox", idempotency_key="k"))
    assert two.duplicate
    assert one.job.request.model == two.job.request.model


async def test_shares_are_rolled_back(node: Node) -> None:
    """To those before the last change; twice is back again."""
    await node.registered()
    await node.registered(version="2")
    with pytest.raises(Refusal, match="whose shares were changed"):
        await node.registrar.roll_back(RollBack(owner=ADA, model="fox"))
    await node.registrar.share(ShareTraffic(owner=ADA, model="fox", weights={"2": 1}))
    back = await node.registrar.roll_back(RollBack(owner=ADA, model="fox"))
    assert [one.weight for one in back.versions] == [1, 0]
    forth = await node.registrar.roll_back(RollBack(owner=ADA, model="fox"))
    assert [one.weight for one in forth.versions] == [0, 1]


@pytest.mark.parametrize("weights", [{"9": 1}, {"1.0.0": -1}, {"1.0.0": 1001}, {"1.0.0": 0}, {"bad": 1}])
async def test_shares_that_are_none_are_refused(node: Node, weights: dict[str, int]) -> None:
    """Of versions that are not ready, too much, or nothing at all."""
    await node.registered()
    await node.registered(version="bad", path="pickled")
    with pytest.raises(Refusal) as caught:
        await node.registrar.share(ShareTraffic(owner=ADA, model="fox", weights=weights))
    assert caught.value.field.startswith("weights")


async def test_a_version_is_not_used_again_nor_removed_while_it_has_a_share(node: Node) -> None:
    """What it is stays as it is."""
    await node.registered()
    await node.registered(version="2")
    with pytest.raises(Refusal, match="did not have before"):
        await node.registered(version="2")
    with pytest.raises(Refusal, match="promote another first"):
        await node.registrar.remove(RemoveModel(owner=ADA, model="fox", version="1.0.0"))
    left = await node.registrar.remove(RemoveModel(owner=ADA, model="fox", version="2"))
    assert left.version("2") is None
    with pytest.raises(Refusal):
        node.catalogue.choose(ADA, "fox:2", "t")
    with pytest.raises(Refusal, match="did not have before"):
        await node.registered(version="2")


async def test_only_its_owner_changes_a_public_model(node: Node) -> None:
    """Others use it; a private one they do not find."""
    await node.registered()
    command = ChangeModel(owner=BOB, model="ada/fox", description="mine")
    with pytest.raises(Refusal) as caught:
        await node.registrar.change(command)
    assert caught.value.code is Code.MODEL_NOT_FOUND
    await node.registrar.change(ChangeModel(owner=ADA, model="fox", visibility=Visibility.PUBLIC))
    assert node.catalogue.choose(BOB, "ada/fox", "t")
    with pytest.raises(Refusal) as caught:
        await node.registrar.change(command)
    assert caught.value.code is Code.PERMISSION_DENIED


async def test_a_removed_model_goes_when_its_last_job_has_ended(node: Node) -> None:
    """No new job names it from then on; its card stays as long as a live one does, and half a minute at least."""
    record = await node.registered()
    name = record.card_name("1.0.0")
    node.hosting.begin()
    node.store.used.add(name)
    await node.registrar.remove(RemoveModel(owner=ADA, model="fox"))
    with pytest.raises(Refusal):
        node.catalogue.choose(ADA, "fox", "t")
    for _ in range(20):
        await node.house.pass_time(2.0)
    assert name in node.catalogue
    assert name in node.painted()
    node.store.used.clear()
    await node.house.pass_time(2.0)
    assert name not in node.catalogue
    assert name not in node.painted()
    assert node.source.left == [name]
    await node.hosting.stop()


async def test_other_nodes_hear_of_it(node: Node) -> None:
    """A worker brings the files, a gateway needs none; both within the time that they look."""
    worker, gateway = Node(node.store), Node(node.store, paints=False)
    gateway.source.missing.add("fox")
    for other in (worker, gateway):
        other.hosting.begin()
    record = await node.registered()
    name = record.card_name("1.0.0")
    for other in (worker, gateway):
        await other.house.pass_time(2.0)
        assert other.catalogue.choose(ADA, "fox", "t").card.name == name
        assert other.catalogue.card(name) is not None
        await other.hosting.stop()
    assert worker.painted()[-1] == name


async def test_a_worker_without_the_files_says_so(node: Node) -> None:
    """Of that version alone, and tries again later."""
    worker = Node(node.store)
    worker.source.missing.add("fox")
    worker.hosting.begin()
    record = await node.registered()
    assert await worker.hosting.ready(record.card_name("1.0.0"))
    with pytest.raises(Refusal, match="cannot be used here: fox: there is no such file"):
        worker.catalogue.choose(ADA, "fox", "t")
    asked: Any = worker.house.handlers[GetModel](GetModel(owner=ADA, model="fox"))
    found = await asked
    assert found.model.state is ModelState.UNAVAILABLE
    worker.source.missing.clear()
    for _ in range(32):
        await worker.house.pass_time(2.0)
    assert worker.catalogue.choose(ADA, "fox", "t")
    await worker.hosting.stop()


async def test_a_job_that_comes_before_the_news_makes_its_node_look(node: Node) -> None:
    """A worker that has not heard of the model yet brings it first; one that never was is not there."""
    worker = Node(node.store)
    record = await node.registered()
    assert await worker.hosting.ready(record.card_name("1.0.0"))
    assert not await worker.hosting.ready(record.card_name("9"))


async def test_a_look_that_was_cut_short_is_made_again(node: Node) -> None:
    """At the next start."""
    node.source.gate = asyncio.Event()
    await node.registrar.register(RegisterModel(owner=ADA, name="fox", path="fox"))
    await settle()
    with pytest.raises(Refusal, match="being looked at; try again"):
        node.catalogue.choose(ADA, "fox", "t")
    later = Node(node.store)
    await later.hosting.refresh()
    later.registrar.resume()
    await settle()
    assert later.catalogue.choose(ADA, "fox", "t")
    node.source.gate.set()
    await settle()
    (version,) = node.store.records[next(iter(node.store.records))][1].versions
    assert (version.state, version.weight) == (CheckState.READY, 1)


async def test_the_state_is_the_engine_s(node: Node) -> None:
    """On this node."""
    record = await node.registered()
    node.house.health.engine_events([ModelReady(record.card_name("1.0.0"), 1.0)])
    asked: Any = node.house.handlers[GetModel](GetModel(owner=ADA, model="fox"))
    found = await asked
    assert found.model.state is ModelState.READY
    listed: Any = node.house.handlers[ListModels](ListModels(BOB))
    assert [view.name for view in listed.models] == ["demo", "other"]


async def test_records_that_are_away_are_no_news(node: Node) -> None:
    """What is known stays."""
    await node.registered()
    node.store.away = RecordsUnavailable("away")
    assert not await node.hosting.refresh()
    assert node.catalogue.choose(ADA, "fox", "t")
    with pytest.raises(Refusal):
        await node.house.submit(Submit(owner=ADA, prompt="x", model="hen"))


async def test_what_is_recorded_while_others_look_is_heard(node: Node) -> None:
    """Whoever asks hears what was recorded before they asked, also where another look had begun by then."""
    changes, gate = node.store.changes, asyncio.Event()

    async def slowly(since: int) -> Any:
        found = await changes(since)
        await gate.wait()
        return found

    node.store.changes = slowly  # type: ignore[method-assign]
    first = asyncio.ensure_future(node.hosting.refresh())
    await settle()
    other = Node(node.store)
    node.store.changes = changes  # type: ignore[method-assign]
    await other.registered()
    second = asyncio.ensure_future(node.hosting.refresh())
    await settle()
    gate.set()
    assert [await first, await second] == [False, True]
    await settle()
    assert node.catalogue.choose(ADA, "fox", "t")
