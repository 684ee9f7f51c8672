//! `address = "…"`: the path of a serial port, or a host and its port.

/// An address that is the path of a serial port.
pub(in crate::source) fn is_path(address: &str) -> bool {
    address.contains('/')
}

/// What is wrong with the path of a serial port, and what would be right.
pub(in crate::source) fn check_path(address: &str) -> Result<(), String> {
    if address.starts_with('/') {
        return Ok(());
    }
    Err(format!(
        "`{address}` is not the whole path of a serial port: write it as \
         \"/dev/serial/by-id/…\" or \"/dev/ttyS1\""
    ))
}

/// Host and port of an address, the port if it is written; or what would be right.
pub(in crate::source) fn endpoint(address: &str) -> Result<(String, Option<u16>), String> {
    const RIGHT: &str = "write it as \"10.0.0.5:502\", \"plc.local\" or \"[fe80::1]:502\"";
    let wrong = || format!("`{address}` is not a host and a port: {RIGHT}");
    let (host, port) = match address.strip_prefix('[') {
        Some(rest) => {
            let (host, port) = rest.split_once(']').ok_or_else(wrong)?;
            match port {
                "" => (host, None),
                _ => (host, Some(port.strip_prefix(':').ok_or_else(wrong)?)),
            }
        }
        // More than one colon without brackets is a bare IPv6 address.
        None => match address.split_once(':') {
            Some((host, port)) if !port.contains(':') => (host, Some(port)),
            _ => (address, None),
        },
    };
    let port = port.map(|port| port.parse::<u16>().map_err(|_| wrong())).transpose()?;
    if host.is_empty() || host.contains(char::is_whitespace) || port == Some(0) {
        return Err(wrong());
    }
    Ok((host.to_owned(), port))
}
