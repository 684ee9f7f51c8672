use proptest::prelude::*;

use super::*;

const ORDERS: [Order; 4] = [Order::Abcd, Order::Cdab, Order::Badc, Order::Dcba];
const TYPES: [Type; 17] = [
    Type::Bool,
    Type::Bit,
    Type::I8,
    Type::U8,
    Type::I16,
    Type::U16,
    Type::I32,
    Type::U32,
    Type::I64,
    Type::U64,
    Type::Bcd16,
    Type::Bcd32,
    Type::Bcd64,
    Type::F16,
    Type::F32,
    Type::F64,
    Type::String,
];

fn decoder(kind: Type, order: Order) -> Decoder {
    let meaning = if kind == Type::Bit { Meaning::Bit(0) } else { Meaning::Number };
    Decoder { kind, order, length: 3, absent: Vec::new(), meaning }
}

fn scaled(scale: Option<f64>, offset: Option<f64>) -> Meaning {
    Linear::new(scale, offset).map_or(Meaning::Number, Meaning::Scaled)
}

fn named(names: &[(i128, &str)]) -> Meaning {
    Meaning::Named(names.iter().map(|(number, name)| (*number, Arc::from(*name))).collect())
}

#[track_caller]
fn check(kind: Type, order: Order, words: &[u16], expected: Value) {
    assert_eq!(decoder(kind, order).decode(words), Ok(expected), "{kind:?} {order:?}");
}

/// The registers in which a device of this order sends the number.
fn encode(bits: u64, width: u16, order: Order) -> Vec<u16> {
    let bytes = bits.to_be_bytes();
    let mut words: Vec<u16> = bytes[8 - 2 * usize::from(width)..]
        .chunks_exact(2)
        .map(|pair| order.word(u16::from_be_bytes([pair[0], pair[1]])))
        .collect();
    if order.reverses_words() {
        words.reverse();
    }
    words
}

#[test]
fn the_four_orders_of_a_32_bit_value() {
    let expected = Value::U64(0x0A0B_0C0D);
    check(Type::U32, Order::Abcd, &[0x0A0B, 0x0C0D], expected.clone());
    check(Type::U32, Order::Cdab, &[0x0C0D, 0x0A0B], expected.clone());
    check(Type::U32, Order::Badc, &[0x0B0A, 0x0D0C], expected.clone());
    check(Type::U32, Order::Dcba, &[0x0D0C, 0x0B0A], expected);
}

#[test]
fn the_four_orders_of_a_64_bit_value() {
    let expected = Value::U64(0x0102_0304_0506_0708);
    check(Type::U64, Order::Abcd, &[0x0102, 0x0304, 0x0506, 0x0708], expected.clone());
    check(Type::U64, Order::Cdab, &[0x0708, 0x0506, 0x0304, 0x0102], expected.clone());
    check(Type::U64, Order::Badc, &[0x0201, 0x0403, 0x0605, 0x0807], expected.clone());
    check(Type::U64, Order::Dcba, &[0x0807, 0x0605, 0x0403, 0x0201], expected);
}

#[test]
fn the_orders_of_one_register_swap_its_bytes_or_not() {
    check(Type::I16, Order::Cdab, &[0xFF29], Value::I64(-215));
    check(Type::I16, Order::Dcba, &[0x29FF], Value::I64(-215));
    check(Type::U8, Order::Abcd, &[0x12FE], Value::U64(0xFE));
    check(Type::U8, Order::Badc, &[0x12FE], Value::U64(0x12));
    check(Type::I8, Order::Abcd, &[0x12FE], Value::I64(-2));
}

#[test]
fn integers_keep_sign_and_width() {
    check(Type::I16, Order::Abcd, &[0x8000], Value::I64(-32_768));
    check(Type::U16, Order::Abcd, &[0xFFFF], Value::U64(65_535));
    check(Type::I32, Order::Abcd, &[0xFFFF, 0xFFFE], Value::I64(-2));
    check(Type::U32, Order::Abcd, &[0xFFFF, 0xFFFF], Value::U64(4_294_967_295));
    check(Type::I64, Order::Abcd, &[0x8000, 0, 0, 0], Value::I64(i64::MIN));
    check(Type::U64, Order::Abcd, &[0xFFFF; 4], Value::U64(u64::MAX));
}

