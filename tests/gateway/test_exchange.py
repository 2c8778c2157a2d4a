"""The exchange as a transcript: what its sides tell it, and what it tells them, in order. No socket, no HTTP/1."""

from __future__ import annotations

import json

import pytest

from proxy.audit.collector import Collector
from proxy.audit.report import report_on
from proxy.gateway import failures
from proxy.gateway.audit_feed import AuditFeed
from proxy.gateway.exchange import Exchange
from proxy.gateway.watch import Watch
from proxy.message.errors import MalformedHeadError
from proxy.rules.model import Policy, Rule
from proxy.rules.policies import CLASSIC, PASS
from tests.gateway.fakes import FakeClient, FakePool, FakeUpstream, Surroundings, broken, request, response
from tests.rules.making import conditions, response_keys

OK = response(b"200 OK", b"Content-Length: 2")
POST = request(b"POST /a HTTP/1.1", b"Content-Length: 4")
CHUNKED = request(b"POST /a HTTP/1.1", b"Transfer-Encoding: chunked")


class Stage:
    """One exchange between two fake sides."""

    def __init__(self, head=None, *, resting: int = 1, rules=(), **settings):
        self.around = Surroundings(rules, **settings)
        told = self.around.told
        self.upstream = FakeUpstream(told)
        self.client = FakeClient(told)
        self.pool = FakePool(told, *[self.upstream] * resting)
        self.exchange = Exchange(self.around.context, self.pool, self.client, head or request())
        self.exchange.begin()

    @property
    def told(self):
        return self.around.take()


# One after the other of what may happen until the exchange is in a phase.
def in_connecting():
    return Stage(resting=0)


def in_sending():
    return Stage(POST)


def in_awaiting():
    return Stage()


def in_relaying():
    stage = Stage()
    stage.exchange.response_head(OK)
    return stage


PHASES = {
    "connecting": in_connecting,
    "sending": in_sending,
    "awaiting": in_awaiting,
    "relaying": in_relaying,
}


