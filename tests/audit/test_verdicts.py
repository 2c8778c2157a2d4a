"""What the audit says of answers, route by route."""

from __future__ import annotations

import os

import pytest

from proxy.audit.verdicts import judge
from tests.audit.answers import FETCH, PAGE, XHR, answer, cookie, evidence_of, report_of, verdicts_of

YEAR = "max-age=31536000"


def why_of(*answers) -> str:
    (finding,) = report_of(*answers).findings
    return finding.why


class TestStale:
    def test_content_that_changes_within_its_lifetime_is_stale(self):
        first = answer(0, "/a", b"1", cache_control="max-age=60")
        assert verdicts_of(first, answer(59, "/a", b"2")) == {"/a": "stale"}

    def test_content_that_changes_after_its_lifetime_is_not(self):
        first = answer(0, "/a", b"1", cache_control="max-age=60")
        assert verdicts_of(first, answer(61, "/a", b"2", cache_control="no-store")) == {"/a": "possible"}

    def test_age_on_arrival_counts_against_the_lifetime(self):
        first = answer(0, "/a", b"1", cache_control="max-age=60", age="50")
        assert verdicts_of(first, answer(11, "/a", b"2", cache_control="no-store")) == {"/a": "possible"}

    def test_without_any_lifetime_internet_explorer_reuses_until_the_browser_closes(self):
        assert verdicts_of(answer(0, "/a", b"1", XHR), answer(9_000, "/a", b"2", XHR)) == {"/a": "stale"}

    def test_content_that_comes_and_goes_slower_than_its_lifetime_is_not_stale(self):
        answers = [answer(100 * n, "/a", b"%d" % (n % 2), cache_control="max-age=20") for n in range(8)]
        assert verdicts_of(*answers) == {"/a": "possible"}

    @pytest.mark.parametrize("control", ["no-store", "no-cache", "max-age=0", "private, no-cache"])
    def test_what_may_not_be_reused_is_fine_whatever_it_shows(self, control):
        answers = [answer(n, "/a", b"%d" % n, cache_control=control) for n in range(5)]
        assert verdicts_of(*answers) == {"/a": "fine"}

    def test_content_that_differs_only_by_a_field_in_vary_is_not_stale(self):
        by_language = [
            answer(
                n, "/a", lang, (b"Accept-Language", lang), cache_control="max-age=60", vary="Accept-Language"
            )
            for n, lang in enumerate((b"de", b"en", b"de", b"en"))
        ]
        assert verdicts_of(*by_language) == {"/a": "possible"}

    def test_queries_are_resources_of_their_own(self):
        answers = [answer(n, f"/a?page={n}", b"%d" % n, cache_control="max-age=60") for n in range(5)]
        assert verdicts_of(*answers) == {"/a": "possible"}

    def test_ranges_tell_nothing_about_the_content(self):
        answers = [
            answer(n, "/a.bin", b"%d" % n, status=206, cache_control="max-age=60", kind="application/x-bin")
            for n in range(3)
        ]
        assert verdicts_of(*answers) == {"/a.bin": "possible"}

    def test_304_renews_the_lifetime_of_what_it_stands_for(self):
        said = {"cache_control": "max-age=60", "etag": '"1"'}
        first = answer(0, "/a", b"1", **said)
        renewed = answer(50, "/a", None, status=304, kind="", **said)
        changed = answer(100, "/a", b"2", cache_control="max-age=60", etag='"2"')
        assert verdicts_of(first, changed) == {"/a": "possible"}
        assert verdicts_of(first, renewed, changed) == {"/a": "stale"}

    def test_304_to_a_single_condition_says_what_it_stands_for_without_a_tag_of_its_own(self):
        first = answer(0, "/a", b"1", cache_control="max-age=60", etag='"1"')
        asked = (b"If-None-Match", b'W/"1"')
        renewed = answer(50, "/a", None, asked, status=304, kind="", cache_control="max-age=60")
        changed = answer(100, "/a", b"2", etag='"2"', cache_control="no-store")
        assert verdicts_of(first, renewed, changed) == {"/a": "stale"}

    def test_304_without_content_does_not_differ_from_what_it_confirms(self):
        first = answer(0, "/app.js", b"1", kind="text/javascript", etag='"1"')
        asked = (b"If-None-Match", b'"1"')
        renewed = answer(5, "/app.js", b"", asked, status=304, kind="", cache_control="max-age=60")
        assert verdicts_of(first, renewed) == {"/app.js": "possible"}

    @pytest.mark.parametrize("content", [b"1", None])
    def test_head_with_another_tag_shows_that_the_content_changed(self, content):
        first = answer(0, "/a", content, cache_control="max-age=60", etag='"1"')
        head = answer(5, "/a", None, method="HEAD", cache_control="max-age=60", etag='"2"')
        assert verdicts_of(first, head) == {"/a": "stale"}

    def test_tags_are_compared_where_content_was_not_recorded(self):
        answers = [answer(n, "/a", None, cache_control="max-age=60", etag=f'"{n}"') for n in range(2)]
        assert verdicts_of(*answers) == {"/a": "stale"}
        assert "ETag and length were compared" in why_of(*answers)

    def test_error_that_turns_into_content_while_it_may_be_reused_is_stale(self):
        gone = answer(0, "/a", None, status=404, cache_control="max-age=60")
        assert verdicts_of(gone, answer(5, "/a", b"1", cache_control="no-store")) == {"/a": "stale"}

    def test_redirect_to_elsewhere_within_its_lifetime_is_stale(self):
        answers = [
            answer(n, "/a", None, status=302, location=f"/{n}", cache_control="max-age=60") for n in range(2)
        ]
        assert verdicts_of(*answers) == {"/a": "stale"}

    def test_answers_to_unsafe_methods_are_fine(self):
        answers = [answer(n, "/a", b"%d" % n, method="POST", cache_control="max-age=60") for n in range(3)]
        assert verdicts_of(*answers) == {"POST /a": "fine"}

    def test_less_than_one_percent_of_the_bytes_is_said_to_be_a_token(self):
        page = os.urandom(20_000).hex().encode()
        first = answer(0, "/a", page, PAGE, kind="text/html")
        token = answer(1, "/a", page[:-40] + b"0" * 40, PAGE, kind="text/html")
        other = answer(1, "/a", os.urandom(20_000).hex().encode(), PAGE, kind="text/html")
        assert verdicts_of(first, token) == {"/a": "stale"}
        assert "less than 1 % of the bytes differ" in why_of(first, token)
        assert "less than 1 %" not in why_of(first, other)
        assert "less than 1 %" not in why_of(first, token, other), "one change of more counts"

    def test_why_says_how_soon_it_changed_and_how_long_it_could_be_reused(self):
        answers = [answer(0, "/a", b"1", cache_control="max-age=600"), answer(12, "/a", b"2")]
        assert (
            why_of(*answers)
            == "the content changed 12 s after an answer that caches may reuse for 10 minutes"
        )


