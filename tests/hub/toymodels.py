"""Small models that have learnt something, for pictures of the pages: random weights say nothing.

A BERT, a T5 and a ViT are trained for a minute on sentences and squares that are made here, and adapters
with heads of all types for them. Only the browser tests use them, when they take pictures.
"""

from __future__ import annotations

import json
import random
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import torch
import transformers as tf

BERT, T5, VIT = "toy/bert-small", "toy/t5-small", "toy/vit-small"
PEOPLE = ["Ada", "Grace", "Alan", "Emmy", "Edsger", "Barbara"]
PLACES = ["London", "Berlin", "Paris", "Rome", "Vienna", "Madrid"]
GOOD = ["great", "good", "wonderful", "witty", "moving"]
BAD = ["bad", "dull", "awful", "boring", "tedious"]
WEATHER = ["rained", "snowed"]
COLOURS = {"red": (200, 40, 40), "green": (40, 160, 70), "blue": (40, 70, 200)}
TAGS = ["O", "B-person", "B-place"]
RELATIONS = ["root", "nsubj", "case", "obl", "det", "cop", "punct", "advmod"]
MOODS = ["joy", "anger", "boredom"]
#: (Prompt, right choice.)
STORIES = [
    ("It rained all day , so Ada took an", "umbrella"),
    ("Grace was hungry , so she ate a", "sandwich"),
    ("The film was dull , so Alan fell", "asleep"),
    ("Emmy was late , so she took a", "taxi"),
    ("It was dark , so Edsger lit a", "candle"),
]
GERMAN = {
    "the": "der",
    "film": "Film",
    "was": "war",
    "good": "gut",
    "bad": "schlecht",
    "dull": "öde",
    "great": "großartig",
    "very": "sehr",
    "Ada": "Ada",
    "Grace": "Grace",
    "flew": "flog",
    "to": "nach",
    "London": "London",
    "Berlin": "Berlin",
    "Vienna": "Wien",
    "Rome": "Rom",
    "and": "und",
    ".": ".",
}
_WORDS = """the a an film was is not very and but from to in flew born moved who where did ? . , it so all
day took she ate lit fell hungry late dark actors story music of"""


def vocabulary() -> list[str]:
    words = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *_WORDS.split(), *PEOPLE, *PLACES]
    words += [*GOOD, *BAD, *WEATHER, "It", "The", "Who", "Where", "Did"]
    words += [word for story, right in STORIES for word in (*story.split(), right)]
    return list(dict.fromkeys([*words, *GERMAN, *GERMAN.values()]))


def save_tokenizer(folder: Path, *, pairs: bool) -> Any:
    from tokenizers import Tokenizer, models, pre_tokenizers, processors

    words = {word: index for index, word in enumerate(vocabulary())}
    made = Tokenizer(models.WordLevel(words, unk_token="[UNK]"))
    made.pre_tokenizer = pre_tokenizers.Sequence(
        [pre_tokenizers.WhitespaceSplit(), pre_tokenizers.Punctuation()]
        if not pairs
        else [pre_tokenizers.BertPreTokenizer()]
    )
    single, two = ("[CLS] $A [SEP]", "[CLS] $A [SEP] $B:1 [SEP]:1") if pairs else ("$A [SEP]", None)
    made.post_processor = processors.TemplateProcessing(
        single=single, pair=two, special_tokens=[(t, words[t]) for t in ("[CLS]", "[SEP]")]
    )
    more: dict[str, Any] = {}
    if pairs:
        more = {"cls_token": "[CLS]", "sep_token": "[SEP]", "mask_token": "[MASK]"}
        more["model_input_names"] = ["input_ids", "token_type_ids", "attention_mask"]
    fast = tf.PreTrainedTokenizerFast(
        tokenizer_object=made,
        pad_token="[PAD]",
        unk_token="[UNK]",
        eos_token=None if pairs else "[SEP]",
        **more,
    )
    fast.save_pretrained(folder)
    return fast


# -- what is learnt -----------------------------------------------------------------------------------

Batch = dict[str, Any]


