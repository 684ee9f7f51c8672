//! What a running agent says of itself on its page of figures.

use std::io::{Read as _, Write as _};
use std::net::TcpStream;

/// The sum of a figure over all its labels.
pub(crate) fn figure(port: u16, name: &str) -> f64 {
    let page = page(port);
    let has_name =
        |line: &&str| line.strip_prefix(name).is_some_and(|rest| rest.starts_with(['{', ' ']));
    let values = page.lines().filter(has_name).filter_map(|line| line.rsplit_once(' '));
    let values: Vec<f64> = values.filter_map(|(_, value)| value.parse().ok()).collect();
    assert!(!values.is_empty(), "the agent has a figure {name}");
    values.iter().sum()
}

fn page(port: u16) -> String {
    let mut stream = TcpStream::connect(("127.0.0.1", port)).expect("the agent's page is on");
    let request = b"GET /metrics HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n";
    stream.write_all(request).expect("the agent reads");
    let mut answer = String::new();
    stream.read_to_string(&mut answer).expect("the agent answers with text");
    assert!(answer.starts_with("HTTP/1.1 200"), "no figures: {answer}");
    answer
}
