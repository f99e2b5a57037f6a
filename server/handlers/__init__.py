"""One handler a command, joined here in one table.

A handler answers with a reply, or with a coroutine that gives one, and raises `Refusal` for what it will not do. A door looks
its command up in the table and knows nothing of what is behind it.
"""

from __future__ import annotations

from collections.abc import Mapping

from server.catalogue_commands import (
    AddAdapter,
    ChangeModel,
    ListAdapters,
    RegisterModel,
    RemoveAdapter,
    RemoveModel,
    RollBack,
    ShareTraffic,
)
from server.commands import (
    Cancel,
    CheckSubmit,
    CloseLive,
    Command,
    ConnectUdp,
    GetJob,
    GetModel,
    GetServerStatus,
    ListJobs,
    ListModels,
    LiveFrame,
    OpenLive,
    Ping,
    Predict,
    Submit,
    Watch,
    WatchLive,
)
from server.handlers.cancel import CancelHandler
from server.handlers.catalogue import CatalogueHandlers
from server.handlers.get_job import GetJobHandler
from server.handlers.list_jobs import ListJobsHandler
from server.handlers.list_models import GetModelHandler, ListModelsHandler
from server.handlers.live import LiveHandlers, no_udp
from server.handlers.ping import PingHandler
from server.handlers.server_status import ServerStatusHandler
from server.handlers.submit import SubmitHandler
from server.handlers.watch import WatchHandler
from server.interfaces import Handler

HandlerTable = Mapping[type[Command], Handler]


def handler_table(
    *,
    submit: SubmitHandler,
    cancel: CancelHandler,
    watch: WatchHandler,
    get_job: GetJobHandler,
    list_jobs: ListJobsHandler,
    list_models: ListModelsHandler,
    get_model: GetModelHandler,
    catalogue: CatalogueHandlers,
    server_status: ServerStatusHandler,
    ping: PingHandler,
    live: LiveHandlers,
    connect_udp: Handler = no_udp,
) -> HandlerTable:
    """Which handler carries out which command."""
    return {
        Submit: submit,
        Predict: submit,
        CheckSubmit: submit.check,
        Cancel: cancel,
        Watch: watch,
        GetJob: get_job,
        ListJobs: list_jobs,
        ListModels: list_models,
        GetModel: get_model,
        RegisterModel: catalogue.register,
        ChangeModel: catalogue.change,
        ShareTraffic: catalogue.share,
        RollBack: catalogue.roll_back,
        RemoveModel: catalogue.remove,
        AddAdapter: catalogue.add_adapter,
        ListAdapters: catalogue.list_adapters,
        RemoveAdapter: catalogue.remove_adapter,
        GetServerStatus: server_status,
        Ping: ping,
        OpenLive: live.open,
        LiveFrame: live.frame,
        CloseLive: live.close,
        WatchLive: live.watch,
        ConnectUdp: connect_udp,
    }
