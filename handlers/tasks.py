"""Tasks: what became of them, and what may be done to them (contract.md, task-status and Tasks)."""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence

from tornado.iostream import StreamClosedError

from handlers.base import BaseHandler, NotFound
from handlers.fields import convert, refusal
from handlers.messages import counted
from handlers.pages import cursor_of, place_of_cursor, query_of
from handlers.parameters import FORMATS, ListQuery, MessagesQuery
from handlers.requests import RetryRequest
from store.base import Store
from store.errors import StoreError
from store.records import RowView, TaskPlace, TaskView
from store.states import State
from whatsapp.events import place_of, task_of
from whatsapp.task_control import TaskControl
from whatsapp.task_messages import CSV_HEAD, csv_lines, message_of, ndjson_lines
from whatsapp.task_status import task_status

__all__ = ["CancelTask", "RetryTask", "TaskList", "TaskMessages", "TaskStatus"]

_log = logging.getLogger(__name__)

_PORTION = 500
"""Rows read and written at once when all of a task are asked for."""
_FORMAT_OF = {kind: name for name, kind in FORMATS.items()} | {"*/*": "json"}


class TaskHandler(BaseHandler):
    """What the paths of tasks share."""

    store: Store
    control: TaskControl
    now_ms: Callable[[], int]

    async def find(self, task_id: str) -> TaskView:
        """The task. Raises NotFound."""
        task = await self.store.find_task(task_id)
        if task is None:
            raise self.not_found(task_id)
        return task

    def not_found(self, task_id: str) -> NotFound:
        """What to raise where no task has this id."""
        return NotFound(f"there is no task {task_id[:100]}")


class TaskStatus(TaskHandler):
    """``GET /api/tasks/<id>``, and as the earlier service had it ``GET /api/task-status/<id>``."""

    async def get(self, task_id: str) -> None:
        """200 with the status; 404 where no task has this id."""
        self.answer(task_status(await self.find(task_id), self.now_ms()))


class TaskList(TaskHandler):
    """``GET /api/tasks``."""

    async def get(self) -> None:
        """200 with a page of tasks, newest first, each as task-status answers it, and the next page's cursor;
        null where this is the last."""
        query = query_of(self, ListQuery, ["limit"])
        found = await self.store.list_tasks(
            query.limit + 1,
            _place_of(query.cursor),
            kind=query.kind or "",
            source=query.source,
            complete=None if query.status is None else query.status == "done",
        )
        page = found[: query.limit]
        more = len(found) > len(page)
        # One by one: a large task takes the store some time to count.
        views = [await self.store.find_task(task.id) for task in page]
        now = self.now_ms()
        self.answer(
            {
                "tasks": [task_status(view, now) for view in views if view is not None],
                "next": cursor_of(page[-1].created_at, page[-1].id) if more else None,
            }
        )


class TaskMessages(TaskHandler):
    """``GET /api/tasks/<id>/messages``: what became of each recipient."""

    async def get(self, task_id: str) -> None:
        """200 with a page as JSON, or with all as NDJSON or CSV."""
        query = query_of(self, MessagesQuery, ["after", "limit"])
        self.set_header("Vary", "Accept")
        format = query.format or self._accepted()
        state = State(query.state) if query.state else None
        if format == "json":
            await self._answer_page(task_id, query, state)
            return
        if query.limit is not None:
            raise refusal([("limit", "is for JSON only: the other formats give all that comes after")])
        await self._stream(task_id, query, state, format)

    def _accepted(self) -> str:
        for kind in self.request.headers.get("Accept", "").split(","):
            if found := _FORMAT_OF.get(kind.partition(";")[0].strip().lower()):
                return found
        return "json"

    async def _rows(
        self, task_id: str, query: MessagesQuery, state: State | None, limit: int
    ) -> list[RowView]:
        """The first rows asked for. Raises NotFound."""
        views = await self.store.task_rows(task_id, query.after, limit, state)
        if query.after < 0 or not views:
            # Not for every page: all the task's rows are counted for it.
            await self.find(task_id)
        return views

    async def _answer_page(self, task_id: str, query: MessagesQuery, state: State | None) -> None:
        limit = query.limit or 100
        views = await self._rows(task_id, query, state, limit + 1)
        page = views[:limit]
        more = len(views) > limit
        self.answer(
            {
                "task_id": task_id,
                "messages": [message_of(view) for view in page],
                "next": place_of(page[-1].row.id) if more else None,
            }
        )

    async def _stream(self, task_id: str, query: MessagesQuery, state: State | None, format: str) -> None:
        """All, in portions, none read before the one before it has left."""
        lines = csv_lines if format == "csv" else ndjson_lines
        # Before the first byte, so that a store that is away is told as such.
        views = await self._rows(task_id, query, state, _PORTION)
        self.set_header("Content-Type", f"{FORMATS[format]}; charset=utf-8")
        self.set_header("X-Content-Type-Options", "nosniff")
        if format == "csv":
            self.set_header("Content-Disposition", f'attachment; filename="task-{_plain(task_id)}.csv"')
            self.write(",".join(CSV_HEAD) + "\r\n")
        try:
            while views:
                self.write(lines(views))
                await self.flush()
                views = await self._next(task_id, views, state)
        except StreamClosedError:
            return
        except StoreError as error:
            _log.warning("the list of a task's messages broke off: %s", error.message)
            # An end in good order would pass for the whole.
            self.detach().close()
            return
        self.finish()

    async def _next(self, task_id: str, views: Sequence[RowView], state: State | None) -> list[RowView]:
        if len(views) < _PORTION:
            return []
        return await self.store.task_rows(task_id, place_of(views[-1].row.id), _PORTION, state)


class CancelTask(TaskHandler):
    """``POST /api/tasks/<id>/cancel``."""

    async def post(self, task_id: str) -> None:
        """200 with how many rows never leave, and how many it was too late for; again as often as wanted."""
        done = await self.control.cancel(task_id)
        if done is None:
            raise self.not_found(task_id)
        self.answer(
            {
                "success": True,
                "message": f"{counted(done.cancelled)} cancelled",
                "task_id": task_id,
                "cancelled": done.cancelled,
                "too_late": done.too_late,
            }
        )


class RetryTask(TaskHandler):
    """``POST /api/tasks/<id>/retry``."""

    async def post(self, task_id: str) -> None:
        """200 with how many rows that had failed are queued again. 400 for rows of another task."""
        body = self.read_json() if self.request.body else {}
        request, _ = convert(body, RetryRequest, strict=True)
        ids = request.message_ids
        if ids is not None and (strange := [n for n, row_id in enumerate(ids) if task_of(row_id) != task_id]):
            raise refusal([(f"message_ids[{n}]", "is no message of this task") for n in strange])
        done = await self.control.retry(task_id, ids)
        if done is None:
            raise self.not_found(task_id)
        self.answer(
            {
                "success": True,
                "message": f"{counted(done.retried)} queued again",
                "task_id": task_id,
                "retried": done.retried,
                "not_failed": done.left,
            }
        )


def _place_of(cursor: str) -> TaskPlace | None:
    if not cursor:
        return None
    created_at, task_id = place_of_cursor(cursor)
    return TaskPlace(created_at, task_id)


def _plain(task_id: str) -> str:
    return "".join(character for character in task_id if character.isalnum() or character == "-")[:60]
