"""What a command of the clouds' tools gave, what it means, and what to do about it; docs/launch.md lists the same."""

import re
import subprocess

TIMED_OUT = 124  # exit status of what was stopped after its time
Result = subprocess.CompletedProcess[str]


def outputs(result: Result) -> str:
    """Both outputs of a command, for error messages."""
    return f"{result.stderr}\n{result.stdout}".strip()


# What to do by what the message matches, the most telling first.
ADVICE = {
    r"no more capacity|ZONE_RESOURCE_POOL_EXHAUSTED|stockout": (
        "The zone has no such TPUs now: wait, or try another zone."
    ),
    r"Quota .*exceeded|QUOTA_EXCEEDED|RESOURCE_EXHAUSTED": (
        "Ask for more quota (IAM & Admin, Quotas), or take a smaller slice."
    ),
    r"Reauthentication|invalid_grant|active account": "Log in: gcloud auth login.",
    r"has not been used in project|SERVICE_DISABLED|accessNotConfigured": (
        "Enable the API: gcloud services enable tpu.googleapis.com compute.googleapis.com."
    ),
    r"Permission denied \(publickey\)": (
        "The key is not on the worker yet: run the verb again; with OS Login you need roles/compute.osLogin."
    ),
    r"PERMISSION_DENIED|Required '.*' permission|forbidden|\b403\b": (
        "Your account or the service account lacks a role: roles/tpu.admin, and roles/iam.serviceAccountUser."
    ),
    r"ALREADY_EXISTS|already exists": (
        "Something of that name is there: humpback launch status, then humpback launch delete, or another name."
    ),
    r"gcloud: command not found": "Install the Google Cloud CLI: https://cloud.google.com/sdk/docs/install.",
    r"xpk: command not found": "Install XPK: pip install xpk.",
    r"kubectl: command not found": "Install it: gcloud components install kubectl gke-gcloud-auth-plugin.",
    r"Connection (refused|timed out|reset|closed)|port 22|Broken pipe": (
        "The worker does not answer: wait until it has booted; open port 22, or set internal_ip = true."
    ),
    r"unrecognized arguments|Invalid choice": (
        "Your tool is too old for this flag: gcloud components update (or pip install -U xpk)."
    ),
    r"INVALID_ARGUMENT|Invalid value|is not a valid": (
        "A name in the settings does not exist there: compare slice, zone and runtime with the cloud's tables."
    ),
}
_TRANSIENT = re.compile(
    r"UNAVAILABLE|DEADLINE_EXCEEDED|INTERNAL|\b(429|500|502|503|504)\b|rateLimitExceeded|Connection|Broken pipe|port 22"
    r"|timed out|temporar|publickey|Could not SSH|EOF occurred",
)
_PERMANENT = re.compile(r"PERMISSION_DENIED|RESOURCE_EXHAUSTED|[Qq]uota|INVALID_ARGUMENT|NOT_FOUND|ALREADY_EXISTS")
_HOPELESS = re.compile(
    r"PERMISSION_DENIED|Required '.*' permission|INVALID_ARGUMENT|unrecognized arguments|Invalid choice"
    r"|Reauthentication|invalid_grant|active account|SERVICE_DISABLED|has not been used in project"
)
_NOT_FOUND = re.compile(r"NOT_FOUND|[Nn]ot found|was not found|notFound|does not exist|Could not fetch resource", re.S)


def advice_for(message: str) -> str:
    """What to do about an error message; empty where nothing is known."""
    return next((advice for pattern, advice in ADVICE.items() if re.search(pattern, message)), "")


def is_transient(result: Result) -> bool:
    """Whether the same command may succeed a little later: a time limit, a lost connection, a busy service."""
    if result.returncode in (TIMED_OUT, 255):
        return True
    return bool(_TRANSIENT.search(outputs(result))) and not _PERMANENT.search(outputs(result))


def is_hopeless(message: str) -> bool:
    """Whether a message says that the command will never succeed as things are."""
    return bool(_HOPELESS.search(message))


def is_not_found(result: Result) -> bool:
    """Whether a command failed because what it names is not there."""
    return result.returncode != 0 and bool(_NOT_FOUND.search(outputs(result)))
