"""Other vocabularies for a model, and training a few rows of one."""

from __future__ import annotations

import copy
import pickle
from pathlib import Path
from typing import Any

import pytest
import torch
import transformers as tf
from tokenizers import Tokenizer
from tokenizers.models import WordLevel
from tokenizers.pre_tokenizers import Whitespace
from torch import nn

import adapterhub
from adapterhub.errors import CheckpointError, ConfigError, UnknownAdapterError
from adapterhub.heads import ModelWithHeads
from tests import tiny

IDS = tiny.tokens()
TOKENS = ".tokens.weight"


def tokenizer(words: list[str]) -> Any:
    vocabulary = {word: index for index, word in enumerate(["[PAD]", "[UNK]", *words])}
    made = Tokenizer(WordLevel(vocabulary, unk_token="[UNK]"))
    made.pre_tokenizer = Whitespace()  # type: ignore[assignment]
    return tf.PreTrainedTokenizerFast(tokenizer_object=made, pad_token="[PAD]", unk_token="[UNK]")


OLD = tokenizer([f"w{i}" for i in range(58)])
NEW = tokenizer(["new0", "w5", "w57", "new1"])
#: NEW: [PAD] 0, [UNK] 1, new0 2, w5 3, w57 4, new1 5; in OLD w5 is 7 and w57 is 59.
PAIRS = {0: 0, 1: 1, 3: 7, 4: 59}


def t5(cls: Any = tf.T5ForConditionalGeneration) -> Any:
    torch.manual_seed(0)
    config = tf.T5Config(
        vocab_size=60, d_model=32, d_kv=8, d_ff=40, num_layers=2, num_heads=4, dropout_rate=0.0
    )
    config.decoder_start_token_id = 0
    return cls(config).eval()


def bart(cls: Any = tf.BartForConditionalGeneration) -> Any:
    torch.manual_seed(0)
    config = tf.BartConfig(
        vocab_size=60,
        d_model=32,
        encoder_layers=1,
        decoder_layers=1,
        encoder_attention_heads=4,
        decoder_attention_heads=4,
        encoder_ffn_dim=40,
        decoder_ffn_dim=40,
        max_position_embeddings=40,
        dropout=0.0,
    )
    model = cls(config).eval()
    model.final_logits_bias.normal_()
    return model


def llama_untied(cls: Any = None) -> Any:
    model = tiny.llama(cls)
    assert not model.config.tie_word_embeddings
    return model


MODELS = {
    "bert": lambda: tiny.bert(tf.BertForMaskedLM),
    "gpt2": lambda: tiny.gpt2(tf.GPT2LMHeadModel),
    "llama, untied": llama_untied,
    "t5": t5,
    "bart": bart,
    "base": tiny.bert,
}


def run(model: Any, ids: torch.Tensor) -> torch.Tensor:
    options = {"decoder_input_ids": ids} if model.config.is_encoder_decoder else {}
    return tiny.run(model, ids, **options)


def snapshot(model: Any, apart: str = "-") -> dict[str, Any]:
    """Return all there is to see of a model, but for what has *apart* in its name."""
    values = {k: v.clone() for k, v in model.state_dict().items() if apart not in k}
    return {
        "keys": list(values),
        "values": values,
        "objects": {id(p) for n, p in model.named_parameters() if apart not in n},
        "config": model.config.to_dict(),
        "shapes": [
            (type(m).__name__, getattr(m, "num_embeddings", None), getattr(m, "padding_idx", None))
            for n, m in model.named_modules()
            if apart not in n
        ],
        "output": run(model, IDS),
    }


def same(one: dict[str, Any], other: dict[str, Any]) -> bool:
    plain = all(one[key] == other[key] for key in ("keys", "objects", "config", "shapes"))
    values = all(torch.equal(one["values"][k], other["values"][k]) for k in one["values"])
    return plain and values and torch.equal(one["output"], other["output"])


