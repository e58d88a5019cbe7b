"""Which calls block a thread, by their dotted names, and what to write instead. A table and a look-up, nothing else."""

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum

__all__ = ["BlockingKind", "Remedy", "remedy_for"]


class BlockingKind(StrEnum):
    """What a call waits for: the name of the rule."""

    SLEEP = "sleep"
    NETWORK = "network"
    DATABASE = "database"
    SUBPROCESS = "subprocess"
    FILE = "file"
    LOCK = "lock"
    TERMINAL = "terminal"


@dataclass(frozen=True, slots=True)
class Remedy:
    """Why a call blocks, and what does not."""

    kind: BlockingKind
    instead: str


_HTTP = Remedy(BlockingKind.NETWORK, "await a method of httpx.AsyncClient")
_SOCKET = Remedy(BlockingKind.NETWORK, "await asyncio.open_connection or the loop's sock_... methods")
_NAME = Remedy(BlockingKind.NETWORK, "await loop.getaddrinfo")
_MODEL = Remedy(BlockingKind.NETWORK, "use the library's async client")
_CLOUD = Remedy(BlockingKind.NETWORK, "use aioboto3, or await asyncio.to_thread")
_PROCESS = Remedy(BlockingKind.SUBPROCESS, "await asyncio.create_subprocess_exec")
_FILE = Remedy(BlockingKind.FILE, "await asyncio.to_thread, or anyio.Path")
_SQL = Remedy(BlockingKind.DATABASE, "use an async driver (asyncpg, psycopg.AsyncConnection, aiosqlite, create_async_engine)")
_LOCK = Remedy(BlockingKind.LOCK, "use its counterpart in asyncio")

_BY_NAME: Mapping[str, Remedy] = {
    "time.sleep": Remedy(BlockingKind.SLEEP, "await asyncio.sleep"),
    "input": Remedy(BlockingKind.TERMINAL, "make it an input of the action, and halt before it"),
    "open": _FILE,
    "io.open": _FILE,
    "os.system": _PROCESS,
    "os.popen": _PROCESS,
    "os.wait": _PROCESS,
    "os.waitpid": _PROCESS,
    "subprocess.run": _PROCESS,
    "subprocess.call": _PROCESS,
    "subprocess.check_call": _PROCESS,
    "subprocess.check_output": _PROCESS,
    "subprocess.getoutput": _PROCESS,
    "subprocess.getstatusoutput": _PROCESS,
    "subprocess.Popen.wait": _PROCESS,
    "subprocess.Popen.communicate": _PROCESS,
    "socket.create_connection": _SOCKET,
    "socket.getaddrinfo": _NAME,
    "socket.gethostbyname": _NAME,
    "socket.gethostbyaddr": _NAME,
    "urllib.request.urlopen": _HTTP,
    "urllib.request.urlretrieve": _HTTP,
    "sqlite3.connect": _SQL,
    "psycopg.connect": _SQL,
    "psycopg2.connect": _SQL,
    "pymysql.connect": _SQL,
    "MySQLdb.connect": _SQL,
    "mysql.connector.connect": _SQL,
    "oracledb.connect": _SQL,
    "pyodbc.connect": _SQL,
    "duckdb.connect": _SQL,
    "smtplib.SMTP": Remedy(BlockingKind.NETWORK, "use aiosmtplib"),
    "smtplib.SMTP_SSL": Remedy(BlockingKind.NETWORK, "use aiosmtplib"),
    "shutil.copyfile": _FILE,
    "shutil.copytree": _FILE,
    "shutil.rmtree": _FILE,
    "asyncio.run": Remedy(BlockingKind.LOCK, "await the coroutine: a loop runs already"),
    "queue.Queue.get": _LOCK,
    "queue.Queue.put": _LOCK,
    "queue.Queue.join": _LOCK,
    "threading.Lock.acquire": _LOCK,
    "threading.Condition.wait": _LOCK,
    "threading.Event.wait": _LOCK,
    "threading.Thread.join": _LOCK,
    "threading.Semaphore.acquire": _LOCK,
    "concurrent.futures.wait": Remedy(BlockingKind.LOCK, "await asyncio.wrap_future"),
    **{f"pathlib.Path.{verb}": _FILE for verb in ("read_text", "read_bytes", "write_text", "write_bytes", "open")},
    **{f"{library}.{verb}": _HTTP for library in ("requests", "httpx") for verb in (
        "get", "post", "put", "patch", "delete", "head", "options", "request", "stream"
    )},
}  # fmt: skip

# everything that an object of these classes does goes over the wire
_BY_PREFIX: Mapping[str, Remedy] = {
    "requests.Session.": _HTTP,
    "requests.session.": _HTTP,
    "httpx.Client.": _HTTP,
    "urllib3.PoolManager.": _HTTP,
    "http.client.HTTPConnection.": _HTTP,
    "http.client.HTTPSConnection.": _HTTP,
    "socket.socket.": _SOCKET,
    "sqlite3.connect.": _SQL,
    "psycopg.connect.": _SQL,
    "psycopg2.connect.": _SQL,
    "pymysql.connect.": _SQL,
    "duckdb.connect.": _SQL,
    "sqlalchemy.create_engine.": _SQL,
    "sqlalchemy.orm.Session.": _SQL,
    "pymongo.MongoClient.": Remedy(BlockingKind.DATABASE, "use pymongo.AsyncMongoClient"),
    "redis.Redis.": Remedy(BlockingKind.DATABASE, "use redis.asyncio"),
    "redis.StrictRedis.": Remedy(BlockingKind.DATABASE, "use redis.asyncio"),
    "boto3.client.": _CLOUD,
    "boto3.resource.": _CLOUD,
    "openai.OpenAI.": _MODEL,
    "openai.AzureOpenAI.": _MODEL,
    "anthropic.Anthropic.": _MODEL,
    "ollama.Client.": _MODEL,
}

_HARMLESS = ("close", "cursor", "bind", "setblocking", "settimeout", "setsockopt", "fileno", "mount")


def remedy_for(name: str) -> Remedy | None:
    """Return what is known against a call of `name`; a method's name is that of its class and its own: `redis.Redis.get`."""
    found = _BY_NAME.get(name)
    if found is None and not name.endswith(_HARMLESS):
        found = next((remedy for prefix, remedy in _BY_PREFIX.items() if name.startswith(prefix)), None)
    return found
