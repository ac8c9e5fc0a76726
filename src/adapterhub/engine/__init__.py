"""The only code that touches a running model.

One hard idea: a model is never rewritten. Next to each module that an adapter acts on (its *host*)
hangs one small child, the :class:`~adapterhub.engine.sites.Site`, which holds the adapters' weights and
whose bound methods are the host's forward hooks. So device moves, dtypes, ``deepcopy``, sharding and
checkpointing treat adapters like any other part of the model, and taking the hooks and the child
away gives the old model back, bit for bit.

Reading order: :mod:`~adapterhub.context` (what one forward pass carries),
:mod:`~adapterhub.engine.sites` (hooks), :mod:`~adapterhub.engine.evaluate` (composition, evaluated
once for all places), :mod:`~adapterhub.engine.attention` (keys and values),
:mod:`~adapterhub.engine.boundary` (where a forward pass begins and ends) and
:mod:`~adapterhub.engine.engine` (adding, activating, removing).
"""

from adapterhub.engine.engine import Engine
from adapterhub.engine.records import AdapterRecord, FusionRecord

__all__ = ["AdapterRecord", "Engine", "FusionRecord"]
