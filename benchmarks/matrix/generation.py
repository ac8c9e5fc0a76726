"""Rule 3: generation with a cache is generation without one, for single adapters and for every block."""

from __future__ import annotations

import copy
from collections.abc import Iterator
from typing import Any, NamedTuple

import torch
import transformers
from tests.architectures.tiny import tiny_model

import adapterhub
from benchmarks.matrix.blocks import setup_of, three
from benchmarks.matrix.reasons import reason_of
from benchmarks.matrix.subject import Failed, NotApplicable, Subject, adapted, enlarge, line, pad

#: New tokens of a run.
STEPS = 5
#: Auto classes whose models generate, in order of preference.
_CLASSES = (
    "AutoModelForCausalLM",
    "AutoModelForSeq2SeqLM",
    "AutoModelForSpeechSeq2Seq",
    "AutoModelForImageTextToText",
)
#: Ways to decode, the first without and the second with a cache; and on which side rows are padded.
WAYS: dict[str, tuple[dict[str, Any], dict[str, Any]]] = {
    "greedy": ({"use_cache": False}, {}),
    "static": ({"use_cache": False}, {"cache_implementation": "static", "disable_compile": True}),
    "beams": ({"use_cache": False, "num_beams": 3}, {"num_beams": 3}),
    "sampling": (
        {"use_cache": False, "do_sample": True, "top_k": 5},
        {"do_sample": True, "top_k": 5},
    ),
}
SIDES = ("left", "right")


class Generator(NamedTuple):
    """A family's generating model, its inputs by padding, and the ways in which it is consistent itself."""

    model: Any
    inputs: dict[str, dict[str, Any]]
    ways: tuple[tuple[str, str], ...]
    without: str


def generator_of(subject: Subject) -> Generator:
    """Return what generates; looked up once a family. Raises NotApplicable if nothing does."""
    return subject.fact("generator", lambda: _find(subject))


def _find(subject: Subject) -> Generator:
    why = "no class of this family generates"
    whole = subject.bare().config.is_encoder_decoder  # a decoder may be a class of its own besides
    for name in sorted(_CLASSES, key=lambda name: whole and "Causal" in name):
        for changes in ({}, {"is_decoder": True}):
            try:
                model: Any = enlarge(
                    tiny_model(subject.family, getattr(transformers, name), **changes)
                )
            except Exception:
                continue
            if not hasattr(model, "generate"):
                continue
            found, why = _trial(model, subject)
            if found is not None:
                return found
    raise NotApplicable(f"bare model: {why}")


def _trial(model: Any, subject: Subject) -> tuple[Generator | None, str]:
    settings = model.generation_config
    settings.eos_token_id, settings.pad_token_id = None, 0
    settings.bos_token_id = settings.bos_token_id or 1
    if model.config.is_encoder_decoder and settings.decoder_start_token_id is None:
        settings.decoder_start_token_id = 0
    settings.forced_eos_token_id = settings.forced_bos_token_id = None
    given = {
        name: value
        for name, value in subject.inputs.items()
        if not name.startswith("decoder") and name not in ("use_cache", "attention_mask")
    }
    sides: dict[str, dict[str, Any]] = {"none": given}
    if "input_ids" in given and "attention_mask" in subject.inputs:
        full = {**given, "attention_mask": torch.ones_like(given["input_ids"])}
        sides = {side: pad(full, left=side == "left") for side in SIDES}
    ways, without, why = [], [], ""
    for way in WAYS:
        for side, inputs in sides.items():
            try:
                _compare(model, inputs, way, {})
                ways.append((way, side))
            except Exception as error:
                why = f"{way}: {line(error)}"
                without.append(f"{way}/{side}")
    if not any(way == "greedy" for way, _ in ways):
        return None, why
    return Generator(model, sides, tuple(ways), ", ".join(without)), ""


