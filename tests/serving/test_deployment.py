"""What docs/howto/serve.md and the Dockerfile say of the command is so."""

import json
import re
import shlex
from pathlib import Path
from typing import Any

import typer

from rcnnkit.cli import app
from rcnnkit.serving.limits import ServerLimits

ROOT = Path(__file__).parents[2]


def understood(words: list[str]) -> dict[str, Any]:
    """The arguments of `rcnnkit serve`. Raises where one is wrong."""
    command: Any = typer.main.get_command(app)
    values: dict[str, Any] = command.commands["serve"].make_context("serve", words).params
    return values


def test_the_containers_command_is_understood() -> None:
    lines = (ROOT / "examples" / "Dockerfile").read_text().replace("\\\n", " ").splitlines()
    instructions = dict(line.split(" ", 1) for line in lines if re.match(r"[A-Z]+ ", line))
    assert json.loads(instructions["ENTRYPOINT"])[1:] == ["serve"]
    values = understood(json.loads(instructions["CMD"]))
    assert (values["weights"], values["host"]) == (Path("/weights/best.safetensors"), "0.0.0.0")
    assert str(values["port"]) == instructions["EXPOSE"]
    assert f":{values['port']}/health" in instructions["HEALTHCHECK"]
    assert instructions["USER"] != "root"
    assert "COPY . /source" in lines
    assert (ROOT / "pyproject.toml").is_file()


def test_the_pages_container_is_understood() -> None:
    page = (ROOT / "docs" / "howto" / "serve.md").read_text()
    (options,) = re.findall(r"rcnnkit-serve \\\n +(/weights.*)", page)
    assert understood(shlex.split(options))["workers"] == 2
    limit = re.findall(r"client_max_body_size (\d+)m", page)
    assert [int(each) for each in limit] == [ServerLimits().megabytes]
    (proxy,) = re.findall(r"proxy_read_timeout (\d+)s", page)
    assert int(proxy) > ServerLimits().seconds
