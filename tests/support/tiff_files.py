"""TIFF files made byte by byte: of codecs, byte orders and predictors that the libraries here do not write."""

import io
import struct

import numpy as np


def tiff_of(planes, shape, dtype, compression, predictor=1):
    """The bytes of a TIFF file.

    Args:
        planes: the packed bytes of each plane, a strip.
        shape: y, x, or y, x, samples.
        dtype: of the voxels; its byte order is the file's.
        compression, predictor: values of these tags.
    """
    dtype = np.dtype(dtype)
    order = ">" if dtype.byteorder == ">" else "<"
    height, width, samples = (*shape, 1)[:3]
    content = (b"MM" if order == ">" else b"II") + struct.pack(order + "HI", 42, 0)
    link = 4  # where the offset of the next directory stands
    for plane in planes:
        strip = len(content)
        content += plane + b"\0" * (len(plane) % 2)
        bits_at = len(content)
        content += struct.pack(order + "HHHH", *[dtype.itemsize * 8] * 4)
        content = content[:link] + struct.pack(order + "I", len(content)) + content[link + 4 :]
        longs = [(256, width), (257, height), (273, strip), (278, height), (279, len(plane))]
        shorts = [(259, compression), (262, 2 if samples == 3 else 1), (277, samples), (317, predictor)]
        shorts.append((339, {"u": 1, "i": 2, "f": 3}[dtype.kind]))
        tags = [struct.pack(order + "HHII", tag, 4, 1, value) for tag, value in longs]
        tags += [struct.pack(order + "HHIHH", tag, 3, 1, value, 0) for tag, value in shorts]
        if samples == 1:
            tags.append(struct.pack(order + "HHIHH", 258, 3, 1, dtype.itemsize * 8, 0))
        else:
            tags.append(struct.pack(order + "HHII", 258, 3, samples, bits_at))
        tags.sort(key=lambda tag: struct.unpack(order + "H", tag[:2])[0])
        content += struct.pack(order + "H", len(tags)) + b"".join(tags)
        link = len(content)
        content += struct.pack(order + "I", 0)
    return content


def packed_by_libtiff(data, compression):
    """Bytes as libtiff packs them in one strip; raises OSError where it cannot."""
    import tifffile
    from PIL import Image

    file = io.BytesIO()
    Image.fromarray(np.frombuffer(data, np.uint8).reshape(1, -1)).save(file, "TIFF", compression=compression)
    with tifffile.TiffFile(io.BytesIO(file.getvalue())) as tiff:
        (offset,), (count,) = tiff.pages[0].dataoffsets, tiff.pages[0].databytecounts
    return file.getvalue()[offset : offset + count]


def packbits(data):
    """PackBits in literal runs."""
    pieces = [data[i : i + 128] for i in range(0, len(data), 128)]
    return b"".join(bytes([len(piece) - 1]) + piece for piece in pieces)


def with_predictor(plane, predictor):
    """The bytes of a plane (y, x, samples) after differencing."""
    if predictor == 2:
        plane = np.diff(plane, axis=1, prepend=plane.dtype.type(0)).astype(plane.dtype)
    if predictor == 3:
        height, width, samples = plane.shape
        big = np.ascontiguousarray(plane.astype(plane.dtype.newbyteorder(">")))
        rows = big.view(np.uint8).reshape(height, width * samples, -1).swapaxes(1, 2).reshape(height, -1, samples)
        return np.diff(rows, axis=1, prepend=np.uint8(0)).tobytes()
    return plane.tobytes()
