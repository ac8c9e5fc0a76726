"""Base models with many adapters, and one forward pass for jobs of any of them (needs torch).

Every row of a batch goes through the adapter, and to the head, of its own job: ``Route`` over the
adapters of the batch, and ``adapter_rows``. A row's output is the one that its adapter would give alone.
"""

from __future__ import annotations

import contextlib
import json
from collections import OrderedDict
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import torch

from adapterhub.composition import Route
from adapterhub.errors import AdapterHubError
from adapterhub.hub.inspection import CONFIG_FILE, HEAD_CONFIG_FILE
from adapterhub.hub.tryit.jobs import GENERATORS, Job, Limits, TryError
from adapterhub.hub.tryit.reading import readers, words_of
from adapterhub.training.base_models import quiet

_GENERATING = "causal_lm"
_PEFT_FACES = {"SEQ_CLS": "heads", "TOKEN_CLS": "heads", "CAUSAL_LM": "generation"}
_REMEMBERED = 200

Result = dict[str, Any] | TryError


class Runner:
    """All base models of a hub; each is loaded when it is first needed, and then stays."""

    def __init__(self, limits: Limits) -> None:
        self._limits = limits
        self._faces: dict[tuple[Path, str], Face] = {}
        self._refused: OrderedDict[str, str] = OrderedDict()
        self._known: OrderedDict[tuple[str, Path], str] = OrderedDict()

    def warm(self, base: Path) -> None:
        """Load a base model before it is needed; one that cannot be loaded is told when it is needed."""
        with contextlib.suppress(Exception):
            kind = "generation" if is_generator(base) else "heads"
            self._face(base, kind)

    def run(self, jobs: Sequence[Job]) -> list[Result]:
        """Return what each job gives, or why it gives nothing. No job spoils another."""
        results: list[Result | None] = [None] * len(jobs)
        groups: dict[tuple[Path, str], list[int]] = {}
        for index, job in enumerate(jobs):
            try:
                groups.setdefault((job.base, self._face_for(job)), []).append(index)
            except TryError as error:
                results[index] = error
        for (base, kind), members in groups.items():
            found = self._run_group(base, kind, [jobs[index] for index in members])
            for index, result in zip(members, found, strict=True):
                results[index] = result
        return [result or TryError("nothing came of it") for result in results]

    def _face_for(self, job: Job) -> str:
        """Return which face of its base model *job*'s adapter needs: ``"heads"`` or ``"generation"``."""
        if job.adapter in self._refused:
            raise TryError(self._refused[job.adapter])
        key = (job.adapter, job.base)
        if key not in self._known:
            _remember(self._known, key, face_of(job.folder, job.base))
        return self._known[key]

    def _run_group(self, base: Path, kind: str, jobs: Sequence[Job]) -> list[Result]:
        try:
            face = self._face(base, kind)
        except (AdapterHubError, OSError, ValueError) as error:
            return [TryError(f"the base model cannot be loaded on this hub: {error}")] * len(jobs)
        results: list[Result | None] = [None] * len(jobs)
        ready = []
        needed = {job.adapter for job in jobs}
        for index, job in enumerate(jobs):
            try:
                face.need(job, needed)
                ready.append(index)
            except TryError as error:
                _remember(self._refused, job.adapter, str(error))
                results[index] = error
        for index, result in zip(ready, self._forward(face, [jobs[i] for i in ready]), strict=True):
            results[index] = result
        return [result or TryError("nothing came of it") for result in results]

    def _face(self, base: Path, kind: str) -> Face:
        key = (base, kind)
        if key not in self._faces:
            made = (
                Generation(base, self._limits)
                if kind == "generation"
                else Heads(base, self._limits)
            )
            self._faces[key] = made
        return self._faces[key]

    def _forward(self, face: Face, jobs: Sequence[Job]) -> list[Result]:
        """Run all in one batch; if that fails, each adapter by itself, so that one fails alone."""
        if not jobs:
            return []
        adapters = list(dict.fromkeys(job.adapter for job in jobs))
        try:
            return [
                {**result, "batch": {"rows": len(jobs), "adapters": len(adapters)}}
                for result in face.forward(jobs)
            ]
        except Exception as error:
            if len(adapters) == 1:
                return [TryError(f"it failed: {_first_line(error)}")] * len(jobs)
        results: dict[int, Result] = {}
        for adapter in adapters:
            members = [index for index, job in enumerate(jobs) if job.adapter == adapter]
            found = self._forward(face, [jobs[index] for index in members])
            results.update(zip(members, found, strict=True))
        return [results[index] for index in range(len(jobs))]


