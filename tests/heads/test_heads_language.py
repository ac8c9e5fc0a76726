"""Language-model heads: layers, losses, tied decoders, invertible adapters."""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

import pytest
import torch
import transformers
from tests.heads.conftest import randomize
from torch.nn import functional as F

from adapterhub.composition import Average, BatchSplit, MultiTask, Parallel, Route, Stack
from adapterhub.errors import CheckpointError, ConfigError
from adapterhub.heads import CausalLMHead
from adapterhub.heads.tying import tied_keys
from adapterhub.model.auto import AutoAdapterModel


def embeddings(model: Any) -> torch.Tensor:
    return model.get_input_embeddings().weight


def add_lm_head(model: Any, name: str) -> None:
    """Add the kind of head that the model's family has."""
    if model.config.is_encoder_decoder:
        model.add_seq2seq_lm_head(name)
    elif model.config.model_type in ("gpt2", "llama", "qwen3"):
        model.add_causal_lm_head(name)
    else:
        model.add_masked_lm_head(name)


@pytest.fixture
def untied(get_family: Any) -> Any:
    """A tiny GPT-2 that does not tie its embeddings."""
    config = get_family("gpt2").config()
    config.tie_word_embeddings = False
    torch.manual_seed(0)
    model = AutoAdapterModel.from_config(config)
    randomize(model)
    return model.eval()


def test_layers_are_where_files_have_them(bert: Any) -> None:
    bert.add_masked_lm_head("m")
    bert.add_causal_lm_head("c", activation_function=None, layer_norm=False)
    bert.add_causal_lm_head("one", layers=1, bias=False)
    shapes = {k: list(v.shape) for k, v in bert.heads["m"].state_dict().items()}
    assert shapes == {
        "0.weight": [16, 16],
        "0.bias": [16],
        "2.weight": [16],
        "2.bias": [16],
        "3.weight": [64, 16],
        "3.bias": [64],
    }
    assert set(bert.heads["c"].state_dict()) == {"0.weight", "0.bias", "1.weight", "1.bias"}
    assert set(bert.heads["one"].state_dict()) == {"0.weight"}
    assert bert.heads["m"].config == {
        "head_type": "masked_lm",
        "vocab_size": 64,
        "embedding_size": 16,
        "layers": 2,
        "activation_function": "gelu",
        "layer_norm": True,
        "bias": True,
        "shift_labels": False,
        "label2id": None,
    }
    assert bert.heads["m"][2].eps == bert.config.layer_norm_eps


def test_hidden_layers_have_the_width_of_the_embeddings() -> None:
    config = transformers.ElectraConfig(
        hidden_size=16,
        embedding_size=12,
        num_hidden_layers=1,
        num_attention_heads=2,
        intermediate_size=20,
        vocab_size=64,
    )
    model = AutoAdapterModel.from_config(config)
    model.add_masked_lm_head("m")
    assert model.heads["m"][0].weight.shape == (12, 16)
    assert model.heads["m"].decoder.weight is embeddings(model)
    model.add_masked_lm_head("one", layers=1)  # of the hidden size, so that it cannot be tied
    assert model.heads["one"].decoder.weight.shape == (64, 16)


def test_the_losses(get_family: Any) -> None:
    family = get_family("gpt2")
    model, inputs = family.model(), family.inputs()
    labels = inputs["input_ids"].masked_fill(inputs["attention_mask"] == 0, -100)
    model.add_causal_lm_head("c")
    output = model(**inputs, labels=labels)
    expected = F.cross_entropy(
        output.logits[:, :-1].reshape(-1, 64), labels[:, 1:].reshape(-1), ignore_index=-100
    )
    torch.testing.assert_close(output.loss, expected)
    model.add_masked_lm_head("m")
    output = model(**inputs, labels=labels)
    torch.testing.assert_close(
        output.loss, F.cross_entropy(output.logits.reshape(-1, 64), labels.reshape(-1))
    )
    assert model(**inputs).loss is None


