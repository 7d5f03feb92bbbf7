"""Authentication at a registry: by password, or by a token of its token server."""

import json
import threading
from collections.abc import Callable, Generator

import httpx

from bootmatrix.errors import NetworkError, UntrustedError
from bootmatrix.redact import RedactedUrl
from bootmatrix.source.addresses import is_loopback
from bootmatrix.source.connection import in_words, origin_of, read_bounded
from bootmatrix.source.images.credentials import Credentials
from bootmatrix.source.images.endpoint import Endpoint
from bootmatrix.source.images.www_authenticate import Challenge, belong_together, challenges

CLIENT_ID = "bootmatrix"
TOKEN_LIMIT_BYTES = 1 << 20
Find = Callable[[], Credentials | None]


class Authorization(httpx.Auth):
    """Answer a registry's challenges for one repository.

    Hosts that requests are redirected to get no credentials. Credentials are loaded at the first challenge, so that
    public images start no helper program.
    """

    def __init__(
        self, endpoint: Endpoint, repository: str, find: Find, http: Callable[[], httpx.Client], actions: str = "pull"
    ) -> None:
        self._endpoint, self._find, self._http = endpoint, find, http
        self._scope = f"repository:{repository}:{actions}"
        self._header = ""
        self._guard = threading.Lock()

    def sync_auth_flow(self, request: httpx.Request) -> Generator[httpx.Request, httpx.Response, None]:
        """Send a request, and again after a challenge."""
        sent = self._header
        if sent:
            request.headers["Authorization"] = sent
        response = yield request
        if response.status_code != 401 or origin_of(response.url) != origin_of(request.url):
            return  # challenges of redirect targets are not answered
        header = self._answer(response.headers.get_list("WWW-Authenticate"), sent)
        if header:
            request.headers["Authorization"] = header
            yield request

    def _answer(self, headers: list[str], sent: str) -> str:
        """Return the value of an Authorization header; empty if nothing changes."""
        with self._guard:
            if self._header != sent:  # another thread authenticated
                return self._header
            parsed = challenges(headers)
            bearer = next((challenge for challenge in parsed if challenge.scheme == "bearer"), None)
            credentials = self._find()
            if bearer and credentials and credentials.bearer:
                self._header = f"Bearer {credentials.bearer}"
            elif bearer:
                token = self._token(bearer, credentials)
                self._header = f"Bearer {token}" if token else ""
            elif credentials and credentials.user and any(challenge.scheme == "basic" for challenge in parsed):
                self._header = credentials.basic
            return self._header if self._header != sent else ""

    def _token(self, challenge: Challenge, credentials: Credentials | None) -> str:
        realm = self._realm(challenge.parameters.get("realm", ""), credentials is not None)
        # The scope does not come from the challenge, which may ask for a token of more rights.
        query = {"service": challenge.parameters.get("service", ""), "scope": self._scope}
        http, plain = self._http(), {"Accept-Encoding": "identity"}
        if credentials and credentials.token:
            form = {**query, "grant_type": "refresh_token", "client_id": CLIENT_ID, "refresh_token": credentials.token}
            address = realm.copy_remove_param("scope")  # a server may prefer that of the address
            return self._request_token(http, http.build_request("POST", address, data=form, headers=plain))
        headers = {**plain, "Authorization": credentials.basic} if credentials else plain
        return self._request_token(http, http.build_request("GET", realm.copy_merge_params(query), headers=headers))

    def _realm(self, text: str, has_credentials: bool) -> httpx.URL:
        """Return the token server's address.

        Raises NetworkError if it is invalid, UntrustedError if a password must not be sent to it.
        """
        name, address = self._endpoint.name, str(RedactedUrl(text[:200]))
        try:
            realm = httpx.URL(text)
            _ = realm.host  # decoding it may fail
        except (httpx.InvalidURL, UnicodeError) as error:
            raise NetworkError(f"the registry {name} has an invalid token server: {address!r}") from error
        if realm.scheme != "https" and not (realm.scheme == "http" and self._is_plain(realm.host)):
            raise UntrustedError(
                f"the registry {name} has a token server without TLS: {address}",
                "If the registry itself has no TLS, set plain_http: true in registries.yml.",
            )
        trusted = belong_together(self._endpoint.hostname, realm.host) or realm.host in self._endpoint.realms
        if has_credentials and not trusted:
            raise UntrustedError(
                f"the registry {name} has a token server in another domain: {realm.host}",
                f"If you trust it, add it in registries.yml: registries: {{{name!r}: {{realms: [{realm.host}]}}}}",
            )
        return realm

    def _is_plain(self, host: str) -> bool:
        return self._endpoint.scheme == "http" and (host == self._endpoint.hostname or is_loopback(host))

    def _request_token(self, http: httpx.Client, request: httpx.Request) -> str:
        """Request a token; empty if refused. Raises NetworkError without one."""
        place = f"{request.url.scheme}://{request.url.host}"
        try:
            response = http.send(request, stream=True, follow_redirects=False, auth=None)
            try:
                body = read_bounded(response, TOKEN_LIMIT_BYTES)
            finally:
                response.close()
        except (httpx.TransportError, UnicodeError) as error:  # the last: not a DNS name
            raise NetworkError(f"the token server {place} does not answer: {in_words(error)}") from error
        if response.status_code in {401, 403}:
            return ""
        try:
            reply = json.loads(body)
            token = reply.get("token") or reply.get("access_token")
        except (ValueError, AttributeError, RecursionError):
            token = None
        if response.status_code != 200 or not isinstance(token, str) or not token.isascii() or not token.isprintable():
            raise NetworkError(f"the token server {place} answered {response.status_code} without a token")
        return token
