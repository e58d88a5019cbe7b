"""Query parameters that an endpoint does not have are refused: a filter with a typing error would otherwise show everything."""

from collections import Counter
from collections.abc import Callable, Collection
from typing import Any
from urllib.parse import parse_qsl

from fastapi import Depends, Request
from fastapi.exceptions import RequestValidationError
from fastapi.routing import APIRoute
from starlette.types import Scope

__all__ = ["check_query", "query_checked_route", "query_names"]

_SHOWN = 20
_SHOWN_CHARACTERS = 100


def check_query(scope: Scope, known: Collection[str], repeatable: Collection[str] = ()) -> None:
    """Raise RequestValidationError if the query has a parameter that is not in `known`, or has one twice."""
    query: bytes = scope["query_string"]
    if not query:
        return
    errors = []
    for name, count in Counter(_name_of(each) for each, _ in parse_qsl(query.decode("latin-1"), keep_blank_values=True)).items():
        where = ("query", name[:_SHOWN_CHARACTERS])
        if name not in known:
            expected = ", ".join(sorted(known)) or "none"
            errors.append({"loc": where, "msg": f"There is no such parameter; the parameters are: {expected}"})
        elif count > 1 and name not in repeatable:
            errors.append({"loc": where, "msg": "The parameter may be given once"})
    if errors:
        raise RequestValidationError(errors[:_SHOWN])


def query_names(openapi_extra: dict[str, Any] | None) -> frozenset[str]:
    """Return the names of the query parameters that a route describes."""
    parameters = (openapi_extra or {}).get("parameters", ())
    return frozenset(each["name"] for each in parameters if each["in"] == "query")


def query_checked_route(path: str, endpoint: Callable[..., Any], *, repeatable: Collection[str] = (), **options: Any) -> APIRoute:
    """Return a route of FastAPI that refuses query parameters which neither `endpoint` nor `openapi_extra` names."""
    described = query_names(options.get("openapi_extra"))

    async def check(request: Request) -> None:
        known = {parameter.alias for parameter in route.dependant.query_params}
        check_query(request.scope, known | described, repeatable)

    route = APIRoute(path, endpoint, dependencies=[Depends(check)], **options)
    return route


def _name_of(name: str) -> str:
    """`metadata[customer]` is a member of the parameter `metadata`."""
    base, bracket, _ = name.partition("[")
    return base if bracket and name.endswith("]") else name
