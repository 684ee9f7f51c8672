//! The same over real sockets and pseudo-terminals, in real time: what comes of bytes in a
//! kernel's hands, at its pace and in its pieces.

use super::*;
use crate::source::port::pty::Pty;

/// Buses of each way. A request that was not answered rests, and so there are many.
const BUSES: u64 = 16;

/// Answers with a fault on each: 2,048 on those of all four ways.
const OF_EACH: u64 = 32;

/// One bus after the other until enough of its answers were faulty; all of a way at once.
async fn ways(way: Way, seeds: std::ops::Range<u64>) -> Vec<Result<u64, String>> {
    let mut running = tokio::task::JoinSet::new();
    for seed in seeds {
        let local = async move {
            let folder = tempfile::tempdir().unwrap();
            let (mut listener, address) = if way.is_port() {
                let pty = Pty::plug(folder.path());
                let path = Pty::path(folder.path()).to_str().unwrap().to_owned();
                (Listener::Terminal(Some(pty)), path)
            } else {
                let (listener, address) = listen().await;
                (Listener::Tcp(listener), address)
            };
            let (mut bench, mut commits) = bench(&address, &way.devices("100 ms"));
            let mut bus = Bus::new(way, Chance::of(seed), OF_EACH);
            bus.rate = 400;
            let end = read_all(&mut bench, &mut commits, &mut bus, &mut listener).await;
            end.map_err(|wrong| format!("{way:?}, bus {seed}: {wrong}"))?;
            println!("{way:?}, bus {seed}: {} good values, {:?}", bus.judge.good(), bus.tally);
            (bus.judge.good() > 0).then_some(()).ok_or("nothing was ever good")?;
            Ok(bus.faults())
        };
        running.spawn(local);
    }
    running.join_all().await
}

#[tokio::test]
async fn on_sockets_and_terminals_no_faulty_answer_gives_a_wrong_value() {
    let way = |framing, end| Way { framing, end, real: true, refuses: false };
    let (tcp, over_tcp, rtu, ascii) = tokio::join!(
        ways(way(Framing::Tcp, End::Host), 0..BUSES),
        ways(way(Framing::Rtu, End::Host), 100..100 + BUSES),
        ways(way(Framing::Rtu, End::Port), 200..200 + BUSES),
        ways(way(Framing::Ascii, End::Port), 300..300 + BUSES),
    );
    let all = [tcp, over_tcp, rtu, ascii].into_iter().flatten();
    let (right, wrong): (Vec<_>, Vec<_>) = all.partition(Result::is_ok);
    assert_eq!(wrong, []);
    assert!(right.into_iter().flatten().sum::<u64>() >= 2_000);
}
