"""Ids of uploaded files on MongoDB: the collection ``media``, one document for each number, type, content."""

from __future__ import annotations

from store.errors import StoreUnavailable
from store.mongo_connection import Connection, InOrder
from store.records import KnownMedia

__all__ = ["MEDIA", "MediaIds"]

MEDIA = "media"


class MediaIds:
    """The methods are those of :class:`~store.base.Store`."""

    def __init__(self, db: Connection, in_order: InOrder) -> None:
        self._db = db
        self._in_order = in_order

    async def remember_media(self, media: KnownMedia, now: int) -> None:
        """Keep an id, and remove what is over."""
        key = _key(media.phone_number_id, media.sha256, media.mime_type)
        await self._in_order.run(f"media:{key}", lambda: self._remember(key, media, now))

    async def find_media(self, phone_number_id: str, sha256: str, mime_type: str, now: int) -> str | None:
        """The id, while it may be used."""
        where = {"_id": _key(phone_number_id, sha256, mime_type), "until": {"$gt": now}}
        found = await self._db.find_one(MEDIA, where)
        return str(found["media_id"]) if found else None

    async def _remember(self, key: str, media: KnownMedia, now: int) -> None:
        values = {"media_id": media.media_id, "until": media.until}
        if await self._db.insert_new(MEDIA, [{"_id": key, **values}]):
            done = await self._db.call(lambda: self._db[MEDIA].update_one({"_id": key}, {"$set": values}))
            if not done.matched_count:
                raise StoreUnavailable("the id of a file was removed while it was kept")
        await self._db.call(lambda: self._db[MEDIA].delete_many({"until": {"$lte": now}}))


def _key(phone_number_id: str, sha256: str, mime_type: str) -> str:
    return f"{phone_number_id}:{sha256}:{mime_type}"
