"""What lasts: the event log, the outbox, leases and cursors, behind one contract.

Start at ``base.py`` (the contract in prose), then ``records.py`` (the values that cross it) and ``states.py``
(the life of an outbox row). ``sqlite.py`` and ``mongo.py`` implement the contract, ``commit.py`` is the group
commit that both use; ``log.py``, ``consumer.py`` and ``monitor.py`` are how the rest of the gateway uses it.

This room knows nothing of Meta and nothing of HTTP.
"""
