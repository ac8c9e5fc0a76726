"""How fast a hub server answers with many adapters: pages, searches and the API, over HTTP.

:mod:`.seed` fills a store with synthetic adapters, the same ones every time; :mod:`.load` asks a real
server for them from several clients at once. ``python -m benchmarks.hub`` does both and records what came
out in ``benchmarks/results/hub_search_<database>.json``.
"""
