"""What is in one picture: python detect_picture.py WEIGHTS PICTURE

Prints each detection, and writes the picture with its boxes to found.png.
"""

import sys

import rcnnkit

weights, picture = sys.argv[1:]
detector = rcnnkit.load(weights)  # on a GPU where there is one
found = detector(picture).above(detector.min_score)
for name, score, (x1, y1, x2, y2) in found:
    print(f"{name} {score:.2f}, from ({x1:.0f}, {y1:.0f}) to ({x2:.0f}, {y2:.0f})")
rcnnkit.draw(picture, found, min_score=detector.min_score).save("found.png")
print(f"{len(found)} in {picture}; drawn in found.png")
