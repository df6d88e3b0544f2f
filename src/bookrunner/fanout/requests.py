"""What clients ask for, done: connecting, subscribing, resuming, and the small questions. No I/O."""

from __future__ import annotations

import msgspec

from bookrunner.core.errors import InvalidRequestError
from bookrunner.fanout.publisher import Publisher
from bookrunner.fanout.selection import EVERYTHING, Terms, check_known, without
from bookrunner.fanout.session import CloseCode, Link, Session
from bookrunner.wire.client_message import (
    Error,
    ErrorBody,
    ErrorDetails,
    Listing,
    Pong,
    Resumed,
    Subscribed,
    Welcome,
    WireForm,
    encode_body,
)
from bookrunner.wire.client_request import (
    ListBooks,
    Opening,
    Ping,
    Request,
    Resume,
    SnapshotNow,
    Subscribe,
    Unsubscribe,
    too_many_subscriptions,
    topics_of,
)

MILLISECONDS_PER_SECOND = 1_000


class RequestDesk:
    """Answers clients on behalf of a publisher."""

    def __init__(self, publisher: Publisher) -> None:
        self._publisher = publisher
        self._settings = publisher.settings
        self._limits = publisher.settings.request_limits

    def check_opening(self, opening: Opening) -> None:
        """Refuse an address that names what does not exist.

        Raises:
            InvalidRequestError: what is wrong.
        """
        if opening.subscribe is not None:
            self._terms_of(opening.subscribe, self._default_terms(), adding=False)

    def connect(self, link: Link, form: WireForm, opening: Opening) -> Session:
        """Give a new connection its session: the one it names, or a new one with a welcome and a snapshot."""
        refusal = None
        if opening.resume is not None:
            resumed = self._resume(link, form, opening.resume)
            if isinstance(resumed, Session):
                return resumed
            refusal = resumed
        terms = self._default_terms()
        if opening.subscribe is not None:
            terms = self._terms_of(opening.subscribe, terms, adding=False)
        publisher = self._publisher
        session = publisher.open_session(form)
        session.chosen = opening.subscribe is not None and opening.subscribe.names_topics
        publisher.join(session, terms)
        session.attach(link)
        publisher.publish(session, self._welcome(session, terms, refusal))
        publisher.send_snapshot(session)
        return session

    def handle(self, session: Session, link: Link, request: Request) -> Session:
        """Do what a client asks; return its session, another one after a resume.

        Raises:
            InvalidRequestError: it cannot be done; nothing was changed.
        """
        publisher = self._publisher
        match request:
            case Subscribe():
                self._subscribe(session, request)
            case Unsubscribe():
                self._unsubscribe(session, request)
            case Resume():
                return self._change_session(session, link, request)
            case Ping():
                publisher.publish(session, Pong(request.id, publisher.clock.wall_ns()))
            case SnapshotNow():
                publisher.send_snapshot(session)
            case ListBooks():
                publisher.sources.refresh()
                books = [source.listing() for source in publisher.sources]
                publisher.publish(session, Listing(request.id, books))
        return session

    def refuse(self, session: Session, error: InvalidRequestError) -> None:
        """Tell a client what was wrong with its message."""
        request_id = error.fields.get("id")
        known = request_id if isinstance(request_id, str | int) else None
        self._publisher.publish(session, Error(known, error_body(error)))

    # --- subscriptions ------------------------------------------------------------------------------------

    def _slots(self, throttle_ms: int) -> int:
        return -(-throttle_ms // self._settings.slot_ms)

    def _default_terms(self) -> Terms:
        return Terms(EVERYTHING, self._settings.depth, self._slots(self._settings.throttle_ms))

    def _terms_of(self, request: Subscribe, current: Terms, *, adding: bool) -> Terms:
        """Return the terms after a subscription.

        Raises:
            InvalidRequestError: it names an unknown book, or is too much.
        """
        topics = current.topics
        if request.names_topics:
            self._publisher.sources.refresh()
            check_known(request, self._publisher.sources)
            topics = topics_of(request, self._limits)
            if adding:
                topics |= current.topics
        if len(topics) > self._limits.subscriptions_max:
            raise too_many_subscriptions("symbols", len(topics), self._limits)
        return Terms(
            topics,
            current.depth if request.depth is None else request.depth,
            current.throttle_slots if request.throttle_ms is None else self._slots(request.throttle_ms),
        )

    def _current_terms(self, session: Session) -> Terms:
        return self._default_terms() if session.group is None else session.group.terms

    def _subscribe(self, session: Session, request: Subscribe) -> None:
        current = self._current_terms(session)
        try:
            terms = self._terms_of(request, current, adding=session.chosen)
        except InvalidRequestError as error:
            error.fields["id"] = request.id
            raise
        session.chosen = session.chosen or request.names_topics
        self._change_terms(session, terms, request.id)

    def _unsubscribe(self, session: Session, request: Unsubscribe) -> None:
        current = self._current_terms(session)
        try:
            topics = without(current.topics, topics_of(request, self._limits))
        except InvalidRequestError as error:
            error.fields["id"] = request.id
            raise
        session.chosen = True
        self._change_terms(session, msgspec.structs.replace(current, topics=topics), request.id)

    def _change_terms(self, session: Session, terms: Terms, request_id: str | int | None) -> None:
        publisher = self._publisher
        publisher.join(session, terms)
        publisher.publish(session, Subscribed(request_id, terms.view(self._settings.slot_ms)))
        publisher.send_snapshot(session)

    # --- sessions -----------------------------------------------------------------------------------------

    def _welcome(self, session: Session, terms: Terms, refusal: str | None) -> Welcome:
        settings = self._settings
        return Welcome(
            session.token,
            self._publisher.clock.wall_ns(),
            session.form.encoding.value,
            session.form.compressed,
            round(settings.heartbeat_s * MILLISECONDS_PER_SECOND),
            round(settings.resume_s * MILLISECONDS_PER_SECOND),
            terms.view(settings.slot_ms),
            settings.announced_limits,
            refusal,
        )

    def _change_session(self, session: Session, link: Link, request: Resume) -> Session:
        if request.session == session.token:
            raise InvalidRequestError(
                "cannot resume",
                field="session",
                value="session_same",
                rule="a session other than this connection's",
                id=request.id,
            )
        resumed = self._resume(link, session.form, request)
        if isinstance(resumed, str):
            raise InvalidRequestError(
                "cannot resume",
                field="sequence" if resumed == "sequence_ahead" else "session",
                value=resumed,
                rule=f"a session of the same encoding, left less than {self._settings.resume_s} s ago",
                id=request.id,
            )
        session.link = None
        self._publisher.forget(session)
        return resumed

    def _resume(self, link: Link, form: WireForm, request: Resume) -> Session | str:
        """Go on with a session on a new connection, or say why that cannot be."""
        publisher = self._publisher
        session = publisher.sessions.get(request.session)
        refusal = None
        if session is None:
            refusal = "session_unknown"
        elif session.form != form:
            refusal = "encoding_changed"
        elif request.sequence > session.sequence:
            refusal = "sequence_ahead"
        if session is None or refusal is not None:
            publisher.counters.resume_refused += 1
            return refusal or ""
        previous = session.link
        if previous is not None:
            session.detach(publisher.clock.monotonic_ns())
            previous.close(CloseCode.POLICY_VIOLATION, "the session was resumed on another connection")
        publisher.counters.resumed += 1
        publisher.reattached(session)
        self._go_on(session, link, request.sequence)
        return session

    def _go_on(self, session: Session, link: Link, sequence: int) -> None:
        complete = session.can_resume(sequence)
        if complete:
            session.rewind(sequence)
        else:
            session.skip_to(sequence, "expired")
        last = session.sequence if complete else sequence
        view = self._current_terms(session).view(self._settings.slot_ms)
        body = encode_body(Resumed(session.token, sequence + 1, last, view), session.form)
        session.link = link
        session.detached_at_ns = None
        link.send(body.numbered(sequence), binary=body.binary, compressed=body.compressed)
        self._publisher.on_writable(session)


def error_body(error: InvalidRequestError) -> ErrorBody:
    """Return an error as clients see it: code, message, and field, value and rule."""
    fields = error.fields
    field, rule = str(fields.get("field", "message")), str(fields.get("rule", ""))
    return ErrorBody(error.code, error.message, ErrorDetails(field, fields.get("value"), rule))
