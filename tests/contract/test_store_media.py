"""Ids of uploaded files, on every store."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

import msgspec

from store.base import Store
from store.records import KnownMedia

MakeStore = Callable[[], Store]

PICTURE = KnownMedia("100", "ab12", "image/png", "900", until=5000)


async def found(store: Store, media: KnownMedia = PICTURE, now: int = 1000) -> str | None:
    return await store.find_media(media.phone_number_id, media.sha256, media.mime_type, now)


async def test_what_was_never_uploaded_is_not_known(store: Store) -> None:
    assert await found(store) is None


async def test_an_upload_is_known_until_it_is_over(store: Store) -> None:
    await store.remember_media(PICTURE, 1000)
    assert await found(store, now=4999) == "900"
    assert await found(store, now=5000) is None


async def test_number_content_and_type_are_each_of_their_own(store: Store) -> None:
    others = [
        msgspec.structs.replace(PICTURE, phone_number_id="101"),
        msgspec.structs.replace(PICTURE, sha256="ab13"),
        msgspec.structs.replace(PICTURE, mime_type="image/jpeg"),
    ]
    await store.remember_media(PICTURE, 1000)
    for other in others:
        assert await found(store, other) is None
    for n, other in enumerate(others):
        await store.remember_media(msgspec.structs.replace(other, media_id=f"{n}"), 1000)
    assert [await found(store, other) for other in others] == ["0", "1", "2"]
    assert await found(store) == "900"


async def test_a_later_upload_takes_the_place_of_an_earlier(store: Store) -> None:
    await store.remember_media(PICTURE, 1000)
    await store.remember_media(msgspec.structs.replace(PICTURE, media_id="901", until=9000), 2000)
    assert await found(store, now=8999) == "901"


async def test_the_same_upload_may_be_remembered_by_many_at_once(store: Store) -> None:
    await asyncio.gather(*(store.remember_media(PICTURE, 1000) for _ in range(10)))
    assert await found(store) == "900"


async def test_what_is_over_goes_and_the_rest_stays(store: Store) -> None:
    old = msgspec.structs.replace(PICTURE, sha256="old", until=1500)
    await store.remember_media(old, 1000)
    await store.remember_media(PICTURE, 2000)
    # Not by the clock of the question: it is no longer there.
    assert await found(store, old, now=1) is None
    assert await found(store) == "900"


async def test_it_survives_a_new_opening(store: Store, make_store: MakeStore) -> None:
    await store.remember_media(PICTURE, 1000)
    await store.close()
    again = make_store()
    await again.open()
    try:
        assert await found(again) == "900"
    finally:
        await again.close()
