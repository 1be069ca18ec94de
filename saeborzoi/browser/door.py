"""Who may ask a server of this project: checks of a request before anything is answered.

A page of any web site that a reader visits can make the reader's browser send requests to a server
on the same machine. What such a request cannot forge is checked: the name in `Host` (a foreign name
that was made to point here), `Origin` and `Sec-Fetch-Site` (a foreign page that asks). Where others
can reach the server themselves, a token is asked for: once in the address, from then on in a
cookie. Knows nothing of what is served.
"""

from __future__ import annotations

import contextlib
import hmac
import http.cookies
import ipaddress
import socket
from collections.abc import Collection, Iterable
from typing import NamedTuple
from urllib.parse import parse_qsl, urlencode, urlsplit

TOKEN = "token"
_LOCAL_NAMES = frozenset({"localhost", "127.0.0.1", "::1"})
_OUTSIDE = {
    "0.0.0.0": (socket.AF_INET, "192.0.2.1"),
    "::": (socket.AF_INET6, "2001:db8::1"),
}
"""All addresses of this machine, with one elsewhere that nobody has (RFC 5737, RFC 3849): which way
leads there is asked of this machine, and nothing is sent."""


class Answer(NamedTuple):
    """What is answered in place of what was asked for: status, headers and text."""

    status: int
    headers: dict[str, str]
    text: str


class Door:
    """Lets requests in, or answers them.

    Parameters
    ----------
    names
        Names of this machine by which it may be asked, besides those of loopback.
    any_address
        Whether it may be asked by any IP address: such a name cannot be made to point here.
    token
        What a request must bring; '' for nothing.
    port
        Port of the server: browsers share cookies between the ports of a machine.
    """

    def __init__(
        self,
        names: Collection[str] = (),
        *,
        any_address: bool = False,
        token: str = "",
        port: int = 0,
    ) -> None:
        self._names = _LOCAL_NAMES | {name.lower().rstrip(".") for name in names}
        self._any_address = any_address
        self._token = token
        self._cookie = f"saeborzoi_{port}"

    def answer(self, method: str, target: str, headers: Iterable[tuple[str, str]]) -> Answer | None:
        """What a request is answered before it is looked at; None where it may go on.

        Parameters
        ----------
        method
            GET, POST, …; GET for a web socket.
        target
            Path and query of the request.
        headers
            Names in any case, and values.
        """
        given: dict[str, list[str]] = {}
        for name, value in headers:
            given.setdefault(name.lower(), []).append(value)
        hosts = given.get("host", [])
        if len(hosts) != 1 or not self._may_be_asked_as(hosts[0]):
            host_names = ", ".join(hosts) or "none"
            return _refused(
                421,
                f"This server is not asked by the name {host_names!r}; open it by the address that "
                "was printed when it was started.",
            )
        if not _asks_itself(method, hosts[0], given):
            return _refused(403, "A page of another origin may not ask this server.")
        return self._ask_for_token(method, target, given) if self._token else None

    def _may_be_asked_as(self, host: str) -> bool:
        try:
            name = (urlsplit(f"//{host}").hostname or "").rstrip(".")
            if self._token or name in self._names or name.endswith(".localhost"):
                return bool(name)
            return self._any_address and bool(ipaddress.ip_address(name))
        except ValueError:
            return False

    def _ask_for_token(
        self, method: str, target: str, given: dict[str, list[str]]
    ) -> Answer | None:
        path, _, query = target.partition("?")
        asked = parse_qsl(query, keep_blank_values=True)
        brought = [value for name, value in asked if name == TOKEN]
        if brought and method in ("GET", "HEAD"):
            if not any(map(self._is_token, brought)):
                return _refused(403, "The token in the address is not this server's.")
            rest = urlencode([(name, value) for name, value in asked if name != TOKEN])
            # two slashes would begin another machine's name
            place = "/" + path.lstrip("/\\") + (f"?{rest}" if rest else "")
            cookie = f"{self._cookie}={self._token}; Path=/; HttpOnly; SameSite=Lax"
            return Answer(
                303,
                {"Location": place, "Set-Cookie": cookie, "Referrer-Policy": "no-referrer"},
                "",
            )
        for line in given.get("cookie", []):
            try:
                held = http.cookies.SimpleCookie(line).get(self._cookie)
            except http.cookies.CookieError:
                continue
            if held is not None and self._is_token(held.value):
                return None
        return _refused(
            401,
            "This server asks for a token: open the address with ?token=… that was printed when "
            "it was started.",
        )

    def _is_token(self, text: str) -> bool:
        return hmac.compare_digest(text.encode(), self._token.encode())


