"""Reading Meta's errors, and the table that says what each means for a send; ``test_error_rows.py`` has its
rows."""

from __future__ import annotations

from email.utils import formatdate

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.support.error_rows import cases
from whatsapp.error_policy import Action, ErrorPolicy, Scope
from whatsapp.error_table import TABLE, policy_of
from whatsapp.errors import (
    GraphError,
    Outcome,
    Verdict,
    classify,
    is_error_name,
    meta_object,
    parse_error,
    parse_status_error,
    parse_status_errors,
)

EVERY_CODE = [code for code, _ in cases()]
NEVER = [code for code, row in cases() if row.what == "fail"]
STOP_LANE = [code for code, row in cases() if row.what == "park"]


def graph(code: int, http_status: int = 400, **more: object) -> GraphError:
    return msgspec.structs.replace(GraphError(code=code, http_status=http_status, from_graph=True), **more)


def answer(error: object) -> bytes:
    return msgspec.json.encode({"error": error})


class TestTable:
    def test_no_code_is_in_two_lines(self) -> None:
        codes = [code for policy in TABLE for code in policy.codes]
        assert len(codes) == len(set(codes))

    @pytest.mark.parametrize("code", EVERY_CODE)
    def test_what_a_code_means_hangs_on_no_http_status(self, code: int) -> None:
        policy = policy_of(code)
        assert policy is not None
        for http_status in (0, 200, 400, 403, 429, 500):
            verdict = classify(graph(code, http_status))
            assert (verdict.code, verdict.name, verdict.operator) == (code, policy.name, policy.operator)
            assert verdict.outcome == policy.action.value

    @pytest.mark.parametrize("policy", TABLE, ids=lambda policy: str(policy.codes[0]))
    def test_a_line_tells_the_operator_what_happened_and_what_to_do(self, policy: ErrorPolicy) -> None:
        what, colon, advice = policy.operator.partition(": ")
        assert what and colon and advice
        assert policy.operator.endswith(".")
        assert policy.operator.count(". ") == 0, "one sentence"
        assert policy.name.isidentifier() and policy.name.islower()
        assert not policy.name.startswith(("http_", "no_", "unlisted_")), (
            "names of errors that are not listed"
        )

    @pytest.mark.parametrize("policy", TABLE, ids=lambda policy: str(policy.codes[0]))
    def test_the_parts_of_a_line_fit_together(self, policy: ErrorPolicy) -> None:
        if policy.action is Action.PARK:
            assert policy.scope is Scope.NUMBER and not policy.burn
        if policy.action is not Action.RETRY:
            assert (policy.doubt, policy.first_delay_s, policy.max_tries) == (False, 0.0, 0)
        if policy.action is Action.FAIL:
            assert policy.scope in (Scope.ROW, Scope.TEMPLATE) and policy.burn
        if policy.scope is Scope.ROW:
            assert policy.burn, "what concerns the message alone must end some day"
            assert policy.first_delay_s <= 3600, "the next messages to the recipient wait behind it"

    @pytest.mark.parametrize("code", NEVER)
    @pytest.mark.parametrize("is_transient", [False, True])
    def test_never_is_never_even_if_meta_calls_it_transient(self, code: int, is_transient: bool) -> None:
        verdict = classify(graph(code, 500, is_transient=is_transient, retry_after_s=5.0))
        assert (verdict.outcome, verdict.doubt, verdict.delay_s) == (Outcome.FAIL, False, 0.0)

    @pytest.mark.parametrize(
        ("code", "outcome"),
        [(199, Outcome.FAIL), (200, Outcome.PARK), (299, Outcome.PARK), (300, Outcome.FAIL)],
    )
    def test_edges_of_the_range_of_permissions(self, code: int, outcome: Outcome) -> None:
        assert classify(graph(code)).outcome is outcome


