"""Text of strangers on its way into a page: Markdown to clean HTML, plain summaries, safe links."""

from __future__ import annotations

import re
from functools import cache
from urllib.parse import quote

import nh3
from markdown_it import MarkdownIt
from markupsafe import Markup

MAX_MARKDOWN = 200_000
_TAGS = {
    *("p", "br", "hr", "em", "strong", "del", "code", "pre", "blockquote", "ul", "ol", "li", "a"),
    *("h3", "h4", "h5", "h6", "table", "thead", "tbody", "tr", "th", "td", "sub", "sup", "kbd"),
}
_HEADING = re.compile(r"<(/?)h([1-6])\b")
_MARKUP = re.compile(r"<[^>]*>|[*_`#>|\[\]]|\((?:https?:|javascript:)[^)]*\)")
_UNSAFE = re.compile(r"[/\x00-\x1f\x7f]")
_SENTENCE = re.compile(r"(?<=[.!?])\s")


@cache
def _parser() -> MarkdownIt:
    # Raw HTML stays off: nh3 would clean it, but two walls are better than one.
    return MarkdownIt("commonmark", {"html": False, "linkify": False}).enable("table")


def markdown(text: str) -> Markup:
    """Return sanitised HTML of a stranger's Markdown.

    Only text-level elements, lists, tables and http(s) links survive; images do not, since a page
    fetches nothing from elsewhere. Headings begin at the third level, below those of the page.
    """
    html = _parser().render(text[:MAX_MARKDOWN])
    html = _HEADING.sub(lambda m: f"<{m[1]}h{min(int(m[2]) + 2, 6)}", html)
    clean = nh3.clean(
        html,
        tags=_TAGS,
        attributes={"a": {"href", "title"}},
        url_schemes={"http", "https"},
        link_rel="nofollow noopener noreferrer ugc",
    )
    return Markup(clean)


def plain(text: str, limit: int = 160) -> str:
    """Return the first sentences of Markdown as one line of plain text."""
    kept = (row for row in text.splitlines() if not row.lstrip().startswith(("|", "#", "```")))
    line = " ".join(_MARKUP.sub("", " ".join(kept)).split())
    if len(line) <= limit:
        return line
    short = ""
    for sentence in _SENTENCE.split(line):
        if len(short) + len(sentence) + 1 > limit:
            break
        short = f"{short} {sentence}".strip()
    return short or line[: limit - 1].rsplit(" ", 1)[0] + "…"


def safe_link(url: str | None) -> str | None:
    """Return *url* if it is a web address, else ``None``; never another scheme."""
    if not url or not re.fullmatch(r"(?i)https?://[^\s<>\"'\\]+", url):
        return None
    return url


def segment(text: str) -> str:
    """Return *text* as one part of a path that stays one part and never leads upwards.

    A slash becomes ``~``, as does a control character; ``~`` stands before a name of dots only.
    """
    plain_ = _UNSAFE.sub("~", text)
    return quote(f"~{plain_}" if plain_ and not plain_.strip(".") else plain_, safe="+@,")


def number(value: float | None) -> str:
    """Return a number for people: ``894,528``, ``0.923``; a dash for none."""
    if value is None:
        return "–"
    if isinstance(value, int):
        return f"{value:,}"
    whole, _, rest = f"{value:,.4f}".partition(".")
    rest = rest.rstrip("0")
    return f"{whole}.{rest:0<2}" if rest else whole


def short_number(value: int | None) -> str:
    """Return ``895k`` or ``1.2M``."""
    if value is None:
        return "–"
    for limit, unit in ((1e9, "B"), (1e6, "M"), (1e3, "k")):
        if value >= limit:
            return f"{value / limit:.3g}{unit}"
    return str(value)


def file_size(value: int | None) -> str:
    """Return a size in bytes for people, in powers of ten: ``3.6 MB``."""
    if value is None:
        return "–"
    for limit, unit in ((1e9, "GB"), (1e6, "MB"), (1e3, "kB")):
        if value >= limit:
            return f"{value / limit:.3g} {unit}"
    return f"{value} B"


_METHODS = {
    "lora": "LoRA",
    "dora": "DoRA",
    "vera": "VeRA",
    "ia3": "(IA)³",
    "loreft": "LoReFT",
    "noreft": "NoReFT",
    "direft": "DiReFT",
}


def method_title(name: str) -> str:
    """Return the name of a method as papers write it: ``LoRA``, ``Pfeiffer``."""
    return _METHODS.get(name, name[:1].upper() + name[1:])
