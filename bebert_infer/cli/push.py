"""`bebert push`: a model folder to the Hugging Face hub; the work is in `hub.py`."""

import click

from bebert_infer.cli.options import model
from bebert_infer.cli.usage import argument, command, option


@command()
@model
@argument("repository", metavar="OWNER/NAME", help="Repository on the hub; made if it is not there.")
@option("--private", is_flag=True, help="Make the repository private; one that is there and public is refused.")
@option("--message", help="Of the commit.")
@option("--revision", help="Branch, made where it is missing. Default: main.")
def push(model: str, repository: str, private: bool, message: str | None, revision: str | None) -> None:
    r"""Bring a model to the Hugging Face hub: all its files in one commit, checked before.

    \b
    hf auth login
    bebert push runs/mine/model me/mine --private

    The token is that of `hf auth login` or of HF_TOKEN. Whoever may read the repository then needs its name only:
    bebert predict me/mine "a text".
    """
    from bebert_infer import hub
    from bebert_infer.artifact.folder import read_artifact

    artifact = read_artifact(hub.local_folder(model))
    # False would make it public where an organization's repositories are private unless somebody says otherwise.
    click.echo(hub.push(artifact, repository, private=private or None, commit_message=message, revision=revision))
