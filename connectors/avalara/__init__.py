"""Avalara AvaTax: the tax document of every Stripe invoice. What is written, and when: `README.md`."""
