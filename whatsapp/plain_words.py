"""Texts compared as people mean them: whole words, without case, accents, bold letters and punctuation.

Pure.
"""

from __future__ import annotations

import re
import unicodedata

__all__ = ["normalize", "plain_words"]

# Letters and digits: "_" around a word makes it italic in WhatsApp.
_WORD = re.compile(r"[^\W_]+")


def normalize(text: str) -> str:
    """Lower case without accents, so that "AYÚDA" is "ayuda"; plain letters for bold or wide ones."""
    if text.isascii():
        return text.lower()
    # Before, since bold capitals have no lower case; and after, since some lower case is composed again.
    decomposed = unicodedata.normalize("NFKD", unicodedata.normalize("NFKD", text).casefold())
    return "".join(letter for letter in decomposed if not unicodedata.combining(letter))


def plain_words(text: str) -> str:
    """The words of a text, a space between them; empty where it has none."""
    return " ".join(_WORD.findall(normalize(text)))
