"""Settings: what the process does, resolved once at start and then frozen.

A value comes from, later over earlier: the defaults below, one TOML file, a ``.env`` file, and the
environment (``BOOKRUNNER_API__PORT=3001`` is ``port`` in ``[api]``). This module says what may be set and
which rules hold; ``app.settings_sources`` reads the sources.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from enum import StrEnum
from typing import Annotated

import msgspec
from msgspec import Meta

from bookrunner.core.enums import Channel

DEFAULT_PAIRS = (
    "BTCUSDT",
    "ETHUSDT",
    "SOLUSDT",
    "BNBUSDT",
    "XRPUSDT",
    "DOGEUSDT",
    "ADAUSDT",
    "AVAXUSDT",
    "LINKUSDT",
)
"""The pairs followed when nothing else is configured."""

Symbol = Annotated[
    str,
    Meta(
        pattern=r"^[^\sa-z/?#&@\"\\]{1,32}$",
        description='in upper case, up to 32 characters, no spaces or any of / ? # & @ " \\',
    ),
]
"""Upper case; not ASCII only, because Binance lists symbols that are not."""
Host = Annotated[str, Meta(min_length=1, max_length=253)]
Port = Annotated[int, Meta(ge=0, le=65_535)]
WebSocketUrl = Annotated[str, Meta(pattern=r"^wss?://[^/?#@\s]+$")]
"""Scheme, host and port; the venue adds the path."""
RestUrl = Annotated[str, Meta(pattern=r"^https?://[^/?#@\s]+$")]
"""Scheme, host and port; the venue adds the path."""
PathText = Annotated[str, Meta(min_length=1)]


class LogFormat(StrEnum):
    """How log lines look."""

    CONSOLE = "console"
    JSON = "json"


class LogLevel(StrEnum):
    """How much is logged."""

    DEBUG = "debug"
    INFO = "info"
    WARNING = "warning"
    ERROR = "error"
    CRITICAL = "critical"


class Section(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A table of the TOML file."""


class VenueSettings(Section, frozen=True, kw_only=True):
    """One venue: whether it is followed, and where it lives."""

    enabled: Annotated[bool, Meta(description="Follow this venue")] = False
    symbols: Annotated[
        tuple[Symbol, ...],
        Meta(min_length=1, max_length=1_024, description="Symbols, in the venue's own names"),
    ] = DEFAULT_PAIRS
    channels: Annotated[
        tuple[Channel, ...], Meta(min_length=1, description="Kinds of market data to subscribe to")
    ] = (Channel.DEPTH, Channel.TRADES)
    websocket_url: Annotated[
        WebSocketUrl, Meta(description="Base URL of the streams; point it at a simulator to rehearse")
    ]
    rest_url: Annotated[RestUrl, Meta(description="Base URL of the REST API")]
    strict_sequence: Annotated[
        bool,
        Meta(description="An id that does not follow is a gap even where the venue's documents are silent"),
    ] = True


class VenuesSettings(Section, frozen=True, kw_only=True):
    """The venues, by id."""

    binance_usdm: VenueSettings = VenueSettings(
        enabled=True, websocket_url="wss://fstream.binance.com", rest_url="https://fapi.binance.com"
    )
    binance_spot: VenueSettings = VenueSettings(
        websocket_url="wss://stream.binance.com:9443", rest_url="https://api.binance.com"
    )
    bybit_linear: VenueSettings = VenueSettings(
        enabled=True, websocket_url="wss://stream.bybit.com", rest_url="https://api.bybit.com"
    )
    bybit_spot: VenueSettings = VenueSettings(
        websocket_url="wss://stream.bybit.com", rest_url="https://api.bybit.com"
    )

    def by_id(self) -> dict[str, VenueSettings]:
        """Return every venue, enabled or not, by its id."""
        return {name: getattr(self, name) for name in self.__struct_fields__}

    def enabled(self) -> dict[str, VenueSettings]:
        """Return the venues to follow, by id."""
        return {name: venue for name, venue in self.by_id().items() if venue.enabled}


class BookSettings(Section, frozen=True, kw_only=True):
    """Order books."""

    levels: Annotated[int, Meta(ge=1, le=1_000, description="Levels a side kept for serving")] = 100
    display_levels: Annotated[
        int, Meta(ge=1, le=100, description="Levels a side shown and sent by default")
    ] = 5


