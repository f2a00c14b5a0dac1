"""`/live`, `/ready` and `/metrics`: for whoever restarts, balances and watches.

The first two say nothing that not everybody may know, and are open to everybody; metrics are for those who may use
DICOMweb. None of them has patient data.
"""

from collections.abc import Callable, Iterable, Mapping

import structlog
from fastapi import APIRouter, Depends
from prometheus_client import CollectorRegistry, ProcessCollector, generate_latest
from prometheus_client.exposition import CONTENT_TYPE_LATEST
from prometheus_client.registry import Collector
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response

from config.errors import FullfieldError

log = structlog.get_logger()

#: Whether something is as it should be; what it raises means that it is not.
Check = Callable[[], bool]


def monitoring_pages(
    *,
    is_alive: Check,
    checks: Mapping[str, Check],
    collectors: Iterable[Collector],
    admit: Callable[[Request], object],
) -> APIRouter:
    """The pages.

    is_alive: whether the process does its work; a restart is the cure if not. checks: by name, what has to hold before
    the node can take objects. admit: refuses who may not read metrics.
    """
    router = APIRouter()
    registry = CollectorRegistry()
    ProcessCollector(registry=registry)
    for collector in collectors:
        registry.register(collector)

    @router.get("/live")
    async def live() -> Response:
        return _told({"node": is_alive()})

    @router.get("/ready")
    def ready() -> Response:
        return _told({name: _holds(name, check) for name, check in checks.items()})

    @router.get("/metrics", dependencies=[Depends(admit)])
    def metrics() -> Response:
        return Response(generate_latest(registry), media_type=CONTENT_TYPE_LATEST)

    return router


def _told(found: Mapping[str, bool]) -> Response:
    lines = [f"{name}: {'ok' if holds else 'not ok'}\n" for name, holds in found.items()]
    return PlainTextResponse("".join(lines), 200 if all(found.values()) else 503)


def _holds(name: str, check: Check) -> bool:
    try:
        return check()
    except FullfieldError as error:
        log.warning("not ready", check=name, reason=str(error))
        return False
