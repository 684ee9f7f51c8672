//! Whether the ids of QoS 2 that we know, held or released, are still those of the
//! broker's session.
//!
//! A login whose CONNACK was never read may have made a new session, in which other
//! messages have the ids of the old one, and by its id alone a message of QoS 2 is known.
//! To forget the ids has messages taken twice; to keep them may lose others.
//!
//! But nothing is delivered in a session before something is subscribed there, and we
//! subscribe in a new one only when it is committed that the old ids are forgotten. So
//! what is delivered again before our SUBSCRIBE, and any PUBREL, shows that the session
//! is the one that the ids are of. A broker has all that it holds un-acknowledged
//! delivered again first (MQTT 5, 4.4), so that a PINGRESP that comes before any of it
//! says that there is none: then they are forgotten, before the SUBSCRIBE. A broker that
//! answers a ping before that has messages taken twice and none lost.

use super::Session;

impl Session {
    /// All ids that are known may be those of another session.
    pub(super) fn doubt(&mut self) {
        self.doubtful.append(&mut self.received);
        self.released.doubt();
    }

    /// The session is the one that they are of.
    pub(super) fn trust(&mut self) {
        self.received.append(&mut self.doubtful);
        self.released.trust();
    }

    /// A message of QoS 1 or 2 came. One that was not sent before is new also under an
    /// id that is in doubt.
    pub(super) fn look_at(&mut self, id: u16, dup: bool) {
        if dup {
            self.trust();
        } else {
            self.changed |= self.doubtful.remove(&id).is_some();
        }
    }

    /// Whether it is to be found out what the ids are worth before anything is subscribed.
    pub(in crate::source::mqtt) fn doubts(&self) -> bool {
        !self.doubtful.is_empty() || self.released.doubts()
    }

    /// Nothing was delivered again; to be committed before anything is subscribed.
    pub(in crate::source::mqtt) fn forget_doubtful(&mut self) {
        self.changed |= self.doubts();
        self.doubtful.clear();
        self.released.forget_doubtful();
    }
}
