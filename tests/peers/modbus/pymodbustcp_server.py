"""pyModbusTCP as a device: pymodbustcp_server.py PORT [RUN]

The registers are in README.md.
"""

import sys

from pyModbusTCP.server import DataBank, ModbusServer
from pyModbusTCP.utils import encode_ieee, get_2comp, long_list_to_word

import registers


def words(value, bits):
    """Of a number of so many bits, the most significant register first."""
    longs = [value >> 32, value & 0xFFFFFFFF] if bits == 64 else [value]
    return long_list_to_word(longs)


def both(words):
    return words + words[::-1]


def holding(run):
    number = both(words(get_2comp(registers.NUMBER, 32), 32))
    fraction = both(words(encode_ieee(registers.FRACTION), 32))
    first, second = map(registers.text, registers.TEXTS)
    return (
        [4660, get_2comp(-12345, 16)]
        + number
        + registers.swapped(number)
        + both(words(registers.BIG, 64))
        + fraction
        + registers.swapped(fraction)
        + both(words(encode_ieee(registers.LONG_FRACTION, double=True), 64))
        + first
        + registers.swapped(second)
        + [registers.BITS, run]
    )


port, run = sys.argv[1], (sys.argv[2:] or ["1"])[0]
bank = DataBank(coils_size=2000, d_inputs_size=2000, h_regs_size=44, i_regs_size=125)
bank.set_coils(0, registers.COILS)
bank.set_discrete_inputs(0, registers.DISCRETES)
bank.set_holding_registers(0, holding(int(run)))
bank.set_input_registers(0, registers.INPUTS)
server = ModbusServer(host="127.0.0.1", port=int(port), no_block=True, data_bank=bank)
server.start()
print("READY", flush=True)
server._serve_th.join()
