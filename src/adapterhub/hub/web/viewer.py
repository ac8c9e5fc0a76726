"""Who looks at a page, as its header shows it; a published folder of pages has no such thing."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Viewer:
    """Somebody in front of a browser.

    Attributes:
        name: account name; empty if nobody is signed in.
        fullname: name for people.
        admin: whether the pages for administrators are his.
        writes: whether he may publish (he may be signed in with a token that only reads).
        form_token: goes into every form as ``form_token``, so that no other site can send it.
        here: path (with query) to come back to after signing in.
        joins: whether anybody may make an account.
    """

    name: str = ""
    fullname: str = ""
    admin: bool = False
    writes: bool = False
    form_token: str = ""
    here: str = "/"
    joins: bool = False

    @property
    def known(self) -> bool:
        """Whether somebody is signed in."""
        return bool(self.name)
