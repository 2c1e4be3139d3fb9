"""The account that the sandbox pretends to be, its settings and its media, without a network."""

from __future__ import annotations

import json
import random
from typing import Any

import pytest

from whatsapp.sandbox_account import Account, Answer
from whatsapp.sandbox_media import MediaShelf
from whatsapp.sandbox_payloads import Update, user_id_of
from whatsapp.sandbox_rules import Refused, SandboxError
from whatsapp.sandbox_settings import SandboxSettings, require_loopback

NUMBER = "100000000000001"
AT = 1_750_030_073.0
BEARER = "Bearer sandbox-token"
PERSON = user_id_of("16505551234")


class Outlet:
    """Keeps what is to be told."""

    is_open = True

    def __init__(self) -> None:
        self.told: list[tuple[float, Update]] = []

    def put(self, update: Update, delay: float) -> None:
        self.told.append((delay, update))

    @property
    def statuses(self) -> list[str]:
        return [update.kind for _, update in self.told]


class Bench:
    """An account with what stands around it."""

    def __init__(self, **settings: Any) -> None:
        self.outlet = Outlet()
        self.account = Account(SandboxSettings(**settings), self.outlet, random.Random(3), b"saltsalt")

    def post(
        self, body: Any, *, number: str = NUMBER, token: str | None = BEARER, now: float = 0.0
    ) -> Answer:
        raw = body if isinstance(body, bytes) else json.dumps(body).encode()
        return self.account.messages(number, token, raw, now, AT)

    def send(self, to: str = "+16505551234", now: float = 0.0, **changes: Any) -> Answer:
        body = {"messaging_product": "whatsapp", "to": to, "type": "text", "text": {"body": "Hi"}}
        return self.post({**body, **changes}, now=now)

    def inbound(
        self, sender: str, text: str | None = None, message: Any = None, number: str = "", name: str = ""
    ) -> dict[str, str]:
        return self.account.inbound(sender, text, message, name=name, number=number, now=0.0, at=AT)


def code(answer: Answer) -> int:
    number: int = json.loads(answer.body)["error"]["code"]
    return number


# -- settings ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("settings", "named"),
    [
        ({"host": "0.0.0.0"}, "host"),
        ({"host": "meta.example"}, "host"),
        ({"webhook_url": "http://10.0.0.1/webhook"}, "webhook_url"),
        ({"webhook_url": "https://example.com/webhook"}, "webhook_url"),
        ({"phone_numbers": ()}, "phone_numbers"),
        ({"phone_numbers": (("1", ""),)}, "phone_numbers"),
        ({"access_token": ""}, "access_token"),
        ({"app_secret": ""}, "app_secret"),
        ({"rate_per_number": 0}, "rate_per_number"),
        ({"record_limit": 0}, "record_limit"),
        ({"status_delays": (0.2, 0.1, 0.3)}, "status_delays"),
        ({"status_delays": (-1.0, 0.1, 0.3)}, "status_delays"),
    ],
)
def test_a_setting_that_cannot_be_used_is_named(settings: dict[str, Any], named: str) -> None:
    with pytest.raises(SandboxError, match=named):
        SandboxSettings(**settings)


@pytest.mark.parametrize("url", ["http://127.0.0.1:5000/w", "http://localhost/w", "http://[::1]:1/w"])
def test_this_machine_may_be_told(url: str) -> None:
    assert require_loopback(url, "webhook_url") == url


@pytest.mark.parametrize("url", ["", "127.0.0.1:5000", "ftp://127.0.0.1/", "http://127.0.0.1.example.com/"])
def test_others_may_not(url: str) -> None:
    with pytest.raises(SandboxError, match="the_url"):
        require_loopback(url, "the_url")


# -- sends -------------------------------------------------------------------------------------------------


def test_a_send_by_phone_is_answered_and_followed_by_statuses() -> None:
    bench = Bench()
    answer = bench.send(biz_opaque_callback_data="row.1")
    body = json.loads(answer.body)
    assert answer.http == 200
    assert body["contacts"] == [{"input": "+16505551234", "wa_id": "16505551234"}]
    (message,) = body["messages"]
    assert message.keys() == {"id"}
    assert bench.outlet.statuses == ["sent", "delivered", "read"]
    assert bench.account.accepted(0, 10) == {
        "total": 1,
        "items": [
            {
                "n": 1,
                "wamid": message["id"],
                "to": "16505551234",
                "callback": "row.1",
                "type": "text",
                "at": 1_750_030_073_000,
            }
        ],
    }