class Test_Course:
    def test_request_without_content_and_its_response(self):
        stage = Stage()
        assert stage.told == ["pool: take", "upstream: GET /a"]
        stage.exchange.response_head(OK)
        stage.exchange.response_content(b"ok")
        stage.exchange.response_end()
        assert stage.told == ["client: head 200", "client: content ok", "client: end"]
        record = stage.around.record
        assert (record.method, record.target, record.host, record.client) == ("GET", b"/a", b"a", "192.0.2.1")
        assert (record.status, record.upstream_status, record.bytes_out, record.changed) == (200, 200, 2, 3)
        assert record.failure is None
        assert stage.around.stats.in_flight == 0

    def test_content_is_passed_on_as_it_comes(self):
        stage = Stage(POST)
        assert stage.told == ["pool: take a fresh one", "upstream: POST /a"]
        stage.exchange.request_content(b"ab")
        stage.exchange.request_content(b"cd")
        stage.exchange.request_end()
        assert stage.told == ["upstream: content ab", "upstream: content cd", "upstream: end"]
        stage.exchange.response_head(OK)
        stage.exchange.response_end()
        assert stage.around.record.bytes_in == 4

    def test_content_waits_for_a_connection_and_the_client_with_it(self):
        stage = Stage(POST, resting=0)
        stage.exchange.request_content(b"ab")
        stage.exchange.request_content(b"cd")
        stage.exchange.request_end()
        assert stage.told == [
            "pool: take a fresh one",
            "pool: connect",
            "client: pause connecting",
            "client: pause connecting",
        ]
        stage.exchange.upstream_ready(stage.upstream)
        assert stage.told == [
            "upstream: POST /a",
            "upstream: content ab",
            "upstream: content cd",
            "client: resume connecting",
            "upstream: end",
        ]

    def test_informational_responses_come_before_the_final_one_up_to_a_bound(self):
        stage = Stage()
        stage.exchange.informational(response(b"103 Early Hints"))
        assert stage.told[2:] == ["client: informational 103"]
        for _ in range(63):
            stage.exchange.informational(response(b"102 Processing"))
        assert stage.told == ["client: informational 102"] * 63
        stage.exchange.informational(response(b"102 Processing"))
        assert stage.told[-2:] == ["upstream: abort", "client: answer upstream_malformed"]

    def test_answer_before_the_end_of_the_request_lets_the_rest_of_it_go_on(self):
        stage = in_sending()
        stage.exchange.response_head(OK)
        stage.exchange.request_content(b"abcd")
        stage.exchange.request_end()
        assert stage.told[2:] == ["client: head 200", "upstream: content abcd", "upstream: end"]
        stage.exchange.timed_out()
        assert stage.around.record.failure is failures.UPSTREAM_STALLED

    def test_after_the_end_of_the_request_the_app_has_its_time_to_answer(self):
        stage = in_sending()
        stage.exchange.request_end()
        assert stage.client.patience_s == 60
        stage.exchange.timed_out()
        assert stage.around.record.failure is failures.UPSTREAM_TIMEOUT

    def test_large_content_goes_its_own_way_and_is_counted_too(self):
        stage = in_relaying()
        stage.exchange.large_content(b"12345")
        stage.exchange.response_content(b"67")
        stage.exchange.response_end()
        assert stage.told[3:] == ["client: 5 bytes", "client: content 67", "client: end"]
        assert stage.around.record.bytes_out == 7

    def test_client_says_how_much_of_it_is_taken(self):
        stage = in_relaying()
        assert (stage.exchange.room(), stage.exchange.has_unsent_content()) == (1_000_000, False)
        stage.client.has_unsent = True
        assert (stage.exchange.room(), stage.exchange.has_unsent_content()) == (0, True)

    def test_time_until_the_response_is_a_part_of_the_whole(self):
        stage = in_relaying()
        stage.exchange.response_end()
        record = stage.around.record
        assert 0 < record.upstream_s <= record.duration_s

    def test_either_side_holds_the_other_back(self):
        stage = in_sending()
        stage.exchange.pause_request()
        stage.exchange.resume_request()
        stage.exchange.pause_response()
        stage.exchange.resume_response()
        assert stage.told[2:] == [
            "client: pause upstream",
            "client: resume upstream",
            "upstream: pause",
            "upstream: resume",
        ]

    def test_upstream_of_a_client_that_takes_nothing_is_not_read_until_it_rests(self):
        stage = Stage(resting=0)
        stage.client.is_congested = True
        stage.exchange.upstream_ready(stage.upstream)
        assert stage.told[2:] == ["upstream: GET /a", "upstream: pause"]
        stage.exchange.response_head(OK)
        stage.exchange.response_end()
        assert stage.told == ["client: head 200", "upstream: resume", "client: end"]

    def test_upstream_that_does_not_rest_is_not_touched_after_the_end(self):
        stage = in_relaying()
        stage.client.is_congested, stage.upstream.may_rest = True, False
        stage.exchange.response_end()
        assert stage.told[2:] == ["client: head 200", "client: end"]


class Test_Rules:
    RULES = (Rule("all", CLASSIC, conditions()),)

    def test_decide_before_the_request_leaves_and_are_named_in_the_record(self):
        stage = Stage(rules=self.RULES)
        stage.exchange.response_head(OK)
        stage.exchange.response_end()
        record = stage.around.record
        assert (record.rule, record.policy) == ("all", "classic")
        assert stage.around.stats.conditionals_stripped == {"all": 2}
        assert stage.around.stats.fields_changed == {"all": 3}

    def test_rule_that_lets_pass_is_named_with_its_policy(self):
        stage = Stage(rules=(Rule("downloads", PASS, conditions()),))
        stage.exchange.response_head(OK)
        stage.exchange.response_end()
        assert (stage.around.record.rule, stage.around.record.policy) == ("downloads", "pass")

    def test_that_change_nothing_are_counted_nowhere(self):
        stage = Stage()
        stage.exchange.response_head(OK)
        assert stage.around.stats.conditionals_stripped == {}
        assert stage.around.stats.fields_changed == {}
        stage = Stage(rules=self.RULES)
        stage.client.changed = 0
        stage.exchange.response_head(OK)
        assert stage.around.stats.fields_changed == {}

    def test_response_that_comes_from_a_cache_is_counted(self):
        stage = Stage()
        stage.client.was_cached = True
        stage.exchange.response_head(OK)
        assert stage.around.stats.upstream_cache_hits_total == 1

    def test_that_only_observe_are_counted_and_named(self):
        stage = Stage(rules=(Rule("seen", CLASSIC, conditions(), mode="observe"),))
        stage.exchange.response_head(OK)
        stage.exchange.response_end()
        assert stage.around.stats.observed == {"seen": 1}
        record = stage.around.record
        assert (record.rule, record.policy, record.observed) == ("", "", "seen")

    def test_conditions_that_are_left_out_are_counted_once_though_the_request_is_sent_twice(self):
        stage = Stage(rules=self.RULES)
        stage.exchange.upstream_lost(may_retry=True, detail="")
        stage.exchange.upstream_ready(stage.upstream)
        assert stage.around.stats.conditionals_stripped == {"all": 2}

    def test_304_to_a_request_that_lost_its_conditions_is_a_fault_of_the_app(self):
        stage = Stage(request(b"GET /a HTTP/1.1", b'If-None-Match: "a"'), rules=self.RULES)
        stage.exchange.response_head(response(b"304 Not Modified"))
        assert stage.told[2:] == ["upstream: abort", "client: answer upstream_not_modified"]

    def test_that_fail_protect(self, caplog):
        """An exception while deciding means strict, a log line and a counter."""

        class Broken:
            def decide(self, *_: object) -> object:
                raise RuntimeError

        around = Surroundings()
        around.context._ruleset = Broken()
        upstream = FakeUpstream(around.told)
        exchange = Exchange(
            around.context, FakePool(around.told, upstream), FakeClient(around.told), request()
        )
        exchange.begin()
        exchange.response_head(OK)
        exchange.response_end()
        assert (around.record.policy, around.stats.decision_failures_total) == ("strict", 1)
        assert caplog.records[0].exc_info


