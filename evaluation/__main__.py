"""`python -m evaluation`: the command `whylight evaluate`."""

import typer

from evaluation.cli import evaluate

if __name__ == "__main__":
    typer.run(evaluate)
