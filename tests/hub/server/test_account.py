"""Signing in, and what people look after in the browser, without any script."""

from __future__ import annotations

import re
import sqlite3
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.hub.server.conftest import Hub, adapter_files
from tests.hub.server.person import PASSWORD, Person, invited, text_of, token_of

AUDIT = "/api/hub/v1/audit?limit=1000"


def _actions(hub: Hub, actor: str) -> list[str]:
    return [row["action"] for row in hub.ask("GET", AUDIT).json if row["actor"] == actor]


def _sign_in(person: Person, name: str, password: str, **more: str) -> str:
    return person.send("/login/", person.get("/login/"), name=name, password=password, **more)


def test_the_first_administrator_signs_in_with_the_token_and_sets_a_password(
    new_hub: Callable[..., Hub],
) -> None:
    hub = new_hub()
    boss = Person(hub)
    page = boss.get("/settings/tokens/")
    assert boss.path == "/login/?next=%2Fsettings%2Ftokens%2F"
    fields = {"with": "token", "token": hub.token, "next": "/settings/tokens/"}
    page = boss.send("/login/", page, **fields)
    assert boss.path == "/settings/tokens/"
    assert "first run" in page
    assert hub.token not in page
    page = boss.send("/settings/password/", page, password=PASSWORD, again=PASSWORD)
    assert "password is set" in text_of(page)
    other = Person(hub)
    assert "My adapters" in text_of(_sign_in(other, "Admin", PASSWORD))
    # Whoever has a password must know it to change it.
    assert "Current password" in text_of(other.get("/settings/"))
    page = other.send(
        "/settings/password/", other.get("/settings/"), password="x" * 6 + "yzabcdefg", again="x"
    )
    assert other.status == 400
    new = "five blue teapots"
    for current, status in (("wrong wrong wrong", 403), (PASSWORD, 200)):
        page = other.send(
            "/settings/password/",
            other.get("/settings/"),
            current=current,
            password=new,
            again=new,
        )
        assert other.status == status, text_of(page)
    assert boss.get("/settings/").count("Sign in") > 0  # signed out everywhere else
    assert boss.path.startswith("/login/")
    assert other.get("/settings/").count("Your profile") > 0
    assert _sign_in(Person(hub), "admin", PASSWORD).count("do not belong together") == 1
    secrets = hub.log.read_text() + str(hub.ask("GET", AUDIT).json)
    for secret in (PASSWORD, new, hub.token, *boss.cookies.values(), *other.cookies.values()):
        assert secret not in secrets


def test_invitations_work_once_and_end(server: Hub) -> None:
    guest = invited(server, "guest-one")
    assert "user.join" in _actions(server, "guest-one")
    boss = Person(server)
    boss.send("/login/", boss.get("/login/"), **{"with": "token", "token": server.token})
    page = boss.send(
        "/settings/hub/users/", boss.get("/settings/hub/users/"), name="guest-one", days="1"
    )
    code = re.search(r"/join/#([\w-]+)", page)[1]  # type: ignore[index]
    assert code not in boss.get("/settings/hub/users/")
    anybody = Person(server)
    form = _with_code(anybody, code)
    # In an address it counts for nothing: there it would be in logs, histories and referrers.
    assert "For the account" not in text_of(anybody.get(f"/join/?code={code}"))
    assert "For the account guest-one" in text_of(form)
    weak = anybody.send("/join/", form, code=code, password="password123")
    assert anybody.status == 400
    assert "first that anybody would guess" in text_of(weak)
    anybody.get("/settings/")
    assert anybody.path.startswith("/login/")  # a refusal signs nobody in
    anybody.send("/join/", form, code=code, password="six brown buckets")
    assert anybody.status == 200
    guest.get("/settings/")
    assert guest.path.startswith("/login/")  # was signed out
    again = Person(server)
    _with_code(again, code)
    assert again.status == 404
    for wrong in ("x", "", "%00", code[:-1], code * 20):
        page = _with_code(again, wrong)
        assert again.status == (404 if wrong else 200)
        assert "Code of your invitation" in page
    assert code not in server.log.read_text()
    # Withdrawn ones are worth nothing, and only administrators make them.
    page = boss.send("/settings/hub/users/", boss.get("/settings/hub/users/"), name="", days="7")
    code = re.search(r"/join/#([\w-]+)", page)[1]  # type: ignore[index]
    number = re.search(r'name="invitation" value="(\d+)"', page)[1]  # type: ignore[index]
    anybody.send("/settings/hub/invitations/", anybody.get("/settings/"), invitation=number)
    assert anybody.status == 403
    boss.send("/settings/hub/invitations/", page, invitation=number)
    _with_code(again, code)
    assert again.status == 404


