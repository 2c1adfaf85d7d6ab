"""The text that the demo model is trained on is well formed, and the tokenizer loses none of it."""

import re
from random import Random

from hypothesis import given
from hypothesis import strategies as st

from gateway.demo import corpus, dialogue, lessons, tokenizer

CORPUS = corpus.load()
TAUGHT = [
    *(lesson for group in CORPUS.answers.values() for lesson in group),
    *lessons.sums(),
    *lessons.counting(),
    *lessons.capitals(),
    *lessons.translations(),
    *lessons.everyday(),
]
PATTERNS = [*CORPUS.declined, *(pattern for lesson in TAUGHT for pattern in lesson.ask)]
LEARNED = tokenizer.Tokenizer(tokenizer.learn_merges((lesson.say for lesson in TAUGHT), 200))


def teacher() -> dialogue.Teacher:
    return dialogue.Teacher(CORPUS, Random(7))  # noqa: S311 - no secret depends on it


def test_every_pattern_is_text_in_small_letters() -> None:
    assert [pattern.lower() for pattern in PATTERNS] == PATTERNS


def test_every_pattern_closes_what_it_opens() -> None:
    assert [pattern for pattern in PATTERNS if pattern.count("(") != pattern.count(")")] == []


def test_every_word_of_a_pattern_is_known() -> None:
    named = {kind for pattern in PATTERNS for kind in re.findall(r"\{(\w+)\}", pattern)}
    assert named == {*CORPUS.words, "noise", "mash", "script", "talk"}


def test_the_same_seed_gives_the_same_conversations() -> None:
    one, other = teacher(), teacher()
    assert [one.turn() for _ in range(200)] == [other.turn() for _ in range(200)]


def test_no_sign_of_a_pattern_is_left_in_a_question() -> None:
    asking = teacher()
    assert [turn for turn in (asking.turn() for _ in range(2000)) if re.search(r"[|§]|\{\w", turn.asked)] == []


def test_every_answer_is_a_whole_sentence_or_a_list() -> None:
    assert [lesson.say for lesson in TAUGHT if lesson.say != lesson.say.strip() or not lesson.say] == []


def test_no_lesson_says_that_a_sum_is_wrong() -> None:
    operations = {"plus": int.__add__, "minus": int.__sub__, "times": int.__mul__}
    for lesson in lessons.sums():
        a, name, b, _, result = lesson.say.removesuffix(".").split()
        assert operations[name](int(a), int(b)) == int(result)


@given(st.text(st.characters(codec="utf-8")))
def test_any_text_is_encoded_without_loss(text: str) -> None:
    assert text.encode() == LEARNED.decode(LEARNED.encode(text))


@given(st.text(alphabet="0123456789 +-"))
def test_digits_are_never_merged(text: str) -> None:
    assert [token for token in LEARNED.encode(text) if sum(map(str.isdigit, LEARNED.tokens[token])) > 1] == []
