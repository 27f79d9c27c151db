"""Checks that a server of Prefect answers, before a command relies on it."""

import contextvars
import os
import re
import threading
from collections.abc import Callable
from urllib.parse import urlsplit

from duvae.errors import UserError

ANSWER = 15.0
"""Seconds to wait for a server to connect, and for each part of its answer."""

PATIENCE = 3 * ANSWER
"""Largest number of seconds of the whole check. A server may send its answer in many small parts."""

REMEDY = "Start the server, correct PREFECT_API_URL, or unset it: then this command starts a server of its own."


def chosen() -> str | None:
    """The address of the user's server, from the environment or from Prefect's own settings; None: there is none.

    Raises:
        UserError: If the address is wrong, or Prefect refuses its settings.
    """
    if url := os.environ.get("PREFECT_API_URL"):
        _require_address(url)
    try:
        from prefect.settings import PREFECT_API_URL

        return PREFECT_API_URL.value() or None
    except ValueError as error:  # of pydantic; Prefect reads its settings when it is imported
        raise UserError(f"Prefect refuses its settings: {_one_line(error)}. Correct them.") from error


def require(url: str) -> None:
    """Checks that a server of Prefect answers and accepts requests. The check ends within `PATIENCE` seconds.

    Prefect itself would try again and again, and end with a traceback.

    Args:
        url: Address of the server's API.

    Raises:
        UserError: If the address is wrong, no server of Prefect answers there, or the server refuses the user's key.
    """
    import prefect.client.orchestration  # noqa: F401 (takes seconds, which are not those of the server)

    _require_address(url)
    errors: list[Exception | None] = []
    # A thread bounds the time of the whole check. It ends with this process, even if the server never answers.
    context = contextvars.copy_context()  # which holds Prefect's settings
    thread = threading.Thread(target=lambda: errors.append(context.run(_error, _version)), daemon=True)
    thread.start()
    thread.join(PATIENCE)
    if not errors:
        raise UserError(f"{url}: no complete answer of a Prefect server within {PATIENCE:.0f} seconds. {REMEDY}")
    if errors[0] is not None:
        raise UserError(f"{url}: {_reason(errors[0])}") from errors[0]


def _require_address(url: str) -> None:
    """Checks that an address names a protocol, a host and a possible port."""
    expected = "expected an address like http://127.0.0.1:4200/api"
    try:
        parts = urlsplit(url)
        sound = parts.scheme in {"http", "https"} and bool(parts.hostname) and parts.port != 0
    except ValueError as error:
        raise UserError(f"PREFECT_API_URL={url!r}: {expected} ({error}). {REMEDY}") from error
    if not sound or re.search(r"\s", url):
        raise UserError(f"PREFECT_API_URL={url!r}: {expected}. {REMEDY}")


def _error(check: Callable[[], None]) -> Exception | None:
    """Calls a function; returns its error."""
    try:
        check()
    except Exception as error:  # noqa: BLE001 (the caller raises it in the main thread)
        return error

    return None


def _version() -> None:
    """Asks the server for its version with Prefect's own client, which knows the user's keys and certificates.

    Raises:
        httpx.HTTPError: If the server does not answer, or refuses the request.
        ValueError: If the answer is not that of a Prefect server.
    """
    from prefect.client.base import ServerType
    from prefect.client.orchestration import get_client
    from prefect.settings import PREFECT_API_REQUEST_TIMEOUT, PREFECT_CLIENT_MAX_RETRIES, temporary_settings

    with (
        temporary_settings({PREFECT_CLIENT_MAX_RETRIES: 0, PREFECT_API_REQUEST_TIMEOUT: ANSWER}),
        get_client(sync_client=True) as client,
    ):
        if client.server_type == ServerType.CLOUD:  # which is always of a fitting version
            if error := client.api_healthcheck():
                raise error
        elif not isinstance(version := client.api_version(), str) or not re.match(r"\d+\.", version):
            raise ValueError("no version")


def _reason(error: Exception) -> str:
    """Says what is wrong with a server, and what to do."""
    import httpx

    if isinstance(error, httpx.HTTPStatusError):
        status = error.response.status_code
        if status in {401, 403}:
            return (
                f"the Prefect server refuses this request (status {status}). Set PREFECT_API_AUTH_STRING or"
                f" PREFECT_API_KEY to what the server expects. {REMEDY}"
            )
        return f"expected a Prefect server; the answer has status {status}. {REMEDY}"
    if isinstance(error, httpx.HTTPError):
        certificate = (
            " To trust the server's certificate, set PREFECT_API_SSL_CERT_FILE."
            if "CERTIFICATE_VERIFY_FAILED" in str(error)
            else ""
        )
        return f"no Prefect server answers there ({_one_line(error) or type(error).__name__}).{certificate} {REMEDY}"
    if isinstance(error, ValueError):
        return f"expected a Prefect server, whose address ends in /api; another program answers there. {REMEDY}"

    return f"the server cannot be used ({type(error).__name__}: {_one_line(error)}). {REMEDY}"


def _one_line(error: Exception) -> str:
    return " ".join(str(error).split())
