"""AvaTax's REST API v2 on loopback, for the sandbox and the tests: the part the hub uses and what surrounds it."""

from connectors.avalara.simulator.app import AvalaraSimulator
from connectors.avalara.simulator.documents import Switches

__all__ = ["AvalaraSimulator", "Switches"]