class TestLeak:
    def test_content_of_one_user_that_a_shared_cache_may_give_to_another_is_a_leak(self):
        alice = answer(0, "/me", b"alice", cookie("a"), cache_control="max-age=60")
        bob = answer(30, "/me", b"bob", cookie("b"), cache_control="max-age=60")
        assert verdicts_of(alice, bob) == {"/me": "leak"}

    def test_private_keeps_it_from_shared_caches(self):
        answers = [
            answer(n, "/me", user, cookie(user.decode()), cache_control="private, max-age=60")
            for n, user in enumerate((b"a", b"b"))
        ]
        assert verdicts_of(*answers) == {"/me": "stale"}, "at one browser two users may sit in turn"

    def test_vary_cookie_keeps_users_apart(self):
        answers = [
            answer(n, "/me", user, cookie(user.decode()), cache_control="max-age=60", vary="Cookie")
            for n, user in enumerate((b"a", b"b"))
        ]
        assert verdicts_of(*answers) == {"/me": "possible"}

    def test_authorization_does_not_keep_answers_out_of_nginx(self):
        users = [
            answer(0, "/me", user, (b"Authorization", b"Bearer " + user), cache_control="max-age=60")
            for user in (b"a", b"b")
        ]
        assert verdicts_of(*users) == {"/me": "leak"}

    @pytest.mark.parametrize(
        "field",
        [
            {"x_accel_expires": "60"},
            {"surrogate_control": "max-age=60"},
            {"cdn_cache_control": "max-age=60"},
            {"surrogate_control": 'content="ESI/1.0"'},
        ],
    )
    def test_fields_that_beat_cache_control_in_some_shared_cache_count(self, field):
        users = [
            answer(n, "/me", user, cookie(user.decode()), cache_control="no-store", **field)
            for n, user in enumerate((b"a", b"b"))
        ]
        assert verdicts_of(*users) == {"/me": "leak"}

    @pytest.mark.parametrize(
        "field", [{"x_accel_expires": "0"}, {"surrogate_control": "no-store"}, {"x_accel_expires": "@1"}]
    )
    def test_fields_of_shared_caches_that_forbid_change_nothing(self, field):
        assert verdicts_of(answer(0, "/me", cache_control="no-store", **field)) == {"/me": "fine"}

    def test_content_that_both_users_got_at_some_time_is_not_one_users_own(self):
        news = [
            answer(n, "/news", text, cookie(user), cache_control="max-age=60")
            for n, (user, text) in enumerate((("a", b"old"), ("b", b"old"), ("a", b"new"), ("b", b"new")))
        ]
        assert verdicts_of(*news) == {"/news": "stale"}

    def test_content_of_a_session_whose_cookie_changes_with_each_answer_is_stale(self):
        """Each answer is asked for with the cookie that the one before has set: one user, and no leak."""
        numbers = [
            answer(
                n,
                "/me",
                b"%d" % n,
                cookie(str(n)),
                cache_control="max-age=60",
                set_cookie=f"session={n + 1}; Path=/",
            )
            for n in range(9)
        ]
        assert verdicts_of(*numbers[:2]) == {"/me": "stale"}
        assert verdicts_of(*numbers) == {"/me": "stale"}

    def test_first_cookie_of_a_visitor_is_no_other_user(self):
        first = answer(
            0, "/", b"1", PAGE, kind="text/html", cache_control="max-age=60", set_cookie="session=1"
        )
        second = answer(5, "/", b"2", PAGE, cookie("1"), kind="text/html", cache_control="max-age=60")
        assert verdicts_of(first, second) == {"/": "stale"}

    def test_cookie_for_statistics_that_is_set_says_nothing(self):
        users = [
            answer(n, "/me", b"%d" % n, cookie(str(n)), cache_control="max-age=60", set_cookie=f"_ga={n}")
            for n in range(2)
        ]
        assert verdicts_of(*users) == {"/me": "leak"}

    def test_cookie_that_is_set_again_as_it_is_says_nothing(self):
        users = [
            answer(
                n,
                "/me",
                b"%d" % n,
                cookie(str(n)),
                cache_control="max-age=60",
                set_cookie=f"session={n}; HttpOnly",
            )
            for n in range(2)
        ]
        assert verdicts_of(*users) == {"/me": "leak"}

    def test_user_who_gets_its_own_again_proves_it_even_where_cookies_change(self):
        answers = [
            answer(n, "/me", user, cookie(user.decode()), cache_control="max-age=60", set_cookie=f"seen={n}")
            for n, user in enumerate((b"a", b"b", b"a"))
        ]
        assert verdicts_of(*answers[:2]) == {"/me": "stale"}
        assert verdicts_of(*answers) == {"/me": "leak"}

    def test_news_that_many_users_read_once_are_not_one_users_own(self):
        news = [
            answer(n, "/news", b"old" if n < 10 else b"new", cookie(str(n)), cache_control="max-age=60")
            for n in range(20)
        ]
        assert verdicts_of(*news) == {"/news": "stale"}

    def test_count_that_changes_for_each_user_is_not_one_users_own(self):
        """One user after the other; if both ask in turn, it cannot be told apart from what is their own."""
        users, in_turn = "aabb", "abab"
        for order, verdict in ((users, "stale"), (in_turn, "leak")):
            counts = [
                answer(n, "/count", b"%d" % n, cookie(user), cache_control="max-age=60")
                for n, user in enumerate(order)
            ]
            assert verdicts_of(*counts) == {"/count": verdict}

    def test_number_that_is_new_each_time_is_no_ones_own(self):
        """Visitors without credentials are not one user who asks in turn with those who have some."""
        numbers = [
            answer(
                n, "/uuid", b"%d" % n, *([cookie(user)] if user != "-" else []), cache_control="max-age=60"
            )
            for n, user in enumerate("--aa--bb")
        ]
        assert verdicts_of(*numbers) == {"/uuid": "stale"}

    @pytest.mark.parametrize("status", [401, 403])
    def test_what_others_are_refused_is_a_leak(self, status):
        """It is not for them, even if it is the same for all who may see it."""
        seen = [
            answer(0, "/report", b"numbers", cookie("a"), cache_control="max-age=60"),
            answer(1, "/report", b"numbers", cookie("b"), cache_control="max-age=60"),
            answer(2, "/report", b"no", status=status, kind="text/html"),
        ]
        assert verdicts_of(*seen[:2]) == {"/report": "possible"}
        assert verdicts_of(*seen) == {"/report": "leak"}

    def test_user_whose_session_has_ended_is_no_other_user(self):
        seen = [
            answer(0, "/report", b"numbers", cookie("a"), cache_control="max-age=60"),
            answer(1, "/report", b"no", cookie("a"), status=401, kind="text/html"),
        ]
        assert verdicts_of(*seen) == {"/report": "stale"}

    def test_full_cart_between_empty_ones_is_its_owners(self):
        carts = [
            answer(
                n,
                "/cart",
                b"full" if n % 5 == 2 else b"empty",
                cookie(str(n % 5)),
                cache_control="max-age=60",
            )
            for n in range(10)
        ]
        assert verdicts_of(*carts) == {"/cart": "leak"}

    @pytest.mark.parametrize("name", ["_ga", "_ga_3F2A9C81", "_pk_id.1.1fff", "_hjSession_1", "_dd_s"])
    def test_cookies_for_statistics_are_no_credentials(self, name):
        answers = [
            answer(
                n,
                "/news",
                b"%d" % n,
                (b"Cookie", f"session=1; {name}={n}".encode()),
                cache_control="max-age=60",
            )
            for n in range(2)
        ]
        assert verdicts_of(*answers) == {"/news": "stale"}

    def test_change_after_the_shared_lifetime_is_no_leak(self):
        alice = answer(0, "/me", b"alice", cookie("a"), cache_control="s-maxage=5, max-age=0")
        bob = answer(30, "/me", b"bob", cookie("b"), cache_control="s-maxage=5, max-age=0")
        assert verdicts_of(alice, bob) == {"/me": "possible"}


