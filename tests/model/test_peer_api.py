"""Every public method of models in ``adapters`` 1.3.0 is here, under its name and with its arguments."""

from __future__ import annotations

import inspect
from pathlib import Path
from typing import Any

import pytest
import torch
import transformers as tf

import adapterhub
from adapterhub import AdapterSetup, Route, Stack
from adapterhub.context import Context
from adapterhub.errors import ConfigError, HubError, UnknownAdapterError
from tests import tiny

#: Which models have it there (b: base models, s: task classes, f: those with heads by name), name, arguments.
METHODS = """
bsf active_adapters
bsf active_embeddings
f active_head
bsf adapter_fusion_to(adapter_names device dtype)
b adapter_interface
bsf adapter_summary(as_dict)
bsf adapter_to(name device dtype)
bsf add_adapter(adapter_name config overwrite_ok set_active)
bsf add_adapter_fusion(adapter_names config name overwrite_ok set_active)
bsf add_base_adapters
f add_causal_lm_head(head_name activation_function layers overwrite_ok)
f add_classification_head(head_name num_labels layers activation_function overwrite_ok multilabel \
    id2label use_pooler)
f add_custom_head(head_type head_name overwrite_ok set_active)
f add_dependency_parsing_head(head_name num_labels overwrite_ok id2label)
bsf add_embeddings(name tokenizer reference_embedding reference_tokenizer)
f add_image_classification_head(head_name num_labels layers activation_function overwrite_ok multilabel \
    id2label use_pooler)
b add_invertible_adapter(adapter_name)
f add_masked_lm_head(head_name activation_function layers overwrite_ok)
f add_multiple_choice_head(head_name num_choices layers activation_function overwrite_ok id2label \
    use_pooler)
f add_prediction_head(head overwrite_ok set_active)
f add_prediction_head_from_config(head_name config overwrite_ok set_active)
f add_qa_head(head_name num_labels layers activation_function overwrite_ok id2label)
f add_seq2seq_lm_head(head_name layers overwrite_ok)
f add_tagging_head(head_name num_labels layers activation_function overwrite_ok id2label)
bsf apply_to_adapter_layers(fn)
bsf apply_to_basemodel_childs(fn)
bsf average_adapter(adapter_name adapter_list weights combine_strategy normalize_weights overwrite_ok \
    set_active svd_rank)
sf average_head(head_name head_list weights normalize_weights overwrite_ok set_active)
bsf delete_adapter(adapter_name)
bsf delete_adapter_fusion(adapter_names)
bsf delete_embeddings(name)
f delete_head(head_name)
b delete_invertible_adapter(adapter_name)
bsf eject_prefix_tuning(name)
b enable_invertible_adapters(adapter_names)
bsf forward_context(context)
f forward_head(all_outputs head_name cls_output attention_mask return_dict context)
sf freeze_embeddings(freeze)
bsf freeze_model(freeze)
bsf get_adapter(name)
bsf get_fusion_regularization_loss()
b get_invertible_adapter()
sf get_labels(head_name)
sf get_labels_dict(head_name)
b get_layer(idx)
f get_prediction_heads_config()
bsf gradient_checkpointing_enable(gradient_checkpointing_kwargs)
bsf has_adapters()
bsf has_parallel_adapters
f head_type(head_type_str)
f head_types
bsf init_adapters(model_config adapters_config)
b invertible_adapters_forward(hidden_states rev)
b iter_attentions()
b iter_layer_ffns()
bsf iter_layers()
bsf load_adapter(adapter_name_or_path config version model_name load_as with_head custom_weights_loaders \
    leave_out id2label set_active use_safetensors)
bsf load_adapter_fusion(adapter_fusion_name_or_path load_as custom_weights_loaders set_active with_head \
    use_safetensors)
bsf load_adapter_setup(adapter_setup_name_or_path version custom_weights_loaders set_active \
    use_safetensors)
bsf load_embeddings(path name)
sf load_head(save_directory load_as id2label use_safetensors)
sf loaded_embeddings
bsf merge_adapter(name)
bsf model_name
b post_embedding_forward(module args embedding_output)
bsf push_adapter_setup_to_hub(repo_id adapter_setup head_setup datasets_tag local_path commit_message \
    private token overwrite_adapter_card create_pr revision commit_description adapter_card_kwargs)
bsf push_adapter_to_hub(repo_id adapter_name datasets_tag local_path commit_message private token \
    overwrite_adapter_card create_pr revision commit_description adapter_card_kwargs)
f register_custom_head(identifier head)
bsf reset_adapter()
bsf save_adapter(save_directory adapter_name with_head meta_dict custom_weights_loaders use_safetensors)
bsf save_adapter_fusion(save_directory adapter_names meta_dict custom_weights_loaders with_head \
    use_safetensors)
bsf save_adapter_setup(save_directory adapter_setup head_setup meta_dict custom_weights_loaders \
    use_safetensors)
bsf save_all_adapter_fusions(save_directory meta_dict custom_weights_loaders use_safetensors)
bsf save_all_adapters(save_directory with_head meta_dict custom_weights_loaders use_safetensors)
sf save_all_heads(save_directory use_safetensors)
bsf save_embeddings(path name tokenizer)
sf save_head(save_directory head_name use_safetensors)
bsf save_pretrained(save_directory)
bsf set_active_adapters(adapter_setup skip_layers)
bsf set_active_embeddings(name)
bsf set_shared_parameters(param)
bsf share_parameters(adapter_names name reference_adapter_name)
bsf support_lora_delta_w_svd
bsf support_prompt_tuning
bsf supports_adapter(type_or_config)
bsf train_adapter(adapter_setup train_embeddings)
bsf train_adapter_fusion(adapter_setup unfreeze_adapters)
bsf unshare_parameters(adapter_names name)
f use_pooler
"""


