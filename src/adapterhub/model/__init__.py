"""What a user holds: a model with adapters.

Two faces of one engine. :func:`attach` gives a small explicit :class:`AdapterHandle` and leaves the model's
class alone; :func:`init` puts the same methods on the model itself, under the names that users of
AdapterHub know. ``AutoAdapterModel`` adds prediction heads.
"""

from adapterhub.model.facade import init
from adapterhub.model.handle import AdapterHandle, attach
from adapterhub.model.setup import AdapterSetup

__all__ = ["AdapterHandle", "AdapterSetup", "attach", "init"]
