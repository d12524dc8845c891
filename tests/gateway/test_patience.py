"""How much a client of HTTP/2 may do that is no request."""

import pytest

from gateway.http2 import CHATTER
from gateway.patience import FRAMES_AN_ANSWER, Patience, TooMuch


def test_frames_without_requests_are_bounded_until_the_clock_ticks() -> None:
    patience = Patience(CHATTER)
    for _ in range(3):
        for _ in range(CHATTER):
            patience.chat()
        patience.renew()
    with pytest.raises(TooMuch):
        for _ in range(CHATTER + 1):
            patience.chat()


def test_a_client_that_is_answered_fast_may_speak_as_much_as_grpcs_own_does() -> None:
    """Seen of it, by 64 calls at a time: three frames a request, 20,000 requests a second."""
    patience = Patience(CHATTER)
    for _ in range(100):
        for _ in range(5000):
            for _ in range(3):
                patience.chat()
            patience.answered += 1
        patience.renew()


def test_a_client_that_is_answered_fast_may_name_and_trace_each_request() -> None:
    patience = Patience(CHATTER)
    for _ in range(100):
        for _ in range(5000):
            patience.take_head(length=150, fields=12)
            patience.answered += 1
        patience.renew()


def test_heads_without_answers_are_bounded() -> None:
    patience = Patience(CHATTER)
    with pytest.raises(TooMuch):
        for _ in range(5000):
            patience.take_head(length=150, fields=12)


def test_answers_of_before_do_not_make_up_for_frames_now() -> None:
    patience = Patience(CHATTER)
    patience.answered += 1_000_000
    patience.renew()
    with pytest.raises(TooMuch):
        for _ in range(CHATTER + 1):
            patience.chat()


def test_an_answer_makes_up_for_so_many_frames_and_no_more() -> None:
    patience = Patience(CHATTER)
    patience.answered += 100
    for _ in range(CHATTER + 100 * FRAMES_AN_ANSWER):
        patience.chat()
    with pytest.raises(TooMuch):
        patience.chat()
