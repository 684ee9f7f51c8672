use proptest::prelude::*;

use super::*;
use crate::source::serial::tests::parse;

/// A splitter by these keys.
fn splitter(keys: &str) -> Splitter {
    let config =
        parse(&format!("name = \"line\"\nstream = \"plant\"\naddress = \"/dev/ttyS1\"\n{keys}"))
            .unwrap();
    assert_eq!(config.check(), []);
    Splitter::new(config.split, config.checksum)
}

fn text(bytes: &[u8]) -> String {
    crate::decode::escaped::print(bytes)
}

fn shown(piece: &Piece) -> String {
    match piece {
        Piece::Frame(frame) => format!("frame {}", text(frame.body())),
        Piece::Skipped(skipped) => {
            format!("{:?} {} of {}", skipped.why, text(&skipped.bytes), skipped.length)
        }
    }
}

fn drain(splitter: &mut Splitter, pieces: &mut Vec<Piece>) {
    while let Some(piece) = splitter.next() {
        pieces.push(piece);
    }
}

/// What comes out of these bytes, in these pieces, and then the line is gone.
fn cut<'b>(splitter: &mut Splitter, pieces: impl IntoIterator<Item = &'b [u8]>) -> Vec<Piece> {
    let mut out = Vec::new();
    for bytes in pieces {
        splitter.push(bytes);
        drain(splitter, &mut out);
    }
    out.extend(splitter.broke_off());
    out
}

fn check(keys: &str, bytes: &[u8], expected: &[&str]) {
    let out = cut(&mut splitter(keys), [bytes]);
    assert_eq!(out.iter().map(shown).collect::<Vec<_>>(), expected, "{keys}");
}

#[test]
fn lines_end_with_a_newline_or_with_what_is_said() {
    check("", b"a\r\nb\n\r\n\nc", &["frame a", "frame b", "BrokeOff c of 1"]);
    check("split = { by = \"delimiter\", end = '\\r' }", b"a\rb\r", &["frame a", "frame b"]);
}

#[test]
fn a_frame_stands_between_its_start_and_its_end_with_what_belongs_to_it() {
    let keys = r"split = { by = 'delimiter', start = '\x02', end = '\x03', tail = 1 }
checksum = { kind = 'xor8', from = 1 }";
    let bytes = b"\x02ab\x03\x00\x02cut \x02cd\x03\x04noise\x02ef\x03\xFF";
    let expected = [
        "frame ab",
        r"BrokeOff \x02cut  of 5",
        "frame cd",
        "Outside noise of 5",
        r"Checksum \x02ef\x03\xff of 5",
    ];
    check(keys, bytes, &expected);
}

#[test]
fn a_telegram_of_a_meter_ends_with_its_checksum_behind_the_delimiter() {
    // DSMR 5.0.2 P1, 6.2: CRC16 (ARC) from `/` to `!`, four hex digits, high byte first.
    let telegram = "/ISk5\\2MT382-1000\r\n\r\n1-0:1.8.1(000671.578*kWh)\r\n!";
    let sum = crc::Crc::<u16>::new(&crc::CRC_16_ARC).checksum(telegram.as_bytes());
    let keys = "split = { by = 'delimiter', start = '/', end = '!', tail = 4 }
checksum = { kind = 'crc16_arc', written = 'hex' }";
    let body = telegram.trim_start_matches('/').trim_end_matches('!');
    let frame = format!("frame {}", text(body.as_bytes()));
    let bytes = format!("{telegram}{sum:04X}\r\n").repeat(2);
    check(keys, bytes.as_bytes(), &[&frame, &frame]);
}

#[test]
fn a_checksum_before_the_delimiter_is_no_part_of_what_is_read() {
    let keys = "split = { by = 'delimiter' }
checksum = { kind = 'xor8', written = 'hex', from = 1, gap = 1 }";
    check(keys, b"$GPHDT,274.07,T*03\r\n", &["frame $GPHDT,274.07,T"]);
}

#[test]
fn a_frame_that_is_too_long_costs_nothing_but_itself() {
    let line = "split = { by = 'delimiter', max_frame = '4 B' }";
    check(line, b"abcd\nabcdefgh\nij\n", &["frame abcd", "TooLong abcd of 9", "frame ij"]);
    let between = "split = { by = 'delimiter', start = '<', end = '>', max_frame = '4 B' }";
    check(between, b"<abcdef<gh>", &["TooLong <abc of 7", "frame gh"]);
}

#[test]
fn frames_of_a_length_are_found_again_by_their_start() {
    let keys = "split = { by = 'length', bytes = 4, start = '#' }
checksum = { kind = 'sum8' }";
    // The second has lost a byte, so that the third seems to begin in the midst of it.
    let bytes = b"#\x01\x02\x26#\x01\x26#\x03\x04\x2A#\x05\x06\x2E";
    let expected =
        [r"frame #\x01\x02&", r"Checksum #\x01& of 3", r"frame #\x03\x04*", r"frame #\x05\x06."];
    check(keys, bytes, &expected);
}

