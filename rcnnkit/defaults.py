"""Defaults that functions, settings and commands share. Next to nothing is imported: `rcnnkit --help` shows them."""

from typing import Final

DEVICE = "auto"  # a GPU where there is one
PRECISION: Final = "auto"  # bf16 where it is fast, else float32
BATCH = 4  # pictures that a detector looks at in one call
WORKERS = -1  # processes that read pictures: one a core, at most 8
OCCLUDED = 8  # copies of a picture, each with a square before it
EXPORTED: Final = "onnx"  # the format of exported files
EXACT: Final = "float32"  # the precision of exported files
MAX_AP_LOSS = 0.005  # of exported files in fewer bits
OPSET = 18  # of exported ONNX files: the oldest with all operators
CHANNELS = 16  # that a sheet shows
LOOKS = 40  # windows that a sheet shows
ATTACK: Final = "fgsm"  # the fastest way to adversarial pictures
FORMAT: Final = "auto"  # of a data set: recognised
HOST, PORT = "127.0.0.1", 8000  # where pages are served: to this machine alone
BETA = 2.0  # how much neighbouring words like to speak of one region
FOUND = 10  # pictures that a search by a sentence prints
CHECK_PICTURES = True  # before a data set is used
