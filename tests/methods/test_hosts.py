"""LoRA at token embeddings, at the map to the vocabulary, and at experts kept as 3-D parameters."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

import adapterhub
from adapterhub import Average, BatchSplit, Parallel, Route, Stack
from adapterhub.errors import AdapterHubError, ArchitectureError, CompositionError, ConfigError
from tests.architectures.tiny import tiny_model
from tests.rules.families import FAMILIES
from tests.rules.test_rules import randomize

EXPERTS = (
    "lora[r=3,alpha=6,init_weights='bert',selfattn_lora=False,expert_matrices=['gate','up','down']]"
)
EMBEDDING = "lora[r=3,alpha=6,init_weights='bert',selfattn_lora=False,embedding_lora=True]"
HEAD = "lora[r=3,alpha=6,init_weights='bert',selfattn_lora=False,lm_head_lora=True]"


pytestmark = pytest.mark.filterwarnings("ignore::FutureWarning")


def output(model: Any, ids: torch.Tensor, **options: Any) -> torch.Tensor:
    with torch.no_grad():
        return model(ids, **options)[0]


def tokens(rows: int = 3) -> torch.Tensor:
    return torch.randint(3, 60, (rows, 6), generator=torch.Generator().manual_seed(1))


def with_two(family: str, config: str) -> Any:
    model = tiny_model(family).eval()
    model = adapterhub.init(model)
    for name in ("a", "b"):
        model.add_adapter(name, config=config)
    randomize(model, "a", "b")
    return model


def test_embedding_lora_is_a_change_of_the_table() -> None:
    model = with_two("bert", EMBEDDING)
    table = model.get_input_embeddings()
    (module,) = model.adapter_handle.engine.adapters["a"].modules.values()
    model.set_active_adapters("a")
    found = output(model, tokens())
    model.set_active_adapters(None)
    with torch.no_grad():
        table.weight += 2 * (module.lora_B @ module.lora_A).T
    torch.testing.assert_close(output(model, tokens()), found, rtol=0, atol=1e-5)


def test_scaled_embeddings_scale_the_change_too() -> None:
    model = with_two("gemma3_text", EMBEDDING)
    model.set_active_adapters("a")
    found = output(model, tokens())
    model.merge_adapter("a")
    torch.testing.assert_close(output(model, tokens()), found, rtol=0, atol=1e-5)


@pytest.mark.parametrize("family", ["gpt2", "llama"])
def test_head_lora_changes_logits_and_generation(family: str, tmp_path: Path) -> None:
    model = adapterhub.init(FAMILIES[family].model())
    model.add_adapter("a", config=HEAD)
    randomize(model, "a")
    ids = tokens()
    bare = output(model, ids)
    model.set_active_adapters("a")
    (module,) = model.adapter_handle.engine.adapters["a"].modules.values()
    states: list[torch.Tensor] = []
    handle = model.get_output_embeddings().register_forward_pre_hook(
        lambda _, a: states.append(a[0])
    )
    found = output(model, ids)
    handle.remove()
    torch.testing.assert_close(found - bare, 2 * module.change(states[0]), rtol=0, atol=1e-5)
    greedy = {"max_new_tokens": 5, "min_new_tokens": 5, "do_sample": False}
    assert torch.equal(
        model.generate(ids, **greedy), model.generate(ids, use_cache=False, **greedy)
    )
    model.save_adapter(tmp_path / "a", "a")
    model.load_adapter(tmp_path / "a", load_as="again", set_active=True)
    assert torch.equal(output(model, ids), found)


def test_tied_tables_are_not_merged_into() -> None:
    model = adapterhub.init(FAMILIES["gpt2"].model())  # embeddings and head are one parameter
    model.add_adapter("a", config=EMBEDDING)
    before = model.get_input_embeddings().weight.clone()
    with pytest.raises(ArchitectureError, match="shares a weight with another module"):
        model.merge_adapter("a")
    assert torch.equal(model.get_input_embeddings().weight, before)


def test_what_a_model_has_not_is_named() -> None:
    vit = adapterhub.init(FAMILIES["vit"].model())
    with pytest.raises(ArchitectureError, match="no token embeddings"):
        vit.add_adapter("a", config="lora[embedding_lora=True]")
    bert = adapterhub.init(FAMILIES["bert"].model())
    with pytest.raises(ArchitectureError, match="no map to the vocabulary"):
        bert.add_adapter("a", config="lora[lm_head_lora=True]")
    with pytest.raises(ArchitectureError, match="3-D parameters"):
        bert.add_adapter("a", config="lora[expert_matrices=['up','gate','down']]")
    mixtral = adapterhub.init(tiny_model("mixtral"))
    with pytest.raises(ArchitectureError, match="ask for both"):
        mixtral.add_adapter("a", config="lora[expert_matrices=['up']]")
    assert not mixtral.adapter_handle.engine.slots


@pytest.mark.parametrize(
    "family", ["mixtral", "qwen3_moe", "gpt_oss", "deepseek_v3", "llama4_text"]
)
def test_expert_lora_is_a_change_of_each_experts_weights(family: str) -> None:
    model = with_two(family, EXPERTS)
    ids = tokens()
    bare = output(model, ids)
    model.set_active_adapters("a")
    found = output(model, ids)
    assert (found - bare).abs().max() > 1e-3
    record = model.adapter_handle.engine.adapters["a"]
    with torch.no_grad():  # by hand, expert by expert
        for key, module in record.modules.items():
            host: Any = model.adapter_handle.engine.resolved.sites[key].host
            for name in module.names:
                a, b = module._parameters[f"{name}_A"], module._parameters[f"{name}_B"]
                for expert in range(a.shape[0]):
                    change = 2 * b[expert] @ a[expert]
                    weight = host._parameters[name][expert]
                    weight += (
                        change
                        if change.shape == weight.shape and not module.transposed
                        else change.T
                    )
    model.set_active_adapters(None)
    torch.testing.assert_close(output(model, ids), found, rtol=0, atol=1e-5)


@pytest.mark.parametrize("family", ["mixtral", "gpt_oss", "llama4_text"])
def test_expert_lora_in_blocks_equals_its_parts(family: str) -> None:
    model = with_two(family, EXPERTS)
    ids = tokens()
    alone = {None: output(model, ids)}
    for name in ("a", "b"):
        model.set_active_adapters(name)
        alone[name] = output(model, ids)
    model.set_active_adapters(Parallel("a", "b"))
    expected = torch.cat([alone["a"], alone["b"]])
    torch.testing.assert_close(output(model, ids), expected, rtol=0, atol=1e-5)
    model.set_active_adapters(BatchSplit("a", "b", batch_sizes=[1, 2]))
    expected = torch.cat([alone["a"][:1], alone["b"][1:]])
    torch.testing.assert_close(output(model, ids), expected, rtol=0, atol=1e-5)
    model.set_active_adapters(Route("a", "b"))
    expected = torch.cat([alone["a"][:1], alone[None][1:2], alone["b"][2:]])
    found = output(model, ids, adapter_rows=["a", None, "b"])
    torch.testing.assert_close(found, expected, rtol=0, atol=1e-5)
    model.set_active_adapters(Average("a", "b", weights=[1.0, 0.0], normalize_weights=False))
    torch.testing.assert_close(output(model, ids), alone["a"], rtol=0, atol=1e-5)
    with pytest.raises(CompositionError, match="chain"):
        model.set_active_adapters(Stack("a", "b"))


def test_expert_lora_trains_checkpoints_merges_and_leaves() -> None:
    model = with_two("mixtral", EXPERTS)
    ids = tokens()
    bare = output(model, ids)

    def gradients() -> dict[str, torch.Tensor]:
        model.train_adapter("a")
        model.train()
        model.zero_grad()
        model(ids, use_cache=False)[0].pow(2).sum().backward()
        return {n: p.grad.clone() for n, p in model.named_parameters() if p.grad is not None}

    expected = gradients()
    wanted = {id(p) for p in model.adapter_handle.iter_parameters("a")}
    assert {n for n, p in model.named_parameters() if id(p) in wanted} == set(expected)
    assert all(value.abs().max() > 0 for value in expected.values())
    model.gradient_checkpointing_enable({"use_reentrant": False})
    for name, value in gradients().items():
        torch.testing.assert_close(value, expected[name], rtol=1e-4, atol=1e-5)
    model.gradient_checkpointing_disable()
    model.eval()
    found = output(model, ids)
    model.merge_adapter("a")
    torch.testing.assert_close(output(model, ids), found, rtol=0, atol=1e-5)
    model.reset_adapter()
    model.adapter_handle.detach()
    torch.testing.assert_close(output(model, ids), bare, rtol=0, atol=1e-6)
    assert not [key for key in model.state_dict() if "adapterhub" in key]


@pytest.mark.parametrize(
    "fields",
    [
        {"expert_matrices": ["up"], "dropout": 0.1},
        {"expert_matrices": ["up"], "use_dora": True},
        {"expert_matrices": ["middle"]},
        {"embedding_lora": True, "use_gating": True},
        {"init_weights": "pissa", "vera_d": 0.1},
        {"rank_pattern": {"*": 0}},
        {"rank_pattern": {"*": 2.5}},
        {"alpha_pattern": {"*": "x"}},
        {"rank_pattern": {"*": 2}, "composition_mode": "scale", "r": 1},
    ],
)
def test_fields_without_meaning_together_are_refused(fields: dict[str, Any]) -> None:
    with pytest.raises(ConfigError):
        adapterhub.LoRAConfig(**fields)


def test_rank_patterns_choose_by_place(tmp_path: Path) -> None:
    model = adapterhub.init(FAMILIES["bert"].model())
    pattern = {"encoder.0.self.*": 2, "*.self.v": 5}
    config = adapterhub.LoRAConfig(r=4, rank_pattern=pattern, alpha_pattern={"*.self.v": 20})
    model.add_adapter("a", config=config)
    modules = model.adapter_handle.engine.adapters["a"].modules
    ranks = {str(key): (module.rank, module.scaling) for key, module in modules.items()}
    assert ranks == {
        "encoder.0.self.q": (2, 4.0),
        "encoder.0.self.v": (2, 10.0),
        "encoder.1.self.q": (4, 2.0),
        "encoder.1.self.v": (5, 4.0),
    }
    model.save_adapter(tmp_path / "a", "a")
    model.load_adapter(tmp_path / "a", load_as="b")
    assert model.adapter_handle.engine.adapters["b"].config == config
    with pytest.raises(AdapterHubError, match="no place of the adapter has such a name"):
        model.add_adapter("c", config=adapterhub.LoRAConfig(rank_pattern={"encoder.7.*": 2}))
