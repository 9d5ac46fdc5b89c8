"""The address of the client that sends a request, with the proxies before the node taken into account."""

from ipaddress import ip_address

from aiohttp import web


class Peers:
    """Tells the addresses of clients."""

    def __init__(self, trusted_proxies: int = 0) -> None:
        """Believe the last `trusted_proxies` entries of `X-Forwarded-For`; 0 believes none."""
        self._trusted = trusted_proxies

    def address(self, request: web.Request) -> str:
        """Return the address that the outermost trusted proxy saw, like werkzeug's `ProxyFix(x_for=n)`.

        It is the socket's peer without proxies, and if the header has too few entries or no address.
        """
        peer = request.remote or ""
        if not self._trusted:
            return peer
        entries = ",".join(request.headers.getall("X-Forwarded-For", [])).split(",")
        if len(entries) < self._trusted:
            return peer
        try:
            return str(ip_address(entries[-self._trusted].strip()))
        except ValueError:
            return peer
