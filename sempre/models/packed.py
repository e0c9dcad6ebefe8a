"""An alias of `sempre.models.masked.packed`, whose class other programs know by this name."""

from sempre.models.masked.packed import PackedEncoder

__all__ = ["PackedEncoder"]