@pytest.mark.parametrize("kind", MODELS)
def test_another_vocabulary_and_back_bit_for_bit(kind: str) -> None:
    model = adapterhub.init(MODELS[kind]())
    before = snapshot(model)
    model.add_embeddings("new", NEW, "default", OLD)
    assert model.active_embeddings == "new"
    assert list(model.loaded_embeddings) == ["default", "new"]
    weight = model.get_input_embeddings().weight
    assert weight.shape == (6, 32)
    assert not weight.requires_grad
    assert model.config.vocab_size == 6
    embeddings = model.get_input_embeddings()
    assert (embeddings.num_embeddings, embeddings.padding_idx) == (6, 0)
    output = model.get_output_embeddings()
    assert output is None or output.out_features == 6
    for new, old in PAIRS.items():
        assert torch.equal(weight[new], model.loaded_embeddings["default"].weight[old])
    assert 0.005 < float(weight[[2, 5]].std()) < 0.05
    ids = torch.tensor([[3, 4, 1, 0]])
    found = run(model, ids)
    model.set_active_embeddings("default")
    assert same(snapshot(model, "adapterhub"), before)
    expected = run(model, torch.tensor([[7, 59, 1, 0]]))
    if kind == "base":
        torch.testing.assert_close(found, expected)
    else:  # the scores of the tokens that both vocabularies have
        assert found.shape[-1] == 6
        torch.testing.assert_close(found[..., list(PAIRS)], expected[..., list(PAIRS.values())])
    model.set_active_embeddings("new")
    assert torch.equal(run(model, ids), found)
    model.adapter_handle.detach()
    assert same(snapshot(model), before)


def test_losses_know_the_new_vocabulary() -> None:
    for kind in ("bert", "llama, untied", "gpt2"):
        model = adapterhub.init(MODELS[kind]())
        model.add_embeddings("new", NEW)
        ids = torch.tensor([[2, 3, 5, 4]])
        assert torch.isfinite(model(input_ids=ids, labels=ids).loss)


def test_ties_hold_and_heads_follow() -> None:
    config = tiny.bert().config
    torch.manual_seed(0)
    model = adapterhub.AutoAdapterModel.from_config(config).eval()
    assert isinstance(model, ModelWithHeads)
    model.add_masked_lm_head("mlm")
    expected = run(model, IDS)
    model.add_embeddings("new", NEW, "default", OLD)
    head: Any = model.heads["mlm"]
    assert head.decoder.weight is model.get_input_embeddings().weight
    assert head.config["vocab_size"] == 6
    assert run(model, torch.tensor([[2, 3, 4]])).shape == (1, 3, 6)
    model.add_causal_lm_head("later")
    model.set_active_embeddings("default")
    assert torch.equal(tiny.run(model, IDS, head="mlm"), expected)
    assert head.config["vocab_size"] == 60
    assert tiny.run(model, IDS, head="later").shape[-1] == 60  # a bias that is younger than 'new'
    model.set_active_embeddings("new")
    assert tiny.run(model, torch.tensor([[2, 3]]), head="later").shape[-1] == 6


@pytest.mark.parametrize("kind", MODELS)
def test_saved_embeddings_come_back(kind: str, tmp_path: Path) -> None:
    model = adapterhub.init(MODELS[kind]())
    model.add_embeddings("new", NEW, "default", OLD)
    ids = torch.tensor([[2, 3, 5, 4]])
    expected = run(model, ids)
    model.set_active_embeddings("default")
    model.save_embeddings(tmp_path / "e", "new", NEW)
    fresh = adapterhub.init(MODELS[kind]())
    loaded = fresh.load_embeddings(tmp_path / "e", "mine")
    assert loaded.get_vocab() == NEW.get_vocab()
    assert fresh.active_embeddings == "mine"
    assert torch.equal(run(fresh, ids), expected)
    assert not any(p.requires_grad for name, p in fresh.named_parameters() if p.shape[:1] == (6,))


def test_files_are_those_of_the_adapters_library(tmp_path: Path) -> None:
    """It writes the parameter with torch.save and nothing else; without a tokenizer there is none."""
    model = adapterhub.init(tiny.bert(tf.BertForMaskedLM))
    value = torch.randn(60, 32)
    torch.save(nn.Parameter(value), tmp_path / "embedding.pt")
    assert model.load_embeddings(tmp_path, "theirs") is None
    assert torch.equal(model.get_input_embeddings().weight, value)
    assert model.cls.predictions.decoder.weight is model.get_input_embeddings().weight
    assert torch.equal(
        model.cls.predictions.decoder.bias, tiny.bert(tf.BertForMaskedLM).cls.predictions.bias
    )
    model.save_embeddings(tmp_path / "again", "theirs")
    again = torch.load(tmp_path / "again" / "embedding.pt", weights_only=True)
    assert isinstance(again, nn.Parameter)
    assert torch.equal(again, value)