def test_a_template_has_a_status_in_its_answer() -> None:
    answer = Bench().send(type="template", template={"name": "t", "language": {"code": "es"}})
    assert json.loads(answer.body)["messages"][0]["message_status"] == "accepted"


def test_a_send_by_user_id_is_answered_without_a_wa_id() -> None:
    body = {"messaging_product": "whatsapp", "recipient": PERSON, "type": "text", "text": {"body": "Hi"}}
    answer = Bench().post(body)
    assert json.loads(answer.body)["contacts"] == [{"input": PERSON, "user_id": PERSON}]


def test_a_group_is_answered_with_its_id() -> None:
    answer = Bench().send(to="R3JvdXA", recipient_type="group")
    body = json.loads(answer.body)
    assert body["contacts"] == [{"input": "R3JvdXA"}]
    assert body["messages"][0]["group_id"] == "R3JvdXA"


def test_only_templates_are_marketing_messages() -> None:
    bench = Bench()
    template = {"type": "template", "template": {"name": "t", "language": {"code": "es"}}}
    common = {"messaging_product": "whatsapp", "to": "+16505551234"}
    for body, status in ((common | template, 200), (common | {"type": "text", "text": {"body": "x"}}, 400)):
        sent = json.dumps(body).encode()
        answer = bench.account.messages(NUMBER, BEARER, sent, 0.0, 0.0, marketing=True)
        assert answer.http == status
    mark = json.dumps({"messaging_product": "whatsapp", "status": "read", "message_id": "w"}).encode()
    assert bench.account.messages(NUMBER, BEARER, mark, 0.0, 0.0, marketing=True).http == 400


@pytest.mark.parametrize("token", [None, "", "sandbox-token", "Bearer other", "Bearer sandbox-tokenx"])
def test_another_token_is_refused(token: str | None) -> None:
    bench = Bench()
    answer = bench.post({}, token=token)
    assert (answer.http, code(answer)) == (401, 190)
    assert bench.account.stats()["accepted"] == 0


def test_an_unknown_number_is_refused() -> None:
    answer = Bench().post({}, number="7")
    assert (answer.http, code(answer)) == (400, 33)


@pytest.mark.parametrize("body", [b"", b"{", b"\xff", b'"\\ud800"'])
def test_a_body_that_is_no_json_is_refused(body: bytes) -> None:
    assert code(Bench().post(body)) == 100


@pytest.mark.parametrize("extra", [{}, {"typing_indicator": {"type": "text"}}])
def test_marking_as_read_succeeds_and_is_no_send(extra: dict[str, Any]) -> None:
    bench = Bench(rate_per_number=1)
    bench.account.faults.change({"error": {"code": 1}, "http_5xx": {}})
    read = {"messaging_product": "whatsapp", "status": "read", "message_id": "wamid.A", **extra}
    assert [bench.post(read).body for _ in range(3)] == [b'{"success":true}'] * 3
    assert bench.account.accepted(0, 10)["total"] == 0
    assert bench.account.stats()["typing" if extra else "marked_read"] == 3


@pytest.mark.parametrize(
    ("change", "number"),
    [({"status": "seen"}, 100), ({"message_id": ""}, 131008), ({"message_id": 5}, 131008)],
)
def test_marking_as_read_needs_its_fields(change: dict[str, Any], number: int) -> None:
    read = {"messaging_product": "whatsapp", "status": "read", "message_id": "wamid.A"}
    assert code(Bench().post({**read, **change})) == number


def test_more_than_the_rate_is_refused_until_a_second_is_over() -> None:
    bench = Bench(rate_per_number=3)
    answers = [bench.send(to=f"+1650555000{n}", now=0.1 * n) for n in range(4)]
    assert [answer.http for answer in answers] == [200, 200, 200, 400]
    assert code(answers[3]) == 130429
    assert bench.send(to="+16505550009", now=1.0).http == 200


def test_what_comes_in_counts_towards_the_rate() -> None:
    bench = Bench(rate_per_number=2)
    bench.inbound("16505551234", "Hi")
    assert [bench.send(to=f"+1650555000{n}").http for n in range(2)] == [200, 400]


def test_numbers_have_a_rate_each() -> None:
    bench = Bench(rate_per_number=1, phone_numbers=(("1", "15550000001"), ("2", "15550000002")))
    body = {"messaging_product": "whatsapp", "to": "+16505551234", "type": "text", "text": {"body": "Hi"}}
    assert [bench.post(body, number=number).http for number in ("1", "2", "1")] == [200, 200, 400]


