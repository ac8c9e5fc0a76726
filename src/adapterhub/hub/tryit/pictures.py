"""The face of a base model that reads images: one image in, its classes out (needs Pillow).

An image is a file of a stranger. It is opened in the child process only, as PNG or JPEG and nothing else,
and its size in pixels is known, and limited, before any of them is unpacked.
"""

from __future__ import annotations

import base64
import io
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch

from adapterhub.hub.tryit.faces import Heads, Result
from adapterhub.hub.tryit.forms import require
from adapterhub.hub.tryit.jobs import Job, TryError, Typed
from adapterhub.hub.tryit.reading import readers
from adapterhub.hub.tryit.rows import Rows

_FORMATS = ("PNG", "JPEG")
_KIND = "image_classification"


def decode(data: bytes, pixels: int) -> Any:
    """Return an image as RGB, the right way up.

    Args:
        data: of a PNG or JPEG file. pixels: how many it may have.

    Raises:
        TryError: If it is none, damaged, or too large.
    """
    from PIL import Image, ImageOps, UnidentifiedImageError

    try:
        image = Image.open(io.BytesIO(data), formats=_FORMATS)
        if image.width * image.height > pixels:
            raise TryError(
                f"the image has {image.width} × {image.height} pixels; "
                f"up to {pixels // 1_000_000} million are taken"
            )
        return ImageOps.exif_transpose(image).convert("RGB")
    except TryError:
        raise
    except UnidentifiedImageError as error:
        raise TryError("this is no PNG or JPEG image") from error
    except Exception as error:  # whatever a damaged file makes of a decoder
        raise TryError("the image is damaged") from error


class Pictures(Heads):
    """A model with prediction heads that classify images."""

    def load(self, base: Path) -> tuple[Any, Any]:
        from transformers import AutoImageProcessor

        from adapterhub import AutoAdapterModel

        model = AutoAdapterModel.from_pretrained(base, use_safetensors=True)
        return model, AutoImageProcessor.from_pretrained(base)

    def forward(self, jobs: Sequence[Job]) -> Sequence[Result]:
        results: dict[int, Result] = {}
        images: dict[int, Any] = {}
        for index, job in enumerate(jobs):
            data = base64.b64decode(job.image)
            try:
                require("image", Typed(image=data), self.limits)
                images[index] = decode(data, self.limits.pixels)
            except TryError as error:
                results[index] = error
        for index, (output, head) in self._classify(jobs, images).items():
            rows = Rows(jobs[index], _KIND, [], cut=False)
            several = head.config.get("multilabel", False)
            reader = readers["multilabel_classification" if several else _KIND]
            try:
                results[index] = {**reader(rows, [{"logits": output}], head.labels()), "cut": False}
            except TryError as error:
                results[index] = error
        return [results[index] for index in range(len(jobs))]

    def _classify(
        self, jobs: Sequence[Job], images: dict[int, Any]
    ) -> dict[int, tuple[torch.Tensor, Any]]:
        """Return the logits of each image, and the head that gave them."""
        if not images:
            return {}
        places = list(images)
        inputs = self.tokenizer(images=list(images.values()), return_tensors="pt")
        names = self.activate([jobs[index] for index in places])
        with torch.inference_mode():
            output = self.model(pixel_values=inputs["pixel_values"], adapter_rows=names)
        found = {}
        for head, own in zip(output.head_outputs, output.rows, strict=True):
            for logits, number in zip(head.logits.float(), own.tolist(), strict=True):
                name = jobs[places[number]].adapter
                found[places[number]] = (logits, self.model.heads[name])
        return found