def bert(kind: str) -> Any:
    if kind == "b":
        return adapterhub.init(tiny.bert())
    if kind == "s":
        return adapterhub.init(tiny.bert(tf.BertForSequenceClassification))
    return adapterhub.BertAdapterModel(tiny.bert().config).eval()


@pytest.mark.parametrize("kind", "bsf")
def test_methods_and_their_arguments(kind: str) -> None:
    model = bert(kind)
    wrong = []
    for line in METHODS.strip().splitlines():
        kinds, _, rest = line.partition(" ")
        name, call, arguments = rest.partition("(")
        if kind not in kinds:
            continue
        if not hasattr(model, name):
            wrong.append(f"{name} is missing")
        elif call:
            own = list(inspect.signature(getattr(model, name)).parameters)
            wanted = arguments.rstrip(")").split()
            if own[: len(wanted)] != wanted and "args" not in own:
                wrong.append(f"{name}{own} instead of {wanted}")
    assert wrong == []


# -- what they do --------------------------------------------------------------------------------------


def ready(kind: str = "b", config: str = "seq_bn_inv") -> Any:
    model = bert(kind)
    for name in ("a", "b"):
        model.add_adapter(name, config=config)
    tiny.randomize(model, "a", "b")
    return model


def test_a_setup_for_one_call() -> None:
    model = ready()
    with AdapterSetup(Stack("a", "b")):
        expected = tiny.run(model, tiny.tokens())
    plain = tiny.run(model, tiny.tokens())
    with pytest.warns(FutureWarning, match="with AdapterSetup"):
        found = tiny.run(model, tiny.tokens(), adapter_names=["a", "b"])
    assert torch.equal(found, expected)
    assert torch.equal(tiny.run(model, tiny.tokens()), plain)
    assert torch.equal(tiny.run(model, tiny.tokens(), adapter_names=None), plain)
    with pytest.warns(FutureWarning, match=r"Stack\('a', 'b'\)"):
        assert torch.equal(tiny.run(model, tiny.tokens(), adapter_names=[["a"], ["b"]]), expected)
    for rows in (["a", "b", "a"], ["a", "__base__", "b"]):
        with pytest.raises(ConfigError, match="adapter_rows"):
            model(tiny.tokens(), adapter_names=rows)
    with (
        pytest.warns(FutureWarning),
        pytest.raises(UnknownAdapterError),
    ):
        model(tiny.tokens(), adapter_names="nobody")