def _remember(known: OrderedDict[Any, Any], key: Any, value: Any) -> None:
    known[key] = value
    while len(known) > _REMEMBERED:
        known.popitem(last=False)


def face_of(folder: Path, base: Path) -> str:
    """Return which face of its base model an adapter needs: ``"heads"`` or ``"generation"``.

    Raises:
        TryError: If its head is of a type for which there is no form.
    """
    info, head = _json(folder / CONFIG_FILE), {}
    if (folder / HEAD_CONFIG_FILE).is_file():
        head = _json(folder / HEAD_CONFIG_FILE)
        # The head of a class such as LlamaForCausalLM is saved without a type.
        kind = (head.get("config") or {}).get("head_type")
        if kind is not None:
            return "generation" if kind == _GENERATING else _require_type(kind)
    task = str(info.get("task_type"))
    if task in _PEFT_FACES:
        return _PEFT_FACES[task]
    written_by = str(head.get("model_class") or info.get("model_class") or "")
    generates = is_generator(base) and (not head or written_by.endswith(GENERATORS))
    return "generation" if generates else "heads"


def _require_type(kind: Any) -> str:
    if kind not in readers:
        raise TryError(f"its head is of the type {str(kind)[:60]}, for which there is no form here")
    return "heads"


def is_generator(base: Path) -> bool:
    """Whether the model in a folder is a causal language model."""
    classes = _json(base / "config.json").get("architectures") or []
    return any(str(name).endswith(GENERATORS) for name in classes)


def _json(path: Path) -> dict[str, Any]:
    try:
        value = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        raise TryError(f"{path.name} cannot be read") from error
    return value if isinstance(value, dict) else {}


def _first_line(error: BaseException) -> str:
    lines = str(error).strip().splitlines()
    return (lines[0] if lines else type(error).__name__)[:300]


class Face:
    """One loaded base model with the adapters that were used last."""

    def __init__(self, base: Path, limits: Limits) -> None:
        self.limits = limits
        self.adapters: OrderedDict[str, str] = OrderedDict()
        with quiet():
            self.model, self.tokenizer = self.load(base)
        self.model.eval()
        if self.tokenizer.pad_token is None:
            self.tokenizer.pad_token = self.tokenizer.eos_token
        positions = getattr(self.model.config, "max_position_embeddings", None)
        self.longest = min(limits.tokens, positions or limits.tokens)

    def load(self, base: Path) -> tuple[Any, Any]:
        """Return model and tokenizer."""
        raise NotImplementedError

    def need(self, job: Job, kept: Iterable[str]) -> None:
        """Load the adapter of *job* if it is not there, and drop others (not *kept*) to make room.

        Raises:
            TryError: If it does not fit the base model.
        """
        if job.adapter in self.adapters:
            self.adapters.move_to_end(job.adapter)
            return
        try:
            with quiet():
                self.model.load_adapter(str(job.folder), load_as=job.adapter)
        except (AdapterHubError, OSError, ValueError, RuntimeError) as error:
            told = _first_line(error).replace(str(job.folder), job.name or "the adapter")
            told = told.replace(job.adapter, job.name or "adapter")
            raise TryError(f"it cannot be loaded: {told}") from error
        self.adapters[job.adapter] = job.name
        for name in [name for name in self.adapters if name not in set(kept)]:
            if len(self.adapters) <= self.limits.adapters:
                break
            self.forget(name)
        try:
            self.require_use(job.adapter)
        except TryError:
            self.forget(job.adapter)
            raise

    def require_use(self, name: str) -> None:
        """Refuse a loaded adapter that cannot be run here.

        Raises:
            TryError: Then.
        """

    def forget(self, name: str) -> None:
        """Take an adapter out of the model."""
        self.adapters.pop(name, None)
        self.model.set_active_adapters(None)
        self.model.delete_adapter(name)

    def forward(self, jobs: Sequence[Job]) -> list[dict[str, Any]]:
        """Run jobs whose adapters are all loaded."""
        raise NotImplementedError

    def encode(self, texts: Sequence[str]) -> tuple[Any, list[bool]]:
        """Return the batch as tensors, and which texts were cut."""
        encoded = self.tokenizer(
            list(texts), padding=True, truncation=True, max_length=self.longest, return_tensors="pt"
        )
        full = self.tokenizer(list(texts), verbose=False)["input_ids"]
        return encoded, [len(ids) > self.longest for ids in full]

    def activate(self, jobs: Sequence[Job]) -> list[str]:
        """Make each row go its own way; return the names of the rows."""
        rows = [job.adapter for job in jobs]
        self.model.set_active_adapters(Route(*dict.fromkeys(rows)))
        return rows