JSON = response(b"200 OK", b"Content-Type: application/json", b"Content-Length: 2")
NOT_MODIFIED = response(b"304 Not Modified")
SOFT = Policy("soft")
PART = (b"206 Partial Content", b"Content-Range: bytes 0-1/9", b"Content-Length: 2")


class Test_Condition_that_travels:
    """Issue 16.11: where only the response can tell whether a rule applies, the app is asked with conditions first."""

    RULES = (Rule("data", CLASSIC, conditions(response=response_keys(content_types=["application/json"]))),)

    def make(self, *fields: bytes, method: bytes = b"GET", resting: int = 2, others=()):
        return Stage(
            request(method + b" /a HTTP/1.1", *fields), resting=resting, rules=(*self.RULES, *others)
        )

    def test_goes_to_the_app(self):
        assert self.make(b'If-None-Match: "a"').told == ["pool: take", "upstream: GET /a"]

    def test_304_is_put_aside_and_the_app_asked_once_more_without_it(self):
        stage = self.make(b'If-None-Match: "a"')
        stage.exchange.response_head(NOT_MODIFIED)
        stage.exchange.response_end()
        assert stage.told[2:] == ["pool: take", "upstream: GET /a stripped"]
        stage.exchange.response_head(JSON)
        stage.exchange.response_end()
        assert stage.told == ["client: head 200", "client: end"]
        assert (stage.around.record.rule, stage.around.record.status) == ("data", 200)
        assert stage.around.stats.conditionals_stripped == {"data": 2}

    def test_304_is_passed_on_where_no_rule_applies_after_all(self):
        stage = self.make(b'If-None-Match: "a"')
        stage.exchange.response_head(NOT_MODIFIED)
        stage.exchange.response_end()
        stage.exchange.response_head(OK)
        assert stage.told[4:] == ["upstream: abort", "client: head 304", "client: end"]
        record = stage.around.record
        assert (record.rule, record.status, record.upstream_status) == ("", 304, 304)
        assert stage.around.stats.in_flight == 0

    def test_304_that_is_passed_on_after_all_is_what_is_counted_and_recorded(self):
        """Its record was a mix of both answers, the audit did not hear of it, and its rule's counters stood still."""
        others = (Rule("watched", CLASSIC, mode="observe"), Rule("kept", SOFT))
        stage = self.make(b'If-None-Match: "a"', others=others)
        collector = Collector(b"secret")
        around = stage.around
        around.context.audit = AuditFeed(
            collector, around.context.ruleset, around.context.loop, around.context.recorder
        )
        stage.client.was_cached = True
        stage.exchange.response_head(NOT_MODIFIED)
        first_s = stage.exchange._record.upstream_s
        stage.exchange.response_end()
        stage.exchange.response_head(OK)
        record, stats = around.record, around.stats
        assert (record.rule, record.policy, record.observed, record.changed) == (
            *("kept", "soft", "watched"),
            stage.client.changed,
        )
        assert (record.upstream_status, record.upstream_s) == (304, first_s)
        assert stats.fields_changed == {"kept": stage.client.changed}
        assert stats.observed == {"watched": 1}
        assert stats.upstream_cache_hits_total == 1
        collector.tick(0)
        collector.work()
        assert collector.evidence.responses == 1

    async def test_304_that_is_passed_on_after_all_is_what_is_shown_as_received(self):
        stage = self.make(b'If-None-Match: "a"')
        watch = Watch(0)
        stage.around.context.use_watch(watch)
        stage.exchange.response_head(NOT_MODIFIED)
        stage.exchange.response_end()
        stage.exchange.response_head(OK)
        (row,) = await watch.hand_over(0)
        assert json.loads(row)["response"]["received"] == ["HTTP/1.1 304 Not Modified"]

    def test_304_comes_once(self):
        """The second time nothing was asked that it could answer."""
        stage = self.make(b'If-None-Match: "a"')
        stage.exchange.response_head(NOT_MODIFIED)
        stage.exchange.response_end()
        stage.exchange.response_head(NOT_MODIFIED)
        assert stage.told[-1] == "client: answer upstream_not_modified"

    def test_rule_is_not_named_where_the_app_gave_nothing_that_it_asks_for(self):
        stage = self.make()
        stage.exchange.fail(failures.UPSTREAM_TIMEOUT)
        assert (stage.around.record.rule, stage.around.record.policy) == ("", "strict")
        stage = self.make()
        stage.exchange.client_left()
        assert (stage.around.record.rule, stage.around.record.policy) == ("", "")

    def test_304_to_a_request_without_one_is_a_fault_of_the_app(self):
        stage = self.make()
        stage.exchange.response_head(NOT_MODIFIED)
        assert stage.told[-1] == "client: answer upstream_not_modified"

    def test_part_of_a_copy_is_asked_for_whole_where_the_rule_applies(self):
        stage = self.make(b"Range: bytes=0-1", b'If-Range: "a"')
        stage.exchange.response_head(response(*PART, b"Content-Type: application/json"))
        assert stage.told[2:] == ["upstream: abort", "pool: take", "upstream: GET /a stripped"]
        stage.exchange.response_head(JSON)
        assert stage.told == ["client: head 200"]

    def test_part_of_a_copy_is_asked_for_elsewhere_where_its_connection_was_the_client_s_own(self):
        stage = self.make(b"Range: bytes=0-1", b'If-Range: "a"', b"Authorization: NTLM x", resting=1)
        stage.exchange.response_head(response(*PART, b"Content-Type: application/json"))
        assert stage.told[3:] == ["upstream: abort", "pool: take", "pool: connect"]

    def test_part_that_was_put_aside_is_never_given_as_its_connection_is_gone(self):
        stage = self.make(b"Range: bytes=0-1", b'If-Range: "a"')
        stage.exchange.response_head(response(*PART, b"Content-Type: application/json"))
        stage.exchange.response_head(OK)
        assert stage.told[-1] == "client: head 200"

    @pytest.mark.parametrize("first", [NOT_MODIFIED, response(*PART, b"Content-Type: application/json")])
    def test_connection_of_the_first_asking_is_nobody_s_while_the_second_waits(self, first):
        """It rests, or is gone: ended once more, it would be somebody else's that ends."""
        stage = self.make(b"Range: bytes=0-1", b'If-Range: "a"', b'If-None-Match: "a"', resting=1)
        stage.exchange.response_head(first)
        if first is NOT_MODIFIED:
            stage.exchange.response_end()
        _ = stage.told
        stage.exchange.client_left()
        assert stage.told == ["pool: cancel"]

    @pytest.mark.parametrize(
        ("fields", "content_type"),
        [
            ([b"Range: bytes=0-1", b'If-Range: "a"'], b"text/plain"),
            ([b"Range: bytes=0-1"], b"application/json"),
        ],
    )
    def test_other_part_is_passed_on(self, fields, content_type):
        stage = self.make(*fields)
        stage.exchange.response_head(response(*PART, b"Content-Type: " + content_type))
        assert stage.told[2:] == ["client: head 206"]

    def test_of_a_method_whose_answers_no_cache_reuses_means_what_it_says(self):
        stage = self.make(b'If-None-Match: "a"', method=b"DELETE")
        stage.exchange.response_head(NOT_MODIFIED)
        assert stage.told[2:] == ["client: head 304"]

    def test_second_asking_that_fails_is_a_failure_of_the_app(self):
        stage = self.make(b'If-None-Match: "a"')
        stage.exchange.response_head(NOT_MODIFIED)
        stage.exchange.response_end()
        stage.exchange.upstream_lost(may_retry=False, detail="")
        assert stage.told[-1] == "client: answer upstream_closed"


