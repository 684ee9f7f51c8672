//! What the screen shows: a snapshot in, lines out.

use std::time::Duration;

use tidegate_demo::ledger::Totals;

/// How a line is meant.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Tone {
    Plain,
    Title,
    Dim,
    Good,
    Watch,
    Bad,
}

/// A line of the screen.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Line {
    pub(crate) tone: Tone,
    pub(crate) text: String,
}

/// Everything at one moment.
#[derive(Debug, Clone)]
pub(crate) struct Snapshot {
    pub(crate) elapsed: Duration,
    pub(crate) sources: Vec<SourceLine>,
    pub(crate) depth: u64,
    pub(crate) peak: u64,
    pub(crate) bytes: u64,
    pub(crate) oldest: Option<Duration>,
    /// Depths, oldest first.
    pub(crate) history: Vec<u64>,
    pub(crate) plugged: bool,
    pub(crate) brokers: String,
    pub(crate) forward: String,
    pub(crate) totals: Totals,
    pub(crate) rate: f64,
    pub(crate) said: Vec<String>,
    pub(crate) config: String,
}

#[derive(Debug, Clone)]
pub(crate) struct SourceLine {
    pub(crate) name: &'static str,
    pub(crate) kind: &'static str,
    pub(crate) made: u64,
    pub(crate) delivered: u64,
    pub(crate) rate: f64,
    pub(crate) up: bool,
}

/// Less shows nothing that makes sense.
const NARROWEST: usize = 40;
const LOWEST: usize = 10;

/// The screen's lines, no more and none longer than there is room for.
pub(crate) fn lines(now: &Snapshot, width: usize, height: usize) -> Vec<Line> {
    if width < NARROWEST || height < LOWEST {
        return vec![line(Tone::Plain, clip("the terminal is too small", width))];
    }
    let mut all = Vec::new();
    let mut say = |tone, text: String| all.push(line(tone, clip(&text, width)));
    let seconds = now.elapsed.as_secs();
    say(Tone::Title, format!(" TIDEGATE DEMO  {:02}:{:02}", seconds / 60, seconds % 60));
    say(Tone::Plain, String::new());
    say(Tone::Title, " SOURCES                     made     a second   delivered".to_owned());
    for source in &now.sources {
        let SourceLine { name, kind, made, delivered, rate, up } = source;
        let (tone, state) = if *up { (Tone::Plain, "up") } else { (Tone::Watch, "down") };
        say(
            tone,
            format!("   {name:<8} {kind:<11} {made:>9} {rate:>12.1} {delivered:>11}   {state}"),
        );
    }
    say(Tone::Plain, String::new());
    say(Tone::Title, " BUFFER".to_owned());
    let oldest = now
        .oldest
        .map_or_else(String::new, |age| format!(", the oldest {:.1} s old", age.as_secs_f64()));
    let tone = if now.plugged { Tone::Plain } else { Tone::Watch };
    say(
        tone,
        format!("   {} events, {} KiB{oldest}, at most {}", now.depth, now.bytes / 1024, now.peak),
    );
    say(tone, format!("   {}", sparkline(&now.history, width.saturating_sub(6))));
    say(Tone::Plain, String::new());
    say(Tone::Title, format!(" KAFKA  {}", now.brokers));
    if now.plugged {
        say(Tone::Good, format!("   ━━━●━━━  the plug is in; the agent: {}", now.forward));
    } else {
        say(Tone::Watch, format!("   ━━╸ ╺━━  THE PLUG IS PULLED; the agent: {}", now.forward));
    }
    let Totals { produced, delivered, lost, duplicated, repeated, out_of_order } = now.totals;
    let way = produced.saturating_sub(delivered + lost);
    say(
        Tone::Plain,
        format!("   delivered {delivered}, {:.1} a second, {way} on their way", now.rate),
    );
    let tone = if lost + duplicated + out_of_order == 0 { Tone::Good } else { Tone::Bad };
    say(tone, format!("   lost {lost}   duplicated {duplicated}   out of order {out_of_order}"));
    if repeated > 0 {
        say(Tone::Dim, format!("   {repeated} aborted copies, which only the mock cluster shows"));
    }
    say(Tone::Plain, String::new());
    say(Tone::Title, " THE AGENT SAYS".to_owned());
    for said in &now.said {
        say(Tone::Dim, format!("   {said}"));
    }
    let foot = [
        line(Tone::Dim, clip(&format!(" configuration: {}", now.config), width)),
        line(Tone::Title, clip(keys(now), width)),
    ];
    all.truncate(height - foot.len());
    all.extend(foot);
    all
}

