"""What can be wrong with bytes: each mutation takes a valid conversation and gives one that lies somewhere."""

import struct
from collections.abc import Callable
from functools import partial
from random import Random

from tests.fuzzing.conversations import Conversation, conversation

#: Sequences within sequences, in a data set that is nothing else (PS3.5 7.5 sets no bound).
_DEPTH = 1000
#: PDU type, reserved byte, length (PS3.8 9.3.1).
_PDU_HEADER = 6
#: PDU header, length of the presentation data value, context, message control header (PS3.8 9.3.5.1, E.2).
_P_DATA_HEADER = 12


def mutated(rng: Random) -> tuple[str, Conversation]:
    """The name of a mutation drawn at random, and what it made of a conversation."""
    name = rng.choice(list(_MUTATIONS))
    return name, _MUTATIONS[name](rng)


def _with_pdu(rng: Random, change: Callable[[bytes], bytes], *, first: int = 0) -> Conversation:
    """A conversation of which one PDU is changed."""
    whole = conversation(rng)
    pdus = list(whole.pdus)
    index = rng.randrange(first, len(pdus))
    pdus[index] = change(pdus[index])
    return Conversation(kind=whole.kind, pdus=tuple(pdus), sop_instance_uid=whole.sop_instance_uid)


def flip(rng: Random, data: bytes, most: int = 8) -> bytes:
    """Some bits turned over, `most` at most."""
    changed = bytearray(data)
    for _ in range(rng.randint(1, most) if data else 0):
        changed[rng.randrange(len(changed))] ^= 1 << rng.randrange(8)
    return bytes(changed)