#[test]
fn floats_of_all_widths_are_exact() {
    check(Type::F16, Order::Abcd, &[0x4D60], Value::F64(21.5));
    check(Type::F16, Order::Abcd, &[0x0001], Value::F64(2f64.powi(-24)));
    check(Type::F16, Order::Abcd, &[0xFBFF], Value::F64(-65_504.0));
    check(Type::F16, Order::Abcd, &[0xFC00], Value::F64(f64::NEG_INFINITY));
    check(Type::F32, Order::Abcd, &[0x41AC, 0x0000], Value::F64(21.5));
    check(Type::F32, Order::Cdab, &[0x0000, 0x41AC], Value::F64(21.5));
    check(Type::F64, Order::Abcd, &[0x3FB9, 0x9999, 0x9999, 0x999A], Value::F64(0.1));
    let nan = decoder(Type::F32, Order::Abcd).decode(&[0x7FC0, 0]);
    assert!(matches!(nan, Ok(Value::F64(f)) if f.is_nan()));
}

#[test]
fn bits_are_counted_from_the_lowest() {
    let bit = |bit, order| {
        let meaning = Meaning::Bit(bit);
        Decoder { meaning, ..decoder(Type::Bit, order) }.decode(&[0x8001])
    };
    assert_eq!(bit(0, Order::Abcd), Ok(Value::Bool(true)));
    assert_eq!(bit(15, Order::Abcd), Ok(Value::Bool(true)));
    assert_eq!(bit(7, Order::Abcd), Ok(Value::Bool(false)));
    assert_eq!(bit(7, Order::Badc), Ok(Value::Bool(true)));
}

#[test]
fn text_ends_at_a_nul_and_loses_its_padding() {
    let text = |s: &str| Value::Text(Arc::from(s));
    check(Type::String, Order::Abcd, &[0x4142, 0x4300, 0x5858], text("ABC"));
    check(Type::String, Order::Badc, &[0x4241, 0x2043, 0x2020], text("ABC"));
    check(Type::String, Order::Cdab, &[0x4142, 0x4344, 0x4546], text("ABCDEF"));
    check(Type::String, Order::Abcd, &[0, 0, 0], text(""));
    let error = decoder(Type::String, Order::Abcd).decode(&[0xFF41, 0, 0]);
    assert_eq!(error, Err(Error::Text));
}

#[test]
fn the_wrong_number_of_registers_is_an_error() {
    let error = decoder(Type::U32, Order::Abcd).decode(&[1]).unwrap_err();
    assert_eq!(error.to_string(), "1 registers where the value takes 2");
}

#[test]
fn scale_and_offset_make_the_value_that_was_meant() {
    let scaled = |scale, offset, words: &[u16]| {
        let meaning = scaled(scale, offset);
        Decoder { meaning, ..decoder(Type::I16, Order::Abcd) }.decode(words)
    };
    assert_eq!(scaled(Some(0.1), None, &[215]), Ok(Value::F64(21.5)));
    assert_eq!(scaled(Some(0.1), None, &[3]), Ok(Value::F64(0.3)));
    assert_eq!(scaled(Some(0.3), Some(-0.1), &[1]), Ok(Value::F64(0.2)));
    assert_eq!(scaled(Some(0.05), Some(-40.0), &[1_230]), Ok(Value::F64(21.5)));
    assert_eq!(scaled(None, Some(0.7), &[1]), Ok(Value::F64(1.7)));
    assert_eq!(scaled(Some(1e-300), None, &[2]), Ok(Value::F64(2e-300)));
    assert_eq!(scaled(Some(1e300), None, &[2]), Ok(Value::F64(2e300)));
    assert_eq!(scaled(None, None, &[2]), Ok(Value::I64(2)));
}

#[test]
fn a_scaled_counter_of_64_bits_does_not_overflow() {
    let meaning = scaled(Some(0.001), Some(1e15));
    let wide = Decoder { meaning, ..decoder(Type::U64, Order::Abcd) };
    assert_eq!(wide.decode(&[0xFFFF; 4]), Ok(Value::F64(1.944_674_407_370_955e16)));
}

#[test]
fn decimal_digits_are_read_after_the_order() {
    check(Type::Bcd16, Order::Abcd, &[0x1234], Value::U64(1_234));
    check(Type::Bcd16, Order::Badc, &[0x3412], Value::U64(1_234));
    check(Type::Bcd32, Order::Abcd, &[0x0012, 0x3456], Value::U64(123_456));
    check(Type::Bcd32, Order::Cdab, &[0x3456, 0x0012], Value::U64(123_456));
    let digits = [0x1234, 0x5678, 0x9012, 0x3456];
    check(Type::Bcd64, Order::Abcd, &digits, Value::U64(1_234_567_890_123_456));
    let meaning = scaled(Some(0.1), None);
    let tenths = Decoder { meaning, ..decoder(Type::Bcd16, Order::Abcd) };
    assert_eq!(tenths.decode(&[0x0215]), Ok(Value::F64(21.5)));
}

