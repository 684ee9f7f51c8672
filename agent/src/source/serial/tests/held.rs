//! Time and half frames: what is not read is no silence, and what stood on the line before
//! a request is no part of its answer.

use super::line::*;
use super::*;

const HOST: &str = "10.0.0.7:4001";

/// More than a source holds while the buffer takes nothing.
async fn fill(line: &mut tokio::io::DuplexStream) -> usize {
    sleep(QUIET).await;
    let mut said = 0;
    let full = async {
        loop {
            line.write_all(&frame(said)).await.unwrap();
            said += 1;
        }
    };
    // It is not read any more.
    assert!(tokio::time::timeout(MS, full).await.is_err());
    said
}

/// What is handed over while the line rests.
async fn rest(handed: &mut mpsc::Receiver<Delivery>) -> (Vec<Event>, Vec<DeadLetter>) {
    let (mut events, mut dead) = (Vec::new(), Vec::new());
    while let Ok(Some(delivery)) = tokio::time::timeout(50 * MS, handed.recv()).await {
        events.extend(delivery.events);
        dead.extend(delivery.dead);
    }
    (events, dead)
}

#[tokio::test(start_paused = true)]
async fn while_a_device_server_is_held_back_no_half_frame_is_cut_and_no_silence_told() {
    let mut bench = bench(HOST, "idle = \"10 s\"\nsplit = { by = \"delimiter\", pause = \"2 s\" }");
    let script = async |device: Device| {
        let Device { mut line, mut handed } = device;
        let said = fill(&mut line).await;
        sleep(3_600_000 * MS).await;
        let (events, dead) = rest(&mut handed).await;
        // The last may have come in half when the line was full.
        assert!(events.len() + 1 >= said, "{} of {said}", events.len());
        assert!(dead.is_empty(), "{dead:?}");
        assert!(events.iter().all(|event| event.quality == Quality::Good));
    };
    assert!(bench.on_line(script).await.0.is_ok());
    assert_eq!(bench.faults(), []);
}

#[tokio::test(start_paused = true)]
async fn frames_that_waited_are_not_taken_for_one_where_only_silence_tells_them_apart() {
    let mut bench = bench(HOST, "split = { by = \"silence\", silence = \"5 ms\" }");
    let script = async |device: Device| {
        let Device { mut line, mut handed } = device;
        sleep(QUIET).await;
        let mut said = 0;
        // Each is a frame until there is room for no more: then the line fills.
        let speak = async {
            loop {
                line.write_all(&frame(said)).await.unwrap();
                said += 1;
                sleep(6 * MS).await;
            }
        };
        assert!(tokio::time::timeout(60_000 * MS, speak).await.is_err());
        let (events, dead) = rest(&mut handed).await;
        assert!(events.len() < said, "it was held back");
        let one = |event: &Event| matches!(&event.fields[0].value, Value::Text(text) if text.len() == 100);
        assert!(events.iter().all(one));
        assert!(dead[0].reason.contains("waited"), "{}", dead[0].reason);
    };
    assert!(bench.on_line(script).await.0.is_ok());
}

#[tokio::test(start_paused = true)]
async fn half_an_answer_is_no_part_of_the_next() {
    let keys = "request = 'S\\r\\n'\ninterval = \"1 s\"\ntimeout = \"300 ms\"";
    let mut bench = port(keys);
    let script = async |mut device: Device| {
        device.asked(b"S\r\n").await;
        device.say(b"001").await;
        assert_eq!(device.event().await.quality, Quality::Timeout);
        device.asked(b"S\r\n").await;
        device.say(b"00130\r\n").await;
        let delivery = device.next().await;
        assert_eq!(dead(&delivery.dead[0]), ("frame that broke off", &b"001"[..], 3));
        let event = match delivery.events.first() {
            Some(event) => event.clone(),
            None => device.event().await,
        };
        assert_eq!(values(&event), text("00130"));
        // One whose other half is still on its way when it is given up.
        device.asked(b"S\r\n").await;
        sleep(990 * MS).await;
        device.say(b"0019").await;
        device.asked(b"S\r\n").await;
        device.say(b"99\r\n00130\r\n").await;
        let (events, odd) = rest(&mut device.handed).await;
        let good = |event: &&Event| event.quality == Quality::Good;
        assert_eq!(events.iter().filter(good).map(values).collect::<Vec<_>>(), [text("00130")]);
        assert_eq!(odd.iter().map(|odd| odd.length).collect::<Vec<_>>(), [4, 4]);
    };
    assert!(bench.on_line(script).await.0.is_ok());
}

#[tokio::test(start_paused = true)]
async fn a_device_server_that_gives_no_answer_three_times_is_connected_to_anew() {
    let mut bench = bench(HOST, "request = \"S\"\ninterval = \"1 s\"\ntimeout = \"300 ms\"");
    let began = Instant::now();
    let script = async |mut device: Device| {
        assert_eq!(device.event().await.quality, Quality::Timeout);
        assert!(device.handed.recv().await.is_none());
    };
    let end = bench.on_line(script).await.0.unwrap_err().to_string();
    assert_eq!(end, "10.0.0.7:4001 gave no answer to 3 requests");
    assert_eq!(began.elapsed(), 2_300 * MS);
}

#[tokio::test(start_paused = true)]
async fn who_takes_no_request_does_not_hold_up_the_stop() {
    let request = "S".repeat(LINE + 1);
    let keys = format!("request = \"{request}\"\ninterval = \"1 s\"\ntimeout = \"60 s\"");
    let mut bench = port(&keys);
    let began = Instant::now();
    let (end, _device) = bench
        .on_line(async |device: Device| {
            sleep(MS).await;
            device
        })
        .await;
    assert!(end.is_ok());
    assert_eq!(began.elapsed(), MS);
}

#[tokio::test(start_paused = true)]
async fn a_byte_whose_parity_is_wrong_is_no_part_of_a_number() {
    let scalar = "parse = { as = \"columns\", fields = [{ name = \"n\" }] }";
    let mut bench = port(&format!("serial = {{ parity = \"even\", data_bits = 7 }}\n{scalar}"));
    let script = async |mut device: Device| {
        sleep(QUIET).await;
        device.say(b"12\0\r\n").await;
        assert_eq!(dead(&device.dead().await), ("byte whose parity is wrong", &b"12\0\r\n"[..], 5));
        device.say(b"125\r\n").await;
        assert_eq!(values(&device.event().await), [("n", Value::I64(125))]);
    };
    assert!(bench.on_line(script).await.0.is_ok());
}

#[tokio::test(start_paused = true)]
async fn the_word_of_a_silence_finds_room_where_frames_found_none() {
    let mut bench = port("idle = \"10 s\"");
    let script = async |mut device: Device| {
        sleep(QUIET).await;
        for number in 0..12_000 {
            device.say(&frame(number)).await;
        }
        sleep(11_000 * MS).await;
        let (events, _) = rest(&mut device.handed).await;
        assert!(events.len() < 12_000, "frames found no room");
        assert_eq!(events.last().unwrap().quality, Quality::Timeout);
    };
    assert!(bench.on_line(script).await.0.is_ok());
}
