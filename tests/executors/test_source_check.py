import subprocess
import textwrap
from pathlib import Path

import pytest

from app.executors.source_check import Finding, check_source
from tests.service_process import run_command


def found(source: str) -> list[Finding]:
    return check_source(textwrap.dedent(source))


def rules(source: str) -> list[tuple[int, str]]:
    return [(finding.line, finding.rule) for finding in found(source)]


def in_async(imports: str, call: str) -> list[tuple[int, str]]:
    return rules(f"{imports}\nasync def act(state, url, path):\n    {call}\n")


@pytest.mark.parametrize(
    ("imports", "call", "rule"),
    [
        ("import time", "time.sleep(1)", "blocking-sleep"),
        ("from time import sleep as nap", "nap(1)", "blocking-sleep"),
        ("import time as t", "t.sleep(1)", "blocking-sleep"),
        ("import requests", "answer = requests.get(url).json()", "blocking-network"),
        ("import requests", "requests.Session().post(url)", "blocking-network"),
        ("import httpx", "httpx.get(url)", "blocking-network"),
        ("import httpx", "with httpx.Client() as client: client.get(url)", "blocking-network"),
        ("import urllib.request", "urllib.request.urlopen(url)", "blocking-network"),
        ("from urllib.request import urlopen", "urlopen(url)", "blocking-network"),
        ("import socket", "socket.create_connection((url, 80))", "blocking-network"),
        ("import openai", "openai.OpenAI().chat.completions.create(model='m')", "blocking-network"),
        ("import boto3\ns3 = boto3.client('s3')", "s3.get_object(Bucket='b', Key='k')", "blocking-network"),
        ("import subprocess", "subprocess.run(['ls'])", "blocking-subprocess"),
        ("import os", "os.system('ls')", "blocking-subprocess"),
        ("", "open(path).read()", "blocking-file"),
        ("from pathlib import Path", "Path(path).read_text()", "blocking-file"),
        ("import sqlite3", "sqlite3.connect(path).execute('select 1')", "blocking-database"),
        ("import psycopg", "psycopg.connect(url)", "blocking-database"),
        ("import redis\nclient = redis.Redis()", "client.get('k')", "blocking-database"),
        ("from sqlalchemy import create_engine\nengine = create_engine('sqlite://')", "engine.connect()", "blocking-database"),
        ("import threading\ngate = threading.Event()", "gate.wait()", "blocking-lock"),
        ("", "answer = input('?')", "blocking-terminal"),
    ],
)
def test_a_blocking_call_in_an_async_function_is_found(imports: str, call: str, rule: str) -> None:
    assert [each for _, each in in_async(imports, call)] == [rule]


@pytest.mark.parametrize(
    ("imports", "call"),
    [
        ("import asyncio", "await asyncio.sleep(1)"),
        ("import asyncio, time", "await asyncio.to_thread(time.sleep, 1)"),
        ("import asyncio, time", "await asyncio.to_thread(lambda: time.sleep(1))"),
        ("import httpx", "async with httpx.AsyncClient() as client: await client.get(url)"),
        ("import redis.asyncio as redis\nclient = redis.Redis()", "await client.get('k')"),
        ("import openai\nclient = openai.AsyncOpenAI()", "await client.chat.completions.create(model='m')"),
        ("import asyncio", "await asyncio.create_subprocess_exec('ls')"),
        ("import sqlite3", "sqlite3.Row"),
        ("import time", "time.sleep(0)  # stepwell: ok"),
        ("", "state.get('open')"),
    ],
)
def test_what_does_not_block_is_left_alone(imports: str, call: str) -> None:
    assert in_async(imports, call) == []


def test_a_sync_function_inside_an_async_one_is_not_its_doing() -> None:
    source = """
    import time
    async def act(state):
        def later():
            time.sleep(1)
        await run_in_thread(later)
    """
    assert rules(source) == []


