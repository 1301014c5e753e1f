"""Stripe: the source of events, and where sales are written."""