#[test]
fn a_frame_says_how_long_it_is() {
    let keys = r"split = { by = 'length_field', at = 1, start = '\xAA', max_frame = '9 B' }";
    let bytes = b"\xAA\x01a\xAA\xFFnonsense\xAA\x02bc\xAA\x00\xAA\x03d";
    let expected = [
        r"frame \xaa\x01a",
        r"Length \xaa\xffnonsens of 10",
        r"frame \xaa\x02bc",
        r"frame \xaa\x00",
        r"BrokeOff \xaa\x03d of 3",
    ];
    check(keys, bytes, &expected);
    let little = "split = { by = 'length_field', at = 0, size = 2, order = 'little', add = 0 }";
    check(little, b"\x03\x00a\x04\x00bc", &[r"frame \x03\x00a", r"frame \x04\x00bc"]);
}

#[test]
fn without_a_start_a_wrong_length_costs_all_up_to_the_next_pause() {
    let mut line = splitter("split = { by = 'length_field', at = 0, add = 1, max_frame = '4 B' }");
    let mut out = Vec::new();
    line.push(b"\x01a\xFFb\x01");
    drain(&mut line, &mut out);
    assert_eq!(line.pause(), Some(Duration::from_secs(1)));
    out.extend(line.paused());
    line.push(b"\x01c");
    drain(&mut line, &mut out);
    let expected = [r"frame \x01a", r"Length \xffb\x01 of 3", r"frame \x01c"];
    assert_eq!(out.iter().map(shown).collect::<Vec<_>>(), expected);
    assert_eq!(line.pause(), None);
}

#[test]
fn a_line_that_never_ends_a_frame_is_told_before_it_does() {
    let told = |keys: &str, bytes: &[u8]| {
        let mut line = splitter(keys);
        line.doubt(Why::Opening);
        let mut out = Vec::new();
        for byte in bytes.chunks(1) {
            line.push(byte);
            drain(&mut line, &mut out);
        }
        let is_whole = |piece: &Piece| matches!(piece, Piece::Skipped(it) if it.length == 256);
        assert!(out.iter().all(is_whole), "{keys}: {out:?}");
        let why = |piece: &Piece| shown(piece).split(' ').next().unwrap().to_owned();
        out.iter().map(why).collect::<Vec<_>>()
    };
    let bytes = b"17.3 kg\r".repeat(64);
    for (keys, why) in [
        ("split = { by = 'delimiter', max_frame = '64 B' }", "TooLong"),
        ("split = { by = 'length', bytes = 8 }", "OutOfStep"),
        ("split = { by = 'silence', silence = '20 ms', max_frame = '64 B' }", "TooLong"),
    ] {
        assert_eq!(told(keys, &bytes), [why, why], "{keys}");
    }
    let start = "split = { by = 'delimiter', start = '<', max_frame = '64 B' }";
    assert_eq!(told(start, &bytes), ["Outside", "Outside"]);
}

#[test]
fn starts_that_are_none_are_one_skip_and_not_one_each() {
    let between = "split = { by = 'delimiter', start = 'a', end = ';', max_frame = '4 B' }";
    check(between, b"aaaaaaaab;", &["TooLong aaaa of 7", "frame b"]);
    let sized = "split = { by = 'length', bytes = 3, start = 'a' }
checksum = { kind = 'sum8' }";
    check(sized, b"aaaaaaa\x01b", &["Checksum aaa of 6", r"frame a\x01b"]);
}

#[test]
fn a_frame_whose_checksum_is_right_may_have_the_byte_of_a_start_in_it() {
    let keys = r"split = { by = 'delimiter', start = '\x02', end = '\x03', tail = 1 }
checksum = { kind = 'xor8', from = 1 }";
    check(keys, b"\x02a\x02b\x03\x02", &[r"frame a\x02b"]);
}

#[test]
fn a_binary_checksum_may_end_with_the_byte_that_is_cut_off_lines() {
    let keys = "checksum = { kind = 'xor8' }";
    check(keys, b"ab\x03\n\x0C\x01\r\n", &["frame ab", r"frame \x0c\x01"]);
}

#[test]
fn a_half_line_is_given_up_after_a_pause() {
    let mut line = splitter("split = { by = 'delimiter', pause = '2 s' }");
    line.push(b"001");
    assert_eq!((line.next(), line.pause()), (None, Some(Duration::from_secs(2))));
    assert_eq!(line.paused().as_ref().map(shown).unwrap(), "BrokeOff 001 of 3");
    line.push(b"00130\n");
    assert_eq!(line.next().as_ref().map(shown).unwrap(), "frame 00130");
    assert_eq!(line.pause(), None);
}