class Heads(Face):
    """A model with prediction heads: classification, regression, tagging."""

    def load(self, base: Path) -> tuple[Any, Any]:
        from transformers import AutoTokenizer

        from adapterhub import AutoAdapterModel

        model = AutoAdapterModel.from_pretrained(base, use_safetensors=True)
        return model, AutoTokenizer.from_pretrained(base)

    def require_use(self, name: str) -> None:
        if name not in self.model.heads:
            raise TryError("it has no prediction head, so there is nothing to see by itself")
        _require_type(self.model.heads[name].head_type)

    def forget(self, name: str) -> None:
        super().forget(name)
        if name in self.model.heads:
            self.model.delete_head(name)

    def forward(self, jobs: Sequence[Job]) -> list[dict[str, Any]]:
        encoded, cut = self.encode([job.text for job in jobs])
        rows = self.activate(jobs)
        with torch.inference_mode():
            output = self.model(**encoded, adapter_rows=rows)
        logits: dict[int, torch.Tensor] = {}
        for head, own in zip(output.head_outputs, output.rows, strict=True):
            logits.update(zip(own.tolist(), head.logits.float(), strict=True))
        results = []
        for index, job in enumerate(jobs):
            head = self.model.heads[job.adapter]
            words = words_of(encoded, index, job.text) if head.head_type == "tagging" else ()
            result = readers[head.head_type](logits[index], head.labels(), words)
            results.append({**result, "cut": cut[index]})
        return results


class Generation(Face):
    """A causal language model: continues the text, greedily."""

    def load(self, base: Path) -> tuple[Any, Any]:
        from transformers import AutoModelForCausalLM, AutoTokenizer

        import adapterhub

        model = AutoModelForCausalLM.from_pretrained(base, use_safetensors=True)
        adapterhub.init(model)
        return model, AutoTokenizer.from_pretrained(base, padding_side="left")

    def forward(self, jobs: Sequence[Job]) -> list[dict[str, Any]]:
        encoded, cut = self.encode([job.text for job in jobs])
        rows = self.activate(jobs)
        wanted = [min(job.new_tokens, self.limits.new_tokens) for job in jobs]
        names = ("input_ids", "attention_mask")
        with torch.inference_mode(), quiet():
            made = self.model.generate(
                **{name: encoded[name] for name in names},
                adapter_rows=rows,
                max_new_tokens=max(wanted),
                do_sample=False,
                num_beams=1,
                pad_token_id=self.tokenizer.pad_token_id,
            )
        start = encoded["input_ids"].shape[1]
        results = []
        for index, number in enumerate(wanted):
            ids = made[index, start : start + number]
            text = self.tokenizer.decode(ids, skip_special_tokens=True)
            results.append({"kind": "generation", "text": text, "cut": cut[index]})
        return results
