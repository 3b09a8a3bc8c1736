"""Tests which address a client behind proxies has, and which account its requests count against."""

from __future__ import annotations

import pytest

from server.access.client_address import client_address, networks
from server.access.principal import EVERYBODY, Principal

TRUSTED = networks("127.0.0.1, 10.0.0.0/8, ::1")


@pytest.mark.parametrize(
    ("peer", "forwarded", "address"),
    [
        ("192.0.2.1", [], "192.0.2.1"),
        # Forwarding headers are honored only if they come from a trusted proxy.
        ("192.0.2.1", ["198.51.100.7"], "192.0.2.1"),
        ("127.0.0.1", ["198.51.100.7"], "198.51.100.7"),
        ("::1", ["198.51.100.7"], "198.51.100.7"),
        # The address seen by the nearest trusted proxy is used, not one that the client invented.
        ("127.0.0.1", ["6.6.6.6, 198.51.100.7"], "198.51.100.7"),
        ("127.0.0.1", ["6.6.6.6", "198.51.100.7, 10.1.2.3"], "198.51.100.7"),
        ("127.0.0.1", ["10.1.2.3"], "10.1.2.3"),
        # The search for the address ends at a hop that is not a valid address.
        ("127.0.0.1", ["198.51.100.7, unknown"], "127.0.0.1"),
        ("127.0.0.1", ["198.51.100.7,, 10.1.2.3"], "10.1.2.3"),
        ("127.0.0.1", [""], "127.0.0.1"),
        ("127.0.0.1", [], "127.0.0.1"),
        # Ports are removed, and IPv6 addresses may be written in several forms.
        ("127.0.0.1", ["198.51.100.7:4711"], "198.51.100.7"),
        ("127.0.0.1", ["[2001:db8:1:2:3::4]:4711"], "2001:db8:1:2::/64"),
        ("127.0.0.1", ["2001:db8:1:2:ffff::9"], "2001:db8:1:2::/64"),
        ("::ffff:127.0.0.1", ["::ffff:198.51.100.7"], "198.51.100.7"),
        ("fe80::1%eth0", [], "fe80::/64"),
        (None, ["198.51.100.7"], ""),
    ],
)
def test_the_address_of_a_client(peer: str | None, forwarded: list[str], address: str) -> None:
    assert address == client_address(peer, forwarded, TRUSTED)


def test_forwarding_headers_are_ignored_without_trusted_proxies() -> None:
    assert "127.0.0.1" == client_address("127.0.0.1", ["198.51.100.7"], networks(""))


@pytest.mark.parametrize("written", ["proxy.example", "10.0.0.0/33", "10.0.0.0/8 127.0.0.1"])
def test_a_trusted_proxy_is_an_address_or_a_network(written: str) -> None:
    with pytest.raises(ValueError, match="IPv4 or IPv6"):
        networks(written)


def test_end_users_are_counted_by_subject_or_else_by_address() -> None:
    def account(who: Principal) -> str:
        return who.account(lambda address: f"<{address}>")

    create = frozenset({"create"})
    assert "acme/anna%40x" == account(Principal("acme", "anna@x", create, address="1.2.3.4"))
    assert "acme/@<1.2.3.4>" == account(Principal("acme", None, create, address="1.2.3.4"))
    assert "public/@<>" == account(EVERYBODY)
    assert "" == account(Principal("acme", None, address="1.2.3.4"))
    # No end user's subject can result in the same account as an address.
    assert "acme/%40%3C1.2.3.4%3E" == account(Principal("acme", "@<1.2.3.4>", create))
