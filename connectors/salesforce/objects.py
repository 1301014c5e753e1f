"""What is written at Salesforce: the kinds of record, in the order they must exist, and the external id of each.

Every external id is a text field that is External ID, Unique and Case Sensitive: Stripe's ids differ by case, and an
upsert matches without regard to case in a field that is only unique (Object Reference, external id fields).
"""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType

EXTERNAL_ID: Mapping[str, str] = MappingProxyType(
    {
        "Account": "Stripe_Customer_Id__c",
        "Stripe_Subscription__c": "Stripe_Id__c",
        "Stripe_Invoice__c": "Stripe_Id__c",
    }
)
"""Kind of record -> external id field. Parents first: an invoice refers to its subscription, both to the Account."""
