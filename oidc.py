"""Who somebody is, by the word of an OpenID provider: authorization code flow with PKCE, for a confidential client.

What a provider says counts only as an ID token that it has signed for us, for this very sign-in. Authlib does the protocol; it is needed
where OIDC_ISSUER is set, and nothing of it is imported elsewhere. Sources: OpenID Connect Core 1.0 and Discovery 1.0, RFC 7636, RFC 9700.
"""

from __future__ import annotations

import hmac
import re
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from importlib.util import find_spec
from typing import Any
from urllib.parse import urlencode, urlsplit

import clock
from errors import LadingError, SettingInvalid
from setting_texts import is_of_this_machine
from settings import Settings

INSTALL = "pip install --require-hashes -r requirements-oidc.txt"
SECONDS = 5.0  # for each thing that a provider is asked
KEEP_SECONDS = 600.0  # how long it is remembered where its parts are; its keys never are, so that a change of them counts at once
LEEWAY_SECONDS = 60  # its clock and ours may differ by so much
# Of key pairs only: a token that is signed with what everybody may know (a public key taken as a secret), or not at all, is none.
ALGORITHMS = ("RS256", "RS384", "RS512", "PS256", "PS384", "PS512", "ES256", "ES384", "ES512")
_KINDS = ("RSA", "EC")  # of keys that go with these; a provider may show others besides
_CODE = re.compile(r"[\x20-\x7e]{1,8000}")  # RFC 6749, appendix A.11
_PARTS = ("authorization_endpoint", "token_endpoint", "jwks_uri")


class ProviderUnavailable(LadingError):
    """The provider cannot be reached, or does not speak as one does, or refuses us; nobody's fault who wants to sign in."""


class NotProven(LadingError):
    """What came back does not prove who somebody is. Its text is for the log alone."""


def check(settings: Settings) -> None:
    """Raise SettingInvalid where people are to sign in by a provider, and the packages for that are not installed."""
    if settings.oidc_issuer is not None and lacking():
        raise SettingInvalid(f"OIDC_ISSUER is set, but {' and '.join(lacking())} are not installed: {INSTALL}")


def lacking() -> list[str]:
    """Return the packages that would be needed and are not installed."""
    return [name for name in ("authlib", "requests") if find_spec(name) is None]


