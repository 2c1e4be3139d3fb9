"""Conversations on MongoDB: ``said``, a document for each message; ``threads``, one for each contact and
number; and ``moved_threads``, one for each contact who is found by another key now.

Documents are made before they are updated and never by an upsert (see ``mongo_leases.py``). What was said is
stored before the threads that show it, and all of it before the cursor, so that a repetition completes it.
"""

from __future__ import annotations

import asyncio
from collections.abc import Collection, Sequence

import msgspec
from pymongo import UpdateOne

from store.mongo_connection import Connection, Document
from store.threads import Said, Thread, ThreadNews, renamed, summed

__all__ = ["SAID", "THREADS", "Threads"]

SAID = "said"
THREADS = "threads"
_MOVED = "moved_threads"
_CHUNK = 100
"""Writes in one bulk, well inside the time of one answer where each takes some milliseconds."""
_MOST = ("last_offset", "last_at", "heard_offset", "heard_at", "spoke_offset", "read_offset")


class Threads:
    """The methods are those of :class:`~store.base.Store`, but for the cursor."""

    def __init__(self, db: Connection) -> None:
        self._db = db

    async def note(self, news: ThreadNews) -> None:
        """Insert, then raise."""
        contacts = {said.contact for said in news.said} | {thread.contact for thread in news.more}
        news = renamed(news, await self._moved(contacts))
        for start in range(0, len(news.said), _CHUNK):
            await self._db.insert_new(SAID, [_said(said) for said in news.said[start : start + _CHUNK]])
        threads = summed(news)
        for start in range(0, len(threads), _CHUNK):
            await self._raise(threads[start : start + _CHUNK])
        amended = [UpdateOne({"_id": one.offset}, {"$set": {"amended": one.body}}) for one in news.amended]
        for start in range(0, len(amended), _CHUNK):
            await self._write(SAID, amended[start : start + _CHUNK])
        for moved in news.moved:
            await self._move(moved.gone, moved.kept)

    async def _move(self, gone: str, kept: str) -> None:
        """The name first, so that what comes meanwhile goes there; all of it may be done again."""
        moved = self._db[_MOVED]
        await self._db.call(lambda: moved.delete_one({"_id": kept}))
        await self._db.call(lambda: moved.update_many({"kept": gone}, {"$set": {"kept": kept}}))
        if await self._db.insert_new(_MOVED, [{"_id": gone, "kept": kept}]):
            await self._db.call(lambda: moved.update_one({"_id": gone}, {"$set": {"kept": kept}}))
        while found := await self._db.find(SAID, {"contact": gone}, {"_id": 1}, limit=_CHUNK):
            one = {"$set": {"contact": kept}}
            await self._write(SAID, [UpdateOne({"_id": document["_id"]}, one) for document in found])
        threads = [msgspec.structs.replace(one, contact=kept) for one in await self._threads(gone)]
        await self._raise(threads)
        await self._db.call(lambda: self._db[THREADS].delete_many({"contact": gone}))

    async def _moved(self, contacts: Collection[str]) -> dict[str, str]:
        """Of those of these that are found by other keys now, the key."""
        found = await self._db.find(_MOVED, {"_id": {"$in": list(contacts)}}) if contacts else []
        return {document["_id"]: document["kept"] for document in found}

    async def _threads(self, contact: str) -> list[Thread]:
        return [_as_thread(document) for document in await self._db.find(THREADS, {"contact": contact})]

    async def _raise(self, threads: Sequence[Thread]) -> None:
        known = await self._db.insert_new(THREADS, [_thread(thread) for thread in threads])
        await self._write(THREADS, [_update(threads[place]) for place in sorted(known)])

    async def _write(self, name: str, updates: Sequence[UpdateOne]) -> None:
        if updates:
            await self._db.call(lambda: self._db[name].bulk_write(updates, ordered=False))

    async def page(
        self, contact: str, limit: int, before: int | None, after: int | None, phone_number_id: str
    ) -> list[Said]:
        """Down the index of a contact."""
        contact = (await self._moved([contact])).get(contact, contact)
        where: Document = {"contact": contact, "_id": {"$gt": after or 0}}
        if before is not None:
            where["_id"]["$lt"] = before
        if phone_number_id:
            where["phone_number_id"] = phone_number_id
        direction = 1 if after is not None and before is None else -1
        found = await self._db.find(SAID, where, sort=[("_id", direction)], limit=limit)
        return sorted((_as_said(document) for document in found), key=lambda said: said.offset)

    async def find_said(self, offsets: Collection[int]) -> dict[int, Said]:
        """Those that are there."""
        found = await self._db.find(SAID, {"_id": {"$in": list(offsets)}}) if offsets else []
        return {said.offset: said for said in map(_as_said, found)}

    async def find_threads(self, contact: str) -> list[Thread]:
        """Of all numbers."""
        return await self._threads((await self._moved([contact])).get(contact, contact))

    async def page_of_threads(
        self, numbers: Sequence[str], limit: int, before: int | None, unread: bool
    ) -> list[Thread]:
        """Of each number down its index; then the last of these."""
        pages = [await self._page_of_number(number, limit, before, unread) for number in numbers]
        found = [thread for page in pages for thread in page]
        return sorted(found, key=lambda thread: -thread.last_offset)[:limit]

    async def _page_of_number(
        self, number: str, limit: int, before: int | None, unread: bool
    ) -> list[Thread]:
        where: Document = {"phone_number_id": number, "last_offset": {"$gt": 0}}
        if before is not None:
            where["last_offset"]["$lt"] = before
        if unread:
            where["unread"] = True
        found = await self._db.find(THREADS, where, sort=[("last_offset", -1)], limit=limit)
        return [_as_thread(document) for document in found]

    async def count_unread(self, threads: Sequence[Thread], most: int) -> list[int]:
        """Up to ``most`` of each."""
        return list(await asyncio.gather(*(self._count(thread, most) for thread in threads)))

    async def _count(self, thread: Thread, most: int) -> int:
        if not thread.unread:
            return 0
        where = {
            "contact": thread.contact,
            "_id": {"$gt": thread.read_offset},
            "kind": "in",
            "phone_number_id": thread.phone_number_id,
        }
        return len(await self._db.find(SAID, where, {"_id": 1}, limit=most))


