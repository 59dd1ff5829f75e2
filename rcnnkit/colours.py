"""Colours that people with any colour vision tell apart."""

from __future__ import annotations

Colour = tuple[int, int, int]

# Okabe and Ito, "Color Universal Design" (2002), without black, ordered so that neighbours differ much.
HUES: tuple[Colour, ...] = (
    (230, 159, 0),  # orange
    (86, 180, 233),  # sky blue
    (213, 94, 0),  # vermilion
    (0, 158, 115),  # bluish green
    (240, 228, 66),  # yellow
    (0, 114, 178),  # blue
    (204, 121, 167),  # reddish purple
)


def class_colour(label: int) -> Colour:
    """RGB, 0-255, of a class: always the same for a label; 21 colours, then from the start again.

    Seven hues, then each of them darker, then lighter. More cannot be distinguished at a glance;
    the name beside the box does the rest.
    """
    shade, hue = divmod(label % (3 * len(HUES)), len(HUES))
    towards, share = ((0, 0.0), (0, 0.4), (255, 0.5))[shade]
    red, green, blue = (round(v + (towards - v) * share) for v in HUES[hue])
    return red, green, blue
