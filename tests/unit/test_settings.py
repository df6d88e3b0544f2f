from pathlib import Path

import pytest

from bookrunner.app.settings import DEFAULT_PAIRS, Settings, is_loopback
from bookrunner.app.settings_sources import load_settings
from bookrunner.app.settings_table import settings_table
from bookrunner.core.enums import Channel
from bookrunner.core.errors import ConfigurationError

NO_DOTENV = Path("/nonexistent/.env")
README = Path(__file__).parents[2] / "README.md"


def load(
    tmp_path: Path,
    toml: str | None = None,
    environ: dict[str, str] | None = None,
    dotenv: str | None = None,
) -> Settings:
    config = None
    if toml is not None:
        config = tmp_path / "settings.toml"
        config.write_text(toml)
    dotenv_path = NO_DOTENV
    if dotenv is not None:
        dotenv_path = tmp_path / "dotenv"
        dotenv_path.write_text(dotenv)
    return load_settings(config, environ or {}, dotenv_path)


def refusal(tmp_path: Path, toml: str | None = None, **sources: object) -> ConfigurationError:
    with pytest.raises(ConfigurationError) as caught:
        load(tmp_path, toml, **sources)  # type: ignore[arg-type]
    return caught.value


def test_defaults_follow_nine_pairs_at_the_real_venues() -> None:
    settings = Settings()
    assert len(DEFAULT_PAIRS) == 9
    assert set(settings.venues.enabled()) == {"binance_usdm", "bybit_linear"}
    for venue in settings.venues.by_id().values():
        assert venue.symbols == DEFAULT_PAIRS
        assert venue.websocket_url.startswith("wss://")
        assert venue.rest_url.startswith("https://")
    assert settings.book.levels == 100
    assert settings.book.display_levels == 5
    assert settings.fanout.queue_messages == 4_096
    assert settings.fanout.throttle_ms == 1_000
    assert settings.transport.max_retries is None


def test_later_sources_win_over_earlier_ones(tmp_path: Path) -> None:
    settings = load(
        tmp_path,
        "[api]\nport = 1\n[fanout]\nport = 2\n[book]\nlevels = 50\n",
        dotenv="BOOKRUNNER_API__PORT=11\nBOOKRUNNER_FANOUT__PORT=12\n",
        environ={"BOOKRUNNER_API__PORT": "21"},
    )
    assert (settings.api.port, settings.fanout.port, settings.book.levels) == (21, 12, 50)


def test_an_override_keeps_the_rest_of_its_section(tmp_path: Path) -> None:
    settings = load(tmp_path, "[venues.bybit_spot]\nenabled = true\n")
    assert settings.venues.bybit_spot.enabled
    assert settings.venues.bybit_spot.rest_url == "https://api.bybit.com"


def test_the_environment_spells_lists_tables_and_booleans_as_text(tmp_path: Path) -> None:
    settings = load(
        tmp_path,
        environ={
            "BOOKRUNNER_VENUES__BINANCE_USDM__SYMBOLS": "BTCUSDT, ETHUSDT",
            "BOOKRUNNER_VENUES__BINANCE_USDM__CHANNELS": '["depth"]',
            "BOOKRUNNER_JOURNAL__ENABLED": "false",
            "BOOKRUNNER_LOGGING__MODULES": '{"bookrunner.venues": "debug"}',
            "BOOKRUNNER_TRANSPORT__MAX_RETRIES": "3",
            "UNRELATED": "1",
        },
    )
    assert settings.venues.binance_usdm.symbols == ("BTCUSDT", "ETHUSDT")
    assert settings.venues.binance_usdm.channels == (Channel.DEPTH,)
    assert not settings.journal.enabled
    assert settings.logging.modules == {"bookrunner.venues": "debug"}
    assert settings.transport.max_retries == 3


def test_dotenv_takes_comments_quotes_and_export_and_ignores_other_programs(tmp_path: Path) -> None:
    settings = load(
        tmp_path,
        dotenv="# a comment\n\nexport BOOKRUNNER_API__PORT='3001'\n"
        "BOOKRUNNER_JOURNAL__PATH = here # why\nPOSTGRES_PASSWORD=x\n",
    )
    assert settings.api.port == 3001
    assert settings.journal.path == "here"