class Test_Second_try:
    def test_is_made_on_a_new_connection_when_a_used_one_ended_as_the_request_met_it(self):
        stage = Stage()
        stage.exchange.upstream_lost(may_retry=True, detail="reset")
        assert stage.told[2:] == ["pool: connect"]
        stage.exchange.upstream_ready(stage.upstream)
        assert stage.told == ["upstream: GET /a"]
        assert stage.around.stats.retries_total == 1
        stage.exchange.client_left()
        assert stage.told == ["upstream: abort"], "the attempt is over"

    def test_is_the_last(self):
        stage = Stage()
        stage.exchange.upstream_lost(may_retry=True, detail="")
        stage.exchange.upstream_ready(stage.upstream)
        _ = stage.told
        stage.exchange.upstream_lost(may_retry=True, detail="again")
        assert stage.told == ["client: answer upstream_closed"]
        assert stage.around.record.error == "upstream_closed: again"
        assert stage.around.stats.retries_total == 1

    @pytest.mark.parametrize(
        "head",
        [
            POST,
            CHUNKED,
            request(b"POST /a HTTP/1.1", b"Content-Length: 0"),
            request(b"GET /a HTTP/1.1", b"Content-Length: 4"),
            request(b"GET /a HTTP/1.1", b"Connection: upgrade", b"Upgrade: websocket"),
        ],
    )
    def test_is_not_made_of_what_cannot_be_sent_twice(self, head):
        """RFC 9110 section 9.2.2: a second POST would be a second order."""
        stage = Stage(head)
        stage.exchange.upstream_lost(may_retry=True, detail="")
        assert stage.told[-1] == "client: answer upstream_closed"

    def test_is_not_made_where_the_app_has_begun_to_answer(self):
        stage = Stage()
        stage.exchange.informational(response(b"103 Early Hints"))
        stage.exchange.upstream_lost(may_retry=True, detail="")
        assert stage.told[-1] == "client: answer upstream_closed"

    def test_is_not_made_where_the_connection_was_new(self):
        stage = Stage()
        stage.exchange.upstream_lost(may_retry=False, detail="")
        assert stage.told[-1] == "client: answer upstream_closed"


