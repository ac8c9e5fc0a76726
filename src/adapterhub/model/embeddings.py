"""Vocabularies as methods of the handle: adding, exchanging, training, saving embeddings."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal

import torch
from torch import nn

from adapterhub.engine import Engine
from adapterhub.engine.sites import CHILD, Site
from adapterhub.engine.tokens import make_rows
from adapterhub.engine.vocabulary import (
    DEFAULT,
    Follower,
    Matrix,
    Vocabularies,
    exchange,
    followers,
    input_embeddings,
)
from adapterhub.errors import CheckpointError, ConfigError, UnknownAdapterError, did_you_mean
from adapterhub.heads.tying import language_heads
from adapterhub.model import embeddingfiles as files
from adapterhub.model.flags import Flags

#: Name in the base model's own place for what adapterhub hangs there.
HOLDER = "embeddings"

Rows = bool | Literal["new"] | Sequence[int]


class HandleEmbeddings:
    """The part of :class:`~adapterhub.model.handle.AdapterHandle` about embeddings.

    The model's own vocabulary is called ``"default"``; its parameters are only put aside while another
    one is in use, and come back as the same objects.
    """

    engine: Engine
    flags: Flags

    @property
    def model(self) -> Any:
        """The model this handle belongs to."""
        return self.engine.model

    # -- looking -----------------------------------------------------------------------------------

    @property
    def active_embeddings(self) -> str:
        """Name of the vocabulary in use; ``"default"``: the model's own."""
        found = self._vocabularies()
        return DEFAULT if found is None else found.active

    @property
    def loaded_embeddings(self) -> dict[str, nn.Embedding]:
        """All vocabularies by name, as modules with ``weight`` (tokens, width)."""
        found = self._vocabularies()
        active = input_embeddings(self.model)
        if found is None:
            return {DEFAULT: active}
        return {
            name: active if name == found.active else _as_module(found.waiting._modules[name])
            for name in found.names()
        }

    def _vocabularies(self) -> Vocabularies | None:
        holder = self.engine.resolved.base._modules.get(CHILD)
        return None if holder is None else holder._modules.get(HOLDER)  # type: ignore[return-value]

    def _make_vocabularies(self) -> Vocabularies:
        found = self._vocabularies()
        if found is None:
            base = self.engine.resolved.base
            holder: Any = base._modules.get(CHILD)
            if holder is None:
                holder = base._modules[CHILD] = Site()
            found = holder._modules[HOLDER] = Vocabularies()
        return found

    # -- adding and exchanging ---------------------------------------------------------------------

    def add_embeddings(
        self,
        name: str,
        tokenizer: Any,
        reference_embedding: str | None = None,
        reference_tokenizer: Any = None,
        embedding_dim: int | None = None,
    ) -> None:
        """Add embeddings for another vocabulary, N(0, 0.02), and use them.

        Args:
            name: of the new embeddings.
            tokenizer: of the new vocabulary.
            reference_embedding, reference_tokenizer: embeddings here (``"default"``: the model's own) and
                their tokenizer; rows of tokens that both vocabularies have are copied.
            embedding_dim: only the model's own width, if given.

        Raises:
            ConfigError: the name is taken, another width, only one of the two references.
            UnknownAdapterError: no such embeddings. ArchitectureError: the model embeds no tokens.
        """
        old = input_embeddings(self.model).weight
        self._check_new(name)
        if embedding_dim not in (None, old.shape[1]):
            raise ConfigError(
                f"The model's embeddings are {old.shape[1]} wide, so new ones cannot be {embedding_dim}."
            )
        if (reference_embedding is None) != (reference_tokenizer is None):
            raise ConfigError(
                "Copying rows needs both reference_embedding and reference_tokenizer (or neither)."
            )
        vocabulary: dict[str, int] = tokenizer.get_vocab()
        size = max([len(tokenizer), *(index + 1 for index in vocabulary.values())])
        pairs: list[tuple[int, int]] = []
        reference = None
        if reference_embedding is not None:
            reference = self._effective(reference_embedding)
            theirs = reference_tokenizer.get_vocab()
            known = reference.weight.shape[0]
            pairs = [
                (index, theirs[token])
                for token, index in vocabulary.items()
                if theirs.get(token, known) < known
            ]
        made = Matrix(_grown(old, 0, size, pairs, reference and reference.weight), None)
        made.padding = _inside(getattr(tokenizer, "pad_token_id", None), size)
        made.fresh = tuple(sorted(set(range(size)) - {index for index, _ in pairs}))
        given = {} if reference is None else reference.followers()
        made.set_followers(
            {
                f.key: _grown(f.tensor(), f.axis, size, pairs, given.get(f.key))
                for f in self._followers()
            }
        )
        self._keep(name, made)
        self.set_active_embeddings(name)

    def set_active_embeddings(self, name: str) -> None:
        """Use other embeddings; a tied decoder and ``config.vocab_size`` follow.

        A decoder that is not tied gets an output matrix for each vocabulary, too. Heads of ours that are
        not tied keep their own vocabulary.

        Raises:
            UnknownAdapterError: no such embeddings; the ones before stay in use.
        """
        self._require_embeddings(name)
        found = self._vocabularies()
        if found is None or name == found.active:
            return
        new: Any = found.waiting._modules[name]
        missing = [f for f in self._followers() if f.key not in new.names]
        if missing:  # decoders that are younger than these embeddings
            size = new.weight.shape[0]
            more = {f.key: _grown(f.tensor(), f.axis, size, [], None) for f in missing}
            new.set_followers({**new.followers(), **more})
        del found.waiting._modules[name]
        rows = self.engine.token_rows
        self.reset_token_rows()
        old = exchange(self.model, new, self.engine.own_heads)
        old.tokens, old.fresh = rows, found.fresh
        found.waiting._modules[found.active] = old
        found.active, found.fresh = name, new.fresh
        if new.tokens is not None:
            self._hang(new.tokens)
        self._tell_heads()

    def delete_embeddings(self, name: str) -> None:
        """Remove embeddings; if they are in use, the default ones are used from then on.

        Raises:
            UnknownAdapterError: no such embeddings. ConfigError: the default ones.
        """
        self._require_embeddings(name)
        if name == DEFAULT:
            raise ConfigError(
                "The default embeddings are the model's own and cannot be deleted; rows trained on "
                "top of them go with reset_token_rows()."
            )
        found = self._make_vocabularies()
        if found.active == name:
            self.set_active_embeddings(DEFAULT)
        del found.waiting._modules[name]

    def _detach_embeddings(self) -> None:
        """Bring the model's own vocabulary back and leave no trace."""
        found = self._vocabularies()
        if found is not None:
            self.set_active_embeddings(DEFAULT)
            holder: Any = self.engine.resolved.base._modules[CHILD]
            del holder._modules[HOLDER]
            if not holder._modules:
                del self.engine.resolved.base._modules[CHILD]
        self.reset_token_rows()

    # -- training ----------------------------------------------------------------------------------

    def freeze_embeddings(self, freeze: bool = True) -> None:
        """Freeze (or unfreeze) the embeddings in use."""
        self.flags.set(input_embeddings(self.model).parameters(), not freeze)

    def train_token_rows(self, rows: Literal["new"] | Sequence[int]) -> None:
        """Train some rows of the embeddings in use, and nothing else of them.

        The rows live beside the matrix, so an optimizer sees only them; a tied decoder uses them too.
        ``train_adapter(…, train_embeddings=rows)`` calls this.

        Args:
            rows: token ids; or ``"new"``: those of tokens that :meth:`add_embeddings` did not copy.

        Raises:
            ConfigError: no rows, or ids that are not in the vocabulary.
        """
        made = make_rows(self.model, self._row_ids(rows), self.engine.token_rows)
        self.reset_token_rows()
        self._hang(made)

    def _hang(self, rows: Any) -> None:
        rows.hang(self.model)
        self.engine.token_rows = rows

    def _row_ids(self, rows: Literal["new"] | Sequence[int]) -> tuple[int, ...]:
        """Return the token ids that *rows* means. Raises ConfigError, see train_token_rows."""
        weight = input_embeddings(self.model).weight
        found = self._vocabularies()
        ids = (found.fresh if found is not None else ()) if isinstance(rows, str) else tuple(rows)
        if isinstance(rows, str) and rows != "new":
            raise ConfigError(f"rows is a list of token ids or 'new', not {rows!r}.")
        if not ids:
            raise ConfigError(
                f"There are no rows to train in the embeddings '{self.active_embeddings}'"
                + (": all were copied, or they were not made by add_embeddings." if rows else ".")
            )
        outside = [i for i in ids if not isinstance(i, int) or not 0 <= i < weight.shape[0]]
        if outside:
            raise ConfigError(
                f"{outside[0]!r} is no id of the {weight.shape[0]} tokens of '{self.active_embeddings}'; add "
                "embeddings for a larger vocabulary first, with add_embeddings."
            )
        return ids

    def _token_rows(self) -> nn.Module:
        rows = self.engine.token_rows
        assert rows is not None
        rows.rehang(self.model)  # heads may have come since
        return rows

    def reset_token_rows(self) -> None:
        """Drop the rows trained on top of the embeddings in use, if there are any."""
        rows, self.engine.token_rows = self.engine.token_rows, None
        if rows is not None:
            rows.take_down(self.model)

    # -- files -------------------------------------------------------------------------------------

    def save_embeddings(self, path: str | Path, name: str, tokenizer: Any = None) -> None:
        """Write embeddings (with rows trained on top of them put in) and a tokenizer into a folder.

        Raises:
            UnknownAdapterError: no such embeddings.
        """
        self._require_embeddings(name)
        files.write(path, self._effective(name), tokenizer)

    def load_embeddings(self, path: str | Path, name: str) -> Any:
        """Load embeddings from a folder, frozen, and use them; return their tokenizer or ``None``.

        Raises:
            ConfigError: the name is taken. CheckpointError: damaged or of another width; the model stays as
            it was.
        """
        self._check_new(name)
        folder = Path(path)
        old = input_embeddings(self.model).weight
        weight = files.read_matrix(folder / files.FILE)
        if weight.dim() != 2 or weight.shape[1] != old.shape[1]:
            raise CheckpointError(
                f"{folder / files.FILE} holds {list(weight.shape)}, but this "
                f"{type(self.model).__name__} embeds tokens in {old.shape[1]} dimensions."
            )
        tokenizer = files.read_tokenizer(folder / files.TOKENIZER)
        size = weight.shape[0]
        made = Matrix(nn.Parameter(weight.to(old), requires_grad=False), None)
        own = input_embeddings(self.model).padding_idx
        made.padding = _inside(getattr(tokenizer, "pad_token_id", own), size)
        stored = files.read_followers(folder / files.OUTPUT)
        tensors: dict[str, torch.Tensor] = {}
        for follower in self._followers():
            now, value = follower.tensor(), files.stored(follower, stored, size)
            if value is None:
                value = _grown(now, follower.axis, size, [], None)
            elif isinstance(now, nn.Parameter):
                value = nn.Parameter(value, requires_grad=False)
            tensors[follower.key] = value
        made.set_followers(tensors)
        self._keep(name, made)
        self.set_active_embeddings(name)
        return tokenizer

    # -- helpers -----------------------------------------------------------------------------------

    def _keep(self, name: str, made: Matrix) -> None:
        self._make_vocabularies().waiting._modules[name] = made

    def _followers(self) -> list[Follower]:
        return followers(self.model, self.engine.own_heads)

    def _effective(self, name: str) -> Matrix:
        """Return a vocabulary as it acts: with its trained rows, and its followers."""
        self._require_embeddings(name)
        found = self._vocabularies()
        if found is None or found.active == name:
            embeddings, rows = input_embeddings(self.model), self.engine.token_rows
            tensors = {f.key: f.tensor() for f in self._followers()}
            weight: Any = embeddings.weight
        else:
            waiting: Any = found.waiting._modules[name]
            weight, rows, tensors = waiting.weight, waiting.tokens, waiting.followers()
        if rows is not None:
            weight = rows.put_into(weight)
        result = Matrix(nn.Parameter(weight.detach(), requires_grad=False), None)
        result.set_followers(tensors)
        return result

    def _check_new(self, name: Any) -> None:
        bad = not isinstance(name, str) or not name or "." in name
        if bad or name in self.loaded_embeddings:
            raise ConfigError(
                f"Not a name for embeddings: {name!r}."
                if bad
                else f"There are embeddings '{name}' already; delete them first, or choose another name."
            )

    def _require_embeddings(self, name: str) -> None:
        known = self.loaded_embeddings
        if name not in known:
            raise UnknownAdapterError(
                f"No embeddings '{name}' in this {type(self.model).__name__}; there are: "
                f"{', '.join(known)}.{did_you_mean(str(name), known)}"
            )

    def _tell_heads(self) -> None:
        if self.engine.own_heads:
            for _, head in language_heads(self.model):
                head.config["vocab_size"] = head.decoder.weight.shape[0]


def _as_module(matrix: Any) -> nn.Embedding:
    module = nn.Embedding(*matrix.weight.shape, padding_idx=matrix.padding, _weight=matrix.weight)
    module.weight = matrix.weight
    return module


def _inside(padding: Any, size: int) -> int | None:
    return padding if isinstance(padding, int) and 0 <= padding < size else None


def _grown(
    like: torch.Tensor,
    axis: int,
    size: int,
    pairs: Sequence[tuple[int, int]],
    source: torch.Tensor | None,
) -> Any:
    """Return a tensor like *like* for *size* tokens, with rows of *pairs* (new, old) copied from *source*.

    Other rows are N(0, 0.02) in matrices, 0 in biases.
    """
    shape = list(like.shape)
    shape[axis] = size
    made = torch.zeros(shape, dtype=like.dtype, device=like.device)
    if like.dim() == 2 and axis == 0:
        made.normal_(std=0.02)
    if pairs and source is not None:
        index = torch.tensor(pairs, device=like.device)
        rows = source.detach().index_select(axis, index[:, 1]).to(made)
        made.index_copy_(axis % made.dim(), index[:, 0], rows)
    if not isinstance(like, nn.Parameter):
        return made
    return nn.Parameter(made, requires_grad=False)
