"""Signing in, tokens, publishing and gated access in a real browser.

``ADAPTERHUB_SCREENSHOTS=docs/img`` writes the pictures of the documentation.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.hub.browser import Browser
from tests.hub.server.conftest import Hub
from tests.hub.server.person import PASSWORD, invited

pytestmark = pytest.mark.slow

_SAVE_OR_LOAD = """
import sys, torch
from transformers import BertConfig, BertModel
import adapterhub

mode, place = sys.argv[1:3]
torch.manual_seed(3)
sizes = {"hidden_size": 16, "num_hidden_layers": 2, "num_attention_heads": 2}
model = BertModel(BertConfig(vocab_size=40, intermediate_size=32, **sizes)).eval()
model.config._name_or_path = "tiny/bert"
ids = torch.tensor([[5, 6, 7]])
without = model(ids).last_hidden_state
adapterhub.init(model)
if mode == "save":
    model.add_adapter("a", config="lora")
    for name, weight in model.named_parameters():
        if "lora" in name:
            torch.nn.init.normal_(weight)
    model.save_adapter(place, "a")
    name = "a"
else:
    name = model.load_adapter(place)
model.set_active_adapters(name)
result = model(ids).last_hidden_state
assert not torch.allclose(result, without)
print(repr(result.sum().item()))
"""


@pytest.fixture(scope="module")
def hub(chromium: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Hub]:
    made = Hub(tmp_path_factory.mktemp("account") / "data")
    invited(made, "ada")
    invited(made, "grace")
    yield made
    made.stop()


@pytest.fixture
def browser(tab: Browser, hub: Hub) -> Iterator[Browser]:
    tab.look()
    tab.open(f"{hub.url}/login/" if tab.run("location.href") == "about:blank" else f"{hub.url}/")
    tab.events.clear()
    yield tab
    assert tab.complaints() == []
    assert [url for url in tab.requests() if not url.startswith((hub.url, "data:"))] == []


def fill(browser: Browser, **values: str) -> None:
    """Type into the fields of those names."""
    for name, value in values.items():
        browser.run(f"document.querySelector('main [name={name}]').focus()")
        browser.run("document.activeElement.select?.()")
        browser.send("Input.insertText", text=value)


def press(browser: Browser, label: str, then: str) -> None:
    """Press the button with that text, and wait until *then* is true on the page that follows."""
    browser.run("window.before = true")
    browser.run(
        f"[...document.querySelectorAll('button, main a')].find(e => e.textContent.trim().startsWith"
        f"({json.dumps(label)})).click()"
    )
    browser.wait(f"!window.before && document.readyState === 'complete' && ({then})", seconds=60)


def sign_out(browser: Browser, hub: Hub) -> None:
    """Sign out whoever is there; the page to sign in is shown then."""
    browser.open(f"{hub.url}/about/")
    if browser.run("!!document.querySelector('.menu')"):
        press(browser, "Sign out", "location.pathname === '/login/'")
    else:
        browser.open(f"{hub.url}/login/")


def sign_in(browser: Browser, hub: Hub, name: str) -> None:
    """Sign out whoever is there, and sign in with name and password."""
    sign_out(browser, hub)
    fill(browser, name=name, password=PASSWORD)
    press(browser, "Sign in", "location.pathname === '/settings/adapters/'")
    assert browser.run("document.querySelector('.viewer .who').textContent") == name


def picture(browser: Browser, name: str) -> None:
    """Save what is visible, if pictures are wanted."""
    folder = os.environ.get("ADAPTERHUB_SCREENSHOTS")
    if folder:
        browser.screenshot(Path(folder) / f"account-{name}.png")


def _environment(tmp_path: Path, hub: Hub, **more: str) -> dict[str, str]:
    kept = {key: value for key, value in os.environ.items() if not key.startswith(("HF_", "HUGG"))}
    kept |= {"HF_HOME": str(tmp_path / "home"), "HF_HUB_DISABLE_PROGRESS_BARS": "1"}
    return kept | more


def _python(code: str, *words: str, env: dict[str, str]) -> str:
    result = subprocess.run(
        [sys.executable, "-c", code, *words], env=env, capture_output=True, text=True, timeout=180
    )
    assert result.returncode == 0, result.stderr[-3000:]
    return result.stdout.strip()


def _choose(browser: Browser, selector: str, *paths: Path) -> None:
    """Choose files (or a folder) as a person does in the dialog of the browser."""
    root = browser.send("DOM.getDocument")["root"]["nodeId"]
    node = browser.send("DOM.querySelector", nodeId=root, selector=selector)["nodeId"]
    browser.send("DOM.setFileInputFiles", nodeId=node, files=[str(path) for path in paths])


def test_a_token_made_here_works_with_the_stock_client(
    browser: Browser, hub: Hub, tmp_path: Path
) -> None:
    sign_in(browser, hub, "ada")
    browser.open(f"{hub.url}/settings/tokens/")
    fill(browser, name="my laptop")
    press(browser, "Make", "document.querySelector('.fresh')")
    picture(browser, "token")
    token = browser.run("document.querySelector('.fresh code').textContent")
    code = "from huggingface_hub import HfApi; print(HfApi().whoami()['name'])"
    env = _environment(tmp_path, hub, HF_ENDPOINT=hub.url, HF_TOKEN=token)
    assert _python(code, env=env) == "ada"
    browser.open(f"{hub.url}/settings/tokens/")
    assert token not in browser.run("document.documentElement.outerHTML")


@pytest.fixture(scope="module")
def lora(tmp_path_factory: pytest.TempPathFactory, hub: Hub) -> tuple[Path, str]:
    """The folder of a LoRA that our library saved, and what a model computes with it."""
    root = tmp_path_factory.mktemp("lora")
    folder = root / "sst-2 lora"
    wanted = _python(_SAVE_OR_LOAD, "save", str(folder), env=_environment(root, hub))
    (folder / ".DS_Store").write_bytes(b"litter")
    return folder, wanted


@pytest.mark.parametrize("script", [True, False], ids=["script", "no-script"])
def test_an_adapter_published_here_loads(
    browser: Browser, hub: Hub, tmp_path: Path, lora: tuple[Path, str], script: bool
) -> None:
    folder, wanted = lora
    sign_in(browser, hub, "ada")
    browser.look(script=script)
    browser.open(f"{hub.url}/new/")
    _choose(browser, "#f-folder", folder)
    name = f"sst-2-lora-{'one' if script else 'two'}"
    values = {"task": f"sentiment/sst-2-{script:d}", "license": "Apache-2.0", "language": "English"}
    fill(browser, name=name, description="A *small* LoRA for films.", **values)
    if script:
        listed = "[...document.querySelectorAll('#filelist code')].map(e => e.textContent)"
        kept = sorted(path.name for path in folder.iterdir() if path.name != ".DS_Store")
        assert browser.run(listed) == kept
        browser.look(height=1250)
        browser.run("scrollTo(0, 0)")
        picture(browser, "publish")
        browser.look(height=1250, dark=True)
        picture(browser, "publish-dark")
        browser.look()
    press(browser, "Check and publish", f"location.pathname.startsWith('/new/ada/{name}/')")
    browser.look(script=True)
    assert "Published" in browser.run("document.querySelector('.notice').textContent")
    if script:
        picture(browser, "result")
    if script:
        env = _environment(tmp_path, hub, ADAPTERHUB_HUB=hub.url)
        assert _python(_SAVE_OR_LOAD, "load", f"ada/{name}", env=env) == wanted
    weights = hub.ask("GET", f"/ada/{name}/resolve/main/adapter.safetensors", token=None)
    assert weights.body == (folder / "adapter.safetensors").read_bytes()
    press(browser, "Its page", f"location.pathname.includes('/ada/{name}/')")
    assert "A small LoRA for films." in browser.run("document.querySelector('main').textContent")


def test_refused_files_stay_chosen_with_the_reason_beside(
    browser: Browser, hub: Hub, tmp_path: Path
) -> None:
    good, bad = tmp_path / "notes.md", tmp_path / "run.sh"
    good.write_text("# Notes\n")
    bad.write_text("#!/bin/sh\necho hello\n")
    sign_in(browser, hub, "ada")
    browser.open(f"{hub.url}/new/")
    _choose(browser, "#f-files", good, bad)
    fill(browser, name="refused-one", task="no-slash")
    browser.run("document.getElementById('send').click()")
    browser.wait("document.querySelector('#refusal .notice')")
    assert "task/subtask" in browser.run("document.querySelector('#refusal').textContent")
    fill(browser, task="sentiment/sst-2")
    browser.run("document.getElementById('send').click()")
    browser.wait("document.querySelector('#filelist .wrong')")
    wrong = "[...document.querySelectorAll('#filelist .wrong > code')].map(e => e.textContent)"
    assert browser.run(wrong) == ["run.sh"]
    picture(browser, "refused")
    assert hub.ask("GET", "/api/models/ada/refused-one").status == 404
    browser.run("document.querySelector('#filelist .wrong button').click()")
    press(browser, "Check and publish", "location.pathname.startsWith('/new/ada/refused-one/')")
    text = browser.run("document.querySelector('.notice').textContent")
    assert "not published" in text  # it is stored, but no adapter yet
    # The console tells of the two answers with status 422.
    browser.events[:] = [e for e in browser.events if e["method"] != "Log.entryAdded"]


def test_a_folder_can_be_dropped(browser: Browser, hub: Hub, tmp_path: Path) -> None:
    (tmp_path / "one.txt").write_text("one\n")
    sign_in(browser, hub, "ada")
    browser.open(f"{hub.url}/new/")
    data: dict[str, Any] = {
        "items": [],
        "files": [str(tmp_path / "one.txt")],
        "dragOperationsMask": 1,
    }
    box = "document.getElementById('drop').getBoundingClientRect()"
    x, y = browser.run(f"(r => [r.x + r.width / 2, r.y + r.height / 2])({box})")
    for kind in ("dragEnter", "dragOver", "drop"):
        browser.send("Input.dispatchDragEvent", type=kind, x=x, y=y, data=data)
    browser.wait("document.querySelector('#filelist code')")
    assert browser.run("document.querySelector('#filelist code').textContent") == "one.txt"


def test_gated_access_from_asking_to_the_answer(browser: Browser, hub: Hub) -> None:
    sign_in(browser, hub, "ada")
    hub.published("admin/closed")
    hub.ask("PUT", "/api/models/admin/closed/settings", {"gated": "manual"})
    sign_in(browser, hub, "grace")
    browser.open(f"{hub.url}/settings/access/admin/closed/")
    press(browser, "Ask for access", "document.body.textContent.includes('has not answered yet')")
    browser.open(f"{hub.url}/about/")
    press(browser, "Sign out", "location.pathname === '/login/'")
    browser.run("document.querySelector('details.alternative').open = true")
    fill(browser, token=hub.token)
    press(browser, "Sign in with the token", "location.pathname === '/settings/adapters/'")
    assert "1 asks for access" in browser.run("document.querySelector('main').textContent")
    browser.open(f"{hub.url}/settings/adapters/admin/closed/")
    picture(browser, "gated")
    press(browser, "Let in", "location.search === '?done=access'")
    sign_in(browser, hub, "grace")
    browser.open(f"{hub.url}/settings/access/")
    assert "you are let in" in browser.run("document.querySelector('main').textContent")


PAGES = (
    *("login/", "settings/", "settings/adapters/", "settings/tokens/", "settings/organizations/"),
    *("settings/organizations/lab/", "settings/access/", "settings/sessions/", "new/"),
    *("settings/adapters/boss/shown/", "settings/hub/users/", "settings/hub/users/ada/"),
    *("settings/hub/audit/", "new/boss/shown/{commit}/", "join/"),
)


@pytest.fixture(scope="module")
def pages(hub: Hub, tab: Browser) -> list[str]:
    """Sign an administrator in who has one of everything; return the addresses of all pages."""
    import re

    boss = invited(hub, "boss", admin=True)
    boss.send("/settings/hub/users/", boss.get("/settings/hub/users/"), name="", days="7")
    menu = "/settings/organizations/"
    boss.send(menu, boss.get(menu), name="lab", fullname="The language lab")
    boss.send(f"{menu}lab/", boss.get(f"{menu}lab/"), user="ada", role="write")
    token = boss.send(
        "/settings/tokens/", boss.get("/settings/tokens/"), name="ci", scope="write", days="90"
    )
    secret = re.search(r"<code>(ahub_[\w-]+)</code>", token)[1]  # type: ignore[index]
    commit = hub.published("boss/shown", token=secret)
    hub.published("boss/draft-of-mine", token=secret, private=True)
    place = "/settings/adapters/boss/shown/"
    boss.send(place, boss.get(place), visibility="public", gated="manual")
    tab.look()
    sign_in(tab, hub, "boss")
    return [page.format(commit=commit) for page in PAGES]


@pytest.mark.parametrize(
    ("width", "dark"), [(1280, False), (1280, True), (390, False), (320, True)]
)
def test_nothing_sticks_out(
    browser: Browser, hub: Hub, pages: list[str], width: int, dark: bool
) -> None:
    browser.look(width=width, dark=dark, height=844 if width < 600 else 900)
    names = {
        "settings/adapters/": "adapters",
        "settings/hub/users/": "users",
        "settings/": "profile",
    }
    names["new/"] = "new"
    for page in pages[1:]:
        browser.open(f"{hub.url}/{page}")
        over = "document.documentElement.scrollWidth - document.documentElement.clientWidth"
        assert browser.run(over) <= 0, page
        if page in names and width > 320:
            picture(browser, f"{names[page]}{'-dark' * dark}{'-phone' * (width < 600)}")


@pytest.mark.parametrize("dark", [False, True])
def test_axe_finds_nothing(
    browser: Browser, hub: Hub, pages: list[str], axe: str, dark: bool
) -> None:
    found = {}
    for page in pages:
        browser.look(dark=dark)
        browser.open(f"{hub.url}/{page}") if page != "login/" else None
        browser.run("document.querySelectorAll('details').forEach(e => { e.open = true; })")
        browser.run(f"{axe};0")
        violations = (
            "axe.run().then(r => JSON.stringify(r.violations.map(v => [v.id, v.nodes[0].html])))"
        )
        found[page] = json.loads(browser.run(violations))
    assert {page: lines for page, lines in found.items() if lines} == {}


@pytest.mark.parametrize("script", [True, False])
def test_an_invitation_by_its_link(
    browser: Browser, hub: Hub, script: bool, axe: str, tmp_path: Path
) -> None:
    """The code stands behind the #: no server gets it in an address, and it does not stay there."""
    name = f"guest-{script}".lower()
    command = [sys.executable, "-m", "adapterhub.cli", "hub", "invite", name, "--data"]
    made = subprocess.run([*command, str(hub.data)], capture_output=True, text=True, timeout=60)
    code = made.stdout.strip().partition("/join/#")[2]
    assert len(code) > 20, made.stderr
    sign_out(browser, hub)
    browser.look(script=script, width=390)
    if script:
        browser.send("Page.navigate", url=f"{hub.url}/join/#{code}")
    else:
        browser.open(f"{hub.url}/join/#{code}")
        picture(browser, "invitation-phone")
        fill(browser, code=code)
        browser.run("document.querySelector('form[data-invitation]').requestSubmit()")
    browser.wait(
        "document.readyState === 'complete' && document.querySelector('main [name=password]')"
    )
    assert browser.run("location.pathname + location.search + location.hash") == "/join/"
    assert name in browser.run("document.querySelector('main').textContent")
    assert browser.run("document.documentElement.scrollWidth") <= 390
    if script:
        browser.run(f"{axe};0")
        found = "axe.run().then(r => JSON.stringify(r.violations.map(v => v.id)))"
        assert json.loads(browser.run(found)) == []
        fill(browser, password=PASSWORD)
        press(browser, "Make the account", "location.pathname === '/settings/adapters/'")
    assert [url for url in browser.requests() if code in url.partition("#")[0]] == []
    assert code not in hub.log.read_text()


def test_a_keyboard_is_enough(browser: Browser, hub: Hub) -> None:
    sign_out(browser, hub)
    picture(browser, "sign-in")
    browser.run("document.querySelector('main [name=name]').focus()")
    browser.send("Input.insertText", text="ada")
    browser.press("Tab", 9)
    browser.send("Input.insertText", text=PASSWORD)
    assert browser.run("document.activeElement.name") == "password"
    for kind in ("keyDown", "keyUp"):
        browser.send(
            "Input.dispatchKeyEvent", type=kind, key="Enter", windowsVirtualKeyCode=13, text="\r"
        )
    browser.wait("location.pathname === '/settings/adapters/'")
