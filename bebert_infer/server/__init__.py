"""The HTTP server of one model, `bebert serve` (extra `serve`): one process, one thread that calls the engine.

A request's way: `protocol.py` (bytes to HTTP, timeouts) -> `app.py` (paths, token) -> `body.py` (limits) ->
`request.py` (what is asked) -> `batching.py` (texts of many clients, one call of the engine) -> `reply.py` (JSON).
`run.py` starts it and ends it; `page.py` is the page to try it; `openapi.py` and `metrics.py` are for machines.
"""

__all__ = ["run", "settings"]