class TestClassify:
    @pytest.mark.parametrize("from_graph", [True, False])
    @pytest.mark.parametrize("by_webhook", [True, False])
    def test_every_verdict_has_a_name_that_is_known(self, from_graph: bool, by_webhook: bool) -> None:
        for code, status in [
            (c, s) for c in (*EVERY_CODE, 987654) for s in (0, *range(100, 600, 7), 200, 401)
        ]:
            error = GraphError(
                code=code,
                http_status=status,
                from_graph=from_graph,
                by_webhook=by_webhook,
                is_transient=status % 2 == 0,
            )
            assert is_error_name(classify(error).name)

    @pytest.mark.parametrize(
        ("http_status", "is_transient", "outcome", "scope", "burn", "doubt"),
        [
            (500, False, Outcome.RETRY, Scope.ROW, True, True),
            (503, True, Outcome.RETRY, Scope.ROW, True, True),
            (400, True, Outcome.RETRY, Scope.ROW, True, False),
            (403, True, Outcome.RETRY, Scope.ROW, True, False),
            (401, False, Outcome.PARK, Scope.NUMBER, False, False),
            (403, False, Outcome.PARK, Scope.NUMBER, False, False),
            (429, False, Outcome.RETRY, Scope.APP, False, False),
            (400, False, Outcome.FAIL, Scope.ROW, True, False),
            (404, False, Outcome.FAIL, Scope.ROW, True, False),
            (200, False, Outcome.FAIL, Scope.ROW, True, False),
        ],
    )
    def test_a_code_that_is_not_listed(
        self, http_status: int, is_transient: bool, outcome: Outcome, scope: Scope, burn: bool, doubt: bool
    ) -> None:
        verdict = classify(graph(987654, http_status, is_transient=is_transient))
        assert (verdict.outcome, verdict.scope) == (outcome, scope)
        assert (verdict.burn, verdict.doubt) == (burn, doubt)
        assert verdict.code == 987654
        assert verdict.name.startswith("unlisted_") and "987654" in verdict.operator

    @pytest.mark.parametrize(
        ("http_status", "outcome", "scope", "burn", "doubt", "name"),
        [
            (0, Outcome.UNKNOWN, Scope.ROW, True, True, "no_answer"),
            (200, Outcome.UNKNOWN, Scope.ROW, True, True, "no_message_id"),
            (302, Outcome.UNKNOWN, Scope.ROW, True, True, "http_302"),
            (408, Outcome.UNKNOWN, Scope.ROW, True, True, "http_408"),
            (425, Outcome.UNKNOWN, Scope.ROW, True, True, "http_425"),
            (500, Outcome.UNKNOWN, Scope.ROW, True, True, "http_500"),
            (502, Outcome.UNKNOWN, Scope.ROW, True, True, "http_502"),
            (504, Outcome.UNKNOWN, Scope.ROW, True, True, "http_504"),
            (400, Outcome.FAIL, Scope.ROW, True, False, "http_400"),
            (404, Outcome.FAIL, Scope.ROW, True, False, "http_404"),
            (413, Outcome.FAIL, Scope.ROW, True, False, "http_413"),
            (401, Outcome.PARK, Scope.NUMBER, False, False, "http_401"),
            (403, Outcome.PARK, Scope.NUMBER, False, False, "http_403"),
            (407, Outcome.PARK, Scope.NUMBER, False, False, "http_407"),
            (429, Outcome.RETRY, Scope.APP, False, False, "http_429"),
        ],
    )
    def test_an_answer_that_is_not_metas_error(
        self, http_status: int, outcome: Outcome, scope: Scope, burn: bool, doubt: bool, name: str
    ) -> None:
        verdict = classify(parse_error(http_status, b"<html><body>a page</body></html>", {}))
        assert (verdict.outcome, verdict.scope) == (outcome, scope)
        assert (verdict.burn, verdict.doubt) == (burn, doubt)
        assert (verdict.name, verdict.code) == (name, 0)

    def test_the_status_of_a_page_is_never_taken_for_a_code_of_metas(self) -> None:
        page = classify(parse_error(506, b"", {}))
        assert page.outcome is Outcome.UNKNOWN
        assert classify(graph(506)).name == "duplicate_post" != page.name

    def test_an_error_object_without_a_code_is_not_metas_code_zero(self) -> None:
        assert classify(parse_error(500, answer({"message": "upstream"}), {})).outcome is Outcome.UNKNOWN
        assert classify(parse_error(401, answer({"code": 0}), {})).name == "authentication_failed"

    def test_metas_error_leaves_doubt_where_it_came_with_a_5xx(self) -> None:
        assert not classify(graph(138002, 400)).doubt
        assert classify(graph(138002, 500)).doubt

    @pytest.mark.parametrize("code", [4, 130429, 131048, 131056, 131057])
    def test_a_brake_leaves_no_doubt_with_any_http_status(self, code: int) -> None:
        assert not classify(graph(code, 500)).doubt

    def test_a_failed_status_leaves_no_doubt(self) -> None:
        assert not classify(parse_status_error({"code": 131000, "title": "Something went wrong"})).doubt

    def test_a_failed_status_without_a_code_is_a_failure(self) -> None:
        verdict = classify(parse_status_error(None))
        assert (verdict.outcome, verdict.code, verdict.name) == (Outcome.FAIL, 0, "no_reason")

    def test_a_failed_status_with_a_code_that_is_not_listed_is_a_failure(self) -> None:
        assert classify(parse_status_error({"code": 987654})).outcome is Outcome.FAIL

    @pytest.mark.parametrize("code", [190, 10, 368])
    def test_what_would_park_is_retried_while_meta_calls_it_transient(self, code: int) -> None:
        verdict = classify(graph(code, 500, is_transient=True))
        assert (verdict.outcome, verdict.scope, verdict.burn) == (Outcome.RETRY, Scope.ROW, True)

    @pytest.mark.parametrize(
        ("error", "delay_s"),
        [
            (graph(131057, retry_after_s=5.0), 60.0),
            (graph(131057, retry_after_s=90.0), 90.0),
            (graph(2, 503, retry_after_s=7.0), 7.0),
            (graph(4, regain_s=1200.0), 1200.0),
            (graph(4, regain_s=60.0), 300.0),
            (graph(2, 503, regain_s=1200.0), 0.0),
            (graph(190, 401, retry_after_s=7.0), 0.0),
            (GraphError(http_status=503, retry_after_s=9.0), 9.0),
            (GraphError(http_status=429), 60.0),
            (GraphError(http_status=429, retry_after_s=90.0), 90.0),
        ],
    )
    def test_the_delay_is_the_longest_of_those_that_apply(self, error: GraphError, delay_s: float) -> None:
        assert classify(error).delay_s == delay_s


