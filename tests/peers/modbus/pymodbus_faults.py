"""pymodbus on a bad line: pymodbus_faults.py tcp|rtu-over-tcp|rtu PORT

Device 1 has 256 of everything. Each request that it is asked has a number, from 1. What
is read with it is, in registers, at an even address TAGS plus the address, at an odd one
the request's number; coils and discrete inputs have both in 32 bits, from a multiple of
32 on. So a value says where it was read, and in which answer it came.

What becomes of the answer is the number's remainder by the length of FAULTS; the test
has the same list. `READY` is followed by `ASKED <number>` for each hundredth request.
"""

import asyncio
import sys

from pymodbus.simulator import DataType, SimData, SimDevice

from pymodbus_server import serve, server

FAULTS = [
    "good",
    "late",  # It comes when the client has given up and waits for something else.
    "good",
    "good",
    "held",  # It comes at once when the client asks for something else, before that.
    "good",
    "good",
    "torn",  # Only the first half ever comes.
    "good",
    "good",
    "numbered",  # As the answer to another transaction; on a line it is good.
    "good",
    "good",
    "foreign",  # From another unit.
    "good",
    "good",
    "doubled",  # Twice, at once.
    "good",
    "good",
    "noisy",  # After bytes that belong to nothing.
    "good",
    "good",
    "halved",  # In two pieces.
    "lost",  # It never comes.
]

# By function: coils, discrete inputs, holding and input registers.
TAGS = {1: 0x1000, 2: 0x2000, 3: 0x4000, 4: 0x8000}
# Several times as long as the client waits.
LATE = 0.4
# Long for a line, short for who waits.
BREAK = 0.02
NOISE = bytes([0x00, 0xFF, 0x55])

number = 0
newest = None
held = b""
# When the line is free again: a device answers in the order in which it is asked.
free = 0.0


def fault():
    return FAULTS[number % len(FAULTS)]


async def count(function, start, address, words, registers, written):
    """Writes what is about to be read: `words` from `address` on."""
    global number
    number += 1
    if number % 100 == 0:
        print("ASKED", number, flush=True)
    if function in (1, 2):
        # Bits lie in words here, and `words` of them are asked for.
        first = address // 16 - start
        registers[first : first + words] = ([TAGS[function] + address, number] + [0] * words)[:words]
        return
    for at in range(address, address + words):
        registers[at - start] = number if at % 2 else TAGS[function] + at


def trace_pdu(sending, pdu):
    if sending and fault() == "numbered":
        pdu.transaction_id ^= 0x0101
    if sending and fault() == "foreign":
        pdu.dev_id = 2
    return pdu


def trace_packet(sending, packet):
    """Gives what is sent at once; the rest goes later, by `send`."""
    global held, free
    if not sending:
        return packet
    before, held = held, b""
    half = len(packet) // 2
    match fault():
        case "late":
            parts = [(0, before), (LATE, packet)]
        case "held":
            parts, held = [(0, before)], packet
        case "torn":
            parts = [(0, before + packet[:half])]
        case "halved":
            parts = [(0, before + packet[:half]), (BREAK, packet[half:])]
        case "doubled":
            parts = [(0, before + packet + packet)]
        case "noisy":
            parts = [(0, before + NOISE + packet)]
        case "lost":
            parts = [(0, before)]
        case _:
            parts = [(0, before + packet)]
    loop = asyncio.get_running_loop()
    at_once = b""
    for pause, part in parts:
        if pause or free > loop.time():
            # A little more each time, so that they stay in their order.
            free = max(loop.time(), free + 0.001) + pause
            loop.call_at(free, send, part, number if pause == LATE else 0)
        else:
            at_once += part
    return at_once


def send(part, late=0):
    """To whoever is connected now, as device servers do. What is late goes only when the
    client has surely given it up, which its next request shows: on a busy machine it may
    still wait, and then what comes is right."""
    global held
    if late == number:
        held = part
    elif newest.transport:
        newest.transport.write(part)


async def main(framing, port):
    bits = [SimData(0, values=[False] * 256, datatype=DataType.BITS)]
    words = [SimData(0, values=[0] * 256, datatype=DataType.REGISTERS)]
    device = SimDevice(1, (bits, bits, words, words), action=count)
    faulty = server(framing, port, [device], trace_pdu=trace_pdu, trace_packet=trace_packet)
    connect = faulty.callback_new_connection

    def connected():
        global newest
        newest = connect()
        return newest

    faulty.callback_new_connection = connected
    await serve(faulty)


if __name__ == "__main__":
    asyncio.run(main(*sys.argv[1:]))
