"""The commands: `flask key`, `flask db`, `flask control`, ... docs/reference/commands.md describes them."""

from __future__ import annotations

import click
from flask import Flask

from cli import admin, batch, control, databases, doctor, keys, spool
from cli.base import Exit
from errors import SettingInvalid
from settings import Settings


def register(app: Flask, settings: Settings) -> None:
    """Give the application its commands."""
    for command in commands(settings):
        app.cli.add_command(command)


def commands(settings: Settings) -> list[click.Command]:
    """Return the commands, which use these settings."""
    groups = [module.group(settings) for module in (keys, admin, databases, control, batch, spool)]
    return [*groups, doctor.command()]


def without_app(reason: Exception) -> Flask:
    """Return an application for commands only, of which none but `doctor` does more than to say why there is no better one."""
    app = Flask(__name__, static_folder=None)
    app.cli.add_command(doctor.command())

    def refuse() -> None:
        click.echo(f"Error: {reason}", err=True)
        raise click.exceptions.Exit(Exit.USAGE if isinstance(reason, SettingInvalid) else Exit.UNREACHABLE)

    taken = {"ignore_unknown_options": True, "allow_extra_args": True}
    for name in ("key", "admin", "db", "control", "batch", "spool"):
        app.cli.add_command(click.Command(name, callback=refuse, context_settings=taken, add_help_option=False))
    return app
