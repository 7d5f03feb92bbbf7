"""HTTP client of one repository of a registry."""

import httpx

from bootmatrix.errors import UntrustedError
from bootmatrix.source.connection import Guard, GuardedTransport, new_client
from bootmatrix.source.images.artifacts import IMAGE_TYPES
from bootmatrix.source.images.auth import Authorization
from bootmatrix.source.images.credentials import Credentials, config_file, find_credentials
from bootmatrix.source.images.endpoint import Endpoint


def open_client(endpoint: Endpoint, repository: str, actions: str = "pull") -> httpx.Client:
    """Return a client for these actions: `pull`, or `pull,push`.

    It loads credentials when it is asked for some.
    """
    guard = Guard(httpx.URL(endpoint.url), endpoint.realms, endpoint.only_here)
    context = endpoint.tls()
    others = endpoint.tls(with_client_certificate=False) if endpoint.client_certificate else context
    tokens = new_client(GuardedTransport(guard, None, context, is_led=False))

    def credentials() -> Credentials | None:
        return find_credentials(endpoint.name, config_file())

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
