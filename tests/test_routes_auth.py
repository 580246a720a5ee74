"""Who may do what: keys in all their forms, permissions, and what belongs to others."""

from base64 import b64encode
from io import BytesIO

import pytest

from catalog import keys
from tests.web_parts import CONTROL, Web, lite, web

__all__ = ["lite", "web"]


def test_all_three_ways_to_send_a_key(web: Web) -> None:
    """The apikey scheme, Bearer, and Basic with any user, in any case, are one and the same."""
    basic = b64encode(f"anybody:{web.key}".encode()).decode()
    for sent in (f"apikey {web.key}", f"ApiKey {web.key}", f"Bearer {web.key}", f"Basic {basic}"):
        assert web.get("/api/batches", headers={"Authorization": sent}).status_code == 200


@pytest.mark.parametrize("sent", ["", "apikey", "apikey lad_x_y", "Bearer nonsense", "Basic !!!", "Digest x=y", "apikey lad_\u00e9_x"])
def test_a_bad_key_is_told_nothing(lite: Web, sent: str) -> None:
    """Whatever is wrong with a key, 401 says the same, and how keys are sent (T87)."""
    reply = lite.get("/api/batches", headers={"Authorization": sent})
    assert reply.status_code == 401
    assert reply.text == "A valid key is needed: Authorization: apikey KEY.\n"
    assert reply.headers["WWW-Authenticate"].startswith("apikey ")


def test_a_revoked_key_fails_at_once(web: Web) -> None:
    """A key that worked a moment ago does not once it is revoked (T87)."""
    assert web.get("/api/batches").status_code == 200
    keys.revoke(web.catalog, web.key.split("_")[1])
    assert web.get("/api/batches").status_code == 401


def test_a_key_in_the_query_is_refused(lite: Web) -> None:
    """A query string that holds a key is refused even where the header has one too (T87)."""
    for field in ("apikey", "creationPath"):  # the latter is a field that this route takes
        reply = lite.get(f"/api/batches?{field}={lite.key}", headers={"Accept": "application/json"})
        assert (reply.status_code, reply.get_json()["code"], lite.key in reply.text) == (400, "key_in_query", False)


def test_permissions_are_needed(lite: Web) -> None:
    """Each route asks for its permission; `admin` has them all (T87)."""
    reader, importer, admin = lite.new_key("read"), lite.new_key("import"), lite.new_key("admin")
    batch = lite.batch()
    assert lite.post("/api/batch", {"control": "airlines"}, key=reader).status_code == 403
    assert lite.post("/api/schedule", {"batch": batch}, key=reader).status_code == 403
    assert lite.post("/api/control", {"file": (BytesIO(CONTROL), "c")}, key=reader).status_code == 403
    assert lite.get(f"/api/batch/{batch}", key=importer).status_code == 403
    assert lite.get(f"/api/batch/{batch}", key=admin).status_code == 200


def test_a_body_is_not_read_before_the_key(lite: Web) -> None:
    """A caller without a key, or without the permission, is refused with not a byte of its body read."""

    class Untouched(BytesIO):
        def read(self, *_: object) -> bytes:
            raise AssertionError("the body was read")

        readinto = readline = read  # type: ignore[assignment]

    for key, status in (("lad_x_y", 401), (lite.new_key("read"), 403)):
        for path in ("/api/control", "/api/batch", "/api/schedule", "/api/file"):
            options = {"input_stream": Untouched(), "content_length": 100, "content_type": "application/x-www-form-urlencoded"}
            assert lite.post(path, key=key, **options).status_code == status


def test_what_is_another_keys_is_not_there(web: Web) -> None:
    """Every route answers 404 for another key's batch, as for one that never was; `read:all` sees it (T87)."""
    batch, other, auditor = web.ready(), web.new_key("import", "read"), web.new_key("read:all")
    for path in ("", "/results", "/errors"):
        mine, unknown = (web.get(f"/api/batch/{b}{path}", key=other) for b in (batch, "1"))
        assert mine.status_code == unknown.status_code == 404
        assert mine.text.replace(batch, "N") == unknown.text.replace("1", "N")
    assert web.post("/api/schedule", {"batch": batch}, key=other).status_code == 404
    assert web.post(f"/api/batch/{batch}/cancel", key=other).status_code == 404
    assert web.get("/api/batches", key=other).text == ""
    assert web.get(f"/api/batch/{batch}", key=auditor).status_code == 200
    assert web.get("/api/batches", key=auditor).text.startswith(batch)


def test_a_limited_key_knows_only_its_control_files(lite: Web) -> None:
    """A key that is limited to some named control files may use those, and upload none."""
    lite.control()
    other = lite.control(CONTROL.replace(b"name: airlines", b"name: others"))
    limited = lite.new_key("import", limits={"controls": ["others"]})
    assert lite.post("/api/batch", {"control": "airlines"}, key=limited).status_code == 404
    assert lite.post("/api/batch", {"control": other}, key=limited).status_code == 200
    assert lite.get("/api/control/airlines", key=limited).status_code == 404
    assert [line.split("\t")[0] for line in lite.get("/api/controls", key=limited).text.splitlines()] == ["others"]
    assert lite.post("/api/control", {"file": (BytesIO(CONTROL), "c")}, key=limited).status_code == 403


def test_many_failures_give_429_but_good_keys_go_on(lite: Web) -> None:
    """The fifty-first failure of an address within five minutes gives 429; a good key from there still works (T87)."""
    statuses = [lite.get("/api/batches", key="lad_no_no").status_code for _ in range(51)]
    assert statuses == [401] * 50 + [429]
    assert lite.get("/api/batches").status_code == 200
