"""Webhooks for the ends of batches: who hears of what, how it is signed, and what becomes of what is not taken."""

from __future__ import annotations

import json
import re
import socket
import time
from datetime import timedelta
from ipaddress import ip_network
from pathlib import Path
from ssl import PROTOCOL_TLS_SERVER, SSLContext
from typing import Any

import pytest

import clock
from catalog import keys, notices, webhooks
from catalog.notices import Kind, Progress
from jobs import posting
from jobs.notices import PAUSES_SECONDS
from jobs.webhooks import DISABLED_AFTER_SECONDS
from tests.docs_parts import DOCS
from tests.notice_parts import certify
from tests.web_parts import Web, lite
from tests.webhook_parts import Receiver, hook, hooked, imported, lite_hooked, receiver, tell

__all__ = ["hooked", "lite", "lite_hooked", "receiver"]
JSON = {"Accept": "application/json"}


def later(monkeypatch: pytest.MonkeyPatch, seconds: float) -> None:
    """Move the clock."""
    moved = clock.now() + timedelta(seconds=seconds)
    monkeypatch.setattr(clock, "now", lambda: moved)


def states(web: Web) -> list[tuple[str, int, int | None]]:
    """Return state, tries and last status of all deliveries, oldest first."""
    return [(one.state.value, one.tries, one.status) for one in reversed(notices.listed(web.catalog))]


def verify_of_the_docs() -> Any:
    """Return the function that the docs show for checking signatures."""
    page = (DOCS / "how-to" / "notices.md").read_text(encoding="utf-8")
    (code,) = re.findall(r"^```python\n(.*?)^```$", page, re.MULTILINE | re.DOTALL)
    names: dict[str, Any] = {}
    exec(code, names)
    return names["verify"]


def test_the_end_of_a_batch_is_told_and_signed(hooked: Web, receiver: Receiver) -> None:
    """A webhook gets one request, whose body is the batch as its status shows it, and whose signature the docs' own example takes (T85)."""
    made = hook(hooked, receiver.url)
    batch = imported(hooked, b"carrier,name\nAA,American\nXYZ,Too long\n", "?comment=Nacht%20%E2%98%83")
    tell(hooked)
    tell(hooked)
    ((headers, body),) = receiver.got
    said = json.loads(body)
    assert (said["type"], headers["content-type"], headers["user-agent"]) == ("batch.completed", "application/json", "Lading")
    data = dict(said["data"])
    assert data.pop("link") is None
    status = hooked.get(f"/api/batch/{batch}", headers=JSON).get_json()
    assert data == {name: status[name] for name in data} and data["error_count"] == 1 and {"state", "control"} <= data.keys()
    assert said["timestamp"] == status["completed_at"] and said["data"]["comment"] == "Nacht \u2603"
    verify = verify_of_the_docs()
    assert verify(made.secrets[0], headers, body) == said
    for wrong in (body + b" ", body[:-1]):
        with pytest.raises(ValueError, match="signature"):
            verify(made.secrets[0], headers, wrong)
    with pytest.raises(ValueError, match="old"):
        verify(made.secrets[0], headers | {"webhook-timestamp": str(int(headers["webhook-timestamp"]) - 301)}, body)
    assert states(hooked) == [("delivered", 1, 204)]