def test_only_the_wanted_positions_are_computed(bert: Any, batch: Any) -> None:
    bert.add_masked_lm_head("m")
    with torch.no_grad():
        whole = bert(**batch).logits
        torch.testing.assert_close(bert(**batch, logits_to_keep=3).logits, whole[:, -3:])
        some = torch.tensor([0, 5])
        torch.testing.assert_close(bert(**batch, logits_to_keep=some).logits, whole[:, some])
    labelled = bert(**batch, logits_to_keep=1, labels=batch["input_ids"])
    assert labelled.logits.shape == whole.shape


def test_scale_and_cap(get_family: Any) -> None:
    family = get_family("llama")
    model, inputs = family.model(), family.inputs()
    model.add_prediction_head(CausalLMHead(model, "plain"))
    model.add_prediction_head(CausalLMHead(model, "both", scale=0.5, softcap=2.0))
    model.heads["both"].load_state_dict(model.heads["plain"].state_dict())
    with torch.no_grad():
        plain = model(**inputs, head="plain").logits
        found = model(**inputs, head="both").logits
    torch.testing.assert_close(found, 2 * torch.tanh(plain / 4))
    assert model.heads["both"].config["softcap"] == 2.0
    assert "softcap" not in model.heads["plain"].config
    with pytest.raises(ConfigError, match="unexpected option 'softcat'"):
        CausalLMHead(model, "x", softcat=2.0)


# -- tied decoders ---------------------------------------------------------------------------------


def test_decoders_are_tied_where_the_model_ties(get_family: Any, untied: Any) -> None:
    for name in ("bert", "gpt2", "t5", "bart"):
        model = get_family(name).model()
        add_lm_head(model, "a")
        assert model.heads["a"].decoder.weight is embeddings(model)
        assert model.get_output_embeddings() is model.heads["a"].decoder
        twin = copy.deepcopy(model)
        assert twin.heads["a"].decoder.weight is embeddings(twin)
        assert twin.heads["a"].decoder.weight is not embeddings(model)
    for model in (untied, get_family("llama").model()):
        model.add_causal_lm_head("a")
        assert model.heads["a"].decoder.weight is not embeddings(model)
        assert tied_keys(model) == {}


def test_training_an_adapter_leaves_the_tied_decoder_alone(bert: Any, batch: Any) -> None:
    bert.add_adapter("a")
    bert.add_masked_lm_head("a")
    bert.train_adapter("a")
    bert(**batch, labels=batch["input_ids"]).loss.backward()
    assert embeddings(bert).grad is None
    assert bert.heads["a"][0].weight.grad is not None


def test_tied_weights_are_not_stored_twice(bert: Any, batch: Any, tmp_path: Path) -> None:
    bert.add_adapter("a", set_active=True)
    bert.add_masked_lm_head("a")
    randomize(bert.heads["a"][0])
    assert "heads.a.3.weight" not in bert.head_tensors("a")
    bert.save_adapter(tmp_path / "a", "a")
    twin = AutoAdapterModel.from_config(bert.config)
    twin.base_model.load_state_dict(
        {k: v for k, v in bert.base_model.state_dict().items() if "adapterhub" not in k}
    )
    twin.eval().load_adapter(tmp_path / "a", set_active=True)
    assert twin.heads["a"].decoder.weight is embeddings(twin)
    with torch.no_grad():
        torch.testing.assert_close(twin(**batch).logits, bert(**batch).logits)


def test_a_decoder_of_its_own_survives(bert: Any, batch: Any, tmp_path: Path) -> None:
    """A head from a model that does not tie keeps its weights in one that does."""
    bert.add_masked_lm_head("a")
    tensors = {**bert.head_tensors("a"), "heads.a.3.weight": torch.randn(64, 16)}
    before = embeddings(bert).clone()
    bert.load_head_tensors("a", bert.heads["a"].config, tensors, set_active=True)
    assert torch.equal(embeddings(bert), before)
    assert torch.equal(bert.heads["a"].decoder.weight, tensors["heads.a.3.weight"])
    assert "heads.a.3.weight" in bert.head_tensors("a")
    bert.save_pretrained(tmp_path)
    again = AutoAdapterModel.from_pretrained(tmp_path)
    with torch.no_grad():
        torch.testing.assert_close(again(**batch).logits, bert(**batch).logits)
    again.tie_weights()
    assert torch.equal(again.heads["a"].decoder.weight, tensors["heads.a.3.weight"])