class Test_Silence:
    """The table in the module's docstring."""

    @pytest.mark.parametrize(
        ("phase", "patience_s", "reason", "ending"),
        [
            ("connecting", 11, "connect_timeout", "client: answer connect_timeout"),
            ("sending", 300, "request_timeout", "client: answer request_timeout"),
            ("awaiting", 60, "upstream_timeout", "client: answer upstream_timeout"),
            ("relaying", 300, "upstream_stalled", "client: reset"),
        ],
    )
    def test_of_a_phase_has_its_time_and_its_name(self, phase, patience_s, reason, ending):
        stage = PHASES[phase]()
        assert stage.client.patience_s == patience_s
        stage.exchange.timed_out()
        assert stage.told[-1] == ending
        assert stage.around.record.failure.reason == reason

    def test_is_the_app_s_where_it_takes_no_more_of_the_request(self):
        stage = in_sending()
        stage.exchange.pause_request()
        stage.exchange.timed_out()
        assert stage.told[-1] == "client: answer upstream_timeout"

    @pytest.mark.parametrize("phase", ["sending", "awaiting", "relaying"])
    def test_is_the_client_s_where_it_takes_nothing(self, phase):
        stage = PHASES[phase]()
        stage.client.is_congested = True
        stage.exchange.timed_out()
        assert stage.told[-2:] == ["upstream: abort", "client: reset"]
        assert stage.around.record.failure is failures.CLIENT_STALLED

    def test_ends_with_any_byte_of_content(self):
        stage = in_sending()
        stage.client.deadline_s = 0
        stage.exchange.request_content(b"a")
        assert stage.client.patience_s == 300
        stage = in_relaying()
        stage.client.deadline_s = 0
        stage.exchange.touch()
        assert stage.client.patience_s == 300

    def test_ends_as_the_client_takes_what_it_was_sent(self):
        stage = in_relaying()
        stage.client.deadline_s = 0
        stage.exchange.resume_response()
        assert stage.client.patience_s == 300

    def test_of_an_app_that_is_to_answer_does_not_end_when_the_client_takes_what_came_before(self):
        stage = in_awaiting()
        stage.client.deadline_s = 0
        stage.exchange.resume_response()
        assert stage.client.deadline_s == 0


