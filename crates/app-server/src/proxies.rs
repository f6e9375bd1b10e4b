//! Who a request comes from: the peer of its connection, or the client whom the proxies in front name.
//!
//! What `Forwarded` and `X-Forwarded-For` say is read from the right, where each proxy adds whom it was called by: up to
//! the first address that is no trusted proxy's. What stands left of that came with the request, and anybody can write it.

use actix_web::http::header::{FORWARDED, HeaderMap, HeaderName, X_FORWARDED_FOR};
use governor::{DefaultDirectRateLimiter, Quota, RateLimiter};
use ipnet::IpNet;
use std::net::{IpAddr, Ipv6Addr, SocketAddr};
use std::num::NonZeroU32;

/// The proxies of `server.trusted_proxies`.
pub(crate) struct Proxies {
    trusted: Vec<IpNet>,
    /// Says who was refused once a minute: anybody can make us refuse.
    refusals: DefaultDirectRateLimiter,
}

impl Proxies {
    pub(crate) fn new(trusted: Vec<IpNet>) -> Self {
        Self { trusted, refusals: RateLimiter::direct(Quota::per_minute(NonZeroU32::MIN)) }
    }

    /// Whether an address is that of a trusted proxy.
    pub(crate) fn trusts(&self, address: IpAddr) -> bool {
        // A listener for IPv6 shows IPv4 peers as `::ffff:10.0.0.7`.
        let address = address.to_canonical();
        self.trusted.iter().any(|network| network.contains(&address))
    }

    /// Whether the connection's peer may say who the buyer is. When not, the log says so now and then, and what to set.
    pub(crate) fn may_name_buyers(&self, peer: Option<IpAddr>) -> bool {
        let trusted = peer.is_some_and(|peer| self.trusts(peer));
        if !trusted && self.refusals.check().is_ok() {
            let peer = peer.map(|peer| peer.to_canonical().to_string());
            tracing::warn!(
                peer,
                "X-USER-ID is not believed: its sender is none of server.trusted_proxies (told once a minute at most); \
                 the gateway that checks who the buyer is belongs there"
            );
        }
        trusted
    }

    /// The client behind `peer`. When the proxies name none that can be read, it is the proxy nearest to it.
    pub(crate) fn client(&self, peer: IpAddr, headers: &HeaderMap) -> IpAddr {
        let peer = peer.to_canonical();
        if !self.trusts(peer) {
            return peer;
        }
        match (
            self.named(peer, headers, &FORWARDED, forwarded),
            self.named(peer, headers, &X_FORWARDED_FOR, node),
        ) {
            (Some(client), None) | (None, Some(client)) => client,
            // A proxy that writes one of the headers may let the other one through as the client wrote it.
            (Some(one), Some(other)) if one == other => one,
            (Some(_), Some(_)) | (None, None) => peer,
        }
    }

    /// Whom one of the headers names; `None` when it is not there.
    fn named(
        &self,
        peer: IpAddr,
        headers: &HeaderMap,
        name: &HeaderName,
        read: fn(&str) -> Option<IpAddr>,
    ) -> Option<IpAddr> {
        let values: Vec<&str> =
            headers.get_all(name).map(|value| value.to_str().unwrap_or_default()).collect();
        let mut hop = (!values.is_empty()).then_some(peer)?;
        for text in values.iter().flat_map(|value| value.split(',')).rev() {
            match read(text.trim()) {
                Some(address) => hop = address.to_canonical(),
                None => break,
            }
            if !self.trusts(hop) {
                break;
            }
        }
        Some(hop)
    }
}

/// The address in one element of `Forwarded`: `for=192.0.2.60;proto=https` or `for="[2001:db8::7]:4711"`.
fn forwarded(element: &str) -> Option<IpAddr> {
    let value = element.split(';').find_map(|pair| {
        let (name, value) = pair.split_once('=')?;
        name.trim().eq_ignore_ascii_case("for").then_some(value.trim())
    })?;
    node(value.strip_prefix('"').and_then(|value| value.strip_suffix('"')).unwrap_or(value))
}

/// An address with or without a port; IPv6 in brackets or not.
fn node(text: &str) -> Option<IpAddr> {
    let bare = text.parse().ok();
    let with_port = || text.parse::<SocketAddr>().ok().map(|address| address.ip());
    let in_brackets =
        || text.strip_prefix('[')?.strip_suffix(']')?.parse::<Ipv6Addr>().ok().map(IpAddr::from);
    bare.or_else(with_port).or_else(in_brackets)
}

#[cfg(test)]
mod tests {
    use super::*;
    use actix_web::http::header::HeaderValue;
    use std::io::Write;
    use std::sync::{Arc, Mutex};

    fn proxies() -> Proxies {
        Proxies::new(["10.0.0.0/8", "127.0.0.1/32", "fd00::/8"].map(|text| text.parse().unwrap()).into())
    }

