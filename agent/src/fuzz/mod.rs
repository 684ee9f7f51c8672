//! Every decoder under any bytes: `Ok` or `Err`, never a panic, never without end.
//!
//! A target is one call of [`check`] in a test of a module that is called `fuzz`: its
//! name, and what reads the bytes. With every run of the tests it takes each file of its
//! corpus (`agent/fuzz/NAME/`: frames of the documentation and of other tests, and what
//! once went wrong), [`CASES`] changed ones, the same each time, and any bytes and texts
//! that proptest thinks of.
//!
//! `make fuzz` (and `make test-long`) runs each for `FUZZ_SECONDS`, built so that it is
//! counted which branches an input takes ([`coverage`]): one that takes another is changed
//! further, and kept in `target/fuzz/NAME/` for the next run. What a decoder stumbles over
//! is written into its corpus, so that every later run of the tests takes it first.
//!
//! Not libFuzzer, AFL or bolero (ARCHITECTURE.md): the counters are LLVM's, come with a
//! stable compiler, and are only built into the agent itself.

mod coverage;
mod mutate;

use std::cell::RefCell;
use std::fs;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use proptest::prelude::*;
use proptest::test_runner::{Config, TestCaseError, TestError, TestRunner};

use crate::forward::simulator::chance::Chance;
use coverage::Coverage;
use mutate::mutate;

/// Changed inputs of each target with every run of the tests: a second for all together.
const CASES: u64 = 2_000;

/// Reading one input takes microseconds; nothing may be made to compute for this long.
const LONGEST: Duration = Duration::from_secs(5);

/// For so many milliseconds a shorter input that goes wrong is looked for.
const SHORTENING: u32 = 60_000;

/// What this thread has computed: a busy machine makes nobody slow by it.
fn computed() -> Duration {
    let spent = rustix::time::clock_gettime(rustix::time::ClockId::ThreadCPUTime);
    Duration::try_from(spent).unwrap_or_default()
}

/// Gives the target `name` all inputs that this run has for it.
pub(crate) fn check(name: &str, read: impl FnMut(&[u8])) {
    let corpus = Path::new(env!("CARGO_MANIFEST_DIR")).join("fuzz").join(name);
    let found = Path::new(env!("CARGO_MANIFEST_DIR")).join("../target/fuzz").join(name);
    let mut inputs = files(&corpus);
    assert!(!inputs.is_empty(), "{name} has no corpus: put a few inputs in {}", corpus.display());
    let mut target = Target { name, corpus, longest: LONGEST, read };
    for input in &inputs {
        target.take(input);
    }
    let seconds = std::env::var("FUZZ_SECONDS").ok().filter(|text| !text.is_empty());
    let Some(seconds) = seconds else {
        let mut chance = Chance::of(0);
        for _ in 0..CASES {
            target.take(&mutate(&inputs, &mut chance));
        }
        return target.take_any();
    };
    let seconds = seconds.parse().expect("FUZZ_SECONDS is a number");
    inputs.extend(files(&found));
    target.search(Coverage::begin(), inputs, &found, Duration::from_secs(seconds));
}

struct Target<'n, R> {
    name: &'n str,
    corpus: PathBuf,
    /// [`LONGEST`], but in tests of this.
    longest: Duration,
    read: R,
}

impl<R: FnMut(&[u8])> Target<'_, R> {
    /// Any bytes, and any text; the shortest of those that go wrong.
    fn take_any(&mut self) {
        let bytes = prop_oneof![
            prop::collection::vec(any::<u8>(), 0..300),
            ".{0,60}".prop_map(String::into_bytes),
        ];
        let config =
            Config { failure_persistence: None, max_shrink_time: SHORTENING, ..Config::default() };
        let target = RefCell::new(&mut *self);
        let end = TestRunner::new(config).run(&bytes, |bytes| {
            let wrong = target.borrow_mut().wrong(&bytes);
            wrong.map_or(Ok(()), |wrong| Err(TestCaseError::fail(wrong)))
        });
        match end {
            // Not read once more: what goes wrong only now and then might go well.
            Err(TestError::Fail(wrong, shortest)) => self.keep(&shortest, wrong.message()),
            end => end.unwrap(),
        }
    }

    /// Changes inputs and keeps those that reach what none before has reached.
    fn search(
        &mut self,
        mut coverage: Coverage,
        mut inputs: Vec<Vec<u8>>,
        found: &Path,
        time: Duration,
    ) {
        assert!(coverage.branches() > 0, "nothing counts branches: run `make fuzz`");
        for input in &inputs {
            coverage.clear();
            self.take(input);
            coverage.is_new();
        }
        let (begin, known) = (Instant::now(), inputs.len());
        // Each run goes other ways; one that fails is told by its bytes.
        let mut chance = Chance::of(std::process::id().into());
        let mut count = 0_u64;
        while begin.elapsed() < time {
            let input = mutate(&inputs, &mut chance);
            coverage.clear();
            self.take(&input);
            count += 1;
            if coverage.is_new() {
                fs::create_dir_all(found).unwrap();
                fs::write(found.join(named(&input)), &input).unwrap();
                inputs.push(input);
            }
        }
        println!(
            "fuzz {}: {count} inputs, {known} known and {} found, {} branches of {}",
            self.name,
            inputs.len() - known,
            coverage.reached(),
            coverage.branches()
        );
    }

    /// Reads one input; what goes wrong with it goes into the corpus.
    fn take(&mut self, input: &[u8]) {
        if let Some(wrong) = self.wrong(input) {
            self.keep(input, &wrong);
        }
    }

    /// What goes wrong with an input, in words.
    fn wrong(&mut self, input: &[u8]) -> Option<String> {
        let begin = computed();
        let end = catch_unwind(AssertUnwindSafe(|| (self.read)(input)));
        let took = computed().saturating_sub(begin);
        match end {
            Ok(()) => (took >= self.longest).then(|| format!("takes {took:?}")),
            Err(_) => Some("panics".to_owned()),
        }
    }

    fn keep(&self, input: &[u8], wrong: &str) -> ! {
        let path = self.corpus.join(named(input));
        fs::write(&path, input).unwrap();
        panic!(
            "{} {wrong} with {} (again: cargo test -p tidegate --lib fuzz::)",
            self.name,
            path.display()
        );
    }
}