def test_who_hears_of_what(hooked: Web, receiver: Receiver) -> None:
    """A webhook hears of its key's own batches, or, with read:all, of all; of its events and control files; a revoked key of nothing."""
    stranger, overseer, gone = hooked.new_key("import", "read"), hooked.new_key("import", "read:all"), hooked.new_key("import", "read:all")
    wanted = {
        hook(hooked, receiver.url).id: 2, hook(hooked, receiver.url, controls="airlines,others").id: 2,
        hook(hooked, receiver.url, overseer).id: 3, hook(hooked, receiver.url, events="batch.cancelled").id: 1,
    }  # fmt: skip
    deaf = [hook(hooked, receiver.url, controls="others"), hook(hooked, receiver.url, events="record.created,batch.failed")]
    deaf += [hook(hooked, receiver.url, gone), disabled := hook(hooked, receiver.url, hooked.new_key("import", "read:all"))]
    webhooks.disable(hooked.catalog, disabled.id, "a test")
    keys.revoke(hooked.catalog, gone.split("_")[1])
    imported(hooked)
    imported(hooked, key=stranger)
    cancelled = hooked.post("/api/import/airlines", b"carrier,name\n", content_type="text/csv").text
    assert hooked.post(f"/api/batch/{cancelled}/cancel").text == "CANCELLED"
    tell(hooked)
    heard = [one.recipient for one in notices.listed(hooked.catalog)]
    assert {recipient: heard.count(recipient) for recipient in heard} == wanted and not {one.id for one in deaf} & set(heard)
    types = {json.loads(body)["type"] for _, body in receiver.got}
    assert len(receiver.got) == 8 and types == {"batch.completed", "batch.cancelled"}


@pytest.mark.parametrize("status", [500, 404, 301, 302, 307, 429, 503])
def test_what_is_not_taken_is_tried_again(lite_hooked: Web, receiver: Receiver, monkeypatch: pytest.MonkeyPatch, status: int) -> None:
    """An answer that is no success puts the next try off; a redirect is one, and is not followed; the id stays the same (T84)."""
    other = Receiver()
    receiver.status, receiver.headers = status, {"Location": other.url}
    hook(lite_hooked, receiver.url)
    imported(lite_hooked)
    tell(lite_hooked)
    assert states(lite_hooked) == [("waiting", 1, status)]
    receiver.status = 200
    later(monkeypatch, PAUSES_SECONDS[0] * 1.3)
    tell(lite_hooked)
    other.close()
    assert states(lite_hooked) == [("delivered", 2, 200)] and other.connections == 0
    assert len({headers["webhook-id"] for headers, _ in receiver.got}) == 1 and len({body for _, body in receiver.got}) == 1


def test_a_receiver_says_when_to_try_again(lite_hooked: Web, receiver: Receiver, monkeypatch: pytest.MonkeyPatch) -> None:
    """429 with Retry-After is heeded, for all that waits for this receiver (T84)."""
    receiver.status, receiver.headers = 429, {"Retry-After": "1000"}
    hook(lite_hooked, receiver.url)
    imported(lite_hooked)
    imported(lite_hooked)
    tell(lite_hooked)
    assert len(receiver.got) == 1
    later(monkeypatch, 900)
    tell(lite_hooked)
    assert len(receiver.got) == 1
    later(monkeypatch, 101)
    receiver.status = 200
    tell(lite_hooked)
    assert len(receiver.got) == 3


def test_a_receiver_that_is_gone_is_told_nothing_more(lite_hooked: Web, receiver: Receiver) -> None:
    """410 disables the webhook at once; what waits for it is dropped, and it is told again once it is enabled (T84)."""
    receiver.status = 410
    made = hook(lite_hooked, receiver.url)
    imported(lite_hooked)
    imported(lite_hooked)
    tell(lite_hooked)
    assert sorted(state for state, *_ in states(lite_hooked)) == ["dropped", "dropped"] and len(receiver.got) == 1
    told = lite_hooked.get(f"/api/webhooks/{made.id}").get_json()
    assert (told["enabled"], told["status_msg"]) == (False, "the receiver answered 410 Gone")
    imported(lite_hooked)
    tell(lite_hooked)
    assert len(notices.listed(lite_hooked.catalog)) == 2
    receiver.status = 200
    assert lite_hooked.post(f"/api/webhooks/{made.id}/enable").text == "ENABLED"
    imported(lite_hooked)
    tell(lite_hooked)
    assert len(receiver.got) == 2


