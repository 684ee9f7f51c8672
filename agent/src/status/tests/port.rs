//! Who comes to the port, and in which shape.

use std::time::Duration;

use hyper::Request;
use tokio::time::Instant;

use super::*;
use crate::status::answer::Desk;
use crate::status::serve::{AGAIN, PATIENCE};

async fn is_served(address: SocketAddr) -> bool {
    get(address, "/healthz").await.status == 200
}

#[tokio::test]
async fn another_path_or_method_is_refused_and_told_what_there_is() {
    let bench = Bench::new();
    let (address, _tasks) = bench.serve();
    for path in ["/", "/metrics/", "/healthz/../etc", "*"] {
        let answer = get(address, path).await;
        assert_eq!(answer.status, 404, "{path}");
        for known in ["/metrics", "/healthz", "/readyz"] {
            assert!(answer.body.contains(known), "{}", answer.body);
        }
    }
    for method in ["POST", "PUT", "DELETE", "OPTIONS", "BREW"] {
        let request =
            format!("{method} /metrics HTTP/1.1\r\nHost: gw\r\nContent-Length: 0\r\n\r\n");
        let answer = Answer::of(&say(address, &request).await);
        assert_eq!(answer.status, 405, "{method}");
        assert!(answer.head.contains("allow: get, head"), "{}", answer.head);
    }
    assert_eq!(get(address, "/healthz?verbose=1").await.status, 200);
}

#[tokio::test]
async fn a_head_is_the_answer_without_its_body() {
    let bench = Bench::new();
    let (address, _tasks) = bench.serve();
    let whole = get(address, "/healthz").await;
    let head = say(address, "HEAD /healthz HTTP/1.1\r\nHost: gw\r\n\r\n").await;
    let head = Answer::of(&head);
    assert_eq!((head.status, &*head.body), (200, ""));
    let length = format!("content-length: {}", whole.body.len());
    assert!(head.head.contains(&length), "{}", head.head);
}

#[tokio::test]
async fn a_connection_ends_with_its_answer() {
    let bench = Bench::new();
    let (address, _tasks) = bench.serve();
    let twice = "GET /healthz HTTP/1.1\r\nHost: gw\r\n\r\n".repeat(2);
    let answers = say(address, &twice).await;
    assert_eq!(answers.matches("HTTP/1.1 200").count(), 1, "{answers}");
}

#[tokio::test]
async fn what_is_no_request_does_no_harm() {
    let bench = Bench::new();
    let (address, _tasks) = bench.serve();
    for nonsense in [
        "\r\n\r\n\r\n\r\n\0",
        "GET\r\n\r\n",
        "\u{16}\u{3}\u{1}\u{2}\0\u{1}",
        "GET / HTTP/9\r\n\r\n",
    ] {
        let mut stream = TcpStream::connect(address).await.unwrap();
        stream.write_all(nonsense.as_bytes()).await.unwrap();
        let mut answer = String::new();
        // A reset is an end too.
        drop(stream.shutdown().await);
        drop(stream.read_to_string(&mut answer).await);
        assert!(!answer.contains(" 200 "), "{nonsense:?}: {answer}");
        assert!(is_served(address).await, "{nonsense:?}");
    }
    // One who goes away without a word, or in the middle of one.
    drop(TcpStream::connect(address).await.unwrap());
    TcpStream::connect(address).await.unwrap().write_all(b"GET /met").await.unwrap();
    assert!(is_served(address).await);
}

#[tokio::test]
async fn a_header_without_an_end_is_cut() {
    let bench = Bench::new();
    let (address, _tasks) = bench.serve();
    let mut stream = TcpStream::connect(address).await.unwrap();
    stream.write_all(b"GET /metrics HTTP/1.1\r\nX: ").await.unwrap();
    // What the kernel takes on both ends without the server is far less.
    let mut taken = 0_usize;
    while stream.write_all(&[b'x'; 4096]).await.is_ok() {
        taken += 4096;
        assert!(taken < 64 * 1024 * 1024, "it takes whatever comes");
    }
    let mut answer = String::new();
    drop(stream.read_to_string(&mut answer).await);
    assert!(!answer.contains(" 200 "), "{answer}");
    // One that is only a little too long is told so.
    let long = format!("GET /metrics HTTP/1.1\r\nX: {}\r\n\r\n", "x".repeat(8 * 1024));
    let mut stream = TcpStream::connect(address).await.unwrap();
    stream.write_all(long.as_bytes()).await.unwrap();
    let mut answer = String::new();
    drop(stream.read_to_string(&mut answer).await);
    assert!(answer.is_empty() || answer.starts_with("HTTP/1.1 431"), "{answer}");
    assert!(is_served(address).await);
}