def test_looking_through_places() -> None:
    model = ready()
    assert [number for number, _ in model.iter_layers()] == [0, 1]
    assert model.get_layer(1) is model.encoder.layer[1]
    attentions = list(model.iter_attentions())
    assert [(number, kind) for number, kind, _ in attentions] == [(0, "self"), (1, "self")]
    assert attentions[0][2] is model.encoder.layer[0].attention.self
    found = {(number, kind): module for number, kind, module in model.iter_layer_ffns()}
    assert found[0, "intermediate"] is model.encoder.layer[0].intermediate.dense
    assert found[1, "output"] is model.encoder.layer[1].output.dense
    seen: list[int] = []
    model.apply_to_adapter_layers(lambda number, layer: seen.append(number))
    assert seen == [0, 1]
    layers: list[Any] = []
    model.apply_to_adapter_layers(lambda number, layer: layers.append(layer))
    assert all(isinstance(layer, adapterhub.AdapterLayerBase) for layer in layers)
    assert all({"a", "b"} <= set(dict(layer.named_children())) for layer in layers)
    model.apply_to_basemodel_childs(lambda number, layer: seen.append(number))
    assert seen == [0, 1, -1]
    t5 = adapterhub.init(
        tf.T5Model(
            tf.T5Config(d_model=16, d_kv=8, d_ff=20, num_layers=1, num_heads=2, vocab_size=40)
        )
    )
    kinds = [(number, kind) for number, kind, _ in t5.iter_attentions()]
    assert kinds == [(0, "self"), (1, "self"), (1, "cross")]


def test_invertible_adapters_by_themselves(tmp_path: Path) -> None:
    model = ready()
    states = torch.randn(2, 5, 32)
    assert model.get_invertible_adapter() is None
    assert torch.equal(model.invertible_adapters_forward(states), states)
    model.set_active_adapters(Stack("b", "a"))
    assert model.get_invertible_adapter() is next(
        module
        for layer in model.get_adapter("b").values()
        for name, module in layer.items()
        if name == "invertible"
    )
    there = model.invertible_adapters_forward(states)
    assert not torch.allclose(there, states, atol=1e-3)
    torch.testing.assert_close(
        model.invertible_adapters_forward(there, rev=True), states, atol=1e-4, rtol=1e-4
    )
    assert torch.equal(model.post_embedding_forward(None, (), states), there)
    model.freeze_model()
    model.enable_invertible_adapters(["a"])
    trained = {name for name, p in model.named_parameters() if p.requires_grad}
    assert trained
    assert all(".a." in name and "layer" not in name for name in trained)
    model.delete_invertible_adapter("b")
    assert model.active_adapters == Stack("b", "a")
    assert model.get_invertible_adapter() is None
    without = tiny.run(model, tiny.tokens())
    model.save_adapter(tmp_path / "b", "b")
    model.load_adapter(tmp_path / "b")
    model.set_active_adapters(Stack("b", "a"))
    assert torch.equal(tiny.run(model, tiny.tokens()), without)
    assert model.adapters_config.get("b").inv_adapter is None
    model.delete_invertible_adapter("a")
    assert model.add_invertible_adapter("a") is True
    assert model.adapters_config.get("a").inv_adapter == "nice"
    assert model.add_invertible_adapter("a") is True
    assert model.add_invertible_adapter("b") is False


def test_shared_parameters_can_be_set() -> None:
    model = ready(config="compacter[reduction_factor=4]")
    model.set_active_adapters("a")
    expected = tiny.run(model, tiny.tokens())
    (name, rule), *_ = [
        (name.rpartition(".")[2], parameter)
        for name, parameter in model.named_parameters()
        if "shared" in name and ".a." in name
    ]
    value = torch.nn.Parameter(rule.detach() + 0.5)
    model.set_shared_parameters({"a": {name: value}})
    assert not torch.allclose(tiny.run(model, tiny.tokens()), expected, atol=1e-4)
    with pytest.raises(ConfigError, match="shared parameter 'nothing'"):
        model.set_shared_parameters({"a": {name: rule, "nothing": value}})
    assert any(parameter is value for parameter in model.parameters())


