"""NetSuite: invoices, payments and credit memos in the ledger. Start at `README.md`, then `destination.py`."""
