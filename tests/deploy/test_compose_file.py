"""The compose file, nginx's file and the image against the schema, the settings and each other."""

import copy
import json
import re
from pathlib import Path
from typing import Any

import jsonschema
import pytest

from app import serving
from app.settings import Settings
from tests.deploy.topology import COMPOSE, NGINX_CONF, REPLICAS
from tests.service_process import ROOT

SCHEMA = json.loads((Path(__file__).parent / "compose_spec" / "compose-spec.json").read_text())
CONF = NGINX_CONF.read_text()
SERVICES: dict[str, Any] = COMPOSE["services"]
DEFAULTS = Settings.model_construct()
_SECONDS = {"s": 1, "m": 60, "h": 3600}


def told(directive: str) -> str:
    """What nginx's file says of something that it says once."""
    found = re.findall(rf"^\s*{directive} ([^;]+);", CONF, re.MULTILINE)
    assert len(found) == 1, directive
    return str(found[0])


def seconds(text: str) -> int:
    return int(text[:-1]) * _SECONDS[text[-1]]


def validate(document: Any) -> None:
    jsonschema.Draft201909Validator(SCHEMA).validate(document)


def test_the_file_is_one_of_the_compose_specification() -> None:
    validate(COMPOSE)


@pytest.mark.parametrize(
    "break_it", [lambda file: file.update(servces={}), lambda file: file["services"]["nginx"].update(port=[1])]
)
def test_the_schema_does_tell(break_it: Any) -> None:
    broken = copy.deepcopy(COMPOSE)
    break_it(broken)
    with pytest.raises(jsonschema.ValidationError):
        validate(broken)


def test_nginx_stands_before_every_replica_and_is_the_only_door() -> None:
    assert re.findall(r"^\s*server (\S+:\d+) ", CONF, re.MULTILINE) == [f"{name}:{DEFAULTS.port}" for name in REPLICAS]
    assert len(REPLICAS) == 2
    assert {name: service["ports"] for name, service in SERVICES.items() if "ports" in service} == {
        "nginx": [f"127.0.0.1:8000:{told('listen')}"]
    }
    assert f"./{NGINX_CONF.relative_to(ROOT)}:/etc/nginx/nginx.conf:ro" in SERVICES["nginx"]["volumes"]
    assert SERVICES["nginx"]["depends_on"] == {name: {"condition": "service_healthy"} for name in REPLICAS}


def test_each_replica_is_reached_at_a_url_of_its_own() -> None:
    urls = [SERVICES[name]["environment"]["STEPWELL_REPLICA_URL"] for name in REPLICAS]
    assert urls == [f"http://{name}:{DEFAULTS.port}" for name in REPLICAS]


def test_the_schema_is_brought_up_to_date_once_and_before_the_replicas_start() -> None:
    assert SERVICES["migrate"]["command"] == ["db", "upgrade"]
    assert SERVICES["migrate"]["depends_on"] == {"postgres": {"condition": "service_healthy"}}
    for name in REPLICAS:
        assert SERVICES[name]["depends_on"] == {"migrate": {"condition": "service_completed_successfully"}}
        assert SERVICES[name]["environment"]["STEPWELL_MIGRATE"] == "false"


def test_all_of_the_service_is_one_image() -> None:
    assert {SERVICES[name]["image"] for name in (*REPLICAS, "migrate")} == {"stepwell"}
    assert {SERVICES[name]["build"] for name in (*REPLICAS, "migrate")} == {"."}


def test_a_replica_is_not_killed_while_it_drains() -> None:
    for name in REPLICAS:
        assert seconds(SERVICES[name]["stop_grace_period"]) > DEFAULTS.shutdown_grace_s + 5


def test_nginx_lets_through_what_the_service_takes_and_waits_longer_than_the_service_is_silent() -> None:
    assert int(told("client_max_body_size")) == DEFAULTS.max_body_bytes
    assert str(DEFAULTS.max_body_bytes) in CONF.split("/problems/too-large {")[1].split("}'")[0]
    assert told("proxy_buffering") == "off"
    assert seconds(told("proxy_read_timeout")) > 10 * DEFAULTS.sse_ping_s
    assert seconds(told("keepalive_timeout")) < serving.KEEP_ALIVE_S


def test_nginx_repeats_only_what_may_be_repeated() -> None:
    assert told("proxy_next_upstream").split() == ["error", "timeout"], "non_idempotent would send a POST twice"
