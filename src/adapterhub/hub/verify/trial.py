"""The trial of an adapter, in a limited child process: does it fit its base model, and does it do something?

*architecture*: every tensor has its module in the base model, with its shape, and every module that the
configuration asks for has its tensors. Nothing but shapes is needed, so a base model of any size will do.
*forward*: on a thin base model with random weights the adapter loads, its output is finite and not that of
the base, and merging and unmerging it changes nothing that it should not.

``python -m adapterhub.hub.verify.trial`` is the child; :mod:`.deep` starts it.
"""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import Any

from adapterhub.hub.verify.sandbox import answer, begin

#: How far a merged adapter may be from the adapter itself, as a share of the largest output.
TOLERANCE = 1e-3
#: A smaller change than this is none: rounding alone makes as much.
EFFECT = 1e-6


def judge(found: dict[str, Any]) -> tuple[list[str], list[str]]:
    """Return errors and warnings that follow from a forward pass.

    Args:
        found: ``finite``; ``distance`` from the base, ``None`` if it cannot be told; ``merged``: ``None`` or
            the distances after merging (``merged``) and after taking it out again (``restored``).
    """
    errors: list[str] = []
    warned: list[str] = []
    if not found["finite"]:
        errors.append("the output holds NaN or infinity, even on small random inputs")
    elif found["distance"] is not None and found["distance"] < EFFECT:
        errors.append(
            "the output is that of the base model: the adapter does nothing (if that is meant, give its "
            "card the tag 'untrained')"
        )
    merged = found.get("merged") or {}
    if merged.get("merged", 0.0) > TOLERANCE:
        warned.append(
            f"merged into the base it computes something else (by {merged['merged']:.1e})"
        )
    if merged.get("restored", 0.0) > TOLERANCE:
        warned.append(f"taking it out again leaves the base changed (by {merged['restored']:.1e})")
    return errors, warned


def _module(kind: str) -> Any:
    if kind == "peft":
        from adapterhub.hub.verify import trial_peft

        return trial_peft
    from adapterhub.hub.verify import trial_ours

    return trial_ours


def _forward(
    tester: Any, folder: Path, base: dict[str, Any], data: dict[str, Any]
) -> dict[str, Any]:
    from adapterhub.hub.verify.trial_base import CannotRun, NeedsDepth

    options: dict[str, Any] = {"auto": data["auto"]} if "auto" in data else {}
    try:
        try:
            run = tester.forward(folder, base, **options)
        except NeedsDepth:
            run = tester.forward(folder, base, **options, whole_depth=True)
    except (CannotRun, MemoryError) as error:
        return {"skipped": str(error) or "this base model is too large to run here"}
    except RuntimeError as error:
        if "alloc" not in str(error):  # (torch has no error of its own for the CPU)
            raise
        return {"skipped": "this base model is too large to run here"}
    errors, warned = judge(run)
    return {"errors": errors, "warnings": warned, "data": run}


def main() -> None:
    """What the child does."""
    request, barred = begin()
    import torch

    torch.set_num_threads(1)
    from adapterhub.hub.verify.limits import no_more_processes

    tester = _module(request["kind"])
    no_more_processes()
    folder, base = Path("adapter"), request["base"]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        problems, data = tester.fits(folder, base)
        found: dict[str, Any] = {
            "architecture": {"errors": problems, "data": data},
            "barred": barred,
        }
        if problems:
            found["forward"] = {"skipped": "the tensors do not fit"}
        else:
            found["forward"] = _forward(tester, folder, base, data)
    answer(found)


if __name__ == "__main__":
    main()
