"""All that is Meta's: payloads, webhook, signature, error table, pacing, lanes, Graph client, sandbox.

The pure part decides and takes time and randomness as arguments: ``webhook``, ``signature``, ``identity``,
``errors``, ``retry``, ``pacing``, ``queue``. The shell does: ``graph`` (calls Meta), ``lane`` (sends),
``tracker`` and ``autoreply`` (consumers of the log), ``outbox`` (accepts sends), ``sandbox`` (plays Meta).

This room knows neither HTTP handlers nor the hub.
"""
