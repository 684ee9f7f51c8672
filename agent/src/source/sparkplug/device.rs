//! A device of an edge node, or the node itself as one: whether it is there, and what its
//! birth said.

use std::sync::Arc;

use tokio::time::Instant;

use super::context::Context;
use super::events::{Groups, Ident, MOST, is_session, time_of};
use super::held::Raw;
use super::rebirth::REBIRTH;
use super::table::{Definitions, Table};
use crate::decode::sparkplug::flat;
use crate::decode::sparkplug::proto::{Metric, Payload};
use crate::event::{Field, Quality, Timestamp, Value};
use crate::supervise::Standing;

/// What a device takes without anything that is known of it, also where it is told.
const EACH: usize = 512;

#[derive(Debug)]
pub(super) struct Device {
    pub(super) ident: Ident,
    table: Table,
    /// That of the birth before, of the same session.
    before: Table,
    pub(super) life: Life,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Life {
    /// No birth of it is known.
    Unborn,
    Alive,
    /// Its node was born again, and it must be before this.
    Awaited(Instant),
    /// It died, and that was told.
    Dead,
}

impl Device {
    pub(super) fn new(ident: Ident) -> Self {
        Self { ident, table: Table::default(), before: Table::default(), life: Life::Unborn }
    }

    /// Bytes that it takes.
    pub(super) const fn memory(&self) -> usize {
        EACH + self.table.memory() + self.before.memory()
    }

    pub(super) fn is_alive(&self) -> bool {
        self.life == Life::Alive
    }

    /// Its birth: what its metrics are from now on, and their values.
    pub(super) fn born(
        &mut self,
        payload: &Payload,
        definitions: &Definitions,
        read: Timestamp,
        context: &mut Context<'_>,
    ) {
        let table = Table::of(&payload.metrics, definitions);
        self.before = std::mem::replace(&mut self.table, table);
        self.life = Life::Alive;
        context.stand(&self.ident.device, Standing::Up, "");
        let unnamed = self.read(payload, read, context);
        if !unnamed.is_empty() {
            // No later birth says more of them.
            unresolved(&self.ident, read, &part(payload, unnamed), context);
        }
    }

    /// The values of a message; gives the metrics that nobody knows.
    pub(super) fn read(
        &mut self,
        payload: &Payload,
        read: Timestamp,
        context: &mut Context<'_>,
    ) -> Vec<Metric> {
        let mut groups = Groups::default();
        let mut unknown = Vec::new();
        for metric in payload.metrics.iter().filter(|metric| is_data(metric)) {
            let time = time_of(metric, payload, read);
            match self.find(metric, context) {
                Some(at) => self.take(at, metric, time, &mut groups, context),
                None => unknown.push(metric.clone()),
            }
        }
        context.extend(groups.events(&self.ident, read));
        unknown
    }

    /// The values of a message that came before the birth: an alias counts where the birth
    /// before, if there was one, meant the same by it; the rest goes out as stale.
    pub(super) fn read_held(&mut self, raw: &Raw, payload: &Payload, context: &mut Context<'_>) {
        let mut groups = Groups::default();
        let mut is_whole = true;
        for metric in payload.metrics.iter().filter(|metric| is_data(metric)) {
            let time = time_of(metric, payload, raw.read);
            let known = self.find(metric, context);
            if let Some(at) = known.filter(|_| self.table.agrees(&self.before, metric)) {
                self.take(at, metric, time, &mut groups, context);
            } else {
                is_whole = false;
                groups.add_unresolved(metric, time);
            }
        }
        if !is_whole {
            context.unresolved();
        }
        context.extend(groups.events(&self.ident, raw.read));
    }

    /// The place of a metric that is known, or that makes itself known.
    fn find(&mut self, metric: &Metric, context: &Context<'_>) -> Option<usize> {
        let known = self.table.find(metric);
        known.or_else(|| context.held.has_room().then(|| self.table.adopt(metric)).flatten())
    }

    fn take(
        &mut self,
        at: usize,
        metric: &Metric,
        time: Timestamp,
        groups: &mut Groups,
        context: &Context<'_>,
    ) {
        let may_grow = context.held.has_room();
        let fields = self.table.fields(at, metric, time, &mut groups.room, may_grow);
        if self.table.name(at).is_some_and(|name| context.rules.wants(&name)) {
            groups.add(metric, time, fields);
        }
    }

    /// It is no longer there: what was known of it is stale, which is told once.
    fn die(&mut self, time: Timestamp, context: &mut Context<'_>) {
        if !matches!(self.life, Life::Alive | Life::Awaited(_)) {
            self.life = Life::Dead;
            return;
        }
        self.life = Life::Dead;
        let mut fields = self.table.last();
        fields.retain(|field| context.rules.wants(&field.name));
        loop {
            let more = fields.split_off(fields.len().min(MOST));
            context.extend([self.ident.event(time, Quality::Stale, fields)]);
            if more.is_empty() {
                break;
            }
            fields = more;
        }
    }

    /// The same, told also where nothing was known of it.
    pub(super) fn end(&mut self, why: &str, time: Timestamp, context: &mut Context<'_>) {
        self.die(time, context);
        context.stand(&self.ident.device, Standing::Down, why);
    }

    /// The session of its node is over.
    pub(super) fn forget_aliases(&mut self) {
        self.table.forget_aliases();
        self.before.forget_aliases();
    }
}

/// Whether it measures something: the number of the session and the button for a rebirth
/// do not, nor does what a template is made of.
fn is_data(metric: &Metric) -> bool {
    let name = metric.name.as_deref();
    !is_session(metric) && name != Some(REBIRTH) && !flat::is_definition(metric)
}

/// What no birth names goes out with what is known.
pub(super) fn unresolved(
    ident: &Ident,
    read: Timestamp,
    payload: &Payload,
    context: &mut Context<'_>,
) {
    let mut groups = Groups::default();
    for metric in payload.metrics.iter().filter(|metric| is_data(metric)) {
        groups.add_unresolved(metric, time_of(metric, payload, read));
    }
    context.unresolved();
    context.extend(groups.events(ident, read));
}

/// Some metrics of a message, at its time.
pub(super) fn part(of: &Payload, metrics: Vec<Metric>) -> Payload {
    Payload { timestamp: of.timestamp, metrics, ..Payload::default() }
}

/// What was held and has too much in it to be read goes out as it came.
pub(super) fn unread(ident: &Ident, raw: &Raw, context: &mut Context<'_>) {
    let value = Value::Bytes((&*raw.payload).into());
    let field = Field { name: "payload".into(), unit: None, value, quality: None };
    context.unresolved();
    context.extend([ident.event(raw.read, Quality::Stale, vec![field])]);
}

/// A name of its own for each, shared by its events.
pub(super) fn shared(name: &str) -> Arc<str> {
    name.into()
}