def test_steps_of_a_forward_pass() -> None:
    model = ready("f", "seq_bn")
    for name in ("a", "b"):
        model.add_classification_head(name)
    model.set_active_adapters(Route("a", "b"))
    rows = ["b", "a", "b"]
    context = Context()
    model.forward_context(context, task_ids=rows)
    assert context.rows is not None
    assert context.rows.tolist() == [1, 0, 1]
    model.set_active_adapters("a")
    outputs = model.bert(tiny.tokens())
    expected = model(tiny.tokens(), labels=torch.tensor([0, 1, 0]))
    found = model.forward_head(outputs, labels=torch.tensor([0, 1, 0]))
    torch.testing.assert_close(found[0], expected.loss)
    again = model.forward_head(tuple(outputs.values()), "a", return_dict=True)
    torch.testing.assert_close(again.logits, expected.logits)
    other = model.forward_head(outputs, "a", cls_output=outputs[0][:, 1], return_dict=True)
    torch.testing.assert_close(other.logits, model.heads["a"].stack(outputs[0][:, 1]))
    model.active_head = None
    with pytest.raises(ConfigError, match="head"):
        model.forward_head(outputs)
    assert {"classification", "tagging"} <= set(model.head_types)
    assert model.use_pooler is False
    model.average_head("mean", {"a": 0.5, "b": 0.5})

    @model.head_type("no such type")
    def add() -> None: ...

    with pytest.raises(UnknownAdapterError, match="no such type"):
        add()


def test_methods_about_the_one_head_of_a_task_class(tmp_path: Path) -> None:
    model = ready("s")
    assert model.get_labels() == ["LABEL_0", "LABEL_1"]
    assert model.get_labels_dict() == {0: "LABEL_0", 1: "LABEL_1"}
    model.save_all_heads(tmp_path / "h")
    assert (tmp_path / "h" / "head_config.json").is_file()
    with pytest.raises(ConfigError, match="one head"):
        model.average_head("x", ["a", "b"])
    assert not hasattr(bert("b"), "active_head")


def test_adding_what_a_configuration_lists() -> None:
    model, other = ready(), bert("b")
    other.init_adapters(other.config, model.adapters_config)
    assert set(other.adapters_config) == {"a", "b"}


# -- publishing ----------------------------------------------------------------------------------------


class Server:
    """Stands for the Hugging Face hub: keeps what is uploaded in a folder, gives it back."""

    def __init__(self, root: Path) -> None:
        self.root, self.calls = root, []

    def __call__(self, token: Any = None) -> Server:
        return self

    def create_repo(self, repo_id: str, **options: Any) -> Any:
        self.calls.append(("create", repo_id, options))
        return type("Url", (), {"repo_id": repo_id if "/" in repo_id else f"me/{repo_id}"})

    def upload_folder(self, repo_id: str, folder_path: Path, **options: Any) -> Any:
        import shutil

        self.calls.append(("upload", repo_id, options))
        shutil.copytree(folder_path, self.root / repo_id)
        return type("Commit", (), {"pr_url": None, "commit_url": f"https://hub/{repo_id}/commit/1"})

    def snapshot_download(self, repo_id: str, revision: str | None = None, **_: Any) -> str:
        self.calls.append(("download", repo_id, revision))
        if not (self.root / repo_id).is_dir():
            raise OSError(f"404: there is no {repo_id}\nand more")
        return str(self.root / repo_id)


