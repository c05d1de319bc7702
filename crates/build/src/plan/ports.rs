//! `EXPOSE`: `[ip:][host:]port[-port][/protocol]`, of which only the container's ports count.

/// `port/protocol` for each port that the words name.
pub(super) fn parse(words: &[String]) -> Result<Vec<String>, String> {
    let mut ports = Vec::new();
    for word in words {
        ports.extend(parse_one(word)?);
    }
    Ok(ports)
}

fn parse_one(word: &str) -> Result<Vec<String>, String> {
    let mut parts = word.rsplitn(3, ':');
    let container = parts.next().unwrap_or_default();
    let host = parts.next().unwrap_or_default();
    let ip = parts.next().unwrap_or_default();
    let (port, protocol) = container.split_once('/').unwrap_or((container, ""));
    if port.is_empty() {
        return Err(format!("no port specified: {container}<empty>"));
    }
    let protocol = match protocol.to_ascii_lowercase().as_str() {
        "" => "tcp".to_owned(),
        known @ ("tcp" | "udp" | "sctp") => known.to_owned(),
        other => return Err(format!("invalid proto: {other}")),
    };
    let bare = ip.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')).unwrap_or(ip);
    if !bare.is_empty() && bare.parse::<std::net::IpAddr>().is_err() {
        return Err(format!("invalid IP address: {bare}"));
    }
    let (start, end) = range(port).ok_or_else(|| format!("invalid containerPort: {port}"))?;
    if !host.is_empty() {
        let (host_start, host_end) = range(host).ok_or_else(|| format!("invalid hostPort: {host}"))?;
        if end - start != host_end - host_start && end != start {
            return Err(format!("invalid ranges specified for container and host Ports: {port} and {host}"));
        }
    }
    Ok((start..=end).map(|port| format!("{port}/{protocol}")).collect())
}

fn range(text: &str) -> Option<(u16, u16)> {
    let (start, end) = text.split_once('-').unwrap_or((text, text));
    let (start, end) = (start.parse().ok()?, end.parse().ok()?);
    (start <= end).then_some((start, end))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_name_ports() {
        for (word, expected) in [
            ("80", Ok(vec!["80/tcp"])),
            ("80/UDP", Ok(vec!["80/udp"])),
            ("80-82/sctp", Ok(vec!["80/sctp", "81/sctp", "82/sctp"])),
            ("127.0.0.1:8080:80", Ok(vec!["80/tcp"])),
            ("[::1]:8080:80", Ok(vec!["80/tcp"])),
            ("/tcp", Err("no port specified: /tcp<empty>")),
            ("80/xyz", Err("invalid proto: xyz")),
            ("82-80", Err("invalid containerPort: 82-80")),
            ("99999", Err("invalid containerPort: 99999")),
            ("x:80", Err("invalid hostPort: x")),
            ("nowhere:1:80", Err("invalid IP address: nowhere")),
        ] {
            let expected =
                expected.map(|ports| ports.into_iter().map(str::to_owned).collect::<Vec<_>>()).map_err(str::to_owned);
            assert_eq!(parse_one(word), expected, "{word}");
        }
    }
}