def test_a_blocking_call_is_found_through_the_files_own_functions() -> None:
    source = """
    import requests
    def fetch(url):
        return parse(requests.get(url))
    def load(url):
        return fetch(url)
    async def act(state, url):
        return state.update(page=load(url))
    """
    assert [(each.line, each.rule) for each in found(source)] == [(8, "blocking-network")]
    assert (
        "async function 'act' calls load() -> fetch() -> requests.get(), which blocks every session" in found(source)[0].message
    )


def test_functions_that_call_each_other_are_followed_once() -> None:
    source = """
    def ping(n):
        return pong(n)
    def pong(n):
        return ping(n)
    async def act(state):
        return ping(1)
    """
    assert rules(source) == []


@pytest.mark.parametrize(
    "head",
    [
        "@action(reads=[], writes=[])\ndef act(state):",
        "@burr.action(reads=[], writes=[])\ndef act(state):",
        "@action.pydantic(reads=[], writes=[])\ndef act(state):",
        "@streaming_action(reads=[], writes=[])\ndef act(state):",
    ],
)
def test_a_sync_action_that_waits_gets_a_hint(head: str) -> None:
    findings = found(f"import requests\n{head}\n    return requests.get('http://x')\n")

    assert [(each.rule, each.is_hint) for each in findings] == [("sync-io", True)]
    assert "make it async" in findings[0].message


def test_a_sync_action_class_that_waits_gets_a_hint() -> None:
    source = """
    import time
    class Slow(SingleStepAction):
        def run_and_update(self, state):
            time.sleep(1)
        def helper(self):
            time.sleep(1)
    """
    assert rules(source) == [(5, "sync-io")]


def test_a_sync_function_that_is_no_action_is_left_alone() -> None:
    assert rules("import time\ndef helper():\n    time.sleep(1)\n") == []


def test_a_sync_action_that_reads_a_file_is_left_alone() -> None:
    assert rules("@action(reads=[], writes=[])\ndef act(state):\n    return open('x').read()\n") == []


@pytest.mark.parametrize("file", sorted(Path(__file__).parents[2].joinpath("examples").glob("*.py")), ids=lambda file: file.name)
def test_no_example_blocks_the_loop(file: Path) -> None:
    assert [finding for finding in check_source(file.read_text()) if not finding.is_hint] == []


def check(folder: Path, source: str) -> subprocess.CompletedProcess[str]:
    (folder / "shop.py").write_text(source)
    return run_command("check", "shop.py", cwd=folder)


def test_the_command_prints_a_line_for_each_and_fails(tmp_path: Path) -> None:
    done = check(tmp_path, "import time\nasync def act(state):\n    time.sleep(1)\n")

    assert done.returncode == 1
    assert done.stdout == (
        "shop.py:3:5: warning [blocking-sleep] async function 'act' calls time.sleep(), which blocks every session: "
        "await asyncio.sleep\n"
    )


def test_the_command_passes_a_file_with_hints_only(tmp_path: Path) -> None:
    done = check(tmp_path, "import time\n@action(reads=[], writes=[])\ndef act(state):\n    time.sleep(1)\n")

    assert (done.returncode, done.stdout.count("hint [sync-io]")) == (0, 1)


@pytest.mark.parametrize("source", ["def broken(:\n", None])
def test_the_command_says_in_a_line_why_it_cannot_read_a_file(tmp_path: Path, source: str | None) -> None:
    done = check(tmp_path, source) if source else run_command("check", "nowhere.py", cwd=tmp_path)

    assert done.returncode == 2
    assert len(done.stderr.splitlines()) == 1


@pytest.mark.parametrize(("head", "encoding"), [("", "utf-8-sig"), ("# coding: latin-1\n", "latin-1")])
def test_the_command_reads_every_encoding_that_python_reads(tmp_path: Path, head: str, encoding: str) -> None:
    (tmp_path / "shop.py").write_text(f"{head}café = 1\n", encoding=encoding)
    done = run_command("check", "shop.py", cwd=tmp_path)

    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