def _with_code(person: Person, code: str) -> str:
    """Open the page of an invitation and type its code, as without scripts."""
    return person.send("/join/", person.get("/join/"), step="code", code=code)


@pytest.mark.slow
def test_signing_up_is_off_unless_switched_on(server: Hub, new_hub: Callable[..., Hub]) -> None:
    closed = Person(server)
    page = closed.get("/login/")
    assert "/join/" not in page
    closed.send("/join/", page, name="uninvited", password=PASSWORD)
    assert closed.status == 404
    assert server.ask("GET", "/api/users/uninvited/overview").status == 404
    hub = new_hub(ADAPTERHUB_SIGN_UP="1")
    new = Person(hub)
    assert "Make an account" in text_of(new.get("/login/"))
    for name, status in (("admin", 409), ("a b", 400), ("settings", 400), ("newbie", 200)):
        new.send("/join/", new.get("/join/"), name=name, password=PASSWORD)
        assert new.status == status
    assert "newbie" in new.get("/")
    for number in range(6):
        crowd = Person(hub)
        fields = {"name": f"crowd-{number}", "password": PASSWORD}
        crowd.send("/join/", crowd.get("/join/"), **fields)
    assert crowd.status == 429


def test_cookies_are_for_pages_only(server: Hub) -> None:
    person = invited(server, "cookie-one")
    assert server.ask("GET", "/api/whoami-v2", token=None, headers={"Cookie": "x"}).status == 401
    answer = person.ask("GET", "/api/whoami-v2")
    assert answer.status == 401
    made = person.ask(
        "POST", "/api/repos/create", b'{"name": "x"}', {"Content-Type": "application/json"}
    )
    assert made.status == 401
    assert person.ask("GET", "/api/hub/v1/tokens").status == 401
    login = next(line for line in _login_cookies(person, server) if "ahub_login" in line)
    for word in ("HttpOnly", "SameSite=lax", "Path=/", "Max-Age=2592000"):
        assert word in login
    assert "Secure" not in login
    assert "Domain" not in login


def _login_cookies(person: Person, hub: Hub, **headers: str) -> list[str]:
    page = person.get("/settings/sessions/")
    person.send("/logout/", page)
    form = person.get("/login/")
    body = f"form_token={token_of(form)}&name=cookie-one&password={PASSWORD.replace(' ', '+')}"
    kind = {"Content-Type": "application/x-www-form-urlencoded"}
    assert person.ask("POST", "/login/", body.encode(), kind).status == 303
    return person.set_cookies


def test_by_https_cookies_are_bound_to_this_host(new_hub: Callable[..., Hub]) -> None:
    hub = new_hub()
    boss = Person(hub)
    boss.headers_sent["X-Forwarded-Proto"] = "https"  # as a proxy on this machine says it
    form = boss.get("/login/")
    assert list(boss.cookies) == ["__Host-ahub_form"]
    assert "Secure" in boss.set_cookies[0]
    boss.send("/login/", form, **{"with": "token", "token": hub.token})
    assert list(boss.cookies) == ["__Host-ahub_login"]
    # One that another host of the domain could have set does not count.
    other = Person(hub)
    other.headers_sent["X-Forwarded-Proto"] = "https"
    other.cookies = {"ahub_login": boss.cookies["__Host-ahub_login"]}
    other.get("/settings/")
    assert other.path.startswith("/login/")


