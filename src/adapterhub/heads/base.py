"""The generic stack of layers that all heads share, and the registry of head types."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, ClassVar, TypeVar

import torch
from torch import nn

from adapterhub.errors import ArchitectureError, ConfigError, UnknownAdapterError, did_you_mean
from adapterhub.methods.activations import activation

Labels = Mapping[Any, str] | Sequence[str] | None

#: Options that are in a head's configuration only where they are not the default, so that
#: configurations are those of the ``adapters`` library where it has the head.
RARE: dict[str, Any] = {
    "hidden_bias": True,
    "layer_norm": False,
    "norm_bias": True,
    "pooling": None,
    "scale": 1.0,
    "scaled": True,
    "softcap": None,
}


#: Ways to choose the vector that stands for the whole input; see :mod:`~adapterhub.heads.pooling`.
POOLINGS = ("cls", "first", "last", "eos", "mean", "pooler")


class Activation(nn.Module):
    """One slot of the stack: an activation function by its name, without parameters."""

    def __init__(self, name: str) -> None:
        super().__init__()
        self.name = name
        self.function = activation(name)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Apply the function elementwise; any shape."""
        return self.function(x)

    def extra_repr(self) -> str:
        return self.name


class PredictionHead(nn.Sequential):
    """A named stack ``[dropout, linear, activation] * (layers - 1) + [dropout, linear]``.

    The position in the stack is the index in parameter names (``heads.<name>.<index>.weight``), as
    in files of the ``adapters`` library: one layer has its weights at 1, two layers at 1 and 4 (1
    and 3 without an activation function). Hidden layers keep the hidden size.

    A subclass fills :attr:`config` in its constructor, calls :meth:`build` and implements
    :meth:`forward`; its constructor takes ``(model, head_name, **config)``. Those of the library take
    rare options as well, which :attr:`config` names only where they are set: ``layer_norm=True``
    (a norm after each hidden layer), ``hidden_bias=False``, ``norm_bias=False`` (hidden layers, their
    norms without a bias), ``pooling`` (``"cls"``, ``"first"``, ``"last"``, ``"eos"`` or ``"mean"``
    instead of what :mod:`~adapterhub.heads.pooling` chooses for the model), ``scaled=False`` (without
    the factor of :func:`~adapterhub.heads.pooling.token_scale`).

    Args:
        head_name: the head's name; part of the parameter names.

    Attributes:
        config: what the head is made of, JSON-able: ``head_type``, ``layers`` (default 1),
            ``activation_function`` (a name or ``None``), ``num_labels`` or ``num_choices``,
            ``bias`` (of the last layer, default True), ``dropout_prob`` (default: the model's),
            ``label2id``, ….
    """

    #: The name of this type in configurations.
    head_type: ClassVar[str] = ""
    #: Whether :meth:`forward` wants ``cls_output``, the vector that stands for the whole input.
    pooled: ClassVar[bool] = False
    #: Whether inputs have a second axis, of choices, which is folded into the batch.
    has_choices: ClassVar[bool] = False
    #: Keyword arguments of the model's forward that are this head's labels.
    targets: ClassVar[tuple[str, ...]] = ("labels",)
    #: What else :meth:`forward` wants: ``"invert"`` (a function that undoes invertible adapters),
    #: ``"logits_to_keep"``, ``"base_model"``, ``"choices"`` (the length of the inputs' second axis).
    extras: ClassVar[tuple[str, ...]] = ()
    #: Whether a model with this head active can ``generate``.
    generates: ClassVar[bool] = False

    def __init__(self, head_name: str) -> None:
        super().__init__()
        self.name = head_name
        self.config: dict[str, Any] = {}

    def add_rare(self, options: Mapping[str, Any]) -> None:
        """Take rare options into :attr:`config`.

        Raises:
            ConfigError: options that no head has.
        """
        for key, value in options.items():
            if key not in RARE:
                raise ConfigError(
                    f"head '{self.name}' ({type(self).__name__}): unexpected option '{key}'."
                )
            if key == "pooling" and value not in (None, *POOLINGS):
                raise ConfigError(
                    f"head '{self.name}': unknown pooling {value!r}; known: {', '.join(POOLINGS)}."
                )
            if value != RARE[key]:
                self.config[key] = value

    def build(self, model: Any) -> None:
        """Make the layers that :attr:`config` asks for, initialised by *model*'s own rule.

        Args:
            model: a ``PreTrainedModel``; gives hidden size, dropout and initialisation.

        Raises:
            ArchitectureError: the model has no single hidden size. ConfigError: bad configuration.
        """
        config = self.config
        layers: Any = config.get("layers", 1)
        counted = "num_choices" if "num_choices" in config else "num_labels"
        count: Any = config.get(counted)
        for label, number in (("layers", layers), (counted, count)):
            if not isinstance(number, int) or number < 1:
                raise ConfigError(
                    f"head '{self.name}': {label} must be a positive integer, not {number!r}."
                )
        size, outputs = hidden_size(model.config), 1 if counted == "num_choices" else count
        dropout = dropout_of(config, model.config)
        for _ in range(layers - 1):
            self.append(nn.Dropout(dropout))
            self.append(nn.Linear(size, size, bias=config.get("hidden_bias", True)))
            if config.get("activation_function"):
                self.append(Activation(config["activation_function"]))
            if config.get("layer_norm", False):
                norm_bias = config.get("norm_bias", True)
                self.append(nn.LayerNorm(size, norm_epsilon(model.config), bias=norm_bias))
        self.append(nn.Dropout(dropout))
        self.append(nn.Linear(size, outputs, bias=config.get("bias", True)))
        with torch.no_grad():
            self.apply(model._init_weights)

    def forward(  # pyright: ignore[reportIncompatibleMethodOverride]
        self,
        outputs: Any,
        cls_output: torch.Tensor | None = None,
        attention_mask: torch.Tensor | None = None,
        return_dict: bool = True,
        **kwargs: Any,
    ) -> Any:
        """Compute logits, and the loss if there are labels; every type of head has its own.

        This generic one runs the layers on *outputs* if that is a tensor, else on ``outputs[0]``.

        Args:
            outputs: what the base model returned; ``outputs[0]`` is (batch, length, hidden).
            cls_output: (batch, hidden), given to heads that are :attr:`pooled`.
            attention_mask: (batch, length), 1 for tokens and 0 for padding, or ``None``.
            return_dict: always True; kept for heads written for the ``adapters`` library.
            kwargs: the head's :attr:`targets`, each possibly ``None``.

        Returns:
            Of a real head: a ``ModelOutput`` with ``loss`` (or ``None``) and logits.
        """
        return self.stack(outputs if isinstance(outputs, torch.Tensor) else outputs[0])

    def stack(self, features: torch.Tensor) -> torch.Tensor:
        """Run the layers alone: (…, hidden) -> (…, num_labels)."""
        return nn.Sequential.forward(self, features)

    @classmethod
    def from_config(cls, model: Any, head_name: str, config: Mapping[str, Any]) -> PredictionHead:
        """Make a head from :attr:`config` as it was saved.

        Raises:
            ConfigError: entries that this type of head does not know.
        """
        options = {key: value for key, value in config.items() if key != "head_type"}
        if "label2id" in options:
            options["id2label"] = invert(options.pop("label2id"))
        make: Any = cls
        try:
            return make(model, head_name, **options)
        except TypeError as error:
            raise ConfigError(f"head '{head_name}' ({cls.__name__}): {error}.") from error

    def stored_config(self) -> dict[str, Any]:
        """Return :attr:`config` as it goes to files."""
        return dict(self.config)

    def labels(self) -> dict[int, str]:
        """Return ``{id: label}``, by ascending id."""
        return dict(
            sorted((int(i), label) for label, i in (self.config.get("label2id") or {}).items())
        )


