"""What of the gateway's environment a child gets to see."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.system.environment import child_environment

NAMES = st.from_regex(r"[A-Z_]{1,12}", fullmatch=True)


@pytest.mark.parametrize(
    "name",
    [
        "LLAMA_ARG_CTX_SIZE",
        "LLAMA_API_KEY",
        "HF_TOKEN",
        "OPENAI_API_KEY",
        "OPENAI_APIKEY",
        "GATEWAY_API_KEYS",
        "AWS_SECRET_ACCESS_KEY",
        "API_KEY",
        "TOKEN",
        "PGPASSWORD_PASSWORD",
        "DB_PASSWD",
        "openai_api_key",
        "GOOGLE_APPLICATION_CREDENTIALS",
    ],
)
def test_secrets_and_settings_of_the_server_stay_behind(name: str) -> None:
    assert child_environment({name: "x"}) == {}


@pytest.mark.parametrize(
    "name",
    [
        "PATH",
        "HOME",
        "LD_LIBRARY_PATH",
        "CUDA_VISIBLE_DEVICES",
        "HF_HOME",
        "LLAMA_CACHE",
        "MONKEY",
        "KEYBOARD_LAYOUT",
        "TOKENIZERS_PARALLELISM",
        "SSH_AUTH_SOCK",
    ],
)
def test_what_programs_need_is_passed_on(name: str) -> None:
    assert {name: "x"} == child_environment({name: "x"})


@given(
    st.dictionaries(NAMES, st.text()), st.dictionaries(NAMES | st.just("LLAMA_ARG_X") | st.just("HF_TOKEN"), st.text())
)
def test_what_is_given_on_top_is_passed_as_it_is(base: dict[str, str], extra: dict[str, str]) -> None:
    made = child_environment(base, extra)
    assert made == made | extra
    assert made.keys() <= base.keys() | extra.keys()
    assert all(base[name] == made[name] for name in made.keys() - extra.keys())


def test_the_base_is_not_changed() -> None:
    base = {"HF_TOKEN": "x", "PATH": "y"}
    assert child_environment(base) == {"PATH": "y"}
    assert base == {"HF_TOKEN": "x", "PATH": "y"}
