"""What counts as an answer that a page shows, and as a command of it."""

from __future__ import annotations

from typing import Any

import pytest

from tests.support.pages import Command, differences, lines_of, sections

AT = "2026-11-24T16:49:13.044Z"


@pytest.mark.parametrize(
    ("shown", "told"),
    [
        ({"a": 1, "b": [True, None]}, {"b": [True, None], "a": 1}),
        ({"id": "84838ac2-..."}, {"id": "another"}),
        ({"at": AT}, {"at": "2027-01-01T00:00:00Z"}),
        ({"a": 1, "...": "..."}, {"a": 1, "b": 2}),
        ([1, "..."], [1, 2, 3]),
        ([["a", "..."], ["..."]], [["a", "b"], ["c", "d"]]),
    ],
)
def test_an_answer_that_is_as_it_is_shown(shown: Any, told: Any) -> None:
    assert list(differences(shown, told)) == []


@pytest.mark.parametrize(
    ("shown", "told", "where"),
    [
        ({"a": 1}, {"a": 2}, "answer.a"),
        ({"a": 1}, {"a": True}, "answer.a"),
        ({"a": 1}, {"a": 1, "b": 2}, "answer.b"),
        ({"a": 1, "b": 2}, {"a": 1}, "answer.b"),
        ({"a": 1, "...": "..."}, {"b": 2}, "answer.a"),
        ({"a": {"b": "x"}}, {"a": {"b": None}}, "answer.a.b"),
        ({"id": "84838ac2-..."}, {"id": None}, "answer.id"),
        ({"id": "84838ac2-..."}, {"id": ""}, "answer.id"),
        ({"at": AT}, {"at": "soon"}, "answer.at"),
        ({"at": None}, {"at": AT}, "answer.at"),
        ([1], [1, 2], "answer"),
        ([1, 2, "..."], [1], "answer"),
        ([{"a": 1}], [{"a": 2}], "answer[0].a"),
    ],
)
def test_an_answer_that_is_not(shown: Any, told: Any, where: str) -> None:
    (difference,) = differences(shown, told)
    assert difference.partition(" ")[0] == where


PAGE = """# A page

```sh
# no heading
printf x > file
```

## GET /a/{id}

```sh
curl -s "http://127.0.0.1:5000/a/$ID?b=c"
```

```json
{"success": true}
```

It is refused, 404:

```sh
curl -s http://127.0.0.1:5000/a -H 'A: b' \\
    -d '{}'
```

```json
{"success": false}
```
```json
{"another": "example"}
```

    # in an indented block
    curl -s http://127.0.0.1:5000/b -X DELETE \\
        -H 'A: b'
"""


def test_commands_are_read_with_their_answers() -> None:
    first, second = sections(PAGE)
    assert (first.heading, second.heading) == ("A page", "GET /a/{id}")
    (makes,) = first.commands()
    assert (makes.kind, makes.called) == ("", ("", ""))
    asks, posts = second.commands()
    assert (asks.called, asks.status, asks.shown) == (("GET", "/a/$ID"), 200, {"success": True})
    assert (posts.called, posts.status, posts.shown) == (("POST", "/a"), 404, {"success": False})
    (line,) = lines_of(second.text)
    assert Command(line).called == ("DELETE", "/b") and line.endswith("-H 'A: b'")
