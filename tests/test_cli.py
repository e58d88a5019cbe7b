"""The command as a user meets it: a real process, its first lines, its errors, its end."""

import json
import re
import shlex
import signal
import socket
import subprocess
import sys
import textwrap
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from tests.service_process import ServiceProcess, clean_environment, run_command, running_service

MACHINES = """
    import asyncio
    from app.engine import ApplicationBuilder, State, action, machine

    @action(reads=["n"], writes=["n"])
    async def count(state: State, by: int) -> State:
        return state.update(n=state["n"] + by)

    @action(reads=["n"], writes=["parity"])
    def judge(state: State) -> State:
        return state.update(parity=state["n"] % 2)

    @action(reads=["n"], writes=["n"])
    async def tick(state: State) -> State:
        await asyncio.sleep(0.01)
        return state.update(n=state["n"] + 1)

    @action(reads=[], writes=["slept"])
    async def sleep(state: State, seconds: float) -> State:
        await asyncio.sleep(seconds)
        return state.update(slept=seconds)

    @machine
    def sleeper() -> ApplicationBuilder:
        return ApplicationBuilder().with_actions(sleep).with_entrypoint("sleep")

    @machine(name="counter", version="7")
    def make_counter() -> ApplicationBuilder:
        "Counts."
        return (
            ApplicationBuilder().with_actions(count, judge).with_transitions(("count", "judge"), ("judge", "count"))
            .with_state(n=0).with_entrypoint("count")
        )

    @machine
    def ticker() -> ApplicationBuilder:
        return (
            ApplicationBuilder().with_actions(tick).with_transitions(("tick", "tick")).with_state(n=0).with_entrypoint("tick")
        )
"""


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    made = tmp_path_factory.mktemp("machines")
    (made / "bots.py").write_text(textwrap.dedent(MACHINES))
    return made


@pytest.fixture(scope="module")
def service(folder: Path) -> Iterator[ServiceProcess]:
    with running_service("bots.py:make_counter", "bots.py:ticker", cwd=folder) as started:
        yield started


def perform(curl: str) -> httpx.Response:
    """Send the request that a curl command line stands for."""
    _, *arguments = shlex.split(curl)
    url = next(each for each in arguments if each.startswith("http"))
    header, value = arguments[arguments.index("-H") + 1].split(": ")
    return httpx.post(url, content=arguments[arguments.index("-d") + 1], headers={header: value})


def complaint(*arguments: str, cwd: Path, **variables: str) -> str:
    """Run a command that cannot work; it must say so in one line and end with 2."""
    ended = run_command(*arguments, cwd=cwd, **variables)
    assert (ended.returncode, ended.stdout) == (2, ""), ended
    (line,) = ended.stderr.splitlines()
    assert line.startswith("stepwell: ")
    return line.removeprefix("stepwell: ")


def test_version_is_printed(tmp_path: Path) -> None:
    assert re.fullmatch(r"stepwell \d+\.\d+\.\d+\n", run_command("--version", cwd=tmp_path).stdout)


# the first lines


def test_the_first_lines_say_where_what_and_how(service: ServiceProcess, folder: Path) -> None:
    assert service.output[:4] == [
        f"Stepwell 0.1.0 listens on {service.url} (see {service.url}/docs)\n",
        "  machine  counter  count (loop), judge (thread)\n",
        "  machine  ticker   tick (loop)\n",
        "  database sqlite:///stepwell.db\n",
    ]
    assert (folder / "stepwell.db").is_file()


def test_the_curl_line_works_as_it_stands(service: ServiceProcess) -> None:
    create, echo, step = service.curl.split(" && ")
    assert echo == "echo"
    assert perform(create).status_code == 201
    answer = perform(step)
    assert answer.status_code == 200
    assert (answer.json()["action"], answer.json()["seq"], answer.json()["state"]) == ("count", 0, {"n": 1})


def test_port_0_takes_a_free_port_and_says_which(service: ServiceProcess) -> None:
    assert not service.url.endswith(":0")
    assert httpx.get(f"{service.url}/readyz").status_code == 200


def test_a_name_of_the_localhost_can_be_listened_on(folder: Path) -> None:
    with running_service("--host", "localhost", "--database-url", "memory://", "bots.py:ticker", cwd=folder) as started:
        assert httpx.get(f"{started.url}/healthz").status_code == 200


