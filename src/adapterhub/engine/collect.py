"""Fusion attentions and gates of a forward pass, put on its output by adapter, layer and location."""

from __future__ import annotations

from typing import Any

from adapterhub.architectures import SiteKey


def attach_collected(engine: Any, output: Any, collect: dict[str, Any]) -> Any:
    """Add fusion attentions and gates to a model output, by adapter, layer and location."""
    results = {}
    if "output_adapter_fusion_attentions" in collect["wanted"]:
        results["adapter_fusion_attentions"] = _by_place(
            engine, collect.get("fusions", []), engine.fusions
        )
    if "output_adapter_gating_scores" in collect["wanted"]:
        results["adapter_gating_scores"] = _by_place(
            engine, collect.get("gates", []), engine.adapters
        )
    if isinstance(output, tuple):
        return (*output, *results.values())
    for name, value in results.items():
        output[name] = value
    return output


def _by_place(engine: Any, collected: list[Any], records: dict[str, Any]) -> dict[str, Any]:
    owner = {
        id(module): (name, key)
        for name, record in records.items()
        for key, module in record.modules.items()
    }
    result: dict[str, Any] = {}
    for module, value in collected:
        name, key = owner[id(module)]
        site = engine.resolved.sites[key]
        places = result.setdefault(name, {}).setdefault(site.layer_id, {})
        array = (
            value.detach().float().cpu().squeeze(-1).numpy()
            if value.shape[-1] == 1
            else (value.detach().float().cpu().numpy())
        )
        places[location_name(key)] = array
    return result


def location_name(key: SiteKey) -> str:
    """Return the peer's word for a place: ``mh_adapter``, ``output_adapter``, ``selfattn_lora``, …"""
    if key.point == "out":
        return {
            "self": "mh_adapter",
            "cross": "cross_adapter",
            "ffn": "output_adapter",
            "layer": "output_reft",
        }[key.sublayer or "ffn"]
    if key.point == "kv":
        return f"{key.sublayer}_prefix"
    if key.point == "up":
        return "intermediate_lora"
    return "output_lora" if key.point == "down" else "selfattn_lora"
