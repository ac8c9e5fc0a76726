"""The faces of a base model: with prediction heads, as what writes by itself, or as both.

Every row of a batch goes through the adapter, and to the head, of its own job: ``Route`` over the
adapters of the batch, and ``adapter_rows``. A row's output is the one that its adapter would give alone.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch

from adapterhub.composition import Route
from adapterhub.errors import AdapterHubError
from adapterhub.hub.tryit.forms import HEADLESS, no_form, writing_of
from adapterhub.hub.tryit.jobs import Job, Limits, TryError
from adapterhub.hub.tryit.reading import readers
from adapterhub.hub.tryit.rows import Rows, batch_of, kept_positions, rows_for
from adapterhub.training.base_models import quiet

Result = dict[str, Any] | TryError


def first_line(error: BaseException) -> str:
    """Return what an error says in short."""
    lines = str(error).strip().splitlines()
    return (lines[0] if lines else type(error).__name__)[:300]


def _positions(model: Any) -> int | None:
    """Return how many positions a row may have; ``None`` if the model does not say."""
    stated = getattr(model.config, "max_position_embeddings", None)
    if not isinstance(stated, int):
        return None
    for name, module in model.named_modules():
        # (RoBERTa and its kind count from behind the number of the padding token.)
        if name.endswith("position_embeddings"):
            padding = getattr(module, "padding_idx", None)
            return stated if padding is None else stated - padding - 1
    return stated


class Face:
    """One loaded base model with the adapters that were used last."""

    def __init__(self, base: Path, limits: Limits) -> None:
        self.limits = limits
        self.adapters: OrderedDict[str, str] = OrderedDict()
        with quiet():
            self.model, self.tokenizer = self.load(base)
        self.model.eval()
        self.longest = limits.tokens
        if hasattr(self.tokenizer, "pad_token"):  # (what prepares images has none)
            if self.tokenizer.pad_token is None:
                self.tokenizer.pad_token = self.tokenizer.eos_token
            self.longest = min(limits.tokens, _positions(self.model) or limits.tokens)

    def load(self, base: Path) -> tuple[Any, Any]:
        """Return the model, and what prepares its inputs."""
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
            told = first_line(error).replace(str(job.folder), job.name or "the adapter")
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

    def forward(self, jobs: Sequence[Job]) -> Sequence[Result]:
        """Run jobs whose adapters are all loaded."""
        raise NotImplementedError

    def activate(self, jobs: Sequence[Job]) -> list[str]:
        """Make each row go its own way; return the names of the rows."""
        rows = [job.adapter for job in jobs]
        self.model.set_active_adapters(Route(*dict.fromkeys(rows)))
        return rows


class Heads(Face):
    """A model with prediction heads, for all that is read off a text."""

    def load(self, base: Path) -> tuple[Any, Any]:
        from transformers import AutoTokenizer

        from adapterhub import AutoAdapterModel

        model = AutoAdapterModel.from_pretrained(base, use_safetensors=True)
        return model, AutoTokenizer.from_pretrained(base, padding_side="right")

    def require_use(self, name: str) -> None:
        if name not in self.model.heads:
            raise TryError(HEADLESS)
        head = self.model.heads[name]
        if head.head_type not in readers and not head.generates:
            raise TryError(no_form(head.head_type))

    def forget(self, name: str) -> None:
        super().forget(name)
        if name in self.model.heads:
            self.model.delete_head(name)

    def forward(self, jobs: Sequence[Job]) -> Sequence[Result]:
        results: dict[int, Result] = {}
        ready: dict[int, Rows] = {}
        for index, job in enumerate(jobs):
            kind = self.model.heads[job.adapter].head_type
            try:
                ready[index] = rows_for(job, kind, self.tokenizer, self.limits, self.longest)
            except TryError as error:
                results[index] = error
        outputs = self._run(list(ready.values())) if ready else []
        for index, rows in ready.items():
            own = outputs[rows.first : rows.first + len(rows.encodings)]
            try:
                results[index] = {**self._read(rows, own, ready.values()), "cut": rows.cut}
            except TryError as error:
                results[index] = error
        return [results[index] for index in range(len(jobs))]

    def _run(self, rows: Sequence[Rows]) -> list[dict[str, torch.Tensor]]:
        """Return what the head of each row of the batch gives for it."""
        with quiet():
            inputs = batch_of(rows, self.tokenizer)
        names = self.activate([part.job for part in rows for _ in part.encodings])
        with torch.inference_mode():
            output = self.model(**inputs, adapter_rows=names)
        found: dict[int, dict[str, torch.Tensor]] = {}
        for head, own in zip(output.head_outputs, output.rows, strict=True):
            tensors = {
                key: value.float()
                for key, value in head.items()
                if isinstance(value, torch.Tensor) and value.is_floating_point() and value.dim()
            }
            for place, number in enumerate(own.tolist()):
                found[number] = {key: value[place] for key, value in tensors.items()}
        return [found[number] for number in range(len(found))]

    def _read(
        self, rows: Rows, outputs: list[dict[str, torch.Tensor]], batch: Iterable[Rows]
    ) -> dict[str, Any]:
        head = self.model.heads[rows.job.adapter]
        names = head.labels()
        if rows.kind == "masked_lm":
            kept = kept_positions(list(batch))
            mine = [kept.index(position) for _, _, position in rows.blanks]
            outputs = [{"logits": outputs[0]["logits"][mine]}]
            names = _Vocabulary(self.tokenizer)
        return readers[rows.kind](rows, outputs, names)


class _Vocabulary(Mapping[int, str]):
    """The text of each token."""

    def __init__(self, tokenizer: Any) -> None:
        self._tokenizer = tokenizer

    def __getitem__(self, token: int) -> str:
        return self._tokenizer.decode([token])

    def __iter__(self) -> Any:
        return iter(range(len(self)))

    def __len__(self) -> int:
        return len(self._tokenizer)


class _Writes(Face):
    """What continues a text, or, with an encoder, writes another; greedily."""

    rewrites: bool

    def forward(self, jobs: Sequence[Job]) -> Sequence[Result]:
        if any(not job.text.strip() for job in jobs):
            raise TryError("the text is empty")
        texts = [job.text for job in jobs]
        encoded = self.tokenizer(
            texts,
            padding=True,
            padding_side="right" if self.rewrites else "left",
            truncation=True,
            max_length=self.longest,
            return_tensors="pt",
        )
        whole = self.tokenizer(texts, verbose=False)["input_ids"]
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
        # (The decoder of an encoder-decoder begins with a token of its own.)
        start = 1 if self.rewrites else encoded["input_ids"].shape[1]
        return [
            {
                "kind": "generation",
                "continues": not self.rewrites,
                "text": self.tokenizer.decode(
                    made[index, start : start + number], skip_special_tokens=True
                ),
                "cut": len(whole[index]) > self.longest,
            }
            for index, number in enumerate(wanted)
        ]


class Generation(_Writes):
    """A language model of transformers with its own head."""

    def load(self, base: Path) -> tuple[Any, Any]:
        from transformers import AutoModelForCausalLM, AutoModelForSeq2SeqLM, AutoTokenizer

        import adapterhub

        self.rewrites = writing_of(base) == "rewrite"
        kind = AutoModelForSeq2SeqLM if self.rewrites else AutoModelForCausalLM
        model = kind.from_pretrained(base, use_safetensors=True)
        adapterhub.init(model)
        return model, AutoTokenizer.from_pretrained(base)


class Writing(_Writes):
    """The model with heads (another face), where the head of the adapter is one that writes."""

    def __init__(self, heads: Face) -> None:
        self.limits, self.longest = heads.limits, heads.longest
        self.model, self.tokenizer = heads.model, heads.tokenizer
        self.adapters = heads.adapters
        self.rewrites = bool(getattr(self.model.config, "is_encoder_decoder", False))
        self._heads = heads

    def require_use(self, name: str) -> None:
        self._heads.require_use(name)
        if not hasattr(self.model, "generate") or not self.model.heads[name].generates:
            raise TryError(no_form(self.model.heads[name].head_type))

    def forget(self, name: str) -> None:
        self._heads.forget(name)