def test_everything_can_be_said_in_the_environment(folder: Path) -> None:
    variables = {"STEPWELL_MACHINES": "bots.py:ticker, bots.py:make_counter", "STEPWELL_DATABASE_URL": "memory://"}
    with running_service(cwd=folder, variables=variables) as started:
        assert [each["name"] for each in httpx.get(f"{started.url}/v1/machines").json()["items"]] == ["ticker", "counter"]


# what can be wrong


def test_a_wrong_path_is_one_line(folder: Path) -> None:
    assert complaint("serve", "bot.py", cwd=folder) == "machine 'bot.py': there is no file bot.py; did you mean bots.py?"


def test_a_missing_name_is_one_line(folder: Path) -> None:
    line = complaint("serve", "bots.py:tickr", cwd=folder)
    assert line == "machine 'bots.py:tickr': bots.py has no 'tickr'; did you mean 'ticker'?"


def test_a_machine_that_does_not_validate_is_one_line(tmp_path: Path) -> None:
    (tmp_path / "bad.py").write_text(textwrap.dedent(MACHINES).replace('with_entrypoint("tick")', 'with_entrypoint("tock")'))
    line = complaint("serve", "bad.py:ticker", cwd=tmp_path)
    assert line.startswith("machine 'bad.py:ticker': it does not validate: ")
    assert "tock" in line


def test_a_file_that_cannot_be_imported_is_one_line_with_the_place(tmp_path: Path) -> None:
    (tmp_path / "bad.py").write_text("import os\nimport no_such_library\n")
    assert complaint("serve", "bad.py", cwd=tmp_path) == (
        f"machine 'bad.py': importing it raised ModuleNotFoundError: No module named 'no_such_library' ({tmp_path / 'bad.py'}:2)"
    )


def test_a_users_package_called_app_is_one_line(folder: Path, tmp_path: Path) -> None:
    (tmp_path / "app").mkdir()
    (tmp_path / "app" / "__init__.py").touch()
    (tmp_path / "bots.py").write_text((folder / "bots.py").read_text())
    assert "'app' is the name of Stepwell's own package: rename it" in complaint("serve", "bots.py:ticker", cwd=tmp_path)


def test_no_machine_is_one_line(tmp_path: Path) -> None:
    assert complaint("serve", cwd=tmp_path).startswith("no machine to host: name one, as in `stepwell serve ")


def test_two_machines_of_one_name_are_one_line(folder: Path) -> None:
    line = complaint("serve", "bots.py:ticker", "./bots.py:ticker", cwd=folder)
    assert "'bots.py:ticker' is also named 'ticker'" in line


