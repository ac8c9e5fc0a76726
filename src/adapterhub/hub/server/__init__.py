"""The hub as a web server, which the stock Hugging Face clients take for theirs.

``adapterhub hub serve`` runs it (:mod:`.serve`). A request comes in through :mod:`.app` (one Starlette
application), is matched on its raw path (:mod:`.routing`), gets a caller (:mod:`.identity`), and ends in
one function of a ``hf_*`` module (the Hugging Face protocol) or of :mod:`.admin` (our own JSON API) or
:mod:`.ops` (health, metrics). Those read the request, call the store or the intake, and shape the answer;
no rule about adapters, rights or history lives here. Every refusal of the store becomes an answer in
:mod:`.answers`, with the headers by which clients tell them apart. :mod:`.ndjson` reads commits of any
size without holding them in memory. :mod:`.patience` says how long slow clients are waited for.
Large files that come in Xet's format take the way of :mod:`.xet_tickets` (who may), :mod:`.xet_pushes` (what
becomes of them) and :mod:`.xet_answers`.
:mod:`.fault` answers where the hub itself is at fault. :mod:`.openapi` describes the API, from the routes
and :mod:`.operations`.
"""
