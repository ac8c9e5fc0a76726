"""The trial of an adapter, in a limited child process: does it fit its base model, and does it do something?

*architecture*: every tensor has its module in the base model, with its shape, and every module that the
configuration asks for has its tensors. Nothing but shapes is needed, so a base model of any size will do.
*forward*: on a thin base model with random weights the adapter loads, its output is finite and not that of
the base, and merging and unmerging it changes nothing that it should not.
*head*: the prediction head beside it fits both, and gives finite outputs of the right shape
(:mod:`.trial_head`, :mod:`.trial_headrun`).

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


def _head(folder: Path, base: dict[str, Any], *, fits: bool) -> dict[str, Any]:
    """Try the head beside the adapter; *fits*: whether the adapter itself does."""
    from adapterhub.hub.verify import trial_head, trial_headrun
    from adapterhub.hub.verify.trial_base import CannotRun

    try:
        errors, warned, data = trial_head.fits(folder, base)
    except trial_head.Unknown as reason:
        return {"unknown": str(reason)}
    found: dict[str, Any] = {"errors": errors, "warnings": warned, "data": data}
    if errors:
        return found
    try:
        if not fits:
            raise CannotRun("the adapter does not fit")
        wrong, more, ran = trial_headrun.run(folder, base)
    except (CannotRun, MemoryError) as error:
        why = str(error) or "the base model is too large to run here"
        return {**found, "warnings": [*warned, f"its shapes fit, but it was not run: {why}"]}
    except (
        ArithmeticError,
        AttributeError,
        LookupError,
        RuntimeError,
        TypeError,
        ValueError,
    ) as error:
        lines = str(error).strip().splitlines() or [type(error).__name__]
        return {**found, "errors": [f"the head cannot be run on its base model: {lines[0][:300]}"]}
    return {"errors": wrong, "warnings": [*warned, *more], "data": {**data, **ran}}


def main() -> None:
    """What the child does."""
    request, barred = begin()
    import torch

    torch.set_num_threads(1)
    from adapterhub.hub.verify.limits import no_more_processes

    tester = _module(request["kind"])
    if request.get("head"):
        from adapterhub.hub.verify import trial_headrun  # noqa: F401  # (while it can be imported)
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
        if request.get("head"):
            found["head"] = _head(folder, base, fits=not problems)
    answer(found)


if __name__ == "__main__":
    main()