def test_a_port_in_use_is_one_line(folder: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = str(taken.getsockname()[1])
        line = complaint("serve", "--port", port, "bots.py:ticker", cwd=folder)
    assert line == f"cannot listen on 127.0.0.1:{port}: address already in use"


def test_a_host_that_is_not_ours_is_one_line(folder: Path) -> None:
    line = complaint("serve", "--host", "192.0.2.1", "bots.py:ticker", cwd=folder)
    assert line == "cannot listen on 192.0.2.1:8000: cannot assign requested address"


@pytest.mark.parametrize(
    ("url", "shown"),
    [
        ("postgresql://me:geheim@127.0.0.1:1/db", "database postgresql://me:***@127.0.0.1:1/db: "),
        ("sqlite:////no/such/folder/x.db", "database sqlite:////no/such/folder/x.db: "),
        ("mysql://me:geheim@db/x", "database mysql://me:***@db/x: "),
        ("geheim", "database "),
        ("postgresql://me:ge@heim:geheim@db/x", "database postgresql://***: "),
        ("postgresql://me:geheim@db/x?port=many", "database postgresql://me:***@db/x?port=many: "),
    ],
)
def test_a_database_that_cannot_be_reached_is_one_line_without_the_password(url: str, shown: str, folder: Path) -> None:
    line = complaint("serve", "--port", "0", "--database-url", url, "bots.py:ticker", cwd=folder)
    assert line.startswith(shown)
    assert "geheim" not in line.replace(shown, "")


def test_a_wrong_setting_is_one_line(folder: Path) -> None:
    line = complaint("serve", "bots.py:ticker", cwd=folder, STEPWELL_PORT="ninety")
    assert line == "STEPWELL_PORT should be a valid integer, unable to parse string as an integer, not 'ninety'"


@pytest.mark.parametrize("secret", ["geheim", "whsec_geheim", f"whsec_{'g' * 33}"])
def test_a_wrong_webhook_secret_is_one_line_that_names_the_variable_and_not_the_secret(secret: str, folder: Path) -> None:
    line = complaint("serve", "bots.py:ticker", cwd=folder, STEPWELL_WEBHOOK_SECRET=secret)
    assert line == "STEPWELL_WEBHOOK_SECRET must be whsec_ and the base64 of 24 to 64 bytes"


# the schema


def test_the_schema_is_brought_up_to_date_by_hand(folder: Path, tmp_path: Path) -> None:
    url = ("--database-url", f"sqlite:///{tmp_path}/hand.db")
    assert run_command("db", "current", *url, cwd=tmp_path).stdout == "none\n"
    assert not (tmp_path / "hand.db").exists()
    assert "the database has no schema yet" in complaint("db", "check", *url, cwd=tmp_path)
    upgraded = run_command("db", "upgrade", *url, cwd=tmp_path)
    version = run_command("db", "current", *url, cwd=tmp_path).stdout.strip()
    assert upgraded.stdout == f"schema {version} in {url[1]}\n"
    checked = run_command("db", "check", cwd=tmp_path, STEPWELL_DATABASE_URL=url[1])
    assert (checked.returncode, checked.stdout, checked.stderr) == (0, "", "")


@pytest.mark.parametrize("what", ["upgrade", "current", "check"])
def test_a_schema_that_cannot_be_reached_is_one_line_without_the_password(what: str, tmp_path: Path) -> None:
    line = complaint("db", what, "--database-url", "postgresql://me:geheim@127.0.0.1:1/db", cwd=tmp_path)
    assert line.startswith("database postgresql://me:***@127.0.0.1:1/db: ")
    assert "geheim" not in line


def test_a_service_told_not_to_migrate_refuses_an_empty_postgresql(folder: Path, postgres_url: str) -> None:
    line = complaint("serve", "--no-migrate", "--port", "0", "--database-url", postgres_url, "bots.py:ticker", cwd=folder)
    assert "run `stepwell db upgrade`" in line


# the end


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_ends_open_streams_and_leaves_their_runs_to_the_next_start(number: signal.Signals, folder: Path) -> None:
    with running_service("--database-url", "memory://", "bots.py:ticker", cwd=folder) as started, httpx.Client() as client:
        session = client.post(f"{started.url}/v1/sessions", json={"machine": "ticker"}).json()["id"]
        types: list[str] = []
        with client.stream(
            "POST", f"{started.url}/v1/sessions/{session}/runs", json={}, headers={"Accept": "text/event-stream"}
        ) as stream:
            for line in stream.iter_lines():
                if line.startswith("event: "):
                    types.append(line.removeprefix("event: "))
                if types.count("step.finished") == 3 and line.startswith("event: step.finished"):
                    started.process.send_signal(number)
        assert types[-1] == "step.finished"
        assert started.wait() == 0
        assert "Traceback" not in started.text()


def test_a_follower_of_an_idle_session_does_not_hold_up_the_end(folder: Path) -> None:
    with running_service("--database-url", "memory://", "bots.py:ticker", cwd=folder) as started, httpx.Client() as client:
        session = client.post(f"{started.url}/v1/sessions", json={"machine": "ticker"}).json()["id"]
        with client.stream("GET", f"{started.url}/v1/sessions/{session}/events", timeout=30) as stream:
            assert stream.status_code == 200
            started.process.send_signal(signal.SIGTERM)
            assert list(stream.iter_lines()) is not None
        assert started.wait() == 0


def begin_to_sleep(started: ServiceProcess, client: httpx.Client, seconds: float) -> str:
    """Leave a session in the middle of a step that nobody waits for, and return its id."""
    session = str(client.post(f"{started.url}/v1/sessions", json={"machine": "sleeper"}).json()["id"])
    body = {"inputs": {"seconds": seconds}}
    stream = client.stream(
        "POST", f"{started.url}/v1/sessions/{session}/runs", json=body, headers={"Accept": "text/event-stream"}
    )
    with stream as answer:
        assert any(line == "event: step.started" for line in answer.iter_lines())
    return session


def is_listening(started: ServiceProcess) -> bool:
    try:
        return httpx.get(f"{started.url}/healthz").is_success
    except httpx.TransportError:
        return False


def test_a_running_step_is_committed_before_the_end(folder: Path, tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path}/end.db"
    with running_service("--database-url", url, "bots.py:sleeper", cwd=folder) as started, httpx.Client() as client:
        session = begin_to_sleep(started, client, 0.5)
        assert started.stop() == 0
    with running_service("--database-url", url, "bots.py:sleeper", cwd=folder) as again:
        assert httpx.get(f"{again.url}/v1/sessions/{session}").json()["state"] == {"slept": 0.5}


def test_a_second_interrupt_does_not_wait_for_running_steps(folder: Path) -> None:
    arguments, patient = ("--database-url", "memory://", "bots.py:sleeper"), {"STEPWELL_SHUTDOWN_GRACE_S": "200"}
    with running_service(*arguments, cwd=folder, variables=patient) as started, httpx.Client() as client:
        begin_to_sleep(started, client, 200)
        started.process.send_signal(signal.SIGINT)
        while is_listening(started):
            pass  # until the first one has been heard
        assert started.stop(signal.SIGINT) == -signal.SIGINT


# under somebody else's server


def uvicorn(*arguments: str) -> tuple[str, ...]:
    return (sys.executable, "-m", "uvicorn", "app.main:app", *arguments)


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        return int(listener.getsockname()[1])


def test_uvicorn_serves_the_same_configured_by_the_environment(folder: Path) -> None:
    port = free_port()
    variables = {"STEPWELL_MACHINES": "bots.py:ticker", "STEPWELL_DATABASE_URL": "memory://"}
    with running_service(cwd=folder, command=uvicorn("--port", str(port)), variables=variables, sign=f":{port}") as started:
        url = f"http://127.0.0.1:{port}"
        session = httpx.post(f"{url}/v1/sessions", json={"machine": "ticker"}).json()["id"]
        with httpx.stream("GET", f"{url}/v1/sessions/{session}/events", timeout=30) as stream:
            assert stream.status_code == 200
            started.process.send_signal(signal.SIGTERM)
            assert list(stream.iter_lines()) is not None
        assert started.wait() in {0, -signal.SIGTERM}


@pytest.mark.parametrize(
    ("variables", "expected"),
    [
        ({"STEPWELL_MACHINES": "bot.py"}, "machine 'bot.py': there is no file bot.py; did you mean bots.py?"),
        (
            {"STEPWELL_MACHINES": "bots.py:ticker", "STEPWELL_THREADS": "0"},
            "STEPWELL_THREADS should be greater than or equal to 1",
        ),
        ({}, "no machine to host"),
    ],
)
def test_uvicorn_with_a_wrong_environment_says_one_line(variables: dict[str, str], expected: str, folder: Path) -> None:
    ended = subprocess.run(
        uvicorn("--port", "0"), cwd=folder, env=clean_environment(**variables), capture_output=True, text=True, timeout=60
    )
    assert ended.returncode == 2
    (line,) = [each for each in ended.stderr.splitlines() if not each.startswith("INFO")]
    assert line.startswith(f"stepwell: {expected}")


def test_uvicorn_says_of_a_database_that_it_cannot_reach_one_line(folder: Path) -> None:
    variables = {"STEPWELL_MACHINES": "bots.py:ticker", "STEPWELL_DATABASE_URL": "postgresql://me:geheim@127.0.0.1:1/db"}
    ended = subprocess.run(
        uvicorn("--port", "0"), cwd=folder, env=clean_environment(**variables), capture_output=True, text=True, timeout=60
    )
    assert ended.returncode != 0
    reason, last = [each for each in ended.stderr.splitlines() if not each.startswith("INFO")]
    assert reason.startswith("ERROR:    database postgresql://me:***@127.0.0.1:1/db: ")
    assert last == "ERROR:    Application startup failed. Exiting."


def test_json_logs_are_json(folder: Path) -> None:
    with running_service(
        "--database-url", "memory://", "--log-format", "json", "--log-level", "debug", "bots.py:make_counter", cwd=folder
    ) as started:
        create, _, step = started.curl.split(" && ")
        perform(create)
        perform(step)
        perform(step.replace(' -d \'{"inputs": {"by": 1}}\'', " -d '{}'"))
        started.stop()
        lines = [json.loads(line) for line in started.errors]
    assert [each for each in lines if each["level"] == "warning" and "judge" in each["message"]]
