//! Topics of Sparkplug (3.0, 4.2): `spBv1.0/<group>/<type>/<node>[/<device>]`.

/// All topics begin so.
pub(super) const NAMESPACE: &str = "spBv1.0";

/// What a message says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    NodeBirth,
    NodeDeath,
    NodeData,
    DeviceBirth,
    DeviceDeath,
    DeviceData,
}

impl Kind {
    pub(super) const ALL: [Self; 6] = [
        Self::NodeBirth,
        Self::NodeDeath,
        Self::NodeData,
        Self::DeviceBirth,
        Self::DeviceDeath,
        Self::DeviceData,
    ];

    pub(super) const fn as_str(self) -> &'static str {
        match self {
            Self::NodeBirth => "NBIRTH",
            Self::NodeDeath => "NDEATH",
            Self::NodeData => "NDATA",
            Self::DeviceBirth => "DBIRTH",
            Self::DeviceDeath => "DDEATH",
            Self::DeviceData => "DDATA",
        }
    }

    /// Whether its topic names a device.
    pub(super) const fn is_of_device(self) -> bool {
        matches!(self, Self::DeviceBirth | Self::DeviceDeath | Self::DeviceData)
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Topic<'a> {
    pub(super) group: &'a str,
    pub(super) kind: Kind,
    pub(super) node: &'a str,
    /// Of the three kinds that name one.
    pub(super) device: Option<&'a str>,
}

/// `None` for anything else, also for commands.
pub(super) fn parse(topic: &str) -> Option<Topic<'_>> {
    let mut levels = topic.split('/');
    if levels.next() != Some(NAMESPACE) || topic.contains('\0') {
        return None;
    }
    let (group, kind, node) = (levels.next()?, levels.next()?, levels.next()?);
    let kind = Kind::ALL.into_iter().find(|known| known.as_str() == kind)?;
    let device = levels.next();
    let whole = levels.next().is_none() && ![group, node].contains(&"") && device != Some("");
    (whole && device.is_some() == kind.is_of_device()).then_some(Topic {
        group,
        kind,
        node,
        device,
    })
}

/// The filters of a group, or of all with `+`: what edge nodes send, and no commands.
pub(super) fn filters(group: &str) -> impl Iterator<Item = String> {
    Kind::ALL.into_iter().map(move |kind| {
        let device = if kind.is_of_device() { "/+" } else { "" };
        format!("{NAMESPACE}/{group}/{}/+{device}", kind.as_str())
    })
}

/// Where a host says whether it is there.
pub(super) fn state(host: &str) -> String {
    format!("{NAMESPACE}/STATE/{host}")
}

/// Where an edge node listens for commands.
pub(super) fn command(group: &str, node: &str) -> String {
    format!("{NAMESPACE}/{group}/NCMD/{node}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_edge_nodes_send_is_told_from_everything_else() {
        let found = parse("spBv1.0/g/DDATA/n/d").unwrap();
        assert_eq!((found.group, found.kind, found.node), ("g", Kind::DeviceData, "n"));
        assert_eq!(found.device, Some("d"));
        assert_eq!(parse("spBv1.0/g/NBIRTH/n").unwrap().device, None);
        for other in [
            "spBv1.0/g/NCMD/n",
            "spBv1.0/STATE/host",
            "spBv1.0/g/NDATA/n/d",
            "spBv1.0/g/DDATA/n",
            "spBv1.0/g/DDATA/n/d/e",
            "spBv1.0/g/DDATA/n/",
            "spBv1.0//NDATA/n",
            "spAv1.0/g/NDATA/n",
            "",
        ] {
            assert_eq!(parse(other), None, "{other}");
        }
    }
}
