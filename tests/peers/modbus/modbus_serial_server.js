// modbus-serial as a device: modbus_serial_server.js PORT [RUN]
// The registers are in README.md. Other units than 1 get no answer.
"use strict";

const { ServerTCP } = require("modbus-serial");

const port = Number(process.argv[2]);
const run = Number(process.argv[3] || 1);

const holding = Buffer.alloc(44 * 2);
// Each is laid as abcd, by Node's own functions; then its words or bytes are swapped.
const swapWords = (at, size) => holding.subarray(at * 2, at * 2 + size).reverse().swap16();
const swapBytes = (at, size) => holding.subarray(at * 2, at * 2 + size).swap16();
holding.writeUInt16BE(4660, 0);
holding.writeInt16BE(-12345, 2);
for (const at of [2, 4, 6, 8]) holding.writeInt32BE(-123456789, at * 2);
for (const at of [10, 14]) holding.writeBigUInt64BE(81985529216486895n, at * 2);
for (const at of [18, 20, 22, 24]) holding.writeFloatBE(-118.625, at * 2);
for (const at of [26, 30]) holding.writeDoubleBE(123456789.0625, at * 2);
holding.write("Tidegateboiler-7", 34 * 2);
for (const at of [4, 8, 20, 24]) swapWords(at, 4);
for (const at of [14, 30]) swapWords(at, 8);
for (const at of [6, 8, 22, 24]) swapBytes(at, 4);
swapBytes(38, 8);
holding.writeUInt16BE(0xa50f, 42 * 2);
holding.writeUInt16BE(run, 43 * 2);

function input(a) {
    if (a < 3) return [0xfffe, 0xdead, 0xbeef][a];
    return 0x4000 + a;
}

// What lies outside of a table is refused with exception 2.
function within(size, a, value) {
    if (a >= size) throw { modbusErrorCode: 2 };
    return value(a);
}

const device = {
    getCoil: (a) => within(2000, a, () => (a * a + Math.floor(a / 7)) % 3 === 0),
    getDiscreteInput: (a) => within(2000, a, () => (a * a + Math.floor(a / 11)) % 5 < 2),
    getHoldingRegister: (a) => within(44, a, () => holding.readUInt16BE(a * 2)),
    getInputRegister: (a) => within(125, a, input),
};

const server = new ServerTCP(device, { host: "127.0.0.1", port, unitID: 1 });
server.on("initialized", () => console.log("READY"));
