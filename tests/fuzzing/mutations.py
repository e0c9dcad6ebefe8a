"""Files damaged on purpose: bytes that flip, lengths that lie, values that cannot be, parts that are cut or doubled.

Every function is one of its random generator and of what it is given, so a case is told by its seed.
"""

import copy
import io
import json
import struct
import zipfile
import zlib

import numpy as np

EDGES = (0, 1, 2, 7, 0x7F, 0x80, 0xFF, 0x100, 0x7FFF, 0xFFFF, 0x10000, 0x7FFFFFFF, 0x80000000, 0xFFFFFFFF, 1 << 40)
VALUES = (
    *(None, True, False, 0, -1, 1, 2, 17, 0.5, -0.5, 1e-300, 1e300, 2**31, 2**63, -(2**63), 10**30),
    *(float("nan"), float("inf"), -float("inf"), "", "a", "nan", "1e999", "../../up", "\0", "\ud800", "µ" * 40),
    *([], [None], [[]], [0], [-1, -1], [1e300] * 4, ["a", "b"], {}, {"a": 1}, {"": {}}),
)
MOST_STEPS = 4  # mutations of one case
NESTED = 5000  # levels, more than Python's stack


def mutate_bytes(content: bytes, random: np.random.Generator) -> bytes:
    """One to `MOST_STEPS` changes of single bits, bytes, integers of 2 to 8 bytes and whole parts."""
    changed = bytearray(content)
    for _ in range(_steps(random)):
        size = len(changed)
        at = int(random.integers(size)) if size else 0
        length = int(min(size - at, 1 << random.integers(8)))
        match random.integers(8) if size else 6:
            case 0:
                changed[at] ^= 1 << int(random.integers(8))
            case 1:
                changed[at] = int(random.integers(256))
            case 2 | 3:
                width = int(random.choice((2, 4, 8)))
                order = "little" if random.integers(2) else "big"
                value = int(random.choice(EDGES)) & ((1 << 8 * width) - 1)
                changed[at : at + width] = value.to_bytes(width, order)
            case 4:
                del changed[at : at + length]
            case 5:
                changed[at:at] = changed[at : at + length]
            case 6:
                changed[at:at] = random.bytes(int(random.integers(1, 32)))
            case 7:
                del changed[at:]
    return bytes(changed)


def mutate_head(content: bytes, random: np.random.Generator, share: float = 0.8, size: int = 512) -> bytes:
    """As `mutate_bytes`, in `share` of the cases among the first `size` bytes alone, where formats say what follows."""
    if random.random() >= share:
        return mutate_bytes(content, random)
    return mutate_bytes(content[:size], random) + content[size:]


def mutate_filled(content: bytes, random: np.random.Generator) -> bytes:
    """Changes in place where a large and mostly empty file says something: among bytes that are not 0."""
    if random.random() < 0.02:
        return content[: int(random.integers(len(content)))]
    filled = np.flatnonzero(np.frombuffer(content, np.uint8))
    changed = bytearray(content)
    for _ in range(_steps(random)):
        at = int(filled[random.integers(len(filled))])
        width = int(random.choice((1, 1, 2, 4, 8)))
        value = int(random.choice(EDGES)) if random.integers(2) else int(random.integers(256))
        changed[at : at + width] = (value & ((1 << 8 * width) - 1)).to_bytes(width, "little")
    return bytes(changed[: len(content)])


def mutate_png(content: bytes, random: np.random.Generator) -> bytes:
    """As `mutate_bytes`, but mostly inside a chunk whose checksum is made good, so that the decoder looks at it.

    The pixels are unpacked, changed and packed again.
    """
    if random.random() < 0.2:
        return mutate_bytes(content, random)
    chunks, at = [], 8
    while at < len(content):
        (length,) = struct.unpack(">I", content[at : at + 4])
        chunks.append((content[at + 4 : at + 8], content[at + 8 : at + 8 + length]))
        at += 12 + length
    chosen = int(random.integers(len(chunks)))
    if random.random() < 0.1:
        chunks.insert(int(random.integers(len(chunks))), chunks.pop(chosen))
    else:
        kind, body = chunks[chosen]
        if kind == b"IDAT" and random.random() < 0.5:
            body = zlib.compress(mutate_bytes(zlib.decompress(body), random))
        else:
            body = mutate_bytes(body, random)
        chunks[chosen] = kind, body
    return content[:8] + b"".join(
        struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body)) for kind, body in chunks
    )


