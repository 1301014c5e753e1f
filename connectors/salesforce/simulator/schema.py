"""The simulated org's objects and fields: standard Account fields we write, and what `metadata/` deploys."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True, slots=True)
class FieldDef:
    """A field as describe shows it. `precision` counts all digits, `scale` those after the point."""

    name: str
    type: str = "string"
    length: int = 0
    precision: int = 0
    scale: int = 0
    nillable: bool = True
    external_id: bool = False
    unique: bool = False
    case_sensitive: bool = False
    values: tuple[str, ...] = ()
    reference_to: str | None = None
    relationship: str | None = None
    read_only: bool = False

    def describe(self) -> dict[str, Any]:
        """One element of `fields` in an sObject describe."""
        return {
            "name": self.name,
            "type": self.type,
            "length": self.length,
            "precision": self.precision,
            "scale": self.scale,
            "nillable": self.nillable,
            "externalId": self.external_id,
            "unique": self.unique,
            "caseSensitive": self.case_sensitive,
            "custom": self.name.endswith("__c"),
            "createable": not self.read_only,
            "updateable": not self.read_only,
            "restrictedPicklist": bool(self.values),
            "picklistValues": [{"value": v, "label": v, "active": True, "defaultValue": False} for v in self.values],
            "referenceTo": [self.reference_to] if self.reference_to else [],
            "relationshipName": self.relationship,
        }


@dataclass(slots=True)
class ObjectDef:
    """An sObject type. `prefix`: first three characters of its ids."""

    name: str
    prefix: str
    fields: dict[str, FieldDef]

    def relationship(self, name: str) -> FieldDef | None:
        """The lookup field behind a relationship name such as `Account__r`."""
        return next((f for f in self.fields.values() if f.relationship == name), None)


def _text(name: str, length: int, **more: Any) -> FieldDef:
    return FieldDef(name, "string", length=length, **more)


def _external_id(name: str) -> FieldDef:
    return _text(name, 255, external_id=True, unique=True, case_sensitive=True)


def _money(name: str) -> FieldDef:
    return FieldDef(name, "double", precision=18, scale=4)


def _count(name: str) -> FieldDef:
    return FieldDef(name, "double", precision=18, scale=0)


def _times(*names: str) -> list[FieldDef]:
    return [FieldDef(name, "datetime") for name in names]


_SYSTEM = [
    FieldDef("Id", "id", length=18, nillable=False, read_only=True),
    FieldDef("IsDeleted", "boolean", nillable=False, read_only=True),
    FieldDef("CreatedDate", "datetime", nillable=False, read_only=True),
    FieldDef("LastModifiedDate", "datetime", nillable=False, read_only=True),
    FieldDef("LastModifiedById", "reference", length=18, nillable=False, read_only=True, reference_to="User"),
    FieldDef("SystemModstamp", "datetime", nillable=False, read_only=True),
]
_MODE = FieldDef("Stripe_Mode__c", "picklist", length=255, values=("live", "test"))
_MAPPING = _text("Hub_Mapping__c", 80)
_ACCOUNT = FieldDef("Account__c", "reference", length=18, reference_to="Account", relationship="Account__r")


def _object(name: str, prefix: str, *fields: FieldDef) -> ObjectDef:
    return ObjectDef(name, prefix, {f.name: f for f in (*_SYSTEM, *fields)})


def objects() -> Mapping[str, ObjectDef]:
    """A fresh copy of the org's schema; tests may add and remove fields."""
    made = (
        _object(
            "Account",
            "001",
            _text("Name", 255, nillable=False),
            FieldDef("Phone", "phone", length=40),
            FieldDef("BillingStreet", "textarea", length=255),
            _text("BillingCity", 40),
            _text("BillingState", 80),
            _text("BillingPostalCode", 20),
            _text("BillingCountry", 80),
            FieldDef("Description", "textarea", length=32000),
            _external_id("Stripe_Customer_Id__c"),
            _text("Stripe_Status__c", 40),
            _text("Stripe_Currency__c", 3),
            _MODE,
            _MAPPING,
        ),
        _object(
            "Stripe_Subscription__c",
            "a00",
            _text("Name", 80),
            _external_id("Stripe_Id__c"),
            _ACCOUNT,
            _text("Status__c", 40),
            _text("Collection_Method__c", 40),
            _text("Currency__c", 3),
            _count("Item_Count__c"),
            _count("Quantity__c"),
            FieldDef("Unit_Amount__c", "double", precision=18, scale=8),
            _text("Billing_Interval__c", 40),
            _text("Price_Id__c", 255),
            _text("Product_Id__c", 255),
            *_times("Current_Period_Start__c", "Current_Period_End__c", "Started_At__c", "Trial_End__c"),
            FieldDef("Cancel_At_Period_End__c", "boolean", nillable=False),
            *_times("Cancel_At__c", "Canceled_At__c", "Ended_At__c"),
            _text("Latest_Invoice_Id__c", 255),
            _MODE,
            _MAPPING,
        ),
        _object(
            "Stripe_Invoice__c",
            "a01",
            _text("Name", 80),
            _external_id("Stripe_Id__c"),
            _ACCOUNT,
            FieldDef(
                "Subscription__c",
                "reference",
                length=18,
                reference_to="Stripe_Subscription__c",
                relationship="Subscription__r",
            ),
            _text("Number__c", 255),
            _text("Status__c", 40),
            _text("Billing_Reason__c", 80),
            _text("Collection_Method__c", 40),
            _text("Currency__c", 3),
            _money("Subtotal__c"),
            _money("Tax__c"),
            _money("Total__c"),
            _money("Amount_Due__c"),
            _money("Amount_Paid__c"),
            _money("Amount_Remaining__c"),
            _count("Attempt_Count__c"),
            FieldDef("Invoice_Date__c", "date"),
            FieldDef("Due_Date__c", "date"),
            *_times("Period_Start__c", "Period_End__c", "Finalized_At__c", "Paid_At__c", "Voided_At__c"),
            _MODE,
            _MAPPING,
        ),
        _object("Organization", "00D", _text("Name", 80), FieldDef("IsSandbox", "boolean", nillable=False)),
    )
    return {o.name: o for o in made}
