"""From texts to batches: tokenise once, pad each batch to its own longest text."""

from __future__ import annotations

from typing import Any

from torch.utils.data import Dataset

from adapterhub.training.tasks import Examples

#: Longest text in tokens: over 98 % of the built-in tasks' texts are shorter.
MAX_LENGTH = 64


class EncodedTexts(Dataset[dict[str, Any]]):
    """Tokenised texts with their labels, not padded.

    Args:
        tokenizer: of the base model.
        examples: texts and class numbers.
        max_length: longer texts are cut, in tokens.

    Each item has ``input_ids``, ``attention_mask`` and ``labels``; ``lengths`` serves batching by length.
    """

    def __init__(self, tokenizer: Any, examples: Examples, max_length: int = MAX_LENGTH) -> None:
        encoded = (
            tokenizer(list(examples.texts), truncation=True, max_length=max_length)
            if len(examples)
            else {}
        )
        self._fields = {
            key: encoded[key] for key in ("input_ids", "attention_mask") if key in encoded
        }
        self._fields["labels"] = list(examples.labels)
        self.lengths = [len(ids) for ids in self._fields.get("input_ids", [])]

    def __len__(self) -> int:
        return len(self._fields["labels"])

    def __getitem__(self, index: int) -> dict[str, Any]:
        return {key: values[index] for key, values in self._fields.items()}


def collator(tokenizer: Any) -> Any:
    """Return what makes a batch of items: transformers' collator, padding to the longest of the batch."""
    from transformers import DataCollatorWithPadding

    return DataCollatorWithPadding(tokenizer)
