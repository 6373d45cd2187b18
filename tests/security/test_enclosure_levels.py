"""Which level a machine gets, and the refusals: their sentences are what an operator reads."""

from dataclasses import replace

import pytest

from grotto_runtime.enclosure import EnclosureRefused, EnclosureSpec, choose, enter
from grotto_worker.harden import Offer

EVERYTHING = Offer(
    landlock_abi=7,
    seccomp=True,
    user_namespaces=True,
    user_namespaces_obstacle="",
    architecture="x86_64",
    kernel="6.18.0",
    is_root=False,
    cgroup="v2",
)
NO_NAMESPACES = replace(
    EVERYTHING, user_namespaces=False, user_namespaces_obstacle="refused by the administrator"
)


@pytest.mark.parametrize(
    ("requested", "offer", "level"),
    [
        ("auto", EVERYTHING, "full"),
        ("full", EVERYTHING, "full"),
        ("reduced", EVERYTHING, "reduced"),
        ("auto", replace(EVERYTHING, landlock_abi=2), "full"),
        ("auto", NO_NAMESPACES, "reduced"),
        ("none", replace(NO_NAMESPACES, landlock_abi=0, seccomp=False), "none"),
    ],
)
def test_levels(requested: str, offer: Offer, level: str) -> None:
    assert choose(requested, offer)[0] == level


@pytest.mark.parametrize(
    ("requested", "offer", "sentence"),
    [
        ("full", NO_NAMESPACES, "no usable user namespaces (refused by the administrator)."),
        ("auto", replace(NO_NAMESPACES, landlock_abi=4), "and Landlock ABI 4 (6 needed)."),
        ("auto", replace(NO_NAMESPACES, landlock_abi=0), "and no Landlock (ABI 6 needed)."),
        ("auto", replace(EVERYTHING, landlock_abi=0), "has no Landlock (ABI 1 needed)."),
        ("auto", replace(EVERYTHING, seccomp=False), "has no seccomp filters."),
        ("reduced", replace(EVERYTHING, landlock_abi=5), "has Landlock ABI 5 (6 needed)."),
        ("reduced", replace(EVERYTHING, seccomp=False), "has no seccomp filters."),
    ],
)
def test_refusals_name_what_is_lacking(requested: str, offer: Offer, sentence: str) -> None:
    with pytest.raises(EnclosureRefused) as refused:
        choose(requested, offer)
    assert refused.value.message.startswith("this kernel (6.18.0) has ")
    assert refused.value.message.endswith(sentence)
    assert "--allow-unsandboxed" in refused.value.hint
    assert "docker" in refused.value.hint


def test_nothing_but_its_own_name_gives_level_none() -> None:
    with pytest.raises(EnclosureRefused):
        choose("auto", replace(NO_NAMESPACES, landlock_abi=0, seccomp=False))


def test_another_system_is_refused_even_unsandboxed() -> None:
    offer = replace(NO_NAMESPACES, architecture="", user_namespaces_obstacle="Darwin is not")
    with pytest.raises(EnclosureRefused, match="need Linux"):
        choose("none", offer)


def test_what_a_level_lacks_is_said() -> None:
    assert choose("auto", EVERYTHING)[1] == []
    assert choose("auto", replace(EVERYTHING, landlock_abi=4))[1] == ["landlock_scopes"]
    assert "pid_namespace" in choose("reduced", EVERYTHING)[1]
    assert {"seccomp", "private_root"} <= set(choose("none", EVERYTHING)[1])


def test_unknown_levels_are_refused() -> None:
    with pytest.raises(ValueError, match="isolation 'some'"):
        choose("some", EVERYTHING)


@pytest.mark.parametrize("uid", [0, 999])
def test_a_systems_uid_is_no_sandboxs_uid(uid: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("os.geteuid", lambda: 0)
    with pytest.raises(ValueError, match=f"uid {uid}"):
        enter(EnclosureSpec("full", "/run", "/workspace", uid, 1, 1))


@pytest.mark.parametrize(("euid", "uid"), [(0, None), (1000, 5000)])
def test_a_uid_is_given_exactly_by_root(
    euid: int, uid: int | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("os.geteuid", lambda: euid)
    with pytest.raises(ValueError, match="exactly when it is started by root"):
        enter(EnclosureSpec("full", "/run", "/workspace", uid, 1, 1))
