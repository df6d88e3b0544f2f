"""The one error tree.

Every error has a stable ``code`` and named ``fields``; a boundary turns them into its own form.
The message is for people, the fields are for programs.

    BookrunnerError
    ├── ConfigurationError          a setting is wrong: field, value, rule
    ├── InvalidRequestError         a client asked for something wrong: field, value, rule
    ├── NotFoundError               a client asked for something that is not there
    ├── NotLiveError                a book was read that is not live
    ├── ProtocolError               a venue sent something wrong
    │   ├── MalformedFrameError     not the venue's format at all
    │   ├── MessageTooLargeError    a frame or body beyond our bound
    │   ├── UnknownSymbolError      a symbol that nobody subscribed to
    │   ├── OffGridError            a price or quantity finer than the instrument's grid
    │   └── SequenceGapError        an update is missing
    ├── TransportError              the way to a venue is broken; retrying may help
    │   ├── ConnectionLostError
    │   ├── ChannelSilentError      subscribed and acknowledged, yet no data
    │   ├── RequestTimeoutError
    │   ├── VenueUnavailableError   5xx: the venue failed, not the request
    │   ├── VenueStartError         the venue simulator's process did not become ready
    │   ├── RateLimitedError        429: wait ``retry_after_s``
    │   └── BannedError             418 or 403: wait ``retry_after_s``
    ├── VenueRejectError            the venue understood and refused; retrying does not help
    └── StorageError                a disk or an object store failed
        ├── JournalFullError        the bounded append buffer is full
        ├── JournalCorruptError     a record fails its check before the tail
        ├── JournalVersionError     a segment of a format that this program does not read
        ├── JournalLockedError      another process writes this journal
        ├── DiskLowError
        └── CatalogueError
"""

from __future__ import annotations

from typing import ClassVar


class BookrunnerError(Exception):
    """Root of the tree.

    Args:
        message: one sentence for people.
        **fields: what was wrong, for programs; never a secret, never a path for a client.
    """

    code: ClassVar[str] = "INTERNAL"

    def __init__(self, message: str = "", /, **fields: object) -> None:
        super().__init__(message)
        self.message = message
        self.fields = fields

    def __str__(self) -> str:
        details = ", ".join(f"{name}={value!r}" for name, value in self.fields.items())
        text = self.message or self.code
        return f"{text} ({details})" if details else text


class ConfigurationError(BookrunnerError):
    """A setting is wrong; fields ``field``, ``value``, ``rule``."""

    code = "CONFIGURATION_INVALID"


class InvalidRequestError(BookrunnerError):
    """A client's request is wrong; fields ``field``, ``value``, ``rule``."""

    code = "INVALID_REQUEST"


class NotFoundError(BookrunnerError):
    """A client asked for something that is not there; fields name it."""

    code = "NOT_FOUND"


class NotLiveError(BookrunnerError):
    """A book was read that is syncing, stale or closed."""

    code = "BOOK_NOT_LIVE"


class ProtocolError(BookrunnerError):
    """A venue sent something that breaks its own rules."""

    code = "PROTOCOL_ERROR"


class MalformedFrameError(ProtocolError):
    """A frame is not in the venue's format."""

    code = "MALFORMED_FRAME"


class MessageTooLargeError(ProtocolError):
    """A message or body is larger than we take; fields ``limit_bytes``, and ``size_bytes`` where known."""

    code = "MESSAGE_TOO_LARGE"


class UnknownSymbolError(ProtocolError):
    """A frame names a symbol that nobody subscribed to."""

    code = "UNKNOWN_SYMBOL"


class OffGridError(ProtocolError):
    """A price or quantity is finer than the instrument's tick or lot."""

    code = "OFF_GRID"


class SequenceGapError(ProtocolError):
    """An update is missing; fields ``expected``, ``received``."""

    code = "SEQUENCE_GAP"


class TransportError(BookrunnerError):
    """The way to a venue is broken; retrying may help."""

    code = "TRANSPORT_ERROR"


class ConnectionLostError(TransportError):
    """A connection could not be made or was lost."""

    code = "CONNECTION_LOST"


class ChannelSilentError(TransportError):
    """A channel is subscribed and acknowledged, yet brings no data."""

    code = "CHANNEL_SILENT"


class RequestTimeoutError(TransportError):
    """No answer within the time allowed; the outcome is unknown."""

    code = "REQUEST_TIMEOUT"


class VenueUnavailableError(TransportError):
    """The venue answered with a server error (5xx); field ``status``."""

    code = "VENUE_UNAVAILABLE"


class RateLimitedError(TransportError):
    """The venue answered 429; field ``retry_after_s``."""

    code = "RATE_LIMITED"


class BannedError(TransportError):
    """The venue banned this address; field ``retry_after_s``."""

    code = "BANNED"


class VenueStartError(TransportError):
    """The venue simulator's process did not become ready; field ``exit_code``."""

    code = "VENUE_START_FAILED"


class VenueRejectError(BookrunnerError):
    """The venue understood the request and refused it; fields ``status``, ``venue_code``."""

    code = "VENUE_REJECT"


class StorageError(BookrunnerError):
    """A disk or an object store failed."""

    code = "STORAGE_ERROR"


class JournalFullError(StorageError):
    """The journal's bounded append buffer is full."""

    code = "JOURNAL_FULL"


class JournalCorruptError(StorageError):
    """A journal record before the tail fails its check; fields ``segment``, ``offset``."""

    code = "JOURNAL_CORRUPT"


class JournalVersionError(StorageError):
    """A segment's format is not one that this program reads; fields ``segment``, ``version``."""

    code = "JOURNAL_VERSION"


class JournalLockedError(StorageError):
    """Another process holds this journal open for writing; field ``holder`` (its process id)."""

    code = "JOURNAL_LOCKED"


class DiskLowError(StorageError):
    """Too little free disk to go on; fields ``free_bytes``, ``minimum_bytes``."""

    code = "DISK_LOW"


class CatalogueError(StorageError):
    """The catalogue's target refused a file."""

    code = "CATALOGUE_ERROR"
