"""The bus of a single process keeps the contract of all buses."""

from twisted.trial.unittest import TestCase

from mechamap_rt.bus.memory import MemoryBus
from tests.contracts.bus import BusContract


class MemoryBusTests(BusContract, TestCase):
    def make_bus(self) -> MemoryBus:
        return MemoryBus()