fn keys(now: &Snapshot) -> &'static str {
    if now.plugged { " p  pull the plug    q  quit" } else { " p  put the plug back    q  quit" }
}

/// The same in one line, for where there is no screen.
pub(crate) fn status(now: &Snapshot) -> String {
    let Totals { produced, delivered, lost, duplicated, .. } = now.totals;
    format!(
        "{:>4} s  plug {}  produced {produced}  buffered {} (oldest {:.1} s)  delivered {delivered}  lost {lost}  duplicated {duplicated}",
        now.elapsed.as_secs(),
        if now.plugged { "in " } else { "OUT" },
        now.depth,
        now.oldest.map_or(0.0, |age| age.as_secs_f64()),
    )
}

fn line(tone: Tone, text: String) -> Line {
    Line { tone, text }
}

/// Every character of the view is one column wide.
fn clip(text: &str, width: usize) -> String {
    text.chars().take(width).collect()
}

/// The newest values that fit, each as a bar; the highest of them is full.
fn sparkline(values: &[u64], width: usize) -> String {
    const BARS: [char; 8] = ['▁', '▂', '▃', '▄', '▅', '▆', '▇', '█'];
    let newest = values.get(values.len().saturating_sub(width)..).unwrap_or_default();
    let highest = newest.iter().copied().max().unwrap_or(0).max(1);
    let bar = |value: &u64| {
        let step = u128::from(*value) * 7 / u128::from(highest);
        usize::try_from(step).ok().and_then(|step| BARS.get(step)).copied().unwrap_or('█')
    };
    newest.iter().map(bar).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn snapshot() -> Snapshot {
        Snapshot {
            elapsed: Duration::from_secs(65),
            sources: vec![SourceLine {
                name: "boiler",
                kind: "modbus tcp",
                made: 260,
                delivered: 255,
                rate: 4.0,
                up: true,
            }],
            depth: 500,
            peak: 600,
            bytes: 40_960,
            oldest: Some(Duration::from_millis(7_900)),
            history: vec![0, 250, 500],
            plugged: false,
            brokers: "127.0.0.1:9092".to_owned(),
            forward: "unreachable".to_owned(),
            totals: Totals { produced: 3_000, delivered: 2_500, ..Totals::default() },
            rate: 0.0,
            said: vec!["INFO source is up".to_owned()],
            config: "/tmp/gateway.toml".to_owned(),
        }
    }

    #[test]
    fn the_screen_shows_the_way_of_an_event_and_the_keys() {
        let text: Vec<String> = lines(&snapshot(), 80, 24).into_iter().map(|l| l.text).collect();
        let text = text.join("\n");
        for part in [
            "TIDEGATE DEMO  01:05",
            "boiler   modbus tcp        260          4.0         255   up",
            "500 events, 40 KiB, the oldest 7.9 s old, at most 600",
            "▁▄█",
            "THE PLUG IS PULLED; the agent: unreachable",
            "delivered 2500, 0.0 a second, 500 on their way",
            "lost 0   duplicated 0   out of order 0",
            "INFO source is up",
            "p  put the plug back",
        ] {
            assert!(text.contains(part), "{part} is not in\n{text}");
        }
    }

    #[test]
    fn nothing_is_longer_or_higher_than_the_terminal() {
        for (width, height) in [(80, 24), (40, 10), (200, 60), (12, 3), (0, 0)] {
            let all = lines(&snapshot(), width, height);
            assert!(all.len() <= height.max(1), "{width} × {height}");
            assert!(all.iter().all(|line| line.text.chars().count() <= width));
        }
    }

    #[test]
    fn a_low_screen_still_says_which_keys_there_are() {
        let all = lines(&snapshot(), 60, 10);
        assert!(all.last().is_some_and(|line| line.text.contains("q  quit")));
    }

    #[test]
    fn bars_are_relative_to_the_highest_that_is_shown() {
        assert_eq!(sparkline(&[9, 0, 7], 2), "▁█");
        assert_eq!(sparkline(&[], 5), "");
    }
}