    fn client(peer: &str, pairs: &[(&'static str, &str)]) -> String {
        let mut headers = HeaderMap::new();
        for (name, value) in pairs {
            headers.append(HeaderName::from_static(name), HeaderValue::from_bytes(value.as_bytes()).unwrap());
        }
        proxies().client(peer.parse().unwrap(), &headers).to_string()
    }

    #[test]
    fn the_client_is_the_rightmost_that_is_no_proxy() {
        for (peer, said, expected) in [
            ("203.0.113.9", "198.51.100.1", "203.0.113.9"),
            ("10.0.0.1", "198.51.100.1", "198.51.100.1"),
            ("::ffff:10.0.0.1", "198.51.100.1", "198.51.100.1"),
            ("fd00::1", "198.51.100.1", "198.51.100.1"),
            ("10.0.0.1", "6.6.6.6, 198.51.100.1", "198.51.100.1"),
            ("10.0.0.1", "6.6.6.6,198.51.100.1,10.0.0.2 , 10.0.0.3", "198.51.100.1"),
            ("10.0.0.1", "10.0.0.4, 10.0.0.3", "10.0.0.4"),
            ("10.0.0.1", "198.51.100.1:4711", "198.51.100.1"),
            ("10.0.0.1", "2001:db8::7", "2001:db8::7"),
            ("10.0.0.1", "[2001:db8::7]", "2001:db8::7"),
            ("10.0.0.1", "[2001:db8::7]:4711", "2001:db8::7"),
            ("10.0.0.1", "::ffff:198.51.100.1", "198.51.100.1"),
            // What can't be read is where the chain of those who are believed ends.
            ("10.0.0.1", "", "10.0.0.1"),
            ("10.0.0.1", "unknown", "10.0.0.1"),
            ("10.0.0.1", "198.51.100.1, unknown", "10.0.0.1"),
            ("10.0.0.1", "198.51.100.1, unknown, 10.0.0.2", "10.0.0.2"),
            ("10.0.0.1", "198.51.100.1, 10.0.0.02", "10.0.0.1"),
            ("10.0.0.1", "198.51.100.1, 키", "10.0.0.1"),
        ] {
            assert_eq!(client(peer, &[("x-forwarded-for", said)]), expected, "{peer} {said:?}");
        }
        assert_eq!(client("10.0.0.1", &[]), "10.0.0.1");
        let twice = [("x-forwarded-for", "6.6.6.6"), ("x-forwarded-for", "198.51.100.1, 10.0.0.2")];
        assert_eq!(client("10.0.0.1", &twice), "198.51.100.1");
    }

    #[test]
    fn forwarded_is_read_as_its_standard_says() {
        for (said, expected) in [
            ("for=198.51.100.1", "198.51.100.1"),
            ("For=\"198.51.100.1:4711\"; proto=https;by=10.0.0.1", "198.51.100.1"),
            ("proto=https;for=\"[2001:db8::7]:4711\"", "2001:db8::7"),
            ("for=6.6.6.6, for=198.51.100.1;host=shop.example, for=10.0.0.2", "198.51.100.1"),
            ("for=\"6.6.6.6, for=198.51.100.1", "198.51.100.1"),
            ("for=_hidden", "10.0.0.1"),
            ("for=unknown", "10.0.0.1"),
            ("proto=https", "10.0.0.1"),
            ("for=198.51.100.1, proto=https", "10.0.0.1"),
            ("198.51.100.1", "10.0.0.1"),
        ] {
            assert_eq!(client("10.0.0.1", &[("forwarded", said)]), expected, "{said:?}");
        }
    }

    #[test]
    fn headers_that_contradict_each_other_name_nobody() {
        let both = |one: &str, other: &str| {
            client("10.0.0.1", &[("forwarded", &format!("for={one}")), ("x-forwarded-for", other)])
        };
        assert_eq!(both("198.51.100.1", "198.51.100.1"), "198.51.100.1");
        assert_eq!(both("6.6.6.6", "198.51.100.1"), "10.0.0.1");
        assert_eq!(both("198.51.100.1", "6.6.6.6"), "10.0.0.1");
    }

    #[derive(Clone, Default)]
    struct Log(Arc<Mutex<Vec<u8>>>);

    impl Write for Log {
        fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
            self.0.lock().unwrap().write(bytes)
        }

        fn flush(&mut self) -> std::io::Result<()> {
            Ok(())
        }
    }

    #[test]
    fn who_is_refused_is_told_once_with_what_to_set() {
        let (log, proxies) = (Log::default(), proxies());
        let writer = log.clone();
        let subscriber = tracing_subscriber::fmt().with_writer(move || writer.clone()).finish();
        tracing::subscriber::with_default(subscriber, || {
            assert!(proxies.may_name_buyers(Some(IpAddr::from([10, 0, 0, 1]))));
            for _ in 0..1000 {
                assert!(!proxies.may_name_buyers(Some(IpAddr::from([203, 0, 113, 9]))));
                assert!(!proxies.may_name_buyers(None));
            }
        });
        let text = String::from_utf8(log.0.lock().unwrap().clone()).unwrap();
        assert_eq!(text.lines().count(), 1, "{text}");
        assert!(text.contains("server.trusted_proxies") && text.contains("203.0.113.9"), "{text}");
    }
}
