"""The records from their settings: the data folder held, the database brought up to date, and both let go at the end."""

from __future__ import annotations

from pathlib import Path
from typing import Any, cast

from sqlalchemy import text
from sqlalchemy.exc import DatabaseError, SQLAlchemyError

from config import Settings, SettingsError
from factory.joining import joined
from factory.metering import metering
from server.accounts.records import AccountRecords
from server.backlog import Backlog
from server.clock import Clock
from server.database.accounts import SqlAccounts
from server.database.address import BadAddress, address
from server.database.answers import SqlAnswers
from server.database.backlog import backlog
from server.database.engines import CHECKED, reading_engine, writing_engine
from server.database.folder import DataFolder, FolderInUse
from server.database.migrating import DatabaseIsNewer, migrate
from server.database.outbox import Bell, SqlOutbox
from server.database.patient import PatientStore
from server.database.published import SqlPublished
from server.database.reading import Reader
from server.database.schema import VERSIONS_TABLE
from server.database.sql import SqlJobStore
from server.database.usage import SqlUsage
from server.database.watching import Watch
from server.database.writing import GroupWriter, OnCommit, reason_of, unheeded
from server.interfaces import AnswerRecords, Claims, Forgetting, JobStore, Latents, Leases, Outbox, Takings
from server.metering.usage import DeviceTimes, UsageRecords
from server.picture_access import Published
from server.pools import ThreadedPool
from server.webhook import Channel

_FOLDER, _DATABASE = "ATELIER_DATA_DIR", "ATELIER_DATABASE_URL"


def node_folder(settings: Settings) -> Path:
    """Where this node keeps its name: the data folder, or where several processes share that, a folder in it."""
    return settings.data_dir / "processes" / settings.process if settings.process else settings.data_dir


class Records:
    """Everything about the database. `store`, `leases` and `forgetting` can be used once it is open."""

    def __init__(
        self, settings: Settings, reactor: Any, on_commit: OnCommit = unheeded, times: DeviceTimes | None = None
    ) -> None:
        self._reactor = reactor
        url = settings.database_url.get_secret_value()
        try:
            self._address = address(url, settings.data_dir)
        except BadAddress as error:
            raise SettingsError(f"{_DATABASE}: {error}") from None
        self._setting = _DATABASE if url else _FOLDER
        self._folder = DataFolder(node_folder(settings))
        self._writing_pool = ThreadedPool("records", 1)
        self._reading_pool = ThreadedPool("records-reading", settings.database_threads)
        timeout = settings.database_timeout
        self._writing = writing_engine(self._address, timeout)
        self._reading = reading_engine(self._address, timeout, settings.database_threads)
        self._writer = GroupWriter(self._writing, self._writing_pool, on_commit)
        self._reader = Reader(self._reading, self._reading_pool)
        self._watch = Watch(cast(Clock, reactor), timeout)
        self.bell = Bell()
        self.writer, self.reader = self._writer, self._reader
        sql = SqlJobStore(
            writer=self._writer,
            reader=self._reader,
            node=lambda: self._folder.node,
            lease=settings.job_lease,
            bell=self.bell,
            metering=metering(settings, times or DeviceTimes()),
        )
        self.answers: AnswerRecords = SqlAnswers(self._writer, self._reader)
        self.usage: UsageRecords = SqlUsage(self._reader, self._writer)
        self._patient = PatientStore(sql, cast(Clock, reactor))
        self.store: JobStore = self._patient
        self.latents: Latents = self._patient
        self.leases: Leases = sql
        self.claims: Claims = sql
        self.takings: Takings = sql
        self.forgetting: Forgetting = sql
        self.accounts: AccountRecords = SqlAccounts(self._writer, self._reader)
        self.published: Published = SqlPublished(self._writer, self._reader)

    def outbox(self, channel: Channel) -> Outbox:
        """The calls of one channel; `bell` tells of new ones."""
        return SqlOutbox(
            channel, writer=self._writer, reader=self._reader, node=lambda: self._folder.node, bell=self.bell
        )

    async def backlog(self) -> Backlog:
        """What is still to be done, by all nodes. Raises RecordsUnavailable."""
        return await self._reader.read(backlog)

    @property
    def retried(self) -> int:
        """How often something that was promised had to be recorded again, since the database was away."""
        return self._patient.retried

    @property
    def away(self) -> bool:
        """Whether the database was away when it was last written to."""
        return self._patient.away

    async def open(self) -> None:
        """Raises SettingsError, which names the setting that has to be looked at."""
        self._writing_pool.start()
        self._reading_pool.start()
        try:
            await self._writing_pool.run(self._open)
            for engine in (self._writing, self._reading):  # from here on: a migration may take its time
                self._watch.over(engine)
            self._watch.start()
        except BaseException:
            await self.close()
            raise

    async def close(self) -> bool:
        """End the threads and the connections, and let the folder go; whether that was done in time."""
        self._patient.stop()
        try:
            return await joined(self._reactor, self._close)
        finally:
            self._watch.stop()

    def _close(self) -> None:
        self._writing_pool.stop()
        self._reading_pool.stop()
        self._writing.dispose()
        self._reading.dispose()
        self._folder.release()

    def _open(self) -> None:
        try:
            self._folder.hold()
        except FolderInUse as error:
            raise SettingsError(f"{_FOLDER}: {error}") from None
        except OSError as error:
            raise SettingsError(f"{_FOLDER}: {error.filename or self._address}: {error.strerror}") from None
        try:
            self._prepare()
        except DatabaseIsNewer as error:
            raise SettingsError(f"{self._setting}: {error}") from None
        except SQLAlchemyError as error:
            where = self._address.render_as_string(hide_password=True)
            raise SettingsError(f"{self._setting}: the records in {where} cannot be used: {reason_of(error)}") from None

    def _prepare(self) -> None:
        """Find now what would refuse every job later: a damaged file, a disk that is full or may not be written."""
        with self._writing.connect() as connection:
            if connection.dialect.name == "sqlite":
                found = connection.exec_driver_sql(CHECKED).scalar()
                if found != "ok":
                    raise DatabaseError(CHECKED, None, Exception(f"the file is damaged: {found}"))
            migrate(connection)
            connection.execute(text(f"UPDATE {VERSIONS_TABLE} SET version_num = version_num"))  # noqa: S608  # a constant
            connection.commit()
