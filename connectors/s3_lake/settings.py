"""Settings of the lake: `HUB_LAKE_*`, and `HUB_S3_ENDPOINT_URL` for an S3-compatible store or a test double."""

from __future__ import annotations

import re
from typing import Annotated, Self

from pydantic import AfterValidator, Field, SecretStr, model_validator
from pydantic_settings import SettingsConfigDict

from hub.config import BaseUrl, VendorSettings

_BUCKET = re.compile(r"[a-z0-9][a-z0-9.-]{1,61}[a-z0-9]")
_PREFIX = re.compile(r"[A-Za-z0-9!_.*'()=/-]*")


def _prefix(value: str) -> str:
    """Without slashes at the ends; only characters S3 calls safe in keys (`User Guide: Naming Amazon S3 objects`)."""
    if not _PREFIX.fullmatch(value):
        raise ValueError(
            f"HUB_LAKE_PREFIX {value!r} has characters that are not safe in S3 keys; use letters, digits, - _ . /"
        )
    return value.strip("/")


class S3LakeSettings(VendorSettings):
    """Where the lake is. Credentials come from the usual AWS chain (role, environment, profile) unless both keys are
    given here."""

    # One prefix for HUB_LAKE_* and HUB_S3_*, so that every variable is prefix + field name without aliases.
    model_config = SettingsConfigDict(env_prefix="HUB_")

    lake_bucket: str = Field(default="", description="Name of the S3 bucket the lake lives in. Required.")
    lake_prefix: Annotated[str, AfterValidator(_prefix)] = Field(
        default="",
        description="Key prefix inside the bucket, e.g. billing/live. Use different prefixes for live and test mode.",
    )
    lake_region: str = Field(default="us-east-1", description="AWS region of the bucket.")
    lake_linger: float = Field(
        default=60.0,
        ge=0,
        le=3600,
        description="Seconds a batch that is not full waits for more events before it is written.",
    )
    lake_rate: float | None = Field(
        default=None,
        gt=0,
        le=3500,
        description="Most objects a second of all processes. S3 takes 3,500 under one prefix.",
    )
    lake_access_key_id: SecretStr | None = Field(
        default=None, description="Access key of an S3-compatible store; leave empty on AWS and use a role."
    )
    lake_secret_access_key: SecretStr | None = Field(
        default=None, description="The secret that belongs to the access key."
    )
    s3_endpoint_url: BaseUrl | None = Field(
        default=None,
        description="Address of an S3-compatible store or a test double; empty: AWS. Path-style addressing is used.",
    )

    @property
    def rate(self) -> float | None:
        """Objects a second, as every vendor's settings name it."""
        return self.lake_rate

    @model_validator(mode="after")
    def _complete(self) -> Self:
        problems = []
        if not self.lake_bucket:
            problems.append("HUB_LAKE_BUCKET is missing: the name of the bucket the lake lives in")
        elif not _BUCKET.fullmatch(self.lake_bucket):
            problems.append(
                f"HUB_LAKE_BUCKET {self.lake_bucket!r} is not a bucket name (3-63 lower-case letters, digits, - .)"
            )
        if (self.lake_access_key_id is None) != (self.lake_secret_access_key is None):
            problems.append(
                "HUB_LAKE_ACCESS_KEY_ID and HUB_LAKE_SECRET_ACCESS_KEY must be given together or not at all"
            )
        if problems:
            raise ValueError("; ".join(problems))
        return self
