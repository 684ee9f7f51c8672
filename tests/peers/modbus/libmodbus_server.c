/* libmodbus as a device: libmodbus_server tcp|rtu PORT [RUN]
 *
 * PORT is a number, or the path of a serial port. The registers are in README.md.
 * On a serial line it is silent for other units than 1. */

#include <errno.h>
#include <modbus/modbus.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static uint16_t swapped(uint16_t r) { return (uint16_t)(r << 8 | r >> 8); }

/* As abcd, cdab, badc and dcba. The library's own functions for these orders mean other
 * ones by them in other versions. */
static void set_all_orders(uint16_t *r, int32_t value) {
    MODBUS_SET_INT32_TO_INT16(r, 0, value);
    r[2] = r[1], r[3] = r[0];
    for (int i = 0; i < 4; i++) r[4 + i] = swapped(r[i]);
}

static void fill(modbus_mapping_t *map, int run) {
    static const char text[] = "Tidegateboiler-7";
    uint16_t *r = map->tab_registers;
    float fraction = -118.625f;
    double long_fraction = 123456789.0625;
    int32_t bits;
    int64_t long_bits;

    r[0] = 4660;
    r[1] = (uint16_t)-12345;
    set_all_orders(r + 2, -123456789);
    MODBUS_SET_INT64_TO_INT16(r, 10, 0x0123456789ABCDEFLL);
    memcpy(&bits, &fraction, sizeof bits);
    set_all_orders(r + 18, bits);
    memcpy(&long_bits, &long_fraction, sizeof long_bits);
    MODBUS_SET_INT64_TO_INT16(r, 26, long_bits);
    for (int i = 0; i < 4; i++) r[14 + i] = r[13 - i], r[30 + i] = r[29 - i];
    for (int i = 0; i < 8; i++) r[34 + i] = (uint16_t)(text[2 * i] << 8 | text[2 * i + 1]);
    for (int i = 38; i < 42; i++) r[i] = swapped(r[i]);
    r[42] = 0xA50F;
    r[43] = (uint16_t)run;

    map->tab_input_registers[0] = (uint16_t)-2;
    MODBUS_SET_INT32_TO_INT16(map->tab_input_registers, 1, 0xDEADBEEF);
    for (int a = 3; a < 125; a++) map->tab_input_registers[a] = (uint16_t)(0x4000 + a);
    for (int a = 0; a < 2000; a++) {
        map->tab_bits[a] = (a * a + a / 7) % 3 == 0;
        map->tab_input_bits[a] = (a * a + a / 11) % 5 < 2;
    }
}

int main(int count, char **words) {
    uint8_t request[MODBUS_TCP_MAX_ADU_LENGTH];
    if (count < 3) return 2;
    int tcp = strcmp(words[1], "tcp") == 0, listener = -1;
    modbus_t *device = tcp ? modbus_new_tcp("127.0.0.1", atoi(words[2]))
                           : modbus_new_rtu(words[2], 19200, 'E', 8, 1);
    modbus_mapping_t *map = modbus_mapping_new(2000, 2000, 44, 125);
    if (!device || !map) return 1;
    fill(map, count > 3 ? atoi(words[3]) : 1);
    modbus_set_slave(device, 1);
    if (tcp) listener = modbus_tcp_listen(device, 1);
    if (tcp ? listener < 0 : modbus_connect(device) < 0) {
        fprintf(stderr, "cannot open %s: %s\n", words[2], modbus_strerror(errno));
        return 1;
    }
    puts("READY");
    fflush(stdout);
    for (;;) {
        if (tcp && modbus_tcp_accept(device, &listener) < 0) return 1;
        for (;;) {
            int length = modbus_receive(device, request);
            if (length > 0) {
                modbus_reply(device, request, length, map);
            } else if (length < 0 && tcp) {
                break;
            }
        }
        modbus_close(device);
    }
}
