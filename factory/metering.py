"""Settings → what owners may ask for, and where that is counted."""

from __future__ import annotations

from collections.abc import Callable

from config import Settings
from config.limiting import read_rates
from server.database.usage import Metering
from server.limits import COST, LOGIN, REQUESTS, Rate
from server.metering.counters import Counters, OwnCounters
from server.metering.rates import Rates
from server.metering.usage import DeviceTimes, Prices, Quota


class Limiting:
    """The rates of all owners, and the connection to where they are counted together. `reached` is told a limit's name."""

    def __init__(self, settings: Settings, reached: Callable[[str], None]) -> None:
        counters: Counters = OwnCounters()
        self._shared = None
        url = settings.counters_url()
        if url.get_secret_value():
            from server.metering.shared import SharedCounters  # Redis's client is loaded where there is one

            counters = self._shared = SharedCounters(url, counters)
        texts = {REQUESTS: settings.rate_requests, COST: settings.rate_cost, LOGIN: settings.rate_login}
        rates = [Rate(name, amount, seconds) for name, text in texts.items() for amount, seconds in read_rates(text)]
        self.rates = Rates(counters, rates, reached)

    @property
    def away(self) -> bool:
        """Whether each node counts for itself, though they should count together."""
        return self._shared is not None and self._shared.away

    async def close(self) -> None:
        """Let go of the connection."""
        if self._shared is not None:
            await self._shared.close()


def metering(settings: Settings, times: DeviceTimes) -> Metering:
    """What the records need to know to record usage, and to hold daily quotas."""
    return Metering(
        times=times,
        prices=Prices(
            picture=settings.price_picture,
            gpu_second=settings.price_gpu_second,
            thousand_tokens=settings.price_thousand_tokens,
            cached_share=settings.cached_price,
        ),
        quota=Quota(settings.daily_pictures, settings.daily_cost),
    )
