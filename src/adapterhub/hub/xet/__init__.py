"""The formats in which clients send large files to a Xet server: xorbs and shards.

A client cuts files into *chunks* (some 64 KiB each), packs chunks into *xorbs* (up to 64 MiB, see
:mod:`.xorbs`), and sends a *shard* last (:mod:`.shards`), which says of each file which chunks of which xorbs
it is made of, and its SHA-256. :mod:`.rebuild` puts the files together again. A hub keeps files as they are,
so this is all it needs; nothing is ever served in these formats.

Everything here is what a stranger sent: no length is believed, nothing is unpacked beyond what its header
says, and a file counts only if its SHA-256 is right. The names of xorbs (BLAKE3 hashes) are not verified:
they are only what a shard calls the xorbs of the same sender. Nothing here knows of HTTP or of a database.
Unpacking needs ``lz4``, of the ``[hub]`` extra.
"""
