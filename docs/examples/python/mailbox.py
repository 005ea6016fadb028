"""A mailbox of an inbox server, for asyncio. It needs aiohttp (Debian: python3-aiohttp)."""

import asyncio
import json
import random
import secrets
import time
from urllib.parse import unquote

import aiohttp

POLL_TIMEOUT = 70  # seconds; the server's -poll-timeout, 25 by default, must be lower
SEND_WAIT = 20  # seconds that the server waits for a recipient that is absent
MAX_PAUSE = 30  # seconds between two attempts


class Refused(Exception):
    """A final answer: the server would refuse the same request again."""

    def __init__(self, status, problem, detail):
        super().__init__(f"{status} {problem}: {detail}")
        self.problem = problem  # "urn:inbox:problem:…", for programs


class Passing(Exception):
    """A failure that can pass: an outage, a limit, or a restart of the server."""

    def __init__(self, reason, retry_after=None):
        super().__init__(reason)
        self.retry_after = retry_after


class Mailbox:
    """A mailbox, which the first request claims.

    The session belongs to the caller. With ssl=False, every certificate is accepted.
    """

    def __init__(self, session, server, name, password, ssl=None):
        self._session, self._server, self._ssl = session, server.rstrip("/"), ssl
        # Without the encoding, aiohttp would send Latin-1, which the server refuses.
        self._auth = aiohttp.BasicAuth(name, password, encoding="utf-8")
        self._device = secrets.token_hex(16)  # tells this program from others with the same name

    async def messages(self):
        """Yields (sender, body) of each message, through outages and restarts of the server.

        A message stays at the server until the next request acknowledges it, so that none is
        lost with an answer. A message can arrive twice. Raises Refused, for a wrong password,
        and when another program receives the messages.
        """
        query, failures = {"after": "", "client": self._device}, 0
        while True:
            try:
                headers, body = await self._try("GET", "/inbox", query, timeout=POLL_TIMEOUT)
            except Passing as failure:
                failures += 1
                await pause(failure, failures)
                continue
            finally:
                query["resume"] = "1"  # from now on, do not take over from another device
            failures = 0
            if "X-Message-Id" in headers:
                yield unquote(headers["X-From"]), body
                query["after"] = headers["X-Message-Id"]
            # else 204: no message yet

    async def send(self, to, message, patience=60):
        """Stores an object as JSON in the mailbox of another name.

        Returns False if nobody has that name. Repeats the request during an outage, for patience
        seconds, so the message can arrive twice. Raises Refused or Passing.
        """
        query = {"to": to, "wait": str(SEND_WAIT)}
        try:
            await self._repeat("POST", "/inbox", query, json.dumps(message).encode(), patience)
        except Refused as refused:
            if refused.problem == "urn:inbox:problem:no-inbox":
                return False
            raise
        return True

    async def ice_servers(self, patience=60):
        """Returns the STUN and TURN servers. Their credentials expire: ask again for each call."""
        _, body = await self._repeat("GET", "/ice", {}, None, patience)
        return json.loads(body)["iceServers"]

    async def release(self):
        """Gives the name back, with its messages, unless another device has it now."""
        await self._try("DELETE", "/inbox", {"client": self._device})

    async def _repeat(self, method, path, query, body, patience):
        deadline, failures = time.monotonic() + patience, 0
        while True:
            try:
                return await self._try(method, path, query, body, timeout=SEND_WAIT + 10)
            except Passing as failure:
                failures += 1
                if time.monotonic() > deadline:
                    raise
                await pause(failure, failures)

    async def _try(self, method, path, query, body=None, timeout=10):
        """Makes one request, and returns the fields and the body of a success."""
        options = {"auth": self._auth, "params": query, "data": body, "ssl": self._ssl}
        if body is not None:
            options["headers"] = {"Content-Type": "application/json"}
        try:
            # The server never redirects. A redirect would hand the password to another server.
            async with self._session.request(
                method, self._server + path, allow_redirects=False,
                timeout=aiohttp.ClientTimeout(total=timeout), **options,
            ) as response:
                answer = await response.read()
        except (aiohttp.ClientError, asyncio.TimeoutError) as error:
            raise Passing(f"cannot reach the server: {error!r}") from error
        poll = method == "GET" and path == "/inbox"
        check(response.status, response.headers, answer, poll)
        return response.headers, answer


def check(status, headers, body, poll):
    """Returns for the answers that the protocol has for success."""
    retry_after = headers.get("Retry-After", "")
    retry_after = int(retry_after) if retry_after.isdigit() else None
    if headers.get("X-Poll-Ended") == "superseded":
        raise Refused(status, "superseded", "another program receives these messages now")
    if status == 204 and retry_after is not None:
        raise Passing("the server is restarting", retry_after)
    if status == 204 or status == 200 and (not poll or "X-Message-Id" in headers):
        return
    try:
        problem = json.loads(body)
        kind, detail = problem["type"], problem.get("detail")
        ours = kind.startswith("urn:inbox:problem:")
    except (ValueError, LookupError, TypeError, AttributeError):
        ours = False
    if not ours:
        raise Passing(f"status {status} from another program, such as a proxy", retry_after)
    if status in (408, 429) or status >= 500:
        raise Passing(f"{status} {kind}: {detail}", retry_after)
    raise Refused(status, kind, detail)


async def pause(failure, failures):
    """Waits for Retry-After, or for a second, then two, up to half a minute, with jitter."""
    seconds = failure.retry_after
    if not seconds:
        seconds = min(2 ** (min(failures, 6) - 1), MAX_PAUSE) * random.uniform(0.5, 1)
    print(f"{failure}; again in {seconds:.1f} s", flush=True)
    await asyncio.sleep(seconds)