def _said(said: Said) -> Document:
    return {
        "_id": said.offset,
        "contact": said.contact,
        "phone_number_id": said.phone_number_id,
        "at": said.at,
        "kind": said.kind,
        **{
            name: value
            for name, value in (("message_id", said.message_id), ("wamid", said.wamid), ("body", said.body))
            if value
        },
    }


def _as_said(document: Document) -> Said:
    # The driver reads large integers as a subclass that encoders do not know, hence every int().
    return Said(
        int(document["_id"]),
        document["contact"],
        document["phone_number_id"],
        int(document["at"]),
        document["kind"],
        document.get("message_id", ""),
        document.get("wamid", ""),
        document.get("body", b""),
        amended=document.get("amended", b""),
    )


def _id(thread: Thread) -> str:
    return f"{thread.phone_number_id}:{thread.contact}"


def _thread(thread: Thread) -> Document:
    fields = {name: getattr(thread, name) for name in Thread.__struct_fields__}
    if not thread.first_heard_at:
        # What is not there is set by the first $min.
        del fields["first_heard_at"]
    return {"_id": _id(thread), **fields, "unread": thread.unread}


def _update(thread: Thread) -> UpdateOne:
    """Then what follows of the fields as they are by then: an index cannot compare two of them."""
    values: Document = {name: {"$max": [f"${name}", getattr(thread, name)]} for name in _MOST}
    for name in ("name", "preferences"):
        if value := getattr(thread, name):
            values[name] = {"$literal": value}
    if thread.first_heard_at:
        values["first_heard_at"] = {"$min": ["$first_heard_at", thread.first_heard_at]}
    unread = {"$gt": ["$heard_offset", "$read_offset"]}
    return UpdateOne({"_id": _id(thread)}, [{"$set": values}, {"$set": {"unread": unread}}])


def _as_thread(document: Document) -> Thread:
    return Thread(
        document["contact"],
        document["phone_number_id"],
        last_offset=int(document["last_offset"]),
        last_at=int(document["last_at"]),
        heard_offset=int(document["heard_offset"]),
        heard_at=int(document["heard_at"]),
        first_heard_at=int(document.get("first_heard_at", 0)),
        spoke_offset=int(document["spoke_offset"]),
        read_offset=int(document["read_offset"]),
        name=document["name"],
        preferences=document["preferences"],
    )