def test_a_receiver_that_is_dead_is_disabled(lite_hooked: Web, receiver: Receiver, monkeypatch: pytest.MonkeyPatch) -> None:
    """A failure more than a day after the first, with nothing taken in between, disables the webhook, and its reason is told (T84)."""
    receiver.status = 500
    made = hook(lite_hooked, receiver.url)
    imported(lite_hooked)
    tell(lite_hooked)
    later(monkeypatch, DISABLED_AFTER_SECONDS + 10)
    tell(lite_hooked)
    known = webhooks.get(lite_hooked.catalog, made.id)
    assert known is not None and not known.is_enabled and "nothing since" in known.status_msg and "500" in known.status_msg
    assert [state for state, *_ in states(lite_hooked)] == ["dropped"]


def test_imports_do_not_wait_for_receivers(lite_hooked: Web, receiver: Receiver) -> None:
    """Whatever a receiver does, the batch is as it would be without it (T84)."""
    receiver.close()
    hook(lite_hooked, receiver.url)
    batch = imported(lite_hooked)
    tell(lite_hooked)
    assert lite_hooked.get(f"/api/batch/{batch}").text.startswith("completed input=1 success=1 error=0")
    assert notices.listed(lite_hooked.catalog)[0].message == "no reply (ConnectionRefusedError)"
    receiver.__post_init__()  # so that there is something to close


def test_it_can_be_told_anew(lite_hooked: Web, receiver: Receiver) -> None:
    """A delivery that is over is made again on request, under the same id; one that waits is not (T84)."""
    made = hook(lite_hooked, receiver.url)
    batch = imported(lite_hooked)
    notices_of_batch = f"/api/batch/{batch}/deliveries"
    assert lite_hooked.get(notices_of_batch).text == ""
    tell(lite_hooked)
    (shown,) = lite_hooked.get(notices_of_batch, headers=JSON).get_json()["deliveries"]
    assert (shown["state"], shown["status"], shown["batch"], shown["recipient"], shown["next_at"]) == (
        "delivered",
        204,
        batch,
        made.id,
        None,
    )
    assert lite_hooked.get(f"/api/webhooks/{made.id}/deliveries?state=failed").text == ""
    path = f"/api/webhooks/{made.id}/deliveries/{shown['id']}/retry"
    assert (lite_hooked.post(path).text, lite_hooked.post(path).status_code) == ("WAITING", 409)
    tell(lite_hooked)
    assert len(receiver.got) == 2 and {headers["webhook-id"] for headers, _ in receiver.got} == {shown["id"]}
    other = hook(lite_hooked, receiver.url)
    assert lite_hooked.post(path.replace(made.id, other.id)).status_code == 404


def test_secrets_are_changed_without_a_gap(lite_hooked: Web, receiver: Receiver, monkeypatch: pytest.MonkeyPatch) -> None:
    """For a day a request is signed with both secrets, and then with the new one only (T85)."""
    made, verify = hook(lite_hooked, receiver.url), verify_of_the_docs()
    new = lite_hooked.post(f"/api/webhooks/{made.id}/secret").text
    assert new.startswith("whsec_") and new != made.secrets[0]
    imported(lite_hooked)
    tell(lite_hooked)
    headers, body = receiver.got[0]
    assert verify(new, headers, body) and verify(made.secrets[0], headers, body) and headers["webhook-signature"].count("v1,") == 2
    later(monkeypatch, webhooks.OVERLAP_HOURS * 3600 + 1)
    imported(lite_hooked)
    tell(lite_hooked)
    headers, body = receiver.got[1]
    assert verify(new, headers, body)
    with pytest.raises(ValueError, match="signature"):
        verify(made.secrets[0], headers, body)


def test_a_published_signature(monkeypatch: pytest.MonkeyPatch) -> None:
    """Signatures are those of the Standard Webhooks reference libraries, for the example that they all test with (T85)."""
    monkeypatch.setattr(time, "time", lambda: 1614265330.9)
    headers = posting.signed("msg_p5jXN8AQM9LWM0D4loKWxJek", b'{"test": 2432232314}', ["whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"])
    assert headers == {
        "webhook-id": "msg_p5jXN8AQM9LWM0D4loKWxJek", "webhook-timestamp": "1614265330",
        "webhook-signature": "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE=",
    }  # fmt: skip