@pytest.fixture
def server(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Server:
    import huggingface_hub

    made = Server(tmp_path / "server")
    monkeypatch.setattr(huggingface_hub, "HfApi", made)
    monkeypatch.setattr(huggingface_hub, "snapshot_download", made.snapshot_download)
    monkeypatch.setenv("ADAPTERHUB_HUB", str(tmp_path / "hub"))
    monkeypatch.setenv("ADAPTERHUB_CACHE", str(tmp_path / "cache"))
    return made


def test_through_the_hugging_face_hub(server: Server) -> None:
    model = ready("f")
    model.add_classification_head("a")
    model.config.name_or_path = "google-bert/bert-base-uncased"
    words = {"language": "en", "license": "apache-2.0", "metrics": ["f1"], "results": "91 %"}
    found = model.push_adapter_to_hub(
        "me/sentiment", "a", datasets_tag="imdb", private=True, adapter_card_kwargs=words
    )
    assert found == "https://hub/me/sentiment/commit/1"
    assert server.calls[0] == ("create", "me/sentiment", {"private": True, "exist_ok": True})
    assert server.calls[1][2]["commit_message"] == "Add adapter a"
    folder = server.root / "me" / "sentiment"
    assert {path.name for path in folder.iterdir()} == {
        "README.md",
        "adapter.safetensors",
        "adapter_config.json",
        "head_config.json",
        "model_head.safetensors",
    }
    _, front, text = (folder / "README.md").read_text().split("---\n")
    import yaml

    assert yaml.safe_load(front) == {
        "tags": ["adapter-transformers", "adapterhub", "bert"],
        "base_model": "google-bert/bert-base-uncased",
        "datasets": ["imdb"],
        "language": "en",
        "license": "apache-2.0",
        "metrics": ["f1"],
    }
    assert 'model.load_adapter("me/sentiment", source="hf", set_active=True)' in text
    assert "91 %" in text
    other = bert("f")
    assert other.load_adapter("me/sentiment", version="v1", source="hf", set_active=True) == "a"
    assert server.calls[-1] == ("download", "me/sentiment", "v1")
    assert other.active_head == "a"
    assert (
        other.load_adapter("me/sentiment", load_as="again") == "again"
    )  # (no such task in the hub)
    with pytest.raises(HubError, match=r"404: there is no me/nothing$"):
        other.load_adapter("me/nothing", source="hf")
    with pytest.raises(HubError, match=r"(?s)as an identifier.*404"):
        other.load_adapter("me/nothing")
    with pytest.raises(HubError, match="as an identifier"):
        other.load_adapter("me/nothing", source="ah")
    with pytest.raises(ConfigError, match="source is one of ah, hf"):
        other.load_adapter("me/nothing", source="gh")


def test_setups_through_the_hugging_face_hub(server: Server, tmp_path: Path) -> None:
    model = ready()
    (tmp_path / "kept").mkdir()
    (tmp_path / "kept" / "README.md").write_text("my own words")
    for overwrite in (False, True):
        model.push_adapter_setup_to_hub(
            f"me/stack-{overwrite}",
            Stack("a", "b"),
            local_path=str(tmp_path / "kept"),
            overwrite_adapter_card=overwrite,
        )
    assert (server.root / "me/stack-False/README.md").read_text() == "my own words"
    assert "load_adapter_setup(" in (server.root / "me/stack-True/README.md").read_text()
    tree, _ = bert("b").load_adapter_setup("me/stack-True", source="hf", set_active=True)
    assert tree == Stack("a", "b")
    with pytest.raises(HubError, match="place for one adapter"):
        model.push_adapter_setup_to_hub("a/b@c", Stack("a", "b"))


def test_through_a_hub_folder(server: Server, tmp_path: Path) -> None:
    adapterhub.Hub.init(tmp_path / "hub")
    model = ready()
    options = {"base_model": "bert-tiny", "license": "Apache-2.0", "metrics": {"accuracy": 0.9}}
    found = model.push_adapter_to_hub("sentiment/imdb@me", "a", adapter_card_kwargs=options)
    assert found.startswith("@me/")
    assert not server.calls
    assert bert("b").load_adapter("sentiment/imdb@me", load_as="x") == "x"
    assert bert("b").load_adapter(found, source="ah") == "a"
    with pytest.raises(HubError, match="task/subtask@owner"):
        model.push_adapter_to_hub("imdb@me", "a")
    with pytest.raises(UnknownAdapterError):
        model.push_adapter_to_hub("sentiment/imdb@me", "c")