def test_a_planted_login_is_never_taken_up(server: Hub) -> None:
    invited(server, "fixed-one")
    person = Person(server)
    planted = "A" * 43
    person.cookies = {"ahub_login": planted}
    form = person.get("/login/")
    person.send("/login/", form, name="fixed-one", password=PASSWORD)
    assert person.status == 200
    first = person.cookies["ahub_login"]
    assert first != planted
    thief = Person(server)
    thief.cookies = {"ahub_login": planted}
    thief.get("/settings/")
    assert thief.path.startswith("/login/")
    # Signing in again gives another value, and the one before is worth nothing.
    person.cookies = {"ahub_login": first}
    page = person.get("/settings/")
    person.send("/login/", page, name="fixed-one", password=PASSWORD)
    assert person.cookies["ahub_login"] != first
    thief.cookies = {"ahub_login": first}
    thief.get("/settings/")
    assert thief.path.startswith("/login/")


FORMS = (
    *("/login/", "/logout/", "/join/", "/settings/profile/", "/settings/password/"),
    *("/settings/sessions/", "/settings/tokens/", "/settings/tokens/revoke/"),
    *("/settings/organizations/", "/settings/organizations/x/", "/settings/adapters/a/b/"),
    *("/settings/adapters/a/b/rename/", "/settings/adapters/a/b/delete/"),
    *("/settings/adapters/a/b/access/", "/settings/access/a/b/", "/settings/hub/users/"),
    *("/settings/hub/invitations/", "/settings/hub/users/x/", "/settings/hub/users/x/quota/"),
    "/new/a/b/0123456/",
)


def test_this_list_of_forms_is_whole() -> None:
    from adapterhub.hub.server import account

    routes = [route for route in account.ROUTES if "POST" in route.methods]
    reached = {next(r.pattern for r in routes if r.regex.fullmatch(path)) for path in FORMS}
    # The form with files is read as a stream; it has a test of its own.
    assert {route.pattern for route in routes} - reached == {"/new/"}


@pytest.fixture(scope="module")
def signed_in(shared_hub: Hub) -> Person:
    """Somebody who is signed in, and whose forms other sites would like to send."""
    return invited(shared_hub, "form-one")


@pytest.mark.parametrize("path", FORMS)
def test_forms_are_taken_from_our_pages_only(server: Hub, signed_in: Person, path: str) -> None:
    person = signed_in
    other = Person(server)
    stolen = token_of(other.get("/login/"))  # a token of somebody else's page
    right = token_of(person.get("/settings/"))
    kind = {"Content-Type": "application/x-www-form-urlencoded"}
    before = len(server.ask("GET", AUDIT).json)
    for body in (b"", b"form_token=", f"form_token={stolen}".encode(), b"form_token=%00%FF"):
        assert person.ask("POST", path, body, kind).status in (400, 403)
    foreign = {**kind, "Sec-Fetch-Site": "cross-site"}
    assert person.ask("POST", path, f"form_token={right}".encode(), foreign).status == 403
    plain = {"Content-Type": "text/plain"}
    assert person.ask("POST", path, f"form_token={right}".encode(), plain).status == 400
    assert len(server.ask("GET", AUDIT).json) == before


def test_nobody_is_signed_in_from_another_site(server: Hub) -> None:
    invited(server, "lure-one")
    attacker, victim = Person(server), Person(server)
    token = token_of(attacker.get("/login/"))
    victim.get("/login/")
    body = f"form_token={token}&name=lure-one&password={PASSWORD.replace(' ', '+')}".encode()
    kind = {"Content-Type": "application/x-www-form-urlencoded"}
    assert victim.ask("POST", "/login/", body, kind).status == 403
    assert "ahub_login" not in victim.cookies


ELSEWHERE = (
    *("https://evil.example/", "//evil.example/", "/\\evil.example/", "\\\\evil.example"),
    *("/%0d%0aLocation:https://evil.example", "javascript:alert(1)", "evil.example", "/\tx//evil"),
    *("///evil.example", "https:evil.example", "/.//evil.example", "@evil.example", "/ \\evil"),
)


@pytest.mark.parametrize("target", ELSEWHERE)
def test_after_signing_in_nobody_is_led_elsewhere(server: Hub, target: str) -> None:
    from urllib.parse import urlencode, urljoin, urlsplit

    person = Person(server)
    form = person.get("/login/?" + urlencode({"next": target}))
    body = {"form_token": token_of(form), "with": "token", "token": server.token, "next": target}
    kind = {"Content-Type": "application/x-www-form-urlencoded"}
    answer = person.ask("POST", "/login/", urlencode(body).encode(), kind)
    assert answer.status == 303
    led = urlsplit(urljoin(server.url + "/login/", answer.headers["location"]))
    assert f"{led.scheme}://{led.netloc}" == server.url
    assert "\r" not in answer.headers["location"]


