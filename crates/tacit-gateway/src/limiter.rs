//! A share for each client: token buckets in a map that cannot grow without end.

use std::{
    collections::HashMap,
    net::IpAddr,
    sync::{Mutex, PoisonError},
    time::{Duration, Instant},
};

/// Most clients that are remembered.
const CLIENTS: usize = 65_536;

/// Token buckets by client address. An IPv6 client is its /64.
pub(crate) struct Limiter {
    rate: f64,
    burst: f64,
    buckets: Mutex<HashMap<IpAddr, Bucket>>,
}

struct Bucket {
    tokens: f64,
    at: Instant,
}

impl Limiter {
    pub(crate) fn new(per_second: u32, burst: u32) -> Self {
        Self { rate: f64::from(per_second.max(1)), burst: f64::from(burst.max(1)), buckets: Mutex::default() }
    }

    /// Takes one token of `client`, or says how long to wait for the next.
    pub(crate) fn admit(&self, client: IpAddr, now: Instant) -> Result<(), Duration> {
        let mut buckets = self.buckets.lock().unwrap_or_else(PoisonError::into_inner);
        let client = subnet(client);
        if buckets.len() >= CLIENTS && !buckets.contains_key(&client) {
            let full = Duration::from_secs_f64(self.burst / self.rate);
            buckets.retain(|_, bucket| now.saturating_duration_since(bucket.at) < full);
            if buckets.len() >= CLIENTS {
                return Err(Duration::from_secs(1));
            }
        }
        let bucket = buckets.entry(client).or_insert(Bucket { tokens: self.burst, at: now });
        let passed = now.saturating_duration_since(bucket.at).as_secs_f64();
        bucket.tokens = (bucket.tokens + passed * self.rate).min(self.burst);
        bucket.at = now;
        if bucket.tokens >= 1.0 {
            bucket.tokens -= 1.0;
            Ok(())
        } else {
            Err(Duration::from_secs_f64((1.0 - bucket.tokens) / self.rate))
        }
    }
}

fn subnet(client: IpAddr) -> IpAddr {
    match client.to_canonical() {
        IpAddr::V4(address) => IpAddr::V4(address),
        IpAddr::V6(address) => {
            let [a, b, c, d, ..] = address.segments();
            IpAddr::V6(std::net::Ipv6Addr::new(a, b, c, d, 0, 0, 0, 0))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_client_has_its_burst_then_its_rate() {
        let (limiter, start) = (Limiter::new(10, 3), Instant::now());
        let client: IpAddr = "192.0.2.1".parse().unwrap();
        for _ in 0..3 {
            assert_eq!(limiter.admit(client, start), Ok(()));
        }
        let wait = limiter.admit(client, start).unwrap_err();
        assert!(wait <= Duration::from_millis(100), "{wait:?}");
        assert_eq!(limiter.admit("192.0.2.2".parse().unwrap(), start), Ok(()));
        assert_eq!(limiter.admit(client, start + Duration::from_millis(101)), Ok(()));
        assert!(limiter.admit(client, start + Duration::from_millis(102)).is_err());
    }

    #[test]
    fn one_ipv6_network_is_one_client() {
        let (limiter, start) = (Limiter::new(1, 1), Instant::now());
        assert_eq!(limiter.admit("2001:db8::1".parse().unwrap(), start), Ok(()));
        assert!(limiter.admit("2001:db8::2".parse().unwrap(), start).is_err());
        assert_eq!(limiter.admit("2001:db8:1::1".parse().unwrap(), start), Ok(()));
    }

    #[test]
    fn a_flood_of_clients_does_not_grow_the_map() {
        let (limiter, start) = (Limiter::new(1, 1), Instant::now());
        for number in 0..CLIENTS as u32 + 10 {
            let _ = limiter.admit(IpAddr::V4(number.into()), start);
        }
        assert_eq!(limiter.buckets.lock().unwrap().len(), CLIENTS);
        assert!(limiter.admit("203.0.113.9".parse().unwrap(), start).is_err());
        assert_eq!(limiter.admit("203.0.113.9".parse().unwrap(), start + Duration::from_secs(2)), Ok(()));
    }
}