def some_length(rng: Random, true: int, largest: int) -> int:
    """A length that is not the true one: a little off, none, or as large as the field can say."""
    return max(0, rng.choice([true - 1, true + 1, true // 2, 2 * true, 0, 1, largest, rng.randrange(largest + 1)]))


def cut_off(rng: Random, data: bytes) -> bytes:
    """As much of it as came before the connection broke."""
    return data[: rng.randrange(len(data) + 1)]


def nest(rng: Random, data_set: bytes, implicit: bool) -> bytes:
    """Content Sequence within Content Sequence, closed as often as it was opened or not, somewhere in a data set."""
    depth = rng.randint(_DEPTH // 2, 2 * _DEPTH)
    opening = struct.pack("<HH", 0x0040, 0xA730) + (b"" if implicit else b"SQ\0\0") + struct.pack("<I", 0xFFFFFFFF)
    opening += struct.pack("<HHI", 0xFFFE, 0xE000, 0xFFFFFFFF)
    closing = struct.pack("<HHI", 0xFFFE, 0xE00D, 0) + struct.pack("<HHI", 0xFFFE, 0xE0DD, 0)
    nested = opening * depth + closing * rng.choice([depth, depth // 2, 0])
    pixels = data_set.rfind(struct.pack("<HH", 0x7FE0, 0x0010))
    at = rng.choice([0, max(pixels, 0), len(data_set)])
    return data_set[:at] + nested + data_set[at:]


def _bits_of_a_pdu(rng: Random) -> Conversation:
    return _with_pdu(rng, lambda pdu: flip(rng, pdu))


def _a_pdu_cut_off(rng: Random) -> Conversation:
    whole = conversation(rng)
    index = rng.randrange(len(whole.pdus))
    cut = whole.pdus[index][: rng.randrange(len(whole.pdus[index]))]
    return Conversation(kind=whole.kind, pdus=(*whole.pdus[:index], cut), sop_instance_uid=whole.sop_instance_uid)


def _length_of_a_pdu(rng: Random) -> Conversation:
    def lie(pdu: bytes) -> bytes:
        return pdu[:2] + struct.pack(">I", some_length(rng, len(pdu) - _PDU_HEADER, 0xFFFFFFFF)) + pdu[6:]

    return _with_pdu(rng, lie)


def _length_of_a_data_value(rng: Random) -> Conversation:
    def lie(pdu: bytes) -> bytes:
        if pdu[0] != 0x04:
            return flip(rng, pdu)
        true = struct.unpack(">I", pdu[6:10])[0]
        return pdu[:6] + struct.pack(">I", some_length(rng, true, 0xFFFFFFFF)) + pdu[10:]

    return _with_pdu(rng, lie, first=1)


def _length_of_an_item(rng: Random) -> Conversation:
    """Of an item or sub-item of the A-ASSOCIATE-RQ (PS3.8 9.3.2): wherever two bytes could be one."""
    whole = conversation(rng)
    request = whole.pdus[0]
    at = rng.randrange(74, len(request) - 1)
    lie = request[:at] + struct.pack(">H", some_length(rng, 20, 0xFFFF)) + request[at + 2 :]
    return Conversation(kind=whole.kind, pdus=(lie, *whole.pdus[1:]), sop_instance_uid=whole.sop_instance_uid)


def _length_of_the_command_group(rng: Random) -> Conversation:
    """Command Group Length (0000,0000), the first element of every command set (PS3.7 6.3.1)."""
    whole = conversation(rng)
    at = _P_DATA_HEADER + 8
    command = whole.pdus[1]
    true = struct.unpack("<I", command[at : at + 4])[0]
    lie = command[:at] + struct.pack("<I", some_length(rng, true, 0xFFFFFFFF)) + command[at + 4 :]
    pdus = (whole.pdus[0], lie, *whole.pdus[2:])
    return Conversation(kind=whole.kind, pdus=pdus, sop_instance_uid=whole.sop_instance_uid)


def _bits_of_the_command(rng: Random) -> Conversation:
    whole = conversation(rng)
    command = whole.pdus[1]
    lie = command[:_P_DATA_HEADER] + flip(rng, command[_P_DATA_HEADER:], most=3)
    pdus = (whole.pdus[0], lie, *whole.pdus[2:])
    return Conversation(kind=whole.kind, pdus=pdus, sop_instance_uid=whole.sop_instance_uid)


def _pdus_in_another_order(rng: Random) -> Conversation:
    whole = conversation(rng)
    pdus = list(whole.pdus)
    for _ in range(rng.randint(1, 3)):
        how, index = rng.choice(["drop", "double", "swap"]), rng.randrange(len(pdus))
        if how == "drop" and len(pdus) > 1:
            del pdus[index]
        elif how == "double":
            pdus.insert(index, pdus[index])
        else:
            other = rng.randrange(len(pdus))
            pdus[index], pdus[other] = pdus[other], pdus[index]
    return Conversation(kind=whole.kind, pdus=tuple(pdus), sop_instance_uid=whole.sop_instance_uid)


def _noise(rng: Random) -> Conversation:
    return Conversation(kind="noise", pdus=(rng.randbytes(rng.randrange(1, 4096)),))


def _bits_of_the_data_set(rng: Random) -> Conversation:
    return conversation(rng, lambda data_set, _: flip(rng, data_set, most=30))


def _bits_of_the_header(rng: Random) -> Conversation:
    """In the first half kilobyte, where the UIDs stand, more than elsewhere."""
    return conversation(rng, lambda data_set, _: flip(rng, data_set[:512]) + data_set[512:])


def _a_data_set_cut_off(rng: Random) -> Conversation:
    return conversation(rng, lambda data_set, _: cut_off(rng, data_set))


def _lengths_of_elements(rng: Random) -> Conversation:
    """Lengths of elements (PS3.5 7.1.2, 7.1.3), of whichever two or four bytes."""

    def lie(data_set: bytes, _: bool) -> bytes:
        changed = bytearray(data_set)
        for _ in range(rng.randint(1, 3)):
            at, size = rng.randrange(max(1, len(changed) - 4)), rng.choice([2, 4])
            value = some_length(rng, 16, (1 << 8 * size) - 1)
            changed[at : at + size] = value.to_bytes(size, "little")
        return bytes(changed)

    return conversation(rng, lie)


def _group_lengths(rng: Random) -> Conversation:
    """A Group Length (gggg,0000) of the retired kind (PS3.5 7.2) before everything, which lies."""

    def lie(data_set: bytes, implicit: bool) -> bytes:
        group = rng.choice([0x0008, 0x0010, 0x0028, 0x7FE0])
        length = struct.pack("<I", 4) if implicit else struct.pack("<2sH", b"UL", 4)
        return struct.pack("<HH", group, 0) + length + struct.pack("<I", rng.randrange(1 << 32)) + data_set

    return conversation(rng, lie)


def _nested_sequences(rng: Random) -> Conversation:
    return conversation(rng, partial(nest, rng))


_MUTATIONS: dict[str, Callable[[Random], Conversation]] = {
    "bits of a PDU": _bits_of_a_pdu,
    "a PDU cut off": _a_pdu_cut_off,
    "length of a PDU": _length_of_a_pdu,
    "length of a data value": _length_of_a_data_value,
    "length of an item": _length_of_an_item,
    "length of the command group": _length_of_the_command_group,
    "bits of the command": _bits_of_the_command,
    "PDUs in another order": _pdus_in_another_order,
    "noise": _noise,
    "bits of the data set": _bits_of_the_data_set,
    "bits of the header": _bits_of_the_header,
    "a data set cut off": _a_data_set_cut_off,
    "lengths of elements": _lengths_of_elements,
    "group lengths": _group_lengths,
    "nested sequences": _nested_sequences,
}
