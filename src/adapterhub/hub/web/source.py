"""What the pages need to know, as plain records, and the protocol of whoever knows it.

A source answers for one hub and one visitor: what the visitor may not see is not in its answers. Every
text in a record may come from strangers and is escaped or sanitised by the pages, not here.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal, Protocol

if TYPE_CHECKING:
    from adapterhub.hub.web.query import Found, Query

#: ``checked``: the files are here and passed every check; ``problem``: a check failed;
#: ``elsewhere``: the files are at an address that this hub does not control; ``held``: not published
#: yet, and only its owners see it.
Status = Literal["checked", "problem", "elsewhere", "held"]
Outcome = Literal["ok", "warning", "error", "skipped"]


@dataclass(frozen=True)
class HubInfo:
    """The hub itself.

    Attributes:
        name, description: for people.
        endpoint: address of a live server, to which Hugging Face clients can be pointed.
        site: address of the published pages, if known; files lie below it.
        repository: address to clone the folder of cards from.
        publish: how to publish here, a line of shell.
        countable: whether downloads are counted.
    """

    name: str
    description: str = ""
    endpoint: str | None = None
    site: str | None = None
    repository: str | None = None
    publish: str = ""
    countable: bool = False


@dataclass(frozen=True)
class Adapter:
    """One adapter with its default version, as lists and searches show it.

    Attributes:
        owner, name: together its identifier, ``@owner/name``.
        type: ``text_task``, ``text_lang``, ...
        task, subtask: ids; ``task_name`` and ``subtask_name`` are for people.
        languages: BCP-47 tags.
        architecture: name of the architecture card; ``method``: the usual name of the method.
        settings: in a few words, ``rf=16, relu``.
        format: ``adapterhub``, ``peft``, or ``archive`` (an old zip file).
        parameters, size: of the default version; size in bytes.
        rank: of its low-rank matrices, where all have the same.
        score: value of ``metric``; ``higher_is_better`` is ``None`` if nobody said.
        published: ISO date of the newest version.
        downloads: ``None`` where they are not counted.
        private: only members of its namespace see it; ``gated``: its files need the owner's leave.
    """

    owner: str
    name: str
    type: str
    task: str
    subtask: str
    task_name: str
    subtask_name: str
    base_model: str
    model_type: str
    architecture: str
    method: str
    settings: str = ""
    config_hash: str = ""
    languages: tuple[str, ...] = ()
    format: str = "adapterhub"
    license: str | None = None
    author: str = ""
    summary: str = ""
    parameters: int | None = None
    size: int | None = None
    rank: int | None = None
    score: float | None = None
    metric: str | None = None
    higher_is_better: bool | None = None
    version: str = ""
    versions: int = 1
    published: str | None = None
    head: bool = False
    default: bool = False
    status: Status = "elsewhere"
    downloads: int | None = None
    private: bool = False
    gated: bool = False

    @property
    def identifier(self) -> str:
        """``@owner/name``."""
        return f"@{self.owner}/{self.name}"


@dataclass(frozen=True)
class File:
    """One file of one version; ``href`` is where it lies below the site, if it does."""

    path: str
    size: int
    sha256: str
    href: str | None = None


@dataclass(frozen=True)
class Evaluation:
    """A result with what it is about, as a card states it."""

    task: str
    dataset: str
    split: str
    metric: str
    value: float


@dataclass(frozen=True)
class Signed:
    """The signature that lies among the files of a version.

    Attributes:
        outcome: ``ok``: right, and by a key that speaks for the owner as far as this hub knows;
            ``unknown``: right, by a key of which this hub does not know that; ``wrong``: not to be believed.
        key: what identifies the key (32 hex digits).
        by: account whose key it is; empty if the hub does not know.
        time: when it was signed, as the signature says; ISO.
        message: what is wrong, or not known.
    """

    outcome: Literal["ok", "unknown", "wrong"]
    key: str = ""
    by: str = ""
    time: str = ""
    message: str = ""


@dataclass(frozen=True)
class Version:
    """One version.

    Attributes:
        files: empty where there is only the address of an archive.
        labels: branches and tags that name it.
        status: what the checks made of it, if not all versions are the same in this: ``verified``,
            ``held``, ``rejected`` or ``pending``; ``reason`` says why.
        checks: what each check said about it.
        signed: its signature, if it has one.
    """

    name: str
    published: str | None = None
    description: str = ""
    score: float | None = None
    metrics: Mapping[str, float] = field(default_factory=dict)
    parameters: int | None = None
    sha256: str | None = None
    sha1: str | None = None
    url: str | None = None
    files: tuple[File, ...] = ()
    labels: tuple[str, ...] = ()
    author: str = ""
    status: str = ""
    reason: str = ""
    checks: tuple[Check, ...] = ()
    signed: Signed | None = None

    @property
    def size(self) -> int | None:
        """Bytes of all files."""
        return sum(file.size for file in self.files) if self.files else None


@dataclass(frozen=True)
class Tensor:
    """One tensor of a weight file; ``norm`` (Frobenius) is ``None`` for types without one."""

    name: str
    dtype: str
    shape: tuple[int, ...]
    norm: float | None = None


@dataclass(frozen=True)
class Check:
    """The outcome of one check of the default version."""

    name: str
    outcome: Outcome
    message: str = ""


@dataclass(frozen=True)
class Fact:
    """What the files show beside what the card says; either may be missing."""

    label: str
    fact: str | None
    claim: str | None

    @property
    def agrees(self) -> bool | None:
        """Whether both say the same; ``None`` if one says nothing."""
        if self.fact is None or self.claim is None:
            return None
        return self.fact.casefold() == self.claim.casefold()


@dataclass(frozen=True)
class Dependency:
    """Another adapter that this one needs; ``adapter`` is set if it is in this hub."""

    key: str
    description: str = ""
    adapter: tuple[str, str] | None = None


@dataclass(frozen=True)
class Detail:
    """Everything about one adapter.

    Attributes:
        description: Markdown.
        config: the full configuration.
        citations: BibTeX by what it is for: the adapter, its architecture, its data.
        card: path of its card in the folder, if there is one.
        siblings: other adapters for the same data and base model.
        evaluations: results on the card, with what they are about.
        notices: what whoever looks should know first: that it is private, or needs leave.
        signed: the signature of the version that the page is about.
    """

    adapter: Adapter
    author: str
    description: str = ""
    config: Mapping[str, Any] = field(default_factory=dict)
    versions: tuple[Version, ...] = ()
    checks: tuple[Check, ...] = ()
    facts: tuple[Fact, ...] = ()
    dependencies: tuple[Dependency, ...] = ()
    citations: Mapping[str, str] = field(default_factory=dict)
    links: Mapping[str, str] = field(default_factory=dict)
    hidden_size: int | None = None
    model_class: str | None = None
    card: str | None = None
    siblings: tuple[Adapter, ...] = ()
    evaluations: tuple[Evaluation, ...] = ()
    notices: tuple[str, ...] = ()
    signed: Signed | None = None


@dataclass(frozen=True)
class Task:
    """A task, or a language (type ``text_lang``)."""

    type: str
    id: str
    name: str
    description: str = ""
    adapters: int = 0


@dataclass(frozen=True)
class Dataset:
    """A data set or corpus below a task."""

    type: str
    task: str
    id: str
    name: str
    description: str = ""
    languages: tuple[str, ...] = ()
    metric: str | None = None
    higher_is_better: bool | None = None
    url: str | None = None
    hf_datasets_id: str | None = None
    citation: str | None = None
    adapters: int = 0


@dataclass(frozen=True)
class Architecture:
    """A named configuration."""

    name: str
    title: str
    description: str = ""
    method: str = ""
    config: Mapping[str, Any] = field(default_factory=dict)
    config_hash: str = ""
    citation: str | None = None
    adapters: int = 0


@dataclass(frozen=True)
class Account:
    """Who publishes."""

    name: str
    title: str = ""
    links: Mapping[str, str] = field(default_factory=dict)
    organisation: bool = False
    adapters: int = 0


@dataclass(frozen=True)
class Measured:
    """A result that somebody measured and signed. The hub checked the signature and the files.

    Attributes:
        dataset: ``task/subtask``; empty if the report does not say; ``data`` is the name of the file.
        data_sha256, split, examples: which data exactly.
        value, standard_error: of ``metric``.
        signed_by, key: account, and fingerprint of the key that it registered.
        evaluated: ISO time.
        version: commit that has the files; ``current``: whether they are what is published now.
        href: where the report lies whole, with its signature, below the site.
        has_page: whether there is a page of who signed.
    """

    dataset: str
    data: str
    data_sha256: str
    split: str
    examples: int
    metric: str
    value: float
    standard_error: float | None
    higher_is_better: bool
    signed_by: str
    key: str
    evaluated: str
    base_model: str
    version: str
    current: bool
    href: str
    has_page: bool = True


@dataclass(frozen=True)
class Result:
    """One line of a leaderboard: what a card claims, or (*measured*) what somebody measured."""

    adapter: Adapter
    version: str
    metric: str
    value: float
    measured: Measured | None = None


#: Forms with one box for a text: adapters of these can be tried side by side.
ONE_TEXT = ("text", "blank", "continue", "rewrite")


@dataclass(frozen=True)
class Trial:
    """That visitors can type something and see what an adapter makes of it, or why they cannot.

    Attributes:
        base_model: on which it runs here.
        generates: whether it writes a text, so that a length can be chosen.
        characters, new_tokens: how much may be typed, and generated.
        form: what is typed: ``text``, ``question`` (and a context), ``choice`` (a text and choices),
            ``blank`` (a text with words missing), ``continue``, ``rewrite``, ``image``; empty: nothing.
        context: characters of a context. choices: how many there may be. choice: characters of one.
        image: bytes of an image.
        reason: why there is no form.
    """

    base_model: str
    generates: bool = False
    characters: int = 0
    new_tokens: int = 0
    form: str = ""
    context: int = 0
    choices: int = 0
    choice: int = 0
    image: int = 0
    reason: str = ""


@dataclass(frozen=True)
class Problem:
    """A card that is there but cannot be shown, or should be mended."""

    severity: Literal["error", "warning", "note"]
    code: str
    where: str
    message: str


class Source(Protocol):
    """Where the pages get their records from. Lists are in a fixed order; unknown ids give ``None``."""

    def hub(self) -> HubInfo:
        """Describe the hub."""
        ...

    def search(self, query: Query) -> Found:
        """Return one page of what fits, the total, and the counts beside each facet."""
        ...

    def detail(self, owner: str, name: str) -> Detail | None:
        """Return everything about one adapter."""
        ...

    def tensors(self, file: File) -> Sequence[Tensor] | None:
        """Return the tensors of a weight file; ``None`` if it is none."""
        ...

    def tasks(self) -> Sequence[Task]:
        """Return all tasks and languages, by type and name."""
        ...

    def datasets(self, type_: str | None = None, task: str | None = None) -> Sequence[Dataset]:
        """Return the data sets, of one type and task if given."""
        ...

    def architectures(self) -> Sequence[Architecture]:
        """Return the architectures by name."""
        ...

    def accounts(self) -> Sequence[Account]:
        """Return who has published, those with most adapters first."""
        ...

    def results(self, type_: str, task: str, subtask: str | None = None) -> Sequence[Result]:
        """Return the results for a task or data set, best first where a metric has a direction."""
        ...

    def problems(self) -> Sequence[Problem]:
        """Return what is wrong with the hub's own cards."""
        ...

    def measured(self, owner: str, name: str) -> Sequence[Measured]:
        """Return what was measured of an adapter, newest first; nothing where there are no reports."""
        ...

    def measured_results(
        self, type_: str, task: str, subtask: str | None = None
    ) -> Sequence[Result]:
        """Return what was measured on the data of a task or data set, in any order."""
        ...

    def trial(self, owner: str, name: str) -> Trial | None:
        """Return how an adapter can be tried here, if it can."""
        ...
