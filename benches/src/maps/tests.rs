//! The plan as it is now against what was measured. Telegraf is not asked: its requests
//! are in the file, by version.

use super::bus;
use super::map::{Case, Way};
use super::record::Record;

/// A line that nobody has.
fn line() -> Way {
    Way::Line("/dev/ttyS9".to_owned())
}

/// Each map with what was measured of it.
fn pairs() -> Vec<(Case, super::record::Case)> {
    let (cases, kept) = (Case::all(), Record::kept().cases);
    assert_eq!(cases.len(), kept.len(), "make bench ARGS=\"maps --record\"");
    let pairs: Vec<_> = cases.into_iter().zip(kept).collect();
    for (case, kept) in &pairs {
        assert_eq!((case.title(), case.registers.len()), (kept.title.clone(), kept.values));
    }
    pairs
}

#[test]
fn over_tcp_no_optimisation_of_telegraf_needs_fewer_requests() {
    for (case, kept) in pairs() {
        let planned = bus::requests(&case.outline(&Way::Tcp)).len();
        assert_eq!(planned, kept.over_tcp, "{}", kept.title);
        for setting in &kept.telegraf {
            assert!(planned <= setting.read.requests.len(), "{}: {setting:?}", kept.title);
        }
    }
}

#[test]
fn on_a_line_no_optimisation_of_telegraf_takes_less_time_nor_its_quickest_fewer_requests() {
    for (case, kept) in pairs() {
        let planned = bus::requests(&case.outline(&line()));
        for setting in &kept.telegraf {
            let (ours, theirs) = (bus::cycle(&planned), setting.read.reckoned());
            assert!(ours <= theirs, "{}: {ours:?}, {setting:?} {theirs:?}", kept.title);
        }
        let quickest = kept.quickest();
        assert!(planned.len() <= quickest.read.requests.len(), "{}: {quickest:?}", kept.title);
    }
}

#[test]
fn where_holes_are_wide_the_fewest_requests_take_more_time_than_the_plan() {
    let wide = pairs().into_iter().filter(|(case, kept)| {
        let planned = bus::requests(&case.outline(&line()));
        planned.len() > kept.fewest().read.requests.len()
    });
    let wide: Vec<_> = wide.collect();
    assert!(wide.len() >= 2, "the maps have wide holes");
    for (case, kept) in wide {
        let ours = bus::cycle(&bus::requests(&case.outline(&line())));
        let fewest = kept.fewest();
        assert!(ours < fewest.read.reckoned(), "{}: {fewest:?}", kept.title);
    }
}

#[test]
fn what_was_measured_is_the_plan_as_it_is_and_wide_holes_took_longer() {
    for (case, kept) in pairs() {
        let planned = bus::requests(&case.outline(&line()));
        assert_eq!(planned, kept.tidegate.requests, "{}: measure it anew", kept.title);
        let fewest = kept.fewest();
        if planned.len() > fewest.read.requests.len() {
            let (ours, theirs) = (kept.tidegate.took_ms, fewest.read.took_ms);
            assert!(ours < theirs, "{}: {ours} ms, {fewest:?}", kept.title);
        }
    }
}

#[test]
fn the_plan_reckons_as_the_bench_does() {
    for case in Case::all() {
        let outline = case.outline(&line());
        let estimated = outline.groups.iter().map(tidegate::source::modbus::Planned::time).sum();
        let off = bus::cycle(&bus::requests(&outline)).abs_diff(estimated);
        // Each of the few times is rounded to a nanosecond.
        assert!(off < std::time::Duration::from_micros(1), "{}: {off:?}", case.title());
    }
}

#[test]
fn the_documentation_shows_what_was_measured() {
    let docs = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/modbus.md");
    let docs = std::fs::read_to_string(docs).expect("it is there");
    let table = Record::kept().table();
    assert!(docs.contains(&table), "docs/modbus.md has another table than\n{table}");
}
