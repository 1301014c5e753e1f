"""Salesforce: customers, subscriptions and invoices as the newest snapshot Stripe gave. See README.md."""