@pytest.mark.parametrize("target", ELSEWHERE)
def test_an_address_elsewhere_is_no_path_of_this_hub(target: str) -> None:
    from urllib.parse import urljoin, urlsplit

    from adapterhub.hub.server.visitor import own_path

    kept = own_path(target).replace("\\", "/")  # as browsers read it
    assert urlsplit(urljoin("http://hub.example/x/", kept)).netloc == "hub.example"
    assert own_path("/settings/?a=b") == "/settings/?a=b"


@pytest.mark.slow
def test_guessing_is_slowed_down_and_holds_after_a_restart(new_hub: Callable[..., Hub]) -> None:
    hub = new_hub()
    invited(hub, "ada")
    thief = Person(hub, "203.0.113.5")
    statuses = []
    for number in range(7):
        _sign_in(thief, "ada", f"guess number {number}")
        statuses.append(thief.status)
    assert statuses == [401] * 5 + [429] * 2
    assert 0 < int(thief.headers["retry-after"]) <= 900
    # The right password does not help any more from there, but does from where its owner is.
    _sign_in(thief, "ada", PASSWORD)
    assert thief.status == 429
    owner = Person(hub, "198.51.100.7")
    assert "My adapters" in text_of(_sign_in(owner, "ada", PASSWORD))
    hub.stop()
    hub.start()
    _sign_in(thief, "ADA", PASSWORD)
    assert thief.status == 429


@pytest.mark.slow
def test_names_cannot_be_told_from_the_answers(new_hub: Callable[..., Hub]) -> None:
    hub = new_hub()
    invited(hub, "ada")
    hub.user("tokenonly")
    texts, times = {}, {}
    for name in ("ada", "tokenonly", "nobody-here"):
        person = Person(hub, f"203.0.113.{len(texts) + 1}")
        taken = []
        for _ in range(3):
            form = person.get("/login/")
            began = time.perf_counter()
            page = person.send("/login/", form, name=name, password="a wrong password")
            taken.append(time.perf_counter() - began)
        texts[name] = (person.status, text_of(page))
        assert f'value="{name}"' in page
        times[name] = min(taken)
    assert len(set(texts.values())) == 1
    # An answer without the work of argon2 would take a tenth of the time.
    assert max(times.values()) < 2.5 * min(times.values()), times


@pytest.mark.slow
def test_logins_end(new_hub: Callable[..., Hub], tmp_path: Path) -> None:
    hub = new_hub()
    first = invited(hub, "ada")
    second, third = Person(hub), Person(hub)
    for person in (second, third):
        _sign_in(person, "ada", PASSWORD)
    page = first.get("/settings/sessions/")
    assert page.count("Firefox on Linux") >= 3
    one = re.findall(r'name="which" value="(\d+)"', page)
    assert len(one) == 2
    first.send("/settings/sessions/", page, which=one[-1])
    signed = [
        p.get("/settings/") and not p.path.startswith("/login/") for p in (first, second, third)
    ]
    assert sorted(signed) == [False, True, True]
    assert signed[0]
    other = invited(hub, "bob")
    other.send("/settings/sessions/", other.get("/settings/sessions/"), which=one[0])
    assert other.status == 404  # somebody else's
    first.send("/settings/sessions/", first.get("/settings/sessions/"), which="others")
    assert [bool(p.get("/settings/")) and p.path for p in (second, third)] == [
        "/login/?next=%2Fsettings%2F"
    ] * 2
    # A stolen cookie is worth nothing after signing out.
    kept = dict(first.cookies)
    first.send("/logout/", first.get("/settings/"))
    assert "ahub_login" not in first.cookies
    first.cookies = kept
    first.get("/settings/")
    assert first.path.startswith("/login/")
    # Unused for a week, or a month old.
    database = sqlite3.connect(tmp_path / "data" / "hub.db")
    for column, text in (("used", "2020-01-01 00:00:00"), ("expires", "2020-01-01 00:00:00")):
        _sign_in(second, "ada", PASSWORD)
        second.get("/settings/")
        assert second.path == "/settings/"
        with database:
            database.execute(f"UPDATE logins SET {column} = ?", (text,))
        second.get("/settings/")
        assert second.path.startswith("/login/")
    database.close()


