//! The writer without its thread, for a simulator that decides what happens
//! when: the product's own turns, one call at a time.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, Weak};
use std::time::Instant;

use super::writer::Writer;
use super::{Buffer, Intake, SourceInfo, assemble};
use crate::buffer::{Call, Serve, Shared, Store, locked};
use crate::clock::Steady;
use crate::flow::Flows;

/// Turns of the writer that a call of the forwarder waits for its commit.
const PATIENCE: usize = 40;

/// The writer, between two turns; dropped, its process is dead.
pub(crate) struct Stepped {
    writer: Arc<Mutex<Writer>>,
    shared: Arc<Shared>,
    /// A call of the forwarder's was left without an answer.
    pub(crate) hung: Arc<AtomicBool>,
}

impl Stepped {
    /// As [`super::start`]. `alive` is asked before a call of the forwarder's is
    /// served: a process that is dead answers nothing.
    pub(crate) fn start(
        mut buffer: Buffer,
        sources: Vec<SourceInfo>,
        flows: Flows,
        time: Steady,
        alive: impl Fn() -> bool + Send + Sync + 'static,
    ) -> (Self, Vec<Intake>) {
        let slot = Arc::new(Mutex::new(None::<Weak<Mutex<Writer>>>));
        let hung = Arc::new(AtomicBool::new(false));
        let hangs = Arc::clone(&hung);
        let (served, passes) = (Arc::clone(&slot), time.clone());
        let serve = Serve(Box::new(move |call| {
            let writer = locked(&served).as_ref().and_then(Weak::upgrade);
            if let Some(writer) = writer.filter(|_| alive()) {
                let done = serve(&mut locked(&writer), call, &passes);
                hangs.fetch_or(!done, Ordering::Relaxed);
            }
        }));
        Arc::get_mut(&mut buffer.shared).expect("nobody has it yet").serve_by(serve);
        let shared = Arc::clone(&buffer.shared);
        let (mut writer, intakes) = assemble(buffer, sources, flows, time);
        writer.begin();
        let writer = Arc::new(Mutex::new(writer));
        *locked(&slot) = Some(Arc::downgrade(&writer));
        (Self { writer, shared, hung }, intakes)
    }

    /// One turn; gives when the next is due without a message.
    pub(crate) fn step(&self) -> Option<Instant> {
        let mut writer = locked(&self.writer);
        writer.turn();
        writer.wake()
    }

    /// The mutant of a writer that acknowledges what is in memory only.
    pub(crate) fn acknowledge_held(&self) {
        locked(&self.writer).acknowledge_held();
    }

    /// The mutant of a writer that writes rows behind those that are in memory only.
    pub(crate) fn step_past_held(&self) {
        let mut writer = locked(&self.writer);
        // Their own time is not over: whatever is written now goes past them.
        let past = !writer.is_held_over();
        let held = past.then(|| writer.hide_held());
        writer.turn();
        if let Some(held) = held {
            writer.show_held(held);
        }
    }

    pub(crate) fn store(&self) -> Store {
        Store(Arc::clone(&self.shared))
    }

    pub(crate) fn shared(&self) -> &Arc<Shared> {
        &self.shared
    }

    /// The disk has room for so many pages of the file and no more.
    pub(crate) fn most_pages(&self, pages: u32) {
        locked(&self.writer).most_pages(pages);
    }
}

/// The caller waits while the writer takes its turns and time passes. A disk that
/// stays full leaves it without an answer: the agent is then killed.
fn serve(writer: &mut Writer, call: Call, time: &Steady) -> bool {
    writer.ask(call);
    for _ in 0..PATIENCE {
        writer.turn();
        if !writer.is_asked() {
            return true;
        }
        if let Some(wake) = writer.wake() {
            time.pass(wake.saturating_duration_since(time.now()));
        }
    }
    writer.hang_up();
    false
}