def test_one_person_is_one_pair_however_addressed() -> None:
    bench = Bench(rate_per_number=1000)
    assert all(bench.send(now=0.01 * n).http == 200 for n in range(45))
    by_user_id = bench.send(to="", recipient=PERSON, now=1.0)
    assert (by_user_id.http, code(by_user_id)) == (400, 131056)
    assert bench.send(to="+16505551235", now=1.0).http == 200


def test_without_limits_nothing_is_too_much() -> None:
    bench = Bench(rate_per_number=1, enforce_limits=False)
    assert all(bench.send().http == 200 for _ in range(100))


def test_a_rate_asked_for_as_a_fault_holds_without_limits_too() -> None:
    bench = Bench(enforce_limits=False)
    bench.account.faults.change({"rate_limit": 2})
    assert [bench.send().http for _ in range(3)] == [200, 200, 400]


def test_a_rate_asked_for_as_a_fault_may_be_higher() -> None:
    bench = Bench(rate_per_number=1)
    bench.account.faults.change({"rate_limit": 10})
    assert [bench.send(to=f"+1650555000{n}").http for n in range(5)] == [200] * 5


def test_a_phone_that_asks_for_it_fails_later() -> None:
    bench = Bench()
    assert bench.send(to="+16577131026").http == 200
    assert bench.outlet.statuses == ["failed"]


def test_a_phone_that_asks_for_it_is_refused_at_once() -> None:
    bench = Bench()
    assert code(bench.send(to="+16599131047")) == 131047
    assert bench.account.accepted(0, 10)["total"] == 0


def test_a_lost_answer_is_of_a_message_that_was_taken() -> None:
    bench = Bench()
    bench.account.faults.change({"drop_answers": 1})
    assert bench.send().dropped
    assert bench.account.accepted(0, 10)["total"] == 1
    assert bench.outlet.statuses == ["sent", "delivered", "read"]


def test_a_page_of_a_proxy_is_of_a_message_that_was_not_taken() -> None:
    bench = Bench()
    bench.account.faults.change({"http_5xx": {"status": 502}})
    answer = bench.send()
    assert (answer.http, answer.html) == (502, True)
    assert bench.account.accepted(0, 10)["total"] == 0
    assert bench.send().http == 200


def test_a_duplicated_update_is_told_twice() -> None:
    bench = Bench()
    bench.account.faults.change({"duplicate_webhooks": 1})
    bench.send()
    bench.inbound("16505551234", "Hi")
    assert sorted(bench.outlet.statuses) == sorted(["sent", "delivered", "read", "messages"] * 2)


def test_reordered_statuses_come_the_other_way_round() -> None:
    bench = Bench()
    bench.account.faults.change({"reorder_webhooks": True})
    bench.send()
    assert [update.kind for _, update in sorted(bench.outlet.told)] == ["read", "delivered", "sent"]


@pytest.mark.parametrize("how", ["settings", "fault", "closed"])
def test_no_statuses_where_none_are_wanted(how: str) -> None:
    bench = Bench(status_delays=None) if how == "settings" else Bench()
    if how == "fault":
        bench.account.faults.change({"statuses": False})
    bench.outlet.is_open = how != "closed"
    assert bench.send().http == 200
    assert bench.outlet.told == []


def test_accepted_sends_are_read_by_page_and_the_oldest_are_forgotten() -> None:
    bench = Bench(enforce_limits=False, record_limit=5)
    for _ in range(8):
        bench.send()

    def numbers(after: int, limit: int) -> list[int]:
        page = bench.account.accepted(after, limit)
        assert page["total"] == 8
        return [item["n"] for item in page["items"]]

    assert numbers(0, 2) == [4, 5]
    assert numbers(5, 2) == [6, 7]
    assert numbers(7, 10) == [8]
    assert numbers(8, 10) == []


def test_nothing_is_kept_without_a_record() -> None:
    bench = Bench(record=False)
    bench.send()
    assert bench.account.accepted(0, 10) == {"total": 1, "items": []}


def test_refusals_are_counted_by_code() -> None:
    bench = Bench()
    bench.send(to="nobody")
    bench.send(to="nobody")
    assert bench.account.stats() == {"accepted": 0, "media": 0, "error_131009": 2}


# -- customers ---------------------------------------------------------------------------------------------


def test_a_customer_writes() -> None:
    bench = Bench()
    told = bench.inbound("+1 650 555 1234", "Hi", name="Ann")
    assert told["wa_id"] == "16505551234"
    assert told["user_id"] == PERSON
    ((delay, update),) = bench.outlet.told
    assert (delay, update.kind, update.number) == (0.0, "messages", NUMBER)
    assert json.loads(update.item)["id"] == told["message_id"]
    assert json.loads(update.contact)["profile"] == {"name": "Ann"}


