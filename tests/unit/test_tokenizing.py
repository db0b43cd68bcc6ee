"""Words are the lower-case parts of identifiers and of prose, in order, with their repetitions."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.tokenizing import WORD_LENGTH, subwords, words


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("", ""),
        ("Where is the user name?", "where is the user name"),
        ("user", "user"),
        ("USER", "user"),
        ("getUserName", "get user name getusername"),
        ("get_user_name", "get user name getusername"),
        ("GET_USER_NAME", "get user name getusername"),
        ("GetUserName", "get user name getusername"),
        ("__init__", "init"),
        ("_", ""),
        ("HTTPServer", "http server httpserver"),
        ("parseHTML", "parse html parsehtml"),
        ("userIDs", "user ids userids"),
        ("getURLsOf", "get urls of geturlsof"),
        ("aB", "a b ab"),
        ("foo.bar-baz/qux", "foo bar baz qux"),
        ("don't", "don t"),
        ("utf8 base64 sha256 md5", "utf8 base64 sha256 md5"),
        ("HTTP2Server", "http2 server http2server"),
        ("i18nKey k8s e2e", "i18n key i18nkey k8s e2e"),
        ("v1beta1", "v1 beta1 v1beta1"),
        ("x86_64", "x86 64 x8664"),
        ("404 8080 2024 65535", "404 8080 2024 65535"),
        ("0 7 1234567 3.14159265", ""),
        ("0xFF 0xdeadbeef 0xDEAD_BEEFul", "0xff"),
        ("3f2a9c0d1e5b77c1 550e8400-e29b-41d4-a716-446655440000", "e29b 41 d4 41d4 a716"),
        ("deadbeef facade", "deadbeef facade"),
        ("größe naïve_Café ÜberGröße", "größe naïve café naïvecafé über größe übergröße"),
        ("cafe\u0301", "café"),
        ("Δt λ ПриветМир", "δt λ привет мир приветмир"),
        ("日本語 テスト", "日本語 テスト"),
        ("x = x + x", "x x x"),
        ("a\0b\ud800c", "a b c"),
    ],
)
def test_text_is_split_into_words(text: str, expected: str) -> None:
    """Case changes, underscores and punctuation part words; the joined whole follows its parts (R52)."""
    assert words(text) == expected.split()


def test_long_words_are_cut() -> None:
    """A word keeps its first 64 characters; data without words (base64) leaves no more than that behind."""
    assert words("a" * 100) == ["a" * WORD_LENGTH]
    assert words("aB9" * 10_000) == [("ab9" * 22)[:WORD_LENGTH]]
    long_name = "_".join(["part"] * 40)
    assert words(long_name) == [*["part"] * 40, ("part" * 40)[:WORD_LENGTH]]


@given(st.text(alphabet=st.characters(max_codepoint=0x24F) | st.sampled_from("_ aA9\n日"), max_size=80))
def test_words_are_clean(text: str) -> None:
    """Whatever the text, words are lower-case, not empty, not too long, and free of blanks and NUL."""
    for word in words(text):
        assert 0 < len(word) <= WORD_LENGTH
        assert word == word.lower()
        assert word.isalnum() or not word.isascii()


def test_subwords_are_words_without_the_wholes() -> None:
    """What a model looks up are the parts of an identifier, not the whole again."""
    assert subwords("getUserName(id) + utf_8") == ["get", "user", "name", "id", "utf"]


@given(st.text(alphabet="aBc_ 19.\n", max_size=60))
def test_ascii_is_split_like_other_text(text: str) -> None:
    """The fast way for ASCII and the general one agree."""
    assert [*words(text), "é"] == words(f"{text} é")


@given(st.lists(st.text(alphabet="abcDEF_12", max_size=12), max_size=8))
def test_words_of_a_text_are_those_of_its_parts(parts: list[str]) -> None:
    """Order and repetitions are kept: term frequency matters."""
    assert words(" ".join(parts)) == [word for part in parts for word in words(part)]