@pytest.mark.parametrize(
    ("toml", "field", "value", "rule"),
    [
        ("[api]\nport = 70000", "api.port", "70000", "an integer at least 0, at most 65535"),
        ("[api]\nport = '3000'", "api.port", "3000", "an integer"),
        ("[api]\nport = true", "api.port", "True", "an integer"),
        ("[api]\nprot = 1", "api.prot", "(not shown)", "did you mean port?"),
        ("[books]\nlevels = 1", "books", "(not shown)", "did you mean book?"),
        ("api = 3", "api", "3", "a table"),
        ("[api]\nhost = '0.0.0.0'", "api.host", "0.0.0.0", "a loopback address, unless allow_remote"),
        ("[fanout]\nhost = 'box.lan'", "fanout.host", "box.lan", "a loopback address, unless allow_remote"),
        ("[simulator]\nhost = '::'", "simulator.host", "::", "a loopback address"),
        ("[logging]\nformat = 'xml'", "logging.format", "xml", "one of console, json"),
        ("[logging.modules]\nx = 'loud'", "logging.modules", "{'x': 'loud'}", "one of debug"),
        ("[transport]\nbackoff_base_s = nan", "transport.backoff_base_s", "nan", "a number above 0"),
        ("[journal]\nretention_days = inf", "journal.retention_days", "inf", "a number above 0"),
        ("[transport]\nbackoff_cap_s = 0.1", "transport.backoff_cap_s", "0.1", "at least backoff_base_s"),
        ("[transport]\nmax_retries = -1", "transport.max_retries", "-1", "an integer at least 0"),
        ("[fanout]\nthrottle_ms = 20", "fanout.throttle_ms", "20", "at least throttle_min_ms"),
        ("[book]\nlevels = 3", "book.display_levels", "5", "at most book.levels"),
        ("[fanout]\nport = 3000", "api.port", "3000", "another port"),
        (
            "[venues.binance_usdm]\nsymbols = ['btcusdt']",
            "venues.binance_usdm.symbols",
            "btcusdt",
            "upper case",
        ),
        ("[venues.binance_usdm]\nsymbols = []", "venues.binance_usdm.symbols", "[]", "at least 1"),
        (
            "[venues.binance_usdm]\nsymbols = ['A', 'A']",
            "venues.binance_usdm.symbols",
            "'A'",
            "no value twice",
        ),
        ("[venues.binance_usdm]\nchannels = []", "venues.binance_usdm.channels", "[]", "at least 1"),
        (
            "[venues.bybit_spot]\nchannels = ['trades', 'quotes']",
            "venues.bybit_spot.channels",
            "['trades', 'quotes']",
            "depth in it",
        ),
        (
            "[venues.binance_usdm]\nenabled = false\n[venues.bybit_linear]\nenabled = false",
            "venues",
            "all disabled",
            "at least one",
        ),
        ("this is no toml", "config", "settings.toml", "a TOML document"),
    ],
)
def test_a_bad_value_is_refused_with_field_value_and_rule(
    tmp_path: Path, toml: str, field: str, value: str, rule: str
) -> None:
    error = refusal(tmp_path, toml)
    assert error.fields["field"] == field
    assert value in str(error.fields["value"])
    assert rule in str(error.fields["rule"])


def test_all_problems_are_reported_together_with_their_origin(tmp_path: Path) -> None:
    error = refusal(
        tmp_path,
        "[api]\nport = -1\n[journal]\npath = ''\n",
        environ={"BOOKRUNNER_BOOK__LEVELS": "many", "BOOKRUNNER_NO__SUCH": "1", "BOOKRUNNER_API": "1"},
    )
    problems = error.fields["problems"]
    assert isinstance(problems, tuple)
    by_field = {problem.field: problem.rule for problem in problems}
    assert set(by_field) == {
        "api.port",
        "journal.path",
        "book.levels",
        "BOOKRUNNER_NO__SUCH",
        "BOOKRUNNER_API",
    }
    assert by_field["api.port"].endswith("[settings.toml]")
    assert by_field["book.levels"].endswith("[environment: BOOKRUNNER_BOOK__LEVELS]")


def test_a_remote_address_needs_an_explicit_word(tmp_path: Path) -> None:
    settings = load(tmp_path, "[api]\nhost = '0.0.0.0'\nallow_remote = true")
    assert settings.api.host == "0.0.0.0"


@pytest.mark.parametrize("host", ["127.0.0.1", "127.9.9.9", "::1", "localhost"])
def test_loopback_addresses(host: str) -> None:
    assert is_loopback(host)


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "10.0.0.1", "example.com", "", "127.0.0.1.evil.com"])
def test_other_addresses_are_remote(host: str) -> None:
    assert not is_loopback(host)


def test_secrets_are_never_repeated(tmp_path: Path) -> None:
    error = refusal(
        tmp_path,
        "[venues.binance_usdm]\nrest_url = 'https://me:hunter2@host'\napi_key = 'hunter2'\n",
        environ={"BOOKRUNNER_API_SECRET": "hunter2"},
        dotenv="hunter2 alone on a line\n",
    )
    problems = error.fields["problems"]
    assert isinstance(problems, tuple)
    assert len(problems) == 4
    assert "hunter2" not in str(error) + repr(problems)


def test_a_named_file_must_exist(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError) as caught:
        load_settings(tmp_path / "missing.toml", {}, NO_DOTENV)
    assert "readable" in str(caught.value.fields["rule"])
    with pytest.raises(ConfigurationError):
        load_settings(None, {"BOOKRUNNER_CONFIG": str(tmp_path / "missing.toml")}, NO_DOTENV)


def test_settings_cannot_be_changed_afterwards() -> None:
    with pytest.raises(AttributeError):
        Settings().api.port = 1  # type: ignore[misc]


def test_the_table_names_every_key_once() -> None:
    rows = [line.split("`")[1] for line in settings_table().splitlines()[2:]]
    assert len(rows) == len(set(rows)) > 50
    assert {"api.port", "venues.bybit_spot.rest_url", "logging.modules", "transport.max_retries"} <= set(rows)


def test_the_readme_shows_the_table_of_today() -> None:
    text = README.read_text(encoding="utf-8")
    opening, closing = "<!-- settings -->", "<!-- /settings -->"
    assert opening in text, "the README has no configuration table"
    shown = text.split(opening)[1].split(closing)[0]
    assert shown.strip() == settings_table(), "run: bookrunner doctor --settings-table"