def test_bad_files_change_nothing(tmp_path: Path) -> None:
    model = adapterhub.init(tiny.bert())
    before = snapshot(model)
    for number, (content, message) in enumerate(
        (
            (torch.zeros(5, 31), "32 dimensions"),
            (torch.zeros(5), "32 dimensions"),
            ({"a": torch.zeros(2)}, "no floating-point tensor"),
            (Path("x"), "refused"),
            (None, "no embedding.pt"),
        )
    ):
        folder = tmp_path / str(number)
        folder.mkdir()
        if content is not None:
            torch.save(content, folder / "embedding.pt")
        with pytest.raises(CheckpointError, match=message):
            model.load_embeddings(folder, "x")
    with pytest.raises(UnknownAdapterError, match="Did you mean 'default'"):
        model.set_active_embeddings("defaults")
    with pytest.raises(ConfigError, match="cannot be deleted"):
        model.delete_embeddings("default")
    for options, message in (
        ({"embedding_dim": 31}, "32 wide"),
        ({"reference_embedding": "default"}, "needs both"),
        ({"reference_tokenizer": OLD}, "needs both"),
    ):
        with pytest.raises(ConfigError, match=message):
            model.add_embeddings("x", NEW, **options)
    with pytest.raises(ConfigError, match="already"):
        model.add_embeddings("default", NEW)
    assert same(snapshot(model), before)


def test_deleting_and_copying() -> None:
    model = adapterhub.init(tiny.bert(tf.BertForMaskedLM))
    before = snapshot(model)
    model.add_embeddings("new", NEW)
    ids = torch.tensor([[2, 3, 5]])
    expected = run(model, ids)
    for twin in (copy.deepcopy(model), pickle.loads(pickle.dumps(model))):
        assert torch.equal(run(twin, ids), expected)
        assert twin.active_embeddings == "new"
        twin.set_active_embeddings("default")
        assert torch.equal(run(twin, IDS), before["output"])
    assert torch.equal(run(model, ids), expected)
    model.to(torch.float64)
    model.delete_embeddings("new")
    assert model.active_embeddings == "default"
    assert model.get_input_embeddings().weight.dtype is torch.float64
    with pytest.raises(UnknownAdapterError):
        model.set_active_embeddings("new")


@pytest.mark.parametrize("kind", MODELS)
def test_only_the_chosen_rows_are_trained(kind: str) -> None:
    model = adapterhub.init(MODELS[kind]())
    before = snapshot(model)
    model.add_adapter("a", config="lora")
    model.train_adapter("a", train_embeddings=[7, 3])
    trained = {n for n, p in model.named_parameters() if p.requires_grad}
    rows = [p for n, p in model.named_parameters() if p.requires_grad and TOKENS in n]
    assert [tuple(p.shape) for p in rows] == [(2, 32)]
    model.train_adapter("a")
    less = {n for n, p in model.named_parameters() if p.requires_grad}
    assert [name for name in trained - less if TOKENS not in name] == []
    assert less < trained
    model.train_adapter("a", train_embeddings=[7, 3])
    rows = [p for n, p in model.named_parameters() if p.requires_grad and TOKENS in n]
    model.eval()
    torch.testing.assert_close(run(model, IDS), before["output"])  # nothing is learned yet
    ids = torch.tensor([[7, 20, 3, 4]])
    options = {"decoder_input_ids": ids} if model.config.is_encoder_decoder else {}
    optimizer = torch.optim.AdamW(rows, lr=0.1, weight_decay=0.5)
    model(ids, **options)[0].pow(2).mean().backward()
    optimizer.step()
    # It acts as the model does whose matrix has these rows.
    twin = MODELS[kind]()
    with torch.no_grad():
        twin.get_input_embeddings().weight[torch.tensor([3, 7])] = rows[0]
    torch.testing.assert_close(run(model, ids), run(twin, ids), atol=1e-5, rtol=1e-5)
    assert not torch.allclose(run(model, ids), run(MODELS[kind](), ids))
    model.adapter_handle.detach()
    assert same(snapshot(model), before)


