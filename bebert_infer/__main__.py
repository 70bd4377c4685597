"""`python -m bebert_infer` is the command `bebert`; launchers of several processes want a module."""

from bebert_infer.cli.main import main

main()
