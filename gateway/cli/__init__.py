"""The command line: `gateway serve` and its neighbours."""

import argparse
import os
import sys
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path

import platformdirs

from gateway import __version__
from gateway.config.command_line import CommandLine
from gateway.config.explain import explain
from gateway.config.load import Loaded, Surroundings, load
from gateway.config.problem import ConfigError
from gateway.demo import model_path
from gateway.library.scan import scan

BROKEN_CONFIGURATION = 2


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command; return its exit code: 0 done, 1 failed, 2 the configuration or the command line is wrong."""
    options = _parser().parse_args(arguments)
    read = partial(load, _command_line(options), _surroundings())
    try:
        loaded = read()
    except ConfigError as error:
        print(error, file=sys.stderr)
        return BROKEN_CONFIGURATION
    for warning in loaded.warnings:
        print(f"warning: {warning}", file=sys.stderr)
    try:
        result: int = options.command(loaded, read)
        sys.stdout.flush()
    except BrokenPipeError:  # `gateway config | head`: who reads has read enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    return result


def _serve(loaded: Loaded, read: Callable[[], Loaded]) -> int:
    from gateway import main as root  # noqa: PLC0415 - the other commands need none of it
    from gateway.system.logs import start_logging  # noqa: PLC0415

    listener = start_logging(loaded.settings.log.level, loaded.settings.log.format)
    try:
        return root.run(root.serve(loaded, os.environ, read))
    finally:
        listener.stop()


def _check(loaded: Loaded, _read: Callable[[], Loaded]) -> int:
    catalog = loaded.catalog
    names, models = _counted(len(catalog.aliases), "name"), _counted(len(catalog.slots), "model")
    print(f"The configuration is fine: {names} for {models}.")
    for file in loaded.files:
        print(f"  read {file}")
    return 0


def _counted(number: int, noun: str) -> str:
    return f"{number} {noun}" if number == 1 else f"{number} {noun}s"


def _config(loaded: Loaded, _read: Callable[[], Loaded]) -> int:
    rows = [("SETTING", "VALUE", "DEFAULT", "FROM"), *explain(loaded.settings)]
    widths = [max(len(str(row[column])) for row in rows) for column in range(3)]
    for row in rows:
        print("  ".join([*(str(row[column]).ljust(widths[column]) for column in range(3)), str(row[3])]))
    return 0


def _names(loaded: Loaded, _read: Callable[[], Loaded]) -> int:
    for alias in loaded.catalog.aliases.values():
        print(f"{alias.name}  ->  {alias.slot}")
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="gateway", description="One OpenAI-compatible port for all your models.")
    parser.add_argument("--version", action="version", version=f"model-gateway {__version__}")
    common = argparse.ArgumentParser(add_help=False)
    common.add_argument("--config", metavar="PATH", help="config.yaml, or the folder that it is in")
    common.add_argument("--host", help="address to listen on (default 127.0.0.1)")
    common.add_argument("--port", help="port to listen on (default 5846)")
    common.add_argument("--log-level", choices=("debug", "info", "warning", "error"))
    common.add_argument("--max-loaded", metavar="N", help="most models in memory at once")
    common.add_argument("--memory-budget", metavar="SIZE", help="such as 90%% or 48GiB")
    common.add_argument("--set", metavar="KEY=VALUE", action="append", default=[], help="any setting, key dotted")
    commands = parser.add_subparsers(required=True, metavar="COMMAND")
    for name, command, text in (
        ("serve", _serve, "run the gateway"),
        ("check", _check, "read the configuration and say what is wrong with it"),
        ("config", _config, "show every setting, its value, its default and where it comes from"),
        ("names", _names, "show every model name and the process it leads to"),
    ):
        commands.add_parser(name, help=text, parents=[common]).set_defaults(command=command)
    return parser


def _command_line(options: argparse.Namespace) -> CommandLine:
    return CommandLine(
        config=options.config,
        host=options.host,
        port=options.port,
        log_level=options.log_level,
        max_loaded=options.max_loaded,
        memory_budget=options.memory_budget,
        settings=tuple(options.set),
    )


def _surroundings() -> Surroundings:
    return Surroundings(
        environ=os.environ,
        cwd=Path.cwd(),
        home=Path.home(),
        user_folder=Path(platformdirs.user_config_dir("model-gateway")),
        demo_model=model_path(),
        discover=scan,
    )
