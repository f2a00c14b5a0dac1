"""Where things lie: the addresses that clients are told (PS3.18 10.1 and 10.6.3.3)."""

from starlette.requests import Request

from config.settings import is_loopback

#: Where the services lie on the port.
ROOT = "/dicom-web"

#: What proxies say of the request that they pass on.
_BY_PROXY = ("forwarded", "via", "x-forwarded-for", "x-forwarded-proto")


def services_of(request: Request) -> str:
    """The address of the services, as this client reaches them.

    It is what the request's Host header names. Some clients leave out the port, which then is the one that they have
    called; but a proxy, here or on another machine, may well be called without one.
    """
    url = request.url.replace(path=ROOT, query="", fragment="")
    if request.headers.get("x-forwarded-proto") == "https":
        url = url.replace(scheme="https")
    port = (request.scope.get("server") or ("", None))[1]
    if url.port is None and port is not None and url.scheme == "http" and not _by_proxy(request):
        url = url.replace(port=port)
    return str(url)


def study_at(services: str, study: str) -> str:
    """Of a study."""
    return f"{services}/studies/{study}"


def series_at(services: str, study: str, series: str) -> str:
    """Of a series."""
    return f"{study_at(services, study)}/series/{series}"


def instance_at(services: str, study: str, series: str, instance: str) -> str:
    """Of an object."""
    return f"{series_at(services, study, series)}/instances/{instance}"


def _by_proxy(request: Request) -> bool:
    if any(name in request.headers for name in _BY_PROXY):
        return True
    # Who calls from this machine by another name than this machine's passes on what somebody else has asked.
    named = (request.url.hostname or "").strip("[]")
    return request.client is not None and is_loopback(request.client.host) and not is_loopback(named)
