"""A hook as operators write it: its address in the TOML file, its secret in ``.env``, and a new one there."""

from __future__ import annotations

from pathlib import Path

import aiohttp

from tests.support.load import post_webhook
from tests.support.process import Installation
from tests.support.receiver import Delivery, receiving
from tests.support.waiting import GUARD_S, eventually
from whatsapp.post_signature import SIGNATURE, TIMESTAMP, signed_headers


def _is_signed(post: Delivery, secret: str) -> bool:
    at = int(post.headers[TIMESTAMP]) * 1000
    return post.headers[SIGNATURE] == signed_headers(secret, post.body, at)[SIGNATURE]


async def test_a_secret_that_changes_in_the_file_signs_what_follows(tmp_path: Path) -> None:
    timeout = aiohttp.ClientTimeout(total=GUARD_S)
    async with receiving() as receiver, aiohttp.ClientSession(timeout=timeout) as session:
        toml = f'[[hooks.endpoints]]\nname = "crm"\nurl = "{receiver.url}"\ntypes = ["message.received"]\n'
        (tmp_path / "config.toml").write_text(toml)
        (tmp_path / ".env").write_text("HOOKS_CRM_SECRET=the-old-one\n")
        installation = Installation(tmp_path, AUTOREPLY_ENABLED="false")
        process = await installation.start()
        try:
            await post_webhook(session, installation.url, [("wamid.1", "5215550001111", "a")])
            posts = await receiver.took(1)
            assert _is_signed(posts[0], "the-old-one")

            (tmp_path / ".env").write_text("HOOKS_CRM_SECRET=the-new-one\n")

            async def renewed() -> bool:
                return "new secrets for the hooks crm" in process.errors

            await eventually(renewed)
            await post_webhook(session, installation.url, [("wamid.2", "5215550001111", "b")])
            posts = await receiver.took(2)
            assert _is_signed(posts[1], "the-new-one")
            assert "the-old-one" not in process.errors and "the-new-one" not in process.errors
        finally:
            await process.kill()
        installation.check_logs()
