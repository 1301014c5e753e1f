"""Billing Hub: Stripe tells it what happened; it makes the other systems agree, once each, in order, provably."""