#[test]
fn a_digit_above_nine_is_an_error() {
    let decode = |words: &[u16]| decoder(Type::Bcd32, Order::Abcd).decode(words);
    assert_eq!(decode(&[0x9999, 0x9999]), Ok(Value::U64(99_999_999)));
    assert_eq!(decode(&[0x9999, 0x999A]), Err(Error::Digit));
    assert_eq!(decode(&[0xA000, 0]), Err(Error::Digit));
}

#[test]
fn bits_that_mark_it_are_no_value_in_any_order() {
    let marked = |kind, order, absent: &[u64], words: &[u16]| {
        Decoder { absent: absent.to_vec(), ..decoder(kind, order) }.decode(words)
    };
    let two = [0x8000, 0xFFFF];
    assert_eq!(marked(Type::I16, Order::Abcd, &two, &[0x8000]), Err(Error::Absent));
    assert_eq!(marked(Type::I16, Order::Badc, &two, &[0x0080]), Err(Error::Absent));
    assert_eq!(marked(Type::I16, Order::Abcd, &two, &[0xFFFF]), Err(Error::Absent));
    assert_eq!(marked(Type::I16, Order::Abcd, &two, &[0x7FFF]), Ok(Value::I64(0x7FFF)));
    assert_eq!(marked(Type::U32, Order::Cdab, &[0xFFFF_0000], &[0, 0xFFFF]), Err(Error::Absent));
    // One byte of the register is the value, the other is somebody else's.
    assert_eq!(marked(Type::U8, Order::Abcd, &[0xFF], &[0x12FF]), Err(Error::Absent));
    assert_eq!(marked(Type::I8, Order::Badc, &[0x80], &[0x8012]), Err(Error::Absent));
    assert_eq!(marked(Type::U64, Order::Abcd, &[u64::MAX], &[0xFFFF; 4]), Err(Error::Absent));
    // A device that fills decimals with ones says so, and sends no wrong digit.
    assert_eq!(marked(Type::Bcd16, Order::Abcd, &[0xFFFF], &[0xFFFF]), Err(Error::Absent));
    assert_eq!(marked(Type::Bit, Order::Abcd, &[0xFFFF], &[0xFFFF]), Err(Error::Absent));
    let lowest = 0xFF7F_FFFF;
    assert_eq!(marked(Type::F32, Order::Abcd, &[lowest], &[0xFF7F, 0xFFFF]), Err(Error::Absent));
}

#[test]
fn a_number_is_its_name_or_its_digits() {
    let text = |s: &str| Ok(Value::Text(Arc::from(s)));
    let state = |kind, words: &[u16]| {
        let meaning = named(&[(-1, "lost"), (0, "off"), (2, "fault")]);
        Decoder { meaning, ..decoder(kind, Order::Abcd) }.decode(words)
    };
    assert_eq!(state(Type::U16, &[0]), text("off"));
    assert_eq!(state(Type::U16, &[2]), text("fault"));
    assert_eq!(state(Type::U16, &[7]), text("7"));
    assert_eq!(state(Type::I16, &[0xFFFF]), text("lost"));
    assert_eq!(state(Type::U16, &[0xFFFF]), text("65535"));
    assert_eq!(state(Type::I32, &[0xFFFF, 0xFFFE]), text("-2"));
    assert_eq!(state(Type::U64, &[0xFFFF; 4]), text("18446744073709551615"));
    assert_eq!(state(Type::Bcd16, &[0x0002]), text("fault"));
}

#[test]
fn a_bit_of_a_wider_integer_is_one_of_all_its_registers() {
    let bit = |bit, order, words: &[u16]| {
        let meaning = Meaning::Bit(bit);
        Decoder { meaning, ..decoder(Type::U32, order) }.decode(words)
    };
    assert_eq!(bit(31, Order::Abcd, &[0x8000, 0]), Ok(Value::Bool(true)));
    assert_eq!(bit(31, Order::Cdab, &[0x8000, 0]), Ok(Value::Bool(false)));
    assert_eq!(bit(15, Order::Cdab, &[0x8000, 0]), Ok(Value::Bool(true)));
    assert_eq!(bit(30, Order::Abcd, &[0x8000, 0]), Ok(Value::Bool(false)));
}

fn any_meaning() -> impl Strategy<Value = Meaning> {
    prop_oneof![
        (any::<Option<f64>>(), any::<Option<f64>>()).prop_map(|(s, o)| scaled(s, o)),
        prop::collection::vec(any::<i16>(), 0..4).prop_map(|numbers| {
            Meaning::Named(numbers.into_iter().map(|n| (n.into(), Arc::from("n"))).collect())
        }),
        any::<u8>().prop_map(Meaning::Bit),
    ]
}

