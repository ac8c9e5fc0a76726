"""``python tests/checkpoints/peft_record.py``: make the samples in ``peft/`` anew, with the PEFT library.

With ``check FOLDER KIND OUTPUTS`` it loads a folder of ours into PEFT instead, and prints the largest
difference between its outputs and those in the file OUTPUTS.
"""

from __future__ import annotations

import json
import sys
import warnings
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save_file

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))
from tests.checkpoints.peft_models import make, outcome, values

SAMPLES = Path(__file__).parent / "peft"
ALL = ["q_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"]
CASES: dict[str, tuple[str, str, dict[str, Any]]] = {
    "lora": (
        "LlamaForCausalLM",
        "LoraConfig",
        {
            "task_type": "CAUSAL_LM",
            "r": 3,
            "lora_alpha": 5,
            "target_modules": ALL,
            "rank_pattern": {"layers.0.self_attn.q_proj": 2, "down_proj": 1},
            "alpha_pattern": {r"layers\.\d+\.mlp\.up_proj": 7},
        },
    ),
    "rslora": (
        "LlamaForCausalLM",
        "LoraConfig",
        {"r": 4, "lora_alpha": 6, "use_rslora": True, "target_modules": ["q_proj", "k_proj"]},
    ),
    "one_layer": (
        "LlamaForCausalLM",
        "LoraConfig",
        {"r": 2, "target_modules": ["v_proj"], "layers_to_transform": [1]},
    ),
    "here_and_there": (
        "LlamaForCausalLM",
        "LoraConfig",
        {"r": 2, "target_modules": r".*\.(0\.self_attn\.q_proj|1\.mlp\.down_proj)"},
    ),
    "vocabulary": (
        "LlamaForCausalLM",
        "LoraConfig",
        {"r": 2, "target_modules": ["embed_tokens", "lm_head"]},
    ),
    "dora": (
        "LlamaForCausalLM",
        "LoraConfig",
        {"r": 4, "lora_alpha": 6, "use_dora": True, "target_modules": ["q_proj", "up_proj"]},
    ),
    "pissa": (
        "LlamaForCausalLM",
        "LoraConfig",
        {"r": 2, "lora_alpha": 3, "init_lora_weights": "pissa", "target_modules": ["q_proj"]},
    ),
    "ia3": ("LlamaForCausalLM", "IA3Config", {"task_type": "CAUSAL_LM"}),
    "prompt": (
        "LlamaForCausalLM",
        "PromptTuningConfig",
        {"task_type": "CAUSAL_LM", "num_virtual_tokens": 3},
    ),
    "fused": (
        "GPT2LMHeadModel",
        "LoraConfig",
        {"r": 2, "target_modules": ["c_attn", "c_proj"], "fan_in_fan_out": True},
    ),
    "fused_pissa": (
        "GPT2LMHeadModel",
        "LoraConfig",
        {
            "r": 2,
            "target_modules": ["c_attn"],
            "fan_in_fan_out": True,
            "init_lora_weights": "pissa",
        },
    ),
    "fused_ia3": (
        "GPT2LMHeadModel",
        "IA3Config",
        {"target_modules": ["c_attn"], "feedforward_modules": [], "fan_in_fan_out": True},
    ),
    "head": (
        "BertForSequenceClassification",
        "LoraConfig",
        {"task_type": "SEQ_CLS", "r": 2, "target_modules": ["query", "value"]},
    ),
    "seq2seq": (
        "T5ForConditionalGeneration",
        "LoraConfig",
        {"task_type": "SEQ_2_SEQ_LM", "r": 2, "target_modules": ["q", "v", "wi_1"]},
    ),
    "seq2seq_ia3": (
        "T5ForConditionalGeneration",
        "IA3Config",
        {"task_type": "SEQ_2_SEQ_LM"},
    ),
}


def record(name: str) -> None:
    """Write one case: PEFT's folder, and the outputs of PEFT's model."""
    import peft

    kind, config, options = CASES[name]
    model = peft.get_peft_model(make(kind), getattr(peft, config)(**options)).eval()
    with torch.no_grad():
        for key, parameter in model.named_parameters():
            if parameter.requires_grad:
                parameter.add_(values(f"{name} {key}", parameter.shape))
    model.save_pretrained(SAMPLES / name)
    (SAMPLES / name / "README.md").unlink(missing_ok=True)
    facts = {"kind": kind, "peft": peft.__version__}
    (SAMPLES / name / "case.json").write_text(json.dumps(facts) + "\n")
    save_file({"out": outcome(model, kind)}, SAMPLES / name / "outputs.safetensors")


def check(folder: str, kind: str, outputs: str) -> float:
    """Load a folder into PEFT; return how much its outputs differ."""
    import peft

    model = peft.PeftModel.from_pretrained(make(kind), folder).eval()
    expected = load_file(outputs)["out"]
    return float((outcome(model, kind) - expected).abs().max())


if __name__ == "__main__":
    warnings.filterwarnings("ignore")
    if sys.argv[1:2] == ["check"]:
        for line in sys.stdin:
            arguments = json.loads(line)
            try:
                print("RESULT", check(*arguments), flush=True)
            except Exception as error:  # (the test shows it)
                print("RESULT", repr(error).replace("\n", " "), flush=True)
    else:
        for case in CASES:
            record(case)