#[tokio::test(start_paused = true)]
async fn who_is_too_slow_is_let_go() {
    let bench = Bench::new();
    let (address, _tasks) = bench.serve();
    for said in ["", "GET /healthz HTTP/1.1\r\nHost: g"] {
        let began = Instant::now();
        assert_eq!(say(address, said).await, "");
        let took = began.elapsed();
        assert!(took >= PATIENCE && took < PATIENCE * 2, "{took:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn those_who_say_nothing_keep_the_others_out_for_no_longer_than_their_time() {
    let bench = Bench::new();
    let (address, _tasks) = bench.serve();
    let mut silent = Vec::new();
    for _ in 0..20 {
        silent.push(TcpStream::connect(address).await.unwrap());
    }
    let began = Instant::now();
    assert!(is_served(address).await);
    // Four at a time.
    let took = began.elapsed();
    assert!(took >= PATIENCE * 5 && took < PATIENCE * 6, "{took:?}");
}

#[tokio::test(start_paused = true)]
async fn a_text_is_not_made_before_the_last_one_has_been_paid_for() {
    let bench = Bench::new();
    let began = Instant::now();
    let desk = Desk::resting(Arc::clone(&bench.board), began + Duration::from_hours(1));
    let request = |path| Request::get(path).body(()).unwrap();
    assert_eq!(desk.answer(&request("/healthz")).await.status(), 200);
    assert_eq!(began.elapsed(), Duration::ZERO, "what costs nothing is not held up");
    assert_eq!(desk.answer(&request("/metrics")).await.status(), 200);
    assert!(began.elapsed() >= Duration::from_hours(1));
}

#[tokio::test(start_paused = true)]
async fn who_hangs_up_leaves_the_place_taken_until_the_text_is_made() {
    let bench = Bench::new();
    let desk = Desk::new(Arc::clone(&bench.board));
    // What the text looks at is not to be seen until the test lets go of it.
    let (begin, held) = std::sync::mpsc::sync_channel(1);
    let (release, end) = std::sync::mpsc::sync_channel::<()>(1);
    let forward = bench.forward.clone();
    let holder = std::thread::spawn(move || {
        forward.send_modify(|_| {
            begin.send(()).unwrap();
            end.recv().unwrap_err();
        });
    });
    held.recv().unwrap();
    let request = Request::get("/metrics").body(()).unwrap();
    let asked = tokio::time::timeout(Duration::from_secs(1), desk.answer(&request));
    assert!(asked.await.is_err(), "it hangs up");
    assert!(desk.is_at_work(), "the next one would be made beside it");
    drop(release);
    holder.join().unwrap();
    assert_eq!(desk.answer(&request).await.status(), 200);
}

#[tokio::test(start_paused = true)]
async fn a_port_that_is_taken_is_opened_once_it_is_free() {
    let bench = Bench::new();
    let other = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = other.local_addr().unwrap();
    let server = Server::open(address);
    assert_eq!(server.address(), None);
    let mut tasks = JoinSet::new();
    tasks.spawn(server.serve(Arc::clone(&bench.board)));
    tokio::time::sleep(AGAIN * 3 + Duration::from_secs(1)).await;
    drop(other);
    assert!(TcpStream::connect(address).await.is_err());
    tokio::time::sleep(AGAIN).await;
    assert!(is_served(address).await);
}

#[tokio::test]
async fn a_server_that_is_dropped_has_left_its_port() {
    let bench = Bench::new();
    let (address, mut tasks) = bench.serve();
    assert!(is_served(address).await);
    tasks.shutdown().await;
    assert!(TcpStream::connect(address).await.is_err());
}
