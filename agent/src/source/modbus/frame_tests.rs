use proptest::prelude::*;

use super::*;

const FRAMINGS: [Framing; 3] = [Framing::Tcp, Framing::Rtu, Framing::Ascii];
const QUERY: Query = Query { unit: 0x11, function: 3, address: 0x6B, count: 3 };

/// The right answer, whose data counts from `first`.
fn answer(query: Query, first: u8) -> (Frame, Vec<u8>) {
    let length = u8::try_from(query.length()).unwrap();
    let data: Vec<u8> = (0..length).map(|n| first.wrapping_add(n)).collect();
    let body = [&[query.unit, query.function, length], data.as_slice()].concat();
    let (unit, function) = (query.unit, query.function);
    (Frame { transaction: None, unit, function, body: Body::Data(data) }, body)
}

fn whole(framing: Framing, bytes: &[u8]) -> Option<(Frame, usize)> {
    match framing.decode(bytes) {
        Decoded::Whole(frame, length) => Some((frame, length)),
        Decoded::Incomplete | Decoded::Broken(_) => None,
    }
}

#[test]
fn requests_are_those_of_the_specifications() {
    // Modbus Messaging on TCP/IP 1.0b, 3.1.3, with the example of the application protocol, 6.3.
    let tcp = [0x15, 0x01, 0, 0, 0, 6, 0x11, 3, 0, 0x6B, 0, 3];
    assert_eq!(Framing::Tcp.request(QUERY, 0x1501), tcp);
    assert_eq!(Framing::Rtu.request(QUERY, 0), [0x11, 3, 0, 0x6B, 0, 3, 0x76, 0x87]);
    assert_eq!(Framing::Ascii.request(QUERY, 0), b":1103006B00037E\r\n");
}

#[test]
fn answers_of_all_framings_are_read() {
    let rtu = [0x11, 3, 6, 0xAE, 0x41, 0x56, 0x52, 0x43, 0x40, 0x49, 0xAD];
    let (frame, length) = whole(Framing::Rtu, &rtu).unwrap();
    assert_eq!((frame.unit, frame.function, length), (0x11, 3, 11));
    assert_eq!(frame.body, Body::Data(vec![0xAE, 0x41, 0x56, 0x52, 0x43, 0x40]));
    assert_eq!(QUERY.judge(&frame, 0), Judged::Answer);
    let (frame, length) = whole(Framing::Ascii, b":110306AE4156524340CC\r\n").unwrap();
    assert_eq!((length, QUERY.judge(&frame, 0)), (23, Judged::Answer));
    let tcp = [0x15, 0x01, 0, 0, 0, 9, 0x11, 3, 6, 0xAE, 0x41, 0x56, 0x52, 0x43, 0x40];
    let (frame, length) = whole(Framing::Tcp, &tcp).unwrap();
    assert_eq!((length, QUERY.judge(&frame, 0x1501)), (15, Judged::Answer));
}

#[test]
fn the_length_of_an_answer_is_known_before_it_comes() {
    for (function, count) in [(1, 1), (2, 2000), (3, 125), (4, 7), (1, 9)] {
        let query = Query { function, count, ..QUERY };
        for framing in FRAMINGS {
            let bytes = framing.wrap(&answer(query, 0).1, 0);
            assert_eq!(framing.answer_length(query), bytes.len(), "{framing}");
        }
    }
}

#[test]
fn a_frame_of_something_else_is_foreign() {
    let foreign = |query: Query, transaction| {
        let (frame, _) = answer(QUERY, 0);
        let frame = Frame { transaction: Some(5), ..frame };
        matches!(query.judge(&frame, transaction), Judged::Foreign(_))
    };
    assert!(!foreign(QUERY, 5));
    assert!(foreign(QUERY, 6), "another transaction");
    assert!(foreign(Query { unit: 2, ..QUERY }, 5), "another unit");
    assert!(foreign(Query { function: 4, ..QUERY }, 5), "another function");
    assert!(foreign(Query { count: 2, ..QUERY }, 5), "another length");
    assert!(foreign(Query { function: 1, count: 48, ..QUERY }, 5), "bits of that length");
}