class TestParseError:
    def test_a_full_error(self) -> None:
        body = answer(
            {
                "message": "(#130429) Rate limit hit",
                "type": "OAuthException",
                "code": 130429,
                "error_data": {"messaging_product": "whatsapp", "details": "Too many messages"},
                "error_subcode": 2494055,
                "is_transient": False,
                "fbtrace_id": "Az8or2yhqkZ",
            }
        )
        assert parse_error(400, body, {}) == GraphError(
            code=130429,
            http_status=400,
            subcode=2494055,
            title="Rate limit hit",
            message="(#130429) Rate limit hit",
            details="Too many messages",
            fbtrace_id="Az8or2yhqkZ",
            from_graph=True,
        )

    def test_error_data_as_text(self) -> None:
        assert (
            parse_error(400, answer({"code": 100, "error_data": "to is invalid"}), {}).details
            == "to is invalid"
        )

    def test_texts_for_users_where_there_are_no_others(self) -> None:
        error = parse_error(
            400, answer({"code": 1, "error_user_title": "Sorry", "error_user_msg": "Wait"}), {}
        )
        assert (error.title, error.details) == ("Sorry", "Wait")

    @pytest.mark.parametrize(
        ("code", "expected"),
        [(190, 190), ("190", 190), (" 190 ", 190), (190.0, 190), ("0", 0), (0, 0)],
    )
    def test_code_in_every_form(self, code: object, expected: int) -> None:
        error = parse_error(400, answer({"code": code, "error_subcode": code}), {})
        assert (error.code, error.subcode, error.from_graph) == (expected, expected, True)

    @pytest.mark.parametrize(
        "code", [None, "", "190x", True, -1, 190.5, 2**60, "9" * 40, [190], {}, "\u0661\u0669\u0660"]
    )
    def test_what_cannot_be_a_code(self, code: object) -> None:
        error = parse_error(400, answer({"code": code, "message": "kept"}), {})
        assert (error.code, error.from_graph, error.message) == (0, False, "kept")

    @pytest.mark.parametrize(
        "body",
        [
            b"",
            b"{",
            b"[]",
            b"null",
            b'"error"',
            b"\xff\xfe",
            b'{"error": "invalid_token"}',
            b'{"error": null}',
            b'{"error": []}',
            b'{"error": {}}',
            b'{"messages": []}',
            b"[" * 100_000,
        ],
    )
    def test_anything_else_is_not_metas(self, body: bytes) -> None:
        error = parse_error(502, body, {})
        assert (error.from_graph, error.code, error.http_status, error.title) == (False, 0, 502, "HTTP 502")

    def test_a_page_is_kept_as_its_first_words(self) -> None:
        page = (
            b"<html><head><title>502</title></head>\n<body> Bad  <b>Gateway</b></body></html>" + b"x" * 10_000
        )
        error = parse_error(502, page, {})
        assert error.message.startswith("502 Bad Gateway xxx")
        assert len(error.message) == 200

    def test_texts_are_bounded(self) -> None:
        error = parse_error(400, answer({"code": 1, "message": "m" * 9_999, "error_data": "d" * 9_999}), {})
        assert (len(error.message), len(error.details)) == (1000, 1000)

    def test_trace_id_from_the_header_where_the_body_has_none(self) -> None:
        headers = {"X-FB-Trace-ID": "from header"}
        assert parse_error(502, b"", headers).fbtrace_id == "from header"
        assert parse_error(400, answer({"code": 1, "fbtrace_id": "own"}), headers).fbtrace_id == "own"

    @pytest.mark.parametrize(
        ("value", "expected"), [(True, True), ("true", True), (False, False), ("no", False)]
    )
    def test_is_transient(self, value: object, expected: bool) -> None:
        assert parse_error(400, answer({"code": 1, "is_transient": value}), {}).is_transient is expected

    @pytest.mark.parametrize(
        ("value", "seconds"),
        [
            ("120", 120.0),
            (" 7 ", 7.0),
            ("1.5", 1.5),
            ("0", 0.0),
            ("999999999", 86_400.0),
            ("-5", 0.0),
            ("nan", 0.0),
            ("inf", 0.0),
            ("soon", 0.0),
            ("", 0.0),
            (formatdate(1_800_000_060, usegmt=True), 60.0),
            ("Fri, 15 Jan 2027 08:01:00 -0000", 60.0),
            (formatdate(1_799_999_000, usegmt=True), 0.0),
            (formatdate(1_900_000_000, usegmt=True), 86_400.0),
            ("Fri, 99 Jan 2027 99:99:99 GMT", 0.0),
        ],
    )
    def test_retry_after(self, value: str, seconds: float) -> None:
        assert parse_error(503, b"", {"retry-AFTER": value}, now=1_800_000_000_000).retry_after_s == seconds

    def test_retry_after_as_a_date_is_not_heeded_without_a_clock(self) -> None:
        assert (
            parse_error(503, b"", {"Retry-After": formatdate(1_800_000_060, usegmt=True)}).retry_after_s
            == 0.0
        )

    @pytest.mark.parametrize(
        ("usage", "seconds"),
        [
            ('{"1": [{"type": "whatsapp", "estimated_time_to_regain_access": 20}]}', 1200.0),
            (
                '{"1": [{"estimated_time_to_regain_access": 1}],'
                ' "2": [{}, {"estimated_time_to_regain_access": 2.5}]}',
                150.0,
            ),
            ('{"1": [{"estimated_time_to_regain_access": 0}]}', 0.0),
            ('{"1": [{"estimated_time_to_regain_access": -3}]}', 0.0),
            ('{"1": [{"estimated_time_to_regain_access": true}]}', 0.0),
            ('{"1": [{"estimated_time_to_regain_access": 1e300}]}', 86_400.0),
            ('{"1": [{"estimated_time_to_regain_access": 1' + "0" * 400 + "}]}", 86_400.0),
            ('{"1": [{"estimated_time_to_regain_access": "20"}], "2": 5, "3": [7]}', 0.0),
            ("[]", 0.0),
            ("not json", 0.0),
        ],
    )
    def test_time_to_regain_access(self, usage: str, seconds: float) -> None:
        regain_s = parse_error(400, answer({"code": 4}), {"X-Business-Use-Case-Usage": usage}).regain_s
        assert regain_s == seconds

    @given(
        st.integers(100, 599),
        st.binary(max_size=300),
        st.dictionaries(st.text(), st.text()),
        st.integers(0, 2**45),
    )
    def test_any_answer_has_a_verdict(
        self, status: int, body: bytes, headers: dict[str, str], now: int
    ) -> None:
        error = parse_error(status, body, headers, now)
        assert isinstance(classify(error), Verdict)
        assert msgspec.json.decode(msgspec.json.encode(meta_object(error))) == meta_object(error)


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=5,
)
FIELDS = (
    "code",
    "error_subcode",
    "message",
    "title",
    "error_data",
    "details",
    "is_transient",
    "fbtrace_id",
    "type",
)
ERROR_OBJECTS = st.dictionaries(st.sampled_from(FIELDS), JSON | st.sampled_from(EVERY_CODE))