def label2id(names: Labels, count: int) -> dict[str, int]:
    """Return ``{label: id}`` for ``{id: label}``, a list, or ``None`` (LABEL_0, LABEL_1, …)."""
    if names is None:
        return {f"LABEL_{i}": i for i in range(count)}
    pairs = names.items() if isinstance(names, Mapping) else enumerate(names)
    return {str(label): int(i) for i, label in pairs}


def invert(names: Mapping[str, Any] | None) -> dict[int, str] | None:
    """Turn a saved ``label2id`` into the ``id2label`` that constructors take."""
    return None if names is None else {int(i): label for label, i in names.items()}


def hidden_size(config: Any) -> int:
    """Return the width of the base model's last hidden state.

    Raises:
        ArchitectureError: the configuration names none.
    """
    for candidate in (config, config.get_text_config()):
        size = getattr(candidate, "hidden_size", None)
        if isinstance(size, int):
            return size
        sizes = getattr(candidate, "hidden_sizes", None)
        if sizes:
            return sizes[-1]
    raise ArchitectureError(
        f"A prediction head needs the model's hidden size, and {type(config).__name__} has none."
    )


def norm_epsilon(config: Any) -> float:
    """Return the epsilon of a model's layer norms; default 1e-12."""
    for name in ("layer_norm_eps", "norm_eps"):
        value = getattr(config.get_text_config(), name, None)
        if isinstance(value, float):
            return value
    return 1e-12


def dropout_of(config: Mapping[str, Any], model_config: Any) -> float:
    """Return the dropout: the head's own, the model's for classifiers, for hidden layers, or 0."""
    candidates = (
        config.get("dropout_prob"),
        getattr(model_config, "classifier_dropout", None),
        getattr(model_config, "hidden_dropout_prob", None),
    )
    return next((float(p) for p in candidates if p is not None), 0.0)


_TYPES: dict[str, type[PredictionHead]] = {}

H = TypeVar("H", bound=type[PredictionHead])


def register_head(head_type: str, cls: H) -> H:
    """Make *cls* the class of heads of *head_type*, for building them from configurations.

    Args:
        head_type: the name in configurations; one that is registered already is replaced.
        cls: a :class:`PredictionHead` whose constructor takes ``(model, head_name, **config)``.

    Raises:
        ConfigError: *cls* is no head class.
    """
    if not (isinstance(cls, type) and issubclass(cls, PredictionHead)):
        raise ConfigError(
            f"register_head('{head_type}', …) needs a subclass of PredictionHead, not {cls!r}."
        )
    _TYPES[head_type] = cls
    return cls


def head_class(head_type: Any) -> type[PredictionHead]:
    """Return the class of a head type.

    Raises:
        UnknownAdapterError: no such type.
    """
    if head_type in _TYPES:
        return _TYPES[head_type]
    raise UnknownAdapterError(
        f"Unknown head type {head_type!r}.{did_you_mean(str(head_type), _TYPES)} "
        f"Known: {', '.join(sorted(_TYPES))}. Add others with adapterhub.heads.register_head()."
    )


def head_types() -> tuple[str, ...]:
    """Return the names of all registered head types."""
    return tuple(sorted(_TYPES))
