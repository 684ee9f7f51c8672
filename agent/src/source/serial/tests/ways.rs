//! On pseudo-terminals and on real sockets.

use std::sync::Arc;

use tokio::net::TcpListener;

use super::*;
use crate::collect::TestCommits;
use crate::source::port::pty::Pty;

/// Frames with a start, so that the first one counts however soon it comes.
const BETWEEN: &str = r"split = { by = 'delimiter', start = '\x02', end = '\x03' }";

async fn event(commits: &mut TestCommits) -> Event {
    let (ticket, mut delivery) = commits.deliveries.recv().await.expect("the source runs");
    commits.commit(ticket);
    assert_eq!((delivery.events.len(), delivery.dead.len()), (1, 0), "{delivery:?}");
    delivery.events.remove(0)
}

fn text(value: &str) -> Vec<(&'static str, Value)> {
    vec![("value", Value::Text(value.into()))]
}

#[tokio::test]
async fn an_adapter_that_was_unplugged_is_read_again_when_it_is_back() {
    let folder = tempfile::tempdir().unwrap();
    let path = Pty::path(folder.path()).display().to_string();
    let mut bench = bench(&path, BETWEEN);
    let (mut intake, mut commits) = Intake::for_test(64);
    for round in ["one", "two"] {
        let mut pty = Pty::plug(folder.path());
        let mut up = bench.link.watch();
        let script = async {
            up.wait_for(|state| state.up).await.unwrap();
            pty.master.write_all(format!("\x02{round}\x03").as_bytes()).await.unwrap();
            assert_eq!(values(&event(&mut commits).await), text(round));
            drop(pty);
        };
        let run = bench.source.run(&mut intake, &mut bench.link, &bench.stop);
        let (end, ()) = tokio::join!(run, script);
        assert_eq!(end.unwrap_err().to_string(), format!("{path} is gone"));
    }
    let end = bench.source.run(&mut intake, &mut bench.link, &bench.stop).await;
    assert_eq!(end.unwrap_err().to_string(), format!("cannot open {path}"));
    assert!(commits.deliveries.try_recv().is_err(), "who only listens has nothing to say");
}

#[tokio::test]
async fn a_device_that_is_asked_and_gone_has_no_values_once() {
    let folder = tempfile::tempdir().unwrap();
    let path = Pty::path(folder.path()).display().to_string();
    let keys = format!("{BETWEEN}\nrequest = '?'\ninterval = '1 h'\ntimeout = '30 s'");
    let mut bench = bench(&path, &keys);
    let (mut intake, mut commits) = Intake::for_test(64);
    let mut pty = Pty::plug(folder.path());
    let script = async {
        let mut asked = [0];
        pty.master.read_exact(&mut asked).await.unwrap();
        assert_eq!(&asked, b"?");
        pty.master.write_all(b"\x027\x03").await.unwrap();
        assert_eq!(values(&event(&mut commits).await), text("7"));
        drop(pty);
        let silence = event(&mut commits).await;
        assert_eq!(values(&silence), [("value", Value::Null)]);
        assert_eq!(silence.quality, Quality::Timeout);
    };
    let run = bench.source.run(&mut intake, &mut bench.link, &bench.stop);
    assert!(tokio::join!(run, script).0.is_err());
    assert!(bench.source.run(&mut intake, &mut bench.link, &bench.stop).await.is_err());
    assert!(commits.deliveries.try_recv().is_err());
}

#[tokio::test]
async fn a_device_server_is_read_and_read_again_after_it_closed_the_connection() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap().to_string();
    let mut bench = bench(&address, BETWEEN);
    let (mut intake, mut commits) = Intake::for_test(64);
    for round in ["one", "two"] {
        let script = async {
            let (mut stream, _) = listener.accept().await.unwrap();
            stream.write_all(format!("\x02{round}\x03").as_bytes()).await.unwrap();
            assert_eq!(values(&event(&mut commits).await), text(round));
        };
        let run = bench.source.run(&mut intake, &mut bench.link, &bench.stop);
        let (end, ()) = tokio::join!(run, script);
        assert_eq!(end.unwrap_err().to_string(), format!("{address} closed the connection"));
    }
    let stop = Arc::new(bench.stop.clone());
    let script = async {
        let _held = listener.accept().await.unwrap();
        stop.cancel();
    };
    let run = bench.source.run(&mut intake, &mut bench.link, &bench.stop);
    assert!(tokio::join!(run, script).0.is_ok());
}
