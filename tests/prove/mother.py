"""A process that has loaded what `hub` needs, and forks: each child is `hub <command>`, some milliseconds after.

Loading takes three seconds, killing none: 200 kills would be ten minutes of loading. The children run the same
`hub.cli.main` with an environment, a folder and a log of their own. Started with `python -m tests.prove.mother`; takes
orders as lines of JSON, and kills what is left of its children when its input ends.
"""

from __future__ import annotations

import importlib
import os
import re
import signal
import sys
import traceback
from pathlib import Path
from typing import Any, NoReturn

import orjson

LOADED = (
    "hub.cli", "hub.commands.processes", "hub.app", "hub.intake", "connectors.salesforce.destination",
    "connectors.netsuite.destination", "connectors.avalara.destination", "connectors.s3_lake.destination",
    "connectors.stripe.destination", "connectors.stripe.source", "avalara", "netsuite", "stripe", "simple_salesforce",
    "boto3", "uvloop", "uvicorn.protocols.http.httptools_impl",
)  # fmt: skip
"""Not pyarrow: it starts a thread, and only a process of one thread may fork."""


def main() -> None:
    for name in LOADED:
        importlib.import_module(name)
    threads = re.search(r"Threads:\s+(\d+)", Path("/proc/self/status").read_text())
    assert threads is not None
    assert threads[1] == "1", "a process with threads must not fork"
    children: set[int] = set()
    _say("ready")
    for line in sys.stdin:
        order = orjson.loads(line)
        if "argv" in order:
            child = os.fork()
            if child == 0:
                _become(order)
            children.add(child)
            _say(child)
        else:
            ended, status = os.waitpid(order["child"], order["flags"])
            children.discard(ended)
            _say(os.waitstatus_to_exitcode(status) if ended else None)
    for child in children:
        os.kill(child, signal.SIGKILL)


def _say(what: Any) -> None:
    sys.stdout.write(orjson.dumps(what).decode() + "\n")
    sys.stdout.flush()


def _become(order: dict[str, Any]) -> NoReturn:
    code: Any = 70
    try:
        log = os.open(order["log"], os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
        os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
        os.dup2(log, 1)
        os.dup2(log, 2)
        os.environ.clear()
        os.environ.update(order["env"])
        os.chdir(order["cwd"])
        sys.argv = ["hub", *order["argv"]]
        importlib.import_module("hub.cli").main()
    except SystemExit as ended:
        code = ended.code
    except BaseException:  # noqa: BLE001 - told as an interpreter does that ends by itself
        traceback.print_exc()
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code if isinstance(code, int) else int(code is not None))


if __name__ == "__main__":
    main()