class TransportSettings(Section, frozen=True, kw_only=True):
    """Connections to venues."""

    max_retries: Annotated[
        Annotated[int, Meta(ge=0)] | None,
        Meta(description="Reconnect attempts in a row before giving up; unset: unlimited"),
    ] = None
    backoff_base_s: Annotated[
        float, Meta(gt=0, le=60, description="First reconnect delay, before jitter")
    ] = 0.25
    backoff_cap_s: Annotated[float, Meta(gt=0, le=3_600, description="Longest reconnect delay")] = 30.0
    connect_timeout_s: Annotated[float, Meta(gt=0, le=120, description="Time allowed for a connection")] = (
        10.0
    )
    request_timeout_s: Annotated[float, Meta(gt=0, le=120, description="Time allowed for a REST answer")] = (
        10.0
    )
    message_bytes_max: Annotated[
        int, Meta(ge=65_536, le=2**25, description="Largest WebSocket message read from a venue")
    ] = 16 * 2**20
    receive_buffer_bytes: Annotated[
        Annotated[int, Meta(ge=65_536, le=2**28)] | None,
        Meta(
            description="Bound of a connection's receive buffer, where frames wait when the process "
            "falls behind; unset: the kernel's own"
        ),
    ] = None


class FanoutSettings(Section, frozen=True, kw_only=True):
    """The market-data WebSocket."""

    enabled: Annotated[bool, Meta(description="Serve market data to clients")] = True
    host: Annotated[Host, Meta(description="Address to listen on")] = "127.0.0.1"
    port: Annotated[Port, Meta(description="Port to listen on; 0 picks a free one")] = 8080
    allow_remote: Annotated[
        bool, Meta(description="Permit an address beyond loopback; there is no authentication yet")
    ] = False
    throttle_ms: Annotated[
        int, Meta(ge=5, le=60_000, description="Default time between updates of one book")
    ] = 1_000
    throttle_min_ms: Annotated[
        int, Meta(ge=5, le=60_000, description="Shortest throttle a client may ask for")
    ] = 50
    queue_messages: Annotated[
        int, Meta(ge=16, le=2**20, description="Messages waiting for one client before it counts as lagged")
    ] = 4_096
    resume_messages: Annotated[
        int, Meta(ge=0, le=2**20, description="Messages kept for a client that reconnects")
    ] = 4_096
    heartbeat_s: Annotated[
        float, Meta(gt=0, le=30, description="Time between heartbeats; a client silent for 60 s is cut")
    ] = 15.0
    clients_max: Annotated[int, Meta(ge=1, le=100_000, description="Clients served at once")] = 4_096
    request_bytes_max: Annotated[
        int, Meta(ge=1_024, le=2**20, description="Largest message from a client")
    ] = 32_768
    compression: Annotated[bool, Meta(description="Accept permessage-deflate when a client offers it")] = True


class ApiSettings(Section, frozen=True, kw_only=True):
    """REST: metrics, health and books."""

    enabled: Annotated[bool, Meta(description="Serve the REST API")] = True
    host: Annotated[Host, Meta(description="Address to listen on")] = "127.0.0.1"
    port: Annotated[Port, Meta(description="Port to listen on; 0 picks a free one")] = 3000
    allow_remote: Annotated[
        bool, Meta(description="Permit an address beyond loopback; there is no authentication yet")
    ] = False


class JournalSettings(Section, frozen=True, kw_only=True):
    """The log of raw frames."""

    enabled: Annotated[bool, Meta(description="Keep the journal")] = True
    path: Annotated[PathText, Meta(description="Folder of the segments")] = "var/journal"
    segment_bytes: Annotated[
        int, Meta(ge=2**20, le=2**34, description="Size at which a segment is sealed")
    ] = 2**28
    buffer_bytes: Annotated[
        int, Meta(ge=2**20, le=2**32, description="Appended bytes that may wait for the disk")
    ] = 2**26
    commit_interval_ms: Annotated[int, Meta(ge=1, le=1_000, description="Time between group commits")] = 2
    fsync_interval_ms: Annotated[
        int,
        Meta(
            ge=0, le=60_000, description="Time between fsyncs: what a power cut may cost; 0: at every commit"
        ),
    ] = 50
    compress: Annotated[bool, Meta(description="Compress sealed segments")] = True
    retention_days: Annotated[float, Meta(gt=0, description="Age at which sealed segments are deleted")] = (
        14.0
    )
    retention_bytes: Annotated[
        int, Meta(ge=2**20, description="Total size above which the oldest segments are deleted")
    ] = 50 * 2**30
    low_disk_bytes: Annotated[int, Meta(ge=0, description="Free disk below which an alarm is raised")] = (
        5 * 2**30
    )


