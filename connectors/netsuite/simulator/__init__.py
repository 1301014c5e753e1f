"""NetSuite's REST services, as far as this hub uses them, with their traps. What it cannot prove: `../README.md`."""

from connectors.netsuite.simulator.app import NetSuiteSimulator

__all__ = ["NetSuiteSimulator"]
