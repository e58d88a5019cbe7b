"""Carries a message to an address on the network, and says what the other side answered. Decides nothing else.

Names are looked up here, and the connection is made to the address that was checked: a name that means another address a
moment later does not lead elsewhere. Redirects are not followed, and of an answer only the status is read.
"""

import asyncio
import ssl
from collections.abc import Mapping

import httpx

from app.sessions.webhook_messages import WebhookSettings, is_allowed_address
from app.system.host_threads import run_in_own_thread
from app.system.names import Names

__all__ = ["AddressRefused", "Courier"]


class AddressRefused(Exception):
    """The host has an address that webhooks must not be sent to."""


class Courier:
    """Must be closed."""

    def __init__(self, settings: WebhookSettings) -> None:
        self._settings = settings
        self._names = Names("webhooks")
        self._client: httpx.AsyncClient | None = None
        self._making = asyncio.Lock()

    async def close(self) -> None:
        self._names.close()
        if self._client is not None:
            await self._client.aclose()

    async def post(self, url: str, headers: Mapping[str, str], body: bytes) -> int:
        """Return the status of the answer to `body`. Raises AddressRefused, TimeoutError, OSError, httpx.HTTPError."""
        async with asyncio.timeout(self._settings.timeout_s):
            target = httpx.URL(url)
            address = await self._address_of(target)
            client = await self._opened()
            request = client.build_request(
                "POST",
                target.copy_with(host=address),
                headers={**headers, "host": target.netloc.decode("ascii")},
                content=body,
                extensions={"sni_hostname": target.host},
            )
            response = await client.send(request, stream=True)
            await response.aclose()  # its body may have no end
            return response.status_code

    async def _address_of(self, target: httpx.URL) -> str:
        """Return an address of the target's host, if all that it has are allowed."""
        addresses = await self._names.addresses(target.host, target.port or (443 if target.scheme == "https" else 80))
        if not all(is_allowed_address(each.partition("%")[0], target.host, self._settings) for each in addresses):
            raise AddressRefused
        return addresses[0]

    async def _opened(self) -> httpx.AsyncClient:
        async with self._making:
            if self._client is None:
                context: ssl.SSLContext = await run_in_own_thread(httpx.create_ssl_context)  # reads hundreds of certificates
                self._client = httpx.AsyncClient(
                    verify=context,
                    timeout=None,  # noqa: S113  # there is one around all of it
                    # a connection is for one host: two hosts may share an address
                    limits=httpx.Limits(max_connections=None, max_keepalive_connections=0),
                    follow_redirects=False,
                    trust_env=False,
                )
        return self._client