def test_whoever_signs_in_with_a_token_may_do_what_it_allows(server: Hub) -> None:
    server.user("scoped-one")
    tokens = {}
    for scope in ("read", "write", "admin"):
        body = {"user": "scoped-one", "scope": scope, "name": scope}
        made = server.ask("POST", "/api/hub/v1/tokens", body).json
        tokens[scope] = (made["id"], made["token"])
    pages = ("/settings/adapters/", "/new/", "/settings/tokens/", "/settings/hub/users/")
    seen = {}
    for scope, (_, secret) in tokens.items():
        person = Person(server)
        person.send("/login/", person.get("/login/"), **{"with": "token", "token": secret})
        seen[scope] = [bool(person.get(path)) and person.status for path in pages]
    assert seen == {
        "read": [200, 403, 403, 403],
        "write": [200, 200, 403, 403],
        "admin": [200, 200, 200, 403],
    }
    assert server.ask("DELETE", f"/api/hub/v1/tokens/{tokens['admin'][0]}").status == 200
    person.get("/settings/")
    assert person.path.startswith("/login/")  # it ended with its token


def test_tokens_are_shown_once(server: Hub) -> None:
    person = invited(server, "token-one")
    page = person.get("/settings/tokens/")
    made = person.send("/settings/tokens/", page, name="laptop", scope="write", days="30")
    secret = re.search(r"<code>(ahub_[\w-]+)</code>", made)[1]  # type: ignore[index]
    assert server.ask("GET", "/api/whoami-v2", token=secret).json["name"] == "token-one"
    page = person.get("/settings/tokens/")
    assert secret not in page
    assert "laptop" in page
    assert "just now" in text_of(page)
    number = re.search(r'name="token" value="(\d+)"', page)[1]  # type: ignore[index]
    other = invited(server, "token-two")
    other.send("/settings/tokens/revoke/", other.get("/settings/tokens/"), token=number)
    assert other.status == 404
    person.send("/settings/tokens/revoke/", page, token=number)
    assert server.ask("GET", "/api/whoami-v2", token=secret).status == 401
    for bad in ({"scope": "root", "days": "30"}, {"scope": "read", "days": "9999"}):
        person.send("/settings/tokens/", page, name="x", **bad)
        assert person.status == 400
    assert _actions(server, "token-one")[:2] == ["token.revoke", "token.create"]


def test_organisations(server: Hub) -> None:
    ada, wim = invited(server, "org-ada"), invited(server, "org-wim")
    menu = "/settings/organizations/"
    page = ada.send(menu, ada.get(menu), name="org-lab", fullname="The lab")
    assert ada.path.startswith(f"{menu}org-lab/")
    place = f"{menu}org-lab/"
    wim.get(place)
    assert wim.status == 404  # it does not exist for him
    ada.send(place, page, user="org-wim", role="read")
    assert "org-wim" in text_of(wim.get(place))
    wim.send(place, wim.get(place), user="org-wim", role="admin")
    assert wim.status == 403
    ada.send(place, ada.get(place), user="org-ada", role="read")
    assert ada.status == 409  # nobody would be left
    ada.send(place, ada.get(place), user="nobody-at-all", role="read")
    assert ada.status == 404
    ada.send(menu, ada.get(menu), name="org-ada")
    assert ada.status == 409
    wim.send(place, wim.get(place), user="org-wim", role="")
    assert wim.path.startswith(f"{menu}?done=left")
    wim.get(place)
    assert wim.status == 404