class TestCacheDeception:
    @pytest.mark.parametrize(
        "target",
        [
            "/account/x.css",
            "/api/me;a.js",
            "/api/me%0A.css",
            "/api/me%2Ecss",
            "/api/me%3Fx.png",
            "/api/me%2F..%2Fx.PDF",
        ],
    )
    def test_data_under_a_path_that_looks_static_is_possible_and_the_extension_named(self, target):
        seen = answer(0, target, b"{}", cookie("a"), cache_control="max-age=0")
        assert set(verdicts_of(seen).values()) == {"possible"}
        assert "'." in why_of(seen)
        assert "application/json" in why_of(seen)

    def test_it_is_a_leak_where_content_differed_by_credentials(self):
        users = [
            answer(n, "/me/x.css", b"%d" % n, cookie(str(n)), kind="text/html", cache_control="no-cache")
            for n in (1, 2)
        ]
        assert set(verdicts_of(*users).values()) == {"leak"}

    def test_it_is_no_leak_where_the_cookie_changes_with_each_answer(self):
        seen = [
            answer(
                n,
                "/me/x.css",
                b"%d" % n,
                cookie(str(n)),
                kind="text/html",
                set_cookie=f"session={n + 1}",
                etag=f'"{n}"',
            )
            for n in range(3)
        ]
        assert set(verdicts_of(*seen).values()) == {"stale"}

    @pytest.mark.parametrize(
        ("target", "kind", "control"),
        [
            ("/static/x.css", "text/css", "max-age=0"),
            ("/export.csv", "text/plain", "no-cache"),
            ("/account/x.css", "text/html", "no-store"),
            ("/account/x.css", "text/html", "private, max-age=0"),
            ("/account/x.html", "text/html", "max-age=0"),
        ],
    )
    def test_files_of_their_own_type_and_what_no_cache_may_keep_are_no_disguise(self, target, kind, control):
        assert set(
            verdicts_of(answer(0, target, b"1", cookie("a"), kind=kind, cache_control=control)).values()
        ) == {"fine"}

    def test_without_credentials_nobody_is_deceived(self):
        assert set(
            verdicts_of(answer(0, "/x.css", b"1", kind="text/html", cache_control="no-cache")).values()
        ) == {"fine"}