#[test]
fn silence_ends_a_frame() {
    let mut line = splitter("split = { by = 'silence', silence = '20 ms', max_frame = '4 B' }");
    let mut out = Vec::new();
    for bytes in [&["a", "bc"][..], &["defg", "h", "i"], &[], &["j"]] {
        for bytes in bytes {
            line.push(bytes.as_bytes());
            drain(&mut line, &mut out);
        }
        out.extend(line.paused());
    }
    let expected = ["frame abc", "TooLong defg of 6", "frame j"];
    assert_eq!(out.iter().map(shown).collect::<Vec<_>>(), expected);
}

#[test]
fn what_comes_right_after_opening_is_no_frame_unless_it_has_a_start() {
    let doubted = |keys: &str, bytes: &[u8]| {
        let mut line = splitter(keys);
        line.doubt(Why::Opening);
        let out = cut(&mut line, [bytes]);
        out.iter().map(shown).collect::<Vec<_>>()
    };
    assert_eq!(doubted("", b"5.2\n12\n"), [r"Opening 5.2\n of 4", "frame 12"]);
    let between = "split = { by = 'delimiter', start = '<', end = '>' }";
    assert_eq!(doubted(between, b"<1><2>"), ["frame 1", "frame 2"]);
    assert_eq!(doubted(between, b"1><2>"), ["Opening 1> of 2", "frame 2"]);
    assert_eq!(doubted("split = { by = 'length', bytes = 2 }", b"abc"), ["Opening ab of 3"]);
}

/// Each way to cut, on bytes of few kinds, so that starts, ends and lengths occur.
const WAYS: [&str; 9] = [
    "split = { by = 'delimiter', end = ';', max_frame = '6 B' }",
    "split = { by = 'delimiter', end = ';a', max_frame = '6 B' }",
    "split = { by = 'delimiter', end = ';', tail = 2, max_frame = '6 B' }",
    "split = { by = 'delimiter', start = 'a', end = ';', max_frame = '6 B' }",
    "split = { by = 'delimiter', start = 'ab', end = ';;', tail = 1, max_frame = '6 B' }",
    "split = { by = 'length', bytes = 3 }",
    "split = { by = 'length', bytes = 3, start = 'ab' }\nchecksum = { kind = 'xor8', from = 1 }",
    r"split = { by = 'length_field', at = 1, start = 'a', add = 0, max_frame = '6 B' }",
    "split = { by = 'silence', silence = '20 ms', max_frame = '6 B' }",
];

/// The ways in which every byte is in a frame or told.
const WITH_A_START: [&str; 4] = [WAYS[3], WAYS[4], WAYS[6], WAYS[7]];

fn bytes() -> impl Strategy<Value = Vec<u8>> {
    let few = prop_oneof![
        4 => prop::sample::select(b"ab;".to_vec()),
        1 => prop::sample::select(vec![1_u8, 2, 3, 4, 5, b'\n']),
    ];
    prop::collection::vec(few, 0..60)
}

proptest! {
    #[test]
    fn the_same_bytes_give_the_same_frames_in_whatever_pieces_they_come(
        bytes in bytes(),
        sizes in prop::collection::vec(1_usize..9, 60),
        doubt: bool,
    ) {
        for keys in WAYS {
            let fresh = || {
                let mut line = splitter(keys);
                if doubt {
                    line.doubt(Why::Opening);
                }
                line
            };
            let whole = cut(&mut fresh(), [&bytes[..]]);
            let single = cut(&mut fresh(), bytes.chunks(1));
            prop_assert_eq!(&single, &whole, "{}", keys);
            let mut rest = &bytes[..];
            let pieces = sizes.iter().map_while(|size| {
                let (piece, behind) = rest.split_at_checked(*size.min(&rest.len()))?;
                rest = behind;
                (!piece.is_empty()).then_some(piece)
            });
            prop_assert_eq!(&cut(&mut fresh(), pieces.collect::<Vec<_>>()), &whole, "{}", keys);
        }
    }

    #[test]
    fn no_byte_is_passed_over_in_silence(
        bytes in prop::collection::vec(prop::sample::select(b"ab;\x03\x04".to_vec()), 0..60),
    ) {
        for keys in WITH_A_START {
            let out = cut(&mut splitter(keys), [&bytes[..]]);
            let told: usize = out
                .iter()
                .map(|piece| match piece {
                    Piece::Frame(frame) => frame.bytes().len(),
                    Piece::Skipped(skipped) => usize::try_from(skipped.length).unwrap(),
                })
                .sum();
            prop_assert_eq!(told, bytes.len(), "{}", keys);
        }
    }

    #[test]
    fn any_bytes_are_cut(bytes: Vec<u8>) {
        for keys in WAYS {
            let _pieces = cut(&mut splitter(keys), [&bytes[..]]);
        }
    }
}
