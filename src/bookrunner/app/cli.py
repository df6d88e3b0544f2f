"""The ``bookrunner`` command.

Only names, options and help are here; what a command does is in ``app.commands`` and is imported when it
runs, so that help and start-up stay fast. Results go to standard output, logs and problems to standard error.

Exit codes: 0 done; 1 failed, or a check found something wrong; 2 wrong usage or settings; 130 and 143 left at
once by a second SIGINT or SIGTERM.
"""

from __future__ import annotations

import os
import sys
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from bookrunner.app.commands.venue import venue
from bookrunner.app.early_signals import leaving_on_signals
from bookrunner.core.errors import BookrunnerError, ConfigurationError, InvalidRequestError
from bookrunner.core.lean_import import import_without

if TYPE_CHECKING:
    from bookrunner.app.settings import Settings

EXIT_FAILED = 1
EXIT_USAGE = 2
UNITS_S = {"ms": 0.001, "s": 1.0, "m": 60.0, "h": 3_600.0, "d": 86_400.0}

app = typer.Typer(
    name="bookrunner",
    help="Live order books and strategy runners.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
)
journal_app = typer.Typer(
    help="Inspect the journal of raw frames.", no_args_is_help=True, rich_markup_mode=None
)
app.add_typer(journal_app, name="journal")


def duration_s(text: str) -> float:
    """Read a duration such as ``30s``, ``500ms``, ``2m``, ``1h``; a bare number is seconds."""
    unit = next((unit for unit in sorted(UNITS_S, key=len, reverse=True) if text.endswith(unit)), "")
    try:
        seconds = float(text.removesuffix(unit)) * UNITS_S.get(unit, 1.0)
    except ValueError:
        seconds = -1.0
    if not 0 < seconds < 10**9:
        raise typer.BadParameter("a duration such as 30s, 500ms, 2m or 1h")
    return seconds


class SummaryFormat(StrEnum):
    """How ``run`` ends."""

    JSON = "json"


ConfigOption = Annotated[
    Path | None,
    typer.Option("--config", help="TOML file; default: $BOOKRUNNER_CONFIG, else bookrunner.toml."),
]
DurationOption = Annotated[
    float | None,
    typer.Option("--for", parser=duration_s, metavar="DURATION", help="Stop after, e.g. 30s or 5m."),
]
JsonOption = Annotated[bool, typer.Option("--json", help="Print one JSON object instead of text.")]


@app.command()
def run(
    *,
    config: ConfigOption = None,
    duration: DurationOption = None,
    summary: Annotated[
        SummaryFormat | None, typer.Option(help="Print a summary as the last line of standard output.")
    ] = None,
    demo: Annotated[
        bool, typer.Option("--demo", help="Start a venue simulator and connect to it instead of the venues.")
    ] = False,
) -> None:
    """Follow the venues: books, journal, recorder, fan-out and API until a signal."""
    with leaving_on_signals():
        settings = _settings_for_service(config)
        from bookrunner.app.commands.run import run as command

        code = command(settings, duration_s=duration, summary=summary is not None, demo=demo)
    _leave(code)


@app.command()
def record(*, config: ConfigOption = None, duration: DurationOption = None) -> None:
    """Follow the venues and only record: journal and catalogue, no faces."""
    with leaving_on_signals():
        settings = _settings_for_service(config)
        from bookrunner.app.commands.record import record as command

        code = command(settings, duration_s=duration)
    _leave(code)


@app.command()
def books(
    *,
    recordings: Annotated[
        list[Path] | None,
        typer.Option("--from", metavar="RECORDING", help="Play a recording; may be repeated."),
    ] = None,
    venue_id: Annotated[
        str | None,
        typer.Option("--venue", help="Venue id such as binance_usdm; inferred where the frames tell."),
    ] = None,
    depth: Annotated[int, typer.Option(min=1, max=1_000, help="Levels a side.")] = 10,
    as_json: JsonOption = False,
    config: ConfigOption = None,
) -> None:
    """Show order books: live in the terminal, or the final ones of recordings."""
    from bookrunner.app.commands import books as command

    if recordings:
        _quiet_logging(config)
        command.books_from_recordings(recordings, venue_id, depth, as_json=as_json)
    else:
        from bookrunner.app.commands.books_live import live_books

        _leave(live_books(_settings(config), venue_id, depth, as_json=as_json))


app.command("venue")(venue)


@app.command("import")
def import_command(
    *,
    recordings: Annotated[list[Path], typer.Argument(help="Recorded files (.ndlog.gz, .cfraw.gz).")],
    catalogue: Annotated[
        str | None, typer.Option(help="Folder or URL of the catalogue; default: recorder.path.")
    ] = None,
    no_catalogue: Annotated[bool, typer.Option("--no-catalogue", help="Write the journal only.")] = False,
    journal: Annotated[
        Path | None, typer.Option(help="Also append the raw frames to this journal folder.")
    ] = None,
    venue_id: Annotated[
        str | None, typer.Option("--venue", help="Venue id, where the frames do not tell.")
    ] = None,
    config: ConfigOption = None,
) -> None:
    """Bring recorded frames into the catalogue and the journal."""
    settings = _settings(config)
    from bookrunner.app.commands.import_recording import import_recordings as command

    target = None if no_catalogue else catalogue or settings.recorder.path
    _leave(command(recordings, target, journal, venue_id))


