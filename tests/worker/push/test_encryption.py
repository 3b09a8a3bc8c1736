"""Tests the encryption of pushes with the examples of the standards."""

from __future__ import annotations

import secrets

import jwt
import pytest
from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.asymmetric import ec

from jobs.vapid import VapidKey, decode, encode, new_vapid_key, point_of, public_key
from tests.push_service import decrypted
from worker.push.encryption import MAX_MESSAGE_BYTES, authorization, encrypted
from worker.push.message import shortened, topic


def private_key(text: str) -> ec.EllipticCurvePrivateKey:
    return VapidKey(decode(text)).signer


def test_the_example_of_rfc_8291_is_encrypted_as_the_standard_says() -> None:
    body = encrypted(
        b"When I grow up, I want to be a watermelon",
        decode(
            "BCVxsr7N_eNgVRqvHtD0zTZsEc6-VV-JvLexhqUzORcx"
            "aOzi6-AYWXvTBHm4bjyPjs7Vd8pZGH6SRpkNtoIAiw4"
        ),
        decode("BTBZMqHH6r4Tts7J_aSIgg"),
        sender=private_key("yfWPiYE-n46HLnH0KqZOF1fJJU3MYrct3AELtAQ-oRw"),
        salt=decode("DGv6ra1nlYgDCS1FRnbzlw"),
    )
    assert encode(body) == (
        "DGv6ra1nlYgDCS1FRnbzlwAAEABBBP4z9KsN6nGRTbVYI_c7VJSPQTBtkgcy27ml"
        "mlMoZIIgDll6e3vCYLocInmYWAmS6TlzAC8wEqKK6PBru3jl7A_yl95bQpu6cVPT"
        "pK4Mqgkf1CXztLVBSt2Ks3oZwbuwXPXLWyouBWLVWGNWQexSgSxsj_Qulcy4a-fN"
    )


def test_only_the_browser_can_decrypt_a_message_and_no_message_is_too_long() -> None:
    browser, auth = ec.generate_private_key(ec.SECP256R1()), secrets.token_bytes(16)
    point = point_of(browser.public_key())
    for size in (0, 1, MAX_MESSAGE_BYTES):
        body = encrypted(b"x" * size, point, auth)
        assert len(body) <= 4096
        assert b"x" * size == decrypted(body, browser, auth)
    assert encrypted(b"same", point, auth) != encrypted(b"same", point, auth)
    with pytest.raises(ValueError, match="at most 3993 bytes, not 3994"):
        encrypted(b"x" * (MAX_MESSAGE_BYTES + 1), point, auth)
    with pytest.raises(InvalidTag):
        decrypted(encrypted(b"x", point, auth), ec.generate_private_key(ec.SECP256R1()), auth)


def test_the_authorization_names_the_origin_of_the_service_and_the_operator() -> None:
    key = new_vapid_key()
    header = authorization("https://push.example:8443/a/secret?b", key, "mailto:o@x.example", 5)
    token, _, public = header.removeprefix("vapid t=").partition(", k=")
    assert key.public == decode(public)
    claims = jwt.decode(
        token,
        public_key(decode(public)),
        algorithms=["ES256"],
        audience="https://push.example:8443",
        options={"verify_exp": False},
    )
    assert ("mailto:o@x.example", 5 + 12 * 3600) == (claims["sub"], claims["exp"])
    assert "secret" not in str(claims)


def test_topics_of_different_responses_differ_and_previews_are_cut_between_characters() -> None:
    assert topic("resp_a") == topic("resp_a") != topic("resp_b")
    assert len(topic("resp_a")) == 32
    assert "one two" == shortened(" one\n\n two ", 7)
    assert "one…" == shortened("one two three", 5)
    assert "日本…" == shortened("日本語の文章", 3)