def mutate_tiff(content: bytes, random: np.random.Generator) -> bytes:
    """As `mutate_bytes`, but mostly a field (type, count or value) of an entry of the first directory of a TIFF."""
    if random.random() < 0.25:
        return mutate_bytes(content, random)
    changed = bytearray(content)
    big = changed[2] == 43
    offset, width, head = (8, 20, "<Q") if big else (4, 12, "<H")
    (directory,) = struct.unpack_from("<Q" if big else "<I", changed, offset)
    (entries,) = struct.unpack_from(head, changed, directory)
    first = directory + struct.calcsize(head)
    for _ in range(_steps(random)):
        entry = first + width * int(random.integers(entries))
        field, size = (
            ((0, 2), (2, 2), (4, 8), (12, 8))[random.integers(4)]
            if big
            else (((0, 2), (2, 2), (4, 4), (8, 4))[random.integers(4)])
        )
        value = int(random.choice(EDGES)) if random.integers(2) else int(random.integers(1 << 9))
        changed[entry + field : entry + field + size] = (value & ((1 << 8 * size) - 1)).to_bytes(size, "little")
    return bytes(changed)


def mutate_json(content: bytes, random: np.random.Generator) -> bytes:
    """A JSON document with values replaced by what cannot be, left out, doubled, renamed or nested; or its bytes."""
    if random.random() < 0.2:
        return mutate_bytes(content, random)
    if random.random() < 0.01:
        return b"[" * NESTED + b"]" * NESTED
    document = mutate_document(json.loads(content), random)
    return json.dumps(document, ensure_ascii=bool(random.integers(2))).encode("utf-8", "surrogatepass")


def mutate_document(document: object, random: np.random.Generator) -> object:
    """A document of lists, dicts and scalars with one to `MOST_STEPS` places changed."""
    holder = [copy.deepcopy(document)]
    for _ in range(_steps(random)):
        places = list(_places(holder))
        parent, key = places[int(random.integers(len(places)))]
        value = parent[key]
        match random.integers(6):
            case 0 | 1:
                parent[key] = copy.deepcopy(VALUES[random.integers(len(VALUES))])
            case 2 if parent is not holder:
                del parent[key]
            case 3 if isinstance(parent, dict):
                parent[f"{key}_"] = parent.pop(key)
            case 4 if type(value) in (int, float):
                parent[key] = value * int(random.choice((-1, 2, 1000, 10**6, 10**12)))
            case 5 if isinstance(value, list) and value:
                value.append(copy.deepcopy(value[int(random.integers(len(value)))]))
            case _:
                parent[key] = [value]
    return holder[0]


def mutate_safetensors(content: bytes, random: np.random.Generator) -> bytes:
    """A safetensors file with its header changed, its length told right in most cases; or its bytes."""
    if random.random() < 0.3:
        return mutate_head(content, random)
    (length,) = struct.unpack_from("<Q", content)
    header = mutate_json(content[8 : 8 + length], random)
    return struct.pack("<Q", len(header)) + header + content[8 + length :]


def mutate_zip(content: bytes, random: np.random.Generator) -> bytes:
    """A zip archive, as torch.save writes it, with one of its files changed and packed again; or its bytes."""
    if random.random() < 0.2:
        return mutate_bytes(content, random)
    with zipfile.ZipFile(io.BytesIO(content)) as archive:
        files = {name: archive.read(name) for name in archive.namelist()}
    pickled = [name for name in files if name.endswith(".pkl")]  # what says how the others are read
    chosen = str(random.choice(pickled if pickled and random.random() < 0.7 else list(files)))
    files[chosen] = mutate_bytes(files[chosen], random)
    changed = io.BytesIO()
    with zipfile.ZipFile(changed, "w") as archive:
        for name, file in files.items():
            archive.writestr(zipfile.ZipInfo(name), file)
    return changed.getvalue()


def _steps(random: np.random.Generator) -> int:
    return int(random.integers(1, MOST_STEPS + 1))


def _places(node: list | dict):
    """Every place (container, key) of a document."""
    for key in list(node) if isinstance(node, dict) else range(len(node)):
        yield node, key
        if isinstance(node[key], list | dict):
            yield from _places(node[key])
