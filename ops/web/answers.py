"""How a request becomes a question and a record or an error becomes its answer."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Final, TypeVar

import pydantic
from anyio import to_thread
from starlette.background import BackgroundTask
from starlette.exceptions import HTTPException
from starlette.responses import JSONResponse, Response

from pipeline.errors import PenstockError, ValidationError

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from starlette.datastructures import QueryParams
    from starlette.requests import Request

    from ops.web.site import Site

M = TypeVar("M", bound=pydantic.BaseModel)
STATUS: Final = {
    "VALIDATION_ERROR": 400,
    "JOB_NOT_FOUND": 404,
    "REPOSITORY_NOT_FOUND": 404,
    "INVALID_STATUS": 409,
    "EMBEDDER_ERROR": 502,
    "DATABASE_ERROR": 503,
}
"""The HTTP status of each code of `pipeline.errors`; any other is a fault of ours, 500."""
NOT_STORED: Final = {"Cache-Control": "no-store"}


@dataclass(frozen=True, slots=True)
class Asked:
    """What a request asks."""

    site: Site
    path: dict[str, str]
    query: QueryParams
    body: bytes

    def parameters(self, model: type[M]) -> M:
        """Return the query string as a record. Raises ValidationError."""
        many = {name for name, field in model.model_fields.items() if isinstance(field.default, tuple)}
        values = {name: self.query.getlist(name) if name in many else self.query[name] for name in self.query}
        return _checked(partial(model.model_validate, values))

    def content(self, model: type[M]) -> M:
        """Return the body as a record; an empty one is an empty object. Raises ValidationError."""
        return _checked(partial(model.model_validate_json, self.body or b"{}"))


def _checked(parse: Callable[[], M]) -> M:
    try:
        return parse()
    except pydantic.ValidationError as error:
        faults = (f"{'.'.join(map(str, fault['loc'])) or 'the body'}: {fault['msg']}" for fault in error.errors())
        raise ValidationError("; ".join(faults)) from None


def answering(
    site: Site,
    answer: Callable[[Asked], pydantic.BaseModel],
    *,
    status: int = 200,
    afterwards: Callable[[], None] | None = None,
) -> Callable[[Request], Awaitable[Response]]:
    """Return an endpoint that answers with the record of `answer`, which runs in a thread and may wait."""

    async def endpoint(request: Request) -> Response:
        asked = Asked(site, dict(request.path_params), request.query_params, await request.body())
        record = await to_thread.run_sync(answer, asked, abandon_on_cancel=True)
        later = BackgroundTask(afterwards) if afterwards else None
        return Response(record.model_dump_json(), status, NOT_STORED, "application/json", later)

    return endpoint


def error_response(code: str, message: str, status: int) -> JSONResponse:
    """Return the answer to what could not be done."""
    return JSONResponse(error_body(code, message), status, NOT_STORED)


def error_body(code: str, message: str) -> dict[str, dict[str, str]]:
    """Return an error as `--json` prints it."""
    return {"error": {"code": code, "message": message}}


def refused(_request: Request, error: Exception) -> Response:
    """Answer with an error of the house."""
    code = error.code if isinstance(error, PenstockError) else PenstockError.code
    return error_response(code, str(error), STATUS.get(code, 500))


def not_served(_request: Request, error: Exception) -> Response:
    """Answer to a path or a method that does not exist."""
    status, detail = (error.status_code, error.detail) if isinstance(error, HTTPException) else (500, "")
    return error_response(ValidationError.code, f"{detail}: docs/web.md lists what is served", status)


def failed(_request: Request, error: Exception) -> Response:
    """Answer to a fault of ours, whose traceback is in the log."""
    return error_response(PenstockError.code, f"{type(error).__name__}: this is a fault of Penstock, see its log", 500)
