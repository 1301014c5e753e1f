"""What S3 answered -> what the hub does. A conditional PUT is safe to repeat, so nothing here is `Unknown`.

A PUT that timed out may have landed. Sent again under the same name it can only create the object or be refused with
412, and then the digest in the object's metadata says whether it is ours: looking is part of sending.

Codes: Amazon S3 API Reference, "Error responses"; conditional writes: S3 User Guide, "Add preconditions to S3
operations"; `KMS.*` as S3 passes them on; the class names are botocore's.
"""

from __future__ import annotations

from botocore.exceptions import (
    BotoCoreError,
    ClientError,
    CredentialRetrievalError,
    NoCredentialsError,
    PartialCredentialsError,
    ProfileNotFound,
    SSLError,
    TokenRetrievalError,
)

from hub.errors import Answer, Defer, Outcome, Reject, Retry

_PAUSE = 300.0

_RIGHTS = (
    "Give the hub's role s3:PutObject, s3:GetObject and s3:ListBucket on the bucket and prefix"
    " (with KMS also kms:GenerateDataKey and kms:Decrypt on the key), and look for a Deny in the bucket policy."
)
_LOGIN = "Renew the credentials the hub runs with (role, profile or HUB_LAKE_ACCESS_KEY_ID)."
_ADDRESS = "Check HUB_LAKE_BUCKET, HUB_LAKE_REGION and HUB_S3_ENDPOINT_URL, or create the bucket."

CLOSED: dict[str, tuple[str, str]] = {
    "AccessDenied": ("S3 does not let us write there", _RIGHTS),
    "AllAccessDisabled": ("the bucket is disabled", _RIGHTS),
    "403": ("S3 does not let us read back what is there", f"{_RIGHTS} {_LOGIN}"),  # a HEAD does not say which
    "400": ("S3 does not understand who we are", f"{_LOGIN} {_ADDRESS}"),  # all a HEAD says of an expired or wrong key
    "KMS.AccessDeniedException": ("we may not use the bucket's encryption key", _RIGHTS),
    "KMS.DisabledException": (
        "the bucket's encryption key is disabled",
        "Enable the KMS key, or give the bucket another.",
    ),
    "KMS.NotFoundException": (
        "the bucket's encryption key is gone",
        "Restore the KMS key, or give the bucket another.",
    ),
    "InvalidAccessKeyId": ("the access key does not exist", _LOGIN),
    "SignatureDoesNotMatch": ("the secret does not belong to the access key", _LOGIN),
    "ExpiredToken": ("the credentials have expired", _LOGIN),
    "InvalidToken": ("the session token is not valid", _LOGIN),
    "AccountProblem": ("the AWS account has a problem", "Ask AWS support about the account."),
    "RequestTimeTooSkewed": ("this machine's clock is off by more than 15 minutes", "Repair the clock (NTP)."),
    "NoSuchBucket": ("the bucket does not exist", _ADDRESS),
    "404": ("the bucket does not exist", _ADDRESS),  # a HEAD has no body, so no code
    "PermanentRedirect": ("the bucket is in another region", _ADDRESS),
    "AuthorizationHeaderMalformed": ("the bucket is in another region", _ADDRESS),
    "IllegalLocationConstraintException": ("the bucket is in another region", _ADDRESS),
    "301": ("the bucket is in another region", _ADDRESS),
}
"""Nothing can be written until a person acts: the destination pauses, the backlog waits in the database."""

SLOWER: dict[str, str] = {
    "SlowDown": "S3 asks us to slow down",
    "KMS.ThrottlingException": "the key service asks us to slow down",
}
"""We ask too much (S3 User Guide, "Optimizing performance": more than 3,500 writes a second under one prefix)."""
_SLOWER = 10.0

AGAIN: dict[str, str] = {
    "ConditionalRequestConflict": "another write to the same name was under way",
    "OperationAborted": "another operation on the bucket was under way",
    "ServiceUnavailable": "S3 is not available",
    "InternalError": "S3 had an internal error",
    "RequestTimeout": "S3 did not get the whole body in time",
}
"""Passes by itself."""

_NOT_CONFIGURED = (
    CredentialRetrievalError,
    NoCredentialsError,
    PartialCredentialsError,
    ProfileNotFound,
    TokenRetrievalError,
)


def judge(error: ClientError | BotoCoreError) -> Outcome:
    """The outcome of a call that raised. 412 never comes here: `destination` reads the object first."""
    if isinstance(error, ClientError):
        return _answered(error)
    name = type(error).__name__
    if isinstance(error, _NOT_CONFIGURED):
        return Defer(f"{name}: no usable AWS credentials. {_LOGIN}", _PAUSE, pause=True)
    if isinstance(error, SSLError):
        return Defer(f"{name}: no trusted TLS connection to S3. {_ADDRESS}", _PAUSE, pause=True)
    return Retry(name, f"{name}: the connection to S3 failed; writing again under the same name is safe")


def _answered(error: ClientError) -> Outcome:
    answer = answer_of(error)
    status = answer.status or 0
    # A page that is not S3's has an empty code or none.
    code = str(error.response.get("Error", {}).get("Code") or f"HTTP_{status}")
    if code in CLOSED:
        cause, fix = CLOSED[code]
        return Defer(f"{code}: {cause}. {fix}", _PAUSE, pause=True, answer=answer)
    if code in SLOWER or status == 429:
        return Defer(
            f"{code}: {SLOWER.get(code, 'too many requests')}", _SLOWER, pause=True, answer=answer, limited=True
        )
    if code in AGAIN or status in (408, 409) or status >= 500:
        return Retry(code, AGAIN.get(code, f"S3 answered {status}"), answer=answer)
    return Reject(
        code,
        f"S3 refused the object (HTTP {status}, {code}).",
        "Look the code up in the S3 error list; repair bucket settings (policy, object lock, encryption), then retry.",
        answer,
    )


def answer_of(error: ClientError) -> Answer:
    """Status, request id and code of an error; never its message, which may quote the request."""
    meta = error.response.get("ResponseMetadata", {})
    return Answer(
        meta.get("HTTPStatusCode"),
        meta.get("RequestId"),
        {"code": str(error.response.get("Error", {}).get("Code", ""))},
    )
