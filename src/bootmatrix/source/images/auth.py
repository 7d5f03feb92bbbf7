"""How a registry learns who we are: by name and password, or by a token from the server that it names."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Generator

import httpx

from bootmatrix.errors import NetworkError, UntrustedError
from bootmatrix.redact import RedactedUrl
from bootmatrix.source.addresses import is_loopback
from bootmatrix.source.connection import origin_of
from bootmatrix.source.download import in_words
from bootmatrix.source.images.credentials import Credentials
from bootmatrix.source.images.endpoint import Endpoint
from bootmatrix.source.images.www_authenticate import Challenge, belong_together, challenges

CLIENT_ID = "bootmatrix"
TOKEN_LIMIT_BYTES = 1 << 20
Find = Callable[[], Credentials | None]


class Authorization(httpx.Auth):
    """Answers a registry's challenges for one repository. It tells nothing to hosts that requests are redirected to.

    Credentials are looked for when they are first asked for, so that what needs none starts no helper.
    """

    def __init__(self, endpoint: Endpoint, repository: str, find: Find, http: Callable[[], httpx.Client]) -> None:
        self._endpoint, self._find, self._http = endpoint, find, http
        self._scope = f"repository:{repository}:pull"
        self._header = ""
        self._guard = threading.Lock()

    def sync_auth_flow(self, request: httpx.Request) -> Generator[httpx.Request, httpx.Response, None]:
        """Send a request, and once more if it was challenged."""
        sent = self._header
        if sent:
            request.headers["Authorization"] = sent
        response = yield request
        if response.status_code != 401 or origin_of(response.url) != origin_of(request.url):
            return  # it was led elsewhere, and that server's question is not answered
        header = self._answer(response.headers.get_list("WWW-Authenticate"), sent)
        if header:
            request.headers["Authorization"] = header
            yield request

    def _answer(self, headers: list[str], sent: str) -> str:
        """The value of an Authorization header; empty if there is nothing to say that was not said."""
        with self._guard:
            if self._header != sent:  # another thread was faster
                return self._header
            given = challenges(headers)
            bearer = next((one for one in given if one.scheme == "bearer"), None)
            credentials = self._find()
            if bearer and credentials and credentials.bearer:
                self._header = f"Bearer {credentials.bearer}"
            elif bearer:
                token = self._token(bearer, credentials)
                self._header = f"Bearer {token}" if token else ""
            elif credentials and credentials.user and any(one.scheme == "basic" for one in given):
                self._header = credentials.basic
            return self._header if self._header != sent else ""

    def _token(self, challenge: Challenge, credentials: Credentials | None) -> str:
        realm = self._realm(challenge.parameters.get("realm", ""), credentials is not None)
        # The scope is ours, whatever the challenge says: a token for more is nothing to hand out.
        asked = {"service": challenge.parameters.get("service", ""), "scope": self._scope}
        http, plain = self._http(), {"Accept-Encoding": "identity"}
        if credentials and credentials.token:
            form = {**asked, "grant_type": "refresh_token", "client_id": CLIENT_ID, "refresh_token": credentials.token}
            return self._sent(http, http.build_request("POST", realm, data=form, headers=plain))
        headers = {**plain, "Authorization": credentials.basic} if credentials else plain
        return self._sent(http, http.build_request("GET", realm.copy_merge_params(asked), headers=headers))

    def _realm(self, text: str, has_credentials: bool) -> httpx.URL:
        """The token server's address.

        Raises:
            UntrustedError: it is not one that a password may be sent to.
        """
        name, shown = self._endpoint.name, str(RedactedUrl(text[:200]))
        try:
            realm = httpx.URL(text)
            _ = realm.host  # read in a form of its own, which may be none
        except (httpx.InvalidURL, UnicodeError) as error:
            raise NetworkError(f"the registry {name} names no address of a token server: {shown!r}") from error
        if realm.scheme != "https" and not (realm.scheme == "http" and self._is_plain(realm.host)):
            raise UntrustedError(
                f"the registry {name} wants its token asked for at {shown}, which is not TLS",
                "If the registry itself is to be spoken to without TLS, say plain_http: true in registries.yml.",
            )
        trusted = belong_together(self._endpoint.hostname, realm.host) or realm.host in self._endpoint.realms
        if has_credentials and not trusted:
            raise UntrustedError(
                f"the registry {name} wants its password sent to {realm.host}, which is under another domain",
                f"If that is right, add it in registries.yml: registries: {{{name!r}: {{realms: [{realm.host}]}}}}",
            )
        return realm

    def _is_plain(self, host: str) -> bool:
        return self._endpoint.scheme == "http" and (host == self._endpoint.hostname or is_loopback(host))

    def _sent(self, http: httpx.Client, request: httpx.Request) -> str:
        """The token that a server answers; empty if it refuses.

        Raises:
            NetworkError: it answers none.
        """
        place = f"{request.url.scheme}://{request.url.host}"
        try:
            response = http.send(request, stream=True, follow_redirects=False, auth=None)
            try:
                body = b"".join(_limited(response))
            finally:
                response.close()
        except (httpx.TransportError, UnicodeError) as error:  # the last: a host that DNS does not take
            raise NetworkError(f"the token server {place} does not answer: {in_words(error)}") from error
        if response.status_code in {401, 403}:
            return ""
        try:
            found = json.loads(body)
            token = found.get("token") or found.get("access_token")
        except (ValueError, AttributeError, RecursionError):
            token = None
        if response.status_code != 200 or not isinstance(token, str) or not token.isascii() or not token.isprintable():
            raise NetworkError(f"the token server {place} answers {response.status_code} and no token")
        return token


def _limited(response: httpx.Response) -> Generator[bytes]:
    size = 0
    for chunk in response.iter_raw():
        size += len(chunk)
        if size > TOKEN_LIMIT_BYTES:
            raise NetworkError(f"{response.url.host} answers with a token of more than {TOKEN_LIMIT_BYTES} bytes")
        yield chunk
