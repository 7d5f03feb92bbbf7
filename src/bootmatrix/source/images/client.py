"""HTTP client of one repository of a registry."""

import os

import httpx

from bootmatrix.errors import UntrustedError
from bootmatrix.source.addresses import is_loopback
from bootmatrix.source.connection import Guard, GuardedTransport, new_client
from bootmatrix.source.images.artifacts import IMAGE_TYPES
from bootmatrix.source.images.auth import Authorization
from bootmatrix.source.images.credentials import Credentials, config_file, find_credentials
from bootmatrix.source.images.endpoint import Endpoint

SETTINGS = "BOOTMATRIX_REGISTRIES"
"""Environment variable by which a user names the file of settings."""


def open_client(endpoint: Endpoint, repository: str, actions: str = "pull") -> httpx.Client:
    """Return a client for these actions: `pull`, or `pull,push`.

    It loads credentials when it is asked for some.
    """
    guard = Guard(httpx.URL(endpoint.url), endpoint.realms, endpoint.only_here)
    context = endpoint.tls()
    others = endpoint.tls(with_client_certificate=False) if endpoint.client_certificate else context
    tokens = new_client(GuardedTransport(guard, None, context, is_led=False))

    def credentials() -> Credentials | None:
        found = find_credentials(endpoint.name, config_file())
        if found and endpoint.scheme == "http" and not (is_loopback(endpoint.hostname) or os.environ.get(SETTINGS)):
            raise UntrustedError(
                f"the registry {endpoint.name} asks for a password without TLS: refused",
                f"registries.yml of this folder may be anybody's. If it is yours, name it: {SETTINGS}=registries.yml",
            )
        return found

    def check_redirect(request: httpx.Request) -> None:
        """Refuse redirects from TLS to plain HTTP. The guard checks addresses."""
        if endpoint.scheme == "https" and request.url.scheme != "https":
            place = f"{request.url.scheme}://{request.url.host}"
            raise UntrustedError(f"the registry {endpoint.name} redirects to {place}: refused")

    return new_client(
        GuardedTransport(guard, None, context, others),
        headers={"Accept": ", ".join((*IMAGE_TYPES, "*/*"))},
        auth=Authorization(endpoint, repository, credentials, lambda: tokens, actions),
        event_hooks={"request": [check_redirect]},
    )