class RecorderSettings(Section, frozen=True, kw_only=True):
    """The Parquet catalogue of normalised data."""

    enabled: Annotated[bool, Meta(description="Record normalised data")] = True
    path: Annotated[PathText, Meta(description="Folder of the catalogue")] = "var/catalogue"
    flush_rows: Annotated[
        int, Meta(ge=100, le=10**7, description="Rows of one kind and symbol in a file")
    ] = 65_536
    flush_interval_s: Annotated[float, Meta(ge=1, le=86_400, description="Longest time before a flush")] = (
        60.0
    )
    spool_path: Annotated[PathText, Meta(description="Where files wait when the catalogue refuses them")] = (
        "var/spool"
    )
    spool_bytes_max: Annotated[
        int, Meta(ge=2**20, description="Spool size at which recording counts as failed")
    ] = 2**32


class LoggingSettings(Section, frozen=True, kw_only=True):
    """Logs, to standard error."""

    format: Annotated[LogFormat, Meta(description="One JSON object a line, or text for people")] = (
        LogFormat.CONSOLE
    )
    level: Annotated[LogLevel, Meta(description="Least severity logged")] = LogLevel.INFO
    modules: Annotated[
        Mapping[str, LogLevel], Meta(description='Level per module, such as {"bookrunner.venues" = "debug"}')
    ] = {}
    repeats_per_minute: Annotated[
        int, Meta(ge=1, description="Lines of one event from one module in a minute; the rest are counted")
    ] = 60


class SimulatorSettings(Section, frozen=True, kw_only=True):
    """The venue simulator of the demo."""

    host: Annotated[Host, Meta(description="Address to listen on")] = "127.0.0.1"
    port: Annotated[Port, Meta(description="Port to listen on; 0 picks a free one")] = 0
    seed: Annotated[int, Meta(ge=0, description="Seed of the synthetic market")] = 1
    speed: Annotated[float, Meta(gt=0, le=1_000, description="Replay speed of recorded frames")] = 1.0


class Settings(Section, frozen=True, kw_only=True):
    """Everything configurable."""

    venues: VenuesSettings = VenuesSettings()
    book: BookSettings = BookSettings()
    transport: TransportSettings = TransportSettings()
    fanout: FanoutSettings = FanoutSettings()
    api: ApiSettings = ApiSettings()
    journal: JournalSettings = JournalSettings()
    recorder: RecorderSettings = RecorderSettings()
    logging: LoggingSettings = LoggingSettings()
    simulator: SimulatorSettings = SimulatorSettings()


class BrokenRule(msgspec.Struct, frozen=True):
    """A rule between settings, or one too rich for a type, that does not hold."""

    field: str
    """Dotted path, such as ``api.host``."""
    value: object
    rule: str


def broken_rules(settings: Settings) -> Iterator[BrokenRule]:
    """Yield every rule that the (individually valid) values break."""
    if not settings.venues.enabled():
        yield BrokenRule("venues", "all disabled", "at least one venue is enabled")
    for name, venue in settings.venues.by_id().items():
        for field, values in (("symbols", venue.symbols), ("channels", venue.channels)):
            if len(set(values)) != len(values):
                yield BrokenRule(f"venues.{name}.{field}", list(values), "no value twice")
        if Channel.DEPTH not in venue.channels:
            channels = [channel.value for channel in venue.channels]
            yield BrokenRule(f"venues.{name}.channels", channels, "a list with depth in it: books need it")
    if settings.book.display_levels > settings.book.levels:
        yield BrokenRule("book.display_levels", settings.book.display_levels, "at most book.levels")
    if settings.transport.backoff_cap_s < settings.transport.backoff_base_s:
        yield BrokenRule(
            "transport.backoff_cap_s", settings.transport.backoff_cap_s, "at least backoff_base_s"
        )
    if settings.fanout.throttle_ms < settings.fanout.throttle_min_ms:
        yield BrokenRule("fanout.throttle_ms", settings.fanout.throttle_ms, "at least throttle_min_ms")
    yield from _broken_listening_rules(settings)


def _broken_listening_rules(settings: Settings) -> Iterator[BrokenRule]:
    for name, face in (("fanout", settings.fanout), ("api", settings.api)):
        if not face.allow_remote and not is_loopback(face.host):
            rule = "a loopback address, unless allow_remote is true"
            yield BrokenRule(f"{name}.host", face.host, rule)
    if not is_loopback(settings.simulator.host):
        yield BrokenRule("simulator.host", settings.simulator.host, "a loopback address")
    both = settings.fanout.enabled and settings.api.enabled
    if both and settings.api.port == settings.fanout.port != 0:
        yield BrokenRule("api.port", settings.api.port, "another port than fanout.port")


def is_loopback(host: str) -> bool:
    """Whether only this machine can reach ``host``; a name other than ``localhost`` counts as remote."""
    from ipaddress import ip_address

    if host == "localhost":
        return True
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return False
