"""What the header of a JPEG says, and whether it is one that libjpeg-turbo shall be given: other kinds are Pillow's.

libjpeg-turbo also reads lossless and arithmetic JPEGs, of up to 16 bits a sample. Those are rare, and some of its
versions write past a buffer at them.
"""

from typing import NamedTuple

from PIL import Image

BASELINE, EXTENDED, PROGRESSIVE = 0xC0, 0xC1, 0xC2
FRAMES = {*range(0xC0, 0xD0)} - {0xC4, 0xC8, 0xCC}  # SOF0 to SOF15, but for DHT, JPG and DAC
ALONE = {0x01, *range(0xD0, 0xD8)}  # TEM and RST0 to RST7 have no length


class Frame(NamedTuple):
    """The frame header: ITU-T T.81, B.2.2."""

    marker: int
    bits: int
    height: int
    width: int
    components: int

    @property
    def is_plain(self) -> bool:
        """Huffman-coded, of 8 bits, grey or of three components, and no larger than Pillow takes."""
        kind = self.marker in (BASELINE, EXTENDED, PROGRESSIVE) and self.bits == 8 and self.components in (1, 3)
        return kind and is_possible(self.height, self.width)


def is_possible(height: int, width: int) -> bool:
    """Whether a size that a header claims is one, and below what Pillow takes for a decompression bomb."""
    return 0 < height * width <= 2 * (Image.MAX_IMAGE_PIXELS or height * width)


def read_frame(jpeg: bytes) -> Frame | None:
    """None where the first segments aren't as the standard has them, one right after the other."""
    at = 2
    while jpeg[at : at + 1] == b"\xff" and at + 4 <= len(jpeg):
        marker = jpeg[at + 1]
        if marker in FRAMES:
            found = jpeg[at + 4 : at + 10]
            if len(found) < 6:
                return None
            return Frame(marker, found[0], found[1] << 8 | found[2], found[3] << 8 | found[4], found[5])
        if marker in ALONE or marker in (0xFF, 0xD8, 0xD9, 0xDA):
            return None
        at += 2 + (jpeg[at + 2] << 8 | jpeg[at + 3])
    return None
