"""Annotated pictures of any format, as records; and the batches that training takes from them."""

__all__ = [
    "checks",
    "class_folders",
    "class_loading",
    "coco",
    "digits",
    "hold_out",
    "layout",
    "loading",
    "proposals",
    "reading",
    "records",
    "sizes",
    "tables",
    "transforms",
    "voc",
    "yolo",
]
