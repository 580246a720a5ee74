"""What the settings of a provider let in, what people are called, and what is said where settings or packages do not do."""

from __future__ import annotations

from typing import Any

import pytest

import oidc
from cli import doctor
from errors import SettingInvalid
from pages.people import name_of, permissions
from settings import Settings
from tests.oidc_parts import OPTIONS, SECRET, Provider, running


@pytest.mark.parametrize(
    ("given", "claims", "held"),
    [
        ({}, {"groups": ["a", "b"]}, set()),
        ({"OIDC_READ": "a"}, {"groups": ["a"]}, {"read:all"}),
        ({"OIDC_READ": "a"}, {"groups": "a"}, {"read:all"}),
        ({"OIDC_READ": "a"}, {"groups": ["A", "aa", None, 1, ["a"]]}, set()),
        ({"OIDC_READ": "a", "OIDC_IMPORT": "b, c", "OIDC_ADMIN": "d"}, {"groups": ["a", "c"]}, {"read:all", "import", "read"}),
        ({"OIDC_ADMIN": "d"}, {"groups": ["d"]}, {"admin"}),
        ({"OIDC_ADMIN": "d"}, {"groups": {"d": "d"}}, set()),
        ({"OIDC_ADMIN": "d"}, {}, set()),
        ({"OIDC_CLAIM": "realm_access.roles", "OIDC_READ": "a"}, {"realm_access": {"roles": ["a"]}}, {"read:all"}),
        ({"OIDC_CLAIM": "realm_access.roles", "OIDC_READ": "a"}, {"realm_access": ["roles", "a"]}, set()),
        ({"OIDC_CLAIM": "https://x.example/roles", "OIDC_READ": "a"}, {"https://x.example/roles": ["a"]}, {"read:all"}),
        ({"OIDC_CLAIM": "sub", "OIDC_ADMIN": "7"}, {}, {"admin"}),
        ({"OIDC_CLAIM": "email", "OIDC_READ": "ada@example.org"}, {"email": "Ada@Example.org", "email_verified": True}, {"read:all"}),
        ({"OIDC_CLAIM": "email", "OIDC_READ": "ada@example.org"}, {"email": "ada@example.org"}, set()),
        ({"OIDC_CLAIM": "email", "OIDC_READ": "ada@example.org"}, {"email": "ada@example.org", "email_verified": "false"}, set()),
        ({"OIDC_READ": "*", "OIDC_DOMAINS": "example.org"}, {"email": "a@example.org", "email_verified": True}, {"read:all"}),
        ({"OIDC_READ": "*", "OIDC_DOMAINS": "example.org"}, {"email": "a@example.org"}, set()),
        ({"OIDC_READ": "*", "OIDC_DOMAINS": "example.org"}, {"email": "a@evil.example@example.org", "email_verified": True}, set()),
        ({"OIDC_READ": "*", "OIDC_DOMAINS": "example.org"}, {"email": "a@sub.example.org", "email_verified": True}, set()),
        ({"OIDC_READ": "a", "OIDC_DOMAINS": "example.org"}, {"groups": ["a"], "email": "a@example.com", "email_verified": True}, set()),
        ({"OIDC_READ": "a"}, {"groups": ["*"]}, set()),
    ],
)  # fmt: skip
def test_who_may_what(given: dict[str, str], claims: dict[str, Any], held: set[str]) -> None:
    """Nobody may anything but by a value that the settings name; a mail address counts only where the provider has verified it."""
    made = Settings.from_environment({"OIDC_ISSUER": "https://p.example", **{k: v for k, v in OPTIONS.items() if "READ" not in k}, **given}
                                     | ({} if "OIDC_ADMIN" in given else {"OIDC_ADMIN": ""}))  # fmt: skip
    assert permissions(made, {"sub": "7"} | claims) == held


@pytest.mark.parametrize(
    ("claims", "name"),
    [
        ({"name": "Ada"}, "Ada (7)"),
        ({"name": "nightly\0\n\ud800", "preferred_username": "ada"}, "nightly (ada)"),
        ({"name": 3, "email": "ada@example.org"}, "7"),
        ({"name": "x" * 500, "email": "y" * 500, "email_verified": True}, f"{'x' * 90} ({'y' * 90})"),
    ],
)
def test_what_people_are_called(claims: dict[str, Any], name: str) -> None:
    """A person is told from others of that name, and a name is one that both databases keep."""
    assert name_of({"sub": "7"} | claims) == name


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({"OIDC_CLIENT_SECRET": ""}, "OIDC_CLIENT_SECRET"),
        ({"PUBLIC_URL": ""}, "PUBLIC_URL"),
        ({"OIDC_ISSUER": "http://accounts.example.org"}, "https://"),
        ({"OIDC_READ": "*"}, "OIDC_DOMAINS"),
        ({"OIDC_ADMIN": "*", "OIDC_DOMAINS": "example.org"}, "OIDC_READ only"),
        ({"OIDC_DOMAINS": "example"}, "example.org"),
        ({"OIDC_READ": "a,,b"}, "commas"),
    ],
)
def test_settings_that_cannot_be(given: dict[str, str], said: str) -> None:
    """What is lacking or would let in anybody stops the start, and no secret is told."""
    with pytest.raises(SettingInvalid, match=said) as refused:
        Settings.from_environment({"OIDC_ISSUER": "https://accounts.example.org", **OPTIONS, **given})
    assert SECRET not in str(refused.value)
    assert SECRET not in repr(Settings.from_environment({"OIDC_ISSUER": "https://accounts.example.org", **OPTIONS}))


def test_without_the_packages(monkeypatch: pytest.MonkeyPatch) -> None:
    """Where the packages are not installed, the start and `flask doctor` say which ones, and what to do; with them, whether it answers."""
    with running(Provider()) as provider:
        settings = Settings.from_environment({"OIDC_ISSUER": provider.address, **OPTIONS})
        oidc.check(settings)
        assert [health for health, *_ in doctor._people(settings)] == [doctor.Health.OK]
        nobody = settings_without(OPTIONS | {"OIDC_ISSUER": provider.address}, "OIDC_READ", "OIDC_ADMIN")
        assert [health for health, *_ in doctor._people(nobody)] == [doctor.Health.OK, doctor.Health.DOUBTFUL]
    with pytest.raises(oidc.ProviderUnavailable):
        list(doctor._people(Settings.from_environment({"OIDC_ISSUER": "http://127.0.0.1:9", **OPTIONS})))
    monkeypatch.setattr(oidc, "find_spec", lambda name: None if name == "authlib" else object())
    with pytest.raises(SettingInvalid, match=r"OIDC_ISSUER is set, but authlib .* not installed.*requirements-oidc\.txt"):
        oidc.check(settings)
    (found,) = doctor._people(settings)
    assert found[0] is doctor.Health.WRONG and "authlib" in found[1] and "requirements-oidc.txt" in found[-1]
    oidc.check(Settings.from_environment({}))


def settings_without(given: dict[str, str], *names: str) -> Settings:
    """Return settings that lack some."""
    return Settings.from_environment({name: value for name, value in given.items() if name not in names})