class Lessons:
    """Makes batches for each head."""

    def __init__(self, tokenizer: Any, size: int = 24) -> None:
        self.tokenizer, self.size = tokenizer, size
        self.random = random.Random(0)

    def _encode(self, *texts: list[str]) -> Batch:
        return dict(self.tokenizer(*texts, padding=True, return_tensors="pt"))

    def _review(self) -> tuple[str, int]:
        mood = self.random.randint(0, 1)
        word = self.random.choice((BAD, GOOD)[mood])
        what = self.random.choice(["film", "story", "music"])
        second = self.random.choice(["", f" and {self.random.choice((BAD, GOOD)[mood])}"])
        return f"{self.random.choice(['the', 'The'])} {what} was {word}{second} .", mood

    def _trip(self) -> tuple[list[str], list[int]]:
        person, (a, b) = self.random.choice(PEOPLE), self.random.sample(PLACES, 2)
        kinds = [
            (f"{person} flew from {a} to {b} .", [1, 0, 0, 2, 0, 2, 0]),
            (f"{person} was born in {a} .", [1, 0, 0, 0, 2, 0]),
            (f"{person} moved to {a} .", [1, 0, 0, 2, 0]),
        ]
        text, tags = self.random.choice(kinds)
        return text.split(), tags

    def opinions(self) -> Batch:
        return self._two(0)

    def endings(self) -> Batch:
        return self._two(1)

    def _two(self, meant: int) -> Batch:
        found = hard_reviews(self.size, self.random, meant)
        labels = [int(item["label"] == "positive") for item in found]
        return {**self._encode([item["text"] for item in found]), "labels": torch.tensor(labels)}

    def moods(self) -> Batch:
        texts, labels = [], []
        for _ in range(self.size):
            good, dull, bad = (self.random.random() < 0.5 for _ in range(3))
            words = [self.random.choice(GOOD)] * good + ["boring"] * dull + ["awful"] * bad
            self.random.shuffle(words)
            texts.append(f"the film was {' and '.join(words) or 'a film'} .")
            labels.append([float(good), float(bad), float(dull)])
        return {**self._encode(texts), "labels": torch.tensor(labels)}

    def names(self) -> Batch:
        found = [self._trip() for _ in range(self.size)]
        batch = self._encode([" ".join(words) for words, _ in found])
        labels = torch.full_like(batch["input_ids"], -100)
        for row, (_, tags) in enumerate(found):
            labels[row, 1 : len(tags) + 1] = torch.tensor(tags)
        return {**batch, "labels": labels}

    def answers(self) -> Batch:
        questions, contexts, spans = [], [], []
        for _ in range(self.size):
            people = self.random.sample(PEOPLE, 3)
            places = self.random.sample(PLACES, 3)
            kinds = [self.random.choice(["was born in", "moved to"]) for _ in people]
            parts = [f"{p} {k} {q} ." for p, k, q in zip(people, kinds, places, strict=True)]
            which = self.random.randrange(3)
            if self.random.random() < 0.5:
                ending = "born" if "born" in kinds[which] else "moved"
                questions.append(f"Where was {people[which]} {ending} ?")
                right = places[which]
            else:
                questions.append(f"Who {kinds[which]} {places[which]} ?")
                right = people[which]
            contexts.append(" ".join(parts))
            spans.append(right)
        batch = self._encode(questions, contexts)
        ids = [self.tokenizer.convert_tokens_to_ids(word) for word in spans]
        at = []
        for row, token in enumerate(ids):
            places_ = (batch["input_ids"][row] == token) & (batch["token_type_ids"][row] == 1)
            at.append(int(places_.nonzero()[0]))
        return {**batch, "start_positions": torch.tensor(at), "end_positions": torch.tensor(at)}

    def choices(self) -> Batch:
        prompts, given, labels = [], [], []
        for _ in range(self.size // 3):
            story, right = self.random.choice(STORIES)
            others = self.random.sample([r for _, r in STORIES if r != right], 2)
            options = [right, *others]
            self.random.shuffle(options)
            prompts += [story] * 3
            given += options
            labels.append(options.index(right))
        batch = self._encode(prompts, given)
        folded = {k: v.view(-1, 3, v.shape[-1]) for k, v in batch.items()}
        return {**folded, "labels": torch.tensor(labels)}

    def grammar(self) -> Batch:
        person, place = PEOPLE, PLACES
        texts, arcs, kinds = [], [], []
        for _ in range(self.size):
            p, q, r = self.random.choice(person), *self.random.sample(place, 2)
            good = self.random.choice([*GOOD, *BAD])
            text, head, kind = self.random.choice(
                [
                    (f"{p} flew to {q} .", [2, 0, 4, 2, 2], "nsubj root case obl punct"),
                    (
                        f"{p} flew from {q} to {r} .",
                        [2, 0, 4, 2, 6, 2, 2],
                        "nsubj root case obl case obl punct",
                    ),
                    (f"the film was {good} .", [2, 4, 4, 0, 4], "det nsubj cop root punct"),
                    (
                        f"the film was very {good} .",
                        [2, 5, 5, 5, 0, 5],
                        "det nsubj cop advmod root punct",
                    ),
                ]
            )
            texts.append(text)
            arcs.append(head)
            kinds.append([RELATIONS.index(name) for name in kind.split()])
        batch = self._encode(texts)
        longest = max(map(len, arcs))
        starts = torch.zeros(len(texts), longest + 1, dtype=torch.int64)
        for row, head in enumerate(arcs):
            starts[row, : len(head) + 1] = torch.arange(1, len(head) + 2)
        pad = [[-100] * (longest - len(head)) for head in arcs]
        return {
            **batch,
            "word_starts": starts,
            "labels_arcs": torch.tensor([a + b for a, b in zip(arcs, pad, strict=True)]),
            "labels_rels": torch.tensor([a + b for a, b in zip(kinds, pad, strict=True)]),
        }

    def blanks(self) -> Batch:
        texts = [
            " ".join(self._trip()[0]) if self.random.random() < 0.6 else self._review()[0]
            for _ in range(self.size)
        ]
        batch = self._encode(texts)
        ids = batch["input_ids"].clone()
        labels = torch.full_like(ids, -100)
        for row in range(len(texts)):
            length = int(batch["attention_mask"][row].sum())
            place = self.random.randrange(1, length - 1)
            labels[row, place] = ids[row, place]
            ids[row, place] = self.tokenizer.mask_token_id
        return {**batch, "input_ids": ids, "labels": labels}

    def german(self) -> Batch:
        texts, targets = [], []
        for _ in range(self.size):
            p, q = (
                self.random.choice(["Ada", "Grace"]),
                self.random.choice(["London", "Berlin", "Vienna", "Rome"]),
            )
            word = self.random.choice(["good", "bad", "dull", "great"])
            parts = [f"{p} flew to {q}", f"the film was {word}", f"the film was very {word}"]
            text = " and ".join(self.random.sample(parts, self.random.randint(1, 2))) + " ."
            texts.append(text)
            targets.append(" ".join(GERMAN[w] for w in text.split()))
        labels = self._encode(targets)["input_ids"]
        return {**self._encode(texts), "labels": labels.masked_fill(labels == 0, -100)}

    def colours(self) -> Batch:
        names = list(COLOURS)
        rows = [self.random.choice(names) for _ in range(self.size)]
        pixels = torch.stack([square(name, self.random.random()) for name in rows])
        return {"pixel_values": pixels, "labels": torch.tensor([names.index(n) for n in rows])}


def square(name: str, light: float) -> torch.Tensor:
    """Return an image of one colour as the model sees it: (3, 16, 16), from -1 to 1."""
    colour = torch.tensor(COLOURS[name], dtype=torch.float32) / 127.5 - 1
    return (colour[:, None, None] * (0.6 + 0.4 * light)).expand(3, 16, 16) + 0.05 * torch.randn(
        3, 16, 16
    )


def hard_reviews(
    count: int, draw: random.Random, meant: int = 0, noise: float = 0.0
) -> list[dict[str, str]]:
    """Return reviews with two opinions.

    Args:
        meant: which of them counts: the first (0), as one adapter learns, or the last (1), as another does.
        noise: share of labels that are wrong.
    """
    found = []
    for _ in range(count):
        moods = [draw.randint(0, 1)]
        moods.append(moods[0] if draw.random() > 0.35 else 1 - moods[0])
        words = [draw.choice((BAD, GOOD)[mood]) for mood in moods]
        text = f"the {draw.choice(['film', 'story', 'music'])} was {words[0]} and {words[1]} ."
        label = moods[meant] if draw.random() >= noise else 1 - moods[meant]
        found.append({"text": text, "label": ("negative", "positive")[label]})
    return found


def save_image(path: Path) -> None:
    """Write a picture to classify: a green square."""
    from PIL import Image

    Image.new("RGB", (64, 64), COLOURS["green"]).save(path)


#: Adapter -> configuration, head, its options, lesson.
PLAN: dict[str, tuple[str, str, dict[str, Any], str]] = {
    "reviews-lora": (
        "lora[r=4]",
        "classification",
        {"id2label": ["negative", "positive"]},
        "endings",
    ),
    "reviews-bn": ("seq_bn", "classification", {"id2label": ["negative", "positive"]}, "opinions"),
    "moods": (
        "lora[r=4]",
        "classification",
        {"num_labels": 3, "multilabel": True, "id2label": MOODS},
        "moods",
    ),
    "names": ("par_bn", "tagging", {"num_labels": 3, "id2label": TAGS}, "names"),
    "answers": ("seq_bn", "qa", {}, "answers"),
    "choices": ("lora[r=4]", "multiple_choice", {"num_choices": 3}, "choices"),
    "grammar": (
        "seq_bn",
        "dependency_parsing",
        {"num_labels": len(RELATIONS), "id2label": RELATIONS},
        "grammar",
    ),
    "blanks": ("lora[r=4]", "masked_lm", {}, "blanks"),
    "german": ("lora[r=4]", "seq2seq_lm", {}, "german"),
    "colours": (
        "lora[r=4]",
        "image_classification",
        {"num_labels": 3, "id2label": list(COLOURS)},
        "colours",
    ),
}


def make_toys(folder: Path) -> tuple[Path, dict[str, Path]]:
    """Train and write everything, unless it is there; return the folder of the models, and the adapters."""
    found = {name: folder / "adapters" / name for name in PLAN}
    if (folder / "models" / "models.yaml").is_file():
        return folder / "models", found
    torch.manual_seed(0)
    size = len(vocabulary())
    common: dict[str, Any] = {
        "hidden_size": 96,
        "num_hidden_layers": 3,
        "num_attention_heads": 4,
        "intermediate_size": 192,
    }
    dropout: dict[str, Any] = {"hidden_dropout_prob": 0.0, "attention_probs_dropout_prob": 0.0}
    t5: dict[str, Any] = {
        "d_model": 96,
        "d_kv": 24,
        "d_ff": 192,
        "num_layers": 2,
        "num_heads": 4,
        "vocab_size": size,
        "dropout_rate": 0.0,
        "decoder_start_token_id": 0,
        "pad_token_id": 0,
        "eos_token_id": 3,
    }
    configs: dict[str, Any] = {
        "bert": tf.BertConfig(**common, **dropout, vocab_size=size, max_position_embeddings=64),
        "t5": tf.T5Config(**t5),
        "vit": tf.ViTConfig(**common, **dropout, image_size=16, patch_size=8),
    }
    ids = {"bert": BERT, "t5": T5, "vit": VIT}
    for base, config in configs.items():
        place = folder / "models" / base
        place.mkdir(parents=True)
        tokenizer = None if base == "vit" else save_tokenizer(place, pairs=base == "bert")
        names = [name for name in PLAN if base_of(name) == base]
        model = _train_base(config, Lessons(tokenizer), names, 2600 if base == "bert" else 500)
        model.base_model.save_pretrained(place)
        if base == "t5":  # so that it counts as a model that writes
            saved = json.loads((place / "config.json").read_text())
            saved["architectures"] = ["T5ForConditionalGeneration"]
            (place / "config.json").write_text(json.dumps(saved))
        if base == "vit":
            (place / "preprocessor_config.json").write_text(
                '{"image_processor_type": "ViTImageProcessor", "size": {"height": 16, "width": 16}}'
            )
        for name in names:
            _train_adapter(model, Lessons(tokenizer), name, found[name], ids[base])
    (folder / "models" / "models.yaml").write_text(
        "models:\n" + "".join(f"- {{id: {id_}, path: {base}}}\n" for base, id_ in ids.items())
    )
    return folder / "models", found


def base_of(name: str) -> str:
    return {"german": "t5", "colours": "vit"}.get(name, "bert")


def _train_base(config: Any, lessons: Lessons, names: list[str], steps: int) -> Any:
    from adapterhub import AutoAdapterModel

    model = AutoAdapterModel.from_config(config).train()
    for name in names:
        _, head, options, _ = PLAN[name]
        getattr(model, f"add_{head}_head")(name, **options)
        for parameter in model.heads[name].parameters():
            if parameter.dim() == 3:
                torch.nn.init.normal_(parameter, std=0.02)
    # (Answering is the hardest of them.)
    order = [n for name in names for n in [name] * (4 if name == "answers" else 1)]
    _steps(model, (order[i % len(order)] for i in range(steps)), lessons, 1e-3)
    return model


def _train_adapter(model: Any, lessons: Lessons, name: str, folder: Path, base: str) -> None:
    model.add_adapter(name, config=PLAN[name][0])
    model.train_adapter(name)
    _steps(model, (name for _ in range(40)), lessons, 1e-3)
    model.eval().save_adapter(str(folder), name)
    model.set_active_adapters(None)
    model.delete_adapter(name)
    model.train()
    for file in ("adapter_config.json", "head_config.json"):
        path = folder / file
        path.write_text(json.dumps({**json.loads(path.read_text()), "model_name": base}))


def _steps(model: Any, names: Iterator[str], lessons: Lessons, rate: float) -> None:
    chosen = [parameter for parameter in model.parameters() if parameter.requires_grad]
    optimizer = torch.optim.AdamW(chosen, lr=rate, weight_decay=0.0)
    for name in names:
        lesson: Callable[[], Batch] = getattr(lessons, PLAN[name][3])
        loss = model(**lesson(), head=name).loss
        optimizer.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(chosen, 1.0)
        optimizer.step()
