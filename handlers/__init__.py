"""The HTTP and WebSocket edge: decode, authorise, call, answer. One file per resource.

``base`` holds the one table from error kinds to HTTP statuses. No handler touches a store's tables, the Graph
client, or a lane's inside.
"""
