"""pymodbus as a device: pymodbus_server.py tcp|rtu-over-tcp|rtu|ascii PORT [RUN]

PORT is a number, or the path of a serial port. The registers are in README.md.
"""

import asyncio
import sys

from pymodbus import FramerType
from pymodbus.client.mixin import ModbusClientMixin
from pymodbus.server import ModbusSerialServer, ModbusTcpServer
from pymodbus.simulator import DataType, SimData, SimDevice

import registers

TYPE = ModbusClientMixin.DATATYPE


def words(value, kind, order="big"):
    return ModbusClientMixin.convert_to_registers(value, kind, word_order=order)


def both(value, kind):
    return words(value, kind) + words(value, kind, "little")


def holding(run):
    number, fraction = both(registers.NUMBER, TYPE.INT32), both(registers.FRACTION, TYPE.FLOAT32)
    first, second = (words(text.decode(), TYPE.STRING) for text in registers.TEXTS)
    return (
        words(4660, TYPE.UINT16)
        + words(-12345, TYPE.INT16)
        + number
        + registers.swapped(number)
        + both(registers.BIG, TYPE.UINT64)
        + fraction
        + registers.swapped(fraction)
        + both(registers.LONG_FRACTION, TYPE.FLOAT64)
        + first
        + registers.swapped(second)
        + [registers.BITS, run]
    )


def server(framing, port, devices, **hooks):
    """The server of this framing; also for pymodbus_faults.py."""
    framer = {
        "tcp": FramerType.SOCKET,
        "rtu-over-tcp": FramerType.RTU,
        "rtu": FramerType.RTU,
        "ascii": FramerType.ASCII,
    }[framing]
    if framing.endswith("tcp"):
        return ModbusTcpServer(devices, framer=framer, address=("127.0.0.1", int(port)), **hooks)
    return ModbusSerialServer(devices, framer=framer, port=port, **hooks)


async def serve(server):
    await server.serve_forever(background=True)
    print("READY", flush=True)
    await server.serving


async def main(framing, port, run="1"):
    def block(kind, values):
        return [SimData(0, values=values, datatype=kind)]

    tables = (
        block(DataType.BITS, registers.COILS),
        block(DataType.BITS, registers.DISCRETES),
        block(DataType.REGISTERS, holding(int(run))),
        block(DataType.REGISTERS, registers.INPUTS),
    )
    await serve(server(framing, port, [SimDevice(1, tables)]))


if __name__ == "__main__":
    asyncio.run(main(*sys.argv[1:]))