@app.command()
def doctor(
    *,
    config: ConfigOption = None,
    as_json: JsonOption = False,
    venues: Annotated[bool, typer.Option("--venues", help="Also ask the venues for their time.")] = False,
    settings_table: Annotated[
        bool, typer.Option("--settings-table", help="Print the configuration table in Markdown and stop.")
    ] = False,
) -> None:
    """Check the machine, the settings, the ports, the clock and the disk."""
    from bookrunner.app.commands.doctor import doctor as command

    _leave(command(config, as_json=as_json, only_table=settings_table, ask_venues=venues))


JournalPath = Annotated[Path | None, typer.Argument(help="Journal folder; default: journal.path.")]


@journal_app.command("verify")
def journal_verify(
    *, path: JournalPath = None, config: ConfigOption = None, as_json: JsonOption = False
) -> None:
    """Check every record's CRC and sequence."""
    from bookrunner.app.commands import journal

    _leave(journal.verify(_journal_path(path, config), as_json=as_json))


@journal_app.command("stat")
def journal_stat(
    *, path: JournalPath = None, config: ConfigOption = None, as_json: JsonOption = False
) -> None:
    """Count segments, records, bytes and sources, with the time that they cover."""
    from bookrunner.app.commands import journal

    _leave(journal.stat(_journal_path(path, config), as_json=as_json))


@journal_app.command("cat")
def journal_cat(
    path: JournalPath = None,
    config: ConfigOption = None,
    first: Annotated[int, typer.Option("--from", min=1, help="First sequence number.")] = 1,
    last: Annotated[int | None, typer.Option("--to", min=1, help="Last sequence number.")] = None,
    limit: Annotated[int | None, typer.Option(min=1, help="Most records to print.")] = None,
    source: Annotated[
        str | None, typer.Option(help="Only this source, such as binance_usdm/public/0.")
    ] = None,
    kind: Annotated[str | None, typer.Option(help="Only this kind, such as frame.")] = None,
    since: Annotated[str | None, typer.Option(help="Earliest receive time, ISO 8601 or ns.")] = None,
    until: Annotated[str | None, typer.Option(help="First receive time not printed.")] = None,
) -> None:
    """Print records, one JSON object a line."""
    from bookrunner.app.commands import journal

    _leave(
        journal.cat(
            _journal_path(path, config),
            first=first,
            last=last,
            limit=limit,
            source=source,
            kind=kind,
            since=since,
            until=until,
        )
    )


def main(arguments: list[str] | None = None) -> None:
    """Run a command and leave with its exit code; say what was wrong without a stack trace."""
    _open_standard_streams()
    try:
        app(args=arguments)
    except ConfigurationError as error:
        _say_configuration_error(error)
        sys.exit(EXIT_USAGE)
    except InvalidRequestError as error:
        _say(f"error: {error}")
        sys.exit(EXIT_USAGE)
    except BookrunnerError as error:
        _say(f"error: {error.code}: {error}")
        sys.exit(EXIT_FAILED)
    except BrokenPipeError:  # the reader of our output has gone: not our failure
        sys.stdout = None  # nothing is left to flush to
        sys.exit(EXIT_FAILED)


def _open_standard_streams() -> None:
    """Give a process started without one of them (``2>&-``) an empty one, or the next file becomes it."""
    for number, name, mode in ((0, "stdin", "r"), (1, "stdout", "w"), (2, "stderr", "w")):
        if getattr(sys, name) is None:
            descriptor = os.open(os.devnull, os.O_RDWR)
            if descriptor != number:
                os.dup2(descriptor, number)
                os.close(descriptor)
            setattr(sys, name, open(number, mode, encoding="utf-8", closefd=False))  # noqa: SIM115


def _settings(config: Path | None) -> Settings:
    """Read the settings and set logging up by them."""
    from bookrunner.app.settings_sources import load_settings

    settings = load_settings(config)
    import_without("structlog", "rich")
    from bookrunner.app.logging_setup import configure_logging

    configure_logging(settings.logging)
    return settings


def _settings_for_service(config: Path | None) -> Settings:
    """Likewise, for a process that stays: its imports make only objects that stay."""
    import gc

    gc.disable()  # until the garbage_collection service takes over
    return _settings(config)


def _quiet_logging(config: Path | None) -> None:
    """Set logging up for a command whose output is its result: warnings and worse only."""
    import msgspec

    from bookrunner.app.settings import LogLevel
    from bookrunner.app.settings_sources import load_settings

    import_without("structlog", "rich")
    from bookrunner.app.logging_setup import configure_logging

    logging = load_settings(config).logging
    level = LogLevel.WARNING if logging.level in {LogLevel.DEBUG, LogLevel.INFO} else logging.level
    configure_logging(msgspec.structs.replace(logging, level=level))


def _journal_path(path: Path | None, config: Path | None) -> Path:
    _quiet_logging(config)
    if path is not None:
        return path
    from bookrunner.app.settings_sources import load_settings

    return Path(load_settings(config).journal.path)


def _leave(code: int | None) -> None:
    if code:
        raise typer.Exit(code)


def _say(line: str) -> None:
    typer.echo(line, err=True)


def _say_configuration_error(error: ConfigurationError) -> None:
    problems: Any = error.fields.get("problems")
    if not problems:
        _say(f"error: {error}")
        return
    for problem in problems:
        _say(f"error: {problem.field} = {problem.value}: must be {problem.rule}")


if __name__ == "__main__":
    main()
