"""Sans-IO codecs: bytes in, values out."""