def test_repositories_of_mine(server: Hub) -> None:
    person, stranger = invited(server, "repo-one"), invited(server, "repo-two")
    token = _token(person)
    server.published("repo-one/first", token=token)
    server.create("repo-one/second", token=token)
    page = person.get("/settings/adapters/")
    assert "repo-one/first" in page
    assert "Format verified" in page
    assert "empty" in text_of(page)
    place = "/settings/adapters/repo-one/first/"
    stranger.get(place)
    assert stranger.status == 403  # it is public, but not his
    person.send(place, person.get(place), visibility="private", gated="")
    assert server.ask("GET", "/api/models/repo-one/first", token=None).status == 404
    stranger.get(place)
    assert stranger.status == 404
    person.send(f"{place}rename/", person.get(place), owner="repo-one", name="second")
    assert person.status == 409
    person.send(f"{place}rename/", person.get(place), owner="admin", name="mine")
    assert person.status == 403
    page = person.send(f"{place}rename/", person.get(place), owner="repo-one", name="new-name")
    assert person.path.startswith("/settings/adapters/repo-one/new-name/")
    place = "/settings/adapters/repo-one/new-name/"
    person.send(f"{place}delete/", page, confirm="repo-one/first")
    assert person.status == 400
    assert person.send(f"{place}delete/", page, confirm="repo-one/new-name")
    assert person.path.startswith("/settings/adapters/?done=deleted")
    assert server.ask("GET", "/api/models/repo-one/new-name", token=token).status == 404
    done = [a for a in _actions(server, "repo-one") if a.startswith("repo.")]
    assert done == ["repo.delete", "repo.move", "repo.settings", "repo.create", "repo.create"]


def _token(person: Person, scope: str = "write") -> str:
    page = person.get("/settings/tokens/")
    made = person.send("/settings/tokens/", page, name="test", scope=scope, days="30")
    return re.search(r"<code>(ahub_[\w-]+)</code>", made)[1]  # type: ignore[index]


def test_gated_access_is_asked_for_and_granted(server: Hub) -> None:
    owner, asker = invited(server, "gate-owner"), invited(server, "gate-asker")
    server.published("gate-owner/closed", token=_token(owner))
    place, ask = "/settings/adapters/gate-owner/closed/", "/settings/access/gate-owner/closed/"
    owner.send(place, owner.get(place), visibility="public", gated="manual")
    token = _token(asker, "read")
    file = "/gate-owner/closed/resolve/main/adapter_config.json"
    assert server.ask("GET", file, token=token).headers["x-error-code"] == "GatedRepo"
    asker.send(ask, asker.get(ask))
    assert "has not answered yet" in text_of(asker.get(ask))
    assert "1 asks for access" in text_of(owner.get("/settings/adapters/"))
    asker.send(f"{place}access/", asker.get("/settings/"), user="gate-asker", state="granted")
    assert asker.status == 403
    owner.send(f"{place}access/", owner.get(place), user="gate-asker", state="granted")
    assert server.ask("GET", file, token=token).status == 200
    assert "you are let in" in text_of(asker.get("/settings/access/"))
    owner.send(f"{place}access/", owner.get(place), user="gate-asker", state="rejected")
    assert server.ask("GET", file, token=token).status == 403
    owner.send(place, owner.get(place), visibility="private", gated="manual")
    assert "gate-owner" not in text_of(asker.get("/settings/access/"))
    asker.get(ask)
    assert asker.status == 404


def test_administrators(server: Hub) -> None:
    boss, user = invited(server, "boss-one", admin=True), invited(server, "plain-one")
    token = _token(user)
    for path in ("/settings/hub/users/", "/settings/hub/users/admin/", "/settings/hub/audit/"):
        user.get(path)
        assert user.status == 403
    page = boss.get("/settings/hub/users/?q=plain-")
    assert "plain-one" in text_of(page)
    assert "token-owner" not in text_of(page)
    place = "/settings/hub/users/plain-one/"
    boss.send(place, boss.get(place), what="disable")
    user.get("/settings/")
    assert user.path.startswith("/login/")
    assert server.ask("GET", "/api/whoami-v2", token=token).status == 401
    refused = Person(server, "203.0.113.77")
    assert "do not belong together" in text_of(_sign_in(refused, "plain-one", PASSWORD))
    boss.send(place, boss.get(place), what="enable")
    assert "My adapters" in text_of(_sign_in(user, "plain-one", PASSWORD))
    boss.send("/settings/hub/users/boss-one/", boss.get(place), what="disable")
    assert boss.status == 400  # not oneself
    log = text_of(boss.get("/settings/hub/audit/?target=plain-one"))
    for word in ("user.disable", "user.enable", "login", "token.create", "user.join"):
        assert word in log
    assert "org-lab" not in log


