"""The benchmarks' own children: `python -m hub.bench load|bare|engine|crew|lives ['<Plan as JSON>']`. People use
`hub bench`."""

from __future__ import annotations

import os
import sys

import orjson

from hub.bench import bare, crew, engine, lives, load
from hub.commands import common


def main(what: str, plan: str = "{}") -> None:
    """Be that child. `load`, `engine` and `lives` print what they found as one JSON object; the others serve."""
    match what:
        case "load":
            found = common.run(load.measure, load.Plan(**orjson.loads(plan)), _secret())
        case "engine":
            found = common.run(engine.carry_out, engine.Plan(**orjson.loads(plan)))
        case "lives":
            found = common.run(lives.live, lives.Plan(**orjson.loads(plan)))
        case "bare":
            common.run(bare.serve, _secret(), int(os.environ["HUB_PORT"]))
            return
        case "crew":
            common.run(crew.work, crew.Plan(**orjson.loads(plan)))
            return
        case _:
            raise SystemExit(f"there is no {what!r} here: load, engine, lives, bare or crew")
    sys.stdout.buffer.write(orjson.dumps(found))


def _secret() -> bytes:
    """From the environment: everyone on the machine can read arguments."""
    return os.environ["HUB_STRIPE_WEBHOOK_SECRETS"].encode()


if __name__ == "__main__":
    main(*sys.argv[1:])
