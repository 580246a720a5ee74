"""A small OpenID provider, over real HTTP on this machine: Authlib's own authorization server, which can be made to lie."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

from authlib.integrations.flask_oauth2 import AuthorizationServer
from authlib.oauth2.rfc6749 import AuthorizationCodeMixin, ClientMixin, OAuth2Error, grants
from authlib.oauth2.rfc7636 import CodeChallenge
from authlib.oidc.core import OpenIDCode, UserInfo
from flask import Flask, Response, jsonify, redirect, request
from flask.typing import ResponseReturnValue
from joserfc import jwt
from joserfc.jwk import RSAKey
from werkzeug.serving import make_server

CLIENT, SECRET = "lading", "the client's secret, which is in no log"
SITE = "https://imports.example.org"
BACK = f"{SITE}/sign-in/oidc/back"
OPTIONS = {"OIDC_CLIENT_ID": CLIENT, "OIDC_CLIENT_SECRET": SECRET, "PUBLIC_URL": SITE, "OIDC_READ": "engineers", "OIDC_ADMIN": "chiefs"}
PAGE = """<!doctype html><html lang="en"><title>Provider</title><link rel="icon" href="data:,">
<form method="post"><button>It is me</button></form></html>"""
Lie = Callable[[dict[str, Any], RSAKey], str]  # from the claims of an ID token, and the key, to what is sent instead of it


class _Client(ClientMixin):
    def __init__(self, provider: Provider) -> None:
        self.provider = provider

    def get_client_id(self) -> str:
        return CLIENT

    def get_default_redirect_uri(self) -> str:
        return self.provider.back

    def get_allowed_scope(self, scope: str) -> str:
        return scope

    def check_redirect_uri(self, redirect_uri: str) -> bool:
        return redirect_uri == self.provider.back

    def check_client_secret(self, client_secret: str) -> bool:
        return client_secret == SECRET

    def check_endpoint_auth_method(self, method: str, endpoint: str) -> bool:
        return method == self.provider.auth_method

    def check_response_type(self, response_type: str) -> bool:
        return response_type == "code"

    def check_grant_type(self, grant_type: str) -> bool:
        return grant_type == "authorization_code"


@dataclass
class _Code(AuthorizationCodeMixin):
    code: str
    redirect_uri: str
    scope: str
    nonce: str | None
    code_challenge: str
    code_challenge_method: str
    auth_time = 0

    def get_redirect_uri(self) -> str:
        return self.redirect_uri

    def get_scope(self) -> str:
        return self.scope

    def get_nonce(self) -> str | None:
        return self.nonce

    def get_auth_time(self) -> None:
        return None

    def get_acr(self) -> None:
        return None

    def get_amr(self) -> None:
        return None


@dataclass
class Provider:
    """The provider: whom it knows, what it signs with, and how it lies."""

    back: str = BACK  # where it sends people
    address: str = ""
    person: dict[str, Any] = field(default_factory=lambda: {"sub": "ada", "name": "Ada Lovelace", "groups": ["engineers"]})
    key: RSAKey = field(default_factory=lambda: new_key("one"))
    shown: list[Any] | None = None  # the keys that it shows, where not the one that it signs with
    lie: Lie | None = None
    metadata: dict[str, Any] = field(default_factory=dict)  # said instead of what is so
    auth_method: str = "client_secret_basic"
    asks: bool = False  # show a form with a button, as people see it
    codes: dict[str, _Code] = field(default_factory=dict)
    asked: list[str] = field(default_factory=list)  # the paths of all requests

    def app(self) -> Flask:
        """Return it as a WSGI application."""
        app = Flask("provider")
        server = AuthorizationServer(app, query_client=lambda _: _Client(self), save_token=lambda *_: None)
        server.register_grant(_grant(self), [_OpenID(self), CodeChallenge(required=True)])
        app.before_request(lambda: self.asked.append(request.path))
        app.add_url_rule("/.well-known/openid-configuration", view_func=self.configuration)
        app.add_url_rule("/keys", view_func=self.keys)

        @app.route("/authorize", methods=["GET", "POST"])
        def authorize() -> ResponseReturnValue:
            if self.asks and request.method == "GET":
                return PAGE
            try:
                grant = server.get_consent_grant(end_user=self)
            except OAuth2Error as error:
                return f"refused: {error.error}", 400
            return server.create_authorization_response(request, grant_user=self, grant=grant)

        @app.post("/token")
        def token() -> ResponseReturnValue:
            reply: Response = server.create_token_response()
            said = reply.get_json()
            if self.lie is not None and "id_token" in said:
                claims = jwt.decode(said["id_token"], self.key).claims
                return jsonify(said | {"id_token": self.lie(dict(claims), self.key)})
            return reply

        app.add_url_rule("/elsewhere", view_func=lambda: redirect("/keys"))
        return app

    def configuration(self) -> ResponseReturnValue:
        """Say where its parts are."""
        places = {"authorization_endpoint": "/authorize", "token_endpoint": "/token", "jwks_uri": "/keys"}
        said = {name: self.address + path for name, path in places.items()}
        return jsonify({"issuer": self.address, **said, "token_endpoint_auth_methods_supported": [self.auth_method], **self.metadata})

    def keys(self) -> ResponseReturnValue:
        """Show the public keys."""
        return jsonify({"keys": self.shown if self.shown is not None else [self.key.as_dict(private=False)]})

    def rotate(self, kid: str) -> None:
        """Sign with another key from now on."""
        self.key = new_key(kid)


def new_key(kid: str) -> RSAKey:
    """Make a key pair."""
    return RSAKey.generate_key(2048, {"kid": kid, "use": "sig"})


def signed(claims: dict[str, Any], key: Any, alg: str = "RS256", **header: Any) -> str:
    """Sign claims."""
    return jwt.encode({"alg": alg, "kid": key.kid, **header}, claims, key, algorithms=[alg])


def _grant(provider: Provider) -> type[grants.AuthorizationCodeGrant]:
    class Grant(grants.AuthorizationCodeGrant):
        TOKEN_ENDPOINT_AUTH_METHODS = ("client_secret_basic", "client_secret_post")

        def save_authorization_code(self, code: str, request: Any) -> None:
            said = request.payload.data
            provider.codes[code] = _Code(
                code, said["redirect_uri"], said["scope"], said.get("nonce"), said["code_challenge"], said["code_challenge_method"]
            )

        def query_authorization_code(self, code: str, client: Any) -> _Code | None:
            return provider.codes.get(code)

        def delete_authorization_code(self, authorization_code: _Code) -> None:
            provider.codes.pop(authorization_code.code)

        def authenticate_user(self, authorization_code: _Code) -> Provider:
            return provider

    return Grant


class _OpenID(OpenIDCode):
    def __init__(self, provider: Provider) -> None:
        super().__init__(require_nonce=True)
        self.provider = provider

    def exists_nonce(self, nonce: str, request: Any) -> bool:
        return False

    def resolve_client_private_key(self, client: Any) -> RSAKey:
        return self.provider.key

    def get_client_claims(self, client: Any) -> dict[str, Any]:
        return {"iss": self.provider.address, "aud": [CLIENT]}

    def get_encode_header(self, client: Any) -> dict[str, Any]:
        return {"alg": "RS256", "kid": self.provider.key.kid}

    def generate_user_info(self, user: Any, scope: str) -> UserInfo:
        return UserInfo(self.provider.person)


@contextmanager
def running(provider: Provider) -> Iterator[Provider]:
    """Serve a provider meanwhile."""
    server = make_server("127.0.0.1", 0, provider.app(), threaded=True)
    provider.address = f"http://127.0.0.1:{server.server_port}"
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield provider
    finally:
        server.shutdown()
        thread.join()
        server.server_close()
