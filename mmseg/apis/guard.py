"""An ASGI layer that limits who may use a web page, and how many bytes a client may send."""

import ipaddress
import time
from collections.abc import Awaitable, Callable, Iterable, Mapping
from typing import Any

WINDOW = 600  # seconds over which a client's share counts
REQUESTS, BODIES = 3000, 20  # a client's share: requests with a body, bodies of the largest size


class Guard:
    """An ASGI application that refuses requests from foreign pages, and clients that send a lot.

    Refusals:
        403: another host name, as a foreign page sends whose name was made to resolve to this
            machine (DNS rebinding); or a page of another origin.
        411: a body without a Content-Length, or with a Transfer-Encoding, which overrides it.
        413: a body above `max_bytes`.
        429: the client has used up its share.

    Args:
        app: the application.
        names: host names and addresses that it serves.
        any_address: it also serves every name that is an IP address, which cannot be rebound.
        max_bytes: most bytes of a request's body.
    """

    def __init__(
        self,
        app: Callable[..., Awaitable[None]],
        names: Iterable[str],
        *,
        max_bytes: int,
        any_address: bool = False,
    ) -> None:
        self.app, self.names = app, {name.lower() for name in names}
        self.any_address, self.max_bytes = any_address, max_bytes
        self.window: float | None = None
        self.used: dict[str, tuple[int, int]] = {}

    async def __call__(
        self, scope: Mapping[str, Any], receive: Any, send: Callable[..., Awaitable[None]]
    ) -> None:
        refused = self.refusal(scope) if scope['type'] in ('http', 'websocket') else None
        if refused is None:
            await self.app(scope, receive, send)
        elif scope['type'] == 'websocket':
            await send(dict(type='websocket.close', code=1008))
        else:
            status, text = refused
            headers = [(b'content-type', b'text/plain'), (b'connection', b'close')]
            await send(dict(type='http.response.start', status=status, headers=headers))
            await send(dict(type='http.response.body', body=text.encode()))

    def refusal(self, scope: Mapping[str, Any]) -> tuple[int, str] | None:
        """Return (status, text) if an ASGI scope is refused, else None."""
        headers = [(name.lower(), value.decode('latin-1')) for name, value in scope['headers']]
        hosts, origins, sizes, codings = (
            [value for name, value in headers if name == wanted]
            for wanted in (b'host', b'origin', b'content-length', b'transfer-encoding')
        )
        if len(hosts) != 1 or not self._serves(hosts[0]):
            return 403, 'this page is not served by that name'
        if any(origin.partition('://')[2].lower() != hosts[0].lower() for origin in origins):
            return 403, 'this page answers no other page'
        if scope.get('method', 'GET') in ('GET', 'HEAD', 'OPTIONS'):
            return None
        if codings or len(sizes) != 1 or not sizes[0].isdecimal():
            return 411, 'the length of the body is missing'
        if int(sizes[0]) > self.max_bytes:
            return 413, f'at most {self.max_bytes} bytes are taken'
        if self._used_up((scope.get('client') or ('',))[0], int(sizes[0])):
            return 429, 'too many requests or bytes; wait some minutes'
        return None

    def _serves(self, host: str) -> bool:
        name = host.lower()
        name = name[1:].partition(']')[0] if name.startswith('[') else name.partition(':')[0]
        if name in self.names:
            return True
        try:
            return self.any_address and bool(ipaddress.ip_address(name))
        except ValueError:
            return False

    def _used_up(self, client: str, size: int) -> bool:
        window = time.monotonic() // WINDOW
        if window != self.window:
            self.window, self.used = window, {}
        requests, total = self.used.get(client, (0, 0))
        self.used[client] = requests + 1, total + size
        return requests >= REQUESTS or total + size > BODIES * self.max_bytes
