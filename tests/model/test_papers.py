"""Code as it is printed in the papers and in scripts for the ``adapters`` library, on tiny local models.

Every section is a listing with its names replaced by local ones; old spellings must warn and name
today's.
"""

from __future__ import annotations

import dataclasses
import importlib
from pathlib import Path
from typing import Any

import pytest
import torch
import transformers as tf
from tokenizers import Tokenizer
from tokenizers.models import WordLevel
from tokenizers.pre_tokenizers import Whitespace
from transformers import AutoModelForSequenceClassification, AutoTokenizer

import adapterhub as adapters
from adapterhub import Fuse, Stack
from adapterhub.errors import AdapterHubError, ConfigError
from tests import tiny

OPTIONS: dict[str, Any] = {
    "hidden_size": 32,
    "num_hidden_layers": 3,
    "num_attention_heads": 4,
    "intermediate_size": 40,
    "vocab_size": 60,
    "max_position_embeddings": 40,
    "hidden_dropout_prob": 0.0,
    "attention_probs_dropout_prob": 0.0,
    "pad_token_id": 1,
}
SENTENCE = "w3 w4 w5 w6"


def today(text: str) -> Any:
    """Expect a warning that names today's spelling."""
    return pytest.warns(FutureWarning, match=text)


@pytest.fixture(scope="module")
def roberta(tmp_path_factory: pytest.TempPathFactory) -> str:
    """A folder with a tiny RoBERTa and its tokenizer, in the place of "roberta-base"."""
    folder = tmp_path_factory.mktemp("models") / "roberta-tiny"
    torch.manual_seed(0)
    tf.RobertaModel(tf.RobertaConfig(**OPTIONS)).save_pretrained(folder)
    words = ["<s>", "<pad>", "</s>", "<unk>", "<mask>", *(f"w{i}" for i in range(55))]
    made = Tokenizer(WordLevel({w: i for i, w in enumerate(words)}, unk_token="<unk>"))
    made.pre_tokenizer = Whitespace()  # type: ignore[assignment]
    tokenizer = tf.PreTrainedTokenizerFast(
        tokenizer_object=made, pad_token="<pad>", unk_token="<unk>", mask_token="<mask>"
    )
    tokenizer.save_pretrained(folder)
    return str(folder)