def test_a_customer_without_a_phone_writes() -> None:
    bench = Bench()
    told = bench.inbound("US.abcDEF", "Hi")
    assert (told["wa_id"], told["user_id"]) == ("", "US.abcDEF")


@pytest.mark.parametrize("field", ["from", "from_user_id"])
def test_a_message_may_say_itself_who_it_is_from(field: str) -> None:
    sender = "16505551234" if field == "from" else PERSON
    told = Bench().inbound(
        "", message={field: sender, "type": "text", "text": {"body": "Hi"}, "id": "wamid.X"}
    )
    assert told["user_id"] == PERSON
    assert told["message_id"] == "wamid.X"


def test_the_name_of_a_customer_comes_back_with_statuses() -> None:
    bench = Bench()
    bench.inbound("525512345678", "Hi", name="Ann")
    bench.inbound("5215512345678", "Hi again")
    bench.send(to="+525512345678")
    names = [json.loads(update.contact)["profile"]["name"] for _, update in bench.outlet.told]
    assert names == ["Ann"] * 5


@pytest.mark.parametrize(
    ("arguments", "named"),
    [
        ({"sender": "nobody", "text": "Hi"}, "from"),
        ({"sender": "", "text": "Hi"}, "from"),
        ({"sender": "", "message": {"type": "text", "from": ["1"]}}, "from"),
        ({"sender": "16505551234"}, "text: give"),
        (
            {"sender": "16505551234", "text": "Hi", "message": {"type": "text"}},
            "text: give",
        ),
        ({"sender": "16505551234", "message": {}}, "message.type"),
        ({"sender": "16505551234", "message": {"type": "text", "id": 5}}, "message.id"),
        ({"sender": "16505551234", "text": "Hi", "number": "7"}, "phone_number_id"),
    ],
)
def test_what_makes_no_message_is_refused(arguments: dict[str, Any], named: str) -> None:
    bench = Bench()
    with pytest.raises(SandboxError, match=named):
        bench.inbound(**arguments)
    assert bench.outlet.told == []


def test_nobody_can_write_where_nobody_is_told() -> None:
    bench = Bench()
    bench.outlet.is_open = False
    with pytest.raises(SandboxError, match="webhook_url"):
        bench.inbound("16505551234", "Hi")


# -- numbers and media -------------------------------------------------------------------------------------


def test_a_number_tells_of_itself() -> None:
    account = Bench().account
    info = account.number_info(NUMBER)
    assert info["id"] == NUMBER
    assert info["display_phone_number"] == "15550000001"
    assert info["throughput"] == {"level": "STANDARD"}
    assert account.number_info(NUMBER, "quality_rating,nonsense") == {"quality_rating": "GREEN", "id": NUMBER}
    assert Bench(rate_per_number=1000).account.number_info(NUMBER)["throughput"] == {"level": "HIGH"}


def test_an_account_lists_its_numbers() -> None:
    page = Bench(phone_numbers=(("1", "11"), ("2", "22"))).account.numbers("200000000000001", "status")
    assert page["data"] == [{"status": "CONNECTED", "id": "1"}, {"status": "CONNECTED", "id": "2"}]
    assert "next" not in page["paging"]


def test_another_account_is_unknown() -> None:
    with pytest.raises(Refused) as caught:
        Bench().account.numbers("7")
    assert caught.value.number == 100


def test_media_are_kept_until_they_are_too_many() -> None:
    shelf = MediaShelf(keep_bytes=10)
    first, second = shelf.put("1", "image/png", b"12345"), shelf.put("1", "image/jpeg", b"12345")
    assert shelf.get(first.id).content == b"12345"
    third = shelf.put("1", "audio/ogg; codecs=opus", b"1")
    assert len(shelf) == 2
    with pytest.raises(Refused):
        shelf.get(first.id)
    shelf.remove(second.id)
    assert shelf.get(third.id, "1").mime_type == "audio/ogg; codecs=opus"
    with pytest.raises(Refused):
        shelf.get(third.id, "2")


@pytest.mark.parametrize(
    ("mime_type", "size"), [("image/gif", 1), ("image/png", 0), ("image/webp", 500 * 1024 + 1), ("", 1)]
)
def test_media_that_meta_would_not_take_are_refused(mime_type: str, size: int) -> None:
    with pytest.raises(Refused) as caught:
        MediaShelf().put("1", mime_type, b"x" * size)
    assert caught.value.number == 100


def test_any_document_is_taken() -> None:
    assert (
        MediaShelf().put("1", "application/zip", b"x").info("http://h", 0)["mime_type"] == "application/zip"
    )
