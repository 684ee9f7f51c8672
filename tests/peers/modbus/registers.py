"""The registers of README.md that need no library, for the peers in Python."""

NUMBER, BIG, FRACTION, LONG_FRACTION = -123456789, 0x0123456789ABCDEF, -118.625, 123456789.0625
TEXTS = b"Tidegate", b"boiler-7"
BITS = 0xA50F

COILS = [(a * a + a // 7) % 3 == 0 for a in range(2000)]
DISCRETES = [(a * a + a // 11) % 5 < 2 for a in range(2000)]
INPUTS = [0xFFFE, 0xDEAD, 0xBEEF] + [0x4000 + a for a in range(3, 125)]


def swapped(registers):
    """The bytes of each register the other way round."""
    return [(r & 0xFF) << 8 | r >> 8 for r in registers]


def text(characters):
    return [a << 8 | b for a, b in zip(characters[::2], characters[1::2])]
