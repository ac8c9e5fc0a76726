"""Somebody with a browser that has no script: cookies, forms, redirects."""

from __future__ import annotations

import html
import http.client
import re
import uuid
from collections.abc import Mapping
from urllib.parse import urlencode, urljoin, urlsplit

from tests.hub.server.conftest import Answer, Hub

PASSWORD = "three green kettles"


class Person:
    """Looks at pages of a hub and sends their forms."""

    def __init__(self, hub: Hub, address: str = "") -> None:
        self.hub, self.address = hub, address
        self.cookies: dict[str, str] = {}
        self.headers_sent: dict[str, str] = {}
        #: The raw ``Set-Cookie`` headers of the last answer.
        self.set_cookies: list[str] = []
        self.path = "/"

    def ask(
        self,
        method: str,
        path: str,
        body: bytes | None = None,
        headers: Mapping[str, str] | None = None,
    ) -> Answer:
        """Send one request, with the cookies, and keep those of the answer."""
        parts = urlsplit(self.hub.url)
        connection = http.client.HTTPConnection(parts.hostname or "", parts.port, timeout=60)
        sent = {"Accept": "text/html", "User-Agent": "Mozilla/5.0 (X11; Linux) Firefox/140"}
        sent |= self.headers_sent
        if self.address:
            sent["X-Forwarded-For"] = self.address
        if self.cookies:
            sent["Cookie"] = "; ".join(f"{name}={value}" for name, value in self.cookies.items())
        try:
            connection.request(method, path, body=body, headers={**sent, **(headers or {})})
            response = connection.getresponse()
            data = response.read()
        finally:
            connection.close()
        self.set_cookies = response.headers.get_all("set-cookie") or []
        for line in self.set_cookies:
            name, _, value = line.partition(";")[0].partition("=")
            self.cookies[name] = value.strip('"')
            if not self.cookies[name]:
                del self.cookies[name]
        found = {name.lower(): value for name, value in response.getheaders()}
        return Answer(response.status, found, data)

    def get(self, path: str) -> str:
        """Open a page, following redirects, and return its text; ``self.status`` is its status."""
        self.path = path
        for _ in range(5):
            answer = self.ask("GET", self.path)
            if answer.status not in (302, 303):
                break
            self.path = urljoin(self.path, answer.headers["location"])
        self.status, self.headers = answer.status, answer.headers
        return answer.body.decode()

    def send(self, path: str, page: str | None = None, **fields: str) -> str:
        """Send the form at *path* with the token of *page* (opened first if there is none)."""
        page = self.get(path) if page is None else page
        body = urlencode({"form_token": token_of(page), **fields}).encode()
        kind = {"Content-Type": "application/x-www-form-urlencoded"}
        answer = self.ask("POST", path, body, kind)
        self.status, self.headers, self.path = answer.status, answer.headers, path
        if answer.status == 303:
            return self.get(urljoin(path, answer.headers["location"]))
        return answer.body.decode()

    def upload(self, files: Mapping[str, bytes], **fields: str) -> Answer:
        """Send files with the form to publish, as a browser without script does."""
        values = {"form_token": token_of(self.get("/new/")), **fields}
        body, kind = multipart(list(values.items()), list(files.items()))
        return self.ask("POST", "/new/", body, {"Content-Type": kind})


def token_of(page: str) -> str:
    """Return the token in the forms of a page."""
    found = re.search(r'name="form_token" value="([0-9a-f]+)"', page)
    assert found, page[:3000]
    return found[1]


def text_of(page: str) -> str:
    """Return what a person reads on a page."""
    body = page.partition("<main")[2].partition("</main>")[0]
    return " ".join(html.unescape(re.sub(r"<[^>]+>", " ", body)).split())


def multipart(
    fields: list[tuple[str, str]], files: list[tuple[str, bytes]], name: str = "folder"
) -> tuple[bytes, str]:
    """Return the body and the content type of a form with files."""
    boundary = f"----{uuid.uuid4().hex}"
    parts = [
        f'--{boundary}\r\nContent-Disposition: form-data; name="{key}"\r\n\r\n{value}\r\n'.encode()
        for key, value in fields
    ]
    parts += [
        f'--{boundary}\r\nContent-Disposition: form-data; name="{name}"; filename="{path}"\r\n'
        "Content-Type: application/octet-stream\r\n\r\n".encode()
        + data
        + b"\r\n"
        for path, data in files
    ]
    body = b"".join([*parts, f"--{boundary}--\r\n".encode()])
    return body, f"multipart/form-data; boundary={boundary}"


def invited(hub: Hub, name: str, *, address: str = "", admin: bool = False) -> Person:
    """Make a user with a password, by an invitation of the administrator, and sign in."""
    boss = Person(hub)
    page = boss.get("/login/")
    boss.send("/login/", page, **{"with": "token", "token": hub.token})
    fields = {"name": name, "days": "1", **({"admin": "1"} if admin else {})}
    made = boss.send("/settings/hub/users/", boss.get("/settings/hub/users/"), **fields)
    code = re.search(r"/join/#([\w-]+)", made)
    assert code, text_of(made)
    person = Person(hub, address)
    page = person.send("/join/", person.get("/join/"), step="code", code=code[1])
    person.send("/join/", page, code=code[1], name=name, password=PASSWORD)
    assert person.status == 200, person.status
    return person
