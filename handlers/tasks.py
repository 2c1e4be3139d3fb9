"""Tasks: what became of a send (API.md, task-status)."""

from __future__ import annotations

from collections.abc import Callable

from handlers.base import BaseHandler, NotFound
from store.base import Store
from whatsapp.task_status import task_status

__all__ = ["TaskStatus"]


class TaskStatus(BaseHandler):
    """``GET /api/task-status/<id>``."""

    store: Store
    now_ms: Callable[[], int]

    async def get(self, task_id: str) -> None:
        """200 with the status; 404 where no task has this id."""
        task = await self.store.find_task(task_id)
        if task is None:
            raise NotFound(f"there is no task {task_id[:100]}")
        self.answer(task_status(task, self.now_ms()))
