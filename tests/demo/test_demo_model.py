"""The demo model answers as its card says, in the llama.cpp that users run it with."""

from typing import Any

import pytest

from gateway.demo import card, model_path

EXCHANGES = card.transcript(card.card_path().read_text(encoding="utf-8"))
TOY = "I am a toy model"


@pytest.fixture(scope="module")
def running() -> Any:
    return card.serve()


def chat(running: Any, *messages: tuple[str, str], temperature: float = 0) -> tuple[str, str]:
    """Text and finish reason of the answer to messages of (role, content)."""
    request = {
        "messages": [{"role": role, "content": content} for role, content in messages],
        "temperature": temperature,
        "max_tokens": 200,
        "seed": 1,
    }
    [choice] = running.handle_chat_completions(request)["choices"]
    return choice["message"]["content"], choice["finish_reason"]


def test_the_file_is_at_most_three_megabytes() -> None:
    assert model_path().stat().st_size <= 3_000_000


def test_the_card_shows_at_least_forty_prompts_each_once() -> None:
    prompts = {exchange.prompt for exchange in EXCHANGES}
    assert len(prompts) == len(EXCHANGES) >= 40


def test_writing_the_transcript_and_reading_it_gives_the_same() -> None:
    text = card.card_path().read_text(encoding="utf-8")
    assert card.with_transcript(text, EXCHANGES) == text


def test_a_card_without_a_transcript_is_refused() -> None:
    with pytest.raises(ValueError, match="no block of kind `text`"):
        card.transcript("# A card\n")


@pytest.mark.parametrize(
    ("prompt", "fact"),
    [
        ("What are you?", "toy model"),
        ("Are you real?", "I am a toy"),
        ("How do I add a model?", "custom_models.yaml"),
        ("How do I unload a model?", "POST /unload"),
        ("Which models are there?", "GET /v1/models"),
        ("What port?", "5846"),
        ("What is the capital of France?", "Paris"),
        ("Two plus two", "4"),
        ("What is 7+5?", "12"),
        ("What is three times four?", "12"),
        ("Translate hello into French", "bonjour"),
        ("What time is it?", TOY),
    ],
)
def test_the_card_s_answers_are_right(prompt: str, fact: str) -> None:
    [answer] = [exchange.answer for exchange in EXCHANGES if exchange.prompt == prompt]
    assert fact in answer


@pytest.mark.parametrize("exchange", EXCHANGES, ids=lambda exchange: exchange.prompt)
def test_each_prompt_of_the_card_gets_the_card_s_answer(running: Any, exchange: card.Exchange) -> None:
    assert (exchange.answer, "stop") == chat(running, ("user", exchange.prompt))


@pytest.mark.parametrize("greeting", ["hi", "Hi!", "HELLO", "hello there", "Hey.", "  hi  "])
def test_case_and_punctuation_do_not_matter(running: Any, greeting: str) -> None:
    assert chat(running, ("user", "hello")) == chat(running, ("user", greeting))


@pytest.mark.parametrize(
    "question",
    [
        "Who won the football match yesterday evening?",
        "Explain how a steam engine works",
        "What is the capital of Zambia?",
        "gjfkd sldkf wqpo",
        "Schreibe mir einen Brief",
    ],
)
def test_what_it_cannot_know_is_answered_with_what_it_is(running: Any, question: str) -> None:
    text, reason = chat(running, ("user", question))
    assert text.startswith(TOY)
    assert reason == "stop"


@pytest.mark.parametrize("exchange", EXCHANGES[::6], ids=lambda exchange: exchange.prompt)
def test_a_system_message_and_earlier_turns_do_not_change_the_answer(running: Any, exchange: card.Exchange) -> None:
    history = [("system", "You are a helpful assistant. Answer in short sentences.")]
    for earlier in EXCHANGES[10:20]:
        history += [("user", earlier.prompt), ("assistant", earlier.answer)]
    assert (exchange.answer, "stop") == chat(running, *history, ("user", exchange.prompt))


def test_the_usual_temperature_seldom_changes_an_answer(running: Any) -> None:
    answers = [chat(running, ("user", exchange.prompt), temperature=0.8)[0] for exchange in EXCHANGES]
    same = [answer for answer, exchange in zip(answers, EXCHANGES, strict=True) if answer == exchange.answer]
    assert len(same) >= 0.85 * len(EXCHANGES)
