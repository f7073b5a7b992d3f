"""What every store must do, whatever it keeps its data in."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import replace
from typing import Any

import pytest

from sidecar.errors import Conflict, InvalidValue, NotFound
from sidecar.ports import CounterStore, NonceStore, Store
from sidecar.records import (
    AccessKey,
    Account,
    ApiKey,
    App,
    Changes,
    Counter,
    NewUser,
    Role,
    Session,
    SigningKey,
    User,
    UserChange,
)
from sidecar.stores import open_store

UNSTORABLE_TEXT = "\ud800"
UNSTORABLE_NUMBER = 10**30


def a_session(id: str, user_id: int = 1, **given: Any) -> Session:
    return replace(Session(id, user_id, created_at=1000.0, last_used_at=1000.0, expires_at=2000.0), **given)


def an_api_key(id: str, user_id: int, **given: Any) -> ApiKey:
    return replace(ApiKey(id, user_id, name="ci", scopes=("write", "read"), created_at=1000.0), **given)


def an_access_key(id: str) -> AccessKey:
    return AccessKey(id, name="backend", created_at=1000.0)


def a_signing_key(id: str) -> SigningKey:
    return SigningKey(id, "ES256", private=b"\x00 key \xff", created_at=1000.0)


# --- users ---------------------------------------------------------------------------------------


async def test_a_user_reads_back_as_it_was_added(store: Store) -> None:
    accounts = (Account("a", "Acme", admin=True), Account("b", "Bee, Ltd", primary=True))
    added = await store.users.add(
        NewUser(
            "Ann É", ("ann@x.com", "Ann@y.com"), "+1", "Ann, née Ö", "e1", ("dev", "admin"), accounts, "h"
        ),
        now=1000.25,
        by="root@x.com",
    )

    assert added == User(
        added.id,
        "Ann É",
        ("ann@x.com", "Ann@y.com"),
        "+1",
        "Ann, née Ö",
        "e1",
        roles=("admin", "dev"),
        accounts=accounts,
        created_at=1000.25,
        created_by="root@x.com",
        updated_at=1000.25,
        updated_by="root@x.com",
    )
    assert await store.users.find(added.id) == added
    assert await store.users.list() == [added]
    assert await store.users.password_hash(added.id) == "h"


@pytest.mark.parametrize(
    "spelling",
    ["ann", "ANN", "ann@example.com", "ANN@EXAMPLE.COM", "ann@example.org", "ａｎｎ"],  # noqa: RUF001 - NFKC
)
async def test_any_spelling_of_a_name_or_address_signs_in(store: Store, ann: User, spelling: str) -> None:
    assert await store.users.find_by_sign_in_name(spelling) == ann


@pytest.mark.parametrize(
    "name", ["", "an", "ann ", "+1 23", "e-1", "%", "ann\0", UNSTORABLE_TEXT, "' OR 1=1 --"]
)
async def test_nothing_else_signs_in(store: Store, ann: User, name: str) -> None:
    assert await store.users.find_by_sign_in_name(name) is None


@pytest.mark.parametrize(
    ("field", "value", "found"),
    [
        ("username", "Ann", True),
        ("username", "ann@example.com", False),
        ("email", "ann@example.org", True),
        ("email", "ann", False),
        ("phone", "+1 23", True),
        ("phone", "", False),
        ("external_id", "e-1", True),
        ("external_id", "E-1", False),
        ("external_id", "", False),
    ],
)
async def test_a_user_is_found_by(
    store: Store, ann: User, bob: User, field: str, value: str, *, found: bool
) -> None:
    assert await store.users.find_by(field, value) == (ann if found else None)


async def test_users_are_not_found_by_other_fields(store: Store) -> None:
    with pytest.raises(InvalidValue, match="password_hash"):
        await store.users.find_by("password_hash", "")


@pytest.mark.parametrize("id", [0, -1, 999, UNSTORABLE_NUMBER])
async def test_an_id_that_nobody_has_is_nobody(store: Store, ann: User, id: int) -> None:
    assert await store.users.find(id) is None
    assert await store.users.password_hash(id) == ""


TAKEN = {
    "the name, in capitals": NewUser("ANN"),
    "the name as an address": NewUser("carl", ("ann",)),
    "an address": NewUser("carl", ("carl@x.com", "ann@EXAMPLE.com")),
    "an address as the name": NewUser("ann@example.org"),
    "the phone": NewUser("carl", phone="+1 23"),
    "the external id": NewUser("carl", external_id="e-1"),
}


@pytest.mark.parametrize("new", TAKEN.values(), ids=TAKEN)
async def test_what_is_taken_is_refused_and_nothing_is_added(store: Store, ann: User, new: NewUser) -> None:
    with pytest.raises(Conflict, match="another user"):
        await store.users.add(new, now=1, by="cli")

    assert await store.users.list() == [ann]
    assert await store.users.find_by_sign_in_name("carl") is None


@pytest.mark.parametrize("new", TAKEN.values(), ids=TAKEN)
async def test_a_change_to_what_is_taken_changes_nothing(
    store: Store, ann: User, bob: User, new: NewUser
) -> None:
    change = UserChange(
        username=new.username, emails=new.emails, phone=new.phone, external_id=new.external_id
    )
    with pytest.raises(Conflict, match="another user"):
        await store.users.change(bob.id, change, now=1, by="cli")

    assert await store.users.find(bob.id) == bob
    assert await store.users.find_by_sign_in_name("bob") == bob


async def test_a_user_may_have_the_address_as_the_name_too(store: Store) -> None:
    user = await store.users.add(NewUser("a@x.com", ("A@x.com", "a@x.com")), now=1, by="cli")
    assert user.emails == ("A@x.com", "a@x.com")
    assert await store.users.find_by("username", "a@x.com") == user
    assert await store.users.find_by("email", "a@x.com") == user


CHANGES: dict[str, tuple[UserChange, dict[str, object]]] = {
    "nothing": (UserChange(), {}),
    "the name's case": (UserChange(username="Ann"), {"username": "Ann"}),
    "the name": (UserChange(username="anna"), {"username": "anna"}),
    "the order of the addresses": (
        UserChange(emails=("Ann@Example.org", "ann@example.com")),
        {"emails": ("Ann@Example.org", "ann@example.com")},
    ),
    "no addresses": (UserChange(emails=()), {"emails": ()}),
    "no phone": (UserChange(phone=""), {"phone": ""}),
    "roles": (UserChange(roles=("b", "a", "b")), {"roles": ("a", "b")}),
    "accounts": (UserChange(accounts=(Account("1", "x"),)), {"accounts": (Account("1", "x"),)}),
    "disabled": (UserChange(disabled=True), {"disabled": True}),
    "the display name": (UserChange(name="A"), {"name": "A"}),
}


@pytest.mark.parametrize(("change", "expected"), CHANGES.values(), ids=CHANGES)
async def test_a_change_changes_what_it_names_and_who_made_it(
    store: Store, ann: User, bob: User, change: UserChange, expected: dict[str, Any]
) -> None:
    changed = await store.users.change(ann.id, change, now=1500, by="bob")

    assert changed == replace(ann, **expected, updated_at=1500, updated_by="bob")
    assert await store.users.list() == [changed, bob]
    assert await store.users.find_by_sign_in_name(changed.username) == changed


async def test_a_name_that_was_given_up_is_free(store: Store, ann: User, bob: User) -> None:
    await store.users.change(ann.id, UserChange(username="anna", emails=()), now=1, by="cli")
    assert await store.users.find_by_sign_in_name("ann") is None
    assert (await store.users.change(bob.id, UserChange(username="ann"), now=1, by="cli")).username == "ann"


async def test_a_removed_user_is_gone_with_the_keys_and_the_id_never_returns(store: Store, ann: User) -> None:
    await store.api_keys.add(an_api_key("k", ann.id))
    await store.users.remove(ann.id)

    assert await store.users.find(ann.id) is None
    assert await store.users.find_by_sign_in_name("ann") is None
    assert await store.users.password_hash(ann.id) == ""
    assert await store.api_keys.find("k") is None
    assert (await store.users.add(NewUser("ann"), now=1, by="cli")).id > ann.id


MISSING: dict[str, Callable[[Store], Awaitable[object]]] = {
    "changing a user": lambda store: store.users.change(99, UserChange(name="x"), now=1, by="cli"),
    "removing a user": lambda store: store.users.remove(99),
    "setting a password": lambda store: store.users.set_password_hash(99, "h", now=1, by="cli"),
    "adding an API key": lambda store: store.api_keys.add(an_api_key("k", 99)),
    "disabling an app": lambda store: store.apps.set_disabled("99", disabled=True),
}


@pytest.mark.parametrize("act", MISSING.values(), ids=MISSING)
async def test_what_does_not_exist_is_named_and_tells_nobody(
    store: Store, ann: User, act: Callable[[Store], Awaitable[object]]
) -> None:
    before = await store.changes.since(0)
    with pytest.raises(NotFound, match="99"):
        await act(store)
    assert await store.changes.since(before.latest) == before


async def test_a_password_is_replaced(store: Store, ann: User) -> None:
    await store.users.set_password_hash(ann.id, "new", now=1500, by="ann")
    assert await store.users.password_hash(ann.id) == "new"
    assert await store.users.find(ann.id) == replace(ann, updated_at=1500, updated_by="ann")


@pytest.mark.parametrize(("old", "kept"), [("first", "rehashed"), ("another", "first")])
async def test_a_hash_is_renewed_only_while_it_is_the_old_one(
    store: Store, ann: User, old: str, kept: str
) -> None:
    await store.users.set_password_hash(ann.id, "first", now=1, by="cli")
    await store.users.rehash_password(ann.id, old, "rehashed")
    assert await store.users.password_hash(ann.id) == kept


async def test_permissions_are_the_union_over_the_roles(store: Store) -> None:
    await store.users.set_role(Role("dev", ("write", "read", "read")))
    await store.users.set_role(Role("ops", ("restart", "read")))
    user = await store.users.add(NewUser("ann", roles=("ops", "free", "dev")), now=1, by="cli")
    assert (user.roles, user.permissions) == (("dev", "free", "ops"), ("read", "restart", "write"))

    await store.users.set_role(Role("ops", ()))
    found = await store.users.find(user.id)
    assert found is not None
    assert found.permissions == ("read", "write")


async def test_roles_are_those_that_were_set_or_that_a_user_has(store: Store) -> None:
    await store.users.set_role(Role("unused"))
    await store.users.set_role(Role("dev", ("write", "read")))
    await store.users.add(NewUser("ann", roles=("free", "dev")), now=1, by="cli")
    await store.users.add(NewUser("bob", roles=("free",)), now=1, by="cli")
    assert await store.users.roles() == [Role("dev", ("read", "write")), Role("free"), Role("unused")]


# --- sessions and keys ---------------------------------------------------------------------------


async def test_a_session_reads_back_as_it_was_added(store: Store) -> None:
    session = a_session("s", apps=frozenset({"b", "a", 'x"y, z'}))
    await store.sessions.add(session)
    assert await store.sessions.find("s") == session


@pytest.mark.parametrize("id", ["", "S", "s ", "%", "s\0", UNSTORABLE_TEXT, "' OR 1=1 --"])
async def test_no_other_id_finds_a_session(store: Store, id: str) -> None:
    await store.sessions.add(a_session("s"))
    assert await store.sessions.find(id) is None


async def test_a_session_id_is_given_once(store: Store) -> None:
    await store.sessions.add(a_session("s", 1))
    with pytest.raises(Conflict):
        await store.sessions.add(a_session("s", 2))
    assert await store.sessions.find("s") == a_session("s", 1)


async def test_sessions_are_listed_oldest_first_for_all_or_for_one(store: Store) -> None:
    first, second, third = (
        a_session("c", 1),
        a_session("a", 2, created_at=1001.0),
        a_session("b", 1, created_at=1002.0),
    )
    for session in (third, first, second):
        await store.sessions.add(session)
    assert await store.sessions.list() == [first, second, third]
    assert await store.sessions.list(1) == [first, third]
    assert await store.sessions.list(3) == []


@pytest.mark.parametrize(
    ("unused_since", "touched"),
    [(999.0, False), (1000.0, True), (1001.0, True)],
    ids=["used since", "used at that moment", "unused since"],
)
async def test_a_session_is_touched_where_it_was_unused(
    store: Store, unused_since: float, *, touched: bool
) -> None:
    await store.sessions.add(a_session("s"))
    assert await store.sessions.touch("s", now=1060.0, unused_since=unused_since) is touched
    assert await store.sessions.find("s") == a_session("s", last_used_at=1060.0 if touched else 1000.0)


async def test_of_many_touches_at_once_one_is_written(store: Store, other: Store) -> None:
    await store.sessions.add(a_session("s"))
    touches = [each.sessions.touch("s", now=1060.0, unused_since=1000.0) for each in (store, other) * 8]
    assert sorted(await asyncio.gather(*touches)) == [False] * 15 + [True]


async def test_the_first_use_of_an_app_is_noted_at_once(store: Store) -> None:
    await store.sessions.add(a_session("s", apps=frozenset({"b"})))
    assert not await store.sessions.touch("s", now=1001.0, unused_since=900.0, app="a")
    assert not await store.sessions.touch("s", now=1002.0, unused_since=900.0, app="a")
    assert await store.sessions.find("s") == a_session("s", apps=frozenset({"a", "b"}))
    assert await store.sessions.touch("s", now=1003.0, unused_since=1000.0, app="a")


async def test_nothing_that_does_not_exist_is_touched(store: Store) -> None:
    assert not await store.sessions.touch("s", now=1.0, unused_since=1.0, app="a")
    assert not await store.api_keys.touch("s", now=1.0, unused_since=1.0)
    assert not await store.access_keys.touch("s", now=1.0, unused_since=1.0)
    assert await store.sessions.list() == []


async def test_revoked_sessions_are_gone_and_counted(store: Store) -> None:
    for session_id, user_id in {"a": 1, "b": 1, "c": 2, "d": 3}.items():
        await store.sessions.add(a_session(session_id, user_id))

    assert await store.sessions.revoke(each for each in ("a", "unknown", "a")) == 1
    assert await store.sessions.find("a") is None
    assert await store.sessions.revoke_user(1) == 1
    assert await store.sessions.revoke_user(1) == 0
    assert [session.id for session in await store.sessions.list()] == ["c", "d"]
    assert await store.sessions.revoke_all() == 2
    assert await store.sessions.list() == []


async def test_sessions_that_nobody_can_use_are_purged(store: Store) -> None:
    await store.sessions.add(a_session("live", expires_at=1500.1, last_used_at=1200.1))
    await store.sessions.add(a_session("expired", expires_at=1500.0, last_used_at=1400.0))
    await store.sessions.add(a_session("idle", expires_at=2000.0, last_used_at=1200.0))

    assert await store.sessions.purge(now=1500.0, unused_since=1200.0) == 2
    assert [session.id for session in await store.sessions.list()] == ["live"]


async def test_a_purge_of_very_many_ends(store: Store) -> None:
    await asyncio.gather(*(store.sessions.add(a_session(str(number))) for number in range(600)))
    assert await store.sessions.purge(now=2000.0, unused_since=0.0) == 600
    assert await store.sessions.list() == []


async def test_api_keys_live_as_they_were_added(store: Store, ann: User, bob: User) -> None:
    forever, brief = an_api_key("f", ann.id), an_api_key("b", bob.id, scopes=(), expires_at=1500.0)
    await store.api_keys.add(forever)
    await store.api_keys.add(brief)

    assert await store.api_keys.find("f") == forever
    assert await store.api_keys.list() == [brief, forever]
    assert await store.api_keys.list(ann.id) == [forever]
    assert await store.api_keys.touch("f", now=1100.0, unused_since=1040.0)
    assert not await store.api_keys.touch("f", now=1101.0, unused_since=1041.0)
    assert await store.api_keys.find("f") == replace(forever, last_used_at=1100.0)
    assert await store.api_keys.purge(now=1499.9) == 0
    assert await store.api_keys.purge(now=1500.0) == 1
    assert await store.api_keys.find("b") is None
    assert await store.api_keys.revoke(["f", "b"]) == 1
    assert await store.api_keys.find("f") is None


async def test_access_keys_live_as_they_were_added(store: Store) -> None:
    await store.access_keys.add(an_access_key("k"))

    assert await store.access_keys.find("k") == an_access_key("k")
    assert await store.access_keys.find("j") is None
    assert await store.access_keys.touch("k", now=1100.0, unused_since=1040.0)
    assert not await store.access_keys.touch("k", now=1101.0, unused_since=1041.0)
    assert await store.access_keys.list() == [replace(an_access_key("k"), last_used_at=1100.0)]
    assert await store.access_keys.revoke(["k", "j"]) == 1
    assert await store.access_keys.list() == []


async def test_apps_live_as_they_were_added(store: Store) -> None:
    app = App("a", "Wiki", disabled=False, created_at=1000.0)
    await store.apps.add(app)
    with pytest.raises(Conflict, match="'a'"):
        await store.apps.add(replace(app, name="other"))
    assert await store.apps.find("a") == app
    assert await store.apps.find("b") is None

    await store.apps.set_disabled("a", disabled=True)
    assert await store.apps.list() == [replace(app, disabled=True)]


# --- signing keys and secrets --------------------------------------------------------------------


async def test_the_first_signing_key_is_the_one_of_whoever_was_first(store: Store, other: Store) -> None:
    await asyncio.gather(
        *(
            each.signing_keys.add_first(a_signing_key(f"{number}"))
            for number, each in enumerate((store, other) * 4)
        )
    )
    (key,) = await store.signing_keys.list(now=1000.0)
    assert key == a_signing_key(key.id)
    assert await other.signing_keys.list(now=1000.0) == [key]


async def test_a_rotated_key_verifies_until_its_time(store: Store) -> None:
    first, second, third = a_signing_key("1"), a_signing_key("2"), a_signing_key("3")
    await store.signing_keys.rotate(first, verifies_until=0.0)
    await store.signing_keys.rotate(second, verifies_until=1500.0)
    await store.signing_keys.rotate(third, verifies_until=1600.0)

    old, older = replace(second, verifies_until=1600.0), replace(first, verifies_until=1500.0)
    assert [key.id for key in await store.signing_keys.list(now=1499.9)] == ["3", "1", "2"]
    assert await store.signing_keys.list(now=1500.0) == [third, old]
    assert await store.signing_keys.list(now=1600.0) == [third]
    assert await store.signing_keys.purge(now=1500.0) == 1
    assert older not in await store.signing_keys.list(now=0.0)
    assert await store.signing_keys.list(now=0.0) == [third, old]


async def test_a_key_that_cannot_be_added_leaves_the_signing_one(store: Store) -> None:
    await store.signing_keys.add_first(a_signing_key("1"))
    with pytest.raises(Conflict):
        await store.signing_keys.rotate(a_signing_key("1"), verifies_until=1500.0)
    assert await store.signing_keys.list(now=1000.0) == [a_signing_key("1")]


async def test_a_secret_is_made_once_for_all(store: Store, other: Store) -> None:
    secrets = await asyncio.gather(*(each.secret("cookie") for each in (store, other) * 4))
    assert len(set(secrets)) == 1
    assert len(secrets[0]) == 32
    assert await store.secret("csrf") != secrets[0]


# --- nonces --------------------------------------------------------------------------------------


async def use(nonces: NonceStore, nonce: str = "n", *, now: float = 1000.0, until: float = 1100.0) -> bool:
    return await nonces.use(nonce, now=now, expires_at=until)


async def test_a_nonce_is_used_once_whoever_asks(store: Store, other: Store) -> None:
    assert await use(store.nonces)
    assert not await use(store.nonces)
    assert not await use(other.nonces)


@pytest.mark.parametrize("nonce", ["", "N", "n ", "%", "n\0", "' OR 1=1 --"])
async def test_no_other_nonce_is_used_with_it(store: Store, nonce: str) -> None:
    assert await use(store.nonces)
    assert await use(store.nonces, nonce)
    assert not await use(store.nonces, nonce)


async def test_an_expired_nonce_is_used_again_and_once(store: Store) -> None:
    assert await use(store.nonces, until=1100.0)
    assert not await use(store.nonces, now=1099.9, until=1200.0)
    assert await use(store.nonces, now=1100.0, until=1200.0)
    assert not await use(store.nonces, now=1199.9, until=1300.0)
    assert await use(store.nonces, now=1200.0, until=1300.0)


async def test_a_refused_use_neither_extends_nor_shortens_the_mark(store: Store) -> None:
    assert await use(store.nonces, until=1100.0)
    assert not await use(store.nonces, now=1001.0, until=1002.0)
    assert not await use(store.nonces, now=1099.9, until=2000.0)
    assert await use(store.nonces, now=1100.0)


@pytest.mark.parametrize("now", [1000.0, 1100.0], ids=["a new one", "an expired one"])
async def test_of_many_uses_at_once_one_is_the_first(store: Store, other: Store, now: float) -> None:
    await use(store.nonces, "n" if now == 1100.0 else "another", until=1100.0)
    uses = [use(each.nonces, now=now, until=1200.0) for each in (store, other) * 10]
    assert sorted(await asyncio.gather(*uses)) == [False] * 19 + [True]


async def test_a_used_nonce_survives_the_store_that_marked_it(url: str) -> None:
    for first in (True, False):
        store = open_store(url)
        assert await use(store.nonces) is first
        await store.close()


async def test_expired_nonces_are_purged_and_counted(store: Store) -> None:
    for nonce, until in {"past": 1099.9, "now": 1100.0, "live": 1100.1}.items():
        assert await use(store.nonces, nonce, until=until)

    assert await store.nonces.purge(now=1100.0) == 2
    assert await store.nonces.purge(now=1100.0) == 0
    assert not await use(store.nonces, "live")
    assert await use(store.nonces, "past")  # at a time when its mark would still have counted


async def test_a_purge_of_very_many_nonces_ends(store: Store) -> None:
    for number in range(600):
        assert await use(store.nonces, str(number))
    assert await store.nonces.purge(now=1100.0) == 600


# --- counters ------------------------------------------------------------------------------------


async def add(
    counters: CounterStore, key: str = "c", *, now: float = 1000.0, until: float = 1100.0, amount: int = 1
) -> Counter:
    return await counters.add(key, now=now, ends_at=until, amount=amount)


async def test_a_window_counts_for_all_and_ends_where_it_began_to(store: Store, other: Store) -> None:
    assert await add(store.counters) == Counter("c", 1, 1100.0)
    assert await add(other.counters, now=1050.0, until=1150.0) == Counter("c", 2, 1100.0)
    assert await add(store.counters, now=1099.9, until=1199.9, amount=5) == Counter("c", 7, 1100.0)
    assert await other.counters.find("c", now=1099.9) == Counter("c", 7, 1100.0)


async def test_a_window_that_is_over_begins_anew(store: Store) -> None:
    await add(store.counters, amount=7)
    assert await store.counters.find("c", now=1100.0) is None
    assert await add(store.counters, now=1100.0, until=1200.0) == Counter("c", 1, 1200.0)
    assert await store.counters.find("c", now=1100.0) == Counter("c", 1, 1200.0)


async def test_a_window_of_a_clock_that_was_ahead_is_shortened_and_keeps_its_count(store: Store) -> None:
    await add(store.counters, now=9000.0, until=9100.0, amount=3)
    assert await add(store.counters, now=1000.0, until=1100.0) == Counter("c", 4, 1100.0)


@pytest.mark.parametrize("key", ["", "C", "c ", "%", "c\0", "' OR 1=1 --"])
async def test_no_other_key_is_counted_with_it(store: Store, key: str) -> None:
    await add(store.counters)
    assert await store.counters.find(key, now=1000.0) is None
    assert (await add(store.counters, key)).count == 1
    assert await store.counters.clear([key]) == 1
    assert await store.counters.find("c", now=1000.0) == Counter("c", 1, 1100.0)


async def test_of_many_counts_at_once_none_is_lost(store: Store, other: Store) -> None:
    counted = await asyncio.gather(*(add(each.counters) for each in (store, other) * 10))
    assert sorted(each.count for each in counted) == list(range(1, 21))


async def test_counts_survive_the_store_that_counted(url: str) -> None:
    for count in (1, 2):
        store = open_store(url)
        assert (await add(store.counters)).count == count
        await store.close()


async def test_counters_are_listed_by_what_their_keys_begin_with(store: Store) -> None:
    for key, until in {
        "a/late": 1103.0,
        "a/%": 1102.0,
        "a/over": 1001.0,
        "A/x": 1102.0,
        "b/a/": 1102.0,
    }.items():
        await add(store.counters, key, until=until)
    listed = await store.counters.list("a/", now=1001.0)
    assert listed == [Counter("a/%", 1, 1102.0), Counter("a/late", 1, 1103.0)]
    assert await store.counters.list("a_", now=1001.0) == []
    assert [each.key for each in await store.counters.list("", now=1001.0)] == [
        "A/x",
        "a/%",
        "b/a/",
        "a/late",
    ]


async def test_counters_are_put_in_the_place_of_what_there_is(store: Store) -> None:
    await add(store.counters, "a", amount=9)
    put = [Counter("a", 2, 1200.0), Counter("b", 3, 1300.0)]
    await store.counters.put(put)
    await store.counters.put([])
    assert await store.counters.list("", now=1000.0) == put


async def test_keys_are_forgotten_and_counted(store: Store) -> None:
    for key in "abc":
        await add(store.counters, key)
    assert await store.counters.clear(["a", "b", "unknown"]) == 2
    assert await store.counters.clear(["a"]) == 0
    assert [each.key for each in await store.counters.list("", now=1000.0)] == ["c"]


async def test_windows_that_are_over_are_purged_and_counted(store: Store) -> None:
    for key, until in {"past": 1099.9, "now": 1100.0, "open": 1100.1}.items():
        await add(store.counters, key, until=until)
    assert await store.counters.purge(now=1100.0) == 2
    assert await store.counters.purge(now=1100.0) == 0
    assert [each.key for each in await store.counters.list("", now=0.0)] == ["open"]


# --- the change feed -----------------------------------------------------------------------------

Act = Callable[[Store, int], Awaitable[object]]

TELLS_THE_USER: dict[str, Act] = {
    "changing the user": lambda store, user_id: store.users.change(
        user_id, UserChange(name="A"), now=1, by="cli"
    ),
    "disabling the user": lambda store, user_id: store.users.change(
        user_id, UserChange(disabled=True), now=1, by="cli"
    ),
    "removing the user": lambda store, user_id: store.users.remove(user_id),
    "setting the password": lambda store, user_id: store.users.set_password_hash(
        user_id, "h", now=1, by="cli"
    ),
    "revoking a session": lambda store, _: store.sessions.revoke(["s1", "s2", "unknown"]),
    "revoking the user's sessions": lambda store, user_id: store.sessions.revoke_user(user_id),
    "revoking an API key": lambda store, _: store.api_keys.revoke(["k"]),
}
TELLS_EVERYBODY: dict[str, Act] = {
    "setting a role": lambda store, _: store.users.set_role(Role("dev", ("read",))),
    "revoking all sessions": lambda store, _: store.sessions.revoke_all(),
    "revoking an access key": lambda store, _: store.access_keys.revoke(["a"]),
    "adding an app": lambda store, _: store.apps.add(App("b", "", disabled=True, created_at=1)),
    "disabling an app": lambda store, _: store.apps.set_disabled("app", disabled=True),
    "a first signing key": lambda store, _: store.signing_keys.add_first(a_signing_key("1")),
    "a new signing key": lambda store, _: store.signing_keys.rotate(a_signing_key("1"), verifies_until=1),
}
TELLS_NOBODY: dict[str, Act] = {
    "adding a user": lambda store, _: store.users.add(NewUser("carl"), now=1, by="cli"),
    "renewing a hash": lambda store, user_id: store.users.rehash_password(user_id, "", "h"),
    "adding a session": lambda store, user_id: store.sessions.add(a_session("s3", user_id)),
    "touching a session": lambda store, _: store.sessions.touch("s1", now=1e9, unused_since=1e9, app="a"),
    "purging sessions": lambda store, _: store.sessions.purge(now=1e9, unused_since=0),
    "revoking no session": lambda store, _: store.sessions.revoke(["unknown"]),
    "adding an API key": lambda store, user_id: store.api_keys.add(an_api_key("k2", user_id)),
    "touching an API key": lambda store, _: store.api_keys.touch("k", now=1e9, unused_since=1e9),
    "purging API keys": lambda store, _: store.api_keys.purge(now=1e9),
    "revoking no access key": lambda store, _: store.access_keys.revoke(["unknown"]),
    "purging signing keys": lambda store, _: store.signing_keys.purge(now=1e9),
    "using a nonce": lambda store, _: store.nonces.use("n", now=1, expires_at=2),
    "purging nonces": lambda store, _: store.nonces.purge(now=1e9),
    "counting": lambda store, _: store.counters.add("c", now=1, ends_at=2),
    "forgetting counts": lambda store, _: store.counters.clear(["c"]),
    "purging counts": lambda store, _: store.counters.purge(now=1e9),
    "making a secret": lambda store, _: store.secret("cookie"),
}


async def told(store: Store, other: Store, user: User, act: Act) -> Changes:
    """What another process learns of an act, after everything that it could concern is there."""
    await store.sessions.add(a_session("s1", user.id))
    await store.sessions.add(a_session("s2", user.id))
    await store.api_keys.add(an_api_key("k", user.id))
    await store.access_keys.add(an_access_key("a"))
    await store.apps.add(App("app", "", disabled=False, created_at=1))
    before = await other.changes.since(0)
    await act(store, user.id)
    after = await other.changes.since(before.latest)
    assert await other.changes.since(after.latest) == Changes(after.latest)
    return after


@pytest.mark.parametrize("act", TELLS_THE_USER.values(), ids=TELLS_THE_USER)
async def test_the_feed_names_the_user_on(store: Store, other: Store, ann: User, bob: User, act: Act) -> None:
    changes = await told(store, other, ann, act)
    assert (changes.users, changes.everybody) == (frozenset({ann.id}), False)


@pytest.mark.parametrize("act", TELLS_EVERYBODY.values(), ids=TELLS_EVERYBODY)
async def test_the_feed_names_everybody_on(store: Store, other: Store, ann: User, act: Act) -> None:
    assert (await told(store, other, ann, act)).everybody


@pytest.mark.parametrize("act", TELLS_NOBODY.values(), ids=TELLS_NOBODY)
async def test_the_feed_names_nobody_on(store: Store, other: Store, ann: User, act: Act) -> None:
    changes = await told(store, other, ann, act)
    assert (changes.users, changes.everybody) == (frozenset(), False)


async def test_the_very_first_change_is_told_to_who_looked_before_it(store: Store) -> None:
    before = await store.changes.since(0)
    assert (before.users, before.everybody) == (frozenset(), False)
    await store.users.set_role(Role("dev"))
    assert (await store.changes.since(before.latest)).everybody


async def test_each_user_is_told_once_and_in_one_look(store: Store) -> None:
    for session_id, user_id in {"a": 1, "b": 1, "c": 2}.items():
        await store.sessions.add(a_session(session_id, user_id))
    before = await store.changes.since(0)
    await store.sessions.revoke(["a", "b"])
    between = await store.changes.since(before.latest)
    await store.sessions.revoke(["c"])

    assert between.users == {1}
    assert (await store.changes.since(before.latest)).users == {1, 2}
    assert (await store.changes.since(between.latest)).users == {2}


async def test_very_many_changes_concern_everybody(store: Store) -> None:
    await asyncio.gather(*(store.sessions.add(a_session(str(user), user)) for user in range(1, 1102)))
    before = await store.changes.since(0)
    await store.sessions.revoke(str(user) for user in range(1, 1102))
    assert (await store.changes.since(before.latest)).everybody


async def test_who_fell_far_behind_forgets_everybody(store: Store, ann: User) -> None:
    before = await store.changes.since(0)
    changes: Sequence[Awaitable[object]] = [
        store.users.set_password_hash(ann.id, "h", now=1, by="cli") for _ in range(1001)
    ]
    await asyncio.gather(*changes)
    after = await store.changes.since(before.latest)
    assert after.everybody
    assert await store.changes.since(after.latest) == Changes(after.latest)


@pytest.mark.parametrize("position", [-1, 10**6, UNSTORABLE_NUMBER])
async def test_a_position_that_never_was_concerns_everybody(store: Store, position: int) -> None:
    latest = (await store.changes.since(0)).latest
    assert await store.changes.since(position) == Changes(latest, everybody=True)


async def test_what_one_writes_another_reads(store: Store, other: Store, ann: User) -> None:
    await store.sessions.add(a_session("s", ann.id))
    assert await other.sessions.find("s") is not None
    assert await other.users.find(ann.id) == ann
    await other.sessions.revoke(["s"])
    assert await store.sessions.find("s") is None


# --- the whole -----------------------------------------------------------------------------------


async def test_values_that_cannot_be_stored_are_refused(store: Store, ann: User) -> None:
    with pytest.raises(InvalidValue):
        await store.users.change(ann.id, UserChange(username=UNSTORABLE_TEXT), now=1, by="cli")
    with pytest.raises(InvalidValue):
        await store.sessions.revoke_user(UNSTORABLE_NUMBER)
    with pytest.raises(InvalidValue):
        await store.nonces.use(UNSTORABLE_TEXT, now=1, expires_at=2)
    with pytest.raises(InvalidValue):
        await store.counters.add(UNSTORABLE_TEXT, now=1, ends_at=2)
    assert await store.users.list() == [ann]


async def test_a_store_that_answers_is_ready(store: Store) -> None:
    await store.check()


async def test_closing_twice_is_closing(store: Store) -> None:
    await store.close()
    await store.close()