/// The same bytes have the same name.
fn named(input: &[u8]) -> String {
    format!("{:016x}", twox_hash::XxHash64::oneshot(0, input))
}

/// In the order of their names, so that a run can be repeated.
fn files(folder: &Path) -> Vec<Vec<u8>> {
    let Ok(entries) = fs::read_dir(folder) else { return Vec::new() };
    let mut paths: Vec<_> = entries.map(|entry| entry.unwrap().path()).collect();
    paths.sort();
    paths.into_iter().map(|path| fs::read(path).unwrap()).collect()
}

/// What the bytes are as text.
pub(crate) fn text(bytes: &[u8]) -> std::borrow::Cow<'_, str> {
    String::from_utf8_lossy(bytes)
}

/// The bytes before and behind the first newline: for what reads one thing by another.
pub(crate) fn halves(bytes: &[u8]) -> (&[u8], &[u8]) {
    let at = bytes.iter().position(|byte| *byte == b'\n').unwrap_or(bytes.len());
    (&bytes[..at], bytes.get(at + 1..).unwrap_or_default())
}

/// One of those below.
fn stumbles<R: FnMut(&[u8])>(folder: &Path, read: R) -> Target<'static, R> {
    Target { name: "stumbles", corpus: folder.to_owned(), longest: LONGEST, read }
}

#[test]
#[should_panic(expected = "stumbles panics with")]
fn a_panic_is_found_told_and_kept() {
    let folder = tempfile::tempdir().unwrap();
    let mut target = stumbles(folder.path(), |bytes| assert_ne!(bytes, b"five"));
    target.take(b"four");
    assert!(files(folder.path()).is_empty());
    let found = catch_unwind(AssertUnwindSafe(|| target.take(b"five")));
    assert_eq!(files(folder.path()), [b"five"]);
    std::panic::resume_unwind(found.unwrap_err());
}

#[test]
#[should_panic(expected = "stumbles panics with")]
fn of_any_bytes_that_go_wrong_the_shortest_are_kept() {
    let folder = tempfile::tempdir().unwrap();
    let mut target = stumbles(folder.path(), |bytes| assert!(bytes.len() < 5));
    let found = catch_unwind(AssertUnwindSafe(|| target.take_any()));
    assert_eq!(files(folder.path()).iter().map(Vec::len).collect::<Vec<_>>(), [5]);
    std::panic::resume_unwind(found.unwrap_err());
}

#[test]
#[should_panic(expected = "stumbles panics with")]
fn any_bytes_that_go_wrong_but_once_are_told_too() {
    let folder = tempfile::tempdir().unwrap();
    let mut is_first = true;
    let read = |_: &[u8]| assert!(!std::mem::take(&mut is_first));
    stumbles(folder.path(), read).take_any();
}

#[test]
#[should_panic(expected = "stumbles takes ")]
fn any_bytes_that_take_too_long_are_told() {
    let folder = tempfile::tempdir().unwrap();
    let read = |bytes: &[u8]| {
        let end = computed() + Duration::from_millis(4);
        while bytes.len() > 4 && computed() < end {}
    };
    let longest = Duration::from_millis(2);
    Target { longest, ..stumbles(folder.path(), read) }.take_any();
}

#[test]
#[should_panic(expected = "nothing counts branches")]
fn a_search_that_sees_no_branches_is_none() {
    let folder = tempfile::tempdir().unwrap();
    let mut target = stumbles(folder.path(), |_| ());
    target.search(Coverage::of(0, 0), Vec::new(), folder.path(), Duration::ZERO);
}