#[test]
fn a_wrong_checksum_is_no_frame() {
    let mut rtu = Framing::Rtu.wrap(&answer(QUERY, 0).1, 0);
    *rtu.last_mut().unwrap() ^= 1;
    assert_eq!(whole(Framing::Rtu, &rtu), None);
    assert_eq!(Framing::Rtu.broken(&rtu), "answer whose CRC is wrong");
    let ascii = Framing::Ascii.decode(b":110306AE4156524340CD\r\n");
    assert_eq!(ascii, Decoded::Broken("answer whose LRC is wrong"));
}

#[test]
fn digits_of_ascii_are_capital_ones() {
    let small = Framing::Ascii.decode(b":110306ae4156524340CC\r\n");
    assert!(matches!(small, Decoded::Broken(_)), "{small:?}");
}

#[test]
fn a_byte_or_four_of_noise_before_a_frame_are_skipped() {
    let (expected, body) = answer(QUERY, 7);
    for noise in [&[0][..], &[0xFF], &[0, 0xFF, 0, 0xFF], b"x:11"] {
        for framing in [Framing::Rtu, Framing::Ascii] {
            let bytes = [noise, &framing.wrap(&body, 0)].concat();
            assert_eq!(whole(framing, &bytes), Some((expected.clone(), bytes.len())), "{framing}");
        }
    }
}

#[test]
fn two_frames_in_one_piece_are_read_one_after_the_other() {
    let (first, one) = answer(QUERY, 1);
    let exception = [QUERY.unit, QUERY.function | 0x80, 2];
    for framing in FRAMINGS {
        let bytes = [framing.wrap(&one, 0), framing.wrap(&exception, 0)].concat();
        let (frame, length) = whole(framing, &bytes).unwrap();
        assert_eq!((&frame.body, frame.unit), (&first.body, first.unit));
        let (frame, rest) = whole(framing, &bytes[length..]).unwrap();
        assert_eq!((frame.body, length + rest), (Body::Exception(2), bytes.len()));
    }
}

fn framing() -> impl Strategy<Value = Framing> {
    prop::sample::select(FRAMINGS.to_vec())
}

fn query() -> impl Strategy<Value = Query> {
    (any::<u8>(), 1_u8..5, any::<u16>(), 1_u16..126)
        .prop_map(|(unit, function, address, count)| Query { unit, function, address, count })
}

/// Bytes that often look like the begin of a frame.
fn bytes() -> impl Strategy<Value = Vec<u8>> {
    let near = prop::sample::select(vec![0, 1, 2, 3, 4, 5, 0x83, b':', b'0', b'\r', b'\n', 0xFF]);
    prop::collection::vec(prop_oneof![any::<u8>(), near], 0..600)
}

proptest! {
    #[test]
    fn any_bytes_are_decoded_without_a_panic(framing in framing(), bytes in bytes()) {
        if let Decoded::Whole(frame, length) = framing.decode(&bytes) {
            prop_assert!(length <= bytes.len());
            prop_assert!((1..5).contains(&frame.function));
        }
        framing.broken(&bytes);
    }

    #[test]
    fn no_part_of_an_answer_is_an_answer_and_the_whole_is(
        framing in framing(), query in query(), first: u8, transaction: u16,
    ) {
        let (expected, body) = answer(query, first);
        let bytes = framing.wrap(&body, transaction);
        for cut in 0..bytes.len() {
            prop_assert_eq!(framing.decode(&bytes[..cut]), Decoded::Incomplete, "cut at {}", cut);
        }
        let (frame, length) = whole(framing, &bytes).unwrap();
        prop_assert_eq!(length, bytes.len());
        prop_assert_eq!(query.judge(&frame, transaction), Judged::Answer);
        prop_assert_eq!(frame.body, expected.body);
    }

    /// CRC-16 finds every single burst of up to 16 bits; the LRC every single bit.
    #[test]
    fn a_flipped_bit_never_makes_another_value(
        framing in prop::sample::select(vec![Framing::Rtu, Framing::Ascii]),
        query in query(), first: u8, at: prop::sample::Index, bit in 0_u8..8,
    ) {
        let (_, body) = answer(query, first);
        let mut bytes = framing.wrap(&body, 0);
        bytes[at.index(body.len())] ^= 1 << bit;
        if let Decoded::Whole(frame, _) = framing.decode(&bytes) {
            prop_assert!(matches!(query.judge(&frame, 0), Judged::Foreign(_)));
        }
    }
}