class Test_Failure:
    @pytest.mark.parametrize("phase", ["connecting", "sending", "awaiting"])
    def test_is_answered_before_the_response(self, phase):
        stage = PHASES[phase]()
        dropped = "pool: cancel" if phase == "connecting" else "upstream: abort"
        stage.exchange.fail(failures.UPSTREAM_MALFORMED)
        assert stage.told[-2:] == [dropped, "client: answer upstream_malformed"]
        record = stage.around.record
        assert (record.status, record.policy, record.bytes_out) == (502, "strict", 17)
        assert stage.around.stats.upstream_errors == {"upstream_malformed": 1}

    def test_within_the_response_is_a_reset(self):
        stage = in_relaying()
        stage.exchange.fail(failures.UPSTREAM_TRUNCATED)
        assert stage.told[-2:] == ["upstream: abort", "client: reset"]
        assert stage.around.record.status == 200

    @pytest.mark.parametrize("phase", PHASES)
    def test_that_must_end_at_once_is_a_reset(self, phase):
        stage = PHASES[phase]()
        stage.exchange.reset(failures.DRAINED)
        assert stage.told[-1] == "client: reset"
        assert stage.around.stats.proxy_errors == {"drained": 1}

    @pytest.mark.parametrize("phase", PHASES)
    def test_client_that_leaves_ends_the_upstream_s_work(self, phase):
        stage = PHASES[phase]()
        stage.exchange.client_left()
        assert stage.told[-1] in {"pool: cancel", "upstream: abort"}
        assert stage.around.record.status == 499
        assert stage.around.stats.client_aborts_total == 1
        assert stage.around.stats.client_errors == {}

    @pytest.mark.parametrize("phase", PHASES)
    def test_comes_but_once(self, phase):
        """After the end nothing is told any more, and nothing counted."""
        stage = PHASES[phase]()
        stage.exchange.fail(failures.UPSTREAM_CLOSED)
        _ = stage.told
        stage.exchange.fail(failures.INTERNAL)
        stage.exchange.reset(failures.DRAINED)
        stage.exchange.client_left()
        assert stage.told == []
        assert len(stage.around.log.records) == 1
        assert stage.around.stats.in_flight == 0

    def test_that_cannot_be_answered_stays_one_for_who_tells_of_it_again(self):
        """So the client's connection learns that nobody answers, and ends. It was left open, and nothing counted."""
        stage = in_awaiting()
        stage.client.answer = broken
        for _ in range(2):
            with pytest.raises(RuntimeError):
                stage.exchange.fail(failures.UPSTREAM_CLOSED)
        stage.exchange.client_left()
        assert stage.around.record.failure is failures.CLIENT_LEFT
        assert stage.around.stats.in_flight == 0

    def test_connection_that_cannot_be_had(self):
        stage = in_connecting()
        stage.exchange.upstream_unavailable(failures.CONNECT_REFUSED)
        assert stage.told == ["pool: take", "pool: connect", "client: answer connect_refused"]

    @pytest.mark.parametrize("head", [POST, CHUNKED])
    def test_too_much_content_is_refused_as_soon_as_it_is_known(self, head):
        stage = Stage(head, max_request_body_bytes=3)
        if head is CHUNKED:
            stage.exchange.request_content(b"abcd")
        assert stage.told[-1] == "client: answer content_too_large"

    def test_chunked_content_within_the_limit_is_none(self):
        stage = Stage(CHUNKED, max_request_body_bytes=4)
        stage.exchange.request_content(b"ab")
        stage.exchange.request_content(b"cd")
        assert stage.told[2:] == ["upstream: content ab", "upstream: content cd"]