class TestAnyObject:
    @given(ERROR_OBJECTS, st.integers(100, 599))
    def test_in_an_answer(self, error: dict[str, object], status: int) -> None:
        parsed = parse_error(status, answer(error), {})
        verdict = classify(parsed)
        assert verdict.code == parsed.code
        assert parsed.from_graph or verdict.name.startswith(("http_", "no_"))
        assert msgspec.json.decode(msgspec.json.encode(meta_object(parsed))) == meta_object(parsed)

    @given(ERROR_OBJECTS | JSON)
    def test_in_a_status(self, obj: object) -> None:
        parsed = parse_status_error(obj)
        verdict = classify(parsed)
        assert verdict.outcome is not Outcome.UNKNOWN and not verdict.doubt
        assert parsed.by_webhook
        msgspec.json.encode(meta_object(parsed))

    @given(st.text(max_size=40), st.integers(0, 2**45))
    def test_any_retry_after_is_a_time_up_to_a_day(self, value: str, now: int) -> None:
        assert 0.0 <= parse_error(503, b"", {"Retry-After": value}, now).retry_after_s <= 86_400.0


class TestParseStatusError:
    def test_new_shape(self) -> None:
        error = parse_status_error(
            {
                "code": 131049,
                "title": "Not delivered",
                "message": "Not delivered to keep the ecosystem healthy",
                "error_data": {"details": "In order to..."},
                "href": "https://example.com/",
            }
        )
        assert (error.code, error.title, error.details) == (131049, "Not delivered", "In order to...")
        assert (error.message, error.http_status) == ("Not delivered to keep the ecosystem healthy", 0)
        assert error.from_graph and error.by_webhook

    def test_old_shape(self) -> None:
        error = parse_status_error({"code": 470, "title": "Too late", "details": "24 hours have passed"})
        assert (error.code, error.title, error.details) == (470, "Too late", "24 hours have passed")

    @pytest.mark.parametrize("obj", [None, [], "131049", 131049, {}, {"title": "without a code"}])
    def test_without_a_code(self, obj: object) -> None:
        error = parse_status_error(obj)
        assert (error.code, error.from_graph, error.by_webhook) == (0, False, True)


class TestMetaObject:
    def test_of_metas_error(self) -> None:
        error = parse_error(
            400,
            answer({"code": 131026, "message": "(#131026) Undeliverable", "error_data": {"details": "Why"}}),
            {"x-fb-trace-id": "trace"},
        )
        assert meta_object(error) == {
            "code": 131026,
            "subcode": None,
            "title": "Undeliverable",
            "details": "Why",
            "fbtrace_id": "trace",
        }

    def test_code_zero_is_a_code(self) -> None:
        assert meta_object(graph(0, 401, subcode=463))["code"] == 0

    def test_of_a_page(self) -> None:
        assert meta_object(parse_error(502, b"Bad Gateway", {})) == {
            "code": None,
            "subcode": None,
            "title": "HTTP 502",
            "details": "Bad Gateway",
            "fbtrace_id": "",
        }


@pytest.mark.parametrize(
    ("errors", "code"),
    [([{"code": 131047}, {"code": 131026}], 131047), ([], 0), (None, 0), ("text", 0), ({"code": 131047}, 0)],
)
def test_of_the_errors_of_a_status_the_first_counts(errors: object, code: int) -> None:
    error = parse_status_errors(errors)
    assert (error.code, error.from_graph, error.by_webhook) == (code, bool(code), True)