def test_new_rows_of_a_vocabulary(tmp_path: Path) -> None:
    model = adapterhub.init(tiny.bert(tf.BertForMaskedLM))
    model.add_adapter("a")
    with pytest.raises(ConfigError, match="no rows to train"):
        model.train_adapter("a", train_embeddings="new")
    with pytest.raises(ConfigError, match="60 is no id of the 60 tokens"):
        model.train_adapter("a", train_embeddings=[3, 60])
    assert model.active_adapters is None
    model.add_embeddings("new", NEW, "default", OLD)
    model.train_adapter("a", train_embeddings="new")
    (rows,) = [p for n, p in model.named_parameters() if p.requires_grad and TOKENS in n]
    assert rows.shape == (2, 32)
    with torch.no_grad():
        rows.add_(1.0)
    model.eval()
    ids = torch.tensor([[2, 3, 5]])
    expected = run(model, ids)
    model.set_active_embeddings("default")
    assert run(model, IDS).shape[-1] == 60
    model.save_embeddings(tmp_path / "e", "new")
    model.set_active_embeddings("new")
    assert torch.equal(run(model, ids), expected)
    twin = copy.deepcopy(model)
    assert torch.equal(run(twin, ids), expected)
    model.train_token_rows([3])  # one more; the others keep their values
    torch.testing.assert_close(run(model, ids), expected)
    model.reset_token_rows()
    assert not torch.allclose(run(model, ids), expected)
    model.load_embeddings(tmp_path / "e", "trained")
    model.set_active_adapters("a")
    torch.testing.assert_close(run(model, ids), expected)


def test_a_model_in_use_is_saved_as_it_is(tmp_path: Path) -> None:
    """The vocabulary in use becomes the saved model's own; the others are files of their own."""
    model = adapterhub.init(tiny.bert(tf.BertForMaskedLM))
    model.add_embeddings("new", NEW, "default", OLD)
    model.save_pretrained(tmp_path)
    plain = tf.BertForMaskedLM.from_pretrained(tmp_path).eval()
    assert plain.config.vocab_size == 6
    ids = torch.tensor([[2, 3, 5]])
    assert torch.equal(run(plain, ids), run(model, ids))


def test_trained_rows_are_in_the_checkpoints_of_a_training(tmp_path: Path) -> None:
    trainer = pytest.importorskip("adapterhub.training.trainer")
    models = []
    for _ in range(2):
        model = adapterhub.init(tiny.bert(tf.BertForMaskedLM))
        model.add_adapter("a")
        model.train_adapter("a", train_embeddings=[3, 9])
        models.append(model)
    for parameter in models[0].parameters():
        if parameter.requires_grad:
            nn.init.normal_(parameter, std=0.3)
    trainer.write_checkpoint(models[0], tmp_path)
    trainer.read_checkpoint(models[1], tmp_path)
    one, other = (run(model.eval(), torch.tensor([[3, 9, 4]])) for model in models)
    assert torch.equal(one, other)


def test_trained_rows_compile() -> None:
    model = adapterhub.init(tiny.gpt2(tf.GPT2LMHeadModel))
    model.train_token_rows([3, 9])
    with torch.no_grad():
        next(p for n, p in model.named_parameters() if TOKENS in n).normal_()
    ids = torch.tensor([[3, 9, 4]])
    expected = run(model, ids)
    compiled = torch.compile(model, backend="eager", fullgraph=True)
    torch.testing.assert_close(run(compiled, ids), expected)


def test_rows_meet_adapters_of_the_input() -> None:
    """An invertible adapter sees the trained rows, in whichever order the two came."""
    found = []
    for rows_first in (True, False):
        model = adapterhub.init(tiny.llama(tf.LlamaModel))
        if rows_first:
            model.train_token_rows([7])
        model.add_adapter("a", config="seq_bn_inv")
        tiny.randomize(model, "a")
        model.set_active_adapters("a")
        if not rows_first:
            model.train_token_rows([7])
        (rows,) = [p for n, p in model.named_parameters() if TOKENS in n]
        with torch.no_grad():
            rows.fill_(0.5)
        found.append(run(model, torch.tensor([[7, 8]])))
    torch.testing.assert_close(found[0], found[1])


def test_scaled_embeddings() -> None:
    torch.manual_seed(0)
    config = tf.Gemma3TextConfig(
        vocab_size=60,
        hidden_size=32,
        intermediate_size=40,
        num_hidden_layers=1,
        num_attention_heads=4,
        num_key_value_heads=2,
        head_dim=8,
    )
    model = adapterhub.init(tf.Gemma3TextModel(config).eval())
    expected = run(model, IDS)
    model.train_token_rows(IDS[0].unique().tolist())
    torch.testing.assert_close(run(model, IDS), expected)


def test_models_without_words_say_so() -> None:
    torch.manual_seed(0)
    config = tf.ViTConfig(
        hidden_size=32,
        num_hidden_layers=1,
        num_attention_heads=4,
        intermediate_size=40,
        image_size=8,
        patch_size=4,
    )
    model = adapterhub.init(tf.ViTModel(config))
    with pytest.raises(adapterhub.ArchitectureError, match="embeds no token ids"):
        model.add_embeddings("x", NEW)
    model.adapter_handle.detach()
