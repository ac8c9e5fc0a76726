"""Which base models a hub has, as models.yaml and the command line name them."""

from __future__ import annotations

from pathlib import Path

import pytest

from adapterhub.errors import HubError
from adapterhub.hub.tryit.models import read_models


def _model(folder: Path) -> Path:
    folder.mkdir(parents=True)
    (folder / "config.json").write_text("{}")
    return folder


def test_a_list_of_models_and_their_other_names(tmp_path: Path) -> None:
    _model(tmp_path / "one")
    (tmp_path / "models.yaml").write_text(
        "models:\n- id: org/One\n  path: one\n  aliases: [org/Uno]\n"
    )
    found = read_models([str(tmp_path)])
    assert len(found) == 1
    for name in ("org/One", "ORG/one", "org/uno"):
        model = found.find(name)
        assert model is not None
        assert model.path == tmp_path / "one"
    assert found.find("org/two") is None
    assert found.find(None) is None


def test_the_folder_of_one_model_answers_for_its_name(tmp_path: Path) -> None:
    _model(tmp_path / "my-bert")
    assert read_models([str(tmp_path / "my-bert")]).find("my-bert") is not None


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("models: 3\n", "a list 'models'"),
        ("- 1\n", "a list 'models'"),
        ("models: [{id: a}]\n", "needs an id and a path"),
        ("models: [{id: a, path: one, more: 1}]\n", "unknown key 'more'"),
        ("models: [{id: a, path: one, aliases: b}]\n", "aliases is a list"),
        ("models: [{id: a, path: nowhere}]\n", "is no folder"),
        ("models: [{id: a, path: one}, {id: A, path: two}]\n", "two models answer"),
        ("models: [\n", "cannot be read"),
    ],
)
def test_what_is_wrong_is_named(tmp_path: Path, text: str, said: str) -> None:
    _model(tmp_path / "one")
    _model(tmp_path / "two")
    (tmp_path / "models.yaml").write_text(text)
    with pytest.raises(HubError, match=said):
        read_models([str(tmp_path)])


def test_a_folder_without_a_model(tmp_path: Path) -> None:
    with pytest.raises(HubError, match=r"neither models\.yaml nor config\.json"):
        read_models([str(tmp_path)])