XSS = '"><img src=x onerror=alert(1)><script>alert(1)</script>'


def test_names_of_strangers_are_text(server: Hub) -> None:
    person, boss = invited(server, "xss-one"), invited(server, "xss-boss", admin=True)
    page = person.get("/settings/")
    person.send("/settings/profile/", page, fullname=XSS, email="a@b")
    person.send("/settings/tokens/", person.get("/settings/"), name=XSS, scope="read", days="30")
    menu = "/settings/organizations/"
    person.send(menu, person.get(menu), name="xss-org", fullname=XSS)
    boss.send("/settings/hub/users/", boss.get("/settings/hub/users/"), name=XSS, days="1")
    _sign_in(Person(server, "203.0.113.99"), XSS, "some wrong password")
    odd = Person(server)
    kind = {"User-Agent": XSS, "Content-Type": "application/x-www-form-urlencoded"}
    form = token_of(odd.get("/login/"))
    body = f"form_token={form}&name=xss-one&password={PASSWORD.replace(' ', '+')}".encode()
    odd.ask("POST", "/login/", body, kind)
    server.published("xss-one/x", token=_token(person))
    place = "/settings/adapters/xss-one/x/"
    person.send(place, person.get(place), visibility="public", gated="manual")
    boss.send("/settings/access/xss-one/x/", boss.get("/settings/access/xss-one/x/"))
    looks = [
        (person, path)
        for path in ("/settings/", "/settings/tokens/", menu, f"{menu}xss-org/", place)
    ]
    looks += [(person, "/settings/sessions/"), (person, f"/login/?next={XSS}"), (person, "/")]
    looks += [(boss, "/settings/hub/users/?q=%22%3E%3Cscript%3Ealert(1)%3C/script%3E")]
    looks += [(boss, "/settings/hub/users/xss-one/"), (boss, "/settings/hub/users/xss-org/")]
    looks += [(boss, "/settings/hub/audit/?actor=%22%3E%3Cscript%3Ealert(1)%3C/script%3E")]
    looks += [(boss, "/settings/hub/audit/"), (person, "/new/?owner=%22%3E%3Cimg+src=x&name=%3Ci")]
    for who, path in looks:
        page = who.get(path.replace(XSS, "%22%3E%3Cimg%20src=x%3E"))
        assert "<script>alert" not in page, path
        assert "<img" not in page, path
        assert "script-src 'self'" in who.headers["content-security-policy"]
        assert who.headers["cache-control"] == "no-store", path


def test_publishing_without_a_script(server: Hub) -> None:
    person = invited(server, "pub-one")
    files = {f"my folder/{name}": data for name, data in adapter_files().items()}
    litter = {"my folder/.DS_Store": b"x", "my folder/.git/config": b"x"}
    litter |= {"my folder/training_args.bin": b"\x80\x04"}
    fields = {"owner": "pub-one", "name": "poems", "task": "mood/diary", "license": "mit"}
    fields |= {"language": "German", "description": "Writes *poems*."}
    answer = person.upload({**files, **litter}, **fields)
    assert answer.status == 303, answer.body.decode()[-3000:]
    page = person.get(answer.headers["location"].replace("../", "/"))
    assert "Published." in text_of(page)
    assert "3 files were left out" in text_of(page)
    info = server.ask("GET", "/api/models/pub-one/poems", token=None).json
    names = sorted(item["rfilename"] for item in info["siblings"])
    assert names == sorted(["README.md", *adapter_files()])
    assert {"adapterhub:mood/diary", "license:mit", "de"} <= set(info["tags"])
    card = server.ask("GET", "/pub-one/poems/raw/main/README.md", token=None).body.decode()
    assert "Writes *poems*." in card
    # A second time it is a change, and the card that is there is completed, not replaced.
    answer = person.upload({"my folder/notes.txt": b"hello"}, owner="pub-one", name="poems")
    assert answer.status == 303
    again = server.ask("GET", "/pub-one/poems/raw/main/README.md", token=None).body.decode()
    assert again == card
    # The page of the result is for those who may write there.
    other = invited(server, "pub-two")
    other.get(f"/new/pub-one/poems/{info['sha']}/")
    assert other.status == 403
    page = person.get(f"/new/pub-one/poems/{info['sha']}/")
    person.send(f"/new/pub-one/poems/{info['sha']}/", page)
    assert "run again" in person.get(person.path)


