"""The weights of heads: their names in files, checking and loading stored ones, averaging."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import nn

from adapterhub.errors import AdapterHubError, CheckpointError, ConfigError
from adapterhub.heads import tying
from adapterhub.heads.base import PredictionHead


class HeadWeights:
    """Mixin of :class:`~adapterhub.heads.model.ModelWithHeads`."""

    heads: nn.ModuleDict

    def check_head_name(self, head_name: Any, overwrite_ok: bool = False) -> None:
        """Raise ConfigError if the name cannot be a head's."""
        raise NotImplementedError

    def _head(self, name: str) -> PredictionHead:
        raise NotImplementedError

    def _make_head(self, head_name: str, config: Mapping[str, Any]) -> PredictionHead:
        raise NotImplementedError

    def _put_head(self, head: PredictionHead, set_active: bool, tied: bool) -> None:
        raise NotImplementedError

    def head_tensors(self, head_name: str) -> dict[str, torch.Tensor]:
        """Return a head's tensors by their names in files, ``heads.<name>.<index>.weight``.

        A weight that is tied to the model's embeddings is left out.
        """
        head = self._head(head_name)
        state = tying.without_tied(self, head, head.state_dict())
        return {f"heads.{head_name}.{key}": value.detach() for key, value in state.items()}

    def check_head_tensors(
        self, head_name: str, config: Mapping[str, Any], tensors: Mapping[str, torch.Tensor]
    ) -> None:
        """Check that a stored head fits this model, without changing anything.

        Args:
            head_name: the name it is to have. config: its configuration.
            tensors: by name, ``heads.<head_name>.…``; a decoder's weight may lack where the model
                ties its embeddings.

        Raises:
            CheckpointError: with every name and shape that does not fit.
        """
        try:
            self.check_head_name(head_name, overwrite_ok=True)
            with torch.device("meta"):
                head = self._make_head(head_name, config)
        except AdapterHubError as error:
            raise CheckpointError(
                f"The stored head '{head_name}' cannot be built here: {error}"
            ) from error
        prefix = f"heads.{head_name}."
        expected = {prefix + key: list(value.shape) for key, value in head.state_dict().items()}
        optional = {f"{prefix}{len(head) - 1}.weight"} if tying.can_tie(self, head) else set()
        problems = [
            f"missing: {key} {shape}"
            for key, shape in expected.items()
            if key not in tensors and key not in optional
        ]
        problems += [f"unexpected: {key}" for key in tensors if key not in expected]
        problems += [
            f"shape: {key} is {list(value.shape)} in the file, {expected[key]} in the model"
            for key, value in tensors.items()
            if key in expected and list(value.shape) != expected[key]
        ]
        if problems:
            raise CheckpointError(
                f"The stored head '{head_name}' does not fit this {type(self).__name__}, "
                "nothing was loaded:\n  - " + "\n  - ".join(problems)
            )

    def load_head_tensors(
        self,
        head_name: str,
        config: Mapping[str, Any],
        tensors: Mapping[str, torch.Tensor],
        set_active: bool = False,
    ) -> None:
        """Add a stored head, replacing one of that name; all or nothing.

        A decoder that equals the embeddings of a model which ties them is tied; one that differs
        from them stays a weight of its own.

        Args:
            set_active: make it the active head. Default False.

        Raises:
            CheckpointError: see :meth:`check_head_tensors`.
        """
        self.check_head_tensors(head_name, config, tensors)
        head = self._make_head(head_name, config)
        prefix = f"heads.{head_name}."
        state = {key.removeprefix(prefix): value for key, value in tensors.items()}
        head.load_state_dict(state, strict=False)
        decoder = state.get(f"{len(head) - 1}.weight")
        self._put_head(head, set_active, decoder is None or tying.is_embedding(self, decoder))

    def average_head(
        self,
        head_name: str,
        head_list: Sequence[str] | Mapping[str, float],
        weights: Sequence[float] | None = None,
        normalize_weights: bool = True,
        overwrite_ok: bool = False,
        set_active: bool = False,
    ) -> None:
        """Add a head whose weights are the weighted mean of other heads'.

        Args:
            head_name: the new head's name.
            head_list: heads of one type and configuration (their dropout may differ), or
                ``{name: weight}``.
            weights: one number a head; default: all equal.
            normalize_weights: divide the weights by their sum. Default True.
            overwrite_ok: replace a head of that name. Default False.
            set_active: make it the active head. Default False.

        Raises:
            UnknownAdapterError: no such head. ConfigError: the heads or the weights do not match,
                or a bad or taken name.
        """
        self.check_head_name(head_name, overwrite_ok)
        if isinstance(head_list, Mapping):
            head_list, weights = list(head_list), list(head_list.values())
        if isinstance(head_list, str) or not head_list:
            raise ConfigError("average_head needs a list of names of heads.")
        heads = [self._head(name) for name in head_list]
        given = [1.0] * len(heads) if weights is None else [float(weight) for weight in weights]
        total = sum(given) if normalize_weights or weights is None else 1.0
        if len(given) != len(heads) or total == 0:
            raise ConfigError(
                f"average_head needs one weight a head, with a sum that is not 0: {given} for "
                f"{', '.join(head_list)}."
            )
        first = heads[0]
        for name, head in zip(head_list, heads, strict=True):
            if type(head) is not type(first) or _shape(head) != _shape(first):
                raise ConfigError(
                    f"Heads '{head_list[0]}' and '{name}' differ in type or configuration, so they "
                    "have no average."
                )
        states = [head.state_dict() for head in heads]
        mean = {
            key: sum(w / total * state[key] for w, state in zip(given, states, strict=True))
            for key in states[0]
        }
        made = self._make_head(head_name, first.config)
        made.load_state_dict(mean)
        self._put_head(made, set_active, all(tying.is_tied(self, head) for head in heads))


def _shape(head: PredictionHead) -> dict[str, Any]:
    return {key: value for key, value in head.config.items() if key != "dropout_prob"}