class TestFine:
    @pytest.mark.parametrize(
        ("target", "fields"),
        [
            ("/static/app.3f2a9c81.js", {"cache_control": YEAR}),
            ("/static/app.js?v=12", {"cache_control": YEAR}),
            ("/static/app.js", {"cache_control": f"{YEAR}, immutable"}),
        ],
    )
    def test_files_made_to_be_kept_are_fine_at_once(self, target, fields):
        assert set(verdicts_of(answer(0, target, b"1", kind="text/javascript", **fields)).values()) == {
            "fine"
        }

    def test_static_file_is_fine_after_ten_equal_answers(self):
        files = [answer(n, "/app.js", b"1", kind="text/javascript", cache_control=YEAR) for n in range(10)]
        assert verdicts_of(*files[:9]) == {"/app.js": "possible"}
        assert verdicts_of(*files) == {"/app.js": "fine"}

    def test_data_is_never_taken_for_static(self):
        answers = [answer(n, "/data", b"1", cache_control=YEAR) for n in range(50)]
        assert verdicts_of(*answers) == {"/data": "possible"}

    def test_file_with_a_version_in_its_name_is_made_to_be_kept(self):
        file = answer(0, "/jquery-3.6.0.min.js", b"1", kind="text/javascript", cache_control=YEAR)
        assert verdicts_of(file) == {"/jquery-3.6.0.min.js": "fine"}

    def test_static_file_that_changed_is_stale(self):
        files = [
            answer(n, "/app.js", b"%d" % (n // 20), kind="text/javascript", cache_control=YEAR)
            for n in range(40)
        ]
        assert verdicts_of(*files) == {"/app.js": "stale"}

    def test_errors_that_do_not_change_are_no_noise(self):
        """A browser asks for /favicon.ico, a scanner for much more: no rule is wanted for what is not there."""
        gone = [answer(n, "/favicon.ico", b"no", kind="text/html", status=404) for n in range(3)]
        assert verdicts_of(*gone) == {"/favicon.ico": "fine"}
        assert why_of(*gone) == "nothing but errors may be reused, and they did not change"
        assert verdicts_of(*gone, answer(9, "/favicon.ico", b"1", kind="image/x-icon")) == {
            "/favicon.ico": "stale"
        }


class TestProtected:
    def test_what_rules_protect_is_protected(self):
        answers = [answer(n, "/a", b"%d" % n, XHR, protected=True) for n in range(5)]
        assert verdicts_of(*answers) == {"/a": "protected"}

    def test_new_rule_turns_it_protected_with_the_next_answer_and_the_evidence_is_told(self):
        before = [answer(n, "/a", b"%d" % n, XHR) for n in range(3)]
        assert verdicts_of(*before) == {"/a": "stale"}
        after = answer(9, "/a", b"9", XHR, protected=True)
        assert verdicts_of(*before, after) == {"/a": "protected"}
        assert "before that, the content changed" in why_of(*before, after)

    def test_evidence_is_marked_with_the_rules_that_it_was_before(self):
        before = [answer(n, "/a", b"%d" % n, XHR) for n in range(2)]
        old = answer(-5, "/a", b"0", XHR, protected=True, rules="0ld")
        after = [answer(9 + n, "/a", b"9", XHR, protected=True, rules=name) for n, name in enumerate("12345")]
        assert "before rules 1, the content changed 1 s after" in why_of(old, *before, *after[:3])
        assert "before rules 1, " in why_of(*after[:3], *before, old), "in whatever order"
        assert "before rules 2, " in why_of(*before, *after), "four are remembered"

    def test_rule_for_some_who_ask_leaves_the_others_open(self):
        script = answer(0, "/a", b"1", FETCH, protected=True)
        pages = [answer(n, "/a", b"%d" % n, PAGE) for n in (1, 2)]
        assert verdicts_of(script, *pages) == {"/a": "stale"}


def test_answers_from_the_browsers_cache_are_counted_and_prove_nothing():
    seen = [answer(0, "/a", b"1", XHR), answer(5, "/a", b"0", XHR, from_cache=True)]
    assert verdicts_of(*seen) == {"/a": "possible"}
    assert "1 answer came from the browser's cache in this recording" in why_of(*seen)


def test_worst_routes_come_first():
    seen = [
        answer(0, "/fine", cache_control="no-store"),
        answer(0, "/possible"),
        answer(0, "/stale", b"1"),
        answer(1, "/stale", b"2"),
        answer(0, "/leak", b"1", cookie("a")),
        answer(1, "/leak", b"2", cookie("b")),
        answer(0, "/protected", protected=True),
    ]
    assert [f.route[1] for f in judge(evidence_of(*seen))] == [
        "leak",
        "stale",
        "possible",
        "protected",
        "fine",
    ]
