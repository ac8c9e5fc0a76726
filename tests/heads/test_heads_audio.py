"""Heads on sound against transformers' own classes."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
import transformers
from tests.heads.conftest import BERT, randomize

from adapterhub.errors import ConfigError
from adapterhub.heads.audio import frame_mask
from adapterhub.model.auto import AutoAdapterModel

CONFIG: dict[str, Any] = {
    **BERT,
    "vocab_size": 24,
    "conv_dim": [8, 8],
    "conv_stride": [3, 2],
    "conv_kernel": [5, 3],
    "num_feat_extract_layers": 2,
    "num_conv_pos_embeddings": 4,
    "num_conv_pos_embedding_groups": 2,
    "classifier_proj_size": 12,
    "num_labels": 5,
    "pad_token_id": 0,
}


def sound() -> dict[str, torch.Tensor]:
    mask = torch.ones(2, 160, dtype=torch.long)
    mask[1, 100:] = 0
    values = torch.randn(2, 160, generator=torch.Generator().manual_seed(0))
    return {"input_values": values * mask, "attention_mask": mask}


def task(stem: str, ending: str, tmp_path: Path) -> tuple[Any, Any]:
    """Return a task model, and the same as a model of ours."""
    torch.manual_seed(0)
    config = getattr(transformers, f"{stem}Config")(**CONFIG)
    model = getattr(transformers, stem + ending)(config).eval()
    randomize(model)
    model.save_pretrained(tmp_path)
    return model, AutoAdapterModel.from_pretrained(tmp_path)


@pytest.mark.parametrize("stem", ["Wav2Vec2", "Hubert"])
def test_classification(stem: str, tmp_path: Path) -> None:
    theirs, ours = task(stem, "ForSequenceClassification", tmp_path)
    assert ours.heads["default"].config["projection_size"] == 12
    labels = torch.tensor([1, 4])
    with torch.no_grad():
        expected, found = theirs(**sound(), labels=labels), ours(**sound(), labels=labels)
        torch.testing.assert_close(found.logits, expected.logits)
        torch.testing.assert_close(found.loss, expected.loss)


def test_transcription(tmp_path: Path) -> None:
    theirs, ours = task("Wav2Vec2", "ForCTC", tmp_path)
    labels = torch.tensor([[3, 4, 5], [6, -100, -100]])
    with torch.no_grad():
        expected, found = theirs(**sound(), labels=labels), ours(**sound(), labels=labels)
    torch.testing.assert_close(found.logits, expected.logits)
    torch.testing.assert_close(found.loss, expected.loss)


def test_fresh_heads(tmp_path: Path) -> None:
    _, ours = task("Wav2Vec2", "ForCTC", tmp_path)
    ours.add_audio_classification_head("c", 3, id2label=["dog", "cat", "bird"])
    assert ours(**sound()).logits.shape == (2, 3)
    assert ours.get_labels() == ["dog", "cat", "bird"]
    ours.add_audio_classification_head("r", 1, layers=3, activation_function="relu")
    assert ours(**sound(), labels=torch.tensor([0.5, 1.0])).loss.isfinite()
    ours.add_ctc_head("t", vocab_size=9)
    assert ours(**sound()).logits.shape[-1] == 9
    ours.save_pretrained(tmp_path / "all")
    again = AutoAdapterModel.from_pretrained(tmp_path / "all")
    with torch.no_grad():
        torch.testing.assert_close(again(**sound()).logits, ours(**sound()).logits)
    for options in ({"num_labels": 0}, {"projection_size": -1}):
        with pytest.raises(ConfigError, match="positive integer"):
            ours.add_audio_classification_head("x", **options)
    with pytest.raises(ConfigError, match="positive integer"):
        ours.add_ctc_head("x", vocab_size=0)
    assert "x" not in ours.heads


def test_masks_that_are_frames_already() -> None:
    features = torch.zeros(2, 6, 4)
    mask = torch.tensor([[1] * 6, [1, 1, 0, 0, 0, 0]])
    found = frame_mask(None, features, mask)
    assert found is not None
    assert torch.equal(found, mask.bool())
    assert frame_mask(None, features, torch.ones(2, 60)) is None
    assert frame_mask(None, features, None) is None
