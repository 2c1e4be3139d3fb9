"""What gateways on one MongoDB agree upon: leases, cursors, memos, claims and the addresses of contacts.

Owns the collections ``leases``, ``cursors``, ``memos``, ``claims`` and ``aliases``. Each of their documents
has one key and is changed by a single atomic update of the server's, so no transaction is needed. Documents
are made before they are updated and never by an upsert, since upserts that race fail or answer wrongly on
some servers.

A cursor carries the term of the lease under which it was last saved. The newest term is looked up before a
save; the one in the document then refuses a former owner that was held up between the two.
"""

from __future__ import annotations

import asyncio
from collections.abc import Collection, Iterable, Sequence
from typing import Any

from pymongo import ReplaceOne, ReturnDocument

from store.errors import LeaseLost, StoreUnavailable
from store.mongo_connection import Connection, Document, InOrder
from store.records import Alias, Cursor, Lease, Memo

__all__ = ["Coordination", "lost"]

_NOW = {"$toLong": "$$NOW"}
"""Milliseconds by the server's clock."""
_TRIES = 5


class Coordination:
    """Leases, cursors, memos, claims and aliases; the methods are those of :class:`~store.base.Store`."""

    def __init__(self, db: Connection, in_order: InOrder) -> None:
        self._db = db
        self._in_order = in_order

    # -- leases ----------------------------------------------------------------------------------------

    async def acquire_lease(self, name: str, owner: str, ttl_ms: int) -> Lease | None:
        """Take or extend a lease. One that ran out changes hands, even to its former owner."""
        return await self._in_order.run(f"lease:{name}", lambda: self._acquire(name, owner, ttl_ms))

    async def release_lease(self, lease: Lease) -> None:
        """Let it run out now."""
        where = {"_id": lease.name, "owner": lease.owner, "term": lease.term}
        await self._in_order.run(
            f"lease:{lease.name}",
            lambda: self._db.call(lambda: self._db["leases"].update_one(where, {"$set": {"until": 0}})),
        )

    async def held_leases(self) -> list[Lease]:
        """Those that have not run out."""
        # An aggregation, since some servers know the clock in pipelines only. The collection is small: a
        # document for each number, consumer and place of a process.
        found = await self._db.aggregate("leases", {"$match": {"$expr": {"$gt": ["$until", _NOW]}}})
        return [Lease(d["_id"], d["owner"], int(d["term"])) for d in found]

    async def terms(self, names: Iterable[str]) -> dict[str, int]:
        """The newest term of each lease that there ever was."""
        wanted = list(set(names))
        found = await self._db.find("leases", {"_id": {"$in": wanted}}, {"term": 1}) if wanted else []
        return {document["_id"]: int(document["term"]) for document in found}

    async def _acquire(self, name: str, owner: str, ttl_ms: int) -> Lease | None:
        free = {"$lte": ["$until", _NOW]}
        mine = {"$eq": ["$owner", {"$literal": owner}]}
        # Every expression of one $set sees the document as it was before.
        update: list[dict[str, Any]] = [
            {
                "$set": {
                    "term": {"$cond": [free, {"$add": ["$term", 1]}, "$term"]},
                    "owner": {"$cond": [free, {"$literal": owner}, "$owner"]},
                    "until": {"$cond": [{"$or": [free, mine]}, {"$add": [_NOW, ttl_ms]}, "$until"]},
                }
            }
        ]

        async def change() -> Document | None:
            return await self._db["leases"].find_one_and_update(
                {"_id": name}, update, return_document=ReturnDocument.AFTER
            )

        found = await self._db.call(change)
        if found is None:
            await self._db.insert_new("leases", [{"_id": name, "owner": "", "term": 0, "until": 0}])
            found = await self._db.call(change)
        if found is None or found["owner"] != owner:
            return None
        return Lease(name, owner, int(found["term"]))

    # -- cursors ---------------------------------------------------------------------------------------

    async def load_cursor(self, name: str) -> int:
        """0 where it was never saved."""
        found = await self._db.find_one("cursors", {"_id": name})
        return int(found["offset"]) if found else 0

    async def list_cursors(self) -> list[Cursor]:
        """All; there are few."""
        found = await self._db.find("cursors", {}, sort=[("_id", 1)])
        return [Cursor(document["_id"], int(document["offset"])) for document in found]

    async def save_cursor(self, cursor: Cursor, lease: Lease | None) -> None:
        """Save a place, under the newest term or under none."""
        await self._in_order.run(f"cursor:{cursor.name}", lambda: self._save(cursor, lease))

    async def _save(self, cursor: Cursor, lease: Lease | None) -> None:
        where: Document = {"_id": cursor.name}
        values: Document = {"offset": cursor.offset}
        if lease is not None:
            if (await self.terms([lease.name])).get(lease.name) != lease.term:
                raise lost(lease)
            where["term"] = {"$lte": lease.term}
            values["term"] = lease.term
        for _ in range(2):
            done = await self._db.call(lambda: self._db["cursors"].update_one(where, {"$set": values}))
            if done.matched_count:
                return
            if not await self._db.insert_new("cursors", [{"term": 0, "_id": cursor.name, **values}]):
                return
        # The document is there and does not fit: its term is newer.
        raise lost(lease) if lease is not None else StoreUnavailable("the cursor could not be saved")

    # -- memos -----------------------------------------------------------------------------------------

    async def find_memo(self, name: str) -> Memo | None:
        """As a majority has it."""
        found = await self._db.find_one("memos", {"_id": name})
        return Memo(name, int(found["version"]), found["body"]) if found else None

    async def put_memo(self, memo: Memo) -> bool:
        """Compare and set."""
        return await self._in_order.run(f"memo:{memo.name}", lambda: self._put_memo(memo))

    async def _put_memo(self, memo: Memo) -> bool:
        values: Document = {"version": memo.version, "body": memo.body}
        if memo.version == 1:
            if not await self._db.insert_new("memos", [{"_id": memo.name, **values}]):
                return True
        else:
            where = {"_id": memo.name, "version": memo.version - 1}
            done = await self._db.call(lambda: self._db["memos"].update_one(where, {"$set": values}))
            if done.matched_count:
                return True
        return await self._db.find_one("memos", {"_id": memo.name, **values}) is not None

    # -- claims ----------------------------------------------------------------------------------------

    async def claim_once(self, key: str, token: str, now: int, cooldown_ms: int) -> bool:
        """Compare and set, until nobody came between."""
        return await self._in_order.run(f"claim:{key}", lambda: self._claim(key, token, now, cooldown_ms))

    async def _claim(self, key: str, token: str, now: int, cooldown_ms: int) -> bool:
        mine: Document = {"token": token, "at": now}
        for turn in range(_TRIES):
            # What another has written a moment ago is seen only when a majority has it.
            await asyncio.sleep(0.01 * turn)
            found = await self._db.find_one("claims", {"_id": key})
            if found is None:
                if not await self._db.insert_new("claims", [{"_id": key, **mine}]):
                    return True
                continue
            if found["token"] == token:
                return True
            if now - int(found["at"]) < cooldown_ms:
                return False
            if await self._exchange("claims", found, mine):
                return True
        raise StoreUnavailable(f"too many want to claim {key} at once, try again later")

    async def _exchange(self, name: str, seen: Document, values: Document) -> bool:
        """Change a document if it still is as it was seen."""
        done = await self._db.call(lambda: self._db[name].update_one(seen, {"$set": values}))
        return bool(done.matched_count)

    # -- aliases ---------------------------------------------------------------------------------------

    async def find_aliases(self, aliases: Collection[str]) -> dict[str, Alias]:
        """Those that are known."""
        if not aliases:
            return {}
        found = await self._db.find("aliases", {"_id": {"$in": list(aliases)}})
        return {d["_id"]: _alias(d) for d in found}

    async def aliases_of(self, contact: str) -> list[Alias]:
        """By the index of contacts."""
        found = await self._db.find("aliases", {"contact": contact}, sort=[("_id", 1)])
        return [_alias(d) for d in found]

    async def put_aliases(self, aliases: Sequence[Alias]) -> None:
        """Store each, the later of two for one address last."""
        if aliases:
            await self._in_order.run("aliases", lambda: self._put(aliases))

    async def _put(self, aliases: Sequence[Alias]) -> None:
        latest = {alias.alias: alias for alias in aliases}
        documents = [
            {"_id": a.alias, "contact": a.contact, "peer": a.peer, "at": a.at} for a in latest.values()
        ]
        known = await self._db.insert_new("aliases", documents)
        replacements = [ReplaceOne({"_id": documents[place]["_id"]}, documents[place]) for place in known]
        if replacements:
            await self._db.call(lambda: self._db["aliases"].bulk_write(replacements, ordered=False))


def _alias(found: Document) -> Alias:
    # Earlier versions kept no time.
    return Alias(found["_id"], found["contact"], found["peer"], int(found.get("at", 0)))


def lost(lease: Lease) -> LeaseLost:
    """The error for a lease that is no longer the newest."""
    return LeaseLost(f"the lease {lease.name} has another owner")
