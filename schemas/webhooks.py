"""The shape of webhooks: which addresses they may have, and the fields of their requests and replies."""

from __future__ import annotations

import ipaddress
import re
import socket
from collections.abc import Sequence
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network
from urllib.parse import SplitResult, urlsplit

from marshmallow import Schema, fields, validate

from schemas.replies import Moment
from schemas.requests import Request, Text, about, choice

Networks = Sequence[IPv4Network | IPv6Network]

EVENTS = ("batch.completed", "batch.failed", "batch.cancelled", "record.created", "record.updated", "record.deleted")
PROGRESS = ("waiting", "delivered", "failed", "dropped")
_EVENT = "|".join(map(re.escape, EVENTS))
_NAT64 = ipaddress.ip_network("64:ff9b::/96")


# Addresses --------------------------------------------------------------------------------------------------------------
def may_be_reached(address: str, networks: Networks = ()) -> bool:
    """Tell whether requests that strangers ask for may go to an IP address: a public one, or one of these networks.

    >>> may_be_reached("93.184.215.14"), may_be_reached("127.0.0.1"), may_be_reached("::ffff:10.0.0.1"), may_be_reached("64:ff9b::a00:1")
    (True, False, False, False)
    """
    ip = _innermost(ipaddress.ip_address(address.partition("%")[0]))
    if is_within(address, networks):
        return True
    return ip.is_global and not (ip.is_multicast or ip.is_reserved or ip.is_unspecified)


def is_within(address: str, networks: Networks) -> bool:
    """Tell whether an IP address is in one of these networks."""
    ip = _innermost(ipaddress.ip_address(address.partition("%")[0]))
    return any(ip.version == network.version and ip in network for network in networks)


def _innermost(ip: IPv4Address | IPv6Address) -> IPv4Address | IPv6Address:
    """Return the IPv4 address that an IPv6 address stands for: mapped, by NAT64, or by 6to4."""
    if isinstance(ip, IPv4Address):
        return ip
    inner = ip.ipv4_mapped or ip.sixtofour
    return inner or (IPv4Address(int(ip) & 0xFFFFFFFF) if ip in _NAT64 else ip)


def port_of(parts: SplitResult) -> int:
    """Return the port of a URL, which it may leave out."""
    return parts.port or (443 if parts.scheme == "https" else 80)


def problem_with(url: str, networks: Networks, ports: Sequence[int]) -> str | None:
    """Return what forbids a webhook this address, or None. Where a name leads is looked up, and checked, at each request."""
    try:
        parts = urlsplit(url)
        port = port_of(parts)
    except ValueError:
        return "Not an address: its host or port cannot be read."
    if not parts.hostname or parts.username is not None or parts.password is not None or parts.fragment:
        return "An address needs a host, and may have neither a user, nor a password, nor a fragment."
    if parts.scheme != "https" and not networks:
        return "Only https is allowed."
    if port not in ports and not networks:
        return f"Only these ports are allowed: {', '.join(map(str, ports))}."
    if (address := _numeric(parts.hostname)) and not may_be_reached(address, networks):
        return "This address is not public."
    return None


def _numeric(host: str) -> str | None:
    """Return the IP address that a host is, in whatever way it is written (`2130706433`, `0x7f.1`); None for a name."""
    try:
        return str(socket.getaddrinfo(host, None, type=socket.SOCK_STREAM, flags=socket.AI_NUMERICHOST)[0][4][0])
    except (OSError, UnicodeError):
        return None


def _listed(description: str) -> Text:
    return Text(load_default="", validate=validate.Length(max=2000), metadata=about(description))


# Requests ---------------------------------------------------------------------------------------------------------------
class WebhookRequest(Request):
    """The fields of `POST /api/webhooks`."""

    url = Text(
        required=True,
        validate=[
            validate.Length(max=2000),
            validate.Regexp(r"https?://[!-~]+\Z", error="Not an address such as https://example.org/hook."),
        ],
        metadata=about("Where requests go: an https address."),
    )
    events = Text(
        load_default=",".join(EVENTS[:3]),
        validate=validate.Regexp(rf"(?:{_EVENT})(?:,(?:{_EVENT}))*\Z", error=f"Not events with commas between: {', '.join(EVENTS)}."),
        metadata=about("Which events, with commas between; those of batches, unless others are named."),
    )
    controls = _listed("Only batches of these control files: names or digests, with commas between.")
    entities = _listed("Only records of these entities, with commas between.")
    comment = Text(load_default="", validate=validate.Length(max=2000), metadata=about("For people."))


def words(text: str) -> list[str]:
    """Return the words of a text with commas between them, each once.

    >>> words("a, b,a,")
    ['a', 'b']
    """
    return list(dict.fromkeys(word.strip() for word in text.split(",") if word.strip()))


class DeliveriesQuery(Request):
    """The query string of lists of deliveries."""

    state = choice(*PROGRESS, load_default=None, description="Only those in this state.")
    cursor = fields.Integer(load_default=None, validate=validate.Range(min=1, max=2**63 - 1), metadata=about("`next` of the page before."))
    limit = fields.Integer(load_default=50, validate=validate.Range(min=1, max=200), metadata=about("How many."))


# Replies ----------------------------------------------------------------------------------------------------------------
class WebhookReply(Schema):
    """A webhook."""

    id = fields.String(required=True)
    key = fields.String(required=True, attribute="key_id")
    url = fields.String(required=True)
    comment = fields.String(required=True)
    events = fields.List(fields.String(), required=True)
    controls = fields.List(fields.String(), required=True)
    entities = fields.List(fields.String(), required=True)
    created_at = Moment(required=True)
    enabled = fields.Boolean(required=True, attribute="is_enabled")
    status_msg = fields.String(required=True, metadata=about("Why it is not enabled."))
    failing_since = Moment(required=True, allow_none=True)


class WebhookMade(WebhookReply):
    """A webhook that was made."""

    secret = fields.String(required=True, metadata=about("What signs its requests; shown this once."))


class WebhooksReply(Schema):
    """All webhooks that the key may see."""

    webhooks = fields.List(fields.Nested(WebhookReply), required=True)


class SecretReply(Schema):
    """A new secret of a webhook."""

    id = fields.String(required=True)
    secret = fields.String(required=True, metadata=about("What signs its requests from now on; shown this once."))


class DeliveryReply(Schema):
    """What was, or is to be, told to one receiver."""

    id = fields.String(required=True, metadata=about("Of a mail its Message-ID, of a request its `webhook-id`."))
    kind = fields.String(required=True, validate=validate.OneOf(("mail", "webhook")))
    recipient = fields.String(required=True, metadata=about("A mail address, or a webhook's id."))
    event = fields.String(required=True)
    batch = fields.Integer(required=True, attribute="batch_id")
    run = fields.Integer(required=True)
    state = fields.String(required=True, validate=validate.OneOf(PROGRESS))
    tries = fields.Integer(required=True)
    next_at = Moment(required=True, allow_none=True)
    status = fields.Integer(required=True, allow_none=True, metadata=about("The receiver's last answer."))
    message = fields.String(required=True, metadata=about("What went wrong last."))
    created_at = Moment(required=True)
    done_at = Moment(required=True, allow_none=True)


class DeliveriesReply(Schema):
    """A page of deliveries."""

    deliveries = fields.List(fields.Nested(DeliveryReply), required=True)
    next = fields.Integer(required=True, allow_none=True, metadata=about("`cursor` of the next page."))
