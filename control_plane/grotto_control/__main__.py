"""`python -m grotto_control serve | engine-proxy | keys`: the control plane as a process.

On success `serve` prints one line of JSON when it is ready. Exit status 2: it was asked
for something it refuses, said in one sentence on stderr.
"""

import argparse
import asyncio
import contextlib
import json
import os
import signal
import sys
import time
from collections.abc import AsyncIterator, Sequence
from dataclasses import asdict
from pathlib import Path

from grotto_control import data_dir, logs, serve_options
from grotto_control.app import admit_embedded, build
from grotto_control.config import DATABASE, BadConfig, default_data_dir
from grotto_control.core.keys import new_key, record_for
from grotto_control.core.store import Store
from grotto_control.engine_proxy import options as engine_proxy
from grotto_control.model.errors import GrottoError
from grotto_control.model.records import KeyRecord
from grotto_control.store import open_store

EXIT_REFUSED = 2
MAX_LEASE_LINE_BYTES = 4096


def main(arguments: Sequence[str] | None = None) -> int:
    """Returns the exit status."""
    options = _parser().parse_args(arguments)
    try:
        status: int = asyncio.run(options.run(options))
        return status
    except BadConfig as error:
        print(f"grotto: {error}", file=sys.stderr)  # noqa: T201
    except GrottoError as error:
        print(f"grotto: {error.message} {error.hint}".rstrip(), file=sys.stderr)  # noqa: T201
    return EXIT_REFUSED


async def _serve(options: argparse.Namespace) -> int:
    logs.set_up()
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)
    app = await build(serve_options.config_of(options))
    try:
        if options.lease:
            lease = await _lease_pipe()
            await admit_embedded(app, await _embedded_key(lease))
        await app.start()
        _say(
            ready=True,
            url=app.url,
            metrics_url=app.metrics_url,
            ca_file=app.ca_file and str(app.ca_file),
            pid=os.getpid(),
        )
        ending: list[asyncio.Task[object]] = [asyncio.create_task(stop.wait())]
        if options.lease:
            ending.append(asyncio.create_task(_ended(lease)))
        _, waiting = await asyncio.wait(ending, return_when=asyncio.FIRST_COMPLETED)
        for task in waiting:
            task.cancel()
    finally:
        await app.stop()
    return 0


async def _keys_create(options: argparse.Namespace) -> int:
    key = new_key()
    record = record_for(key, options.tenant, options.label, time.time())
    async with _keys_store(options) as store:
        await store.add_key(record)
    if options.json:
        _say(api_key=key, key_id=record.key_id, tenant=record.tenant)
    else:
        print(key)  # noqa: T201
    return 0


async def _keys_ls(options: argparse.Namespace) -> int:
    async with _keys_store(options) as store:
        records = await store.keys()
    for record in records:
        if options.json:
            _say(**_shown(record))
        else:
            state = "revoked" if record.revoked_s else "valid"
            print(f"{record.key_id}  {state:7}  {record.tenant}  {record.label}")  # noqa: T201
    return 0


async def _keys_revoke(options: argparse.Namespace) -> int:
    async with _keys_store(options) as store:
        if not await store.revoke_key(options.key_id, time.time()):
            raise BadConfig(f"there is no key {options.key_id!a}; `keys ls` lists them.")
    return 0


@contextlib.asynccontextmanager
async def _keys_store(options: argparse.Namespace) -> AsyncIterator[Store]:
    data_dir.prepare(options.data_dir)
    store = await open_store(options.data_dir / DATABASE)
    try:
        yield store
    finally:
        await store.close()


def _shown(record: KeyRecord) -> dict[str, object]:
    return {name: value for name, value in asdict(record).items() if name != "digest"}


async def _lease_pipe() -> asyncio.StreamReader:
    reader = asyncio.StreamReader(limit=MAX_LEASE_LINE_BYTES)
    await asyncio.get_running_loop().connect_read_pipe(
        lambda: asyncio.StreamReaderProtocol(reader), sys.stdin
    )
    return reader


async def _embedded_key(lease: asyncio.StreamReader) -> str:
    try:
        return str(json.loads(await lease.readline())["api_key"])
    except (ValueError, KeyError, TypeError) as error:
        raise BadConfig(
            '--lease: the first line of standard input must be {"api_key": …}.'
        ) from error


async def _ended(lease: asyncio.StreamReader) -> None:
    while await lease.read(MAX_LEASE_LINE_BYTES):
        pass


def _say(**values: object) -> None:
    print(json.dumps(values), flush=True)  # noqa: T201


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m grotto_control")
    commands = parser.add_subparsers(required=True)
    serve = _data_command(commands.add_parser("serve", help="run the control plane"), _serve)
    serve_options.add_arguments(serve)
    proxy = commands.add_parser("engine-proxy", help="hold the engine's socket for a server")
    engine_proxy.add_arguments(proxy)
    keys = commands.add_parser("keys", help="API keys of the data directory's server")
    key_commands = keys.add_subparsers(required=True)
    create = _data_command(key_commands.add_parser("create"), _keys_create)
    create.add_argument("--tenant", required=True)
    create.add_argument("--label", default="")
    create.add_argument("--json", action="store_true")
    listing = _data_command(key_commands.add_parser("ls"), _keys_ls)
    listing.add_argument("--json", action="store_true")
    revoke = _data_command(key_commands.add_parser("revoke"), _keys_revoke)
    revoke.add_argument("key_id")
    return parser


def _data_command(parser: argparse.ArgumentParser, run: object) -> argparse.ArgumentParser:
    parser.set_defaults(run=run)
    parser.add_argument("--data-dir", type=Path, default=default_data_dir(), metavar="DIR")
    return parser


if __name__ == "__main__":
    sys.exit(main())
