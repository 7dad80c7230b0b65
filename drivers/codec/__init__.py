"""Registers <-> engineering values: whole slabs at once in both directions, and single values."""

from drivers.codec.block import Codec, compile_codec
from drivers.codec.decode import Flags, Registers
from drivers.codec.point import absent_word, decode_point, encode_point

__all__ = ["Codec", "Flags", "Registers", "absent_word", "compile_codec", "decode_point", "encode_point"]