def test_all_that_is_wrong_stands_beside_its_file(server: Hub) -> None:
    person = invited(server, "bad-one")
    files = {f"x/{name}": data for name, data in adapter_files().items()}
    files |= {"x/run.sh": b"#!/bin/sh\nrm -rf /", "x/nan.safetensors": b"garbage" * 9}
    files |= {"x/pytorch_model_head.bin": b"\x80\x04not a pickle of tensors."}
    answer = person.upload(files, owner="bad-one", name="broken")
    assert answer.status == 422
    text = text_of(answer.body.decode())
    for name in ("run.sh", "nan.safetensors", "pytorch_model_head.bin"):
        assert name in text
    assert answer.body.decode().count('class="wrong"') == 3
    assert server.ask("GET", "/api/models/bad-one/broken").status == 404  # nothing is left behind
    assert "nothing yet" in text_of(person.get("/settings/adapters/")).lower()
    for fields, word in (
        ({"name": "../up"}, "not usable"),
        ({"name": "x", "task": "only-one-part"}, "task/subtask"),
        ({"name": "x", "license": "Apache 2"}, "SPDX"),
        ({"name": "x", "owner": "admin"}, "rights"),
        ({"name": "x" * 300}, "The name has 300 characters"),
    ):
        answer = person.upload({"x/adapter_config.json": b"{}"}, **{"owner": "bad-one", **fields})
        assert answer.status in (400, 403, 422), fields
        assert word in text_of(answer.body.decode()), fields
    answer = person.upload({}, owner="bad-one", name="x")
    assert "Choose the files" in text_of(answer.body.decode())


def test_hostile_names_of_files(server: Hub) -> None:
    person = invited(server, "path-one")
    good = adapter_files()
    for name in (
        "../../evil.json",
        "/etc/passwd",
        "a/../../b.json",
        "C:\\x\\y.json",
        "\u202egnp.json",
    ):
        answer = person.upload({name: b"{}", "README.md": b"# x\n"}, owner="path-one", name="x")
        assert answer.status in (303, 422), name
        if answer.status == 303:  # what a browser of old sends: only the last part counts
            tree = server.ask("GET", "/api/models/path-one/x/tree/main").json
            assert all("/" not in item["path"] and ".." not in item["path"] for item in tree)
    twice = {"a/adapter_config.json": good["adapter_config.json"]}
    answer = person.upload({**twice, "adapter_config.json": b"{}"}, owner="path-one", name="y")
    assert answer.status in (303, 422)


def test_files_are_not_taken_before_the_form_is_checked(server: Hub) -> None:
    from tests.hub.server.person import multipart

    person = invited(server, "order-one")
    token = token_of(person.get("/new/"))
    body, kind = multipart([("owner", "order-one")], [("a.json", b"{}")])
    tail, _ = multipart([("form_token", token)], [])
    assert person.ask("POST", "/new/", body, {"Content-Type": kind}).status == 403
    assert tail
    assert person.ask("POST", "/new/", b"x", {"Content-Type": "text/plain"}).status == 400
    cut, kind = multipart([("form_token", token)], [("a.json", b"{}")])
    assert person.ask("POST", "/new/", cut[:-10], {"Content-Type": kind}).status == 400
    huge, kind = multipart([("form_token", token), ("x", "y" * 300_000)], [])
    assert person.ask("POST", "/new/", huge, {"Content-Type": kind}).status == 413
    many, kind = multipart(
        [("form_token", token)], [(f"{n}.txt", b"x") for n in range(250)], "files"
    )
    assert person.ask("POST", "/new/", many, {"Content-Type": kind}).status == 413
    nobody = Person(server)
    assert nobody.ask("POST", "/new/", cut, {"Content-Type": kind}).status == 401
    staging = list((server.data / "staging").iterdir())
    assert staging == []