def _compare(model: Any, inputs: dict[str, Any], way: str, extra: dict[str, Any]) -> Any:
    """Decode without and with a cache; raise Failed where they differ. Return the cached run's output."""
    slow, fast = WAYS[way]
    expected, found = (_generate(model, inputs, {**options, **extra}) for options in (slow, fast))
    length = min(expected.sequences.shape[1], found.sequences.shape[1])
    one, two = expected.sequences[:, -length:], found.sequences[:, -length:]
    if way == "beams" or way == "sampling":
        if not torch.equal(one, two):
            raise Failed(f"{way}: other tokens with a cache than without")
        return found
    open_rows = torch.ones(one.shape[0], dtype=torch.bool)
    for step, (a, b) in enumerate(zip(expected.logits, found.logits, strict=True)):
        a, b = a[open_rows], b[open_rows]
        scale = max(1.0, float(a.abs().max())) if a.numel() else 1.0
        gap = float((a - b).abs().max()) if a.numel() else 0.0
        if not gap <= 1e-4 * scale:
            raise Failed(f"{way}: logits of step {step + 1} differ by {gap:.1e} with a cache")
        at = step - len(expected.logits)
        open_rows &= one[:, at] == two[:, at]  # (after a tie, two rows go on differently)
    return found


def _generate(model: Any, inputs: dict[str, Any], options: dict[str, Any]) -> Any:
    with torch.no_grad(), torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        return model.generate(
            **inputs,
            max_new_tokens=STEPS,
            min_new_tokens=STEPS,
            return_dict_in_generate=True,
            output_logits=True,
            **{"do_sample": False, **options},
        )


def generates(subject: Subject, method: str) -> str:
    """Rule 3 for one adapter: every way of decoding that the bare model takes, on both sides of padding."""
    generator = generator_of(subject)
    model = adapted(copy.deepcopy(generator.model), method)
    model.set_active_adapters(method)
    runs, refused = {}, {}
    for way, side in generator.ways:
        try:
            runs[way, side] = _compare(model, generator.inputs[side], way, {})
        except adapterhub.AdapterHubError as error:
            if reason_of(str(error)) is None or way == "greedy":
                raise
            refused[way] = reason_of(str(error))
        except Failed as error:
            _unless_gated(model, method)
            raise Failed(f"{side} padding, {error}") from None
    model.set_active_adapters(None)
    way, side = generator.ways[0]
    bare = _generate(model, generator.inputs[side], WAYS[way][1])
    for step, (a, b) in enumerate(zip(runs[way, side].logits, bare.logits, strict=True)):
        if not (a - b).abs().max() > 1e-4:
            raise Failed(f"the adapter has no effect at step {step + 1}")
    notes = [f"{way} refused ({why})" for way, why in refused.items()]
    if generator.without:
        notes.append(f"without {generator.without} (nor has the bare model)")
    return "; ".join(notes)


def _unless_gated(model: Any, *names: str) -> None:
    """Raise Gated if an adapter's gate explains a difference."""
    engine = model.adapter_handle.engine
    for name in names:
        if any(getattr(m, "gated", False) for m in engine.adapters[name].modules.values()):
            raise Gated("a gate is a mean over the positions of a call; a cached step has only one")


class Gated(Exception):
    """A gate is a mean over the positions of one call, so by its definition it sees less in a cached step."""


def composed_generation(subject: Subject, method: str, block: str, turn: int = 0) -> str:
    """Rule 3 for a block or tree: one of the ways of decoding and sides of padding, by *turn*."""
    generator = generator_of(subject)
    model = three(copy.deepcopy(generator.model), method, block)
    setup, extra = setup_of(block, _prompt_length(generator))
    model.set_active_adapters(setup)
    rows = extra.get("adapter_rows", extra.get("task_ids"))
    way, side = generator.ways[turn % len(generator.ways)]
    options = {} if rows is None else {"adapter_rows": rows}
    try:
        _compare(model, generator.inputs[side], way, options)
    except Failed as error:
        _unless_gated(model, "a")
        raise Failed(f"{side} padding, {error}") from None
    return f"{way}, padded {side}"


def _prompt_length(generator: Generator) -> int:
    inputs = next(iter(generator.inputs.values()))
    return inputs["input_ids"].shape[1] if "input_ids" in inputs else 8


def turns(number: int, count: int) -> Iterator[int]:
    """Yield which of *count* blocks cell *number* tries: all, for a full run one after the other."""
    yield from ((number + step) % count for step in range(count))