class Test_Switch:
    ASKED = request(b"GET /a HTTP/1.1", b"Connection: upgrade", b"Upgrade: echo")

    def test_hands_both_sides_to_a_tunnel(self):
        stage = Stage(self.ASKED)
        stage.exchange.response_head(response(b"101 Switching Protocols", b"Upgrade: echo"))
        assert stage.told[2:] == ["client: switch 101 for echo", "upstream: tunnel", "client: tunnel"]
        assert (stage.around.stats.tunnels, stage.around.stats.in_flight) == (1, 1)
        assert stage.around.log.records == []
        stage.client.tunnel.client_left()
        assert stage.around.record.status == 101
        assert (stage.around.stats.tunnels, stage.around.stats.in_flight) == (0, 0)

    def test_leaves_nothing_for_the_exchange_to_end(self):
        stage = Stage(self.ASKED, rules=(Rule("all", CLASSIC, conditions()),))
        stage.exchange.response_head(response(b"101 Switching Protocols", b"Upgrade: echo"))
        _ = stage.told
        stage.exchange.fail(failures.INTERNAL)
        stage.exchange.client_left()
        assert stage.told == []
        stage.client.tunnel.client_left()
        assert stage.around.record.rule == "all"

    @pytest.mark.parametrize(("token", "says"), [(b"WebSocket", True), (b"echo", False)])
    def test_to_frames_of_websocket_is_told_from_others_as_it_is_drained(self, token, says):
        stage = Stage(request(b"GET /a HTTP/1.1", b"Connection: upgrade", b"Upgrade: " + token))
        stage.exchange.response_head(response(b"101 Switching Protocols", b"Upgrade: " + token))
        _ = stage.told
        stage.client.deadline_s = 0
        stage.client.tunnel.drain()
        assert any("bytes" in line for line in stage.told) is says

    def test_before_the_request_is_complete_is_no_answer_to_it(self):
        """RFC 9110 section 7.8."""
        stage = Stage(
            request(b"POST /a HTTP/1.1", b"Connection: upgrade", b"Upgrade: echo", b"Content-Length: 4")
        )
        with pytest.raises(MalformedHeadError):
            stage.exchange.response_head(response(b"101 Switching Protocols", b"Upgrade: echo"))


class Test_Authenticated_connection:
    def test_is_pinned_by_a_challenge_before_the_client_hears_of_it(self):
        stage = Stage()
        challenge = response(b"401 Unauthorized", b"WWW-Authenticate: NTLM", b"Content-Length: 2")
        stage.exchange.response_head(challenge)
        assert stage.told[2:] == ["client: pin", "client: head 401"]

    def test_is_pinned_by_credentials_as_soon_as_they_are_sent(self):
        stage = Stage(request(b"GET /a HTTP/1.1", b"Authorization: Negotiate YIIZ"))
        assert stage.told == ["pool: take", "upstream: GET /a", "client: pin"]

    @pytest.mark.parametrize(
        "field", [b"Authorization: Basic YTpi", b"Authorization: Bearer x", b"Cookie: NTLM user-x"]
    )
    def test_is_not_pinned_by_credentials_of_a_request_alone(self, field):
        assert Stage(request(b"GET /a HTTP/1.1", field)).told == [
            "pool: take",
            "upstream: GET /a",
        ]

    def test_is_used_again_by_its_client_alone_and_the_pool_not_asked(self):
        around = Surroundings()
        client, pinned = FakeClient(around.told), FakeUpstream(around.told, "pinned")
        client.pinned = pinned
        Exchange(around.context, FakePool(around.told), client, request()).begin()
        assert around.told == ["pinned: GET /a", "client: pin"]


class Test_Audit:
    """It is shown what passes whole, by whatever way."""

    @pytest.mark.parametrize("way", ["response_content", "large_content"])
    def test_sees_content_change(self, way):
        evidence = self.seen(way, [b"one", b"two"])
        (finding,) = report_on(evidence).findings
        assert (finding.verdict, evidence.responses) == ("stale", 2)

    def test_is_not_shown_what_was_broken_off(self):
        assert self.seen("response_content", [b"one", b"two"], ends=False).responses == 0

    def seen(self, way, contents, *, ends=True):
        around = Surroundings()
        collector = Collector(b"secret")
        context = around.context
        context.audit = AuditFeed(collector, context.ruleset, around.loop, context.recorder)
        for content in contents:
            upstream = FakeUpstream(around.told)
            exchange = Exchange(context, FakePool(around.told, upstream), FakeClient(around.told), request())
            exchange.begin()
            fields = [b"Content-Length: 3", b"Cache-Control: max-age=60", b"Content-Type: application/json"]
            exchange.response_head(response(b"200 OK", *fields))
            getattr(exchange, way)(content)
            if ends:
                exchange.response_end()
            else:
                exchange.fail(failures.UPSTREAM_TRUNCATED)
        collector.tick(1.0)
        collector.work()
        return collector.evidence
