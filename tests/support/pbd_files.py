"""Vaa3D files to test with: headers, a greedy encoder, and a decoder of one voxel at a time as the truth."""

import struct

import numpy as np


RAW, PBD = b"raw_image_stack_by_hpeng", b"v3d_volume_pkbitdf_encod"


def header(key, shape, itemsize, order="<", size_code="i"):
    """shape is (c, z, y, x)."""
    letter = b"L" if order == "<" else b"B"
    return key + letter + struct.pack(f"{order}h4{size_code}", itemsize, *shape[::-1])


def pack_differences(codes, width):
    """2-bit codes lowest bits first, 3-bit codes highest bits first; padded to whole bytes."""
    if width == 2:
        codes = np.pad(codes, (0, -len(codes) % 4)).reshape(-1, 4)
        return bytes((codes << np.array([0, 2, 4, 6])).sum(1).astype(np.uint8))
    return bytes(np.packbits((np.array(codes)[:, None] >> np.array([2, 1, 0])) & 1))


def encode_pbd(array, order="<"):
    """A small greedy v3dpbd encoder: repetitions from 3 voxels on, rows of small differences from 4 on, else
    literals."""
    values = array.astype(array.dtype.newbyteorder(order)).ravel()
    wide = array.dtype.itemsize == 2
    most_literal, most_repeat, most_changes = (32, 33, 48) if wide else (33, 128, 95)
    repeat_base, change_base = (222, 31) if wide else (127, 32)
    code_of = {0: 0, 1: 1, 2: 2, 3: 3, 4: 4, -1: 5, -2: 6, -3: 7} if wide else {0: 0, 1: 1, 2: 2, -1: 3}
    plain, change = values.astype(int), np.diff(values.astype(int), prepend=-(10**6))
    stream, literal, i = bytearray(), [], 0

    def flush():
        if literal:
            stream.append(len(literal) - 1)
            stream.extend(values[literal].tobytes())
            literal.clear()

    while i < len(values):
        run = 1
        while run < most_repeat and i + run < len(values) and plain[i + run] == plain[i]:
            run += 1
        changes = 0
        while changes < most_changes and i + changes < len(values) and change[i + changes] in code_of:
            changes += 1
        if run >= 3 and run >= changes:
            flush()
            stream.append(repeat_base + run)
            stream.extend(values[i : i + 1].tobytes())
            i += run
        elif changes >= 4:
            flush()
            stream.append(change_base + changes)
            stream.extend(pack_differences([code_of[c] for c in change[i : i + changes]], 3 if wide else 2))
            i += changes
        else:
            literal.append(i)
            i += 1
            if len(literal) == most_literal:
                flush()
    flush()
    return bytes(stream)


def decode_slowly(stream, wide, order="little"):
    """One voxel at a time, straight from the table of codes; None if the stream ends in an operation or has a code
    that is refused."""
    out, i, size = [], 0, 2 if wide else 1
    bottom, top = (79, 223) if wide else (127, 128)
    while i < len(stream):
        code, i = stream[i], i + 1
        if code < (32 if wide else 33):
            out += [int.from_bytes(stream[i + k * size : i + (k + 1) * size], order) for k in range(code + 1)]
            i += (code + 1) * size
        elif code <= bottom:
            count, width = (code - 31, 3) if wide else (code - 32, 2)
            length = (count * width + 7) // 8
            if i + length > len(stream):
                return None
            for k in range(count):
                if wide:
                    bits = int.from_bytes(stream[i : i + length], "big") >> (8 * length - 3 * (k + 1)) & 7
                    step = bits if bits < 5 else 4 - bits
                else:
                    step = (0, 1, 2, -1)[stream[i + k // 4] >> 2 * (k % 4) & 3]
                out.append(((out[-1] if out else 0) + step) % (1 << 8 * size))
            i += length
        else:
            if code < top:
                return None
            out += [int.from_bytes(stream[i : i + size], order)] * (code - (222 if wide else 127))
            i += size
    return None if i > len(stream) else np.array(out, np.uint16 if wide else np.uint8)


def read_slowly(content):
    """The array (c, z, y, x) of a whole file's bytes, decoded naively; None if the bytes do not bear the header
    out."""
    if len(content) < 35 or content[:24] not in (RAW, PBD) or content[24:25] not in (b"L", b"B"):
        return None
    order = "little" if content[24:25] == b"L" else "big"
    itemsize = int.from_bytes(content[25:27], order, signed=True)
    for width in (4, 2):
        shape = [int.from_bytes(content[27 + width * k :][:width], order, signed=True) for k in (3, 2, 1, 0)]
        data, voxels = content[27 + 4 * width :], 1
        for size in shape:
            voxels *= size
        if len(content) < 27 + 4 * width or min(shape) < 1:
            continue
        if content[:24] == RAW and itemsize in (1, 2, 4) and len(data) == voxels * itemsize:
            kind = {1: "u1", 2: "u2", 4: "f4"}[itemsize]
            return np.frombuffer(data, np.dtype(kind).newbyteorder(order)).reshape(shape)
        if content[:24] == PBD and width == 4 and itemsize in (1, 2) and 0 < voxels <= 128 * len(data):
            values = decode_slowly(data, itemsize == 2, order)
            return values.reshape(shape) if values is not None and len(values) == voxels else None
    return None