@dataclass(slots=True)
class Provider:
    """A provider, and what we are to it."""

    issuer: str
    client_id: str
    client_secret: str = field(repr=False)
    scope: str
    redirect_uri: str
    _known: dict[str, Any] = field(default_factory=dict, repr=False)
    _known_at: float = field(default=float("-inf"), repr=False)

    @property
    def host(self) -> str:
        """Return the provider's name, as people know it."""
        return urlsplit(self.issuer).hostname or ""

    def start(self, following: str | None) -> str:
        """Return the address of ours that leads to the provider, and at last to `following`.

        It begins as the one to which the provider sends people back, so that the same browser finds the same cookie there.
        """
        return self.redirect_uri.removesuffix("/back") + (f"?{urlencode({'next': following})}" if following else "")

    def address(self, secret: str) -> str:
        """Return where the browser goes that has this secret of 256 random bits; what is sent along is made of it, and gives none away."""
        parts = self.parts()
        with self._session() as session:
            said = {"state": state_of(secret), "nonce": _made_of(secret, "nonce"), "code_verifier": _made_of(secret, "code")}
            address, _ = session.create_authorization_url(parts["authorization_endpoint"], **said)
        return str(address)

    def claims(self, secret: str, code: str) -> Mapping[str, Any]:
        """Return what the provider has signed of the person whose code this is. Raises ProviderUnavailable, NotProven."""
        from authlib.integrations.base_client import OAuthError
        from requests import RequestException

        if not _CODE.fullmatch(code):
            raise NotProven("there is no code, or what stands for it is none")
        parts = self.parts()
        try:
            with self._session(parts) as session:
                got = session.fetch_token(
                    parts["token_endpoint"], grant_type="authorization_code", code=code, code_verifier=_made_of(secret, "code"),
                    timeout=SECONDS, allow_redirects=False,
                )  # fmt: skip
        except OAuthError as error:
            kind = NotProven if error.error == "invalid_grant" else ProviderUnavailable
            raise kind(f"the provider gives no token for the code: {error.error}") from None
        except (RequestException, ValueError, TypeError, AttributeError) as error:
            raise ProviderUnavailable(f"the provider's token endpoint fails: {type(error).__name__}") from None
        if not isinstance(got.get("id_token"), str):
            raise NotProven("the provider's reply has no ID token")
        return self._proven(got["id_token"], got.get("access_token"), _made_of(secret, "nonce"), self._keys(parts["jwks_uri"]))

    def parts(self) -> Mapping[str, Any]:
        """Return what the provider says of itself. Raises ProviderUnavailable, also where it is another than ours or could be overheard."""
        if time.monotonic() - self._known_at > KEEP_SECONDS:
            found = self._got(f"{self.issuer.rstrip('/')}/.well-known/openid-configuration")
            if found.get("issuer") != self.issuer:
                raise ProviderUnavailable(f"the provider calls itself {str(found.get('issuer'))[:200]!r}, and not {self.issuer!r}")
            wrong = [part for part in _PARTS if not _is_safe(found.get(part))]
            if wrong:
                raise ProviderUnavailable(f"the provider's {', '.join(wrong)} are missing, or not https")
            self._known, self._known_at = found, time.monotonic()
        return self._known

    def _session(self, parts: Mapping[str, Any] | None = None) -> Any:
        from authlib.integrations.requests_client import OAuth2Session

        methods = (parts or {}).get("token_endpoint_auth_methods_supported") or ["client_secret_basic"]
        method = "client_secret_basic" if "client_secret_basic" in methods else "client_secret_post"
        return OAuth2Session(
            self.client_id, self.client_secret, scope=self.scope, redirect_uri=self.redirect_uri, code_challenge_method="S256",
            token_endpoint_auth_method=method,
        )  # fmt: skip

    def _keys(self, address: str) -> Any:
        from joserfc.errors import JoseError
        from joserfc.jwk import KeySet

        shown = self._got(address).get("keys")
        try:
            usable = [key for key in shown or () if key.get("kty") in _KINDS]
            return KeySet.import_key_set({"keys": usable})
        except (JoseError, ValueError, TypeError, AttributeError, KeyError) as error:
            raise ProviderUnavailable(f"the provider's keys cannot be read: {type(error).__name__}") from None

    def _got(self, address: str) -> dict[str, Any]:
        """Return the JSON object at an address; no redirect is followed."""
        import requests

        try:
            reply = requests.get(address, timeout=SECONDS, allow_redirects=False, headers={"Accept": "application/json"})
            found = reply.json() if reply.status_code == 200 else None
        except (requests.RequestException, ValueError) as error:
            raise ProviderUnavailable(f"{address} cannot be had: {type(error).__name__}") from None
        if not isinstance(found, dict):
            raise ProviderUnavailable(f"{address} gives no JSON object, but status {reply.status_code}")
        return found

    def _proven(self, token: str, access_token: Any, nonce: str, keys: Any) -> Mapping[str, Any]:
        """Return the claims of an ID token that is signed by one of the keys, for us, for this sign-in, and is valid now."""
        from authlib.oidc.core import CodeIDToken
        from joserfc import jwt
        from joserfc.errors import JoseError

        wanted = {"iss": {"essential": True, "value": self.issuer}, "aud": {"essential": True, "value": self.client_id}}
        told = {"nonce": nonce, "client_id": self.client_id, "access_token": access_token}
        try:
            read = jwt.decode(token, keys, algorithms=ALGORITHMS)
            claims = CodeIDToken(read.claims, read.header, options=wanted, params=told)
            claims.validate(now=int(clock.now().timestamp()), leeway=LEEWAY_SECONDS)
        except (JoseError, ValueError, TypeError, AttributeError, KeyError) as error:
            raise NotProven(f"the provider's ID token is refused: {error}") from None
        return claims


def of_settings(settings: Settings) -> Provider | None:
    """Return the provider by which people sign in; None where there is none."""
    if settings.oidc_issuer is None:
        return None
    back = f"{settings.public_url}/sign-in/oidc/back"
    return Provider(settings.oidc_issuer, str(settings.oidc_client_id), str(settings.oidc_client_secret), settings.oidc_scope, back)


def state_of(secret: str) -> str:
    """Return by what the browser that has this secret is known when it comes back."""
    return _made_of(secret, "state")


def _made_of(secret: str, what: str) -> str:
    return hmac.new(secret.encode(), what.encode(), "sha256").hexdigest()


def _is_safe(address: Any) -> bool:
    """Tell whether what is sent to an address can be overheard by nobody."""
    try:
        parts = urlsplit(address) if isinstance(address, str) else None
    except ValueError:
        return False
    return parts is not None and bool(parts.hostname) and (parts.scheme == "https" or is_of_this_machine(address))
