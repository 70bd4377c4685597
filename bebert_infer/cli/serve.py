"""`bebert serve`: one model behind HTTP."""

from pathlib import Path
from typing import Any

import click

from bebert_infer.cli.options import model, path, threads
from bebert_infer.cli.usage import command, option
from bebert_infer.optional import load_package

LIMITS = "Limits"
PACKAGES = ("starlette", "uvicorn", "httptools", "uvloop", "prometheus_client")


def count(*names: str, **settings: Any) -> Any:
    """An option that is a whole number from 1, among the limits."""
    return option(*names, type=click.IntRange(min=1), group=LIMITS, **settings)


def seconds(*names: str, **settings: Any) -> Any:
    """An option in seconds, among the limits."""
    return option(*names, type=click.FloatRange(min=0.001), group=LIMITS, **settings)


@command()
@model
@option("--host", default="127.0.0.1", help="Address to listen on; 0.0.0.0 lets other machines ask.")
@option("--port", type=click.IntRange(0, 65535), default=8000, help="0 takes any free one.")
@threads
@option("--token-file", type=path, help="File of the token that requests must bear. Default: BEBERT_TOKEN, else none.")
@option(
    "--long",
    type=click.Choice(("error", "truncate", "windows")),
    default="error",
    help="Texts of too many tokens, unless a request says truncate: refuse, cut their end, or read them in windows.",
)
@count("--max-body", "body_bytes", default=2**20, help="Bytes of a request's body.")
@count("--max-texts", "texts", default=128, help="Texts of a request.")
@count("--max-characters", "characters", default=20_000, help="Characters of a text.")
@count("--max-connections", "connections", default=1024, help="Clients at the same time.")
@count("--queue", default=1024, help="Texts that wait; beyond it requests are told to try again.")
@count("--batch", default=32, help="Texts in one call of the engine.")
@option(
    "--gather",
    type=click.FloatRange(0, 1),
    default=0.002,
    group=LIMITS,
    help="Seconds that the engine waits for further texts while there are many.",
)
@seconds("--read-timeout", default=10.0, help="Seconds for a request's head, and for its body.")
@seconds("--answer-timeout", default=30.0, help="Seconds from the body to the answer.")
@seconds("--grace", default=30.0, help="Seconds for what is under way at the end.")
def serve(
    model: Path, host: str, port: int, threads: int | None, token_file: Path | None, long: str, **limits: Any
) -> None:
    r"""Answer over HTTP, as Hugging Face's InferenceClient and Text Embeddings Inference do, with a page to try it.

    \b
    bebert serve model/
    bebert serve model/ --host 0.0.0.0 --token-file token.txt

    Until SIGTERM or Control-C; what was taken by then is answered first.
    """
    for package in PACKAGES:
        load_package(package, "serve")
    from bebert_infer.ensemble import Ensemble
    from bebert_infer.limits import InputLimits
    from bebert_infer.server.run import read_token, serve
    from bebert_infer.server.settings import Settings
    from bebert_infer.text.windows import long_texts

    settings = Settings(long=long_texts(False, long, None, "mean"), token=read_token(token_file), **limits)
    ensemble = Ensemble.from_pretrained(model, threads=threads, limits=InputLimits(characters=settings.characters))
    click.echo(f"loaded {model}: {len(ensemble.alphas)} members, {ensemble.threads} threads", err=True)
    serve(ensemble, settings, host, port, lambda url: click.echo(f"answering at {url}", err=True))