def test_what_a_key_may_see_of_webhooks(lite_hooked: Web, receiver: Receiver) -> None:
    """A webhook shows no secret after its making; another key's is unknown; an admin's sees all; deleted ones are told nothing (T87)."""
    made, stranger, admin = (
        hook(lite_hooked, receiver.url, comment="mine"),
        lite_hooked.new_key("import", "read"),
        lite_hooked.new_key("admin"),
    )
    assert lite_hooked.get("/api/webhooks").text == f"{made.id} enabled {receiver.url}\n"
    assert (lite_hooked.get("/api/webhooks", stranger).text, lite_hooked.get("/api/webhooks", admin).text.count("\n")) == ("", 1)
    told = lite_hooked.get("/api/webhooks", headers=JSON).get_json()["webhooks"]
    assert told == [lite_hooked.get(f"/api/webhooks/{made.id}").get_json()] and told[0]["comment"] == "mine"
    assert made.secrets[0] not in json.dumps(told) and made.secrets[0] not in repr(made)
    assert lite_hooked.get(f"/api/webhooks/{made.id}", stranger).status_code == 404
    client, headers = lite_hooked.app.test_client(), {"Authorization": f"apikey {lite_hooked.key}"}
    imported(lite_hooked)
    assert client.delete(f"/api/webhooks/{made.id}", headers=headers).status_code == 204
    tell(lite_hooked)
    assert receiver.got == [] and lite_hooked.get(f"/api/webhooks/{made.id}").status_code == 404
    for _ in range(webhooks.MOST):
        hook(lite_hooked, receiver.url)
    assert lite_hooked.post("/api/webhooks", {"url": receiver.url}).status_code == 409


def test_deliveries_come_in_pages(lite_hooked: Web, receiver: Receiver) -> None:
    """A list of deliveries goes on where its page before ended."""
    made = hook(lite_hooked, receiver.url)
    batches = [imported(lite_hooked) for _ in range(3)]
    tell(lite_hooked)
    path = f"/api/webhooks/{made.id}/deliveries?limit=2"
    first = lite_hooked.get(path, headers=JSON).get_json()
    second = lite_hooked.get(f"{path}&cursor={first['next']}", headers=JSON).get_json()
    assert [one["batch"] for page in (first, second) for one in page["deliveries"]] == batches[::-1] and second["next"] is None
    assert lite_hooked.get(path).headers["Next-Cursor"] == str(first["next"])
    assert notices.counts(lite_hooked.catalog) == {(Kind.WEBHOOK, Progress.DELIVERED): 3}


# Where requests may go --------------------------------------------------------------------------------------------------
@pytest.mark.parametrize(
    "url",
    [
        "http://example.org/", "https://127.0.0.1/", "https://[::1]/", "https://0.0.0.0/", "https://10.1.2.3/", "https://172.16.0.1/",
        "https://192.168.1.1/", "https://169.254.169.254/latest/meta-data", "https://2130706433/", "https://0177.0.0.1/", "https://0x7f.1/",
        "https://127.1/", "https://[::ffff:127.0.0.1]/", "https://[64:ff9b::a00:1]/", "https://[2002:7f00:1::]/", "https://[fe80::1]/",
        "https://[fd00::1]/", "https://[ff02::1]/", "https://224.0.0.1/", "https://100.64.0.1/", "https://240.0.0.1/", "https://[::]/",
        "https://example.org:22/", "https://example.org:99999/", "https://user:secret@example.org/", "https:///path", "ftp://example.org/",
        "https://example.org/\r\nX-Injected: 1", "https://exämple.org/", "file:///etc/passwd", "https://[::127.0.0.1]/", "https://a#b",
    ],
)  # fmt: skip
def test_addresses_that_no_webhook_may_have(lite: Web, url: str) -> None:
    """What is not https, not public or not on an allowed port is refused, however the address is written (T83)."""
    reply = lite.post("/api/webhooks", {"url": url})
    assert reply.status_code == 400 and reply.text.splitlines()[1].startswith("url: "), reply.text