def test_an_untied_model_needs_the_decoder(untied: Any) -> None:
    untied.add_causal_lm_head("a")
    tensors = untied.head_tensors("a")
    assert tensors.pop("heads.a.3.weight").shape == (64, 16)
    with pytest.raises(CheckpointError, match=r"missing: heads.b.3.weight \[64, 16\]"):
        untied.load_head_tensors("b", untied.heads["a"].config, _renamed(tensors, "a", "b"))


def _renamed(tensors: dict[str, Any], old: str, new: str) -> dict[str, Any]:
    return {key.replace(f"heads.{old}.", f"heads.{new}."): v for key, v in tensors.items()}


@pytest.mark.parametrize("name", ["a", "sst-2", "x+y [1]", "a,b"])
def test_whole_models_round_trip(name: str, bert: Any, batch: Any, tmp_path: Path) -> None:
    bert.add_masked_lm_head(name)
    bert.add_masked_lm_head("other")
    randomize(bert.heads[name][0])
    bert.save_pretrained(tmp_path)
    again = AutoAdapterModel.from_pretrained(tmp_path)
    assert again.heads[name].decoder.weight is embeddings(again)
    with torch.no_grad():
        torch.testing.assert_close(
            again(**batch, head=name).logits, bert(**batch, head=name).logits
        )
    again.delete_head(name)
    assert set(again.all_tied_weights_keys) == {"heads.other.3.weight"}


def test_resized_embeddings_take_every_decoder_along(bert: Any, untied: Any) -> None:
    for model in (bert, untied):
        model.add_causal_lm_head("a")
        model.add_causal_lm_head("b", layers=1, bias=False)
        old = model.heads["a"].decoder.weight.detach().clone()
        model.resize_token_embeddings(70)
        for name in "ab":
            decoder = model.heads[name].decoder
            assert decoder.weight.shape == (70, 16)
            assert decoder.out_features == model.heads[name].config["vocab_size"] == 70
            assert (decoder.weight is embeddings(model)) == (model is bert)
        assert model.heads["a"].decoder.bias.shape == (70,)
        assert torch.equal(model.heads["a"].decoder.weight[:64], old)
        assert model(torch.tensor([[1, 2, 69]]), head="a").logits.shape == (1, 3, 70)


def test_averages_of_heads(bert: Any, batch: Any) -> None:
    for name in "ab":
        bert.add_masked_lm_head(name)
        randomize(bert.heads[name][0])
    bert.average_head("mean", ["a", "b"], weights=[1, 3], set_active=True)
    mean = bert.heads["mean"]
    torch.testing.assert_close(
        mean[0].weight, 0.25 * bert.heads["a"][0].weight + 0.75 * bert.heads["b"][0].weight
    )
    assert mean.decoder.weight is embeddings(bert)
    assert bert.active_head == "mean"
    bert.average_head("sum", ["a", "b"], weights=[1, 3], normalize_weights=False)
    torch.testing.assert_close(bert.heads["sum"][0].weight, 4 * mean[0].weight)
    bert.add_tagging_head("t")
    for names, weights, why in (
        (["a", "t"], None, "differ in type"),
        (["a", "b"], [1.0], "one weight a head"),
        (["a", "b"], [1.0, -1.0], "sum that is not 0"),
        ([], None, "a list of names"),
    ):
        with pytest.raises(ConfigError, match=why):
            bert.average_head("x", names, weights=weights)
    with pytest.raises(ConfigError, match="already"):
        bert.average_head("a", ["a", "b"])
    assert "x" not in bert.heads


def test_all_heads_are_saved(bert: Any, tmp_path: Path) -> None:
    bert.add_masked_lm_head("m")
    bert.add_tagging_head("t")
    bert.save_all_heads(tmp_path)
    twin = AutoAdapterModel.from_config(bert.config)
    for name in ("m", "t"):
        assert twin.load_head(tmp_path / name) == name
    assert list(twin.heads) == ["m", "t"]