def own_names(host: str) -> set[str]:
    """Names by which a server that listens on an address may be asked."""
    return {host, socket.gethostname(), socket.getfqdn()} - {"", *_OUTSIDE}


def is_loopback(host: str) -> bool:
    """Whether only this machine reaches a server that listens on an address.

    >>> [is_loopback(host) for host in ("localhost", "127.0.0.2", "::1", "0.0.0.0", "node7")]
    [True, True, True, False, False]
    """
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def own_addresses(host: str) -> list[str]:
    """Names and addresses, as a URL has them, by which other machines reach a server that listens
    on an address; of all addresses of this machine (0.0.0.0, ::) its name where that is known, and
    the address that leads out. Empty where there is none.

    >>> own_addresses("login7"), own_addresses("fd00::2")
    (['login7'], ['[fd00::2]'])
    """
    outside = _OUTSIDE.get(host)
    if outside is None:
        return [_in_url(host)]
    family, documentation = outside
    names = []
    name = socket.getfqdn()
    with contextlib.suppress(OSError, UnicodeError):
        socket.getaddrinfo(name, None, family)
        if not name.startswith("localhost"):
            names.append(name)
    with contextlib.suppress(OSError), socket.socket(family, socket.SOCK_DGRAM) as way_out:
        way_out.connect((documentation, 9))
        names.append(_in_url(way_out.getsockname()[0]))
    return names


def this_machine(host: str) -> str:
    """By which address, as a URL has it, this machine itself reaches a server that listens on one.

    >>> [this_machine(host) for host in ("0.0.0.0", "::", "10.0.0.1", "fd00::2")]
    ['127.0.0.1', '[::1]', '10.0.0.1', '[fd00::2]']
    """
    return _in_url({"0.0.0.0": "127.0.0.1", "::": "::1"}.get(host, host))


def _in_url(host: str) -> str:
    return f"[{host}]" if ":" in host else host


def tunnel(
    port: int, environment: dict[str, str], listens_on: str = "127.0.0.1", name: str = ""
) -> str:
    """How a server on the other end of ssh is reached from the reader's machine; '' where this
    shell did not come through ssh and no `name` of this machine is given.

    >>> tunnel(3000, {"SSH_CONNECTION": "10.0.0.9 5022 10.0.0.1 22", "USER": "ada"})
    'ssh -N -L 3000:127.0.0.1:3000 ada@10.0.0.1'
    >>> tunnel(3000, {"USER": "ada"}, "::", "login7")
    'ssh -N -L 3000:[::1]:3000 ada@login7'
    """
    parts = environment.get("SSH_CONNECTION", "").split()
    server, ssh_port = (parts[2], parts[3]) if len(parts) == 4 else (name.strip("[]"), "22")
    if not server:
        return ""
    user = environment.get("USER") or environment.get("LOGNAME")
    port_option = "" if ssh_port == "22" else f" -p {ssh_port}"
    where = f"{user}@{server}" if user else server
    return f"ssh -N -L {port}:{this_machine(listens_on)}:{port}{port_option} {where}"


def _asks_itself(method: str, host: str, given: dict[str, list[str]]) -> bool:
    """Whether it is a page of this server that asks, or no page at all."""
    for origin in given.get("origin", []):
        try:
            if urlsplit(origin).netloc.lower() != host.lower():
                return False
        except ValueError:
            return False
    if set(given.get("sec-fetch-site", [])) <= {"same-origin", "none"}:
        return True
    # a link on another page may be followed
    return (
        method in ("GET", "HEAD")
        and given.get("sec-fetch-mode") == ["navigate"]
        and given.get("sec-fetch-dest") == ["document"]
    )


def _refused(status: int, text: str) -> Answer:
    return Answer(status, {"Content-Type": "text/plain; charset=utf-8"}, f"{text}\n")
