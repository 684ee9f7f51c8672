//! The source at work: over restarts, locks, full queues and vanished files.

use super::*;

/// Lets the source run until `enough` says so of a delivery, then stops it.
async fn run_until(
    source: &mut Source,
    commits: &mut TestCommits,
    intake: &mut Intake,
    mut enough: impl FnMut(Ticket, &Delivery) -> bool,
) {
    let stop = CancellationToken::new();
    let mut link = Link::new("m".into());
    let watch = async {
        while let Some((ticket, delivery)) = commits.deliveries.recv().await {
            if enough(ticket, &delivery) {
                break;
            }
        }
        stop.cancel();
    };
    let (ended, ()) = tokio::join!(source.run(intake, &mut link, &stop), watch);
    ended.unwrap();
}

fn cursor_of(delivery: &Delivery) -> Arc<[u8]> {
    match delivery.checkpoint.as_ref().unwrap() {
        Checkpoint::Cursor(bytes) => Arc::clone(bytes),
        Checkpoint::Session(_) => panic!("a table has a cursor"),
    }
}

#[tokio::test(start_paused = true)]
async fn a_restart_goes_on_behind_the_last_committed_delivery() {
    let machine = Machine::new(PLAIN);
    machine.run("INSERT INTO t VALUES (1,0),(2,0),(3,0),(4,0),(5,0)");
    let keys = json!({"batch": 2});
    let (mut intake, mut commits) = Intake::for_test(1);
    let mut committed = None;
    let mut rows = Vec::new();
    let mut first = machine.source(&keys, None);
    run_until(&mut first, &mut commits, &mut intake, |ticket, delivery| {
        if ticket == Ticket(1) {
            rows.extend(numbers(&delivery.events, "id"));
            committed = Some(cursor_of(delivery));
        }
        ticket == Ticket(2)
    })
    .await;
    assert_eq!(rows, [1, 2]);

    // The second delivery was never committed: its rows come again.
    let (mut intake, mut commits) = Intake::for_test(1);
    let mut second = machine.source(&keys, committed.as_deref());
    run_until(&mut second, &mut commits, &mut intake, |_, delivery| {
        rows.extend(numbers(&delivery.events, "id"));
        rows.len() == 5
    })
    .await;
    assert_eq!(rows, [1, 2, 3, 4, 5]);
}

#[tokio::test(start_paused = true)]
async fn a_lock_and_a_full_queue_are_waited_out() {
    let machine = Machine::new(PLAIN);
    machine.run("BEGIN EXCLUSIVE; INSERT INTO t VALUES (1,0),(2,0),(3,0)");
    let (mut intake, mut commits) = Intake::for_test(1);
    let mut source = machine.source(&json!({"batch": 1}), None);
    let mut rows = Vec::new();
    let unlock = async {
        // Three looks fall into this pause of the clock, all before the lock.
        tokio::time::sleep(Duration::from_millis(2_500)).await;
        machine.run("COMMIT");
    };
    let reading = run_until(&mut source, &mut commits, &mut intake, |_, delivery| {
        rows.extend(numbers(&delivery.events, "id"));
        rows.len() == 3
    });
    tokio::join!(unlock, reading);
    assert_eq!(rows, [1, 2, 3]);
}

/// Lets a source stand still for a while; gives what it says of that.
async fn said_while_it_stands(mut source: Source) -> Vec<String> {
    let (mut intake, mut commits) = Intake::for_test(1);
    let (stop, mut link) = (CancellationToken::new(), Link::new("m".into()));
    tokio::select! {
        _ = source.run(&mut intake, &mut link, &stop) => panic!("it must stand still"),
        () = tokio::time::sleep(Duration::from_mins(1)) => {}
    }
    assert!(commits.deliveries.try_recv().is_err(), "nothing is skipped or repeated");
    link.faults().into_values().collect()
}

#[tokio::test(start_paused = true)]
async fn a_source_whose_cursor_belongs_to_another_definition_stands_still() {
    let machine = Machine::new("CREATE TABLE t (id INTEGER, at INTEGER)");
    machine.run("INSERT INTO t VALUES (1,1)");
    let saved =
        Place::Start.save(machine.source(&json!({"cursor": ["at"]}), None).job.definition, None);
    let source = machine.source(&json!({}), Some(&saved));
    assert_eq!(source.place, Err(Unusable::OtherDefinition));
    assert_eq!(said_while_it_stands(source).await, [Unusable::OtherDefinition.to_string()]);
}

#[tokio::test(start_paused = true)]
async fn a_source_whose_cursor_is_lost_with_a_damaged_buffer_stands_still_and_says_so() {
    let machine = Machine::new(PLAIN);
    machine.run("INSERT INTO t VALUES (1,0)");
    let clock = Clock::fixed(NOW);
    let mut flows = Flows::default();
    let setup = Setup { gateway: "gw", flows: &mut flows, clock, saved: None, lost: true };
    let source = Source::new(&machine.config(&json!({})), setup);
    assert_eq!(said_while_it_stands(source).await, [Unusable::Lost.to_string()]);
}