# -- invertible adapters ---------------------------------------------------------------------------


@pytest.fixture(params=["bert", "gpt2", "t5", "bart"])
def inverted(request: Any, get_family: Any) -> tuple[Any, dict[str, torch.Tensor]]:
    """A model with two invertible adapters, a and b, and a language-model head for each."""
    family = get_family(request.param)
    model = family.model()
    for name in "ab":
        model.add_adapter(name, "seq_bn_inv[reduction_factor=4]")
        add_lm_head(model, name)
    for key, parameter in model.named_parameters():
        if "adapterhub" in key and parameter.dim() > 1:
            torch.nn.init.normal_(parameter, 0, 0.3)
    for name in "ab":
        head = model.heads[name]
        for layer in list(head)[:-1]:
            randomize(layer)
    inputs = family.inputs()
    if model.config.is_encoder_decoder:
        inputs["decoder_input_ids"] = inputs["input_ids"].flip(1)
    return model, inputs


def inverse_of(model: Any, name: str) -> Any:
    engine = model.adapter_handle.engine
    return next(
        module.inverse
        for key, module in engine.adapters[name].modules.items()
        if key.point == "embed"
    )


def test_the_input_s_adapter_is_undone_before_the_decoder(inverted: Any) -> None:
    model, inputs = inverted
    model.set_active_adapters("a")
    head = model.heads["a"]
    with torch.no_grad():
        features = model.base_model(**inputs).last_hidden_state * model._token_scale
        for layer in list(head)[:-1]:
            features = layer(features)
        expected = head.decoder(inverse_of(model, "a")(features))
        torch.testing.assert_close(model(**inputs).logits, expected)
        assert not torch.allclose(expected, head.decoder(features), atol=1e-3)
        model.set_active_adapters(None)
        plain = model.base_model(**inputs).last_hidden_state * model._token_scale
        torch.testing.assert_close(model(**inputs, head="a").logits, head.logits(plain))


def test_each_row_s_own_adapter_is_undone(inverted: Any) -> None:
    model, inputs = inverted
    with torch.no_grad():
        alone = {}
        for name in "ab":
            model.set_active_adapters(name)
            alone[name] = {head: model(**inputs, head=head).logits for head in "ab"}
        model.set_active_adapters(Parallel("a", "b"))
        output = model(**inputs)
        for i, name in enumerate("ab"):
            torch.testing.assert_close(output[i].logits, alone[name][name])
        model.set_active_adapters(BatchSplit("a", "b", batch_sizes=[1, 3]))
        output = model(**inputs)
        torch.testing.assert_close(output[0].logits, alone["a"]["a"][:1])
        torch.testing.assert_close(output[1].logits, alone["b"]["b"][1:])
        one = model(**inputs, head="a").logits
        torch.testing.assert_close(one, torch.cat([alone["a"]["a"][:1], alone["b"]["a"][1:]]))
        model.set_active_adapters(Route("a", "b"))
        routed = model(**inputs, head="a", adapter_rows=["b", "a", "a", "b"]).logits
        expected = [alone[name]["a"][i] for i, name in enumerate("baab")]
        torch.testing.assert_close(routed, torch.stack(expected))
        model.set_active_adapters(Stack("a", "b"))  # the lowest adapter meets the input
        assert model.input_inverse(slice(0, 4), 4) is not None


def test_averaged_and_task_setups_run(inverted: Any) -> None:
    model, inputs = inverted
    with torch.no_grad():
        model.set_active_adapters(Average("a", "a", weights=[0.3, 0.7]))
        mean = model(**inputs, head="a").logits
        model.set_active_adapters("a")
        torch.testing.assert_close(mean, model(**inputs, head="a").logits, atol=1e-4, rtol=1e-4)
        model.set_active_adapters(MultiTask("a", "b"))
        output = model(**inputs, head="b", task_ids=torch.tensor([0, 1, 0, 1]))
    assert output.logits.shape[-1] == 64
