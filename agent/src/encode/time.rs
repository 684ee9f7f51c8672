//! Dates and times as text, without a time zone database: all is UTC.

use crate::event::Timestamp;

const NANOS_PER_DAY: i64 = 86_400_000_000_000;
const MILLIS_PER_DAY: i64 = 86_400_000;

/// Days since 1970-01-01 → year, month, day of the proleptic Gregorian
/// calendar (Howard Hinnant, "chrono-Compatible Low-Level Date Algorithms").
fn civil(days: i64) -> (i64, i64, i64) {
    let z = days + 719_468;
    let era = z.div_euclid(146_097);
    let day_of_era = z.rem_euclid(146_097);
    let year_of_era =
        (day_of_era - day_of_era / 1_460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let shifted = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * shifted + 2) / 5 + 1;
    let month = if shifted < 10 { shifted + 3 } else { shifted - 9 };
    (year_of_era + era * 400 + i64::from(month <= 2), month, day)
}

/// The first instant of the UTC month and of the next one, in epoch
/// milliseconds.
pub(super) fn month_of(millis: i64) -> (i64, i64) {
    let days = millis.div_euclid(MILLIS_PER_DAY);
    let (year, month, day) = civil(days);
    let leap = year % 4 == 0 && (year % 100 != 0 || year % 400 == 0);
    let length = match month {
        2 if leap => 29,
        2 => 28,
        4 | 6 | 9 | 11 => 30,
        _ => 31,
    };
    let first = (days - (day - 1)) * MILLIS_PER_DAY;
    (first, first + length * MILLIS_PER_DAY)
}

fn digits(value: i64, width: usize, out: &mut Vec<u8>) {
    let mut buffer = itoa::Buffer::new();
    let text = buffer.format(value);
    out.extend(std::iter::repeat_n(b'0', width.saturating_sub(text.len())));
    out.extend_from_slice(text.as_bytes());
}

/// `YYYY-MM-DD`; a year outside 0000–9999 has its sign and all its digits.
pub(super) fn date(days: i64, out: &mut Vec<u8>) {
    let (year, month, day) = civil(days);
    if year < 0 {
        out.push(b'-');
    } else if year > 9_999 {
        out.push(b'+');
    }
    digits(year.abs(), 4, out);
    out.push(b'-');
    digits(month, 2, out);
    out.push(b'-');
    digits(day, 2, out);
}

/// `HH:MM:SS.fffffffff`. What is beyond a day (no clock shows it) counts on in
/// hours, so that the value stays recognisable.
pub(super) fn time_of_day(nanos: u64, out: &mut Vec<u8>) {
    let seconds = nanos / 1_000_000_000;
    for (value, width, sep) in [
        (seconds / 3_600, 2, b':'),
        (seconds / 60 % 60, 2, b':'),
        (seconds % 60, 2, b'.'),
        (nanos % 1_000_000_000, 9, b' '),
    ] {
        digits(i64::try_from(value).unwrap_or(i64::MAX), width, out);
        if sep != b' ' {
            out.push(sep);
        }
    }
}

/// `YYYY-MM-DDTHH:MM:SS.fffffffff`, without a zone.
pub(super) fn date_time(time: Timestamp, out: &mut Vec<u8>) {
    date(time.0.div_euclid(NANOS_PER_DAY), out);
    out.push(b'T');
    time_of_day(time.0.rem_euclid(NANOS_PER_DAY).unsigned_abs(), out);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn months_begin_where_the_calendar_says() {
        assert_eq!(month_of(1_767_225_600_123), (1_767_225_600_000, 1_769_904_000_000));
        // 29 February 2024
        assert_eq!(month_of(1_709_210_000_000), (1_706_745_600_000, 1_709_251_200_000));
        assert_eq!(month_of(-1), (-2_678_400_000, 0));
    }

    #[test]
    fn dates_far_away_are_right() {
        let text = |days| {
            let mut out = Vec::new();
            date(days, &mut out);
            String::from_utf8(out).unwrap()
        };
        assert_eq!(text(0), "1970-01-01");
        assert_eq!(text(-719_528), "0000-01-01");
        assert_eq!(text(-719_529), "-0001-12-31");
        assert_eq!(text(19_782), "2024-02-29");
        assert_eq!(text(2_932_897), "+10000-01-01");
    }
}
