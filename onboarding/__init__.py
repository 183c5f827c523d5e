"""`whylight model`: puts a model into a manifest, after it has shown that it works.

`whylight model add` goes through these files:

    cli.py             options to a request, and what was found to a table
    library.py         preprocessing, labels and weights that torchvision and timm know
    add.py             the entry and its files, in a draft folder; moved to their place at the end
    check.py           loads the archive as a worker does, and explains an image
    export.py          a graph for ONNX Runtime, beside the model that is there
    manifest_file.py   one entry more or less in models.toml, every other character as it was
"""