@pytest.mark.parametrize(
    "addresses", [["127.0.0.1"], ["93.184.215.14", "127.0.0.1"], ["::1"], ["::ffff:127.0.0.1"], ["169.254.169.254"], ["fe80::1%eth0"]]
)
def test_names_that_lead_inside_are_never_connected_to(lite: Web, monkeypatch: pytest.MonkeyPatch, addresses: list[str]) -> None:
    """A name whose addresses are not all public is not connected to, as metadata.google.internal or 127-0-0-1.sslip.io (T83)."""
    listening = Receiver()
    connected: list[object] = []
    monkeypatch.setattr(socket, "create_connection", lambda *to: connected.append(to))
    hook(lite, "https://metadata.google.internal/computeMetadata")
    lite.control()
    monkeypatch.setattr(socket, "getaddrinfo", lambda *_, **__: [(0, 0, 0, "", (address, listening.port)) for address in addresses])
    with pytest.raises(posting.NotAllowed, match="not public"):
        posting.post("https://metadata.google.internal/x", b"{}", {}, posting.Reach())
    listening.close()
    assert (connected, listening.connections) == ([], 0)


def test_a_name_that_changes_its_address_leads_where_it_was_checked(monkeypatch: pytest.MonkeyPatch) -> None:
    """A name is looked up once, and the connection goes to the address that was checked, not to what the name says afterwards (T83)."""
    checked, forbidden = Receiver(), Receiver("127.0.0.2")
    answers = iter(["127.0.0.1", "127.0.0.2", "127.0.0.2"])
    look_up = socket.getaddrinfo

    def rebinding(host: str, *rest: Any, **options: Any) -> Any:
        return look_up(next(answers) if host == "rebind.example.org" else host, *rest, **options)

    monkeypatch.setattr(socket, "getaddrinfo", rebinding)
    reach = posting.Reach(networks=[ip_network("127.0.0.1/32")])
    forbidden_url = f"http://rebind.example.org:{checked.port}/"
    assert posting.post(forbidden_url, b"{}", {}, reach).status == 204
    with pytest.raises(posting.NotAllowed):
        posting.post(forbidden_url, b"{}", {}, reach)
    checked.close()
    forbidden.close()
    assert (checked.connections, forbidden.connections, checked.got[0][0]["host"]) == (1, 0, f"rebind.example.org:{checked.port}")


def test_a_reply_that_never_ends_is_cut_off() -> None:
    """A receiver that sends a byte now and then is given up after the deadline for the whole."""
    slow = Receiver(drip_seconds=0.05)
    with pytest.raises(TimeoutError):
        posting.post(slow.url, b"{}", {}, posting.Reach(networks=[ip_network("127.0.0.1/32")]), deadline_seconds=0.5)
    slow.close()


def test_https_is_checked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A certificate that nobody vouches for, or of another name, is not spoken to, though an address is what is connected to (T83)."""
    certify("localhost", tmp_path / "key.pem", tmp_path / "certificate.pem")
    context = SSLContext(PROTOCOL_TLS_SERVER)
    context.load_cert_chain(tmp_path / "certificate.pem", tmp_path / "key.pem")
    secure = Receiver(tls=context)
    reach = posting.Reach(networks=[ip_network("127.0.0.1/32"), ip_network("::1/128")])
    url = f"https://localhost:{secure.port}/"
    try:
        with pytest.raises(OSError, match="certificate verify failed"):
            posting.post(url, b"{}", {}, reach)
        monkeypatch.setenv("SSL_CERT_FILE", str(tmp_path / "certificate.pem"))
        with pytest.raises(OSError, match="certificate verify failed"):
            posting.post(url.replace("localhost", "127.0.0.1"), b"{}", {}, reach)
        assert posting.post(url, b"{}", {}, reach).status == 204
    finally:
        secure.close()
    assert [body for _, body in secure.got] == [b"{}"]
