"""What `docker-compose.yml` describes, as processes: services with the environment that it gives, nginx with the file it mounts.

Only what a container has for itself is replaced: addresses, and nginx's folder for temporary files.
"""

import contextlib
import os
import re
import shutil
import socket
import subprocess
import tempfile
import textwrap
import time
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import yaml

from tests.programs import program
from tests.service_process import ROOT, ServiceProcess, clean_environment, run_command, running_service

__all__ = ["COMPOSE", "NGINX_CONF", "Topology", "running_nginx", "running_topology"]

COMPOSE: dict[str, Any] = yaml.safe_load((ROOT / "docker-compose.yml").read_text())
NGINX_CONF = ROOT / "deploy" / "nginx.conf"
REPLICAS = tuple(sorted(name for name, service in COMPOSE["services"].items() if "STEPWELL_REPLICA_URL" in str(service)))
_START_LIMIT_S = 20.0

MACHINE = """
    import asyncio
    from pathlib import Path
    from app.engine import ApplicationBuilder, State, action, streaming_action

    @action(reads=["n"], writes=["n"])
    async def tick(state: State) -> tuple[dict, State]:
        await asyncio.sleep(0.02)
        return {"n": state["n"] + 1}, state.increment(n=1)

    def clock() -> ApplicationBuilder:
        return (
            ApplicationBuilder()
            .with_actions(tick)
            .with_transitions(("tick", "tick"))
            .with_state(n=0)
            .with_entrypoint("tick")
        )

    @streaming_action(reads=[], writes=["items"])
    async def tell(state: State, folder: str):
        for index in range(5):
            yield {"index": index}, None
            while not Path(folder, f"seen-{index}").exists():
                await asyncio.sleep(0.01)
        yield {"index": 5}, state.update(items=5)

    def teller() -> ApplicationBuilder:
        return ApplicationBuilder().with_actions(tell).with_transitions().with_state(items=0).with_entrypoint("tell")
"""


@dataclass
class Topology:
    """`url` is nginx's; the replicas can be asked, stopped and killed one by one."""

    url: str
    replicas: Mapping[str, ServiceProcess]

    def client(self, timeout_s: float = 30.0) -> httpx.AsyncClient:
        return httpx.AsyncClient(base_url=self.url, timeout=timeout_s)


@contextlib.contextmanager
def running_topology(database_url: str, folder: Path, **variables: str) -> Iterator[Topology]:
    """Migrate, start the replicas, then nginx: the order that the file asks for. `variables` are added to each service's."""
    (folder / "clock.py").write_text(textwrap.dedent(MACHINE))
    addresses = {name: f"127.0.0.1:{free_port()}" for name in REPLICAS}

    def environment(name: str) -> dict[str, str]:
        told = COMPOSE["services"][name]["environment"]
        urls = {f"http://{replica}:8000": f"http://{address}" for replica, address in addresses.items()}
        found = {variable: urls.get(value, value) for variable, value in told.items()}
        return {**found, "STEPWELL_DATABASE_URL": database_url, **variables}

    def options(name: str) -> tuple[str, ...]:
        host, _, port = addresses[name].partition(":")
        return ("clock.py:clock", "clock.py:teller", "--host", host, "--port", port)

    migrated = run_command(*COMPOSE["services"]["migrate"]["command"], cwd=folder, **environment("migrate"))
    assert migrated.returncode == 0, migrated.stderr
    with contextlib.ExitStack() as stack:
        with ThreadPoolExecutor() as threads:  # they start side by side
            services = (running_service(*options(name), cwd=folder, variables=environment(name)) for name in REPLICAS)
            replicas = dict(zip(REPLICAS, threads.map(stack.enter_context, services), strict=True))
        url = stack.enter_context(running_nginx({f"{name}:8000": address for name, address in addresses.items()}))
        yield Topology(url, replicas)


@contextlib.contextmanager
def running_nginx(addresses: Mapping[str, str]) -> Iterator[str]:
    """nginx with the file of the repository, in which the names of `addresses` are replaced; the value is its url."""
    folder = Path(tempfile.mkdtemp(prefix="stepwell-nginx-"))
    os.chmod(folder, 0o755)  # as root, its workers run as a user of their own
    listener = f"127.0.0.1:{free_port()}"
    text = NGINX_CONF.read_text()
    for before, after in {**addresses, "listen 8080": f"listen {listener}", " /tmp/": f" {folder}/"}.items():
        assert before in text
        text = text.replace(before, after)
    settings = folder / "nginx.conf"
    settings.write_text(text)
    found = program("nginx")
    command = [found.path, "-p", folder, "-c", settings, "-e", "stderr", "-g", "daemon off;"]
    with (folder / "log").open("wb") as log:
        process = subprocess.Popen(
            command, env={**clean_environment(), **found.variables}, stdin=subprocess.DEVNULL, stdout=log, stderr=log
        )
    try:
        _wait_for(listener, process, folder / "log")
        yield f"http://{listener}"
    finally:
        process.terminate()  # its workers end with it; with a SIGKILL they would not
        process.wait()
        noticed = re.findall(r"^.*\[(?:emerg|alert|crit)\].*$", (folder / "log").read_text(), re.MULTILINE)
        shutil.rmtree(folder, ignore_errors=True)
    assert noticed == [], noticed


def free_port() -> int:
    """A port that nobody listens on, out of those that the system does not give to clients."""
    while True:
        port = 10_000 + int.from_bytes(os.urandom(2)) % 20_000
        with contextlib.suppress(OSError), socket.create_server(("127.0.0.1", port)):
            return port


def _wait_for(address: str, process: subprocess.Popen[bytes], log: Path) -> None:
    host, _, port = address.partition(":")
    until_s = time.monotonic() + _START_LIMIT_S
    while True:
        with contextlib.suppress(ConnectionRefusedError), socket.create_connection((host, int(port))):
            return
        assert process.poll() is None, log.read_text()
        assert time.monotonic() < until_s, log.read_text()
        time.sleep(0.02)