proptest! {
    #[test]
    fn any_registers_give_a_value_or_an_error(
        words in prop::collection::vec(any::<u16>(), 0..130),
        kind in prop::sample::select(&TYPES[..]),
        order in prop::sample::select(&ORDERS[..]),
        length in any::<u16>(),
        absent in prop::collection::vec(0..=0xFFFF_u64, 0..4),
        meaning in any_meaning(),
    ) {
        let marks = !absent.is_empty();
        let decoder = Decoder { kind, order, length, absent, meaning };
        let fits = words.len() == usize::from(decoder.width());
        match decoder.decode(&words) {
            Ok(_) => prop_assert!(fits),
            Err(Error::Text) => prop_assert!(fits && kind == Type::String),
            Err(Error::Digit) => prop_assert!(fits && kind.as_str().starts_with("bcd")),
            Err(Error::Absent) => prop_assert!(fits && marks),
            Err(Error::Length { .. }) => prop_assert!(!fits),
        }
    }

    /// Lengths drawn at random fit few types; here they all do.
    #[test]
    fn any_bits_of_the_right_length_are_a_value_a_marker_or_a_wrong_digit(
        bits in any::<u64>(),
        kind in prop::sample::select(&TYPES[..TYPES.len() - 1]),
        order in prop::sample::select(&ORDERS[..]),
        marked in any::<bool>(),
        meaning in any_meaning(),
    ) {
        let words = encode(bits, kind.width(0), order);
        let bits = kind.masked(bits);
        let absent = if marked { vec![bits] } else { vec![!bits] };
        let decoder = Decoder { kind, order, length: 0, absent, meaning };
        let spelt = format!("{bits:x}");
        let is_bcd = kind.as_str().starts_with("bcd");
        let wrong = is_bcd && spelt.contains(|c: char| !c.is_ascii_digit());
        match decoder.decode(&words) {
            Ok(_) => prop_assert!(!marked && !wrong),
            Err(Error::Digit) => prop_assert!(!marked && wrong),
            Err(error) => prop_assert!(marked && error == Error::Absent, "{:?}", error),
        }
    }

    #[test]
    fn decimal_digits_that_a_device_encodes_are_what_is_decoded(
        number in 0..10_u64.pow(16),
        order in prop::sample::select(&ORDERS[..]),
    ) {
        for (kind, digits) in [(Type::Bcd16, 4), (Type::Bcd32, 8), (Type::Bcd64, 16)] {
            let number = number % 10_u64.pow(digits);
            let bits = u64::from_str_radix(&number.to_string(), 16).unwrap();
            let words = encode(bits, kind.width(0), order);
            prop_assert_eq!(decoder(kind, order).decode(&words), Ok(Value::U64(number)));
        }
    }

    #[test]
    fn what_a_device_encodes_is_what_is_decoded(
        number in any::<i64>(),
        order in prop::sample::select(&ORDERS[..]),
    ) {
        let bits = number.cast_unsigned();
        let expected = Ok(Value::I64(number));
        prop_assert_eq!(decoder(Type::I64, order).decode(&encode(bits, 4, order)), expected);
        let narrow = Ok(Value::I64(i64::from(low_32(bits).cast_signed())));
        prop_assert_eq!(decoder(Type::I32, order).decode(&encode(bits, 2, order)), narrow);
        let narrow = Ok(Value::U64(bits & 0xFFFF));
        prop_assert_eq!(decoder(Type::U16, order).decode(&encode(bits, 1, order)), narrow);
        let float = decoder(Type::F64, order).decode(&encode(bits, 4, order));
        prop_assert!(matches!(float, Ok(Value::F64(f)) if f.to_bits() == bits || f.is_nan()));
    }
}

#[test]
fn an_f32_is_the_decimal_that_was_meant_also_behind_a_scale() {
    let read = |number: f32, scale: Option<f64>, offset: Option<f64>| {
        let meaning = Linear::new(scale, offset).map_or(Meaning::Number, Meaning::Scaled);
        let (order, absent) = (Order::Abcd, Vec::new());
        let decoder = Decoder { kind: Type::F32, order, length: 0, absent, meaning };
        let bytes = number.to_bits().to_be_bytes();
        let words = [[bytes[0], bytes[1]], [bytes[2], bytes[3]]].map(u16::from_be_bytes);
        decoder.decode(&words)
    };
    assert_eq!(read(23.1, None, None), Ok(Value::F64(23.1)));
    assert_eq!(read(23.1, Some(0.1), None), Ok(Value::F64(2.31)));
    assert_eq!(read(23.1, Some(10.0), None), Ok(Value::F64(231.0)));
    assert_eq!(read(-0.7, None, Some(0.2)), Ok(Value::F64(-0.5)));
}
