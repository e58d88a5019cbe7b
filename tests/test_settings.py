"""Settings: from variables, from options, and what a wrong one says."""

import pytest

from app.settings import Settings, SettingsInvalid, read_settings


@pytest.fixture(autouse=True)
def _no_variables(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in Settings.model_fields:
        monkeypatch.delenv(f"STEPWELL_{name.upper()}", raising=False)


def test_without_variables_the_service_listens_here_and_stores_in_a_file() -> None:
    settings = read_settings()
    assert (settings.host, settings.port, settings.database_url) == ("127.0.0.1", 8000, "sqlite:///stepwell.db")
    assert settings.machines == ()


@pytest.mark.parametrize("text", ["a.py:one,b:two", "a.py:one b:two", " a.py:one,\n b:two ,"])
def test_machines_are_separated_by_commas_or_blanks(text: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("STEPWELL_MACHINES", text)
    assert read_settings().machines == ("a.py:one", "b:two")


def test_every_setting_is_a_variable(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, field in Settings.model_fields.items():
        value = "x.py" if name == "machines" else "" if field.default == () else str(field.default)
        monkeypatch.setenv(f"STEPWELL_{name.upper()}", value)
    assert read_settings() == Settings(machines=("x.py",))


def test_an_option_beats_its_variable(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("STEPWELL_PORT", "1234")
    assert read_settings(port=4321).port == 4321
    assert read_settings().port == 1234


def test_levels_are_read_in_any_case(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("STEPWELL_LOG_LEVEL", "DEBUG")
    assert read_settings().log_level == "debug"


def test_each_wrong_setting_has_a_line_that_names_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("STEPWELL_PORT", "99999")
    monkeypatch.setenv("STEPWELL_THREADS", "many")
    with pytest.raises(SettingsInvalid) as caught:
        read_settings()
    assert caught.value.problems == [
        "STEPWELL_PORT should be less than or equal to 65535, not '99999'",
        "STEPWELL_THREADS should be a valid integer, unable to parse string as an integer, not 'many'",
    ]


def test_a_wrong_database_url_is_not_repeated() -> None:
    with pytest.raises(SettingsInvalid) as caught:
        read_settings(database_url=["secret"])
    assert "secret" not in str(caught.value)


@pytest.mark.parametrize("name", ["loop_lag_budget_ms", "session_ttl_s", "shutdown_grace_s"])
@pytest.mark.parametrize("value", ["inf", "1e300"])
def test_a_time_that_clocks_cannot_count_is_refused(name: str, value: str) -> None:
    with pytest.raises(SettingsInvalid, match=f"^STEPWELL_{name.upper()} should be less than or equal to .*, not '{value}'$"):
        read_settings(**{name: value})


@pytest.mark.parametrize("url", ["replica-1:8000", "nonsense", "ftp://replica-1", "http://", "http://replica-1:port"])
def test_a_replica_url_at_which_nobody_can_be_reached_is_refused(url: str) -> None:
    with pytest.raises(SettingsInvalid, match=r"^STEPWELL_REPLICA_URL must be as in http://replica-1:8000, not "):
        read_settings(replica_url=url)


@pytest.mark.parametrize("url", ["http://replica-1:8000", "https://replica.example/one", "http://[::1]:8000", ""])
def test_a_replica_url_names_a_host_and_ends_where_paths_begin(url: str) -> None:
    assert read_settings(replica_url=url).replica_url == url
    assert read_settings(replica_url=f"{url}/" if url else url).replica_url == url


@pytest.mark.parametrize("address", ["nonsense", "local:", "local:0", "local:many", "LOCAL", "tcp://"])
def test_a_dask_address_that_is_none_is_refused(address: str) -> None:
    with pytest.raises(SettingsInvalid, match=r"^STEPWELL_DASK must be as in tcp://host:8786, local or local:4, not "):
        read_settings(dask=address)


@pytest.mark.parametrize("address", ["", "local", "local:4", "tcp://host:8786", "tls://[::1]:8786", "host:8786"])
def test_a_dask_address_is_a_scheduler_or_a_cluster_of_our_own(address: str) -> None:
    assert read_settings(dask=address).dask == address


@pytest.mark.parametrize(
    "host", ["https://example.org", "example.org:8443", "10.0.0.1:80", "*.example.org", ".example.org", "example.org/hooks"]
)
def test_a_webhook_host_that_no_url_can_have_is_refused(host: str) -> None:
    with pytest.raises(SettingsInvalid, match=r"^STEPWELL_WEBHOOK_HOSTS must be names or addresses of hosts alone, not "):
        read_settings(webhook_hosts=f"hooks.example.org, {host}")


def test_webhook_hosts_are_names_and_addresses() -> None:
    assert read_settings(webhook_hosts="example.org my_host,10.0.0.1 fd00::1").webhook_hosts == (
        *("example.org", "my_host"),
        *("10.0.0.1", "fd00::1"),
    )
