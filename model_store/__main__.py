"""`python -m model_store`: builds the archive of every model of a manifest."""

import argparse
import sys
from pathlib import Path

from rich.console import Console
from rich.progress import track
from rich.table import Table

from model_store.archive import build_archive
from model_store.errors import ModelStoreError
from model_store.manifest import DEFAULT_MANIFEST, load_manifest


def main(arguments: list[str] | None = None) -> int:
    """Build, print a table of the archives, and return the exit status: 1 after an error, which goes to stderr."""
    parser = argparse.ArgumentParser(prog="python -m model_store", description=__doc__)
    parser.add_argument("--manifest", type=Path, default=DEFAULT_MANIFEST, help="default: the models that come with it")
    parser.add_argument("--output", type=Path, help="default: the folder of the manifest")
    options = parser.parse_args(arguments)
    output = options.output or options.manifest.parent
    errors = Console(stderr=True)
    table = Table("model", "version", "architecture", "archive", "MB")
    try:
        models = load_manifest(options.manifest).models
        for entry in track(models, "Building archives", console=errors, transient=True):
            path = build_archive(entry, options.manifest.parent, output)
            size = f"{path.stat().st_size / 1e6:.1f}"
            table.add_row(entry.name, entry.version, entry.source.text, path.name, size)
    except ModelStoreError as error:
        errors.print(f"error: {error}", style="red", markup=False)
        return 1
    console = Console()
    console.print(table)
    console.print(f"written to {output}", markup=False)
    return 0


if __name__ == "__main__":
    sys.exit(main())