#[tokio::test(start_paused = true)]
async fn a_file_that_comes_back_is_read_on_where_it_was_left() {
    let machine = Machine::new(PLAIN);
    machine.run("INSERT INTO t VALUES (1,0)");
    let (mut intake, mut commits) = Intake::for_test(1);
    let mut source = machine.source(&json!({}), None);
    let (stop, mut link) = (CancellationToken::new(), Link::new("m".into()));
    let away = machine.dir.path().join("away.db");
    let vanish = async {
        let (_, delivery) = commits.deliveries.recv().await.unwrap();
        assert_eq!(numbers(&delivery.events, "id"), [1]);
        std::fs::rename(machine.path(), &away).unwrap();
    };
    let (ended, ()) = tokio::join!(source.run(&mut intake, &mut link, &stop), vanish);
    let error = ended.unwrap_err().to_string();
    assert_eq!(error, format!("the database {} is not there", machine.path().display()));
    std::fs::rename(&away, machine.path()).unwrap();
    machine.run("INSERT INTO t VALUES (2,0)");
    let mut rows = Vec::new();
    run_until(&mut source, &mut commits, &mut intake, |_, delivery| {
        rows.extend(numbers(&delivery.events, "id"));
        true
    })
    .await;
    assert_eq!(rows, [2]);
}

#[tokio::test]
async fn a_stop_ends_a_read_that_has_no_end() {
    let machine = Machine::new(PLAIN);
    let endless =
        "WITH RECURSIVE c(id) AS (SELECT 1 UNION ALL SELECT id + 1 FROM c) SELECT id FROM c";
    let mut source = machine.source(&json!({"query": endless}), None);
    let (mut intake, _commits) = Intake::for_test(1);
    let (stop, mut link) = (CancellationToken::new(), Link::new("m".into()));
    let after_its_begin = async {
        for _ in 0..10 {
            tokio::task::yield_now().await;
        }
        stop.cancel();
    };
    let (ended, ()) = tokio::join!(source.run(&mut intake, &mut link, &stop), after_its_begin);
    ended.unwrap();
}

/// One thing that happens to a machine and its agent.
#[derive(Debug, Clone)]
enum Step {
    /// A transaction of the machine: rows with these increments of the key.
    Write(Vec<u8>),
    /// A page is read and handed over.
    Read,
    /// Everything handed over is committed.
    Commit,
    /// The agent is killed and starts with what was committed last.
    Crash,
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let step = prop_oneof![
        3 => prop::collection::vec(0_u8..3, 1..12).prop_map(Step::Write),
        5 => Just(Step::Read),
        2 => Just(Step::Commit),
        1 => Just(Step::Crash),
    ];
    prop::collection::vec(step, 1..40)
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 48, fork: false, ..ProptestConfig::default() })]

    #[test]
    fn every_row_comes_exactly_once_in_order(steps in steps(), batch in 1_u32..8) {
        let machine = Machine::new(
            "PRAGMA journal_mode = MEMORY; PRAGMA synchronous = OFF;
             CREATE TABLE t (n INTEGER PRIMARY KEY, a INTEGER, b TEXT); CREATE INDEX i ON t (a, b)",
        );
        let keys = json!({"cursor": ["a", "b"], "batch": batch});
        let start = |saved: Option<&[u8]>| Hand::open(&machine.source(&keys, saved));
        let definition = machine.source(&keys, None).job.definition;
        let (mut hand, mut key, mut written) = (start(None), 0_i64, 0_i64);
        let mut committed: Vec<i64> = Vec::new();
        let (mut saved, mut pending): (Option<Vec<u8>>, Vec<i64>) = (None, Vec::new());
        for step in steps.into_iter().chain([Step::Crash]) {
            match step {
                Step::Write(increments) => {
                    let mut rows = Vec::new();
                    // The first of a transaction is greater than all before it.
                    key += 1;
                    for increment in increments {
                        key += i64::from(increment);
                        written += 1;
                        rows.push(format!("({written}, {}, '{}')", key / 10, key % 10));
                    }
                    machine.run(&format!("INSERT INTO t VALUES {}", rows.join(",")));
                }
                Step::Read => {
                    let page = hand.page().map_err(said).unwrap();
                    pending.extend(numbers(&page.events, "n"));
                }
                Step::Commit => {
                    committed.append(&mut pending);
                    saved = Some(hand.place.save(definition, hand.database));
                }
                Step::Crash => {
                    pending.clear();
                    hand = start(saved.as_deref());
                }
            }
        }
        committed.extend(hand.column("n"));
        prop_assert_eq!(committed, (1..=written).collect::<Vec<_>>());
    }
}
