"""Which side of a split a document falls on, decided by its text alone."""

import hashlib


def split_share(text: str) -> float:
    """A number in [0, 1) that depends only on the text, uniform over texts.

    A document is held out where this is below the held-out share, so copies of a text never stand on both sides.
    """
    digest = hashlib.blake2b(text.encode("utf-8", "surrogatepass"), digest_size=6).digest()
    return int.from_bytes(digest, "big") / 2**48
