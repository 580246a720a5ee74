"""Google's object store in the tests: fake-gcs-server, and before it a translation of what it does not speak.

The library that the spool uses speaks Google's XML interface. Of that fake-gcs-server knows how objects are read, listed and deleted, but
not how they are written, which it takes by the JSON interface; nor uploads in parts, of which the parts are kept here until all have come.
"""

from __future__ import annotations

import http.client
import json
import re
import secrets
import shutil
import subprocess
import threading
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import parse_qs, unquote, urlsplit

from dev.servers import answers, end_with_parent, free_port, stop, wait_until
from tests.object_store import ObjectStore

HOP_BY_HOP = {"connection", "transfer-encoding", "content-length", "host"}


class _Translation(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server_port: int
    uploads: dict[str, dict[int, bytes]]

    def do_GET(self) -> None:
        """Pass the request on."""
        self._pass_on()

    do_HEAD = do_DELETE = do_GET

    def do_PUT(self) -> None:
        """Take an object, or a part of one."""
        data, query = self._body(), parse_qs(urlsplit(self.path).query, keep_blank_values=True)
        if "uploadId" in query:
            self.uploads[query["uploadId"][0]][int(query["partNumber"][0])] = data
            self._reply(200, {"ETag": f'"{query["partNumber"][0]}"'})
        else:
            self._write(data)

    def do_POST(self) -> None:
        """Begin an upload in parts, or end it."""
        query = parse_qs(urlsplit(self.path).query, keep_blank_values=True)
        sent = self._body()
        if "uploads" in query:
            upload_id = secrets.token_hex(8)
            self.uploads[upload_id] = {}
            self._xml("InitiateMultipartUploadResult", f"<UploadId>{upload_id}</UploadId>")
            return
        parts = self.uploads.pop(query["uploadId"][0])
        numbers = list(map(int, re.findall(rb"<PartNumber>(\d+)<", sent)))
        assert numbers == sorted(parts), "the parts that were named are not those that came"
        self._write(b"".join(parts[number] for number in numbers), is_xml=True)

    def _write(self, data: bytes, is_xml: bool = False) -> None:
        bucket, _, key = unquote(urlsplit(self.path).path)[1:].partition("/")
        # As an upload with metadata: the one without ignores conditions.
        path, border = f"/upload/storage/v1/b/{bucket}/o?uploadType=multipart", secrets.token_hex(16)
        if (wanted := self.headers.get("x-goog-if-generation-match")) is not None:
            path += f"&ifGenerationMatch={wanted}"
        told = f"--{border}\r\nContent-Type: application/json\r\n\r\n{json.dumps({'name': key})}\r\n"
        body = f"{told}--{border}\r\nContent-Type: application/octet-stream\r\n\r\n".encode() + data + f"\r\n--{border}--\r\n".encode()
        status, _, said = self._ask("POST", path, {"Content-Type": f"multipart/related; boundary={border}"}, body)
        if status != 200:
            self._reply(status, {}, b"<Error><Code>NoSuchBucket</Code></Error>" if status == 404 else said)
        elif is_xml:
            self._xml("CompleteMultipartUploadResult", "<ETag>&quot;whole&quot;</ETag>")
        else:
            self._reply(200, {"ETag": '"written"'})

    def _pass_on(self) -> None:
        self._body()
        headers = {name: value for name, value in self.headers.items() if name.lower() not in HOP_BY_HOP}
        status, answered, data = self._ask(self.command, self.path, headers, None)
        kept = {name: value for name, value in answered if name.lower() not in HOP_BY_HOP}
        size = next((value for name, value in answered if name.lower() == "content-length"), None)
        if status >= 400 and self.command == "GET":
            bucket = unquote(urlsplit(self.path).path)[1:].partition("/")[0]
            is_there = self._ask("GET", f"/storage/v1/b/{bucket}", {}, None)[0] == 200
            status = 404 if not is_there else status
            data, size = f"<Error><Code>{'NoSuchKey' if is_there else 'NoSuchBucket'}</Code></Error>".encode(), None
        self._reply(status, kept, data, size if self.command == "HEAD" else None)

    def _ask(self, method: str, path: str, headers: dict[str, str], data: bytes | None) -> tuple[int, list[tuple[str, str]], bytes]:
        connection = http.client.HTTPConnection("127.0.0.1", self.server_port, timeout=30)
        connection.request(method, path, data, headers)
        reply = connection.getresponse()
        answered = reply.status, reply.getheaders(), reply.read()
        connection.close()
        return answered

    def _body(self) -> bytes:
        return self.rfile.read(int(self.headers.get("Content-Length", 0)))

    def _xml(self, name: str, inner: str) -> None:
        self._reply(200, {"Content-Type": "application/xml"}, f"<{name}>{inner}</{name}>".encode())

    def _reply(self, status: int, headers: dict[str, str], data: bytes = b"", size: str | None = None) -> None:
        self.send_response_only(status)
        for name, value in headers.items():
            self.send_header(name, value)
        if status not in (204, 304):
            self.send_header("Content-Length", size or str(len(data)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(data)


@contextmanager
def translated(port: int) -> Iterator[int]:
    """Give the port of a translation for the server on this one."""
    handler = type("Translation", (_Translation,), {"server_port": port, "uploads": {}})
    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        server.daemon_threads = True
        thread = threading.Thread(target=server.serve_forever, daemon=True)
        thread.start()
        yield int(server.server_address[1])
        server.shutdown()
        thread.join()


class Google(ObjectStore):
    """fake-gcs-server behind its translation."""

    scheme = "gs"

    def environment(self, port: int | None = None, address: str = "127.0.0.1", secret: str = "") -> dict[str, str]:
        """See ObjectStore. It looks at nobody's credentials."""
        told = {"gcs_base_url": f"http://{address}:{port or self.port}", "disable_oauth": True}
        return {"GOOGLE_SERVICE_ACCOUNT_KEY": json.dumps(told | dict.fromkeys(("client_email", "private_key", "private_key_id"), ""))}


@contextmanager
def google() -> Iterator[Google]:
    """Start fake-gcs-server, which must be on PATH, with a bucket `lading`."""
    program = shutil.which("fake-gcs-server")
    if program is None:
        raise RuntimeError("OBJECT_STORE=google needs fake-gcs-server on PATH")
    port = free_port()
    command = [program, "-scheme=http", "-backend=memory", "-host=127.0.0.1", f"-port={port}", f"-public-host=127.0.0.1:{port}"]
    process = subprocess.Popen(
        command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, start_new_session=True, preexec_fn=end_with_parent
    )
    try:
        wait_until(lambda: answers(port), process, "fake-gcs-server")
        made = json.dumps({"name": "lading"}).encode()
        url = f"http://127.0.0.1:{port}/storage/v1/b?project=tests"
        with urllib.request.urlopen(urllib.request.Request(url, made, {"Content-Type": "application/json"}), timeout=10):
            pass
        with translated(port) as translation:
            yield Google(translation)
    finally:
        stop(process)