@pytest.fixture(scope="module")
def published(roberta: str, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A hub with the adapters that the papers load."""
    root = tmp_path_factory.mktemp("hub")
    hub = adapters.Hub.init(root / "hub")
    model = adapters.AutoAdapterModel.from_pretrained(roberta)
    shelf = [
        ("sentiment", "sst-2", "seq_bn", 2),
        ("nli", "multinli", "seq_bn", 3),
        ("sts", "qqp", "seq_bn", 2),
        ("qa", "squad1", "double_seq_bn", 0),
        ("en", "wiki", "seq_bn_inv", 0),
        ("sw", "wiki", "seq_bn_inv", 0),
    ]
    for number, (task, subtask, config, labels) in enumerate(shelf):
        name = task if subtask == "wiki" else subtask
        model.add_adapter(name, config=config)
        tiny.randomize(model, name, std=0.2 + number / 20)
        if labels:
            model.add_classification_head(name, num_labels=labels)
        elif subtask == "squad1":
            model.add_qa_head(name)
        model.save_adapter(root / name, name)
        hub.publish(
            root / name,
            task=task,
            subtask=subtask,
            owner="ukp",
            base_model="roberta-tiny",
            type="text_lang" if subtask == "wiki" else "text_task",
        )
    return root


@pytest.fixture(autouse=True)
def _use_hub(published: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ADAPTERHUB_HUB", str(published / "hub"))
    monkeypatch.setenv("ADAPTERHUB_CACHE", str(published / "cache"))


def encoded(roberta: str) -> dict[str, torch.Tensor]:
    return dict(AutoTokenizer.from_pretrained(roberta)(SENTENCE, return_tensors="pt"))


# -- Pfeiffer et al. 2020a, AdapterHub: figures 3 and 4 ------------------------------------------------


def test_adapterhub_training_listing(roberta: str, tmp_path: Path) -> None:
    from adapterhub import AdapterType

    model = AutoModelForSequenceClassification.from_pretrained(roberta)
    adapters.init(model)
    with today(r"add_adapter\(name, config=None\)"):
        model.add_adapter("sst-2", AdapterType.text_task)
    with today("write 'sst-2'"):
        model.train_adapter(["sst-2"])
    # Train model ...
    trained = {name for name, p in model.named_parameters() if p.requires_grad}
    assert trained
    assert all("sst-2" in name or name.startswith("classifier") for name in trained)
    model.save_adapter(str(tmp_path / "adapters/text-task/sst-2/"), "sst-2")
    assert (tmp_path / "adapters/text-task/sst-2/adapter_config.json").is_file()


def test_adapterhub_loading_listing(roberta: str) -> None:
    from adapterhub import AdapterType

    model = adapters.AutoAdapterModel.from_pretrained(roberta)
    with today("without it"):
        name = model.load_adapter("sst-2", AdapterType.text_task, config="pfeiffer")
    model.set_active_adapters(name)
    assert model.active_head == "sst-2"
    assert model(**encoded(roberta)).logits.shape == (1, 2)


def test_adapterhub_identifiers(roberta: str) -> None:
    from adapterhub import AdapterType

    model = adapters.AutoAdapterModel.from_pretrained(roberta)
    assert model.load_adapter("qa/squad1@ukp", config="houlsby") == "squad1"
    assert model.load_adapter("sentiment/sst-2@ukp", config="pfeiffer", load_as="s") == "s"
    with today("without it"):
        model.load_adapter(
            "sts/qqp@ukp", AdapterType.text_task, load_as="paraphrase", with_head=False
        )
    assert set(model.heads) == {"squad1", "s"}
    with pytest.raises(AdapterHubError, match="houlsby"):
        model.load_adapter("sentiment/sst-2@ukp", config="houlsby")
    model.set_active_adapters("squad1")
    answer = model(**encoded(roberta))
    assert answer.start_logits.shape == (1, 4)


def test_models_with_heads(roberta: str) -> None:
    with today("AutoAdapterModel"):
        from adapterhub import AutoModelWithHeads
    with today("RobertaAdapterModel"):
        from adapterhub import RobertaModelWithHeads
    model: Any = AutoModelWithHeads.from_pretrained(roberta)
    assert isinstance(model, RobertaModelWithHeads)
    with today("add_adapter"):
        model.add_adapter("sst-2", adapters.AdapterType.text_task, config="pfeiffer")
    model.add_classification_head("sst-2", num_labels=2)
    model.train_adapter("sst-2")
    loss = model(**encoded(roberta), labels=torch.tensor([1])).loss
    loss.backward()
    assert {n for n, p in model.named_parameters() if p.grad is not None} == {
        n for n, p in model.named_parameters() if "sst-2" in n
    }


def test_configurations_of_type(roberta: str) -> None:
    model = adapters.AutoAdapterModel.from_pretrained(roberta)
    with today(r"add_adapter\(name, config='houlsby'\)"):
        model.set_adapter_config(adapters.AdapterType.text_task, "houlsby")
    with today("config='houlsby'"):
        model.add_adapter("t", adapter_type="text_task")
    assert model.adapters_config.get("t") == adapters.DoubleSeqBnConfig()
    model.add_adapter("today")
    assert model.adapters_config.get("today") == adapters.SeqBnConfig()


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("PfeifferConfig", "SeqBnConfig"),
        ("HoulsbyConfig", "DoubleSeqBnConfig"),
        ("PfeifferInvConfig", "SeqBnInvConfig"),
        ("HoulsbyInvConfig", "DoubleSeqBnInvConfig"),
        ("ParallelConfig", "ParBnConfig"),
    ],
)
def test_names_of_configurations(old: str, new: str) -> None:
    with today(f"adapterhub.{new}"):
        found = getattr(adapters, old)
    assert found is getattr(adapters, new)
    assert found(reduction_factor=12).reduction_factor == 12


# -- Pfeiffer et al. 2020b, MAD-X ----------------------------------------------------------------------


def test_madx_listing(roberta: str) -> None:
    from adapterhub import AdapterConfig, AdapterType

    model = adapters.AutoAdapterModel.from_pretrained(roberta)
    config = AdapterConfig.load("pfeiffer+inv")
    with today("without it"):
        model.load_adapter("en/wiki@ukp", AdapterType.text_lang, config=config, load_as="en")
    with today("config='seq_bn'|config=…|config='pfeiffer'"):
        model.add_adapter("copa", AdapterType.text_task, config="pfeiffer")
    model.add_multiple_choice_head("copa", num_choices=2)
    with today("write 'copa'"):
        model.train_adapter(["copa"])
    for listed in ([["en"], ["copa"]], ["en", "copa"]):
        with today(r"Stack\('en', 'copa'\)"):
            model.set_active_adapters(listed)
        assert model.active_adapters == Stack("en", "copa")
    trained = {name for name, p in model.named_parameters() if p.requires_grad}
    assert trained
    assert all("copa" in name for name in trained)
    inputs = {key: value.expand(1, 2, -1) for key, value in encoded(roberta).items()}
    source = model(**inputs).logits
    # Transfer: another language below the same task.
    with today("without it"):
        model.load_adapter("sw/wiki@ukp", AdapterType.text_lang, load_as="sw")
    model.active_adapters = Stack("sw", "copa")
    assert not torch.equal(model(**inputs).logits, source)


def test_language_adapters_of_old_have_an_invertible_part(roberta: str) -> None:
    model = adapters.AutoAdapterModel.from_pretrained(roberta)
    with today(r"config='seq_bn_inv'"):
        model.add_adapter("xx", adapters.AdapterType.text_lang)
    with today(r"config='double_seq_bn_inv'"):
        model.add_adapter("yy", "text_lang", config="houlsby")
    assert model.adapters_config.get("xx").inv_adapter == "nice"
    assert model.adapters_config.get("yy").inv_adapter == "nice"


# -- Pfeiffer et al. 2021, AdapterFusion ---------------------------------------------------------------


def test_fusion_listing(roberta: str, tmp_path: Path) -> None:
    from adapterhub import AdapterType

    model = adapters.AutoAdapterModel.from_pretrained(roberta)
    for identifier in ("sentiment/sst-2@ukp", "nli/multinli@ukp", "sts/qqp@ukp"):
        with today("without it"):
            model.load_adapter(identifier, AdapterType.text_task, with_head=False)
    setup = [["sst-2", "multinli", "qqp"]]
    with today("add_adapter_fusion"):
        model.add_fusion(setup[0], "dynamic")
    model.add_classification_head("cb", num_labels=3)
    with today("train_adapter_fusion"):
        model.train_fusion(setup)
    assert model.active_adapters == Stack(Fuse("sst-2", "multinli", "qqp"))
    trained = {name for name, p in model.named_parameters() if p.requires_grad}
    assert all(".fusions." in name or name.startswith("heads.cb") for name in trained)
    assert any(".fusions." in name for name in trained)
    model(**encoded(roberta), labels=torch.tensor([2])).loss.backward()
    model.save_adapter_fusion(str(tmp_path / "fusion"), "sst-2,multinli,qqp")
    model.save_all_adapters(str(tmp_path / "all"))
    with today("delete_adapter_fusion"):
        model.delete_fusion(setup[0])
    model.load_adapter_fusion(str(tmp_path / "fusion"))
    with today(r"Fuse\('sst-2', 'multinli', 'qqp'\)"):
        model.set_active_adapters(setup)
    assert model.active_adapters.children == (Fuse("sst-2", "multinli", "qqp"),)


# -- Rücklé et al. 2021, AdapterDrop -------------------------------------------------------------------


def test_adapterdrop(roberta: str) -> None:
    model = adapters.AutoAdapterModel.from_pretrained(roberta).eval()
    model.add_adapter("full", config="pfeiffer")
    tiny.randomize(model, "full")
    inputs = encoded(roberta)
    outputs = []
    for dropped in range(4):  # robust training draws a new number each step
        model.set_active_adapters("full", skip_layers=list(range(dropped)))
        assert model.adapters_config.skip_layers == (list(range(dropped)) or None)
        outputs.append(model(**inputs).last_hidden_state)
    model.set_active_adapters(None)
    assert torch.equal(outputs[3], model(**inputs).last_hidden_state)
    assert len({float(o.detach()[0, 0, 0]) for o in outputs}) == 4
    config = adapters.AdapterConfig.load("pfeiffer", leave_out=[0, 1])
    model.add_adapter("specialised", config=config)
    layers = [layer for layer, places in model.get_adapter("specialised").items() if places]
    assert layers == [2]
    loaded = model.load_adapter("sentiment/sst-2@ukp", leave_out=[0], load_as="dropped")
    assert sorted(model.get_adapter(loaded)) == [1, 2]


def test_parallel_inference_of_several_tasks(roberta: str) -> None:
    model = adapters.AutoAdapterModel.from_pretrained(roberta).eval()
    names = [model.load_adapter(i) for i in ("sst-2", "multinli", "qqp")]
    model.active_adapters = adapters.Parallel(*names)
    found = model(**encoded(roberta))
    for name, output in zip(names, found.head_outputs, strict=True):
        model.set_active_adapters(name)
        torch.testing.assert_close(output.logits, model(**encoded(roberta)).logits)


# -- Poth et al. 2023, Adapters ------------------------------------------------------------------------


def test_adapters_init_listing(roberta: str) -> None:
    model = AutoModelForSequenceClassification.from_pretrained(roberta)
    adapters.init(model)
    config = adapters.ConfigUnion(
        adapters.PrefixTuningConfig(bottleneck_size=8, prefix_length=3),
        adapters.ParBnConfig(reduction_factor=4),
    )
    model.add_adapter("custom", config=config, set_active=True)
    model.add_adapter("mam", config="mam")
    model.train_adapter("custom")
    model(**encoded(roberta), labels=torch.tensor([0])).loss.backward()
    assert "custom" in model.adapter_summary()
    assert model.supports_adapter(adapters.AdapterMethod.lora)


def test_config_strings(roberta: str) -> None:
    model = adapters.init(tf.AutoModel.from_pretrained(roberta))
    model.add_adapter("a", config="prefix_tuning[prefix_length=3]|parallel[reduction_factor=2]")
    model.add_adapter("b", config="lora[r=4,alpha=8,attn_matrices=['q','k']]")
    union: Any = model.adapters_config.get("a")
    assert [type(part).__name__ for part in union.configs] == ["PrefixTuningConfig", "ParBnConfig"]
    assert model.adapters_config.get("b").attn_matrices == ("q", "k")
    assert adapters.AdapterMethod.get_from_config(union) == ["prefix_tuning", "bottleneck"]


def test_composition_listing(roberta: str) -> None:
    import adapterhub.composition as ac

    model = adapters.init(tf.AutoModel.from_pretrained(roberta)).eval()
    for name in "abcde":
        model.add_adapter(name)
        tiny.randomize(model, name)
    model.add_adapter_fusion(["b", "c"])
    inputs = {key: value.expand(2, -1) for key, value in encoded(roberta).items()}
    for setup, rows in (
        (ac.Stack("a", "b", "c"), 2),
        (ac.Fuse("b", "c"), 2),
        (ac.Stack("a", ac.Fuse("b", "c")), 2),
        (ac.Split("a", "b", splits=[1, 3]), 2),
        (ac.BatchSplit("a", "b", batch_sizes=[1, 1]), 2),
        (ac.Average("a", "b", weights=[0.3, 0.7]), 2),
        (ac.Parallel("a", ac.Stack("b", "c")), 4),
        (ac.Stack("a", ac.Parallel("b", "c", "d")), 6),
    ):
        model.active_adapters = setup
        assert model(**inputs).last_hidden_state.shape[0] == rows
        assert model.has_parallel_adapters == (rows > 2)
    with adapters.AdapterSetup(ac.Stack("d", "e")):
        assert model(**inputs).last_hidden_state.shape[0] == 2


def test_merging_listing(roberta: str) -> None:
    model = adapters.AutoAdapterModel.from_pretrained(roberta).eval()
    for name in "abc":
        model.add_adapter(name, config="lora")
        tiny.randomize(model, name)
        model.add_classification_head(name, num_labels=2)
    model.average_adapter("avg", ["a", "b", "c"], weights=[0.1, 0.6, 0.3])
    model.average_adapter("minus", ["a", "b"], [1, -1], "lora_linear_only_negate_b", False)
    model.average_adapter("svd", ["a", "b"], None, "lora_delta_w_svd", svd_rank=4)
    model.average_head("avg", ["a", "b", "c"], weights=[0.1, 0.6, 0.3])
    model.set_active_adapters("avg")
    expected = model(**encoded(roberta)).logits
    model.merge_adapter("avg")
    torch.testing.assert_close(model(**encoded(roberta)).logits, expected, atol=1e-5, rtol=1e-4)
    model.reset_adapter()


# -- scripts -------------------------------------------------------------------------------------------


def test_training_scripts(roberta: str) -> None:
    parser = tf.HfArgumentParser(adapters.AdapterArguments)  # type: ignore[arg-type]
    line = "--train_adapter --adapter_config pfeiffer --load_lang_adapter en/wiki@ukp"
    (options,) = parser.parse_args_into_dataclasses(line.split())
    model = adapters.AutoAdapterModel.from_pretrained(roberta)
    changes = {"reduction_factor": 8}
    kwargs = {"adapter_config_kwargs": changes}
    found = adapters.setup_adapter_training(model, options, "sst-2", **kwargs)
    assert found == ("sst-2", "en")
    assert model.active_adapters == Stack("en", "sst-2")
    assert model.adapters_config.get("sst-2") == adapters.SeqBnConfig(reduction_factor=8)
    assert {
        name for name, p in model.named_parameters() if p.requires_grad and "sst-2" not in name
    } == set()
    again = dataclasses.replace(options, load_adapter="sentiment/sst-2@ukp", load_lang_adapter=None)
    assert adapters.setup_adapter_training(model, again, "loaded") == ("loaded", None)
    assert adapters.setup_adapter_training(model, adapters.AdapterArguments(), "x") == (None, None)
    with pytest.raises(ConfigError, match="train_adapter"):
        adapters.setup_adapter_training(model, adapters.AdapterArguments(load_adapter="sst-2"), "x")
    with today("adapterhub.AdapterArguments"):
        from adapterhub import MultiLingAdapterArguments
    assert MultiLingAdapterArguments is adapters.AdapterArguments


def test_loading_with_labels_of_ones_own(roberta: str, published: Path) -> None:
    model = adapters.AutoAdapterModel.from_pretrained(roberta)
    seen: dict[str, Any] = {}
    model.load_adapter("sst-2", id2label={0: "bad", 1: "good"}, loading_info=seen)
    assert model.get_labels("sst-2") == ["bad", "good"]
    assert seen == {"missing_keys": [], "unexpected_keys": []}
    with today("id2label"):
        model.load_adapter("sst-2", num_labels=2, load_as="n")
    assert model.get_labels("n") == ["0", "1"]
    with pytest.raises(ConfigError, match="2 labels"):
        model.load_adapter("sst-2", id2label={0: "a", 1: "b", 2: "c"}, load_as="wrong")
    assert "wrong" not in model.adapters_config
    head = model.load_head(published / "sst-2", load_as="h", id2label={0: "x", 1: "y"})
    assert model.get_labels(head) == ["x", "y"]


class Notes:
    """A loader of files of one's own."""

    def save(self, folder: str, name: str) -> None:
        (Path(folder) / "note.txt").write_text(name)

    def load(self, folder: str, **options: Any) -> None:
        self.seen = ((Path(folder) / "note.txt").read_text(), options["main_load_name"])


def test_loaders_of_ones_own_files(roberta: str, tmp_path: Path) -> None:
    model = adapters.AutoAdapterModel.from_pretrained(roberta)
    model.add_adapter("a")
    notes = Notes()
    model.save_adapter(tmp_path / "a", "a", custom_weights_loaders=[notes])
    model.load_adapter(tmp_path / "a", load_as="b", custom_weights_loaders=[notes])
    assert notes.seen == ("a", "b")


def test_the_hub_is_asked_for_this_base_model(roberta: str, published: Path) -> None:
    """The same task for another base model makes an identifier ambiguous only where nothing tells."""
    hub = adapters.Hub(published / "hub")
    shelf = {"task": "nli", "subtask": "rte", "owner": "ukp"}
    for number, base in enumerate(("roberta-tiny", "another-tiny")):
        model = adapters.AutoAdapterModel.from_pretrained(roberta)
        model.add_adapter("rte", config=f"seq_bn[reduction_factor={2 + 2 * number}]")
        model.save_adapter(published / base, "rte")
        hub.publish(published / base, base_model=base, name=base, **shelf)
    model = adapters.AutoAdapterModel.from_pretrained(roberta)
    model.load_adapter("nli/rte@ukp", load_as="own")
    model.load_adapter("nli/rte@ukp", model_name="another-tiny", load_as="other")
    factors = [model.adapters_config.get(n).reduction_factor for n in ("own", "other")]
    assert factors == [2, 4]
    model.config.name_or_path = "a-third"
    with pytest.raises(AdapterHubError, match="base_model"):
        model.load_adapter("nli/rte@ukp")
    with pytest.raises(AdapterHubError, match="a-third"):
        model.load_adapter("nli/rte@ukp", model_name="a-third")


def test_looking_through_the_hub() -> None:
    found = adapters.list_adapters(model_name="roberta-tiny")
    assert len([info for info in found if info.subtask != "rte"]) == 6
    assert {info.username for info in found} == {"ukp"}
    assert adapters.list_adapters(model_name="bert-tiny") == []
    info = adapters.get_adapter_info("qa/squad1@ukp")
    assert info is not None
    assert (info.task, info.subtask, info.model_name) == ("qa", "squad1", "roberta-tiny")
    assert adapters.get_adapter_info("qa/squad9@ukp") is None
    with pytest.raises(AdapterHubError, match="hf"):
        adapters.list_adapters("hf")


#: What ``adapters`` 1.3.0 exports beside model classes.
EXPORTS = """
ADAPTERFUSION_CONFIG_MAP ADAPTER_CACHE ADAPTER_CONFIG_MAP ADAPTER_MODEL_MAPPING AdapterArguments
AdapterCompositionBlock AdapterConfig AdapterFusionConfig AdapterInfo AdapterLayerBase AdapterMethod
AdapterModelInterface AdapterPlusConfig AdapterSetup AdapterTrainer AdapterType AutoAdapterModel BatchSplit
BertStyleMaskedLMHead BiaffineParsingHead BnConfig CausalLMHead ClassificationHead CompacterConfig
CompacterPlusPlusConfig ComposableAdapterLayerBase ConfigUnion DEFAULT_ADAPTERFUSION_CONFIG
DEFAULT_ADAPTER_CONFIG DependencyParsingOutput DiReftConfig DoRAConfig DoubleSeqBnConfig DoubleSeqBnInvConfig
DvoRAConfig DynamicAdapterFusionConfig EmbeddingAdaptersMixin ForwardContext Fuse IA3Config
InvertibleAdaptersMixin InvertibleAdaptersWrapperMixin LoRAConfig LoReftConfig MAMConfig MTLLoRAConfig
ModelAdaptersConfig ModelAdaptersMixin ModelWithFlexibleHeadsAdaptersMixin ModelWithHeadsAdaptersMixin
MultiHeadOutput MultiLabelClassificationHead MultiTask MultiTaskConfig MultipleChoiceHead NoReftConfig
ParBnConfig Parallel PrefixTuningConfig PromptTuningConfig QuestionAnsweringHead ReftConfig
Seq2SeqAdapterTrainer Seq2SeqLMHead SeqBnConfig SeqBnInvConfig Split Stack StaticAdapterFusionConfig
TaggingHead UniPELTConfig VeraConfig get_adapter_config_hash get_adapter_info init init_adapters_config
list_adapters load_model parse_composition setup_adapter_training validate_composition
"""
FAMILIES = """
Albert Bart Beit Bert BertGeneration CLIP Deberta DebertaV2 DistilBert Electra GPT2 GPTJ Llama MBart MT5
Mistral PLBart Roberta T5 ViT Whisper XLMRoberta Xmod
"""


def test_exports() -> None:
    assert [name for name in EXPORTS.split() if not hasattr(adapters, name)] == []
    assert set(EXPORTS.split()) <= set(dir(adapters))


def test_model_classes() -> None:
    for family in FAMILIES.split():
        assert getattr(adapters, f"{family}AdapterModel").__name__ == f"{family}AdapterModel"
    found = adapters.ADAPTER_MODEL_MAPPING[tf.BertConfig]
    assert found is adapters.BertAdapterModel
    assert tf.BertConfig in adapters.ADAPTER_MODEL_MAPPING
    assert importlib.import_module("adapterhub.composition").Average


def test_hashes_and_checks_of_kind(roberta: str) -> None:
    assert adapters.get_adapter_config_hash(adapters.SeqBnConfig()) == "9076f36a74755ac4"
    one, other = adapters.LoRAConfig(dropout=0.1), adapters.LoRAConfig()
    assert adapters.get_adapter_config_hash(one) != adapters.get_adapter_config_hash(other)
    assert adapters.get_adapter_config_hash(
        one, ignore_params=["dropout"]
    ) == adapters.get_adapter_config_hash(other, ignore_params=["dropout"])
    model = adapters.AutoAdapterModel.from_pretrained(roberta)
    assert isinstance(model, adapters.ModelAdaptersMixin)
    assert isinstance(model, adapters.ModelWithFlexibleHeadsAdaptersMixin)


def test_typing_errors_are_told() -> None:
    with pytest.raises(AttributeError, match="no attribute 'PfeiferConfig'"):
        adapters.PfeiferConfig  # noqa: B018
    with pytest.raises(AttributeError):
        adapters.BertyModelWithHeads  # noqa: B018
