"""A short slice of ``make fuzz``, and everything it has ever found."""

from __future__ import annotations

import random
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.conftest import StartServer
from tests.fuzz import live
from tests.fuzz.codecs import SEEDS, one_input

CORPUS = Path(__file__).with_name("corpus")


def test_what_was_found_stays_found() -> None:
    for path in CORPUS.iterdir():
        one_input(path.read_bytes())


@pytest.mark.parametrize("seed", SEEDS)
def test_the_seeds_are_sound(seed: bytes) -> None:
    one_input(seed)


@settings(max_examples=500, deadline=None)
@given(st.integers(0, 9), st.binary(max_size=300))
def test_any_bytes(what: int, raw: bytes) -> None:
    one_input(bytes([what]) + raw)


@settings(max_examples=500, deadline=None)
@given(st.sampled_from(SEEDS), st.randoms(use_true_random=False))
def test_injured_seeds(seed: bytes, dice: random.Random) -> None:
    one_input(seed[:1] + live.mutate(dice, seed[1:]))


def test_a_live_port(start_server: StartServer) -> None:
    server = start_server()
    figures = live.run(server, 5, seed=20261123)
    assert figures["connections"] >= live.ROUND
    server.stop()
