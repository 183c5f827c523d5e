"""Methods compared offline: images with ground truth, explained by each method, measured by each metric, in a table.

`whylight evaluate`, or `python -m evaluation`. A run goes through these files:

    choices.py      the methods and metrics that were asked for
    readers/        a folder to items: an image, its classes, its objects
    truth.py        boxes and masks from pixels of the image to pixels of the network's input
    local.py        explains and measures in this process
    remote.py       the same by a running service
    runner.py       item by item, method by method, into results.py
    report.py       lines to figures; tables.py and picture.py write them
"""
