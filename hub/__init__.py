"""Subscriptions, fan-out and replay of the event log. Knows nothing of what a message means.

``frames`` builds what goes over the wire, once per event; ``subscription`` is one client's filters and place;
``hub`` hands live batches to all; ``replay`` joins the log's past to the live stream; ``names`` keeps the
places of those that have one; ``pages`` reads a page for who asks for it.
"""
