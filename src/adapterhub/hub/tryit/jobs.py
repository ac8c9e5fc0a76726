"""What is asked of the child process, and what it answers: plain records that travel as JSON."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from adapterhub.errors import HubError

#: How the classes of causal language models are called in the end.
GENERATORS = ("ForCausalLM", "LMHeadModel")


class TryError(HubError):
    """This adapter cannot be tried; the message says why and is for the visitor."""


class Overloaded(HubError):
    """There is too much to do, or the child is being replaced; later it may work.

    Attributes:
        seconds: after which it is worth trying again.
    """

    def __init__(self, message: str, seconds: int = 2) -> None:
        super().__init__(message)
        self.seconds = seconds


@dataclass(frozen=True)
class Limits:
    """How much may be asked.

    Attributes:
        characters: of a text.
        context: characters of a text in which an answer is looked for.
        choices, choice: how many there may be to choose from (from two), and characters of each.
        image: bytes of an image file.
        pixels: of an image.
        tokens: of a text, for the model; what is longer is cut, and the answer says so.
        new_tokens: to generate at most.
        batch: jobs in one forward pass.
        wait: seconds that a job waits for others to share its batch.
        queue: jobs that may wait; more are refused.
        seconds: until a job that has no answer is given up.
        hang: seconds after which a batch that has not ended means that the child hangs; also an adapter
            is loaded within it.
        adapters: kept in the memory of the child, for each base model.
        adapter_bytes: of the files of one adapter.
        memory: address space of the child in bytes; 0: not limited.
        threads: of the child for its arithmetic.
    """

    characters: int = 2000
    context: int = 4000
    choices: int = 5
    choice: int = 500
    image: int = 2 << 20
    pixels: int = 12_000_000
    tokens: int = 256
    new_tokens: int = 64
    batch: int = 16
    wait: float = 0.004
    queue: int = 64
    seconds: float = 20.0
    hang: float = 90.0
    adapters: int = 24
    adapter_bytes: int = 256 << 20
    memory: int = 12 << 30
    threads: int = 1


@dataclass(frozen=True)
class Typed:
    """What a visitor put into a form.

    Attributes:
        text: a sentence, a question, or what choices are about.
        context: in which the answer to a question is looked for.
        choices: of which one is to be chosen.
        image: a PNG or JPEG file.
    """

    text: str = ""
    context: str = ""
    choices: tuple[str, ...] = ()
    image: bytes = b""


@dataclass(frozen=True)
class Job:
    """Something typed for one adapter.

    Attributes:
        base: folder of the base model.
        adapter: under which name the child keeps the adapter: changes with its files.
        folder: of the adapter's files.
        text: what was typed.
        new_tokens: how many to generate, for models that do.
        name: of the adapter, for messages.
        context, choices: as in :class:`Typed`.
        image: a file in base64; empty: none.
    """

    base: Path
    adapter: str
    folder: Path
    text: str
    new_tokens: int = 32
    name: str = ""
    context: str = ""
    choices: tuple[str, ...] = ()
    image: str = ""

    def to_json(self) -> dict[str, Any]:
        """Return the job as plain JSON types."""
        return {key: str(v) if isinstance(v, Path) else v for key, v in asdict(self).items()}

    @classmethod
    def from_json(cls, data: dict[str, Any]) -> Job:
        """Return the job that :meth:`to_json` wrote."""
        paths = {key: Path(data[key]) for key in ("base", "folder")}
        return cls(**{**data, **paths, "choices": tuple(data.get("choices") or ())})

    def require_within(self, limits: Limits) -> None:
        """Refuse what is more than may be asked.

        Raises:
            TryError: With what is too long.
        """
        if len(self.text) > limits.characters:
            raise TryError(f"the text has more than {limits.characters} characters")
        if len(self.context) > limits.context:
            raise TryError(f"the context has more than {limits.context} characters")
        if len(self.choices) > limits.choices:
            raise TryError(f"there are more than {limits.choices} choices")
        if any(len(choice) > limits.choice for choice in self.choices):
            raise TryError(f"a choice has more than {limits.choice} characters")
        if len(self.image) * 3 // 4 > limits.image + 2:
            raise TryError(f"the image has more than {limits.image >> 20} MB")
